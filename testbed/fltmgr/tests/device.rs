// SPDX-License-Identifier: MIT OR Apache-2.0
//! Laws of the blocks that fltlib.dll hands to the Filter Manager's devices: what is written is
//! read, and whatever a program writes there is either refused or means just one thing.

use fltmgr::device::{ConnectBlock, decode_name, encode_name};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_connect_block_is_read_as_it_was_written(
        name in vec(any::<u16>(), 0..300),
        context in vec(any::<u8>(), 0..600),
    ) {
        let bytes = ConnectBlock::encode(&name, &context).unwrap();
        let block = ConnectBlock::decode(&bytes).unwrap();
        prop_assert_eq!(block, ConnectBlock { name, context });
    }

    /// Short lengths, so that they add up now and then.
    #[test]
    fn any_bytes_are_refused_or_are_a_connect_block(
        lengths in (0..8_u16, 0..8_u16),
        rest in vec(any::<u8>(), 0..16),
    ) {
        let head = [lengths.0.to_le_bytes(), lengths.1.to_le_bytes()].concat();
        let bytes = [head, rest].concat();
        if let Ok(block) = ConnectBlock::decode(&bytes) {
            prop_assert_eq!(ConnectBlock::encode(&block.name, &block.context).unwrap(), bytes);
        }
    }

    #[test]
    fn a_name_is_read_as_it_was_written(name in vec(any::<u16>(), 1..300)) {
        prop_assert_eq!(decode_name(&encode_name(&name).unwrap()).unwrap(), name);
    }

    #[test]
    fn any_bytes_are_refused_or_are_a_name(bytes in vec(any::<u8>(), 0..16)) {
        if let Ok(name) = decode_name(&bytes) {
            prop_assert!(bytes.starts_with(&encode_name(&name).unwrap()));
        }
    }
}
