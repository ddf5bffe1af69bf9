// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who goes on: the seed's choice.

use std::rc::Rc;

use fastrand::Rng;
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use super::world::World;

/// The thread that moves the clock: the second one, started before the scenario does anything.
pub(super) const CLOCK: usize = 1;

/// How the next thread is chosen, for one seed.
enum Strategy {
    /// Each that can run is as likely.
    Uniform,
    /// The one of the highest priority runs until it waits. Priorities are random and fall now and
    /// then: this finds what needs one thread to be much later than all others.
    Priorities { of: Vec<u64>, lowest: u64 },
}

/// The scheduler of a series of seeds.
pub(super) struct Choice {
    world: Rc<World>,
    random: Rng,
    strategy: Strategy,
    /// One decision in so many lets the clock jump although threads could run; zero for none.
    late: u32,
}

impl Choice {
    pub(super) fn new(world: Rc<World>) -> Choice {
        Choice {
            world,
            random: Rng::with_seed(0),
            strategy: Strategy::Uniform,
            late: 0,
        }
    }

    fn pick(&mut self, others: &[usize], current: Option<usize>, yields: bool) -> usize {
        let random = &mut self.random;
        match &mut self.strategy {
            Strategy::Uniform => {
                let choice = others[random.usize(..others.len())];
                if yields && Some(choice) == current && others.len() > 1 {
                    // Whoever spins lets the others go first.
                    let at = random.usize(..others.len() - 1);
                    return *others
                        .iter()
                        .filter(|it| Some(**it) != current)
                        .nth(at)
                        .unwrap_or(&choice);
                }
                choice
            }
            Strategy::Priorities { of, lowest } => {
                for thread in others {
                    while of.len() <= *thread {
                        of.push(random.u64(1 << 32..));
                    }
                }
                if let Some(current) = current
                    && (yields || random.u32(..24) == 0)
                    && let Some(priority) = of.get_mut(current)
                {
                    *lowest -= 1;
                    *priority = *lowest;
                }
                let best = others.iter().max_by_key(|thread| of[**thread]);
                best.copied().unwrap_or(others[0])
            }
        }
    }
}

impl Scheduler for Choice {
    fn new_execution(&mut self) -> Option<Schedule> {
        let seed = self.world.next_seed()?;
        self.random = Rng::with_seed(seed ^ 0x5EED_0F5C_4ED0_1E55);
        self.strategy = if self.random.bool() {
            Strategy::Uniform
        } else {
            Strategy::Priorities {
                of: Vec::new(),
                lowest: 1 << 32,
            }
        };
        self.late = [0, 1000, 100, 30][self.random.usize(..4)];
        let preemption = [0, 1, 4, 16, 40, 64][self.random.usize(..6)];
        self.world
            .begin(seed, self.random.fork(), preemption, self.late == 0);
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        if self.world.is_over() {
            return None;
        }
        let ids = runnable.iter().map(|task| usize::from(task.id()));
        let others: Vec<usize> = ids.filter(|id| *id != CLOCK).collect();
        let has_clock = others.len() < runnable.len();
        let late = self.late != 0 && has_clock && self.random.u32(..self.late) == 0;
        let choice = if others.is_empty() || late {
            CLOCK
        } else {
            self.pick(&others, current.map(usize::from), is_yielding)
        };
        self.world.turn(choice, others.is_empty());
        Some(TaskId::from(choice))
    }

    fn next_u64(&mut self) -> u64 {
        self.random.u64(..)
    }
}
