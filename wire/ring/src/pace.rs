// SPDX-License-Identifier: MIT OR Apache-2.0
//! When to look into the rings again.
//!
//! Who has caught up with a producer and looks on reads the cache line that says how far it is, and so the producer waits for
//! that line when it publishes the next record: it gets slower by half where records are small, and the consumer finds
//! them one by one. Who looks away for a moment finds many.

/// Nanoseconds: much less than a sleep and a wake-up cost.
const LEAST: u64 = 1_000;
/// As many, that who reads steadily adds to a record's way.
const MOST: u64 = 4_000;

/// How many nanoseconds a consumer looks away that has copied so many bytes, where there was `room` for so many: none if there may be
/// more of them already, and else the longer the more had come, a nanosecond for each byte, from one to four microseconds.
#[must_use]
pub fn look_away(bytes: usize, room: usize) -> u64 {
    match bytes >= room / 4 * 3 {
        true => 0,
        false => (bytes as u64).clamp(LEAST, MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_goes_on_and_who_has_caught_up_waits_for_as_many_again() {
        let room = 32 * 1024;
        let pauses = [64, 1_000, 2_500, 4_000, 20_000].map(|bytes| look_away(bytes, room));
        assert_eq!(pauses, [1_000, 1_000, 2_500, 4_000, 4_000]);
        assert_eq!(look_away(room / 4 * 3, room), 0);
        assert_eq!(look_away(room, room), 0);
    }
}
