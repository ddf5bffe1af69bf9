// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the command ends when it cannot do what it was asked: one line on standard error, exit code
//! 1.

use crate::table;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told: "cause. cure".
    Told(String),
    /// Nobody reads the output any more. Not an error: `fltport watch | head` ends this way.
    OutputClosed,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Failure::Told(text.into())
    }

    /// Tells it; the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        match self {
            Failure::Told(text) => {
                complain(&text);
                ExitCode::FAILURE
            }
            Failure::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

/// One line on standard error.
pub(crate) fn complain(text: &str) {
    let lines: Vec<String> = text.lines().map(table::printable).collect();
    let text = lines.join("\n");
    let text = text.trim_end_matches('.');
    // Nothing is left to be done if nobody reads standard error.
    let _unread = io::Write::write_fmt(&mut io::stderr(), format_args!("fltport: {text}.\n"));
}

impl From<fltport::Error> for Failure {
    fn from(error: fltport::Error) -> Self {
        Failure::Told(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // ERROR_PIPE_NOT_CONNECTED, which the standard library has no kind for.
        let not_connected = cfg!(windows) && error.raw_os_error() == Some(233);
        if error.kind() == io::ErrorKind::BrokenPipe || not_connected {
            Failure::OutputClosed
        } else {
            Failure::Told(format!(
                "the output cannot be written: {error}. See where standard output goes"
            ))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Told(text) => f.write_str(text),
            Failure::OutputClosed => f.write_str("the output has been closed"),
        }
    }
}
