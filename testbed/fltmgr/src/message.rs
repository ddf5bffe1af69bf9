// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two headers of fltUserStructures.h, as bytes. Both are 16 bytes, little-endian, with four
//! bytes of padding at offset 4, on 32-bit and 64-bit clients alike.

use alloc::vec::Vec;

use crate::id::MessageId;
use crate::status::Status;

/// Size of `FILTER_MESSAGE_HEADER`, in bytes.
pub const MESSAGE_HEADER: usize = 16;
/// Size of `FILTER_REPLY_HEADER`, in bytes.
pub const REPLY_HEADER: usize = 16;

/// Bytes a get must offer to receive a message of `payload` bytes.
pub(crate) const fn needed(payload: usize) -> usize {
    payload.saturating_add(MESSAGE_HEADER)
}

/// `FILTER_MESSAGE_HEADER` and payload as the reader receives them.
///
/// `reply_capacity` is the driver's reply buffer (payload only); the header's `ReplyLength` says
/// the same with the reply header added, or 0 when no reply is expected.
pub(crate) fn encode(id: MessageId, reply_capacity: Option<usize>, payload: &[u8]) -> Vec<u8> {
    let reply_length = reply_capacity.map_or(0, |room| {
        u32::try_from(room.saturating_add(REPLY_HEADER)).unwrap_or(u32::MAX)
    });
    let mut bytes = Vec::with_capacity(needed(payload.len()));
    bytes.extend_from_slice(&reply_length.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&id.0.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A message as read from the bytes of a completed get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Expected reply including the reply header, in bytes; 0 when no reply is expected.
    pub reply_length: u32,
    /// To be echoed in the reply.
    pub id: MessageId,
    /// What the driver sent.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the bytes of a completed get; `None` when they are shorter than the header.
    pub fn parse(bytes: &'a [u8]) -> Option<Message<'a>> {
        let (reply_length, rest) = bytes.split_first_chunk::<4>()?;
        let (_padding, rest) = rest.split_first_chunk::<4>()?;
        let (id, payload) = rest.split_first_chunk::<8>()?;
        Some(Message {
            reply_length: u32::from_le_bytes(*reply_length),
            id: MessageId(u64::from_le_bytes(*id)),
            payload,
        })
    }
}

/// A reply as the service wrote it: `FILTER_REPLY_HEADER`, then the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Documented as "returned for the original message"; services set 0.
    pub status: Status,
    /// The id of the message this answers.
    pub id: MessageId,
    /// What the driver gets, from offset 0 of its buffer.
    pub payload: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads a reply; `None` when it is shorter than its header.
    pub fn parse(bytes: &'a [u8]) -> Option<Reply<'a>> {
        let (status, rest) = bytes.split_first_chunk::<4>()?;
        let (_padding, rest) = rest.split_first_chunk::<4>()?;
        let (id, payload) = rest.split_first_chunk::<8>()?;
        Some(Reply {
            status: Status(i32::from_le_bytes(*status)),
            id: MessageId(u64::from_le_bytes(*id)),
            payload,
        })
    }

    /// The bytes of this reply.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REPLY_HEADER.saturating_add(self.payload.len()));
        bytes.extend_from_slice(&self.status.0.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.id.0.to_le_bytes());
        bytes.extend_from_slice(self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_header_is_sixteen_bytes_with_the_id_at_eight() {
        let bytes = encode(MessageId(0x0102_0304_0506_0708), Some(4), b"ab");
        let golden = [
            20, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, b'a', b'b', //
        ];
        assert_eq!(bytes, golden);
    }

    #[test]
    fn reply_length_in_the_header_includes_the_reply_header() {
        let bytes = encode(MessageId(1), Some(1), b"");
        assert_eq!(Message::parse(&bytes).unwrap().reply_length, 17);
    }

    #[test]
    fn reply_length_is_zero_when_no_reply_is_expected() {
        let bytes = encode(MessageId(1), None, b"");
        assert_eq!(Message::parse(&bytes).unwrap().reply_length, 0);
    }

    #[test]
    fn parse_is_the_inverse_of_encode() {
        let bytes = encode(MessageId(9), Some(0), b"payload");
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.reply_length, message.id), (16, MessageId(9)));
        assert_eq!(message.payload, b"payload");
        let reply = Reply {
            status: Status::SUCCESS,
            id: MessageId(9),
            payload: b"yes",
        };
        assert_eq!(Reply::parse(&reply.encode()), Some(reply));
    }

    #[test]
    fn fifteen_bytes_are_no_header() {
        assert_eq!(Message::parse(&[0; 15]), None);
        assert_eq!(Reply::parse(&[0; 15]), None);
        assert!(Reply::parse(&[0; 16]).is_some());
    }
}
