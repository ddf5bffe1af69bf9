// SPDX-License-Identifier: MIT OR Apache-2.0
//! NT system time as people and programs read it.

use fltport::Time;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Seconds from 1601-01-01 to 1970-01-01.
const TO_UNIX: i64 = 11_644_473_600;

fn timestamp(time: Time) -> Option<Timestamp> {
    let seconds = time.0.div_euclid(10_000_000).checked_sub(TO_UNIX)?;
    let nanoseconds = i32::try_from(time.0.rem_euclid(10_000_000) * 100).ok()?;
    Timestamp::new(seconds, nanoseconds).ok()
}

/// RFC 3339 in UTC with all digits that NT has; `None` for a time beyond the calendar.
pub(crate) fn utc(time: Time) -> Option<String> {
    Some(
        timestamp(time)?
            .strftime("%Y-%m-%dT%H:%M:%S%.7fZ")
            .to_string(),
    )
}

/// The time of day here, with milliseconds.
pub(crate) fn time_of_day(time: Time, zone: &TimeZone) -> String {
    match timestamp(time) {
        Some(timestamp) => {
            let here = timestamp.to_zoned(zone.clone());
            here.strftime("%H:%M:%S%.3f").to_string()
        }
        None => "?".into(),
    }
}

/// Date and time here.
pub(crate) fn date_and_time(time: Time, zone: &TimeZone) -> String {
    match timestamp(time) {
        Some(timestamp) => {
            let here = timestamp.to_zoned(zone.clone());
            here.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        None => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_of_nt_are_all_there() {
        let time = Time((TO_UNIX + 1_700_000_000) * 10_000_000 + 1_234_567);
        assert_eq!(utc(time).unwrap(), "2023-11-14T22:13:20.1234567Z");
        assert_eq!(time_of_day(time, &TimeZone::UTC), "22:13:20.123");
        assert_eq!(date_and_time(time, &TimeZone::UTC), "2023-11-14 22:13:20");
        assert_eq!(utc(Time(0)).unwrap(), "1601-01-01T00:00:00.0000000Z");
        assert_eq!(utc(Time(-1)).unwrap(), "1600-12-31T23:59:59.9999999Z");
        assert_eq!(utc(Time(i64::MAX)), None);
        assert_eq!(time_of_day(Time(i64::MAX), &TimeZone::UTC), "?");
    }
}
