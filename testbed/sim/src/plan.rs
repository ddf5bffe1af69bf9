// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a seed makes happen.

use fastrand::Rng;
use fltport_client::BacklogPolicy;
use nt_host::Unload;

/// Bytes of the smallest ring.
const SMALLEST: u32 = 64 * 1024;

/// 100 ns units in a millisecond.
pub const MILLISECOND: u64 = 10_000;

/// One seed's machine, drivers, services and accidents.
#[derive(Debug)]
pub struct Plan {
    /// The Filter Manager comes up so long (100 ns) after the first driver; zero if it is up.
    pub filter_manager_after: u64,
    /// The client driver is loaded before the common driver.
    pub client_first: bool,
    /// Bytes of backlog that the client driver declares.
    pub backlog: u32,
    /// Bytes that it may have on the way to a service; zero for no limit.
    pub quota: u32,
    /// What its backlog keeps.
    pub policy: BacklogPolicy,
    /// What each of its threads does.
    pub threads: Vec<Vec<Act>>,
    /// What processes do; empty without the process monitor.
    pub processes: Vec<Story>,
    /// The services, each with one life after another.
    pub seats: Vec<Vec<Life>>,
    /// What the operator does.
    pub operations: Vec<Operation>,
    /// Services end before the drivers, and read to the end.
    pub orderly: bool,
    /// One call in so many that can fail does; zero for none.
    pub faults: u32,
    /// How many processors the machine has.
    pub processors: u32,
}

/// Something that a thread of the client driver does.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Offers a notification.
    Notify {
        /// With so many bytes.
        bytes: usize,
        /// At this IRQL.
        irql: u8,
    },
    /// Books room for a notification, and offers that.
    Booked {
        /// With so many bytes.
        bytes: usize,
        /// So many milliseconds later.
        after: u32,
    },
    /// Asks.
    Ask {
        /// With this deadline in milliseconds.
        deadline_ms: u32,
    },
    /// Waits (milliseconds).
    Rest(u32),
}

impl Act {
    /// Whether it offers a notification.
    #[must_use]
    pub fn notifies(&self) -> bool {
        matches!(self, Act::Notify { .. } | Act::Booked { .. })
    }
}

/// A process that is created and, if it may run, ends.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// How long (100 ns) it waits before it comes.
    pub after: u64,
    /// Whether a service that was asked would refuse it.
    pub bad: bool,
    /// How long (100 ns) it lives.
    pub lives: u64,
    /// Who creates it.
    pub creator: u64,
}

/// One life of a service.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// How long (100 ns) before it connects.
    pub after: u64,
    /// Which notifications of the client driver it observes.
    pub observes: bool,
    /// Whether it wants to decide.
    pub decides: bool,
    /// How many gets it keeps outstanding.
    pub gets: usize,
    /// How large their buffers are at first; too small ones are replaced.
    pub first_buffer: usize,
    /// Which types of the process monitor it observes.
    pub starts_and_exits: u64,
    /// How it answers.
    pub habit: Habit,
    /// After so many of its steps it stops reading, but stays connected.
    pub hangs_after: Option<u32>,
    /// After so many of its steps it dies.
    pub dies_after: Option<u32>,
    /// How it dies.
    pub death: Death,
    /// One step in so many is a command; zero for none.
    pub commands: u32,
    /// Changes its roles twice as soon as it has them, while a backlog is on its way.
    pub restless: bool,
    /// How long (100 ns) it sleeps behind its subscription before it reads.
    pub sleeps: u64,
    /// The rings that it asks for, if any.
    pub rings: Option<Rings>,
    /// How many records it takes in a second, and how many at once; without it there is no limit.
    pub rate: Option<(u32, u32)>,
}

/// The rings of a service.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// Bytes of each; 0 for what the driver thinks fit.
    pub capacity: u32,
    /// How many bytes at most the service copies at a time.
    pub batch: usize,
    /// It reads nothing, and writes whatever this seed says to all that it can write to.
    pub scribbles: Option<u64>,
}

/// How a decider answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// At once.
    Prompt,
    /// After so many milliseconds.
    Late(u32),
    /// At once, and once more.
    Twice,
    /// Not at all.
    Never,
    /// With bytes that are no answer, in one of several ways.
    Garbage(u8),
}

/// How a service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its handle is closed by the thread that uses it.
    Closes,
    /// Its handle is closed by another thread while it uses it.
    Killed,
}

/// Something that an operator does.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Waits (100 ns).
    Rest(u64),
    /// Unloads and loads again.
    Reload(Image, Unload),
}

/// A driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The common driver.
    Fltport,
    /// The process monitor.
    Monitor,
    /// The client driver of the simulation.
    Generator,
}

fn some<T>(rng: &mut Rng, range: std::ops::Range<usize>, f: impl Fn(&mut Rng) -> T) -> Vec<T> {
    let count = rng.usize(range);
    (0..count).map(|_| f(rng)).collect()
}

fn one_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

/// How much a seed makes happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// One service, one thread of the client driver, few steps: hundreds of calls of the kernel.
    Small,
    /// All of it: thousands.
    #[default]
    Full,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64, size: Size) -> Plan {
        let mut plan = match size {
            Size::Small => Plan::small(seed),
            Size::Full => Plan::full(seed),
        };
        let most = if size == Size::Small { 10 } else { 40 };
        plan.give_rings(&mut Rng::with_seed(seed ^ 0x0A11_0F7E_5EED_0123), most);
        plan
    }

    /// The same without rings, and what comes with them: what it was before there were any.
    #[must_use]
    pub fn by_port(seed: u64, size: Size) -> Plan {
        match size {
            Size::Small => Plan::small(seed),
            Size::Full => Plan::full(seed),
        }
    }

    /// In a third of the seeds nobody has any. In the others threads go on to offer up to `most`
    /// notifications when services are there: what was offered before comes by the port.
    fn give_rings(&mut self, rng: &mut Rng, most: usize) {
        if one_in(rng, 3) {
            return;
        }
        self.processors = [4, 4, 2, 1][rng.usize(..4)];
        self.quota = [0, 0, 4000, 30_000][rng.usize(..4)];
        for life in self.seats.iter_mut().flatten() {
            life.rings = (!one_in(rng, 4)).then(|| rings(rng));
            life.rate = one_in(rng, 8).then(|| (rng.u32(10..1000), rng.u32(1..10)));
        }
        for acts in &mut self.threads {
            acts.push(Act::Rest(rng.u32(1..50)));
            acts.extend(some(rng, 0..most, ring_act));
        }
        if one_in(rng, 5) {
            self.fill_rings(rng, most);
        }
    }

    /// Somebody sleeps while his rings are filled, and there is nothing behind that.
    fn fill_rings(&mut self, rng: &mut Rng, most: usize) {
        self.quota = 0;
        let sleeper = self.seats.first_mut().and_then(|lives| lives.first_mut());
        if let Some(life) = sleeper {
            life.rings.get_or_insert_with(|| rings(rng)).capacity = SMALLEST;
            (life.observes, life.sleeps) = (true, rng.u64(20..200) * MILLISECOND);
            (life.hangs_after, life.dies_after) = (None, None);
        }
        for acts in &mut self.threads {
            acts.push(Act::Rest(rng.u32(1..50)));
            acts.extend((0..most).map(|_| Act::Notify {
                bytes: rng.usize(..150_000 / most),
                irql: [0, 2][rng.usize(..2)],
            }));
        }
    }

    fn small(seed: u64) -> Plan {
        let rng = &mut Rng::with_seed(seed);
        let orderly = rng.bool();
        Plan {
            filter_manager_after: 0,
            client_first: one_in(rng, 4),
            backlog: [0, 2048][rng.usize(..2)],
            quota: 0,
            policy: BacklogPolicy::KeepNewest,
            threads: vec![some(rng, 1..6, small_act)],
            processes: Vec::new(),
            seats: vec![vec![life(rng)]],
            operations: match orderly {
                true => Vec::new(),
                false => some(rng, 0..2, operation),
            },
            orderly,
            faults: faults(rng),
            processors: 4,
        }
    }

    fn full(seed: u64) -> Plan {
        let rng = &mut Rng::with_seed(seed);
        match rng.u32(..24) {
            0 => Plan::circuit(rng),
            1 => Plan::heir(rng),
            2 => Plan::flood(rng),
            _ => Plan::many(rng),
        }
    }

    /// Somebody who asks for more than five seconds, and deciders that miss.
    fn circuit(rng: &mut Rng) -> Plan {
        let asks = |rng: &mut Rng, n| (0..n).map(|_| ask(rng)).collect::<Vec<Act>>();
        let mut acts = vec![Act::Rest(40)];
        acts.extend(asks(rng, 5));
        acts.push(Act::Rest(rng.u32(4900..5200)));
        acts.extend(asks(rng, 2));
        let mut misser = life(rng);
        misser.after = 0;
        misser.decides = true;
        misser.habit = match rng.bool() {
            true => Habit::Never,
            false => Habit::Late(30),
        };
        // A change of roles would close the circuit.
        (misser.commands, misser.restless) = (0, false);
        (misser.hangs_after, misser.dies_after) = (None, None);
        Plan {
            threads: vec![acts],
            seats: vec![vec![misser]],
            processes: Vec::new(),
            ..Plan::calm(rng)
        }
    }

    /// A service that hangs, and another one that must be told of what that one lost.
    fn heir(rng: &mut Rng) -> Plan {
        let mut hangs = life(rng);
        hangs.after = rng.u64(..2) * 30 * MILLISECOND;
        hangs.observes = true;
        hangs.gets = 1;
        hangs.hangs_after = Some(rng.u32(1..6));
        hangs.dies_after = None;
        let mut heir = life(rng);
        heir.observes = true;
        (heir.hangs_after, heir.dies_after) = (None, None);
        let notify = |rng: &mut Rng| Act::Notify {
            bytes: match rng.u32(..4) {
                0 => 66_000,
                _ => rng.usize(..100),
            },
            irql: 0,
        };
        let mut acts = some(rng, 4..10, notify);
        acts.insert(rng.usize(..3), Act::Rest(rng.u32(1..60)));
        Plan {
            threads: vec![acts],
            seats: vec![vec![hangs, heir]],
            // With the smaller one the backlog itself loses some.
            backlog: [512, 65_536][rng.usize(..2)],
            ..Plan::calm(rng)
        }
    }

    /// A driver that offers more than a connection's queue holds to a service that sleeps, and goes
    /// on when it has woken.
    fn flood(rng: &mut Rng) -> Plan {
        const SLEEP: u32 = 200;
        let mut sleeper = life(rng);
        sleeper.after = 0;
        sleeper.observes = true;
        sleeper.sleeps = u64::from(SLEEP) * MILLISECOND;
        (sleeper.hangs_after, sleeper.dies_after) = (None, None);
        let flood = |rng: &mut Rng| {
            let mut acts = vec![Act::Rest(40)];
            acts.extend((0..20).map(|_| Act::Notify {
                bytes: rng.usize(40_000..65_000),
                irql: [0, 2][rng.usize(..2)],
            }));
            // Some while it sleeps still, some while it reads.
            acts.push(Act::Rest(rng.u32(SLEEP - 40..SLEEP + 10)));
            acts.extend((0..10).map(|_| Act::Notify {
                bytes: [rng.usize(..100), rng.usize(..65_000)][rng.usize(..2)],
                irql: 0,
            }));
            acts
        };
        Plan {
            threads: vec![flood(rng), flood(rng)],
            seats: vec![vec![sleeper]],
            processes: Vec::new(),
            ..Plan::calm(rng)
        }
    }

    /// Nothing is loaded again, comes late or fails.
    fn calm(rng: &mut Rng) -> Plan {
        Plan {
            operations: Vec::new(),
            orderly: true,
            filter_manager_after: 0,
            client_first: false,
            faults: 0,
            ..Plan::many(rng)
        }
    }

    fn many(rng: &mut Rng) -> Plan {
        let filter_manager_after = match rng.u32(..8) {
            0 => rng.u64(1..50 * MILLISECOND),
            _ => 0,
        };
        let processes = match rng.bool() {
            true => some(rng, 1..5, story),
            false => Vec::new(),
        };
        let orderly = rng.bool();
        Plan {
            filter_manager_after,
            client_first: one_in(rng, 4),
            backlog: [0, 2048, 65_536][rng.usize(..3)],
            quota: 0,
            policy: match rng.bool() {
                true => BacklogPolicy::KeepNewest,
                false => BacklogPolicy::KeepOldest,
            },
            threads: some(rng, 1..4, |rng| some(rng, 1..10, act)),
            processes,
            seats: some(rng, 1..4, |rng| some(rng, 1..3, life)),
            operations: match orderly {
                true => Vec::new(),
                false => some(rng, 0..4, operation),
            },
            orderly,
            faults: faults(rng),
            processors: 4,
        }
    }
}

/// Most seeds have luck.
fn faults(rng: &mut Rng) -> u32 {
    match rng.u32(..4) {
        0 => [3, 10, 50, 200][rng.usize(..4)],
        _ => 0,
    }
}

fn act(rng: &mut Rng) -> Act {
    match rng.u32(..10) {
        0..=5 => Act::Notify {
            bytes: match rng.u32(..16) {
                // Too large for a record.
                0 => rng.usize(65_536..70_000),
                2 => rng.usize(..65_536),
                1 => rng.usize(..20_000),
                _ => rng.usize(..200),
            },
            irql: [0, 0, 1, 2][rng.usize(..4)],
        },
        6..=8 => Act::Ask {
            deadline_ms: [1, 20, 500][rng.usize(..3)],
        },
        _ => Act::Rest(rng.u32(1..40)),
    }
}

fn ring_act(rng: &mut Rng) -> Act {
    let bytes = match rng.u32(..12) {
        0 => return Act::Rest(rng.u32(1..10)),
        1 => rng.usize(..66_000),
        2 | 3 => rng.usize(..20_000),
        4 => {
            let after = [0, rng.u32(..10)][rng.usize(..2)];
            let bytes = rng.usize(..1000);
            return Act::Booked { bytes, after };
        }
        _ => rng.usize(..200),
    };
    Act::Notify {
        bytes,
        irql: [0, 1, 2][rng.usize(..3)],
    }
}

fn ask(rng: &mut Rng) -> Act {
    Act::Ask {
        deadline_ms: [1, 20][rng.usize(..2)],
    }
}

fn small_act(rng: &mut Rng) -> Act {
    match act(rng) {
        Act::Notify { irql, .. } => Act::Notify {
            bytes: match one_in(rng, 10) {
                true => 66_000,
                false => rng.usize(..100),
            },
            irql,
        },
        other => other,
    }
}

fn story(rng: &mut Rng) -> Story {
    Story {
        after: rng.u64(..60 * MILLISECOND),
        bad: rng.bool(),
        lives: rng.u64(..60 * MILLISECOND),
        // Nobody, or a service in its first life.
        creator: [1000, 10_000, 10_100][rng.usize(..3)],
    }
}

fn life(rng: &mut Rng) -> Life {
    let mut life = Life {
        after: rng.u64(..30 * MILLISECOND),
        observes: !one_in(rng, 5),
        decides: rng.bool(),
        gets: rng.usize(1..4),
        starts_and_exits: [0b110, 0b010, 0b100][rng.usize(..3)],
        first_buffer: match rng.u32(..4) {
            0 => rng.usize(16..200),
            _ => crate::service::BUFFER,
        },
        habit: match rng.u32(..8) {
            0 => Habit::Late(rng.u32(1..1000)),
            1 => Habit::Twice,
            2 => Habit::Never,
            3 => Habit::Garbage(rng.u8(..5)),
            _ => Habit::Prompt,
        },
        hangs_after: one_in(rng, 6).then(|| rng.u32(..12)),
        dies_after: one_in(rng, 2).then(|| rng.u32(..16)),
        death: match rng.bool() {
            true => Death::Closes,
            false => Death::Killed,
        },
        commands: [0, 2, 5][rng.usize(..3)],
        restless: false,
        sleeps: 0,
        rings: None,
        rate: None,
    };
    life.restless = life.commands == 2;
    life
}

fn rings(rng: &mut Rng) -> Rings {
    Rings {
        capacity: [SMALLEST, SMALLEST, SMALLEST, 2 * SMALLEST, 300_000, 0][rng.usize(..6)],
        batch: [100, 1000, 16 * 1024, 64 * 1024][rng.usize(..4)],
        scribbles: one_in(rng, 12).then(|| rng.u64(..)),
    }
}

fn operation(rng: &mut Rng) -> Operation {
    let how = match rng.bool() {
        true => Unload::Stop,
        false => Unload::Filter,
    };
    match rng.u32(..5) {
        0 => Operation::Reload(Image::Fltport, how),
        1 => Operation::Reload(Image::Monitor, Unload::Stop),
        2 => Operation::Reload(Image::Generator, Unload::Stop),
        _ => Operation::Rest(rng.u64(..100 * MILLISECOND)),
    }
}
