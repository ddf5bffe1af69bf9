// SPDX-License-Identifier: MIT OR Apache-2.0
//! The miss policy: what requests are answered with when nobody answers them.

use crate::message::encoded;
use core::any::Any;
use fltport_abi::limits::MAX_REPLY;
use fltport_abi::message::{Message, Request};
use fltport_abi::schema::{self, Role};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::{PoolBytes, PoolSlice, Tag};
use fltport_nt::{NtError, Result};
use fltport_stub as stub;

/// What one request is answered with when nobody answers it: declared with
/// [`Options::default_replies`](crate::Options::default_replies), shown by `fltport providers`, and
/// used by [`Provider::ask`](crate::Provider::ask) if it is given no other.
#[derive(Clone, Copy)]
pub struct DefaultReply {
    message: u16,
    reply: &'static dyn Reply,
}

/// A reply of any type.
trait Reply: Any + Sync {
    fn encoded(&self, tag: Tag) -> Result<PoolBytes>;
}

impl<R: Message<'static> + Any + Sync> Reply for R {
    fn encoded(&self, tag: Tag) -> Result<PoolBytes> {
        encoded(tag, self)
    }
}

const WRONG: NtError = NtError(STATUS_INVALID_PARAMETER);

impl DefaultReply {
    /// The default reply to requests of this kind.
    pub const fn to<'m, Q>(reply: &'static Q::Reply) -> Self
    where
        Q: Message<'m> + Request<Reply: Sync>,
    {
        DefaultReply {
            message: <Q as Message<'m>>::NUMBER,
            reply,
        }
    }
}

/// IRQL: <= DISPATCH_LEVEL. The replies as the common driver takes them. `STATUS_INVALID_PARAMETER`
/// if one of them is not for a request of this provider, is the second for one, or is too large;
/// `STATUS_INSUFFICIENT_RESOURCES`.
pub(crate) fn declared(
    tag: Tag,
    provider: &schema::Provider,
    replies: &[DefaultReply],
) -> Result<PoolSlice<stub::DefaultReply>> {
    let mut declared = PoolSlice::filled_with(tag, replies.len(), || stub::DefaultReply {
        message: 0,
        reply: PoolBytes::empty(tag),
    })?;
    let mut seen = 0_u64;
    for (row, DefaultReply { message, reply }) in declared.iter_mut().zip(replies) {
        let mut types = provider.messages.iter();
        let is_request = types.any(|m| m.number == *message && m.role == Role::Request);
        let bit = 1_u64.checked_shl((*message).into()).unwrap_or(0);
        let reply = reply.encoded(tag)?;
        if !is_request || seen & bit != 0 || reply.len() > MAX_REPLY {
            return Err(WRONG);
        }
        seen |= bit;
        *row = stub::DefaultReply {
            message: *message,
            reply,
        };
    }
    Ok(declared)
}

/// What was declared for requests of this kind; `STATUS_INVALID_PARAMETER` if nothing was.
pub(crate) fn of<'m, Q>(replies: &[DefaultReply]) -> Result<Q::Reply>
where
    Q: Message<'m> + Request<Reply: Copy>,
{
    let declared = replies.iter().find(|d| d.message == Q::NUMBER);
    let reply = declared.and_then(|d| (d.reply as &dyn Any).downcast_ref::<Q::Reply>());
    reply.copied().ok_or(WRONG)
}
