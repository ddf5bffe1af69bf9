// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laws, held against random lives: the ledger balances in every row at every step, everything
//! offered is in it, every stream is continuous (the service sees to that) and in order.

use crate::bare::BareClient;
use crate::generator::{Blob, PROVIDER};
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Record, Service};
use fltport_abi::account::Cause;
use fltport_abi::command::{BACKLOG, ENDED, LedgerRow};
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::{Hello, rights};
use fltport_abi::message::Message;
use fltport_nt::bindings::STATUS_RETRY;
use proptest::prelude::*;
use std::time::Instant;

/// Services that come and go.
const SERVICES: usize = 3;

/// A device's interrupt level.
const DIRQL: u8 = 5;

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Subscribe(usize, bool),
    /// Takes what has come.
    Receive(usize),
    Disconnect(usize),
    /// So many notifications of so many bytes.
    Offer(u64, usize),
    /// Offered at an interrupt, or lost before it could be offered.
    TooHigh(u64),
    Lost(u64),
    Reregister,
}

fn step() -> impl Strategy<Value = Step> {
    let service = 0..SERVICES;
    prop_oneof![
        2 => service.clone().prop_map(Step::Connect),
        4 => (service.clone(), any::<bool>()).prop_map(|(s, on)| Step::Subscribe(s, on)),
        2 => service.clone().prop_map(Step::Receive),
        1 => service.prop_map(Step::Disconnect),
        6 => (1..40_u64, prop_oneof![0..300_usize, 20_000..70_000_usize])
            .prop_map(|(count, size)| Step::Offer(count, size)),
        1 => (1..4_u64).prop_map(Step::TooHigh),
        1 => (1..4_u64).prop_map(Step::Lost),
        1 => Just(Step::Reregister),
    ]
}

/// A service and what it got.
struct Seat {
    service: Service,
    observes: bool,
    records: Vec<Record>,
}

impl Seat {
    /// The numbers that came from this provider.
    fn numbers(&self, provider: u32) -> Vec<u64> {
        self.records
            .iter()
            .filter(|r| r.kind == RecordKind::Notification)
            .filter(|r| u32::from(r.header.provider) == provider)
            .map(|r| Blob::decode(&r.payload).unwrap().number)
            .collect()
    }

    /// How many losses of this provider it was told of.
    fn told(&self, provider: u32) -> u64 {
        let entries = self.records.iter().flat_map(|r| &r.gap);
        entries
            .filter(|e| u32::from(e.provider) == provider)
            .map(|e| e.count)
            .sum()
    }
}

struct Life {
    backlog: u32,
    client: Option<BareClient>,
    provider: u32,
    auditor: Service,
    seats: [Option<Seat>; SERVICES],
    next: u64,
    /// What the ledger of the present provider must add up to: each notification once for each
    /// observer, or once for the backlog.
    expected: u64,
    // Dropped last.
    machine: Machine,
}

impl Life {
    fn new(backlog: u32) -> Self {
        let machine = Machine::bare();
        machine.load(&FLTPORT);
        // It only reads the books, and is told nothing.
        let hello = Hello::new("auditor", rights::COMMAND, 0).to_bytes();
        let auditor = Service::connect_with(&machine, &hello).unwrap();
        let mut life = Life {
            backlog,
            client: None,
            provider: 0,
            auditor,
            seats: [const { None }; SERVICES],
            next: 0,
            expected: 0,
            machine,
        };
        life.register();
        life
    }

    fn register(&mut self) {
        self.client = None;
        self.client = Some(BareClient::register(&PROVIDER, self.backlog));
        self.provider = self.auditor.provider("generator").unwrap();
        self.expected = 0;
        for seat in self.seats.iter_mut().flatten() {
            seat.observes = false;
        }
    }

    fn client(&self) -> &BareClient {
        self.client.as_ref().unwrap()
    }

    fn expect(&mut self, count: u64) {
        let observers = self.seats.iter().flatten().filter(|s| s.observes).count();
        self.expected += count * observers.max(1) as u64;
    }

    fn offer(&mut self, irql: u8, data: &[u8]) {
        let blob = Blob {
            number: self.next,
            data,
        };
        assert_eq!(self.client().notify_at(irql, &blob), 0);
        self.next += 1;
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Connect(at) => {
                if self.seats[at].is_none() {
                    self.seats[at] = Some(Seat {
                        service: Service::connect(&self.machine),
                        observes: false,
                        records: Vec::new(),
                    });
                }
            }
            Step::Subscribe(at, on) => {
                let provider = self.provider;
                if let Some(seat) = &mut self.seats[at] {
                    let observe = if on { 1 << 1 } else { 0 };
                    match seat.service.subscribe(provider, observe, 0) {
                        Ok(()) => seat.observes = on,
                        // A backlog that it has not read yet is in the way of the next one.
                        Err(status) => assert_eq!(status, STATUS_RETRY),
                    }
                }
            }
            Step::Receive(at) => {
                if let Some(seat) = &mut self.seats[at] {
                    seat.records.extend(seat.service.drain_available());
                }
            }
            Step::Disconnect(at) => self.seats[at] = None,
            Step::Offer(count, size) => {
                let data = vec![7; size];
                (0..count).for_each(|_| self.offer(0, &data));
                self.expect(count);
            }
            Step::TooHigh(count) => {
                (0..count).for_each(|_| self.offer(DIRQL, b"high"));
                // They count for whoever observes when they are collected: now.
                self.auditor.ledger();
                self.expect(count);
            }
            Step::Lost(count) => {
                self.client().lost(1, Cause::NoMemory, count);
                self.expect(count);
            }
            Step::Reregister => self.register(),
        }
    }

    fn rows(&self) -> Vec<LedgerRow> {
        let rows = self.auditor.ledger().into_iter();
        rows.filter(|row| u32::from(row.provider) == self.provider)
            .collect()
    }

    /// All rows balance, and there is nothing that is not in one of them.
    fn audit(&self) {
        let rows = self.rows();
        let offered: u64 = rows.iter().map(|row| row.offered).sum();
        let handed_over: u64 = rows
            .iter()
            .filter(|row| row.connection == BACKLOG)
            .map(|row| row.delivered)
            .sum();
        assert_eq!(offered - handed_over, self.expected, "{rows:?}");
        let ended = rows.iter().filter(|row| row.connection == ENDED);
        assert!(ended.into_iter().all(|row| row.in_flight == 0), "{rows:?}");
    }

    /// What the books say of a connection: delivered, lost, in flight.
    fn account(&self, connection: u32) -> (u64, u64, u64) {
        let rows = self.rows().into_iter();
        rows.filter(|row| row.connection == connection).fold(
            (0, 0, 0),
            |(delivered, lost, in_flight), row| {
                (
                    delivered + row.delivered,
                    lost + row.lost_total(),
                    in_flight + row.in_flight,
                )
            },
        )
    }

    /// Everybody takes all that is his; then what he got is what the books say.
    fn end(mut self) {
        let provider = self.provider;
        for seat in self
            .seats
            .each_mut()
            .map(Option::take)
            .into_iter()
            .flatten()
        {
            self.check(provider, seat);
        }
        self.audit();
        drop((self.client, self.auditor));
        self.machine.check();
    }

    fn check(&self, provider: u32, mut seat: Seat) {
        let connection = seat.service.info().connection;
        let deadline = Instant::now() + PATIENCE;
        loop {
            seat.records.extend(seat.service.drain_available());
            let (numbers, told) = (seat.numbers(provider), seat.told(provider));
            let account @ (delivered, lost, in_flight) = self.account(connection);
            let state = format!("told of {told}, got {}, {account:?}", numbers.len());
            assert!(numbers.is_sorted(), "out of order: {numbers:?}");
            if in_flight == 0 && delivered == numbers.len() as u64 && told >= lost {
                // More only with a backlog: of what was lost there.
                assert!(told == lost || self.backlog != 0, "{state}");
                return;
            }
            assert!(Instant::now() < deadline, "{state}");
            std::thread::yield_now();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_ledger_balances_whatever_happens(
        backlog in prop_oneof![Just(0_u32), Just(4096), Just(512 * 1024)],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut life = Life::new(backlog);
        for step in &steps {
            life.take(step);
            life.audit();
        }
        life.end();
    }
}
