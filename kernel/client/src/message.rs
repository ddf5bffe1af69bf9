// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages as bytes in pool memory.

use fltport_abi::account::Cause;
use fltport_abi::message::Message;
use fltport_nt::bindings::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER};
use fltport_nt::ex::{PoolBytes, Tag};
use fltport_nt::{NtError, Result};

/// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`, or `STATUS_INVALID_PARAMETER`
/// if a part of it is too large for the wire.
pub(crate) fn encoded<'m, M: Message<'m>>(tag: Tag, message: &M) -> Result<PoolBytes> {
    let mut bytes = PoolBytes::zeroed(tag, message.encoded_len())?;
    let written = message.encode(&mut bytes);
    written.map_or(Err(NtError(STATUS_INVALID_PARAMETER)), |_| Ok(bytes))
}

/// Bytes of a message that is encoded on the stack.
const SHORT: usize = 256;

/// IRQL: <= DISPATCH_LEVEL. Has something done with the bytes of a message: on the stack if it is short, as most notifications are,
/// so that they take no memory from the pool.
///
/// Errors: those of [`encoded`].
#[inline]
pub(crate) fn with_encoded<'m, M: Message<'m>, R>(
    tag: Tag,
    message: &M,
    act: impl FnOnce(&[u8]) -> R,
) -> Result<R> {
    match message.encoded_len() {
        // In two sizes: all of it is zeroed first.
        length if length <= SHORT / 4 => on_stack::<M, R, { SHORT / 4 }>(message, act),
        length if length <= SHORT => on_stack::<M, R, SHORT>(message, act),
        _ => Ok(act(&encoded(tag, message)?)),
    }
}

#[inline]
fn on_stack<'m, M: Message<'m>, R, const ROOM: usize>(
    message: &M,
    act: impl FnOnce(&[u8]) -> R,
) -> Result<R> {
    let mut short = [0; ROOM];
    let written = message.encode(&mut short);
    let bytes = written.ok().and_then(|length| short.get(..length));
    bytes.map_or(Err(NtError(STATUS_INVALID_PARAMETER)), |bytes| {
        Ok(act(bytes))
    })
}

/// What a notification that could not be encoded is accounted with.
pub(crate) fn cause(error: NtError) -> Cause {
    match error.status() {
        STATUS_INSUFFICIENT_RESOURCES => Cause::NoMemory,
        _ => Cause::TooLarge,
    }
}
