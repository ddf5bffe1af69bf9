// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stub on the hosted kernel, against a common driver made by hand.

mod client;
mod common_driver;

use client::{IMAGE, Number, REFUSED, Reply};
use common_driver::{
    Call, CommonDriver, PATIENCE, calls, declared, snapshot, snapshots, times, wait_for,
    wait_for_total,
};
use fltport_abi::account::{Cause, Outcome};
use fltport_abi::message::Message;
use fltport_client::Answer;
use fltport_nt::bindings::{
    KfRaiseIrql, STATUS_DELETE_PENDING, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED, STATUS_RETRY, STATUS_SUCCESS,
};
use fltport_nt::linked::{DISPATCH_LEVEL, KeLowerIrql, STATUS_INVALID_LEVEL};
use nt_host::faults::FaultPlan;
use nt_host::{Config, Kernel, Unload};
use std::time::Instant;

fn boot() -> Kernel {
    Kernel::boot(Config::default())
}

fn stop(kernel: &Kernel) {
    kernel.unload("client", Unload::Stop).expect("unloads");
}

fn numbers(calls: &[Call]) -> Vec<u64> {
    let number = |call: &Call| match call {
        Call::Number(number) => Some(*number),
        _ => None,
    };
    calls.iter().filter_map(number).collect()
}

fn count(calls: &[Call], wanted: &Call) -> usize {
    calls.iter().filter(|call| *call == wanted).count()
}

#[test]
fn what_was_staged_comes_first_and_in_order() {
    let kernel = boot();
    kernel.load(&IMAGE).unwrap();
    client::offer(0..8);
    let driver = CommonDriver::announced();
    wait_for(&Call::Number(7));
    client::offer(8..20);
    assert_eq!(
        numbers(&wait_for(&Call::Number(19))),
        (0..20).collect::<Vec<_>>()
    );
    // Those that were staged say when that was; the common driver takes the time of others.
    let times = times();
    assert!(times[..8].is_sorted() && times[0] != 0, "{times:?}");
    assert_eq!(times[8..], [0; 12]);
    stop(&kernel);
    assert_eq!(calls().last(), Some(&Call::Unregister));
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn the_oldest_are_staged_and_the_rest_is_told_with_its_cause() {
    let kernel = boot();
    kernel.load(&IMAGE).unwrap();
    client::offer(0..25);
    let driver = CommonDriver::announced();
    let lost = Call::Lost(1, Cause::RingFull as u16, 15);
    let calls = wait_for(&lost);
    assert_eq!(numbers(&calls), (0..10).collect::<Vec<_>>());
    assert_eq!(calls.last(), Some(&lost), "behind what was kept");
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn a_loss_for_want_of_memory_keeps_its_cause_while_it_is_staged() {
    let kernel = boot();
    kernel.load(&IMAGE).unwrap();
    client::offer(0..1);
    kernel.set_faults(FaultPlan::nth(0).of("ExAllocatePool2"));
    client::offer_long();
    client::offer(2..3);
    let driver = CommonDriver::announced();
    let calls = wait_for(&Call::Lost(5, Cause::NoMemory as u16, 1));
    assert_eq!(numbers(&calls), [0]);
    wait_for(&Call::Lost(1, Cause::RingFull as u16, 1));
    kernel.set_faults(FaultPlan::nth(0).of("ExAllocatePool2"));
    client::offer_long();
    assert_eq!(
        count(
            &common_driver::calls(),
            &Call::Lost(5, Cause::NoMemory as u16, 1)
        ),
        2,
        "told at once when there is somebody to tell"
    );
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn a_short_notification_takes_no_memory() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    kernel.set_faults(FaultPlan::nth(0).of("ExAllocatePool2"));
    client::offer(0..1);
    assert_eq!(kernel.injected_faults().len(), 0);
    assert_eq!(numbers(&calls()), [0]);
    kernel.set_faults(FaultPlan::none());
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn without_a_common_driver_the_default_answers_and_everything_is_wanted() {
    let kernel = boot();
    kernel.load(&IMAGE).unwrap();
    let nobody = Answer {
        reply: Reply { yes: true },
        outcome: Outcome::NoDecider,
    };
    assert_eq!(client::ask(60_000), Ok(nobody));
    assert!(client::provider().is_listening(1) && client::provider().is_listening(63));
    stop(&kernel);
    kernel.shutdown_clean();
}

#[test]
fn a_declared_default_is_told_and_used_unless_another_is_given() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    assert_eq!(declared(), [(2, vec![1, 0, 0, 0])]);
    driver.answers(&[], Outcome::Missed as u32);
    assert_eq!(client::ask(1).map(|a| a.reply), Ok(Reply { yes: true }));
    for yes in [false, true] {
        assert_eq!(client::ask_or(yes).map(|a| a.reply), Ok(Reply { yes }));
    }
    let undeclared = client::ask_undeclared().unwrap_err();
    assert_eq!(undeclared.status(), STATUS_INVALID_PARAMETER);
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn default_replies_that_it_cannot_have_are_refused() {
    let kernel = boot();
    for image in &REFUSED {
        let refused = kernel.load(image);
        assert_eq!(refused, Err(STATUS_INVALID_PARAMETER), "{}", image.name);
    }
    kernel.shutdown_clean();
}

#[test]
fn answers_are_passed_on_and_what_is_none_is_not() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    let answer = |yes, outcome| {
        Ok(Answer {
            reply: Reply { yes },
            outcome,
        })
    };
    driver.answers(&[0, 0, 0, 0], Outcome::Answered as u32);
    assert_eq!(client::ask(1), answer(false, Outcome::Answered));
    driver.answers(&[], Outcome::Missed as u32);
    assert_eq!(client::ask(60_000), answer(true, Outcome::Missed));
    driver.answers(&[9, 9, 9, 9], Outcome::Answered as u32);
    assert_eq!(
        client::ask(1),
        answer(true, Outcome::BadReply),
        "not a bool"
    );
    driver.answers(&[], 99);
    assert_eq!(
        client::ask(1).unwrap_err().status(),
        STATUS_INVALID_PARAMETER
    );
    assert!(client::provider().is_listening(1) && !client::provider().is_listening(2));
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn a_question_without_a_deadline_or_at_a_high_irql_is_refused() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    for deadline in [0, 60_001, u32::MAX] {
        let refused = client::ask(deadline).unwrap_err();
        assert_eq!(refused.status(), STATUS_INVALID_PARAMETER, "{deadline} ms");
    }
    // SAFETY: lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let refused = client::ask(1).unwrap_err();
    client::offer(1..2);
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    assert_eq!(refused.status(), STATUS_INVALID_LEVEL);
    assert_eq!(calls(), [Call::Register, Call::Number(1)]);
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn what_a_leaving_common_driver_does_not_take_goes_to_the_next() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    driver.takes(2);
    client::offer(0..4);
    assert_eq!(numbers(&calls()), [0, 1]);
    driver.revoke();
    client::offer(4..6);
    assert_eq!(calls().last(), Some(&Call::Unregister));
    driver.takes(u32::MAX);
    driver.announce();
    assert_eq!(
        numbers(&wait_for(&Call::Number(5))),
        (0..6).collect::<Vec<_>>()
    );
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn nobody_who_offers_waits_for_a_revocation() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    driver.holds(true);
    std::thread::scope(|scope| {
        scope.spawn(|| client::ask(60_000));
        wait_for(&Call::Request(60_000));
        scope.spawn(|| driver.revoke());
        // Without a common driver to be reached everything is wanted: it waits for the request.
        let deadline = Instant::now() + PATIENCE;
        while !client::provider().is_listening(2) {
            assert!(Instant::now() < deadline, "the revocation does not come");
            std::thread::yield_now();
        }
        let offering = scope.spawn(|| client::offer(0..2));
        let deadline = Instant::now() + PATIENCE;
        while !offering.is_finished() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let waited = !offering.is_finished();
        driver.holds(false);
        assert!(!waited, "an offer waits for the end of the revocation");
    });
    driver.announce();
    assert_eq!(numbers(&wait_for(&Call::Number(1))), [0, 1]);
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn a_common_driver_that_goes_while_it_takes_over_leaves_the_rest_staged() {
    let kernel = boot();
    kernel.load(&IMAGE).unwrap();
    client::offer(0..6);
    let driver = CommonDriver::silent();
    driver.takes(2);
    driver.announce();
    wait_for(&Call::Number(1));
    driver.revoke();
    client::offer(6..20);
    driver.takes(u32::MAX);
    driver.announce();
    // The room of the first two is not used again before the buffer has been emptied.
    let calls = wait_for(&Call::Lost(1, Cause::RingFull as u16, 10));
    assert_eq!(numbers(&calls), (0..10).collect::<Vec<_>>());
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn a_common_driver_that_has_begun_to_go_is_none() {
    let kernel = boot();
    let driver = CommonDriver::silent();
    driver.begins_to_go();
    assert_eq!(kernel.load(&IMAGE), Ok(()), "registered with the next one");
    client::offer(0..1);
    drop(driver);
    let driver = CommonDriver::announced();
    assert_eq!(numbers(&wait_for(&Call::Number(0))), [0]);
    driver.begins_to_go();
    let nobody = Answer {
        reply: Reply { yes: true },
        outcome: Outcome::NoDecider,
    };
    assert_eq!(client::ask(60_000), Ok(nobody));
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn an_announcement_while_it_asks_does_not_make_a_client_meet_itself() {
    let kernel = boot();
    let driver = CommonDriver::silent();
    driver.announces_when_asked();
    assert_eq!(kernel.load(&IMAGE), Ok(()));
    wait_for(&Call::Register);
    stop(&kernel);
    assert_eq!(count(&calls(), &Call::Register), 1);
    assert_eq!(count(&calls(), &Call::Unregister), 1);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn nobody_calls_a_table_that_was_revoked_while_he_asked_for_it() {
    let kernel = boot();
    let driver = CommonDriver::silent();
    driver.goes_when_asked();
    assert_eq!(kernel.load(&IMAGE), Ok(()));
    client::offer(0..1);
    stop(&kernel);
    let calls = calls();
    assert!(
        !calls
            .iter()
            .any(|call| matches!(call, Call::AfterTheEnd(_))),
        "{calls:?}"
    );
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn commands_reach_the_handler_and_its_status_comes_back() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    assert_eq!(driver.command(3, b"abc"), (STATUS_SUCCESS, b"abc".to_vec()));
    assert_eq!(driver.command(3, b""), (STATUS_SUCCESS, Vec::new()));
    assert_eq!(
        driver.command(4, b"abc"),
        (STATUS_INVALID_DEVICE_REQUEST, Vec::new())
    );
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

/// Too early is another thing than too late: the service tries again.
#[test]
fn a_snapshot_while_it_binds_is_for_later_and_while_it_goes_is_not() {
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    assert_eq!(snapshot(), Some(STATUS_NOT_SUPPORTED), "it has none");
    stop(&kernel);
    assert_eq!(snapshots(), [STATUS_RETRY, STATUS_DELETE_PENDING]);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn nothing_is_lost_or_told_twice_while_the_common_driver_comes_and_goes() {
    const THREADS: u64 = 3;
    const EACH: u64 = 3_000;
    let kernel = boot();
    let driver = CommonDriver::announced();
    kernel.load(&IMAGE).unwrap();
    std::thread::scope(|scope| {
        let offering: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || client::offer(thread * EACH..(thread + 1) * EACH)))
            .collect();
        while offering.iter().any(|thread| !thread.is_finished()) {
            driver.revoke();
            driver.announce();
        }
    });
    let calls = wait_for_total(THREADS * EACH);
    let mut numbers = numbers(&calls);
    for thread in 0..THREADS {
        let mine = numbers.iter().filter(|n| *n / EACH == thread);
        assert!(mine.is_sorted(), "each thread's numbers keep their order");
    }
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "twice");
    let late = calls
        .iter()
        .any(|call| matches!(call, Call::AfterTheEnd(_)));
    assert!(!late, "called after it had gone");
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

/// What a common driver of the first revision does not have, the stub does without, or refuses.
#[test]
fn an_older_common_driver_is_enough() {
    let kernel = boot();
    let driver = CommonDriver::of_the_first_revision();
    kernel.load(&IMAGE).unwrap();
    let provider = client::provider();
    assert!(provider.is_listening(1) && !provider.is_listening(2));
    let refused = provider.book::<Number>(8).err().map(|e| e.status());
    assert_eq!(refused, Some(STATUS_NOT_SUPPORTED));
    let refused = provider.statistics(0).err().map(|e| e.status());
    assert_eq!(refused, Some(STATUS_NOT_SUPPORTED));
    let mut place = provider.reserve::<Number>(16).unwrap();
    let length = Number { number: 5 }.encode(&mut place).unwrap();
    place.commit(length).unwrap();
    drop(provider.reserve::<Number>(16).unwrap());
    client::offer(6..7);
    assert_eq!(numbers(&calls()), [5, 6]);
    drop(provider);
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn what_nobody_would_hear_is_counted_and_not_offered() {
    let kernel = boot();
    let driver = CommonDriver::silent();
    driver.is_quiet(1 << Number::NUMBER);
    driver.announce();
    kernel.load(&IMAGE).unwrap();
    client::offer(0..3);
    // SAFETY: lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    client::offer(3..5);
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    assert_eq!(numbers(&calls()), []);
    assert_eq!(driver.unheard(Number::NUMBER), 5);
    // Without a common driver everything is wanted, and whoever comes next may not know of any of this.
    driver.revoke();
    client::offer(8..9);
    driver.is_quiet(0);
    driver.announce();
    wait_for(&Call::Number(8));
    client::offer(9..10);
    assert_eq!(numbers(&calls()), [8, 9]);
    assert_eq!(driver.unheard(Number::NUMBER), 5, "for who takes it out");
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}

#[test]
fn what_is_booked_has_room_in_the_staging_buffer() {
    let kernel = boot();
    kernel.load(&IMAGE).unwrap();
    // Room for ten: two of them booked.
    let provider = client::provider();
    let (kept, unused) = (provider.book::<Number>(8), provider.book::<Number>(8));
    client::offer(0..20);
    drop(unused.expect("there is room"));
    assert!(provider.book::<Number>(200).is_err(), "there is no room");
    let other = Reply { yes: true };
    kept.expect("there was room")
        .notify(&Number { number: 20 })
        .unwrap();
    assert!(
        provider.book::<Number>(8).unwrap().notify(&other).is_err(),
        "of another kind"
    );
    drop(provider);
    let driver = CommonDriver::announced();
    let calls = wait_for(&Call::Lost(1, Cause::RingFull as u16, 12));
    assert_eq!(numbers(&calls), [0, 1, 2, 3, 4, 5, 6, 7, 20]);
    stop(&kernel);
    drop(driver);
    kernel.shutdown_clean();
}
