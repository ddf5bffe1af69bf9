// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver with threads of its own, which do what the plan says until it is unloaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fltport_abi::account::Outcome;
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_abi::message::Message;
use fltport_client::{Answer, BacklogPolicy, CommandCaller, Handler, Options, Provider};
use fltport_nt::bindings::{
    DRIVER_OBJECT, KfRaiseIrql, NTSTATUS, STATUS_INVALID_DEVICE_REQUEST, UNICODE_STRING,
};
use fltport_nt::ex::{PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::ke::{Event, EventKind, Timeout};
use fltport_nt::linked::KeLowerIrql;
use fltport_nt::ps::SystemThread;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};
use nt_host::{DriverImage, clock};
use parking_lot::Mutex;

use crate::journal::Journal;
use crate::plan::Act;
use crate::seat::rest;

fltport_abi::messages! {
    /// The generator.
    provider PROVIDER = "generator";

    /// A number and some bytes.
    notification 1 "blob" Blob<'a> {
        /// Counted by the journal.
        number: u64,
        /// Anything.
        data: &'a [u8],
    }

    /// A question.
    request 2 "question" Question {
        /// Counted by the journal.
        number: u64,
    } -> /// Its answer.
    Reply {
        /// What the journal expects.
        number: u64,
    }

    /// Gives back what it is given.
    command 3 "echo" Echo<'a> {
        /// Anything.
        data: &'a [u8],
    } -> /// The same.
    Echoed<'a> {
        /// The same.
        data: &'a [u8],
    }
}

/// What the driver does from its next load on.
pub struct Work {
    /// For each of its threads.
    pub threads: Vec<Vec<Act>>,
    /// Bytes of backlog.
    pub backlog: u32,
    /// Bytes that it may have on the way to a service; zero for no limit.
    pub quota: u32,
    /// What the backlog keeps.
    pub policy: BacklogPolicy,
    /// Where the truth is written down.
    pub journal: Journal,
}

const TAG: Tag = Tag::new(b"Gene");

static WORK: Mutex<Option<Arc<Work>>> = Mutex::new(None);
/// How many command handlers run.
static INSIDE: AtomicU32 = AtomicU32::new(0);

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

struct Loaded {
    // Joined first: they use the rest.
    threads: Vec<SystemThread>,
    common: PoolArc<Common>,
    journal: Journal,
}

struct Common {
    provider: Provider<Echoes>,
    stop: Event,
}

struct Task {
    common: PoolArc<Common>,
    acts: Vec<Act>,
    journal: Journal,
    number: u32,
}

struct Echoes;

impl Handler for Echoes {
    fn command(
        &self,
        _: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let room = out.get_mut(..payload.len());
        let room = room.filter(|_| message == 3);
        let room = room.ok_or(NtError(STATUS_INVALID_DEVICE_REQUEST))?;
        room.copy_from_slice(payload);
        // Takes a moment, in which others go on.
        INSIDE.fetch_add(1, Ordering::SeqCst);
        rest(30_000);
        INSIDE.fetch_sub(1, Ordering::SeqCst);
        Ok(payload.len())
    }
}

/// The driver's image.
pub const IMAGE: DriverImage = DriverImage {
    name: "generator",
    entry,
    force_integrity: false,
};

/// Says what the driver does once it is loaded.
pub fn set_work(work: Work) {
    *WORK.lock() = Some(Arc::new(work));
}

unsafe extern "system" fn entry(driver: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    driver.set_unload(unload);
    to_status(load(driver))
}

fn load(driver: DriverObject) -> Result<()> {
    let work = WORK.lock().clone();
    let work = work.ok_or(NtError(STATUS_INVALID_DEVICE_REQUEST))?;
    let options = Options::new(TAG)
        .backlog(work.backlog, work.policy)
        .quota(work.quota);
    let stop = Event::new(TAG, EventKind::Notification)?;
    let provider = Provider::register(driver, &PROVIDER, Echoes, options)?;
    let common = PoolArc::new(TAG, Common { provider, stop })?;
    let mut loaded = Loaded {
        threads: Vec::new(),
        common,
        journal: work.journal.clone(),
    };
    for acts in &work.threads {
        let task = Task {
            common: loaded.common.clone(),
            acts: acts.clone(),
            journal: work.journal.clone(),
            number: work.journal.thread(),
        };
        let thread = PoolArc::new(TAG, task).and_then(|it| SystemThread::spawn(TAG, it, Task::run));
        match thread {
            Ok(thread) => loaded.threads.push(thread),
            Err(error) => {
                end(loaded);
                return Err(error);
            }
        }
    }
    *LOADED.lock() = Some(loaded);
    Ok(())
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
    let loaded = LOADED.lock().take();
    if let Some(loaded) = loaded {
        end(loaded);
    }
}

fn end(loaded: Loaded) {
    loaded.common.stop.set();
    drop(loaded.threads);
    drop(loaded.common);
    loaded.journal.client_has_gone();
    if INSIDE.load(Ordering::SeqCst) != 0 {
        loaded
            .journal
            .broke("a command handler runs in a driver that is unloaded");
    }
}

impl Task {
    fn run(&self) {
        for act in &self.acts {
            if self.common.stop.is_set() {
                return;
            }
            match *act {
                Act::Notify { bytes, irql } => self.notify(bytes, irql),
                Act::Booked { bytes, after } => self.notify_booked(bytes, after),
                Act::Ask { deadline_ms } => self.ask(deadline_ms),
                Act::Rest(ms) => {
                    self.common.stop.wait(Timeout::from_millis(ms));
                }
            }
        }
    }

    fn notify(&self, bytes: usize, irql: u8) {
        let data = vec![7; bytes];
        let mut blob = Blob {
            number: 0,
            data: &data,
        };
        let too_large = blob.encoded_len() > MAX_PAYLOAD;
        blob.number = self.journal.offering(self.number, too_large);
        // SAFETY: raises, or stays; lowered below.
        let former = unsafe { KfRaiseIrql(irql) };
        let told = self.common.provider.notify(&blob);
        // SAFETY: to where it was.
        unsafe { KeLowerIrql(former) };
        assert!(told.is_ok(), "a notification is always accounted for");
        self.journal.notified(blob.number);
    }

    fn notify_booked(&self, bytes: usize, after: u32) {
        let data = vec![7; bytes];
        let mut blob = Blob {
            number: 0,
            data: &data,
        };
        let provider = &self.common.provider;
        let booked = provider.book::<Blob<'_>>(blob.encoded_len());
        if after != 0 {
            self.common.stop.wait(Timeout::from_millis(after));
        }
        blob.number = self.journal.offering(self.number, false);
        let told = match booked {
            Ok(room) => room.notify(&blob),
            Err(_) => provider.notify(&blob),
        };
        assert!(told.is_ok(), "a notification is always accounted for");
        self.journal.notified(blob.number);
    }

    fn ask(&self, deadline_ms: u32) {
        let number = self.journal.number();
        let asked = clock::unbiased_interrupt_time();
        let before = self.journal.asking(number);
        let question = Question { number };
        let answer = self
            .common
            .provider
            .ask(&question, deadline_ms, Reply { number: 0 });
        let (outcome, reply) = match answer {
            Ok(Answer { outcome, reply }) => (outcome, reply.number),
            Err(_) => (Outcome::Failed, 0),
        };
        self.journal.asked(before, number, outcome);
        self.journal
            .ended(number, deadline_ms, asked, outcome, reply);
    }
}
