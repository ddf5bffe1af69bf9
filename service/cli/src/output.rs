// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output: gathered, coloured where that is wanted, and as wide as the terminal.

use anstream::{AutoStream, ColorChoice};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// See the module.
pub(crate) struct Output {
    writer: BufWriter<AutoStream<StdoutLock<'static>>>,
    terminal: bool,
    colour: bool,
}

impl Output {
    pub(crate) fn new() -> Output {
        let stdout = io::stdout();
        let colour = AutoStream::choice(&stdout) != ColorChoice::Never;
        Output {
            terminal: stdout.is_terminal(),
            colour,
            writer: BufWriter::with_capacity(64 * 1024, AutoStream::auto(stdout.lock())),
        }
    }

    /// Whether to colour.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// The terminal's width in columns; `None` in a pipe or a file.
    pub(crate) fn width(&self) -> Option<usize> {
        if !self.terminal {
            return None;
        }
        let size = terminal_size::terminal_size_of(io::stdout());
        // Some pseudo-terminals have no size, and say 0.
        let width = size.map_or(0, |(width, _)| width.0);
        Some(if width == 0 { 80 } else { width.into() })
    }

    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.writer.write_all(line.as_bytes())?;
        self.writer.write_all(b"\n")
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
