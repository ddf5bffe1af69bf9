// SPDX-License-Identifier: MIT OR Apache-2.0

//! The checksum of an image: NT's loader compares it for every driver.

/// Where the checksum lies in the optional header.
const OFFSET: usize = 64;

/// The checksum that an image should have: the sum of its 16-bit words, each carry added again, with
/// the checksum itself taken for 0; plus its length.
///
/// Source: `CheckSumMappedFile` in Microsoft's documentation of ImageHlp, and the algorithm of the
/// Internet checksum, which it is. A signature is part of the file and counts.
pub(crate) fn of(bytes: &[u8], optional_header: usize) -> u32 {
    let field = optional_header + OFFSET;
    let mut sum = 0u32;
    for (index, word) in bytes.chunks(2).enumerate() {
        let at = index * 2;
        if (field..field + 4).contains(&at) {
            continue;
        }
        let low = u32::from(word[0]);
        let high = u32::from(word.get(1).copied().unwrap_or(0));
        sum += high << 8 | low;
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum.wrapping_add(bytes.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_summed_with_their_carry_and_the_length() {
        // 0xFFFF + 0x0002 is 0x1_0001: 0x0002. With the odd byte 0x30: 0x32; 5 bytes.
        assert_eq!(of(&[0xFF, 0xFF, 0x02, 0x00, 0x30], 1000), 0x32 + 5);
    }

    #[test]
    fn the_checksum_itself_does_not_count() {
        let mut bytes = vec![0; 100];
        bytes[OFFSET + 8..OFFSET + 12].fill(0xAA);
        assert_eq!(of(&bytes, 8), 100);
        bytes[OFFSET + 12] = 1;
        assert_eq!(of(&bytes, 8), 101);
    }
}
