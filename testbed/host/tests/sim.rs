// SPDX-License-Identifier: MIT OR Apache-2.0
//! The deterministic mode itself.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nt_host::clock::{self, Deadline, SECOND};
use nt_host::sched::{self, Blocked, Waiter};
use nt_host::{Config, Kernel, UserEvent, sim};

fn sleep(ticks: u64) {
    let nobody = Waiter::new();
    assert_eq!(
        sched::block(&nobody, Some(Deadline::after(ticks))),
        Blocked::TimedOut
    );
}

/// Three threads that write down when they come to three places.
fn race() -> String {
    let order = Arc::new(Mutex::new(String::new()));
    let threads = ["a", "b", "c"].map(|name| {
        let order = order.clone();
        sched::spawn(name.to_owned(), move || {
            for _ in 0..3 {
                sched::point("a place");
                order.lock().unwrap().push_str(name);
            }
        })
        .unwrap()
    });
    threads.iter().for_each(sched::Thread::join);
    let order = order.lock().unwrap();
    order.clone()
}

#[test]
fn seeds_give_different_orders_and_the_same_seed_the_same_one() {
    let run = |seeds| {
        let orders = Arc::new(Mutex::new(Vec::new()));
        let inner = orders.clone();
        let summary = sim::explore(seeds, move |_| inner.lock().unwrap().push(race())).unwrap();
        let orders = orders.lock().unwrap().clone();
        (summary, orders)
    };
    let (summary, orders) = run(0..200);
    assert_eq!((summary.seeds, orders.len()), (200, 200));
    let different: BTreeSet<&String> = orders.iter().collect();
    assert!(different.len() > 20, "{different:?}");
    assert_eq!(run(0..200), (summary, orders.clone()));
    let (single, order) = run(117..118);
    assert_eq!(order[0], orders[117]);
    assert_ne!(single.trace, summary.trace);
}

#[test]
fn time_jumps_when_everybody_waits() {
    let summary = sim::explore(0..50, |_| {
        let before = (clock::unbiased_interrupt_time(), clock::system_time());
        sleep(3600 * SECOND);
        let after = (clock::unbiased_interrupt_time(), clock::system_time());
        assert!(after.0 - before.0 >= 3600 * SECOND);
        assert_eq!(
            u64::try_from(after.1 - before.1).unwrap(),
            after.0 - before.0
        );
    });
    assert!(summary.unwrap().time >= 50 * 3600 * SECOND);
}

#[test]
fn every_seed_begins_with_the_year_2026() {
    // 1601-01-01 to 1970-01-01 and on to 2026-01-01, in seconds.
    let begin = (11_644_473_600 + 1_767_225_600) * i64::try_from(SECOND).unwrap();
    sim::explore(0..3, move |_| {
        let passed = clock::system_time() - begin;
        assert!((0..10_000_000).contains(&passed), "{passed}");
    })
    .unwrap();
}

#[test]
fn deadlines_pass_in_their_order() {
    sim::explore(0..50, |_| {
        let last = Arc::new(AtomicU64::new(0));
        let threads = [50_u64, 10, 30].map(|milliseconds| {
            let last = last.clone();
            sched::spawn("sleeper".to_owned(), move || {
                let begin = clock::unbiased_interrupt_time();
                sleep(milliseconds * 10_000);
                assert!(clock::unbiased_interrupt_time() >= begin + milliseconds * 10_000);
                last.fetch_max(milliseconds, Ordering::SeqCst);
            })
            .unwrap()
        });
        threads.iter().for_each(sched::Thread::join);
        assert_eq!(last.load(Ordering::SeqCst), 50);
    })
    .unwrap();
}

#[test]
fn a_wait_that_nobody_ends_is_a_deadlock_with_names() {
    let failure = sim::explore(7..8, |_| {
        let thread = sched::spawn("the one that waits".to_owned(), || {
            sched::point("its last call");
            sched::block(&Waiter::new(), None);
        });
        thread.unwrap().join();
    })
    .unwrap_err();
    assert_eq!(failure.seed, 7);
    let text = failure.to_string();
    assert!(text.contains("nothing can run any more"), "{text}");
    assert!(text.contains("the one that waits"), "{text}");
    assert!(text.contains("its last call"), "{text}");
}

#[test]
fn a_race_is_found_and_its_seed_finds_it_again() {
    let scenario = |_| {
        let balance = Arc::new(AtomicU64::new(0));
        let threads = [(); 2].map(|()| {
            let balance = balance.clone();
            sched::spawn("adds one".to_owned(), move || {
                let seen = balance.load(Ordering::SeqCst);
                sched::point("between load and store");
                balance.store(seen + 1, Ordering::SeqCst);
            })
            .unwrap()
        });
        threads.iter().for_each(sched::Thread::join);
        assert_eq!(balance.load(Ordering::SeqCst), 2, "an addition is lost");
    };
    let first = sim::explore(0..1000, scenario).unwrap_err();
    assert!(first.message.contains("an addition is lost"), "{first}");
    let again = sim::explore(first.seed..first.seed + 1, scenario).unwrap_err();
    assert_eq!(
        (first.message, first.last_calls),
        (again.message, again.last_calls)
    );
}

#[test]
fn kernels_boot_and_shut_down_in_each_seed() {
    let summary = sim::explore(0..100, |_| {
        let kernel = Kernel::boot(Config::default());
        kernel.shutdown_clean();
    });
    assert_eq!(summary.unwrap().seeds, 100);
    // The turn has been given back.
    Kernel::boot(Config::default()).shutdown_clean();
}

#[test]
fn a_service_that_waits_for_its_event_is_woken_in_every_order() {
    let summary = sim::explore(0..100, |_| {
        let kernel = Kernel::boot(Config::default());
        let service = kernel.peer(100, 1000);
        let event = Arc::new(UserEvent::new(&service));
        let take = || fltport_nt::ke::UserEvent::from_handle(event.handle());
        let signal = service.attach(take).unwrap();
        let waits = event.clone();
        let waiting = sched::spawn("service".to_owned(), move || {
            // Time may pass although the driver could go on.
            while !waits.wait(Duration::from_secs(1)) {}
        });
        signal.set();
        waiting.unwrap().join();
        assert!(!event.wait(Duration::ZERO), "its wait has taken the signal");
        drop((signal, event));
        kernel.shutdown_clean();
    });
    assert_eq!(summary.unwrap().seeds, 100);
}
