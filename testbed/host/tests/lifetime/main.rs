// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules about lifetime: each has a driver that breaks it, whose report is looked at, and a
//! twin that does the same thing right and stays silent.

#[path = "../support/mod.rs"]
mod support;

mod answer;
mod cache_aware_rundown;
mod driver;
mod filter;
mod gone;
mod left;
mod notify;
mod otherwise;
mod port;
mod reload;
mod rundown;
mod send;
mod unregister;
mod unusual;
mod work_item;
