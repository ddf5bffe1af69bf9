// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client against a fake hosted kernel.
#![cfg(unix)]

mod asynchronous;
mod bad_days;
mod client;
mod corrupt;
mod fake_host;
mod fake_rings;
mod filters;
mod reconnect;
mod rings;
mod streams;
