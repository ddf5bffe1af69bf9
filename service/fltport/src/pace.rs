// SPDX-License-Identifier: MIT OR Apache-2.0
//! When to look into the rings again: not at once if there was little ([`look_away`] says why). What comes after a
//! sleep is copied at once.

use fltport_ring::look_away;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When a small batch was copied, if that was the last thing, and for how long to look away.
    caught_up: Option<(Instant, Duration)>,
}

impl Pace {
    /// A batch of so many bytes was copied, for which there was so much room.
    pub(crate) fn copied(&mut self, bytes: usize, room: usize, now: impl FnOnce() -> Instant) {
        self.caught_up = match look_away(bytes, room) {
            0 => None,
            away => Some((now(), Duration::from_nanos(away))),
        };
    }

    /// When to look again, if not at once; asked once for each batch. `most` is how long who reads may be kept busy for nothing.
    pub(crate) fn due(&mut self, most: Duration) -> Option<Instant> {
        let (since, away) = self.caught_up.take()?;
        Some(since + away.min(most))
    }

    /// Looks away, unless the records have taken their time already.
    pub(crate) fn keep(&mut self, most: Duration) {
        if let Some(due) = self.due(most) {
            while Instant::now() < due {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);
    const ROOM: usize = 1 << 15;
    const AWAY: Duration = Duration::from_micros(1);

    #[test]
    fn the_first_record_after_a_sleep_is_not_kept_waiting() {
        let mut pace = Pace::default();
        assert_eq!(pace.due(LONG), None);
        let now = Instant::now();
        pace.copied(64, ROOM, || now);
        assert_eq!(pace.due(LONG), Some(now + AWAY));
        // Nothing was there, and it slept.
        assert_eq!(pace.due(LONG), None);
    }

    #[test]
    fn who_is_behind_goes_on_at_once() {
        let mut pace = Pace::default();
        pace.copied(64, ROOM, Instant::now);
        pace.copied(ROOM, ROOM, || unreachable!("nobody needs the time"));
        assert_eq!(pace.due(LONG), None);
    }

    #[test]
    fn who_does_not_want_to_spin_does_not() {
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.copied(64, ROOM, || now);
        assert_eq!(pace.due(Duration::ZERO), Some(now));
    }
}
