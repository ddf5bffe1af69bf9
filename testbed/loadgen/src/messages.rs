// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the load generator tells, asks and takes.

use fltport_abi::message::{Pid, Status};
use fltport_abi::schema::Provider;

fltport_abi::messages! {
    /// The load generator as it registers.
    provider PROVIDER = "loadgen";

    /// One of a flood.
    notification 1 "tick" Tick {
        /// Counts from 0 within its job and thread.
        number: u64,
        /// The job.
        job: u32,
        /// Which of the job's threads.
        thread: u32,
        /// The IRQL at which it was sent.
        irql: u32,
        /// Zero.
        reserved: u32,
    }

    /// One of a flood, with as many bytes as were asked for.
    notification 2 "blob" Blob<'a> {
        /// Counts from 0 within its job and thread.
        number: u64,
        /// The job.
        job: u32,
        /// Which of the job's threads.
        thread: u32,
        /// All of them are the lowest byte of the number.
        data: &'a [u8],
    }

    /// Sent by DriverEntry.
    notification 3 "early" Early {
        /// Counts from 0.
        number: u64,
        /// How many there are.
        of: u64,
    }

    /// An object has changed, or is there.
    notification 4 "object" Object {
        /// Which: below [`MAX_OBJECTS`].
        number: u64,
        /// How often it has changed.
        version: u64,
    }

    /// The first half of a pair.
    notification 5 "begun" Begun {
        /// Counts from 0 within its job and thread.
        number: u64,
        /// The job.
        job: u32,
        /// Which of the job's threads.
        thread: u32,
    }

    /// The second half, for which there was room before the first one was told.
    notification 6 "ended" Ended {
        /// That of the first half.
        number: u64,
        /// The job.
        job: u32,
        /// Which of the job's threads.
        thread: u32,
    }

    /// Told by the thread that gives the command, and so by its process.
    notification 7 "deed" Deed {
        /// Counts from 0 within its command.
        number: u64,
        /// The process that it is about; the one that tells if the command names none.
        about: Pid,
        /// The process that tells.
        by: Pid,
    }

    /// A question; [`answer_to`] is its answer.
    request 10 "question" Question {
        /// Counts from 0 within its job and thread.
        number: u64,
        /// The job.
        job: u32,
        /// Which of the job's threads.
        thread: u32,
    } -> /// What the decider answers, or 0 by default.
    Reply {
        /// [`answer_to`] the question.
        number: u64,
    }

    /// Starts a job that sends notifications from threads, as fast as it can.
    command 20 "flood" Flood {
        /// How many, by all threads together.
        count: u64,
        /// How many threads; at most [`MAX_THREADS`].
        threads: u32,
        /// Bytes of each: 0 sends ticks, more sends blobs.
        bytes: u32,
    } -> /// It has been started.
    FloodStarted {
        /// The job.
        job: u32,
    }

    /// Starts a job that sends ticks from deferred procedure calls.
    command 21 "dpc" Defer {
        /// How many.
        count: u64,
        /// The DPC is queued by a timer (true) or directly.
        by_timer: bool,
        /// Zero.
        reserved: u32,
    } -> /// It has been started.
    DeferStarted {
        /// The job.
        job: u32,
    }

    /// Starts a job that asks from threads.
    command 22 "ask" Ask {
        /// How many questions, by all threads together.
        rounds: u64,
        /// How many threads; at most [`MAX_THREADS`].
        threads: u32,
        /// How long each waits for its answer, in milliseconds.
        deadline_ms: u32,
        /// How many of a thread's questions are pending at a time, which it does not wait for; 0: it
        /// waits for each.
        pending: u32 = 0,
    } -> /// It has been started.
    AskStarted {
        /// The job.
        job: u32,
    }

    /// Waits for the end of a job, which is forgotten then. STATUS_IO_TIMEOUT if it goes on.
    command 23 "await" Await {
        /// The job.
        job: u32,
        /// How long to wait at most, in milliseconds; no longer than [`MAX_AWAIT_MS`].
        timeout_ms: u32,
    } -> /// The account of the job.
    JobReport {
        /// Notifications offered, or questions asked.
        done: u64,
        /// Notifications that were refused: neither delivered nor lost.
        refused: u64,
        /// Questions that the decider answered in time.
        answered: u64,
        /// Questions that it did not.
        missed: u64,
        /// Questions that were answered by default at once: no decider, or one that is left alone.
        defaulted: u64,
        /// Questions whose decider went away meanwhile.
        disconnected: u64,
        /// Questions that ended otherwise.
        failed: u64,
        /// Answers that belong to another question, and defaults that are not the default.
        wrong: u64,
        /// Pairs that were not begun, for there was no room for their second half.
        unbooked: u64,
        /// The longest that a question took, in microseconds.
        longest_us: u64,
        /// From the start to the end of the job, in microseconds.
        elapsed_us: u64,
    }

    /// Gives back what it is given.
    command 24 "echo" Echo<'a> {
        /// Anything.
        data: &'a [u8],
    } -> /// The same.
    Echoed<'a> {
        /// The same.
        data: &'a [u8],
    }

    /// Has the driver touch an address of the lower half with the fault-safe copy: 16 bytes.
    command 25 "fault" Fault {
        /// The address. One of the upper half is refused: there a bad one stops the machine.
        address: u64,
        /// Written to, or read.
        write: bool,
        /// Zero.
        reserved: u32,
    } -> /// What became of it.
    Faulted {
        /// The status of the copy.
        status: Status,
    }

    /// Asks what the driver has done since it was loaded.
    command 26 "statistics" GetStatistics {} -> /// It has done this.
    LoadStatistics {
        /// Notifications sent by DriverEntry.
        early: u64,
        /// Jobs started.
        jobs: u64,
        /// Commands taken, this one included.
        commands: u64,
    }

    /// Registers another one of [`PROVIDERS`], which stays until the driver goes.
    command 27 "register" Register {
        /// Its place there: from 1.
        place: u32,
        /// Bytes that it may have queued for one service; 0 for no quota.
        quota: u32,
        /// Notifications a second; 0 for no limit.
        rate: u32,
        /// How many may come at once.
        burst: u32,
    } -> /// It has been registered.
    Registered {}

    /// Tries to register a provider whose schema is wrong, and fails with the common driver's status.
    command 28 "register-wrong" RegisterWrong {
        /// In which way.
        how: u32,
        /// Zero.
        reserved: u32,
    } -> /// It was registered all the same.
    RegisteredWrong {}

    /// Starts a job that changes objects from threads.
    command 29 "change" Change {
        /// How often, by all threads together.
        count: u64,
        /// How many threads; at most [`MAX_THREADS`].
        threads: u32,
        /// Zero.
        reserved: u32,
    } -> /// It has been started.
    ChangeStarted {
        /// The job.
        job: u32,
    }

    /// Starts a job that tells of pairs from threads.
    command 30 "pairs" Pairs {
        /// How many, by all threads together.
        count: u64,
        /// How many threads; at most [`MAX_THREADS`].
        threads: u32,
        /// Zero.
        reserved: u32,
    } -> /// It has been started.
    PairsStarted {
        /// The job.
        job: u32,
    }

    /// Tells of deeds, here and now.
    command 31 "tell" Tell {
        /// How many; at most [`MAX_DEEDS`].
        count: u32,
        /// The process that they are about; 0 for the one that gives the command.
        about: Pid,
    } -> /// It has told.
    Told {
        /// Those that were not refused.
        count: u32,
        /// Zero.
        reserved: u32,
    }
}

/// The providers that this driver can be: all tell, ask and take the same. DriverEntry registers the
/// first one and [`DECLARING`].
pub static PROVIDERS: [Provider; 6] = [
    PROVIDER,
    another("loadgen-2"),
    another("loadgen-3"),
    another("loadgen-4"),
    another("loadgen-5"),
    another("loadgen-declaring"),
];

/// The place of the provider that declares all that can be declared: a quota, a backlog, default
/// replies. All its objects have changed once when it is registered.
pub const DECLARING: usize = PROVIDERS.len() - 1;

/// Bytes that [`DECLARING`] may have queued for one service.
pub const QUOTA: u32 = 64 * 1024;

/// What [`DECLARING`] declares as the answer to a question, and asks with.
pub const DECLARED: Reply = Reply { number: 1 };

const fn another(name: &'static str) -> Provider {
    Provider { name, ..PROVIDER }
}

/// The most threads of one job.
pub const MAX_THREADS: usize = 8;

/// How many objects a provider has.
pub const MAX_OBJECTS: usize = 64;

/// How many deeds one command tells of: it should be brief.
pub const MAX_DEEDS: u32 = 1_000;

/// How many ways [`RegisterWrong`] knows.
pub const WAYS_TO_BE_WRONG: u32 = 8;

/// The longest that [`Await`] waits: a command should be brief.
pub const MAX_AWAIT_MS: u32 = 1_000;

/// How many notifications DriverEntry sends.
pub const EARLY: u64 = 100;

/// The right answer to a question.
pub const fn answer_to(question: &Question) -> u64 {
    (question.number << 16 | (question.job as u64) << 8 | question.thread as u64) ^ u64::MAX
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use fltport_abi::message::Message;

    #[test]
    fn a_tick_has_these_bytes() {
        let tick = Tick {
            number: 0x0102,
            job: 3,
            thread: 4,
            irql: 2,
            reserved: 0,
        };
        let mut bytes = [0; 24];
        assert_eq!(tick.encode(&mut bytes), Ok(24));
        assert_eq!(
            bytes,
            [
                2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(Tick::decode(&bytes), Ok(tick));
    }

    #[test]
    fn no_two_questions_of_a_job_have_one_answer_and_none_has_the_default() {
        let mut answers = std::collections::BTreeSet::new();
        for number in 0..100 {
            for thread in 0..MAX_THREADS as u32 {
                let job = 7;
                assert!(answers.insert(answer_to(&Question {
                    number,
                    job,
                    thread
                })));
            }
        }
        assert!(!answers.contains(&0) && !answers.contains(&DECLARED.number));
    }
}
