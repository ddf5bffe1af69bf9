// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine on which calls fail, and what must hold nevertheless.
//!
//! Every step takes a failure as it comes, and does it again, as an operator or a service would.
//! With one fault in the whole life the status of the failure must be that of the fault, and the
//! second attempt must succeed; after many faults only the laws are left.

use crate::machine::Machine;
use crate::service::{PATIENCE, Record, Request, Service};
use crate::stacks;
use fltport_abi::command::{LedgerRow, RequestRow, flags, own};
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::{Hello, StreamHello, rights};
use fltport_abi::schema::Provider;
use fltport_nt::bindings::STATUS_INSUFFICIENT_RESOURCES;
use nt_host::faults::FaultPlan;
use nt_host::{Config, DriverImage, ImageLoaded, Kernel, Unload};
use std::io::Write;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing in a life takes longer, whatever fails: then somebody waits for ever.
const HANG: Duration = Duration::from_secs(60);

/// How much fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luck {
    /// One call at most.
    OneFault,
    /// Any number.
    ManyFaults,
}

/// One life of a machine.
pub(crate) struct Life {
    pub(crate) machine: Machine,
    faults: FaultPlan,
    luck: Luck,
}

impl Life {
    /// Lives on a kernel with this configuration, from its boot to its end; afterwards nothing may
    /// be left and no rule broken. A life that hangs ends the process, with what had failed.
    pub(crate) fn run(config: Config, luck: Luck, live: fn(&Life)) {
        let faults = config.faults.clone();
        let (ended, end) = channel::<()>();
        // Not in the thread: it may be another kernel's turn.
        let kernel = Kernel::boot(config);
        let life = Life {
            faults: faults.clone(),
            machine: Machine {
                kernel: kernel.clone(),
            },
            luck,
        };
        let living = thread::spawn(move || {
            let _ended = ended;
            live(&life);
            let left = life.machine.kernel.pool_usage();
            assert!(left.is_empty(), "left behind was {left:?}");
            life.machine.check();
        });
        if !has_ended(&end) {
            explain_hang(&faults, &kernel);
            stacks::print();
            std::process::abort();
        }
        // The kernel of a life that panicked is shut down by the unwinding.
        living.join().unwrap_or_else(|cause| resume_unwind(cause));
    }

    /// Whether something has failed by now.
    pub(crate) fn is_marred(&self) -> bool {
        !self.faults.injected().is_empty()
    }

    /// Whether it can be said what must come of this life's fault.
    pub(crate) fn is_strict(&self) -> bool {
        self.luck == Luck::OneFault
    }

    /// A failure must be that of a fault.
    fn excuse(&self, what: &str, status: i32) {
        let injected = self.faults.injected();
        let cause = injected.first();
        let cause = cause.unwrap_or_else(|| panic!("{what}: {status:#010x} without a fault"));
        if self.is_strict() {
            let expected = match cause.function {
                // That NT's table of routines is full is no fault of the service's parameters.
                "PsSetCreateProcessNotifyRoutine" => None,
                _ => cause.failure.status,
            };
            let expected = expected.unwrap_or(STATUS_INSUFFICIENT_RESOURCES);
            assert_eq!(
                status, expected,
                "{what}: the error is not that of the fault"
            );
        }
    }

    /// Does something that may fail, and after a failure once more.
    pub(crate) fn twice<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> Result<T, i32>,
    ) -> Option<T> {
        match attempt() {
            Ok(value) => return Some(value),
            Err(status) => self.excuse(what, status),
        }
        let again = attempt();
        if let Err(status) = again {
            assert!(
                !self.is_strict(),
                "{what}: {status:#010x} the second time, too"
            );
        }
        again.ok()
    }

    /// Loads a driver; whether it is loaded then.
    pub(crate) fn load(&self, image: &DriverImage) -> bool {
        let load = || self.machine.kernel.load(image);
        self.twice(image.name, load).is_some()
    }

    /// Stops a driver, which nothing may prevent. One that could not be loaded is not there.
    pub(crate) fn stop(&self, image: &DriverImage, loaded: bool) {
        let stopped = self.machine.kernel.unload(image.name, Unload::Stop);
        assert_eq!(stopped.is_ok(), loaded, "{}: {stopped:?}", image.name);
    }

    pub(crate) fn connect(&self, name: &str, rights: u32) -> Option<Service> {
        let hello = Hello::new(name, rights, 0).to_bytes();
        self.twice("connect", || Service::connect_with(&self.machine, &hello))
    }

    /// Connects with a stream. A first attempt that failed may have had it.
    pub(crate) fn connect_stream(&self, stream: &StreamHello) -> Option<Service> {
        let hello = Hello::new("kept", rights::ALL, 0);
        let context = stream.to_bytes(&hello);
        let mut service = self.twice("connect with a stream", || {
            Service::connect_with(&self.machine, &context)
        })?;
        let row = self.twice("stream", || service.try_stream())?;
        service.goes_on_behind(row.acknowledged);
        Some(service)
    }

    /// A command and its result.
    pub(crate) fn command(
        &self,
        service: &Service,
        (provider, command): (u32, u16),
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let send = || service.command(provider, command, payload);
        self.twice("a command", send)
    }

    pub(crate) fn subscribe(
        &self,
        service: &Service,
        provider: u32,
        observe: u64,
        decide: u64,
    ) -> Option<()> {
        let subscribe = || service.subscribe(provider, observe, decide);
        self.twice("subscribe", subscribe)
    }

    /// Subscribes with filters, and mutes the service itself.
    pub(crate) fn subscribe_filtered(
        &self,
        service: &Service,
        (provider, schema): (u32, &Provider),
        observe: u64,
        filters: &[u8],
    ) -> Option<()> {
        let mute = flags::MUTE_SELF;
        let subscribe = || service.subscribe_filtered(provider, schema, observe, filters, mute);
        self.twice("subscribe with filters", subscribe)
    }

    /// The number of a provider, if it is registered.
    pub(crate) fn provider(&self, service: &Service, name: &str) -> Option<u32> {
        let list = || service.command(0, own::PROVIDERS, &[0; 8]);
        self.twice("providers", list)?;
        service.try_provider(name)
    }

    /// Runs something that a decider may be asked about, and lets `answer` answer.
    pub(crate) fn decided<T: Send>(
        &self,
        service: &mut Service,
        ask: impl FnOnce() -> T + Send,
        mut answer: impl FnMut(&Service, &Request),
    ) -> T {
        thread::scope(|scope| {
            let asking = scope.spawn(ask);
            while !asking.is_finished() {
                match service.take_request() {
                    Some(request) => answer(service, &request),
                    None => thread::yield_now(),
                }
            }
            asking.join().unwrap_or_else(|cause| resume_unwind(cause))
        })
    }

    /// Everything else that NT tells of a process.
    pub(crate) fn busy(&self, pid: u64) {
        let kernel = &self.machine.kernel;
        kernel.thread_created(pid, pid + 1);
        kernel.image_loaded(&ImageLoaded {
            pid,
            name: Some("/lib/a.so".encode_utf16().collect()),
            base: 0x7000_0000,
            size: 0x3000,
            system_mode: false,
        });
        kernel.thread_exited(pid, pid + 1);
    }

    /// How many notifications of a type came to a service, and how many it was told to have lost.
    /// With one fault at most they are waited for: `all` together, and the books at rest.
    pub(crate) fn told(
        &self,
        service: &mut Service,
        (provider, message): (u32, u16),
        all: u64,
    ) -> (u64, u64) {
        let mut records = service.drain_available();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (came, lost) = count(&records, provider, message);
            if !self.is_strict() || (came + lost >= all && self.has_all(service)) {
                return (came, lost);
            }
            assert!(
                Instant::now() < deadline,
                "{came} came and {lost} were lost, of {all}"
            );
            service.receive(Duration::from_millis(1));
            records.extend(service.drain_available());
        }
    }

    fn has_all(&self, service: &Service) -> bool {
        // In this order: what the ledger calls delivered has its number by the time of the info.
        let rows = self.ledger(service);
        let info = self.twice("info", || service.try_info());
        let (Some(rows), Some(info)) = (rows, info) else {
            return false;
        };
        let mine = |row: &&LedgerRow| row.connection == info.connection;
        rows.iter().filter(mine).all(|row| row.in_flight == 0) && service.has_all(&info, &rows)
    }

    /// The ledger, balanced.
    pub(crate) fn ledger(&self, service: &Service) -> Option<Vec<LedgerRow>> {
        self.twice("the ledger", || service.try_ledger())
    }

    /// Every request that was counted has one outcome.
    pub(crate) fn check_requests(&self, service: &Service) {
        let rows = || service.try_rows::<RequestRow>(own::REQUESTS);
        for row in self.twice("requests", rows).unwrap_or_default() {
            let outcomes: u64 = row.outcomes.iter().sum();
            assert_eq!(row.asked, outcomes, "{row:?}");
        }
    }
}

/// Waits for the end of a life; false if it does not come. A moment in which the machine stood
/// still counts as a second.
fn has_ended(end: &Receiver<()>) -> bool {
    let second = Duration::from_secs(1);
    let mut seconds = 0..HANG.as_secs();
    seconds.any(|_| end.recv_timeout(second) != Err(RecvTimeoutError::Timeout))
}

/// Not by a macro, whose output a test runner that is aborted keeps to itself.
fn explain_hang(faults: &FaultPlan, kernel: &Kernel) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(
        stderr,
        "somebody waits for ever, by {faults:?}; after these faults:"
    );
    for fault in faults.injected() {
        let _ = writeln!(stderr, "{fault}");
    }
    for report in kernel.reports() {
        let _ = writeln!(stderr, "{report}");
    }
}

/// How many notifications of a type came, and how many losses were told.
fn count(records: &[Record], provider: u32, message: u16) -> (u64, u64) {
    let came = records.iter().filter(|r| {
        r.kind == RecordKind::Notification
            && u32::from(r.header.provider) == provider
            && r.header.message == message
    });
    let entries = records.iter().flat_map(|r| &r.gap);
    let lost = entries
        .filter(|entry| u32::from(entry.provider) == provider && entry.message == message)
        .map(|entry| entry.count);
    (came.count() as u64, lost.sum())
}
