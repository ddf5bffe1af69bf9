// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine asks for, done: completions, callbacks, wakes. Never under the lock.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use fltmgr::Effect;

use crate::{callback, table};

/// Executes effects in order, and those that follow from them.
pub(crate) fn execute(effects: Vec<Effect>) {
    let mut queue = VecDeque::from(effects);
    while let Some(effect) = queue.pop_front() {
        match effect {
            Effect::GetCompleted { get, outcome, .. } => {
                let pended = table::lock().gets.remove(&get);
                if let Some((_, irp)) = pended {
                    irp.complete_get(&outcome);
                }
            }
            Effect::SendCompleted { send, outcome } => {
                let pending = table::lock().sends.remove(&send);
                if let Some(pending) = pending {
                    *pending.outcome.lock() = Some(outcome);
                    pending.done.set();
                }
            }
            Effect::CallDisconnect {
                connection,
                port,
                cookie,
            } => {
                let record = table::lock().ports.get(&port).cloned();
                if let Some(record) = record {
                    callback::disconnect(&record, cookie);
                }
                queue.extend(table::lock().machine.disconnect_returned(connection));
            }
            Effect::ConnectionGone { .. } => {}
            Effect::PortGone { port } => {
                let record = table::lock().ports.remove(&port);
                drop(record);
            }
            Effect::FilterGone { filter } => {
                let record = table::lock().filters.remove(&filter);
                if let Some(record) = record {
                    record.gone.set();
                }
            }
        }
    }
}
