// SPDX-License-Identifier: MIT OR Apache-2.0
//! How records reach the program: by rings in shared memory, or by messages of the port.

use crate::failure::Code;
use std::fmt;

/// How a connection's notifications come. Requests come by the port in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// Through memory that the driver shares with this process.
    Rings {
        /// How many rings there are: one for each processor.
        rings: usize,
        /// Bytes of each.
        bytes: usize,
    },
    /// As messages of the port, for this reason.
    Port(NoRings),
}

/// Why a connection has no rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoRings {
    /// [`Options::rings`](crate::Options::rings) says so.
    NotWanted,
    /// It has a [stream](crate::Options::stream), which is kept in the driver.
    Stream,
    /// The driver does not know them.
    DriverTooOld,
    /// The hosted kernel is too old to map memory into this process.
    HostTooOld,
    /// No event could be made for the driver to wake this process with.
    NoEvent(Code),
    /// The driver refused: by its configuration, because memory cannot be shared, or because there is too little.
    Refused(Code),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Rings { rings: 1, bytes } => write!(f, "a ring of {} KiB", bytes / 1024),
            Transport::Rings { rings, bytes } => {
                write!(f, "{rings} rings of {} KiB", bytes / 1024)
            }
            Transport::Port(why) => write!(f, "the port: {why}"),
        }
    }
}

impl fmt::Display for NoRings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRings::NotWanted => f.write_str("rings are not wanted"),
            NoRings::Stream => f.write_str("a stream that is kept has no rings"),
            NoRings::DriverTooOld => f.write_str("the driver is too old for rings"),
            NoRings::HostTooOld => f.write_str("the hosted kernel is too old for rings"),
            NoRings::NoEvent(code) => write!(f, "no event could be made ({code})"),
            NoRings::Refused(code) => write!(f, "the driver gives no rings ({code})"),
        }
    }
}
