// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a provider finds the common driver and lets go of it.
//!
//! It is in one of two states, staging or bound. Announcements and revocations come as callbacks,
//! at up to DISPATCH_LEVEL; the registration with the common driver needs PASSIVE_LEVEL, so a work
//! item does it.

use crate::ffi::{Bound, Table};
use crate::gate::{EVERYTHING, Gate, UNKNOWN};
use crate::staging::Staged;
use crate::stub::{DefaultReply, Routines, Terms};
use core::sync::atomic::Ordering;
use fltport_abi::interface::{ANNOUNCE, REVOKE};
use fltport_nt::bindings::STATUS_DELETE_PENDING;
use fltport_nt::ex::{CallbackObject, Listener, PoolArc, PoolBytes, PoolSlice};
use fltport_nt::io::WorkItem;
use fltport_nt::{NtError, Result};

/// What a provider registers, again with each common driver.
pub(crate) struct Registration<R> {
    pub(crate) gate: PoolArc<Gate>,
    pub(crate) schema: PoolBytes,
    pub(crate) terms: Terms,
    pub(crate) defaults: PoolSlice<DefaultReply>,
    pub(crate) routines: R,
}

/// Does at PASSIVE_LEVEL what cannot be done elsewhere: binds, and answers what is owed.
pub(crate) struct Binder<R: Routines>(pub(crate) WorkItem<Registration<R>>);

/// Hears of the common driver's coming and going.
pub(crate) struct Announcements<R: Routines> {
    pub(crate) registration: PoolArc<Registration<R>>,
    pub(crate) binder: PoolArc<Binder<R>>,
}

impl<R: Routines> Listener for Announcements<R> {
    fn notified(&self, argument1: usize, argument2: usize) {
        match argument1 {
            ANNOUNCE => {
                if let Some(table) = Table::announced(argument2) {
                    self.registration.gate.state.lock().announced = Some(table);
                    self.binder.0.queue();
                }
            }
            REVOKE => self.registration.gate.revoked(),
            _ => {}
        }
    }
}

impl<R: Routines> Registration<R> {
    /// IRQL: PASSIVE_LEVEL. Binds to the common driver that is there already, if any.
    #[inline(never)]
    pub(crate) fn ask_and_bind(&self, object: &CallbackObject) -> Result<()> {
        // From before the question: a revocation that begins behind the answer waits until it has
        // been used.
        let Some(_inside) = self.gate.inside.enter() else {
            return Ok(());
        };
        let Some(table) = Table::ask(object) else {
            return Ok(());
        };
        self.gate.state.lock().announced = Some(table);
        match self.bind() {
            // It has begun to go: the next one will be announced.
            Err(NtError(STATUS_DELETE_PENDING)) => Ok(()),
            bound => bound,
        }
    }

    /// The work item: errors have nobody to go to; notifications stay staged, and the next
    /// announcement tries again.
    pub(crate) fn bind_later(&self) {
        self.gate.complete_owed();
        let _staged_still = self.bind();
    }

    /// IRQL: PASSIVE_LEVEL. Registers with the table that was announced, if any, and hands over
    /// what was staged.
    fn bind(&self) -> Result<()> {
        let gate = &*self.gate;
        let Some(inside) = gate.inside.enter() else {
            return Ok(());
        };
        let table = {
            let mut state = gate.state.lock();
            let wanted = !state.binding && state.bound.is_none() && !state.ending;
            let announced = state.announced.take().filter(|_| wanted);
            state.binding |= announced.is_some();
            announced
        };
        let Some(table) = table else {
            return Ok(());
        };
        let bound = table.register(self);
        match &bound {
            Ok(_) if table.is_first() => gate.interest.store(UNKNOWN, Ordering::Relaxed),
            Ok(_) => {}
            // It may have been written before that failed.
            Err(_) => gate.stage_everything(),
        }
        let mut state = gate.state.lock();
        state.binding = false;
        let bound = bound?;
        // Under the lock, so that what is offered from now on comes behind it: at most the staging
        // buffer's bytes, once.
        let hand_over = |staged: &Staged, payload: &[u8]| {
            // If the common driver has begun to go, the rest stays for the next one. What it
            // refuses otherwise was not a notification of this provider when it was staged either.
            bound.notify(staged, 0, payload) != Err(NtError(STATUS_DELETE_PENDING))
        };
        state.staging.drain(hand_over, |message, cause, count| {
            bound.lost(message, cause, count)
        });
        if state.ending {
            drop(state);
            gate.unregister(bound);
        } else {
            state.bound = Some(bound);
            inside.publish(bound);
        }
        Ok(())
    }
}

impl Gate {
    /// IRQL: PASSIVE_LEVEL. The provider is dropped: unregisters if it is bound, and no revocation is
    /// doing that.
    pub(crate) fn end(&self) {
        self.state.lock().ending = true;
        if let Some(_inside) = self.inside.enter() {
            let bound = {
                let mut state = self.state.lock();
                self.inside.withdraw();
                state.bound.take()
            };
            if let Some(bound) = bound {
                self.unregister(bound);
            }
        }
        // If the gate was closed just now, the common driver is being unloaded and unbinds; the end
        // of the announcements waits for that.
    }

    /// IRQL: PASSIVE_LEVEL. From here on everything is staged.
    fn unregister(&self, bound: Bound) {
        bound.unregister();
        self.stage_everything();
    }

    /// IRQL: any. The common driver does not write these words any more: everything is wanted.
    fn stage_everything(&self) {
        self.unheard.quiet.store(0, Ordering::Relaxed);
        self.interest.store(EVERYTHING, Ordering::Relaxed);
    }

    /// IRQL: PASSIVE_LEVEL. The common driver goes: lets go of its table before this returns.
    fn revoked(&self) {
        {
            let mut state = self.state.lock();
            state.announced = None;
            state.leaving = true;
        }
        // By now it has unregistered everybody.
        self.stage_everything();
        // Not a caller is inside then, and not a binder.
        let closed = self.inside.close();
        let bound = {
            let mut state = self.state.lock();
            state.announced = None;
            state.leaving = false;
            state.bound.take()
        };
        if let Some(bound) = bound {
            self.unregister(bound);
        }
        closed.reopen();
    }
}
