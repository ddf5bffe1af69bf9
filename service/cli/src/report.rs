// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has been done, line by line, to whoever reads it. A reader who goes away, or a full disk,
//! does not stop the work between two drivers: what is half done is worse than what is not told.

use crate::failure::Failure;
use std::io;

/// See the module.
pub(crate) struct Report<W> {
    write: W,
    trouble: Option<Failure>,
}

impl<W: FnMut(&str) -> io::Result<()>> Report<W> {
    pub(crate) fn new(write: W) -> Self {
        Report {
            write,
            trouble: None,
        }
    }

    /// Tells a line, unless an earlier one could not be told.
    pub(crate) fn line(&mut self, line: &str) {
        if self.trouble.is_none() {
            self.trouble = (self.write)(line).err().map(Failure::from);
        }
    }

    /// How the work ended; if well, what kept it from being told. A reader who went is no failure.
    pub(crate) fn end<T>(self, done: Result<T, Failure>) -> Result<T, Failure> {
        let done = done?;
        match self.trouble {
            None | Some(Failure::OutputClosed) => Ok(done),
            Some(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control;
    use crate::install::tests::{install_all, machine};
    use crate::machine::State;

    #[test]
    fn what_is_begun_is_finished_whoever_reads() {
        for (error, is_told) in [
            (io::ErrorKind::BrokenPipe, false),
            (io::ErrorKind::StorageFull, true),
        ] {
            let machine = machine();
            install_all(&machine);
            let mut tries = 0;
            let mut report = Report::new(|_: &str| {
                tries += 1;
                Err(error.into())
            });
            let mut tell = |line: String| {
                report.line(&line);
                Ok(())
            };
            let done = control::start(&machine, &[], &mut tell);
            assert_eq!(report.end(done).is_err(), is_told, "{error}");
            assert_eq!(tries, 1);
            for name in ["fltport", "process-monitor"] {
                let condition = machine.condition(name).unwrap().unwrap();
                assert_eq!(condition.state, State::Running, "{name}");
            }
        }
    }
}
