// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers that this side owes, because there is no common driver.

use crate::ffi::Completer;
use crate::gate::Gate;
use fltport_abi::account::Outcome;
use fltport_nt::Result;
use fltport_nt::ex::{PoolBox, PoolBytes};

/// A request that is to be answered by its default.
pub(crate) struct Owed {
    completer: Completer,
    /// The default.
    reply: PoolBytes,
    next: Option<PoolBox<Owed>>,
}

impl Gate {
    /// IRQL: <= DISPATCH_LEVEL. Notes it; somebody has to queue the work item.
    pub(crate) fn owe(&self, completer: Completer, reply: &[u8]) -> Result<()> {
        let reply = PoolBytes::copy_of(self.tag, reply)?;
        let owed = Owed {
            completer,
            reply,
            next: None,
        };
        let mut owed = PoolBox::new(self.tag, owed)?;
        let mut state = self.state.lock();
        owed.next = state.owed.take();
        state.owed = Some(owed);
        Ok(())
    }

    /// IRQL: PASSIVE_LEVEL, from the work item. Gives what is owed, in the order of the requests.
    pub(crate) fn complete_owed(&self) {
        let mut newest_first = self.state.lock().owed.take();
        let mut in_order = None;
        while let Some(mut owed) = newest_first {
            newest_first = core::mem::replace(&mut owed.next, in_order);
            in_order = Some(owed);
        }
        while let Some(owed) = in_order {
            let Owed {
                completer,
                reply,
                next,
            } = owed.into_inner();
            in_order = next;
            completer.call(&reply, Outcome::NoDecider);
        }
    }
}
