// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one seed's run consists of, and what its threads do to it.
//!
//! All of it lives on one thread of the host system, so nothing here needs a lock. A thread of the
//! simulation gives up its turn in [`switch`] only, which puts its kernel context back when it goes
//! on.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::ops::Range;
use std::panic;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::{Poll, Waker};

use fastrand::Rng;
use shuttle::Runner;
use shuttle::scheduler::RoundRobinScheduler;

use super::time::{Due, Time};
use super::{Call, Failure, Summary};
use crate::clock::Deadline;
use crate::kernel::State;
use crate::sched::{Blocked, Waiter};
use crate::stack::bounds::Bounds;
use crate::thread::{self, Context};

/// How many calls a failure shows.
const LAST_CALLS: usize = 24;

/// A multiplier that mixes well (FxHash's).
const MIX: u64 = 0x517C_C1B7_2722_0A95;

/// The run of a series of seeds, one after another.
pub(super) struct World {
    seeds: RefCell<Range<u64>>,
    seed: Cell<u64>,
    summary: Cell<Summary>,
    time: RefCell<Time>,
    random: RefCell<Rng>,
    /// Of 256 calls of the kernel, how many let another thread go on.
    preemption: Cell<u8>,
    /// Whether the clock moves only when nobody can run.
    punctual: Cell<bool>,
    /// The kernel that the scenario booted.
    kernel: RefCell<Option<Arc<State>>>,
    /// The threads that have not ended, by number.
    threads: RefCell<BTreeMap<u64, ThreadState>>,
    next_thread: Cell<u64>,
    /// Whether the scenario has returned.
    returned: Cell<bool>,
    /// Whether nothing is left that could run.
    over: Cell<bool>,
    /// Whether the clock got its turn because nobody else could run.
    idle: Cell<bool>,
    last_calls: RefCell<VecDeque<(u64, &'static str)>>,
    /// What the first panic of the seed said that is not known to have been caught.
    panic: RefCell<Option<String>>,
    /// Whoever wants to hear of each call.
    listener: RefCell<Option<Listener>>,
}

/// Hears of calls.
pub(super) type Listener = Box<dyn FnMut(&Call<'_>)>;

struct ThreadState {
    name: String,
    last_call: &'static str,
}

thread_local! {
    static WORLD: Cell<*const World> = const { Cell::new(std::ptr::null()) };
    /// The number of the simulated thread that runs.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// The world of the calling thread.
fn world<'a>() -> Option<&'a World> {
    // SAFETY: null, or the world that `install` put there, which stays alive until `uninstall` has
    // taken it out again. No reference is kept by code that runs beyond that: `explore` calls
    // `uninstall` when the last thread of the simulation has had its last turn.
    unsafe { WORLD.get().as_ref() }
}

fn expect_world<'a>() -> &'a World {
    world().expect("nt-host: only called from inside a simulation")
}

/// Whether the calling thread is one of a simulation.
pub(crate) fn is_simulated() -> bool {
    !WORLD.get().is_null()
}

/// The virtual time since boot in 100 ns, in a simulation.
pub(crate) fn now() -> Option<u64> {
    world().map(|world| world.time.borrow().now())
}

/// The number of the calling thread, in a simulation.
pub(crate) fn thread_id() -> Option<u64> {
    is_simulated().then(|| THREAD.get())
}

/// The kernel that the simulation runs.
pub(crate) fn current_kernel() -> Option<Arc<State>> {
    world().and_then(|world| world.kernel.borrow().clone())
}

/// Whether the clock of this seed moves only when nobody can run.
pub(super) fn is_punctual() -> bool {
    world().is_some_and(|world| world.punctual.get())
}

/// Makes a kernel the one of this simulation, or with none forgets it; false outside of one.
///
/// # Panics
/// When there is a kernel already: drivers have one set of statics.
pub(crate) fn boot(kernel: Option<Arc<State>>) -> bool {
    let Some(world) = world() else {
        return false;
    };
    let is_second = kernel.is_some() && world.kernel.borrow().is_some();
    assert!(
        !is_second,
        "nt-host: this simulation has a kernel; call `Kernel::shutdown` before another one is booted"
    );
    *world.kernel.borrow_mut() = kernel;
    true
}

impl World {
    pub(super) fn install(seeds: Range<u64>, listener: Option<Listener>) -> Rc<World> {
        let world = Rc::new(World {
            seeds: RefCell::new(seeds),
            seed: Cell::new(0),
            summary: Cell::default(),
            time: RefCell::new(Time::new()),
            random: RefCell::new(Rng::with_seed(0)),
            preemption: Cell::new(0),
            punctual: Cell::new(false),
            kernel: RefCell::new(None),
            threads: RefCell::default(),
            next_thread: Cell::new(0),
            returned: Cell::new(false),
            over: Cell::new(false),
            idle: Cell::new(false),
            last_calls: RefCell::default(),
            panic: RefCell::default(),
            listener: RefCell::new(listener),
        });
        WORLD.set(Rc::as_ptr(&world));
        world
    }

    pub(super) fn uninstall(&self) {
        WORLD.set(std::ptr::null());
        thread::set_context(None);
    }

    pub(super) fn next_seed(&self) -> Option<u64> {
        self.close_books();
        self.seeds.borrow_mut().next()
    }

    /// Starts with a seed.
    pub(super) fn begin(&self, seed: u64, random: Rng, preemption: u8, punctual: bool) {
        self.seed.set(seed);
        *self.time.borrow_mut() = Time::new();
        *self.random.borrow_mut() = random;
        self.preemption.set(preemption);
        self.punctual.set(punctual);
        *self.kernel.borrow_mut() = None;
        self.threads.borrow_mut().clear();
        self.next_thread.set(0);
        self.returned.set(false);
        self.over.set(false);
        self.last_calls.borrow_mut().clear();
        self.panic.take();
        self.count(|summary| {
            summary.seeds += 1;
            mix(&mut summary.trace, seed);
        });
    }

    /// Adds the time of the seed that ended to the sum.
    fn close_books(&self) {
        let passed = self.time.borrow().passed();
        self.count(|summary| summary.time += passed);
        *self.time.borrow_mut() = Time::new();
    }

    /// A thread gets its turn; `idle` if it is the clock and nobody else could run.
    pub(super) fn turn(&self, thread: usize, idle: bool) {
        self.idle.set(idle);
        self.count(|summary| {
            summary.turns += 1;
            mix(&mut summary.trace, thread as u64);
        });
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    pub(super) fn summary(&self) -> Summary {
        self.summary.get()
    }

    pub(super) fn failure(&self, payload: &(dyn Any + Send)) -> Failure {
        // A thread's panic is not always what comes out at the end: the scheduler stops a seed
        // while the thread still unwinds, with a panic of its own.
        let message = self.panic.take().unwrap_or_else(|| text_of(payload));
        Failure {
            seed: self.seed.get(),
            message,
            last_calls: self.last_calls.borrow().iter().copied().collect(),
            threads: self.waiting(),
        }
    }

    fn count(&self, f: impl FnOnce(&mut Summary)) {
        let mut summary = self.summary.get();
        f(&mut summary);
        self.summary.set(summary);
    }

    /// Writes a call down.
    fn note(&self, thread: u64, function: &'static str) {
        let mut threads = self.threads.borrow_mut();
        let name = threads.get_mut(&thread).map(|state| {
            state.last_call = function;
            &*state.name
        });
        if let Some(listener) = &mut *self.listener.borrow_mut() {
            listener(&Call {
                time: self.time.borrow().passed(),
                thread,
                name: name.unwrap_or_default(),
                function,
            });
        }
        let mut last = self.last_calls.borrow_mut();
        if last.len() == LAST_CALLS {
            last.pop_front();
        }
        last.push_back((thread, function));
    }

    /// Who has not ended.
    fn waiting(&self) -> String {
        let threads = self.threads.borrow();
        let lines = threads.iter().map(|(number, thread)| {
            let ThreadState { name, last_call } = thread;
            format!("\n    thread {number} ({name}), whose last call was {last_call}")
        });
        lines.collect()
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

/// Lets the panics of simulated threads be kept for the failure instead of being printed; those of
/// other threads go where they went before.
pub(super) fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = panic::take_hook();
        // Shuttle sets a hook of its own in its first run, which prints for every thread of the
        // process. It does so here, and its hook is taken out.
        Runner::new(RoundRobinScheduler::new(1), super::config()).run(|| {});
        drop(panic::take_hook());
        panic::set_hook(Box::new(move |info| match world() {
            Some(world) => {
                let place = info
                    .location()
                    .map_or_else(String::new, |it| format!(", at {it}"));
                let text = text_of(info.payload()) + &place;
                // What a destructor says while the first panic unwinds is of no interest.
                world.panic.borrow_mut().get_or_insert(text);
            }
            None => former(info),
        }));
    });
}

fn mix(hash: &mut u64, value: u64) {
    *hash = (hash.rotate_left(5) ^ value).wrapping_mul(MIX);
}

/// Lets other threads run with `f`, and puts the caller's own context back afterwards.
fn switch<R>(f: impl FnOnce() -> R) -> R {
    let (context, number) = (thread::context(), THREAD.get());
    let result = f();
    thread::set_context(context);
    THREAD.set(number);
    result
}

/// As [`sched::block`](crate::sched::block).
pub(crate) fn block(waiter: &Waiter, deadline: Option<Deadline>) -> Blocked {
    wait(waiter, deadline.map(|deadline| Limit::Seen(deadline.0)))
}

/// As [`sched::expect`](crate::sched::expect).
pub(crate) fn expect(waiter: &Waiter, limit: u64) -> Blocked {
    let now = expect_world().time.borrow().idle_now();
    wait(waiter, Some(Limit::Idle(now.saturating_add(limit))))
}

/// When a wait ends, and by which clock.
#[derive(Clone, Copy)]
enum Limit {
    Seen(u64),
    Idle(u64),
}

impl Limit {
    fn is_over(self, time: &Time) -> bool {
        match self {
            Limit::Seen(at) => time.now() >= at,
            Limit::Idle(at) => time.idle_now() >= at,
        }
    }

    fn arm(self, time: &mut Time, waker: Waker) -> Due {
        match self {
            Limit::Seen(at) => time.arm(at, waker),
            Limit::Idle(at) => time.arm_idle(at, waker),
        }
    }
}

fn wait(waiter: &Waiter, limit: Option<Limit>) -> Blocked {
    let world = expect_world();
    let mut armed: Option<Due> = None;
    let blocked = switch(|| {
        shuttle::future::block_on(poll_fn(|context| {
            if waiter.take_or_enlist(context.waker()) {
                return Poll::Ready(Blocked::Wakened);
            }
            let Some(limit) = limit else {
                return Poll::Pending;
            };
            let mut time = world.time.borrow_mut();
            if limit.is_over(&time) {
                return Poll::Ready(Blocked::TimedOut);
            }
            if armed.is_none() {
                armed = Some(limit.arm(&mut time, context.waker().clone()));
            }
            Poll::Pending
        }))
    });
    if let Some(due) = armed {
        world.time.borrow_mut().disarm(due);
    }
    blocked
}

/// As [`sched::pause`](crate::sched::pause).
pub(crate) fn pause() {
    expect_world().time.borrow_mut().tick(1);
    switch(shuttle::thread::yield_now);
}

/// As [`sched::point`](crate::sched::point).
pub(crate) fn point(what: &'static str) {
    let Some(world) = world() else { return };
    if !std::thread::panicking() {
        // Whoever panicked before has caught it: a panic that nobody catches ends the seed.
        world.panic.take();
    }
    let number = THREAD.get();
    world.count(|summary| {
        summary.calls += 1;
        mix(&mut summary.trace, number);
        for part in what.as_bytes().chunks(8) {
            let word = part
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            mix(&mut summary.trace, word);
        }
    });
    world.note(number, what);
    // A call takes some time, so that no two moments are the same.
    world.time.borrow_mut().tick(1);
    if world.random.borrow_mut().u8(..) < world.preemption.get() {
        switch(shuttle::thread::yield_now);
    }
}

/// As [`sched::spawn`](crate::sched::spawn).
pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) {
    let world = expect_world();
    let number = enlist(world, name);
    switch(|| drop(shuttle::thread::spawn(move || live(number, body))));
}

fn enlist(world: &World, name: String) -> u64 {
    // Thread ids are multiples of four on NT.
    let number = world.next_thread.get() + 4;
    world.next_thread.set(number);
    let state = ThreadState {
        name,
        last_call: "none",
    };
    world.threads.borrow_mut().insert(number, state);
    number
}

/// A thread's life, with a kernel context of its own.
fn live(number: u64, body: impl FnOnce()) {
    THREAD.set(number);
    enter_context(body);
    expect_world().threads.borrow_mut().remove(&number);
}

/// Runs `body` with a kernel context of its own.
fn enter_context(body: impl FnOnce()) {
    // Its end is that of the thread object, if it has one.
    let context = Box::new(Context::default());
    let bounds = Bounds::below(&context, super::STACK);
    context.stack.set(Some(bounds));
    // Dropped first, also when `body` panics: nobody finds a context that is not there any more.
    let _left = LeftContext;
    thread::set_context(Some(&raw const *context));
    body();
}

/// Takes the context out when it is dropped.
struct LeftContext;

impl Drop for LeftContext {
    fn drop(&mut self) {
        thread::set_context(None);
    }
}

/// The first thread of a seed: starts the clock, runs the scenario.
pub(super) fn run_scenario(scenario: &dyn Fn(u64)) {
    let world = expect_world();
    let number = enlist(world, "scenario".to_owned());
    THREAD.set(number);
    let clock = shuttle::thread::spawn(keep_time);
    THREAD.set(number);
    let seed = world.seed.get();
    live(number, || scenario(seed));
    world.returned.set(true);
    drop(clock);
}

/// The clock's thread: it gets a turn when nobody else can run, or as the seed says.
fn keep_time() {
    let world = expect_world();
    loop {
        if world.returned.get() && world.threads.borrow().is_empty() {
            return;
        }
        if !world.idle.get() {
            world.time.borrow_mut().be_late();
        } else if !world.time.borrow_mut().jump() {
            if world.returned.get() {
                // What is left has been given up on purpose: threads that never return.
                world.over.set(true);
            } else {
                panic!("nothing can run any more: every thread waits for another one");
            }
        }
        shuttle::thread::yield_now();
    }
}
