// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service's side of fltport: connect to the common driver, subscribe to what drivers tell,
//! answer what they ask, send them commands.
//!
//! A service:
//!
//! ```no_run
//! use fltport::process_monitor::{ProcessCreate, ProcessStart, ProcessVerdict};
//! use fltport::{Client, Event, MessageSet, Options};
//!
//! # fn main() -> Result<(), fltport::Error> {
//! let client = Client::connect(Options::new("my-service"))?;
//! client.subscribe("process-monitor", [1, 2], MessageSet::from(5))?;
//! while !client.is_over() {
//!     match client.next(std::time::Duration::from_secs(1)) {
//!         Some(Event::Notification(record)) => println!("{:?}", record.decode::<ProcessStart>()),
//!         Some(Event::Request(request)) => {
//!             let deny = request.record.decode::<ProcessCreate>().is_ok_and(|c| c.truncated);
//!             request.reply(&ProcessVerdict { deny })?;
//!         }
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! On Windows the library talks to `fltport.sys` through `fltlib.dll`; on Linux to the hosted
//! kernel, over a Unix socket (`fltport host` runs one). The rest is the same.
//!
//! **Order and loss.** A connection's records are numbered without exception, and the client hands
//! them out in that order. What the driver had to drop shows as [`Event::Gap`], with types, counts
//! and causes; a number that is missing without one shows as [`Event::Missing`]. [`Client::ledger`]
//! gives the accounts.
//!
//! **Rings.** Where driver and platform can, records come through memory that the driver shares with this
//! process, and by messages only what cannot: [`Client::transport`] says which it is, and why. Nothing else
//! changes with it. [`Client::serve`] hands records to a handler where they were copied to, which is the fastest way.
//!
//! **Requests** overtake everything that waits in the queue, but they travel the same way: a
//! service that is slow to take events and must decide in time uses one client to observe and one
//! to decide.
//!
//! **The end of a connection** (the driver unloaded, the hosted kernel stopped) shows as
//! [`Event::Disconnected`]; the client connects again with growing waits, makes its subscriptions
//! again and goes on after [`Event::Reconnected`].
//!
//! **Streams** ([`Options::stream`]) outlive a connection, and the process: a service that comes back
//! within the retention goes on behind the last record that it has dealt with, and a new instance can
//! take the stream, and the decider's role, over from a running one.

#![deny(unsafe_code)]

mod answers;
mod backoff;
mod client;
mod command;
mod connection;
mod edge;
mod envelope;
mod error;
mod event;
mod event_ref;
mod failure;
pub mod filter;
mod intake;
mod lock;
mod message_set;
mod options;
mod pace;
mod queue;
mod reader;
mod reading;
mod request;
mod rings;
mod rows;
mod schema;
mod schema_cache;
mod sequence;
mod serve;
mod statistics;
mod stream;
mod subscription;
mod subscriptions;
mod supervisor;
#[cfg(feature = "tokio")]
mod tokio_client;
mod transport;
mod value;

pub use client::Client;
pub use command::CommandResult;
#[cfg(unix)]
pub use edge::{HostDescription, describe_host, socket_path};
pub use error::Error;
pub use event::{Corrupt, Event, Gap, Loss, Record, RequestOutcome};
pub use event_ref::{EventRef, RecordRef};
pub use failure::{Code, Refused};
pub use filter::FilterProblem;
pub use message_set::MessageSet;
pub use options::Options;
pub use request::Request;
pub use rows::{ConnectionInfo, ProviderInfo};
pub use schema::{DefinitionSchema, FieldSchema, FormSchema, MessageSchema, Schema};
pub use statistics::Statistics;
pub use stream::{Acknowledge, MAX_RETENTION, StreamInfo, StreamKey};
pub use subscription::{MessageKey, Subscription};
#[cfg(feature = "tokio")]
pub use tokio_client::AsyncClient;
pub use transport::{NoRings, Transport};
pub use value::{Bits, Choice, Fields, Records, Value, read_fields};

pub use fltport_abi::account::Refusal;
pub use fltport_abi::command::{
    BACKLOG, ENDED, FeaturesRow, LedgerRow, RefusalRow, RequestAccountRow, RequestRow,
    RingUsageRow, UsageRow, features,
};
pub use fltport_abi::hello::rights;
pub use fltport_abi::limits::MAX_PROVIDER_NAME;
pub use fltport_abi::message::{Guid, List};
pub use fltport_abi::schema::{FieldKind, Role, SchemaError};
pub use fltport_abi::{
    Cause, DecodeError, EncodeError, Message, Outcome, Pid, Status, Text, TextList, Time,
    common_driver, glob, process_monitor, sid,
};

/// What the guide shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/streams.md")]
struct Streams;
