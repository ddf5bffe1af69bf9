// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nobody hears costs its sender next to nothing, and is in the ledger all the same, to the last one.

use crate::bare::{BareClient, named};
use crate::generator::{self, Blob, PROVIDER, Question};
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Service};
use fltport_abi::account::Cause;
use fltport_abi::command::{BACKLOG, LedgerRow};
use fltport_abi::interface::{
    BacklogPolicy, MAX_UNHEARD_ROWS, Notification, ProviderDescription, UNHEARD_ROW,
};
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_abi::message::Message;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

const BLOB: u64 = 1 << Blob::NUMBER;
const ROWS: usize = 2;

/// A client driver's word and counters.
struct Words {
    quiet: AtomicU64,
    counters: [AtomicU64; ROWS * UNHEARD_ROW],
}

impl Words {
    fn new() -> &'static Self {
        Box::leak(Box::new(Words {
            quiet: AtomicU64::new(0),
            counters: [const { AtomicU64::new(0) }; ROWS * UNHEARD_ROW],
        }))
    }

    fn describe(&'static self, description: &mut ProviderDescription) {
        description.quiet = self.quiet.as_ptr();
        description.unheard = self.counters[0].as_ptr();
        description.unheard_rows = ROWS as u32;
    }

    fn quiet(&self) -> u64 {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Counts so many blobs in a row.
    fn count(&self, row: usize, blobs: u64) {
        let place = row * UNHEARD_ROW + usize::from(Blob::NUMBER);
        self.counters[place].fetch_add(blobs, Ordering::Relaxed);
    }

    fn left(&self) -> u64 {
        let all = self.counters.iter().map(|it| it.load(Ordering::Relaxed));
        all.sum()
    }
}

fn machine() -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine
}

fn register(
    words: &'static Words,
    name: &str,
    backlog: u32,
    change: impl FnOnce(&mut ProviderDescription),
) -> BareClient {
    let schema = named(&PROVIDER, name.to_owned());
    BareClient::register_with(&schema, backlog, |description| {
        words.describe(description);
        change(description);
    })
}

/// Of the rows of a provider's blobs with a receiver, or with all.
fn rows(service: &mut Service, provider: u32, of: Option<u32>) -> Vec<LedgerRow> {
    let wanted = |row: &LedgerRow| {
        u32::from(row.provider) == provider
            && row.message == Blob::NUMBER
            && of.is_none_or(|connection| row.connection == connection)
    };
    let all = service.settled_ledger();
    all.into_iter().filter(wanted).collect()
}

/// How many blobs were offered that nobody heard, and lost for that.
fn unheard(service: &mut Service, provider: u32) -> (u64, u64) {
    let rows = rows(service, provider, Some(BACKLOG));
    let lost = |row: &LedgerRow| row.lost[Cause::NoConnection.index()];
    (
        rows.iter().map(|row| row.offered).sum(),
        rows.iter().map(lost).sum(),
    )
}

#[test]
fn what_the_client_driver_counts_is_in_every_account() {
    let machine = machine();
    let words = Words::new();
    let mut service = Service::connect(&machine);
    let client = register(words, "counts", 0, |_| ());
    let provider = service.provider("counts").unwrap();
    words.count(0, 3);
    words.count(1, 4);
    assert_eq!(unheard(&mut service, provider), (7, 7));
    words.count(1, 5);
    let found = client.statistics(Blob::NUMBER).expect("the accounts");
    let lost = found.lost[Cause::NoConnection.index()];
    assert_eq!((found.offered, lost), (12, 12));
    assert_eq!(unheard(&mut service, provider), (12, 12));
    assert_eq!(words.left(), 0);
    // Nobody is told of it who comes later.
    service.subscribe(provider, BLOB, 0).unwrap();
    words.count(0, 1);
    let blob = Blob {
        number: 1,
        data: b"heard",
    };
    assert_eq!(client.notify_at(0, &blob), 0);
    let records = service.drain();
    let own = |sender: u16| u32::from(sender) == provider;
    let own: Vec<_> = records.iter().filter(|r| own(r.header.provider)).collect();
    assert!(matches!(own[..], [record] if record.header.message == Blob::NUMBER));
    assert_eq!(unheard(&mut service, provider), (13, 13));
    drop((service, client));
    machine.check();
}

#[test]
fn a_word_says_what_nobody_would_hear() {
    let machine = machine();
    let words = Words::new();
    let service = Service::connect(&machine);
    let client = register(words, "quiet", 0, |_| ());
    let provider = service.provider("quiet").unwrap();
    assert_eq!(words.quiet(), BLOB, "no requests, no commands");
    service.subscribe(provider, BLOB, 0).unwrap();
    assert_eq!(words.quiet(), 0);
    service
        .subscribe(provider, 0, 1 << Question::NUMBER)
        .unwrap();
    assert_eq!(words.quiet(), BLOB);
    service.subscribe(provider, BLOB, 0).unwrap();
    service.close();
    let deadline = Instant::now() + PATIENCE;
    while words.quiet() != BLOB {
        assert!(Instant::now() < deadline, "the disconnect does not come");
        thread::yield_now();
    }
    words.count(0, 9);
    drop(client);
    assert_eq!((words.quiet(), words.left()), (0, 0));
    // It is not the common driver's any more.
    words.count(0, 1);
    let keeps = register(words, "keeps", 4096, |_| ());
    assert_eq!(words.quiet(), 0, "a backlog hears");
    drop(keeps);
    let limited = register(words, "limited", 0, |d| d.rate = 1000);
    assert_eq!(words.quiet(), 0, "what nobody hears uses the rate up, too");
    drop((service, limited));
    machine.check();
}

#[test]
fn counters_that_cannot_be_are_refused() {
    let machine = machine();
    let words = Words::new();
    let mut encoded = [0; 4096];
    let length = PROVIDER.encode(&mut encoded).expect("fits");
    let refused = |change: &dyn Fn(&mut ProviderDescription)| {
        let mut description = crate::bare::describe(&encoded[..length], 0);
        words.describe(&mut description);
        change(&mut description);
        BareClient::describe(&description).err()
    };
    let invalid = Some(STATUS_INVALID_PARAMETER);
    assert_eq!(refused(&|d| d.unheard = std::ptr::null_mut()), invalid);
    assert_eq!(refused(&|d| d.unheard_rows = 0), invalid);
    let too_many = MAX_UNHEARD_ROWS + 1;
    assert_eq!(refused(&|d| d.unheard_rows = too_many), invalid);
    let within = |word: *mut u64| word.wrapping_byte_add(4);
    assert_eq!(refused(&|d| d.quiet = within(d.quiet)), invalid);
    assert_eq!(refused(&|d| d.unheard = within(d.unheard)), invalid);
    assert_eq!(words.quiet(), 0);
    machine.check();
}

#[test]
fn not_one_is_missed_or_counted_twice_while_subscriptions_come_and_go() {
    const EACH: u64 = 4000;
    let machine = machine();
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let mut service = Service::connect(&machine);
    let mut other = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 0..EACH {
                    generator::blob(number, b"heard or not");
                    if number % 64 == 0 {
                        thread::yield_now();
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let mut heard = 0;
        while done.load(Ordering::SeqCst) != 3 {
            heard ^= BLOB;
            service.subscribe(provider, heard, 0).unwrap();
            service.drain_available();
            // Whenever it is read, it is no more than there was.
            let (unheard, lost) = unheard(&mut other, provider);
            let found = generator::provider().statistics(Blob::NUMBER).unwrap();
            assert!(unheard == lost && lost <= found.offered && found.offered <= 3 * EACH);
        }
    });
    let all = rows(&mut service, provider, None);
    let offered: u64 = all.iter().map(|row| row.offered).sum();
    assert_eq!(offered, 3 * EACH, "each to one alone");
    let found = generator::provider().statistics(Blob::NUMBER).unwrap();
    assert_eq!(found.offered, 3 * EACH);
    drop((service, other));
    machine.check();
}

/// The former common driver's books are gone with it.
#[test]
fn the_next_common_driver_begins_with_what_came_since() {
    let machine = machine();
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    for number in 0..5 {
        generator::blob(number, b"the first one's");
    }
    machine.stop(&FLTPORT);
    generator::blob(5, b"staged");
    machine.load(&FLTPORT);
    let mut service = Service::connect(&machine);
    let deadline = Instant::now() + PATIENCE;
    let provider = loop {
        match service.provider("generator") {
            Some(provider) if generator::provider().statistics(0).is_ok() => break provider,
            _ => assert!(
                Instant::now() < deadline,
                "it does not find the common driver"
            ),
        }
        thread::yield_now();
    };
    generator::blob(6, b"counted");
    assert_eq!(unheard(&mut service, provider), (2, 2));
    drop(service);
    machine.check();
}

#[test]
fn what_is_wrong_with_it_is_said_although_nobody_hears() {
    let machine = machine();
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    generator::blob(1, &vec![0; MAX_PAYLOAD]);
    generator::booked_blob(2, b"booked");
    generator::filled_in_blob(3, b"filled in");
    let found = generator::provider().statistics(Blob::NUMBER).unwrap();
    let lost = |cause: Cause| found.lost[cause.index()];
    assert_eq!(
        (lost(Cause::TooLarge), lost(Cause::NoConnection)),
        (1, 2),
        "{found:?}"
    );
    // No level at which the stub may be called.
    let words = Words::new();
    let client = register(words, "high", 0, |_| ());
    let blob = Blob {
        number: 1,
        data: b"high",
    };
    assert_eq!(client.notify_at(5, &blob), 0);
    let unknown = Notification {
        message: 60,
        ..Notification::EMPTY
    };
    assert_eq!(client.send_at(0, &unknown), STATUS_INVALID_PARAMETER);
    let found = client.statistics(0).expect("the accounts");
    let lost = found.lost[Cause::WrongIrql.index()];
    assert_eq!((lost, found.offered), (1, 1));
    drop(client);
    machine.check();
}
