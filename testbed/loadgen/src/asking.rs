// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions from system threads.

use crate::flood::{check_threads, part};
use crate::job::{Job, Progress};
use crate::load::{self, Load};
use crate::messages::{Ask, Question, Reply, answer_to};
use fltport_abi::account::Outcome;
use fltport_abi::limits::MAX_DEADLINE_MS;
use fltport_client::Provider;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::PoolArc;
use fltport_nt::ke::interrupt_time;
use fltport_nt::{NtError, Result};

/// The answer if nobody gives one.
const DEFAULT: Reply = Reply { number: 0 };

/// One thread's share.
struct Share {
    /// The provider that does it.
    place: usize,
    progress: PoolArc<Progress>,
    thread: u32,
    rounds: u64,
    deadline_ms: u32,
}

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, ask: &Ask) -> Result<u32> {
    let _starting = load.begin()?;
    check_threads(ask.threads)?;
    if ask.deadline_ms == 0 || ask.deadline_ms > MAX_DEADLINE_MS {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let progress = Progress::new(load.number(), ask.threads)?;
    let number = progress.number;
    let share = |thread| {
        Ok(Share {
            place: load.place,
            progress: progress.clone(),
            thread,
            rounds: part(ask.rounds, ask.threads, thread),
            deadline_ms: ask.deadline_ms,
        })
    };
    let job = Job::in_threads(progress.clone(), ask.threads, share, Share::run)?;
    load.keep(job).map(|()| number)
}

impl Share {
    fn run(&self) {
        if let Ok(provider) = load::provider(self.place) {
            self.ask(&provider);
        }
        self.progress.share_ended();
    }

    fn ask(&self, provider: &Provider<Load>) {
        for number in 0..self.rounds {
            if self.progress.is_cancelled() || provider.handler().is_stopping() {
                return;
            }
            let question = Question {
                number,
                job: self.progress.number,
                thread: self.thread,
            };
            let begun = interrupt_time();
            let answer = provider.ask(&question, self.deadline_ms, DEFAULT);
            let took = interrupt_time().saturating_sub(begun);
            let (outcome, reply) = answer.map_or((Outcome::Failed, DEFAULT), |answer| {
                (answer.outcome, answer.reply)
            });
            let expected = match outcome {
                Outcome::Answered => answer_to(&question),
                _ => DEFAULT.number,
            };
            self.progress.asked(outcome, reply.number == expected, took);
        }
    }
}
