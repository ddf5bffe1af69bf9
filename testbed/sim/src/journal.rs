// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has really happened in a run, to be compared with what the drivers say.

use std::collections::BTreeMap;
use std::sync::Arc;

use fltport_abi::account::Outcome;
use nt_host::clock;
use parking_lot::Mutex;

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
    /// Questions whose reply a service was told to be taken, and how often that was.
    taken: BTreeMap<u64, u32>,
    /// The ends of questions.
    ended: BTreeMap<u64, Ended>,
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

    /// A notification has been offered.
    pub fn notified(&self) {
        self.0.lock().notified += 1;
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
        for (question, taken) in &entries.taken {
            assert!(
                entries.ended.contains_key(question),
                "the reply to question {question} was taken {taken} times, but nobody asked it"
            );
        }
    }
}
