// SPDX-License-Identifier: MIT OR Apache-2.0
//! The miss policy: what requests are answered with when nobody answers them.

use core::any::Any;
use fltport_abi::interface;
use fltport_abi::limits::MAX_REPLY;
use fltport_abi::message::{Message, Request};
use fltport_abi::schema::{self, Role};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::{PoolBytes, PoolSlice, Tag};
use fltport_nt::{NtError, Result};

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
    fn length(&self) -> usize;
    /// Writes it to `out`, which has that length.
    fn encode_to(&self, out: &mut [u8]) -> Result<()>;
}

impl<R: Message<'static> + Any + Sync> Reply for R {
    fn length(&self) -> usize {
        self.encoded_len()
    }

    fn encode_to(&self, out: &mut [u8]) -> Result<()> {
        let written = self.encode(out);
        written.map_or(Err(WRONG), |_| Ok(()))
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

/// `STATUS_INVALID_PARAMETER` if one of them is not for a request of this provider, is the second for
/// one, or is too large.
pub(crate) fn check(provider: &schema::Provider, replies: &[DefaultReply]) -> Result<()> {
    let mut seen = 0_u64;
    for DefaultReply { message, reply } in replies {
        let mut types = provider.messages.iter();
        let is_request = types.any(|m| m.number == *message && m.role == Role::Request);
        let bit = 1_u64.checked_shl((*message).into()).unwrap_or(0);
        if !is_request || seen & bit != 0 || reply.length() > MAX_REPLY {
            return Err(WRONG);
        }
        seen |= bit;
    }
    Ok(())
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

/// Default replies as the common driver takes them.
pub(crate) struct Encoded {
    pub(crate) rows: PoolSlice<interface::DefaultReply>,
    /// What the rows point to.
    _replies: PoolBytes,
}

impl Encoded {
    /// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn new(tag: Tag, replies: &[DefaultReply]) -> Result<Self> {
        let none = interface::DefaultReply {
            size: size_of::<interface::DefaultReply>() as u32,
            message: 0,
            reserved: 0,
            reply: core::ptr::null(),
            length: 0,
            reserved2: 0,
        };
        let mut rows = PoolSlice::filled(tag, replies.len(), none)?;
        let mut bytes = PoolBytes::zeroed(tag, replies.iter().map(|d| d.reply.length()).sum())?;
        let mut rest = &mut *bytes;
        for (row, DefaultReply { message, reply }) in rows.iter_mut().zip(replies) {
            let length = reply.length();
            let (place, behind) = rest.split_at_mut_checked(length).ok_or(WRONG)?;
            reply.encode_to(place)?;
            row.message = *message;
            // Where it stays: the rows are moved, the pool memory is not.
            row.reply = place.as_ptr();
            row.length = length as u32;
            rest = behind;
        }
        Ok(Encoded {
            rows,
            _replies: bytes,
        })
    }
}
