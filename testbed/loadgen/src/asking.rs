// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions from system threads: one after the other, or many at a time.

use crate::job::Progress;
use crate::load::{Load, TAG};
use crate::messages::{Ask, DECLARED, DECLARING, Question, Reply, answer_to};
use crate::share::{self, Share};
use core::sync::atomic::{AtomicU32, Ordering};
use fltport_abi::account::Outcome;
use fltport_abi::limits::MAX_DEADLINE_MS;
use fltport_client::{Answer, Provider};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::PoolArc;
use fltport_nt::ke::{Event, EventKind, Timeout, interrupt_time};
use fltport_nt::{NtError, Result};

/// The answer if nobody gives one, and none was declared.
const DEFAULT: Reply = Reply { number: 0 };

/// How often a thread that waits for answers looks whether the driver stops.
const LOOK_AGAIN: Timeout = Timeout::from_millis(100);

/// The questions of a thread that have not been answered.
struct Pending {
    count: AtomicU32,
    /// Set when there is one less.
    answered: Event,
}

/// What each thread does.
#[derive(Clone, Copy)]
struct Manner {
    deadline_ms: u32,
    /// How many questions are pending at a time; 0: each is waited for.
    pending: u32,
}

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, ask: &Ask) -> Result<u32> {
    if ask.deadline_ms == 0 || ask.deadline_ms > MAX_DEADLINE_MS {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let manner = Manner {
        deadline_ms: ask.deadline_ms,
        pending: ask.pending,
    };
    let run = |share: &Share<Manner>, provider: &Provider<Load>| match share.what.pending {
        0 => share.ask(provider),
        most => share.ask_many(provider, most),
    };
    share::start(load, ask.threads, ask.rounds, manner, run)
}

impl Share<Manner> {
    /// What is asked with: [`DEFAULT`], or what was declared.
    fn default(&self) -> Option<Reply> {
        (self.place != DECLARING).then_some(DEFAULT)
    }

    fn question(&self, number: u64) -> Question {
        Question {
            number,
            job: self.progress.number,
            thread: self.thread,
        }
    }

    fn ask(&self, provider: &Provider<Load>) {
        for number in 0..self.count {
            if self.is_over(provider) {
                return;
            }
            let question = self.question(number);
            let begun = interrupt_time();
            let answer = provider.ask(&question, self.what.deadline_ms, self.default());
            note(&self.progress, &question, begun, self.default(), answer);
        }
    }

    /// Has at most so many questions pending at a time. What is pending when the driver stops is
    /// completed while the provider is unregistered.
    fn ask_many(&self, provider: &Provider<Load>, most: u32) {
        let pending = Event::new(TAG, EventKind::Synchronization).and_then(|answered| {
            let count = AtomicU32::new(0);
            PoolArc::new(TAG, Pending { count, answered })
        });
        let Ok(pending) = pending else {
            return;
        };
        for number in 0..self.count {
            if !self.wait_for_fewer(provider, &pending, most) {
                return;
            }
            self.ask_one(provider, &pending, self.question(number));
        }
        self.wait_for_fewer(provider, &pending, 1);
    }

    fn ask_one(&self, provider: &Provider<Load>, pending: &PoolArc<Pending>, question: Question) {
        let begun = interrupt_time();
        let (progress, counted) = (self.progress.clone(), pending.clone());
        pending.count.fetch_add(1, Ordering::Relaxed);
        let default = self.default();
        let then = move |answer| {
            note(&progress, &question, begun, default, Ok(answer));
            counted.count.fetch_sub(1, Ordering::Release);
            counted.answered.set();
        };
        if let Err(error) = provider.ask_async(&question, self.what.deadline_ms, default, then) {
            pending.count.fetch_sub(1, Ordering::Relaxed);
            note(&self.progress, &question, begun, default, Err(error));
        }
    }

    /// Waits until fewer are pending; false if the job is over.
    fn wait_for_fewer(&self, provider: &Provider<Load>, pending: &Pending, most: u32) -> bool {
        while pending.count.load(Ordering::Acquire) >= most {
            if self.is_over(provider) {
                return false;
            }
            pending.answered.wait(LOOK_AGAIN);
        }
        !self.is_over(provider)
    }
}

/// Counts an answer, and whether it is the one that belongs to the question.
fn note(
    progress: &Progress,
    question: &Question,
    begun: u64,
    default: Option<Reply>,
    answer: Result<Answer<Reply>>,
) {
    let took = interrupt_time().saturating_sub(begun);
    let default = default.unwrap_or(DECLARED);
    let (outcome, reply) = answer.map_or((Outcome::Failed, default), |answer| {
        (answer.outcome, answer.reply)
    });
    let expected = match outcome {
        Outcome::Answered => answer_to(question),
        _ => default.number,
    };
    progress.asked(outcome, reply.number == expected, took);
}
