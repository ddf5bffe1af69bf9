// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario has a service do, and what the service answers: one JSON line each.

use crate::language::Service;
use crate::status;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers by name: what a step can expect something of.
pub(crate) type Numbers = BTreeMap<String, u64>;

/// What to do. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Connect. The first order, and given once.
    Connect,
    /// Start a service as a child of this process, which is then told to connect.
    Begin(Service),
    /// Have a service that is a child of this process do something.
    ToChild {
        name: String,
        order: Box<Order>,
        within: u64,
    },
    /// Subscribe to a provider's messages, once it is there.
    Subscribe {
        provider: String,
        observe: Vec<u16>,
        decide: Vec<u16>,
        /// A filter for a message, as the service library reads it.
        filter: Option<(u16, String)>,
        /// The present state first.
        snapshot: bool,
        /// Nothing of what this process and its children do.
        muted: bool,
        within: u64,
    },
    /// Have the load generator register another provider.
    Register(Provider),
    /// Have the load generator tell of deeds in this process's name, about a service's process; about
    /// this one if none is named.
    Tell { count: u32, about: Option<String> },
    /// Have the load generator try to register what is wrong in this way.
    RegisterWrong { how: u32 },
    /// Have a provider of the load generator start a job; answers with its number.
    Start { provider: String, job: Job },
    /// Wait for the end of a job; answers with its account.
    Finish {
        provider: String,
        job: u32,
        within: u64,
    },
    /// What this provider takes of this connection.
    Usage { provider: String },
    /// What the driver has refused, by reason.
    Refusals,
    /// Have the load generator give back so many bytes.
    Echo { bytes: usize },
    /// Have the load generator touch an address.
    Fault { address: u64, write: bool },
    /// Ask the load generator what it has done.
    Statistics,
    /// Send so many bytes as a command of this number, through the library.
    Send {
        provider: String,
        command: u16,
        bytes: usize,
    },
    /// Connect so many times more, and keep these connections; they replace former ones.
    Crowd { connections: usize },
    /// Send from and to these places in memory, past the library.
    Pass(Pass),
    /// Connect and send, past the library, with this wrong.
    Try {
        wrong: String,
        /// The stream whose key is used.
        stream: String,
    },
    /// Connect anew, and have a hello driver greet so many times, as its own service does.
    Greet { provider: String, times: u32 },
    /// Wait until the tally is as it is to be; answers with it in any case.
    See {
        expected: Vec<Expected>,
        within: u64,
    },
    /// Answer requests from now on, or keep them unanswered.
    Answer(bool),
    /// Have the registry monitor watch these keys.
    Watch { keys: Vec<String> },
    /// Deny from now on what the registry monitor asks about, or allow it.
    Deny(bool),
    /// Take events from now on, or leave them where they are.
    Take(bool),
    /// Answer the requests that were kept; fails as the first answer does.
    ReplyToKept,
    /// Read the ledger until nothing is in flight; answers with its sums.
    Audit { within: u64 },
    /// Kill the program that is this service, if another one is, and wait until it is gone.
    KillProgram,
    /// End.
    Leave,
}

/// A job of the load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Job {
    Flood {
        count: u64,
        threads: u32,
        bytes: u32,
    },
    Dpc {
        count: u64,
        by_timer: bool,
    },
    Ask {
        rounds: u64,
        threads: u32,
        deadline: u32,
        pending: u32,
    },
    Change {
        count: u64,
        threads: u32,
    },
    Pairs {
        count: u64,
        threads: u32,
    },
}

/// Another provider of the load generator, and what it declares; 0 for no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) quota: u32,
    pub(crate) rate: u32,
    pub(crate) burst: u32,
}

/// A command whose buffers may be anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pass {
    pub(crate) input: Place,
    pub(crate) output: Place,
    /// Bytes that the input is said to have; those that it has by default.
    pub(crate) input_length: Option<u32>,
    /// Bytes that the output is said to have.
    pub(crate) output_length: u32,
}

/// Where a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Where it should be.
    Good,
    /// At address 0.
    Null,
    /// Where nothing is: on the first page.
    Nowhere,
    /// In the kernel's half.
    Kernel,
    /// Where one can only read.
    ReadOnly,
}

/// What a number has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) relation: Relation,
    pub(crate) number: u64,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Relation {
    Equal,
    AtLeast,
    AtMost,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done(Numbers),
    Refused(Refusal),
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// In words.
    pub(crate) text: String,
    pub(crate) code: Option<Code>,
}

/// A status as a floor says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Code {
    Status(i32),
    Hresult(i32),
}

impl Expected {
    /// Whether it is so. What is not there is not.
    pub(crate) fn holds(&self, numbers: &Numbers) -> bool {
        let found = numbers.get(&self.name);
        found.is_some_and(|found| match self.relation {
            Relation::Equal => *found == self.number,
            Relation::AtLeast => *found >= self.number,
            Relation::AtMost => *found <= self.number,
        })
    }

    /// Whether waiting can still make it so.
    pub(crate) fn is_reached(&self, numbers: &Numbers) -> bool {
        let found = numbers.get(&self.name).copied().unwrap_or(0);
        self.relation == Relation::AtMost || found >= self.number
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let relation = match self.relation {
            Relation::Equal => "=",
            Relation::AtLeast => ">=",
            Relation::AtMost => "<=",
        };
        write!(f, "{}{relation}{}", self.name, self.number)
    }
}

impl Refusal {
    /// A refusal that no code came with.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Refusal {
            text: text.into(),
            code: None,
        }
    }
}

impl From<fltport::Error> for Refusal {
    fn from(error: fltport::Error) -> Self {
        let code = match error.code() {
            fltport::Code::Status(status) => Some(Code::Status(status)),
            fltport::Code::Hresult(hresult) => Some(Code::Hresult(hresult)),
            fltport::Code::Os(_) | fltport::Code::None => None,
        };
        let text = match &error {
            fltport::Error::Encode(_) => status::TOO_LARGE.to_owned(),
            fltport::Error::NoProvider(_) => status::NO_PROVIDER.to_owned(),
            other => other.to_string(),
        };
        Refusal { text, code }
    }
}
