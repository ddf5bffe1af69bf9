// SPDX-License-Identifier: MIT OR Apache-2.0
//! One seed's run: the plan put into threads, and what must be true at its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fltport_abi::account::Outcome;
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::ProcessCreate;
use fltport_nt::bindings::STATUS_OBJECT_NAME_NOT_FOUND;
use nt_host::clock;
use nt_host::faults::FaultPlan;
use nt_host::sched::{self, Thread, Waiter};
use nt_host::{
    Config, DebugPrint, DriverImage, FilterManagerStart, Kernel, ProcessCreated, Unload,
};
use parking_lot::Mutex;

use crate::causes;
use crate::generator::{self, Work};
use crate::journal::Journal;
use crate::laws;
use crate::plan::{Act, Image, Life, Operation, Plan, Size, Story};
use crate::roles::Roles;
use crate::seat::{self, rest};
use crate::service::Service;
use crate::stream::Request;

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

const MONITOR: DriverImage = DriverImage {
    name: process_monitor::IMAGE_NAME,
    entry: process_monitor::driver_entry,
    force_integrity: true,
};

impl Image {
    fn driver(self) -> &'static DriverImage {
        match self {
            Image::Fltport => &FLTPORT,
            Image::Monitor => &MONITOR,
            Image::Generator => &generator::IMAGE,
        }
    }
}

/// What the threads of a run share.
pub struct Shared {
    /// The machine.
    pub kernel: Kernel,
    /// The truth.
    pub journal: Journal,
    /// Services read to the end.
    pub orderly: bool,
    /// There is one service at a time, and it observes: whatever was lost it must be told of, or
    /// one of its former lives.
    pub tells_all: bool,
    /// Nobody spoils his own rings, and so what he can read.
    pub all_read: bool,
    /// What is offered comes to the common driver at once.
    pub comes_at_once: bool,
    /// A service limits its rate.
    pub limits_rates: bool,
    /// The client driver declares a backlog.
    pub keeps: bool,
    /// Calls of the kernel fail.
    pub unlucky: bool,
    bad: Mutex<BTreeSet<u64>>,
    end: Mutex<(bool, Vec<Arc<Waiter>>)>,
}

impl Shared {
    /// Something that nobody has a reason to wait for has come to its end.
    ///
    /// # Panics
    /// It took long.
    pub fn took(&self, what: &str, begin: u64) {
        let took = clock::unbiased_interrupt_time() - begin;
        let limit = 50 * crate::plan::MILLISECOND;
        assert!(
            !self.journal.is_strict() || took <= limit,
            "{what} took {took} of 100 ns"
        );
    }

    /// Whether services are to come to their end.
    pub fn ends(&self) -> bool {
        self.end.lock().0
    }

    /// Waits until they are.
    pub fn wait_for_the_end(&self) {
        let waiter = Arc::new(Waiter::new());
        self.end.lock().1.push(waiter.clone());
        while !self.ends() {
            sched::block(&waiter, None);
        }
    }

    fn announce_the_end(&self) {
        let mut end = self.end.lock();
        end.0 = true;
        end.1.iter().for_each(|waiter| sched::wake(waiter));
    }

    /// Whether a request asks about a process that must not run.
    pub fn is_bad(&self, request: &Request) -> bool {
        let pid = ProcessCreate::decode(&request.payload).map(|it| it.pid);
        matches!(pid, Ok(Pid(pid)) if self.bad.lock().contains(&u64::from(pid)))
    }
}

/// Runs a seed of this size.
///
/// # Panics
/// A law is broken.
pub fn run(seed: u64, size: Size) {
    play(seed, &Plan::of(seed, size));
}

/// Runs a plan in the order that a seed decides.
///
/// # Panics
/// A law is broken.
pub fn play(seed: u64, plan: &Plan) {
    let shared = boot(seed, plan);
    if !shared.unlucky && nt_host::sim::is_punctual() {
        shared.journal.be_strict();
    }
    let loaded = load(&shared, plan);
    let services = start_services(&shared, plan);
    let processes = start_processes(&shared, plan);
    for operation in &plan.operations {
        operate(&shared, *operation);
    }
    processes.iter().for_each(Thread::join);
    if plan.orderly {
        if !shared.unlucky {
            audit(&shared, plan);
        }
        shared.announce_the_end();
        services.iter().for_each(Thread::join);
        unload_all(&shared);
    } else {
        unload_all(&shared);
        shared.announce_the_end();
        services.iter().for_each(Thread::join);
    }
    loaded.join();
    shared.journal.check(nt_host::sim::is_punctual());
    let shared = Arc::into_inner(shared).expect("all threads have ended");
    let left = shared.kernel.pool_usage();
    assert!(left.is_empty(), "left in the pool: {left:?}");
    let faults = shared.kernel.injected_faults().len();
    FAULTS.fetch_add(faults as u64, Ordering::Relaxed);
    shared.kernel.shutdown_clean();
}

/// How many calls of the kernel failed because a seed said so, in all runs of this process.
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// How many calls of the kernel failed on purpose so far.
#[must_use]
pub fn injected_faults() -> u64 {
    FAULTS.load(Ordering::Relaxed)
}

fn boot(seed: u64, plan: &Plan) -> Arc<Shared> {
    let late = plan.filter_manager_after > 0;
    let lives = || plan.seats.iter().flatten();
    let all_read = lives().all(|life| life.rings.is_none_or(|it| it.scribbles.is_none()));
    let kernel = Kernel::boot(Config {
        filter_manager: match late {
            true => FilterManagerStart::Late,
            false => FilterManagerStart::Ready,
        },
        debug_print: DebugPrint::Discard,
        processors: plan.processors,
        faults: FaultPlan::random(seed, plan.faults),
        ..Config::default()
    });
    Arc::new(Shared {
        kernel,
        journal: Journal::default(),
        orderly: plan.orderly,
        tells_all: plan.backlog != 0
            && plan.faults == 0
            && plan.seats.len() == 1
            && all_read
            && plan.seats[0].iter().all(|life| life.observes),
        all_read,
        comes_at_once: !late && !plan.client_first,
        limits_rates: lives().any(|life| life.rate.is_some()),
        keeps: plan.backlog != 0,
        unlucky: plan.faults != 0,
        bad: Mutex::default(),
        end: Mutex::default(),
    })
}

/// Loads the drivers; the thread that starts the Filter Manager, or one that has nothing to do.
fn load(shared: &Arc<Shared>, plan: &Plan) -> Thread {
    generator::set_work(Work {
        threads: plan.threads.clone(),
        backlog: plan.backlog,
        quota: plan.quota,
        policy: plan.policy,
        journal: shared.journal.clone(),
    });
    let (after, inner) = (plan.filter_manager_after, shared.clone());
    let starter = spawn("filter manager", move || {
        if after > 0 {
            rest(after);
            inner.kernel.filter_manager_ready();
        }
    });
    let order = match plan.client_first {
        true => [Image::Generator, Image::Fltport],
        false => [Image::Fltport, Image::Generator],
    };
    for image in order {
        start_driver(shared, image);
    }
    if !plan.processes.is_empty() {
        start_driver(shared, Image::Monitor);
    }
    starter
}

fn start_driver(shared: &Shared, image: Image) {
    let status = shared.kernel.load(image.driver());
    assert!(
        status.is_ok() || shared.unlucky,
        "{image:?} is not loaded: {status:?}"
    );
    if image == Image::Generator
        && status.is_err()
        && let Ok(auditor) = Service::connect(&shared.kernel, 9998, 0, 0)
    {
        let left = auditor.provider("generator");
        assert!(
            !matches!(left, Ok(Some(_))),
            "a driver that failed to load is still a provider"
        );
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Thread {
    sched::spawn(name.to_owned(), body).expect("a simulation always has room for a thread")
}

fn start_services(shared: &Arc<Shared>, plan: &Plan) -> Vec<Thread> {
    let seats = plan.seats.iter().enumerate();
    let start = seats.map(|(number, lives)| {
        let (shared, lives) = (shared.clone(), lives.clone());
        spawn("service", move || seat::live(&shared, number, &lives))
    });
    start.collect()
}

fn start_processes(shared: &Arc<Shared>, plan: &Plan) -> Vec<Thread> {
    let stories = plan.processes.iter().zip(2000_u64..);
    let start = stories.map(|(story, pid)| {
        let (shared, story) = (shared.clone(), *story);
        spawn("a process's creator", move || tell(&shared, pid, story))
    });
    start.collect()
}

fn tell(shared: &Shared, pid: u64, story: Story) {
    if story.bad {
        shared.bad.lock().insert(pid);
    }
    rest(story.after);
    let status = shared.kernel.process_created(&ProcessCreated {
        pid,
        parent_pid: 1000,
        creator_pid: story.creator,
        creator_tid: 1004,
        image: Some("/bin/simulated".encode_utf16().collect()),
        command_line: None,
        uid: Some(0),
    });
    assert!(
        status >= 0 || story.bad,
        "a good process was refused: {status:#x}"
    );
    if status < 0 {
        shared.journal.refused(pid);
    } else {
        rest(story.lives);
        shared.kernel.process_exited(pid, 0);
    }
}

fn operate(shared: &Shared, operation: Operation) {
    match operation {
        Operation::Rest(ticks) => rest(ticks),
        Operation::Reload(image, how) => {
            // A driver that is not loaded, or has no filter yet, cannot be unloaded so.
            if unload(shared, image, how).is_ok() {
                start_driver(shared, image);
            }
        }
    }
}

/// Unloads a driver; the common driver at once, whatever others do.
fn unload(shared: &Shared, image: Image, how: Unload) -> Result<(), i32> {
    if image == Image::Fltport {
        shared.journal.roles(Roles::unloading);
    }
    let begin = clock::unbiased_interrupt_time();
    let status = shared.kernel.unload(image.driver().name, how);
    if image == Image::Fltport {
        shared.took("the unload", begin);
        // It has taken back what was given while it began, too.
        shared.journal.roles(Roles::unloading);
    }
    status
}

fn unload_all(shared: &Shared) {
    for image in [Image::Monitor, Image::Generator, Image::Fltport] {
        let status = unload(shared, image, Unload::Stop);
        let is_not_loaded = status == Err(STATUS_OBJECT_NAME_NOT_FOUND)
            && (image == Image::Monitor || shared.unlucky);
        assert!(status.is_ok() || is_not_loaded, "{image:?}: {status:?}");
    }
}

/// When the driver has nothing to do any more, everything it offered is in the books.
fn audit(shared: &Arc<Shared>, plan: &Plan) {
    let expected: usize = plan
        .threads
        .iter()
        .flatten()
        .filter(|act| act.notifies())
        .count();
    let asks = plan.threads.iter().flatten();
    let asks = asks.filter(|act| matches!(act, Act::Ask { .. })).count() as u64;
    let mut pause = crate::plan::MILLISECOND;
    while shared.journal.notifications() < expected as u64
        || shared.journal.ends(Outcome::Answered).0 < asks
    {
        rest(pause);
        pause = (2 * pause).min(200 * crate::plan::MILLISECOND);
    }
    if plan.filter_manager_after > 0 || plan.client_first {
        // Staged notifications are handed over at a moment that nobody outside can see, but not
        // later than when nothing else has anything to do.
        sched::expect(&Waiter::new(), 1000 * crate::plan::MILLISECOND);
    }
    if plan.seats.iter().flatten().any(|life| life.rings.is_some()) {
        // Whoever reads the ledger has losses looked for. Services see first that nobody has to.
        rest(clock::SECOND);
    }
    let Ok(auditor) = Service::connect(&shared.kernel, 9999, 0, 0) else {
        return;
    };
    if let Ok(Some(provider)) = auditor.provider("generator") {
        // Of one seat one life at a time.
        let observe = |lives: &&Vec<Life>| lives.iter().any(|life| life.observes);
        let observers = plan.seats.iter().filter(observe).count();
        laws::the_dead_have_read(&auditor, provider, shared);
        laws::requests_agree(&auditor, provider, shared, !plan.client_first);
        laws::nothing_is_missing(&auditor, provider, expected as u64, observers as u64);
        let Ok(rows) = causes::ledger(&auditor, Some(provider), shared) else {
            return;
        };
        // What is too large is too large for the staging buffer first.
        if plan.filter_manager_after == 0 && !plan.client_first {
            let too_large = shared.journal.too_large();
            causes::the_too_large_are_counted(&rows, provider, too_large, observers as u64);
        }
    }
}
