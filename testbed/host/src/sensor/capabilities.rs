// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a sensor can do here, and what is missing, for people to read.

#![forbid(unsafe_code)]

use std::fmt;

use super::mounts::Coverage;

/// Where a sensor learns of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel tells every fork, exec and exit.
    Connector,
    /// Walks over `/proc`, 50 milliseconds apart; what lives shorter is not seen.
    Procfs,
}

/// What a sensor can do. Its display is one line for each source and for each thing that is
/// missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Where starts and exits come from.
    pub source: Source,
    /// Execs are held while their start is delivered, so that a callback can refuse them.
    pub can_hold: bool,
    /// What there is, then what is missing, each with the cure.
    pub lines: Vec<String>,
}

impl Capabilities {
    /// `holding`: there is a gate, and whether it still holds.
    pub(super) fn new(
        source: Source,
        holding: Option<bool>,
        coverage: Coverage,
        missing: Vec<String>,
    ) -> Capabilities {
        let mut lines = vec![String::from(match source {
            Source::Connector => "process connector: yes, every fork, exec and exit is seen",
            Source::Procfs => "/proc: yes, every 50 ms; processes that live shorter are not seen",
        })];
        let can_hold = holding == Some(true) && coverage.file_systems > 0;
        match holding {
            Some(true) => {
                let number = coverage.file_systems;
                lines.push(format!("exec hold: yes, on {number} file systems"));
                lines.extend(coverage.refused);
            }
            Some(false) => lines.push(String::from(
                "exec hold: given up, because the reader stood still; start the sensor again",
            )),
            None => {}
        }
        lines.extend(missing);
        Capabilities {
            source,
            can_hold,
            lines,
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage() -> Coverage {
        Coverage {
            file_systems: 2,
            refused: vec![String::from("programs on /x are not held")],
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let missing = vec![String::from("a cure")];
        let all = Capabilities::new(Source::Connector, Some(true), coverage(), missing);
        assert!(all.can_hold);
        assert_eq!(all.lines.len(), 4);
        assert!(
            all.to_string()
                .ends_with("programs on /x are not held\na cure\n")
        );
        let given_up = Capabilities::new(Source::Connector, Some(false), coverage(), vec![]);
        assert!(!given_up.can_hold);
        assert!(given_up.to_string().contains("given up"));
        let bare = Capabilities::new(Source::Procfs, None, Coverage::default(), vec![]);
        assert!(!bare.can_hold);
        assert_eq!(bare.lines.len(), 1);
    }
}
