// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests whose answers come in a callback.

use crate::ffi::Completer;
use crate::provider::{Answer, Client, Handler, Provider};
use fltport_abi::account::Outcome;
use fltport_abi::message::{Message, Request};
use fltport_nt::bindings::STATUS_DELETE_PENDING;
use fltport_nt::ex::{PoolBox, PoolBytes};
use fltport_nt::linked::DISPATCH_LEVEL;
use fltport_nt::{NtError, Result};

/// An answer that is owed by this side, because there is no common driver.
pub(crate) struct Owed {
    completer: Completer,
    /// The default.
    reply: PoolBytes,
    next: Option<PoolBox<Owed>>,
}

impl<H: Handler> Provider<H> {
    /// IRQL: <= DISPATCH_LEVEL. Asks the decider without waiting. `then` is called once with the
    /// answer, at PASSIVE_LEVEL, in a thread of the common driver or of a service, at the latest
    /// after `deadline_ms` milliseconds; with `default` whenever the decider gives no answer, also
    /// when there is no common driver; `None` stands for the declared one. `then` must be brief, for others wait meanwhile, and so does
    /// dropping the provider, which it must not do itself.
    ///
    /// Errors, with which `then` is dropped and not called: `STATUS_INVALID_LEVEL`,
    /// `STATUS_INVALID_PARAMETER`, `STATUS_BUFFER_OVERFLOW`, `STATUS_INSUFFICIENT_RESOURCES` (also if
    /// too many are pending), `STATUS_NOT_SUPPORTED` with a common driver of the first revision.
    pub fn ask_async<'m, M>(
        &self,
        message: &M,
        deadline_ms: u32,
        default: impl Into<Option<M::Reply>>,
        then: impl FnOnce(Answer<M::Reply>) + Send + 'static,
    ) -> Result<()>
    where
        M: Message<'m> + Request<Reply: for<'r> Message<'r> + Copy + Send + 'static>,
    {
        let default = self.check_ask::<M>(DISPATCH_LEVEL, deadline_ms, default.into())?;
        let client = &self.client;
        let payload = client.encode(message)?;
        let reply = client.encode(&default)?;
        let completer = Completer::new(client.options.tag, move |reply: &[u8], outcome| {
            then(Answer::decode(reply, outcome, default));
        })?;
        let inside = client.gate.acquire();
        let bound = inside.as_ref().and_then(|_| client.bound());
        let Some(bound) = bound else {
            return self.owe(completer, reply);
        };
        let asked = (M::NUMBER, M::FIXED as u16);
        match bound.request_async(asked, &payload, deadline_ms, &reply, completer) {
            // The common driver has begun to go.
            Err((NtError(STATUS_DELETE_PENDING), completer)) => self.owe(completer, reply),
            Err((error, _)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Has the default answer, soon and at PASSIVE_LEVEL.
    fn owe(&self, completer: Completer, reply: PoolBytes) -> Result<()> {
        let mut owed = PoolBox::new(
            self.client.options.tag,
            Owed {
                completer,
                reply,
                next: None,
            },
        )?;
        {
            let mut state = self.client.state.lock();
            owed.next = state.owed.take();
            state.owed = Some(owed);
        }
        // One that is queued already has not begun to run, and finds this, too.
        self.binder.0.queue();
        Ok(())
    }
}

impl<H: Handler> Client<H> {
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
