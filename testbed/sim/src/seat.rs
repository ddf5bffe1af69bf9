// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lives of a service: it connects, reads, answers, commands, hangs, dies, and comes again.

use std::sync::Arc;

use fltport_abi::fixed::Fixed;
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::ProcessCreate;
use fltport_nt::bindings::STATUS_RETRY;
use fltport_nt::linked::STATUS_SHARING_VIOLATION;
use nt_host::Kernel;
use nt_host::clock::{self, Deadline};
use nt_host::sched::{self, Waiter};

use crate::causes;
use crate::generator::{Echo, Question, Reply};
use crate::journal::{Journal, answer_to};
use crate::laws;
use crate::plan::{Death, Habit, Life, MILLISECOND};
use crate::scenario::Shared;
use crate::service::{Received, Service};
use crate::stream::Request;

/// How often a service tries to connect, and to find its provider.
const PATIENCE: u32 = 20;

/// Nothing is longer on its way to who reads (100 ns).
const LIMIT: u64 = 50 * MILLISECOND;

/// The message numbers of the generator and of the process monitor.
const BLOB: u64 = 1 << 1;
const QUESTION: u64 = 1 << 2;
const CREATE: u64 = 1 << 5;

/// Waits.
pub fn rest(ticks: u64) {
    if ticks > 0 {
        sched::block(&Waiter::new(), Some(Deadline::after(ticks)));
    }
}

/// One life.
struct Living<'a> {
    life: &'a Life,
    shared: &'a Shared,
    service: Service,
    generator: Option<u32>,
    monitor: Option<u32>,
    /// Requests that are answered later, with the moment.
    later: Vec<(Deadline, Request)>,
    steps: u32,
    /// So many of them without anything to read.
    idle: u32,
    pid: u32,
}

/// All lives of the seat with this number.
pub fn live(shared: &Arc<Shared>, seat: usize, lives: &[Life]) {
    for (number, life) in lives.iter().enumerate() {
        rest(life.after);
        let pid = u32::try_from(10_000 + seat * 100 + number).expect("few lives");
        let Some(service) = connect(&shared.kernel, pid, life) else {
            continue;
        };
        let killer = plan_death(life, &service, pid, shared);
        let mut living = Living {
            life,
            shared,
            service,
            generator: None,
            monitor: None,
            later: Vec::new(),
            steps: 0,
            idle: 0,
            pid,
        };
        living.attach_rings();
        living.limit_rate();
        living.subscribe();
        living.run();
        living.finish(killer);
    }
}

fn connect(kernel: &Kernel, pid: u32, life: &Life) -> Option<Service> {
    for _ in 0..PATIENCE {
        match Service::connect(kernel, pid, life.gets, life.first_buffer) {
            Ok(service) => return Some(service),
            Err(_) => rest(5 * MILLISECOND),
        }
    }
    None
}

/// Somebody else closes the handle, at some moment.
fn plan_death(
    life: &Life,
    service: &Service,
    pid: u32,
    shared: &Arc<Shared>,
) -> Option<sched::Thread> {
    let after = life.dies_after.filter(|_| life.death == Death::Killed)?;
    let closer = service.closer();
    let shared = shared.clone();
    let body = move || {
        rest(u64::from(after) * MILLISECOND);
        shared.journal.roles(|roles| roles.closing(pid));
        let begin = clock::unbiased_interrupt_time();
        closer.close();
        shared.took("the end of a connection", begin);
    };
    sched::spawn("killer".to_owned(), body).ok()
}

impl Living<'_> {
    fn attach_rings(&mut self) {
        let Some(rings) = self.life.rings else {
            return;
        };
        let attached = self.service.attach_rings(&rings);
        assert!(
            attached.is_ok() || !self.stays(),
            "there are no rings: {attached:?}"
        );
    }

    fn limit_rate(&mut self) {
        if let Some((rate, burst)) = self.life.rate {
            let limited = self.service.limit_rate(rate, burst);
            assert!(
                limited.is_ok() || !self.stays(),
                "a limit was refused: {limited:?}"
            );
        }
    }

    /// Whether nothing keeps the driver from doing what it is told to.
    fn stays(&self) -> bool {
        let stays = self.shared.orderly && !self.shared.unlucky;
        stays && self.life.death != Death::Killed
    }

    fn subscribe(&mut self) {
        for _ in 0..PATIENCE {
            self.steps += 1;
            if self.dies_now() {
                return;
            }
            match self.service.provider("generator") {
                Ok(Some(generator)) => {
                    self.generator = Some(generator);
                    break;
                }
                Ok(None) => rest(5 * MILLISECOND),
                Err(_) => return,
            }
        }
        let observe = if self.life.observes {
            BLOB | QUESTION
        } else {
            0
        };
        self.take_role(self.generator, observe, QUESTION);
        self.monitor = self.service.provider("process-monitor").unwrap_or(None);
        let observe = if self.life.observes {
            self.life.starts_and_exits
        } else {
            0
        };
        self.take_role(self.monitor, observe, CREATE);
        if self.life.restless {
            self.change_roles();
            self.change_roles();
        }
        rest(self.life.sleeps);
    }

    /// Subscribes, as the decider if that is free.
    fn take_role(&mut self, provider: Option<u32>, observe: u64, decide: u64) {
        let Some(provider) = provider else { return };
        let decide = if self.life.decides { decide } else { 0 };
        let journal = &self.shared.journal;
        let load = journal.roles(|roles| roles.load());
        let pid = self.pid;
        let free = match decide {
            0 => None,
            _ => journal.roles(|roles| roles.asking(pid, provider)),
        };
        let start = journal.start();
        let mut result = self.ask_for(provider, observe, decide);
        let journal = &self.shared.journal;
        match result {
            Ok(()) if decide != 0 => {
                journal.roles(|roles| roles.taken(pid, provider, load));
                if Some(provider) == self.generator {
                    journal.decides(pid, provider, start);
                }
            }
            // Another service decides, or the provider has gone.
            Err(status) if decide != 0 => {
                if status == STATUS_SHARING_VIOLATION {
                    journal.roles(|roles| roles.refused(provider, free));
                }
                result = self.ask_for(provider, observe, 0);
                let journal = &self.shared.journal;
                if result.is_ok() {
                    journal.roles(|roles| roles.let_go(pid, provider));
                }
            }
            _ => {}
        }
        if result.is_ok() && observe != 0 && Some(provider) == self.generator {
            let last = self.shared.journal.last_number();
            self.service.stream.witness.observes(last);
        }
    }

    /// Subscribes; reads on first while a former backlog is still on its way.
    fn ask_for(&mut self, provider: u32, observe: u64, decide: u64) -> Result<(), i32> {
        let mut result = self.service.subscribe(provider, observe, decide);
        for _ in 0..PATIENCE {
            if result != Err(STATUS_RETRY) {
                break;
            }
            if let Received::Request(request) = self.service.receive(Deadline::after(MILLISECOND)) {
                self.answer(request);
            }
            result = self.service.subscribe(provider, observe, decide);
        }
        result
    }

    /// Lets go of its roles and takes them again, as at a hand-over to another service.
    fn change_roles(&mut self) {
        let Some(generator) = self.generator else {
            return;
        };
        let journal = &self.shared.journal;
        self.service.stream.witness.stops(journal.last_number());
        journal.roles(|roles| roles.given_back(self.pid, generator));
        let freed = self.service.subscribe(generator, 0, 0).is_ok();
        let pid = self.pid;
        journal.roles(|roles| {
            if freed {
                roles.let_go(pid, generator);
            }
        });
        // Others may have it meanwhile.
        rest(u64::from(self.steps % 3) * 5 * MILLISECOND);
        if freed {
            let observe = if self.life.observes {
                BLOB | QUESTION
            } else {
                0
            };
            self.take_role(self.generator, observe, QUESTION);
        }
    }

    fn dies_now(&self) -> bool {
        self.life.death == Death::Closes && self.life.dies_after.is_some_and(|n| self.steps >= n)
    }

    fn run(&mut self) {
        loop {
            self.steps += 1;
            if self.dies_now() {
                return;
            }
            if self.life.hangs_after.is_some_and(|n| self.steps >= n) {
                self.shared.wait_for_the_end();
                return;
            }
            if self.shared.ends() {
                return self.end();
            }
            if self.life.commands != 0 && self.steps.is_multiple_of(self.life.commands) {
                self.command();
            }
            match self.service.receive(self.next_moment()) {
                Received::Request(request) => {
                    self.idle = 0;
                    self.answer(request);
                }
                Received::Records => self.idle = 0,
                Received::Nothing => {
                    self.idle += 1;
                    self.check_told();
                }
                Received::Ended => return,
            }
            self.answer_late_ones();
        }
    }

    /// Nothing comes: so what was offered has come, or was told to be lost, although nobody asked.
    fn check_told(&self) {
        let shared = self.shared;
        // Who slept before has waited for long enough by now.
        let has_waited = self.service.stream.by_rings && self.idle > 1 && self.later.is_empty();
        let reads_at_once = (self.life.sleeps == 0 || has_waited) && !self.service.stream.spoilt;
        let is_certain = shared.journal.is_strict() && shared.orderly && shared.comes_at_once;
        let Some(generator) = self.generator.and_then(|it| u16::try_from(it).ok()) else {
            return;
        };
        if is_certain && reads_at_once && self.life.dies_after.is_none() {
            let then = clock::unbiased_interrupt_time() - LIMIT;
            let witness = &self.service.stream.witness;
            assert!(
                witness.has_all_until(generator, &shared.journal, then),
                "something was offered and has neither come nor been told of: {witness:?}"
            );
        }
    }

    /// Until when nothing has to be done but reading.
    fn next_moment(&self) -> Deadline {
        // Longer and longer: nothing is to be seen in a long silence. Whoever reads rings sleeps until
        // he is woken: that he is not must show.
        let step = match self.life.rings {
            Some(rings) if rings.scribbles.is_none() => 200,
            _ => 10,
        };
        let soon = Deadline::after((step * MILLISECOND) << self.idle.saturating_sub(20).min(7));
        self.later
            .iter()
            .map(|(due, _)| *due)
            .fold(soon, Deadline::min)
    }

    fn answer_late_ones(&mut self) {
        let due = self
            .later
            .extract_if(.., |(due, _)| due.remaining().is_zero());
        let due: Vec<(Deadline, Request)> = due.collect();
        due.iter().for_each(|(_, request)| self.reply(request));
    }

    fn answer(&mut self, request: Request) {
        if self.is_question(&request)
            && let Some(question) = u64::read(&request.payload)
        {
            self.shared.journal.read(question, self.pid);
        } else if let Ok(create) = ProcessCreate::decode(&request.payload) {
            assert!(
                create.creating_pid != Pid(self.pid),
                "a service was asked about what it does itself"
            );
        }
        match self.life.habit {
            Habit::Prompt => self.reply(&request),
            Habit::Late(ms) => {
                let due = Deadline::after(u64::from(ms) * MILLISECOND);
                self.later.push((due, request));
            }
            Habit::Twice => {
                self.reply(&request);
                self.reply(&request);
            }
            Habit::Never => {}
            Habit::Garbage(kind) => {
                let status = self.service.reply_garbage(&request, kind);
                note(&self.shared.journal, &request, status);
            }
        }
    }

    fn reply(&self, request: &Request) {
        let status = match Question::decode(&request.payload) {
            Ok(Question { number }) if self.is_question(request) => {
                let mut payload = [0; 8];
                let reply = Reply {
                    number: answer_to(number),
                };
                reply.encode(&mut payload).expect("a reply of its own size");
                self.service.reply(request, &payload)
            }
            // A process that wants to run: it may not if it is bad.
            _ => {
                let deny = u32::from(self.shared.is_bad(request));
                self.service.reply(request, &deny.to_le_bytes())
            }
        };
        note(&self.shared.journal, request, status);
    }

    fn is_question(&self, request: &Request) -> bool {
        request.header.message == 2
    }

    fn command(&mut self) {
        // Each command in its turn.
        match self.steps / self.life.commands % 5 {
            0 => {
                let _ = causes::ledger(&self.service, self.generator, self.shared);
            }
            1 => {
                let _ = self.service.info();
            }
            2 => self.service.send_garbage(self.steps),
            3 => self.change_roles(),
            _ => {
                let data = self.steps.to_le_bytes();
                let echo = Echo { data: &data };
                let mut payload = vec![0; echo.encoded_len()];
                echo.encode(&mut payload).expect("its own length");
                let Some(generator) = self.generator else {
                    return;
                };
                let echoed = self.service.command(generator, 3, &payload);
                assert!(
                    echoed.is_ok() || !self.stays(),
                    "a command was refused: {echoed:?}"
                );
                if let Ok(echoed) = echoed {
                    assert_eq!(echoed, payload, "a command's result is its own");
                }
            }
        }
    }

    /// The service dies, and what it has read is compared with the truth.
    fn finish(mut self, killer: Option<sched::Thread>) {
        let journal = &self.shared.journal;
        journal.roles(|roles| roles.closing(self.pid));
        let begin = clock::unbiased_interrupt_time();
        self.service.close();
        self.shared.took("the end of a connection", begin);
        if let Some(killer) = killer {
            killer.join();
        }
        journal.roles(|roles| roles.ended(self.pid));
        self.service.read_the_rest();
        let generator = self.generator.and_then(|it| u16::try_from(it).ok());
        let stream = &self.service.stream;
        if let Some(monitor) = self.monitor.and_then(|it| u16::try_from(it).ok()) {
            // A start begins with the process's id and its parent's.
            let starts = stream.witness.numbers(monitor);
            starts.for_each(|start| journal.started(start & u64::from(u32::MAX)));
        }
        let Some(generator) = generator.filter(|_| !stream.spoilt) else {
            journal.died(0, 0);
            return;
        };
        journal.died(stream.got(generator, 1), stream.told(generator, 1));
        let reads_at_once = journal.is_strict() && self.life.sleeps == 0;
        let limit = reads_at_once.then_some(LIMIT);
        stream.witness.check(generator, journal, limit);
        for (provider, (question, outcome, reply)) in &stream.outcomes {
            if *provider == generator {
                journal.said(*question, *outcome, *reply);
            }
        }
    }

    /// The drivers are still there: what was read is what the books say.
    fn end(&mut self) {
        self.later.clear();
        let reads = !self.service.stream.spoilt;
        if self.shared.orderly && self.life.dies_after.is_none() && reads {
            laws::settle(&mut self.service, self.generator, self.shared);
        }
    }
}

/// Writes a taken reply into the journal.
fn note(journal: &Journal, request: &Request, status: i32) {
    if status == 0 && request.header.message == 2 {
        let number = u64::read(&request.payload).expect("a question");
        journal.reply_taken(number);
    }
}
