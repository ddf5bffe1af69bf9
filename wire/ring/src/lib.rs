// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings in shared memory, through which records leave the kernel: both halves.
//!
//! A connection has one ring for each processor. Who produces has raised the IRQL to DISPATCH_LEVEL and
//! uses the ring of the processor that it runs on, so each ring has **one producer by construction**:
//! publishing a record is one store, without a lock and without a loop. What producers share is the
//! counter from which each record takes its number ([`Order`]), and whoever consumes merges the
//! rings by these numbers into one total order. The numbers have no holes: one is taken only when
//! there certainly is room for its record.
//!
//! **Who may write what.** There are two pieces of memory ([`Shape`] says what lies where). The *data*
//! (records, and up to where they go) is the producers' and is mapped read-only to the consumer. The
//! *consumer's words* (up to where it has read, and whether it sleeps) can be written by the consumer at
//! any time with anything, so a producer takes them for an allegation: a position is believed if it lies between
//! what was believed before and what was published, and nothing else is read of it. The consumer
//! checks what it reads from the data, too: whoever wrote it may be another driver's bug.
//!
//! **Sleep and wake.** The consumer arms the bell, and then looks once more at the very words that
//! producers publish last; a producer publishes, and then looks at the bell; both with a full fence in
//! between ([`Bell`]). So one of them sees the other. The producer that finds it armed disarms it and signals,
//! once for each sleep.
//!
//! **Three hands.** In the kernel a ring is filled by its [`Producer`], on its own processor and without any lock, and accounted
//! for by its [`Settler`], which looks what has been read, under whatever lock guards the accounts. What they tell each
//! other is in an [`Account`] that nobody else can reach. In the service the [`Consumer`] reads all rings.
//!
//! A full ring is a loss, never a wait: the producer is told so, and counts it.
#![no_std]

#[cfg(any(test, loom))]
extern crate std;

mod account;
mod bell;
mod consumer;
mod layout;
mod memory;
mod order;
mod pace;
mod producer;
mod settler;

pub use account::{Account, LogEntry};
pub use bell::{Bell, Published};
pub use consumer::{Consumer, Corrupt, Cursor, Front};
pub use layout::{CONSUMER_LINE, DATA_LINE, MAGIC, MAX_RINGS, Shape, ShapeHeader, VERSION, stride};
pub use memory::Shared;
pub use order::Order;
pub use pace::look_away;
pub use producer::{Producer, Room};
pub use settler::{Gone, Settler};

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
