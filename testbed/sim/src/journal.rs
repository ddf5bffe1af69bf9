// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has really happened in a run, to be compared with what the drivers say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fltport_abi::account::Outcome;
use nt_host::clock;
use parking_lot::Mutex;

use crate::circuit::{Before, Circuit, Start};
use crate::roles::Roles;
use crate::witness;

/// What the answer to a question must be: known from its number, so that a mix-up shows.
#[must_use]
pub fn answer_to(question: u64) -> u64 {
    question.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

/// One run's truth. Clones are the same one.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    next: u64,
    notified: u64,
    threads: u32,
    /// Notifications that no record can hold.
    too_large: u64,
    /// Notifications by number: who offered them, and when that was done.
    offers: BTreeMap<u64, (u32, Option<u64>)>,
    /// What outcome records say of questions.
    said: Vec<(u64, (u16, u64))>,
    roles: Roles,
    circuit: Circuit,
    dead: Dead,
    /// What threads of drivers have seen, which must not panic.
    broken: Vec<&'static str>,
    /// Processes whose start was told of.
    started: BTreeSet<u64>,
    /// Processes that were refused.
    refused: BTreeSet<u64>,
    /// Nothing fails and everybody is on time, so the circuit and delays can be judged.
    strict: bool,
    /// Questions whose reply a service was told to be taken, and how often that was.
    taken: BTreeMap<u64, u32>,
    /// The ends of questions.
    ended: BTreeMap<u64, Ended>,
}

/// What services that are dead have read of the generator's notifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dead {
    /// How many are dead.
    pub services: usize,
    /// Notifications that they have read.
    pub got: u64,
    /// Losses that they were told of.
    pub told: u64,
}

#[derive(Clone, Copy)]
struct Ended {
    outcome: Outcome,
    reply: u64,
    deadline_ms: u32,
    took: u64,
}

impl Journal {
    /// A number that no other message of this run has.
    pub fn number(&self) -> u64 {
        let mut entries = self.0.lock();
        entries.next += 1;
        entries.next
    }

    /// From now on the circuit is judged, too.
    pub fn be_strict(&self) {
        self.0.lock().strict = true;
    }

    /// Whether it is.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.0.lock().strict
    }

    /// The last number that was given.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.0.lock().next
    }

    /// A number for a thread that will offer notifications.
    #[must_use]
    pub fn thread(&self) -> u32 {
        let mut entries = self.0.lock();
        entries.threads += 1;
        entries.threads
    }

    /// A number for a notification that this thread is about to offer.
    #[must_use]
    pub fn offering(&self, thread: u32, too_large: bool) -> u64 {
        let mut entries = self.0.lock();
        entries.too_large += u64::from(too_large);
        entries.next += 1;
        let number = entries.next;
        entries.offers.insert(number, (thread, None));
        number
    }

    /// The notification with this number has been offered.
    pub fn notified(&self, number: u64) {
        let mut entries = self.0.lock();
        entries.notified += 1;
        let now = clock::unbiased_interrupt_time();
        if let Some(offer) = entries.offers.get_mut(&number) {
            offer.1 = Some(now);
        }
    }

    /// Who offered the notification with this number, and when that was done; now, if it is being
    /// done.
    ///
    /// # Panics
    /// Nobody did.
    #[must_use]
    pub fn offer(&self, number: u64) -> (u32, u64) {
        let offer = self.0.lock().offers.get(&number).copied();
        let (thread, done) = offer.expect("a notification that was offered");
        (thread, done.unwrap_or_else(clock::unbiased_interrupt_time))
    }

    /// How many notifications that were too large have been offered, or are about to be.
    #[must_use]
    pub fn too_large(&self) -> u64 {
        self.0.lock().too_large
    }

    /// How many notifications with larger numbers have been offered.
    #[must_use]
    pub fn offered_since(&self, number: u64) -> u64 {
        self.offered_since_until(number, u64::MAX)
    }

    /// How many of them had been at this moment.
    #[must_use]
    pub fn offered_since_until(&self, number: u64, moment: u64) -> u64 {
        let entries = self.0.lock();
        let behind = entries.offers.range(number + 1..);
        let done = |done: Option<u64>| done.is_some_and(|done| done <= moment);
        behind.filter(|(_, (_, at))| done(*at)).count() as u64
    }

    /// How many notifications this thread has offered between two of its own.
    #[must_use]
    pub fn offered_between(&self, thread: u32, (first, last): (u64, u64)) -> u64 {
        let entries = self.0.lock();
        let between = entries.offers.range(first + 1..last);
        between.filter(|(_, (by, _))| *by == thread).count() as u64
    }

    /// How many questions with larger numbers have come to an end of which observers are told.
    #[must_use]
    pub fn concluded_since(&self, number: u64) -> u64 {
        let entries = self.0.lock();
        let behind = entries.ended.range(number + 1..);
        behind
            .filter(|(_, it)| !matches!(it.outcome, Outcome::NoDecider | Outcome::Failed))
            .count() as u64
    }

    /// How many questions have come to their ends, and how many of these with this outcome.
    #[must_use]
    pub fn ends(&self, outcome: Outcome) -> (u64, u64) {
        let entries = self.0.lock();
        let such = entries.ended.values().filter(|it| it.outcome == outcome);
        (entries.ended.len() as u64, such.count() as u64)
    }

    /// A service has been told that this process has started.
    pub fn started(&self, pid: u64) {
        self.0.lock().started.insert(pid);
    }

    /// This process was refused.
    pub fn refused(&self, pid: u64) {
        self.0.lock().refused.insert(pid);
    }

    /// A thread of a driver has seen what must not be.
    pub fn broke(&self, what: &'static str) {
        self.0.lock().broken.push(what);
    }

    /// A service is dead that had read so much.
    pub fn died(&self, got: u64, told: u64) {
        let dead = &mut self.0.lock().dead;
        dead.services += 1;
        dead.got += got;
        dead.told += told;
    }

    /// What the dead have read; none while one is dying.
    #[must_use]
    pub fn dead(&self) -> Option<Dead> {
        let entries = self.0.lock();
        Some(entries.dead).filter(|dead| dead.services == entries.roles.dying())
    }

    /// An outcome record says this of a question.
    pub fn said(&self, question: u64, outcome: u16, reply: u64) {
        self.0.lock().said.push((question, (outcome, reply)));
    }

    /// Changes who decides.
    pub fn roles<T>(&self, change: impl FnOnce(&mut Roles) -> T) -> T {
        let mut entries = self.0.lock();
        let Entries { circuit, roles, .. } = &mut *entries;
        circuit.deciders_change();
        let result = change(roles);
        circuit.keep(|service, provider| roles.decides(service, provider));
        result
    }

    /// Tells one life of the common driver from another.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.0.lock().roles.load()
    }

    /// Somebody asks.
    #[must_use]
    pub fn asking(&self, question: u64) -> Before {
        self.0.lock().circuit.asking(question)
    }

    /// This service has read the question.
    pub fn read(&self, question: u64, service: u32) {
        self.0.lock().circuit.read(question, service);
    }

    /// A service is about to ask for the role of the decider.
    #[must_use]
    pub fn start(&self) -> Start {
        self.0.lock().circuit.start()
    }

    /// This service decides about the questions since then, if it has not let go meanwhile.
    pub fn decides(&self, service: u32, provider: u32, start: Start) {
        let mut entries = self.0.lock();
        if entries.roles.decides(service, provider) {
            entries.circuit.taken(service, provider, start);
        }
    }

    /// The client driver has been unloaded, or its load has failed.
    pub fn client_has_gone(&self) {
        self.0.lock().circuit.client_has_gone();
    }

    /// He has been answered.
    pub fn asked(&self, before: Before, question: u64, outcome: Outcome) {
        let mut entries = self.0.lock();
        let judged = entries.circuit.left(before, question, outcome);
        entries.broken.extend(judged.err());
        if entries.strict {
            let judged = entries.circuit.ended(before, outcome);
            entries.broken.extend(judged.err());
        }
    }

    /// How many notifications have been offered.
    #[must_use]
    pub fn notifications(&self) -> u64 {
        self.0.lock().notified
    }

    /// A service has been told that its reply was taken.
    pub fn reply_taken(&self, question: u64) {
        *self.0.lock().taken.entry(question).or_default() += 1;
    }

    /// A question that was asked at `asked` has come to its end.
    pub fn ended(&self, question: u64, deadline_ms: u32, asked: u64, outcome: Outcome, reply: u64) {
        let took = clock::unbiased_interrupt_time() - asked;
        let ended = Ended {
            outcome,
            reply,
            deadline_ms,
            took,
        };
        let former = self.0.lock().ended.insert(question, ended);
        assert!(former.is_none(), "question {question} ended twice");
    }

    /// Every answer came from somebody, went to whom it was meant for, and was taken once; nobody
    /// waited for longer than his deadline.
    pub fn check(&self, punctual: bool) {
        let entries = self.0.lock();
        for (question, ended) in &entries.ended {
            let taken = entries.taken.get(question).copied().unwrap_or(0);
            let told = format!("question {question} ended as {:?}", ended.outcome);
            if ended.outcome == Outcome::Answered {
                assert_eq!(
                    ended.reply,
                    answer_to(*question),
                    "{told} with another's answer"
                );
                assert_eq!(taken, 1, "{told}, and its reply was taken {taken} times");
            } else {
                assert_eq!(ended.reply, 0, "{told}, and not with its default");
                // A reply that is no answer is taken by the Filter Manager all the same.
                let bad = ended.outcome == Outcome::BadReply;
                assert_eq!(taken, u32::from(bad), "{told}, but its reply was taken");
            }
            let limit = u64::from(ended.deadline_ms) * crate::plan::MILLISECOND;
            // Calls of the kernel take 100 ns each, and other threads make some, too.
            let grace = 2 * crate::plan::MILLISECOND;
            assert!(
                !punctual || ended.took <= limit + grace,
                "{told} after {} of 100 ns, with a deadline of {limit}",
                ended.took
            );
        }
        assert!(entries.broken.is_empty(), "{:?}", entries.broken);
        let ghost = entries.started.intersection(&entries.refused).next();
        assert!(
            ghost.is_none(),
            "process {ghost:?} was refused, and started"
        );
        for (question, said) in &entries.said {
            // One that was being asked when the client driver gave up has no end of its own.
            let ended = entries.ended.get(question).copied();
            let ended = ended.expect("an outcome record of a question that was asked");
            assert!(
                witness::agrees(*said, ended.outcome, ended.reply),
                "question {question} ended as {:?} with {}, and observers were told {said:?}",
                ended.outcome,
                ended.reply
            );
        }
        for (question, taken) in &entries.taken {
            assert!(
                entries.ended.contains_key(question),
                "the reply to question {question} was taken {taken} times, but nobody asked it"
            );
        }
    }
}
