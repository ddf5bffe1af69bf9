// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager's own headers around what the driver and the service say to each other
//! (`fltUserStructures.h`).
//!
//! Both are 16 bytes. A reply is sent with exactly its own length: trailing padding would count as
//! payload, and the driver would get `STATUS_BUFFER_OVERFLOW` instead of an answer.

use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{REPLY_MAGIC, ReplyHeader};

fltport_abi::fixed! {
    /// `FILTER_MESSAGE_HEADER`.
    pub struct MessageHeader: 16 {
        /// Bytes that a reply may have, `FILTER_REPLY_HEADER` included; 0 if no reply is expected.
        pub reply_length: u32,
        /// Padding.
        pub padding: u32,
        /// To be echoed in the reply.
        pub message_id: u64,
    }

    /// `FILTER_REPLY_HEADER`.
    pub struct FilterReplyHeader: 16 {
        /// Handed to the driver as the status of its send; always 0 here.
        pub status: i32,
        /// Padding.
        pub padding: u32,
        /// From the message.
        pub message_id: u64,
    }
}

/// Bytes of either header.
pub(crate) const ENVELOPE: usize = 16;

/// The bytes of a reply: the Filter Manager's header, ours, the payload.
pub(crate) fn reply(message_id: u64, header: ReplyHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ENVELOPE + ReplyHeader::SIZE];
    let envelope = FilterReplyHeader {
        status: 0,
        padding: 0,
        message_id,
    };
    // Both fit: the vector was made for them.
    let _fits = envelope.write(&mut bytes);
    let _fits = bytes
        .get_mut(ENVELOPE..)
        .and_then(|rest| header.write(rest));
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a command that answers: our header, the reply's payload.
pub(crate) fn answer(header: ReplyHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ReplyHeader::SIZE];
    // It fits: the vector was made for it.
    let _fits = header.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// The header of a reply to the request `request`.
pub(crate) fn reply_header(provider: u16, message: u16, request: u64) -> ReplyHeader {
    ReplyHeader {
        magic: REPLY_MAGIC,
        provider,
        message,
        request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_reply_have_no_padding_behind_them() {
        let bytes = reply(0x0102, reply_header(1, 5, 7), &[1, 0, 0, 0]);
        assert_eq!(
            bytes,
            [
                0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, // the Filter Manager's
                b'F', b'P', b'R', b'E', 1, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, // ours
                1, 0, 0, 0,
            ]
        );
        assert_eq!(reply(1, reply_header(1, 5, 7), &[9]).len(), 33);
    }
}
