// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accounts of requests by who was asked, and the default replies that providers declare.

use crate::bare::{BareClient, describe, interface};
use crate::generator::{self, PROVIDER};
use crate::machine::{FLTPORT, Machine};
use crate::service::Service;
use fltport_abi::account::Outcome;
use fltport_abi::command::{BACKLOG, ENDED, RequestAccountRow, own};
use fltport_abi::interface::{
    DefaultReply, ProviderDescription, REQUEST_DECLARED_DEFAULT, Request, Revised,
};
use fltport_abi::latency::{Latency, bucket};
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_SUCCESS};
use std::thread;

fn with_generator() -> (Machine, Service, u32) {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    (machine, service, provider)
}

/// The row of a connection, which must balance as all of them must.
fn account(service: &Service, connection: u32) -> Option<RequestAccountRow> {
    let rows: Vec<RequestAccountRow> = service.try_rows(own::REQUEST_ACCOUNTS).unwrap();
    assert!(rows.iter().all(RequestAccountRow::balances), "{rows:?}");
    rows.into_iter().find(|row| row.connection == connection)
}

fn outcomes(row: &RequestAccountRow, outcome: Outcome) -> u64 {
    row.outcomes[outcome.index()]
}

#[test]
fn each_decider_has_its_own_account_and_what_ended_is_kept() {
    let (machine, observer, provider) = with_generator();
    assert_eq!(generator::outcome(1, 1000), Outcome::NoDecider);
    let nobody = account(&observer, BACKLOG).unwrap();
    assert_eq!(
        (nobody.asked, outcomes(&nobody, Outcome::NoDecider)),
        (1, 1)
    );

    let mut decider = Service::connect(&machine);
    decider.subscribe(provider, 0, 1 << 2).unwrap();
    let number = decider.info().connection;
    assert_eq!(account(&observer, number).unwrap().asked, 0, "it has a row");
    let asking: Vec<_> = (0..3)
        .map(|n| thread::spawn(move || generator::outcome(n, 60_000)))
        .collect();
    let requests: Vec<_> = (0..2).map(|_| decider.next_request().unwrap()).collect();
    let third = decider.next_request().unwrap();
    let waiting = account(&observer, number).unwrap();
    assert_eq!((waiting.asked, waiting.in_flight), (3, 3));
    for request in &requests {
        decider.reply(request, &[0; 8]);
    }
    let mut ended: Vec<_> = asking.into_iter().collect();
    while ended.iter().filter(|asked| asked.is_finished()).count() < 2 {
        thread::yield_now();
    }
    let one_left = account(&observer, number).unwrap();
    assert_eq!((one_left.asked, one_left.in_flight), (3, 1));
    assert_eq!(one_left.in_flight_peak, 3);
    assert_eq!(Latency(one_left.latency).total(), 2);
    decider.close();
    ended.drain(..).for_each(|asked| drop(asked.join()));
    assert!(account(&observer, number).is_none(), "it has gone");
    let gone = account(&observer, ENDED).unwrap();
    assert_eq!((gone.asked, gone.in_flight, gone.in_flight_peak), (3, 0, 3));
    assert_eq!(outcomes(&gone, Outcome::Answered), 2);
    assert_eq!(outcomes(&gone, Outcome::Disconnected), 1);
    drop((third, decider, observer));
    machine.check();
}

#[test]
fn a_missed_request_lies_in_the_bucket_of_its_deadline() {
    let (machine, decider, provider) = with_generator();
    decider.subscribe(provider, 0, 1 << 2).unwrap();
    for _ in 0..3 {
        assert_eq!(generator::outcome(1, 40), Outcome::Missed);
    }
    assert_eq!(generator::outcome(1, 40), Outcome::CircuitOpen);
    let row = account(&decider, decider.info().connection).unwrap();
    assert_eq!(row.asked, 4, "also what it would have been asked");
    assert_eq!(outcomes(&row, Outcome::Missed), 3);
    assert_eq!(outcomes(&row, Outcome::CircuitOpen), 1);
    assert!(row.waited_us >= 3 * 40_000, "{row:?}");
    let late: u64 = row.latency[bucket(40_000)..].iter().sum();
    assert_eq!(late, 3, "{row:?}");
    drop(decider);
    machine.check();
}

/// A provider that declares these replies: each request's number and bytes.
fn register(defaults: &[(u16, &[u8])]) -> Result<BareClient, i32> {
    let mut schema = [0; 4096];
    let length = PROVIDER.encode(&mut schema).unwrap();
    let declared: Vec<DefaultReply> = defaults
        .iter()
        .map(|(message, reply)| DefaultReply {
            size: size_of::<DefaultReply>() as u32,
            message: *message,
            reserved: 0,
            reply: reply.as_ptr(),
            length: reply.len() as u32,
            reserved2: 0,
        })
        .collect();
    let description = ProviderDescription {
        defaults: declared.as_ptr(),
        default_count: declared.len() as u32,
        ..describe(&schema[..length], 0)
    };
    BareClient::describe(&description)
}

/// Asks for a reply of so many bytes with the declared default; the status, the outcome and the
/// reply.
fn ask(client: &BareClient, flags: u32, length: usize) -> (i32, u32, Vec<u8>) {
    let mut reply = vec![0xEE; length];
    let mut request = Request {
        message: 2,
        fixed: 8,
        payload: [7_u8; 8].as_ptr(),
        length: 8,
        deadline_ms: 1000,
        reply: reply.as_mut_ptr(),
        reply_length: length as u32,
        flags,
        ..Request::EMPTY
    };
    let ask = interface().request;
    // SAFETY: a registered handle and a valid request.
    let status = unsafe { ask(client.handle, &raw mut request) };
    (status, request.outcome, reply)
}

#[test]
fn a_declared_default_answers_whoever_asks_for_it() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = register(&[(2, &[1, 2, 3, 4, 5, 6, 7, 8])]).unwrap();
    let declared = ask(&client, REQUEST_DECLARED_DEFAULT, 8);
    assert_eq!(
        declared,
        (
            STATUS_SUCCESS,
            Outcome::NoDecider as u32,
            vec![1, 2, 3, 4, 5, 6, 7, 8]
        )
    );
    assert_eq!(ask(&client, 0, 8).2, [0xEE; 8], "its own default");
    for (flags, length) in [(REQUEST_DECLARED_DEFAULT, 7), (2, 8), (u32::MAX, 8)] {
        assert_eq!(ask(&client, flags, length).0, STATUS_INVALID_PARAMETER);
    }
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let told = |message: u32| {
        let mut payload = provider.to_le_bytes().to_vec();
        payload.extend(message.to_le_bytes());
        service.command(0, own::DEFAULT_REPLY, &payload)
    };
    assert_eq!(told(2), Ok(vec![1, 2, 3, 4, 5, 6, 7, 8]));
    for message in [0, 1, 3, 64, 0x1_0002] {
        assert_eq!(told(message), Err(STATUS_NOT_FOUND), "{message}");
    }
    assert_eq!(
        service.command(0, own::DEFAULT_REPLY, &[0; 4]),
        Err(STATUS_INVALID_PARAMETER)
    );
    drop(service);
    drop(client);
    machine.check();
}

#[test]
fn a_provider_that_declares_nothing_has_no_default() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = register(&[]).unwrap();
    assert_eq!(
        ask(&client, REQUEST_DECLARED_DEFAULT, 8).0,
        STATUS_INVALID_PARAMETER
    );
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let payload = [provider.to_le_bytes(), 2_u32.to_le_bytes()].concat();
    assert_eq!(service.command(0, own::DEFAULT_REPLY, &payload), Ok(vec![]));
    drop(service);
    drop(client);
    machine.check();
}

#[test]
fn defaults_that_are_none_of_the_providers_requests_are_refused() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let long = vec![0; 4097];
    let refused: [&[(u16, &[u8])]; 5] = [
        &[(1, &[0; 8])],
        &[(0, &[0; 8])],
        &[(64, &[0; 8])],
        &[(2, &[0; 8]), (2, &[0; 8])],
        &[(2, &long)],
    ];
    for defaults in refused {
        let error = register(defaults).err();
        assert_eq!(error, Some(STATUS_INVALID_PARAMETER), "{defaults:?}");
    }
    machine.check();
}

/// A request of the first revision ends before its flags: nothing behind it may be read or written.
#[test]
fn what_lies_behind_an_older_request_is_left_alone() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = register(&[(2, &[1; 8])]).unwrap();
    let mut reply = [0xEE_u8; 8];
    let mut request = Request {
        size: Request::FIRST as u32,
        message: 2,
        fixed: 8,
        payload: [7_u8; 8].as_ptr(),
        length: 8,
        deadline_ms: 1000,
        reply: reply.as_mut_ptr(),
        reply_length: 8,
        flags: u32::MAX,
        waited_us: 0xDEAD,
        ..Request::EMPTY
    };
    let ask = interface().request;
    // SAFETY: a registered handle and a valid request.
    let status = unsafe { ask(client.handle, &raw mut request) };
    assert_eq!((status, request.waited_us), (STATUS_SUCCESS, 0xDEAD));
    assert_eq!(reply, [0xEE; 8]);
    drop(client);
    machine.check();
}

/// Elements that are longer than ours, as a newer client driver has them.
#[test]
fn default_replies_of_a_newer_revision_are_read_by_their_size() {
    #[repr(C)]
    struct Newer {
        known: DefaultReply,
        unknown: u64,
    }
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let mut schema = [0; 4096];
    let length = PROVIDER.encode(&mut schema).unwrap();
    let newer = [Newer {
        known: DefaultReply {
            size: size_of::<Newer>() as u32,
            message: 2,
            reserved: 0,
            reply: [9_u8; 8].as_ptr(),
            length: 8,
            reserved2: 0,
        },
        unknown: u64::MAX,
    }];
    let description = ProviderDescription {
        defaults: newer.as_ptr().cast(),
        default_count: 1,
        ..describe(&schema[..length], 0)
    };
    let client = BareClient::describe(&description).unwrap();
    assert_eq!(ask(&client, REQUEST_DECLARED_DEFAULT, 8).2, [9; 8]);
    drop(client);
    let short = ProviderDescription {
        default_count: 64,
        ..description
    };
    assert_eq!(
        BareClient::describe(&short).err(),
        Some(STATUS_INVALID_PARAMETER)
    );
    machine.check();
}
