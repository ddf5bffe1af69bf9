// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of message numbers, as subscriptions name them.

use fltport_abi::limits::MAX_MESSAGE_NUMBER;

/// A set of a provider's message numbers (1 to 63).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageSet(pub(crate) u64);

impl MessageSet {
    /// No message.
    pub const NONE: MessageSet = MessageSet(0);

    /// This set and one more number. A number that no message can have is left out.
    #[must_use]
    pub const fn with(self, number: u16) -> Self {
        if number == 0 || number > MAX_MESSAGE_NUMBER {
            return self;
        }
        MessageSet(self.0 | 1 << number)
    }

    /// Whether the set has this number.
    pub const fn contains(self, number: u16) -> bool {
        number <= MAX_MESSAGE_NUMBER && self.0 & (1 << number) != 0
    }

    /// The set in 64 bits: bit n is number n.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl std::ops::BitOr for MessageSet {
    type Output = MessageSet;
    fn bitor(self, other: MessageSet) -> MessageSet {
        MessageSet(self.0 | other.0)
    }
}

impl FromIterator<u16> for MessageSet {
    fn from_iter<I: IntoIterator<Item = u16>>(numbers: I) -> Self {
        numbers.into_iter().fold(MessageSet::NONE, MessageSet::with)
    }
}

impl From<u16> for MessageSet {
    fn from(number: u16) -> Self {
        MessageSet::NONE.with(number)
    }
}

impl<const N: usize> From<[u16; N]> for MessageSet {
    fn from(numbers: [u16; N]) -> Self {
        numbers.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_that_a_message_can_have() {
        let set = MessageSet::from([0, 1, 63, 64, 65_535]);
        assert_eq!(set.bits(), 1 << 1 | 1 << 63);
        assert!(set.contains(1) && set.contains(63));
        assert_eq!((set | 5.into()).bits(), set.bits() | 1 << 5);
        assert!(!set.contains(0) && !set.contains(64) && !set.contains(2));
    }
}
