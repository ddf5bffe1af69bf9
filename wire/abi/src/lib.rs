// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every byte that crosses a boundary of fltport.
//!
//! Two programs that were built apart meet at three places, and all three are described here and
//! nowhere else:
//!
//! * the service and the common driver, over a Filter Manager communication port: [`hello`] when
//!   the service connects, [`frame`] from the driver to the service, [`command`] from the service
//!   to the driver;
//! * the common driver and its client drivers, inside the kernel: [`interface`];
//! * a message's author and its reader: [`schema`] says what a message consists of, and
//!   [`messages!`] turns one definition into a struct, that schema and a checked decoder.
//!   [`process_monitor`] is the first user. [`filter`] says by a message's fields whether a service
//!   wants it.
//!
//! Everything is little-endian, has no implicit padding and holds no pointers (but [`interface`],
//! which never leaves the kernel). Decoding never trusts a length, never allocates and never
//! panics: the bytes may come from an enemy.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod account;
pub mod command;
pub mod common_driver;
pub mod filter;
pub mod fixed;
pub mod frame;
pub mod glob;
pub mod hello;
pub mod hosted;
pub mod import;
pub mod interface;
pub mod latency;
pub mod limits;
pub mod message;
pub mod process_monitor;
pub mod registry_monitor;
pub mod schema;
pub mod sid;
pub mod status;
pub mod text;

pub use account::{Cause, Outcome};
pub use message::{DecodeError, EncodeError, Message, Pid, Status, Time};
pub use text::{Text, TextList};
