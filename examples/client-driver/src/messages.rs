// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver tells, asks and takes.

use fltport_abi::message::Pid;
use fltport_abi::text::Text;

fltport_abi::messages! {
    /// The driver as it registers.
    provider PROVIDER = "gate";

    /// A program has started.
    notification 1 "launched" Launched<'a> {
        /// The process.
        pid: Pid,
        /// Its image.
        image: Text<'a>,
    }

    /// May this program start?
    request 2 "launch" Launch<'a> {
        /// The process.
        pid: Pid,
        /// Its image.
        image: Text<'a>,
    } -> /// What the decider says.
    Verdict {
        /// It may not.
        deny: bool,
    }

    /// Stops asking, or goes on with it.
    command 3 "pause" Pause {
        /// Whether to stop.
        paused: bool,
    } -> /// Done.
    Paused {
        /// How many programs have been asked for since the driver was loaded.
        asked: u32,
    }
}
