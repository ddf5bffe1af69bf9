// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole of fltport in one process, under a seeded scheduler with virtual time: the Filter
//! Manager, the common driver, the process monitor, a client driver that floods and asks, and
//! services that come, go, hang, answer late, twice or not at all, and die at every step.
//!
//! A seed decides everything: what happens ([`plan`]) and in which order threads run
//! ([`nt_host::sim`]). After each run the laws of the project are checked: the ledger balances in
//! every row at every look, everything offered is in it, each stream is continuous, every question
//! ends by its deadline with its own answer or its default, nothing is left behind, and no driver
//! has broken a rule of NT.

#![deny(unsafe_code)]

pub mod causes;
pub mod circuit;
#[allow(unsafe_code, reason = "a driver's entry points, and its IRQL")]
pub mod generator;
pub mod journal;
pub mod laws;
pub mod plan;
#[allow(unsafe_code, reason = "memory that is shared with a driver")]
pub mod rings;
pub mod roles;
pub mod scenario;
pub mod seat;
pub mod service;
pub mod stream;
pub mod witness;
