// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service wants of a provider.

use crate::error::Error;
use crate::filter::{self, FilterProblem};
use crate::message_set::MessageSet;
use crate::schema::{MessageSchema, Schema};
use fltport_abi::command::{FilteredSubscription, flags};
use fltport_abi::fixed::Fixed;
use fltport_abi::limits::MAX_FILTER;
use std::fmt;

/// A message type, by its number or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKey {
    /// The number.
    Number(u16),
    /// The name, as users read it.
    Name(String),
}

impl From<u16> for MessageKey {
    fn from(number: u16) -> Self {
        MessageKey::Number(number)
    }
}

impl From<&str> for MessageKey {
    fn from(name: &str) -> Self {
        MessageKey::Name(name.to_owned())
    }
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageKey::Number(number) => write!(f, "{number}"),
            MessageKey::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

/// What a service wants of a provider, to be made with
/// [`Client::subscribe_with`](crate::Client::subscribe_with).
///
/// ```no_run
/// # fn subscribe(client: &fltport::Client) -> Result<(), fltport::Error> {
/// use fltport::Subscription;
/// client.subscribe_with(
///     Subscription::to("process-monitor")
///         .observe([1, 2])
///         .filter("start", r#"image ends "\\nc.exe" or command_line contains "-enc""#)
///         .mute_self(),
/// )
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Subscription {
    pub(crate) provider: String,
    pub(crate) observe: MessageSet,
    pub(crate) decide: MessageSet,
    filters: Vec<(MessageKey, String)>,
    flags: u32,
}

impl Subscription {
    /// To the provider of this name; wants nothing yet.
    pub fn to(provider: impl Into<String>) -> Self {
        Subscription {
            provider: provider.into(),
            observe: MessageSet::NONE,
            decide: MessageSet::NONE,
            filters: Vec::new(),
            flags: 0,
        }
    }

    /// The notifications, and the requests whose outcomes are wanted.
    pub fn observe(mut self, messages: impl Into<MessageSet>) -> Self {
        self.observe = messages.into();
        self
    }

    /// The requests that this service answers. Filters and mutes are about what it observes: it is
    /// asked about everything.
    pub fn decide(mut self, messages: impl Into<MessageSet>) -> Self {
        self.decide = messages.into();
        self
    }

    /// Of the messages of this type only those that the [filter](crate::filter) is true of. For a
    /// request it is about what was asked. At most one for each type; those without get all.
    ///
    /// The driver runs it: what is not wanted is neither sent nor counted as lost, and the numbers
    /// of the stream have no hole there. When a filter would take the driver too long for a message
    /// (some 16,000 characters compared), the message comes.
    pub fn filter(mut self, message: impl Into<MessageKey>, filter: impl Into<String>) -> Self {
        self.filters.push((message.into(), filter.into()));
        self
    }

    /// Leaves out what this process does, and what those of its descendants do that are created
    /// after the first such subscription of any service: messages that come from a thread of one of
    /// these processes, and those whose first process id is one of theirs. At most 256 at one time;
    /// [`UsageRow::not_muted`](crate::UsageRow::not_muted) counts those beyond.
    pub fn mute_self(mut self) -> Self {
        self.flags |= flags::MUTE_SELF;
        self
    }

    /// Has the provider report its present state first: [`Event::Snapshot`](crate::Event::Snapshot)
    /// for each object, [`Event::SnapshotEnd`](crate::Event::SnapshotEnd), and then what happens, with
    /// no gap and no overlap. It is reported again when a new stream begins, not when one goes on.
    ///
    /// A provider without snapshots refuses the subscription, and so does a driver that does not know
    /// of them.
    pub fn snapshot(mut self) -> Self {
        self.flags |= flags::SNAPSHOT;
        self
    }

    /// The same without a snapshot, for a stream that has had it.
    pub(crate) fn without_snapshot(&self) -> Self {
        let mut same = self.clone();
        same.flags &= !flags::SNAPSHOT;
        same
    }

    /// Whether its filters are right for a provider with this schema. A subscription finds that out by
    /// itself; this is for who wants to know before he makes any.
    pub fn check(&self, schema: &Schema) -> Result<(), FilterProblem> {
        self.compile(schema).map(|_| ())
    }

    /// Whether nothing is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.observe == MessageSet::NONE && self.decide == MessageSet::NONE
    }

    /// Whether a driver without filters could do it.
    pub(crate) fn is_plain(&self) -> bool {
        self.filters.is_empty() && self.flags == 0
    }

    /// The command's payload, for the provider of this number with this schema.
    pub(crate) fn payload(&self, number: u16, schema: &Schema) -> Result<Vec<u8>, Error> {
        let filters = self.compile(schema)?;
        let header = FilteredSubscription {
            provider: number.into(),
            flags: self.flags,
            observe: self.observe.bits(),
            decide: self.decide.bits(),
            hash: if filters.is_empty() { 0 } else { schema.hash },
            filters: u32::try_from(filters.len()).unwrap_or(u32::MAX),
            reserved: 0,
        };
        let mut payload = vec![0; FilteredSubscription::SIZE];
        // It fits: the vector was made for it.
        let _fits = header.write(&mut payload);
        payload.extend(filters);
        Ok(payload)
    }

    fn compile(&self, schema: &Schema) -> Result<Vec<u8>, FilterProblem> {
        let mut bytes = Vec::new();
        let mut seen = MessageSet::NONE;
        for (key, text) in &self.filters {
            let problem = |cause: String| FilterProblem::whole(text, cause);
            let message = find(schema, key).map_err(problem)?;
            if seen.contains(message.number) {
                let name = &message.name;
                return Err(problem(format!(
                    "there are two filters for \"{name}\"; combine them with \"and\" or \"or\""
                )));
            }
            seen = seen.with(message.number);
            bytes.extend(filter::compile(schema, message, text)?);
            if bytes.len() > MAX_FILTER {
                return Err(problem(format!(
                    "the filters of a subscription have at most {MAX_FILTER} bytes together"
                )));
            }
        }
        Ok(bytes)
    }
}

/// The message that a key means.
fn find<'s>(schema: &'s Schema, key: &MessageKey) -> Result<&'s MessageSchema, String> {
    let is_it = |m: &&MessageSchema| match key {
        MessageKey::Number(number) => m.number == *number,
        MessageKey::Name(name) => m.name == *name,
    };
    let offered = |m: &&MessageSchema| m.role != crate::Role::Command;
    let mut messages = schema.messages.iter().filter(offered);
    messages.find(is_it).ok_or_else(|| {
        let names = schema.messages.iter().filter(offered);
        let names: Vec<&str> = names.map(|m| m.name.as_str()).collect();
        let provider = &schema.provider;
        format!(
            "{provider} tells of no message {key}. It tells of {}",
            names.join(", ")
        )
    })
}
