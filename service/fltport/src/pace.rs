// SPDX-License-Identifier: MIT OR Apache-2.0
//! When to look into the rings again.
//!
//! Who has caught up with a producer and looks on reads the cache lines that it writes at that moment, and each
//! record costs both of them a transfer; or finds nothing, sleeps, and is woken for the next few. Who looks away for a
//! moment finds many. What comes after a sleep is copied at once.

use std::time::{Duration, Instant};

/// Who copied fewer bytes has caught up.
const SMALL: usize = 4 * 1024;

/// How long to look away then: much less than a sleep and a wake-up cost.
const AWAY: Duration = Duration::from_micros(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When a small batch was copied, if that was the last thing.
    caught_up: Option<Instant>,
}

impl Pace {
    /// A batch of so many bytes was copied.
    pub(crate) fn copied(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.caught_up = (bytes < SMALL).then(now);
    }

    /// When to look again, if not at once; asked once for each batch. `most` is how long who reads may be kept busy for nothing.
    pub(crate) fn due(&mut self, most: Duration) -> Option<Instant> {
        let away = AWAY.min(most);
        self.caught_up.take().map(|since| since + away)
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

    #[test]
    fn the_first_record_after_a_sleep_is_not_kept_waiting() {
        let mut pace = Pace::default();
        assert_eq!(pace.due(LONG), None);
        let now = Instant::now();
        pace.copied(64, || now);
        assert_eq!(pace.due(LONG), Some(now + AWAY));
        // Nothing was there, and it slept.
        assert_eq!(pace.due(LONG), None);
    }

    #[test]
    fn who_is_behind_goes_on_at_once() {
        let mut pace = Pace::default();
        pace.copied(64, Instant::now);
        pace.copied(SMALL, || unreachable!("nobody needs the time"));
        assert_eq!(pace.due(LONG), None);
    }

    #[test]
    fn who_does_not_want_to_spin_does_not() {
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.copied(64, || now);
        assert_eq!(pace.due(Duration::ZERO), Some(now));
    }
}
