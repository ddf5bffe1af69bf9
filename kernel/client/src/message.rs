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
    let mut short = [0; SHORT];
    let Some(bytes) = short.get_mut(..message.encoded_len()) else {
        return Ok(act(&encoded(tag, message)?));
    };
    let written = message.encode(bytes);
    written.map_or(Err(NtError(STATUS_INVALID_PARAMETER)), |_| Ok(act(bytes)))
}

/// What a notification that could not be encoded is accounted with.
pub(crate) fn cause(error: NtError) -> Cause {
    match error.status() {
        STATUS_INSUFFICIENT_RESOURCES => Cause::NoMemory,
        _ => Cause::TooLarge,
    }
}
