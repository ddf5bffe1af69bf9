// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asynchronous requests: answered, missed, and each completed once, whatever happens.

use crate::asker::{
    Asker, Context, DEFAULT, accounts, answer, at_dispatch_level, completed, decider, next,
    question, with_decider,
};
use crate::bare::{BareClient, describe};
use crate::generator::PROVIDER;
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Service};
use fltport_abi::account::Outcome;
use fltport_abi::command::ENDED;
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::{Hello, rights};
use fltport_abi::interface::{
    AsyncRequest, CommandCaller, ProviderDescription, REQUEST_DECLARED_DEFAULT,
};
use fltport_abi::limits::MAX_PENDING;
use fltport_nt::bindings::{
    KfRaiseIrql, STATUS_BUFFER_OVERFLOW, STATUS_FLT_NO_WAITER_FOR_REPLY,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use fltport_nt::linked::{DISPATCH_LEVEL, KeLowerIrql, STATUS_INVALID_LEVEL};
use std::ffi::c_void;
use std::sync::Mutex;
use std::time::Instant;

#[test]
fn as_many_as_there_may_be_are_answered_out_of_order() {
    let (machine, asker, mut service) = with_decider();
    let all = MAX_PENDING as u64;
    at_dispatch_level(|| (0..all).for_each(|n| asker.ask(n, 60_000)));
    let one_more = at_dispatch_level(|| asker.ask_as(all, question(60_000)));
    assert_eq!(one_more, STATUS_INSUFFICIENT_RESOURCES);
    let mut questions: Vec<_> = (0..all).map(|_| next(&mut service)).collect();
    assert!(questions.iter().map(|q| q.number).eq(0..all), "in order");
    let number = service.info().connection;
    let row = accounts(&service)
        .into_iter()
        .find(|r| r.connection == number);
    let row = row.unwrap();
    assert_eq!((row.in_flight, row.in_flight_peak), (all, all));
    // Every third from the end, and so on: no order that the driver could rely on.
    questions.sort_by_key(|q| (q.number % 3, u64::MAX - q.number));
    for question in &questions {
        assert_eq!(answer(&service, question), Ok(()));
        let completed = asker.next();
        assert_eq!(completed.number, question.number);
        assert_eq!(completed.reply, question.number * 3);
        assert_eq!(completed.outcome, Outcome::Answered as u32);
    }
    assert!(asker.take(0).is_empty());
    let requests = &service.request_rows()[0];
    assert_eq!(requests.asked, all);
    assert_eq!(requests.outcomes[Outcome::Answered.index()], all);
    // Wherever places are free, so many are, and no more.
    at_dispatch_level(|| (0..all).for_each(|n| asker.ask(n, 60_000)));
    let questions: Vec<_> = (0..all).map(|_| next(&mut service)).collect();
    let some = questions.iter().rev().step_by(97);
    let freed = some
        .map(|q| assert_eq!(answer(&service, q), Ok(())))
        .count();
    asker.take(freed);
    at_dispatch_level(|| (0..freed as u64).for_each(|n| asker.ask(all + n, 60_000)));
    let one_more = at_dispatch_level(|| asker.ask_as(all, question(60_000)));
    assert_eq!(one_more, STATUS_INSUFFICIENT_RESOURCES);
    let rest = questions.iter().filter(|q| answer(&service, q).is_ok());
    let rest = rest.count() + freed;
    assert_eq!(rest, MAX_PENDING);
    for _ in 0..freed {
        let question = next(&mut service);
        assert_eq!(answer(&service, &question), Ok(()));
    }
    assert_eq!(asker.take(MAX_PENDING).len(), MAX_PENDING);
    // The ledger knows nothing of them.
    assert!(
        service
            .ledger()
            .iter()
            .all(|row| row.message != 2 || row.offered == 0)
    );
    drop((service, asker));
    machine.check();
}

#[test]
fn every_deadline_is_kept_once() {
    let (machine, asker, mut service) = with_decider();
    // All must have been asked before three are missed: that opens the circuit.
    let deadline = |n: u64| 1_000 + (n * 37 % 200) as u32;
    at_dispatch_level(|| (0..200).for_each(|n| asker.ask(n, deadline(n))));
    for (n, completed) in asker.take(200) {
        assert_eq!(completed.outcome, Outcome::Missed as u32);
        assert_eq!(completed.reply, DEFAULT);
        assert!(
            completed.waited_us >= deadline(n) * 1000,
            "{n}: {completed:?}"
        );
    }
    for _ in 0..200 {
        let question = next(&mut service);
        assert_eq!(question.deadline_ms, deadline(question.number));
        assert_eq!(
            answer(&service, &question),
            Err(STATUS_FLT_NO_WAITER_FOR_REPLY)
        );
    }
    assert!(asker.take(0).is_empty());
    drop((service, asker));
    machine.check();
}

#[test]
fn a_later_request_with_an_earlier_deadline_does_not_wait_for_the_others() {
    let (machine, asker, service) = with_decider();
    at_dispatch_level(|| asker.ask(1, 60_000));
    let begun = Instant::now();
    at_dispatch_level(|| asker.ask(2, 50));
    assert_eq!(asker.next().number, 2);
    assert!(begun.elapsed() < PATIENCE);
    drop(service);
    assert_eq!(asker.next().outcome, Outcome::Disconnected as u32);
    drop(asker);
    machine.check();
}

#[test]
fn the_death_of_the_decider_completes_everything_at_once() {
    let (machine, asker, mut service) = with_decider();
    let observer = Service::connect(&machine);
    at_dispatch_level(|| (0..1000).for_each(|n| asker.ask(n, 60_000)));
    for _ in 0..10 {
        let question = next(&mut service);
        assert_eq!(answer(&service, &question), Ok(()));
    }
    let begun = Instant::now();
    service.close();
    let all = asker.take(1000);
    assert!(begun.elapsed() < PATIENCE, "nobody waited for the deadline");
    let count = |outcome| all.values().filter(|c| c.outcome == outcome as u32).count();
    assert_eq!(count(Outcome::Answered), 10);
    assert_eq!(count(Outcome::Disconnected), 990);
    let gone = accounts(&observer)
        .into_iter()
        .find(|row| row.connection == ENDED);
    let gone = gone.unwrap();
    assert_eq!(
        (gone.asked, gone.in_flight, gone.in_flight_peak),
        (1000, 0, 1000)
    );
    drop((service, observer, asker));
    machine.check();
}

#[test]
fn what_is_certain_at_once_comes_in_the_callback_too() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    at_dispatch_level(|| asker.ask(1, 60_000));
    assert_eq!(asker.next().outcome, Outcome::NoDecider as u32);
    let service = decider(&machine);
    at_dispatch_level(|| (3..6).for_each(|n| asker.ask(n, 20)));
    assert!(
        asker
            .take(3)
            .values()
            .all(|c| c.outcome == Outcome::Missed as u32)
    );
    at_dispatch_level(|| asker.ask(6, 60_000));
    let completed = asker.next();
    assert_eq!(
        (completed.outcome, completed.reply),
        (Outcome::CircuitOpen as u32, DEFAULT)
    );
    drop(service);
    drop(asker);
    machine.check();
}

/// What the command handler of the next test asks through.
static INSIDE: Mutex<Option<Asker>> = Mutex::new(None);

/// Asks in the process of the service that sends the command.
unsafe extern "system" fn ask_inside(
    _context: *mut c_void,
    _caller: *const CommandCaller,
    _message: u16,
    _input: *const u8,
    _length: u32,
    _output: *mut u8,
    _capacity: u32,
    _returned: *mut u32,
) -> i32 {
    let asker = INSIDE.lock().unwrap();
    asker.as_ref().unwrap().ask_as(1, question(60_000))
}

#[test]
fn the_decider_is_not_asked_about_itself() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let mut schema = [0; 4096];
    let length = PROVIDER.encode(&mut schema).unwrap();
    let client = BareClient::describe(&ProviderDescription {
        on_command: Some(ask_inside),
        ..describe(&schema[..length], 0)
    });
    *INSIDE.lock().unwrap() = Some(Asker::of(client.unwrap()));
    let service = decider(&machine);
    let provider = service.provider("generator").unwrap();
    let echo = [8, 0, 0, 0, 1, 0, 0, 0, b'a'];
    service.command(provider, 3, &echo).expect("asked");
    let asker = INSIDE.lock().unwrap().take().unwrap();
    assert_eq!(asker.next().outcome, Outcome::FromDecider as u32);
    drop((service, asker));
    machine.check();
}

#[test]
fn a_service_that_does_not_know_them_is_not_asked() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let hello = Hello {
        max_version: 1,
        ..Hello::new("old", rights::ALL, 0)
    };
    let mut old = Service::connect_with(&machine, &hello.to_bytes()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    at_dispatch_level(|| asker.ask(1, 60_000));
    assert_eq!(asker.next().outcome, Outcome::Failed as u32);
    assert!(
        old.drain()
            .iter()
            .all(|r| r.kind != RecordKind::AsyncRequest)
    );
    drop((old, asker));
    machine.check();
}

#[test]
fn unregistering_completes_everything_before_it_returns() {
    let (machine, asker, mut service) = with_decider();
    at_dispatch_level(|| (0..300).for_each(|n| asker.ask(n, 60_000)));
    let question = next(&mut service);
    let Asker {
        client,
        completed,
        sender,
    } = asker;
    drop(client);
    drop(sender);
    let all: Vec<_> = completed.lock().unwrap().try_iter().collect();
    assert_eq!(all.len(), 300, "by now");
    assert!(
        all.iter()
            .all(|c| c.outcome == Outcome::Failed as u32 && c.reply == DEFAULT)
    );
    assert_eq!(
        answer(&service, &question),
        Err(STATUS_FLT_NO_WAITER_FOR_REPLY)
    );
    // The books of the connection know how it ended.
    let number = service.info().connection;
    let rows = accounts(&service);
    let row = rows.iter().find(|row| row.connection == number).unwrap();
    assert_eq!(row.outcomes[Outcome::Failed.index()], 300);
    drop(service);
    machine.check();
}

#[test]
fn a_decider_that_reads_nothing_gets_what_fits_and_the_rest_fails() {
    let (machine, asker, service) = with_decider();
    let big = vec![7_u8; 40_000];
    let ask = |n: u64| {
        let context: *mut Context = Box::into_raw(Box::new((n, asker.sender.clone())));
        let request = AsyncRequest {
            payload: big.as_ptr(),
            length: big.len() as u32,
            on_completion: Some(completed),
            context: context.cast(),
            ..question(60_000)
        };
        let ask = asker.client.table.request_async.unwrap();
        // SAFETY: a registered handle and a valid request; the routine takes the context over.
        let status = at_dispatch_level(|| unsafe { ask(asker.client.handle, &raw const request) });
        assert_eq!(status, STATUS_SUCCESS);
    };
    (0..100).for_each(ask);
    let failed: Vec<_> = (0..50).map(|_| asker.next()).collect();
    assert!(
        failed.iter().all(|c| c.outcome == Outcome::Failed as u32),
        "{failed:?}"
    );
    service.close();
    drop(service);
    drop(asker);
    machine.check();
}

#[test]
fn what_cannot_be_asked_is_refused_and_never_completed() {
    let (machine, asker, service) = with_decider();
    let big = vec![0_u8; 50_000];
    let refused = [
        (question(0), STATUS_INVALID_PARAMETER),
        (question(60_001), STATUS_INVALID_PARAMETER),
        (
            AsyncRequest {
                message: 1,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                message: 64,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                fixed: 9,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                flags: 2,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                flags: REQUEST_DECLARED_DEFAULT,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                reply: std::ptr::null(),
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                reply: big.as_ptr(),
                reply_length: 4097,
                ..question(10)
            },
            STATUS_BUFFER_OVERFLOW,
        ),
        (
            AsyncRequest {
                size: 8,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
    ];
    for (n, (request, status)) in refused.into_iter().enumerate() {
        assert_eq!(asker.ask_as(0, request), status, "case {n}");
    }
    // SAFETY: raises; lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL + 1) };
    let status = asker.ask_as(0, question(10));
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    assert_eq!(status, STATUS_INVALID_LEVEL);
    assert!(asker.take(0).is_empty());
    assert_eq!(service.request_rows()[0].asked, 0);
    drop((service, asker));
    machine.check();
}
