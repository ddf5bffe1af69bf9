// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests, whose answers are waited for or come in a callback.

use crate::default_reply;
use crate::message::encoded;
use crate::provider::{Handler, Provider};
use fltport_abi::account::Outcome;
use fltport_abi::message::{Message, Request};
use fltport_nt::Result;

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<R> {
    /// The decider's reply, or the default.
    pub reply: R,
    /// Who answered, or why nobody did.
    pub outcome: Outcome,
}

impl<R: for<'r> Message<'r>> Answer<R> {
    /// A decider can answer with bytes of the right length that are not a reply.
    fn decode(bytes: &[u8], outcome: Outcome, default: R) -> Self {
        match R::decode(bytes) {
            Ok(reply) => Answer { reply, outcome },
            Err(_) => Answer {
                reply: default,
                outcome: Outcome::BadReply,
            },
        }
    }
}

impl<H: Handler> Provider<H> {
    /// IRQL: <= APC_LEVEL, with special kernel APCs enabled. Asks the decider and waits for its
    /// answer, at most `deadline_ms` milliseconds. `default` is the answer whenever the decider
    /// gives none, also when there is no common driver; `None` stands for the one that was declared
    /// with [`Options::default_replies`](crate::Options::default_replies).
    ///
    /// Errors: `STATUS_INVALID_LEVEL`, `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_INVALID_PARAMETER`
    /// (also if no default was declared), `STATUS_BUFFER_OVERFLOW`; nobody was asked then, and the
    /// caller goes on with its default.
    pub fn ask<'m, M>(
        &self,
        message: &M,
        deadline_ms: u32,
        default: impl Into<Option<M::Reply>>,
    ) -> Result<Answer<M::Reply>>
    where
        M: Message<'m> + Request<Reply: for<'r> Message<'r> + Copy>,
    {
        let default = self.default_reply::<M>(default.into())?;
        let tag = self.options.terms.tag;
        let payload = encoded(tag, message)?;
        let mut reply = encoded(tag, &default)?;
        let (number, fixed) = (M::NUMBER, M::FIXED as u16);
        let outcome = self
            .stub
            .request(number, fixed, &payload, deadline_ms, &mut reply)?;
        Ok(Answer::decode(&reply, outcome, default))
    }

    /// IRQL: <= DISPATCH_LEVEL. Asks the decider without waiting. `then` is called once with the
    /// answer, at PASSIVE_LEVEL, in a thread of the common driver or of a service, at the latest
    /// after `deadline_ms` milliseconds; with `default` whenever the decider gives no answer, also
    /// when there is no common driver; `None` stands for the declared one. `then` must be brief, for
    /// others wait meanwhile, and so does dropping the provider, which it must not do itself.
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
        let default = self.default_reply::<M>(default.into())?;
        let tag = self.options.terms.tag;
        let payload = encoded(tag, message)?;
        let reply = encoded(tag, &default)?;
        let (number, fixed) = (M::NUMBER, M::FIXED as u16);
        let then = move |reply: &[u8], outcome| then(Answer::decode(reply, outcome, default));
        self.stub
            .request_async(number, fixed, &payload, deadline_ms, &reply, then)
    }

    fn default_reply<'m, M>(&self, given: Option<M::Reply>) -> Result<M::Reply>
    where
        M: Message<'m> + Request<Reply: Copy>,
    {
        let declared = || default_reply::of::<M>(self.options.default_replies);
        given.map_or_else(declared, Ok)
    }
}
