// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every function of the header from C, with the stub and importing, with today's common driver and a real
//! service: what is told arrives as it was told, the accounts agree, and misuse has the status that the
//! header says.

mod commands;
mod messages;
mod notifications;
mod requests;
mod scene;
mod snapshots;
