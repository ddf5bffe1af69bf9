// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications that are filled in where they lie.

use crate::bare::BareClient;
use crate::generator::{self, Blob};
use crate::lane::{self, BOTH, EXIT, Exit, PAIRS};
use crate::service::{Record, Service};
use fltport_abi::account::Cause;
use fltport_abi::frame::RecordKind;
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use fltport_nt::NtError;
use fltport_nt::bindings::{STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER};
use fltport_nt::linked::{DISPATCH_LEVEL, STATUS_INVALID_LEVEL};

#[test]
fn a_notification_is_filled_in_where_it_lies() {
    let machine = lane::machine();
    let mut service = Service::connect(&machine);
    let client = BareClient::register(&PAIRS, 0);
    let provider = service.provider(PAIRS.name).expect("is registered");
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    let offer = |length: u32| {
        let reservation = client
            .reserve_at(DISPATCH_LEVEL, Exit::NUMBER, 64)
            .expect("memory");
        // SAFETY: 64 bytes, as asked for, ours until the commit.
        let payload = unsafe { std::slice::from_raw_parts_mut(reservation.payload, 64) };
        assert!(payload.iter().all(|byte| *byte == 0));
        payload[0] = 9;
        client.commit(&reservation, Exit::FIXED as u16, length)
    };
    assert_eq!(offer(EXIT), 0);
    assert_eq!(
        offer(65),
        STATUS_INVALID_PARAMETER,
        "more than was reserved"
    );
    assert_eq!(
        offer(EXIT - 1),
        STATUS_INVALID_PARAMETER,
        "less than its fixed part"
    );
    let given_back = client.reserve_at(0, Exit::NUMBER, 64).expect("memory");
    client.discard(&given_back);
    let refused = |irql, message, length| client.reserve_at(irql, message, length).err();
    assert_eq!(refused(0, 3, 8), Some(STATUS_INVALID_PARAMETER));
    let too_large = MAX_PAYLOAD as u32 + 1;
    assert_eq!(
        refused(0, Exit::NUMBER, too_large),
        Some(STATUS_BUFFER_OVERFLOW)
    );
    assert_eq!(refused(5, Exit::NUMBER, 8), Some(STATUS_INVALID_LEVEL));
    let empty = client.reserve_at(0, Exit::NUMBER, 0).expect("memory");
    assert_eq!(client.commit(&empty, 0, 0), 0);
    let records = lane::of(service.drain(), provider);
    let exits = records
        .iter()
        .filter(|r| r.kind == RecordKind::Notification);
    let payloads: Vec<&[u8]> = exits.map(|r| &r.payload[..]).collect();
    assert_eq!(payloads, [&[9, 0, 0, 0, 0, 0, 0, 0][..], &[]]);
    // What could not be filled in is accounted for.
    let found = client.statistics(Exit::NUMBER).expect("the accounts");
    assert_eq!(found.lost[Cause::TooLarge.index()], 1);
    assert_eq!(found.lost[Cause::WrongIrql.index()], 1);
    assert_eq!((found.offered, found.delivered), (4, 2));
    drop((service, client));
    machine.check();
}

#[test]
fn what_is_filled_in_is_offered_or_given_back() {
    let machine = lane::machine();
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let mut service = Service::connect(&machine);
    let number = service.provider("generator").unwrap();
    service.subscribe(number, 1 << Blob::NUMBER, 0).unwrap();
    generator::filled_in_blob(0, b"committed");
    let provider = generator::provider();
    let given_back = |length| {
        let place = provider.reserve::<Blob<'_>>(length).unwrap();
        assert!(place.len() == length && place.iter().all(|byte| *byte == 0));
        place
    };
    drop(given_back(64));
    assert_eq!(
        given_back(8).commit(9),
        Err(NtError(STATUS_INVALID_PARAMETER)),
        "more than was reserved"
    );
    drop(given_back(0));
    drop(provider);
    generator::filled_in_blob(1, b"committed");
    let blob = |record: &Record| Blob::decode(&record.payload).unwrap().number;
    let blobs = lane::of(service.drain(), number);
    assert_eq!(blobs.iter().map(blob).collect::<Vec<_>>(), [0, 1]);
    drop(service);
    machine.check();
}
