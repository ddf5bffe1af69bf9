// SPDX-License-Identifier: MIT OR Apache-2.0

//! The date and the version of a driver package.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: u16,
    pub(crate) month: u8,
    pub(crate) day: u8,
}

impl Date {
    /// The day of the sources, so that equal sources give equal files: SOURCE_DATE_EPOCH where it is
    /// set (seconds since 1970), else the last commit's.
    ///
    /// # Errors
    /// SOURCE_DATE_EPOCH is no number, or is not set and this is no checkout.
    pub(crate) fn of_sources(workspace: &Workspace) -> Result<Date> {
        let seconds = match env::var("SOURCE_DATE_EPOCH") {
            Ok(seconds) => seconds,
            Err(_) => {
                let mut git = Command::new("git");
                git.current_dir(workspace.root());
                command::text(git.args(["log", "-1", "--format=%ct"])).context(
                    "the date of the sources is not known: this is no git checkout; set \
                     SOURCE_DATE_EPOCH",
                )?
            }
        };
        let seconds: u64 = seconds
            .trim()
            .parse()
            .context("SOURCE_DATE_EPOCH is no number of seconds")?;
        Date::of_epoch(seconds).context("SOURCE_DATE_EPOCH is too late")
    }

    /// The day, in UTC, of a number of seconds since 1970.
    pub(crate) fn of_epoch(seconds: u64) -> Option<Date> {
        let mut days = seconds / 86_400;
        let mut year = 1970;
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if days < length {
                break;
            }
            days -= length;
            year = u16::checked_add(year, 1)?;
        }
        let february = if is_leap(year) { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(months) {
            if days < length {
                let day = days as u8 + 1;
                return Some(Date { year, month, day });
            }
            days -= length;
        }
        None
    }

    /// As DriverVer has it.
    pub(crate) fn american(self) -> String {
        format!("{:02}/{:02}/{}", self.month, self.day, self.year)
    }
}

fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// An INF file with this in its DriverVer, and with the line ends of Windows.
///
/// # Errors
/// It has no line for it, or more than one.
pub(crate) fn stamp(text: &str, driver_version: &str) -> Result<String> {
    let is_stamp = |line: &str| line.trim_start().starts_with("DriverVer");
    let found = text.lines().filter(|line| is_stamp(line)).count();
    if found != 1 {
        bail!("it has {found} lines for DriverVer, not one");
    }
    let line = format!("DriverVer   = {driver_version}");
    Ok(text
        .lines()
        .map(|each| if is_stamp(each) { &line } else { each })
        .flat_map(|each| [each, "\r\n"])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_leap_years() {
        for (seconds, american) in [
            (0, "01/01/1970"),
            (951_782_400, "02/29/2000"),
            (1_709_251_199, "02/29/2024"),
            (1_709_251_200, "03/01/2024"),
            (1_798_761_599, "12/31/2026"),
            (4_107_542_400, "03/01/2100"),
        ] {
            assert_eq!(Date::of_epoch(seconds).unwrap().american(), american);
        }
        assert_eq!(Date::of_epoch(u64::MAX), None);
    }

    #[test]
    fn the_stamp_replaces_one_line_and_changes_the_line_ends() {
        let stamped = stamp("[Version]\nDriverVer = 1,2\nClass = x\n", "3,4").unwrap();
        assert_eq!(stamped, "[Version]\r\nDriverVer   = 3,4\r\nClass = x\r\n");
        assert!(stamp("[Version]\n", "3,4").is_err());
        assert!(stamp("DriverVer=1\nDriverVer=2\n", "3,4").is_err());
    }
}
