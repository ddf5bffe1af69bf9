// SPDX-License-Identifier: MIT OR Apache-2.0
// The tests; what includes this says whether services have rings.

mod asker;
mod bare;
mod generator;
mod life;
mod machine;
mod ring_reader;
mod service;
mod stacks;

mod answers;
mod backlog;
mod command_records;
mod commands;
mod contract;
mod early;
mod fairness;
mod faults;
mod filters;
mod hand_over;
mod hostile;
mod lane;
mod lasting;
mod laws;
mod monitor;
mod pending;
mod registration;
mod registry;
mod replies;
mod request_accounts;
mod requests;
mod reservations;
mod rings;
mod running;
mod security;
mod snapshot;
mod stream;
mod streams;
mod stub;
mod unheard;
mod unload;
