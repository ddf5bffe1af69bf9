// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client keeps while there is no common driver: the oldest notifications that fit, and how
//! many were lost of which type.
//!
//! The oldest, because early in a machine's life the beginning is what cannot be learnt otherwise.

use fltport_abi::fixed::Fixed;
use fltport_abi::limits::MAX_MESSAGE_NUMBER;
use fltport_nt::Result;
use fltport_nt::ex::{PoolBytes, Tag};

fltport_abi::fixed! {
    /// The start of a staged notification; the payload follows.
    pub struct Staged: 16 {
        /// When it happened.
        pub time: i64,
        /// The message's number.
        pub message: u16,
        /// Bytes of the payload's fixed part.
        pub fixed: u16,
        /// Bytes of the payload.
        pub length: u32,
    }
}

const TYPES: usize = MAX_MESSAGE_NUMBER as usize + 1;

/// The staging buffer.
pub(crate) struct Staging {
    memory: PoolBytes,
    used: usize,
    lost: [u64; TYPES],
}

impl Staging {
    /// IRQL: <= DISPATCH_LEVEL. Room for so many bytes.
    pub(crate) fn new(tag: Tag, bytes: usize) -> Result<Self> {
        Ok(Staging {
            memory: PoolBytes::zeroed(tag, bytes)?,
            used: 0,
            lost: [0; TYPES],
        })
    }

    /// Keeps a notification, or counts it as lost.
    pub(crate) fn push(&mut self, staged: &Staged, payload: &[u8]) {
        let end = self
            .used
            .saturating_add(Staged::SIZE)
            .saturating_add(payload.len());
        // Once something has been lost, everything behind it is, so that the loss has one place.
        let any_lost = self.lost.iter().any(|count| *count != 0);
        match self.memory.get_mut(self.used..end).filter(|_| !any_lost) {
            Some(place) => {
                let (start, rest) = place.split_at_mut(Staged::SIZE);
                // Always fits: the place has the header's size.
                let _fits = staged.write(start);
                // Of equal length; not `copy_from_slice`, which would keep a path to a panic.
                rest.iter_mut()
                    .zip(payload)
                    .for_each(|(to, from)| *to = *from);
                self.used = end;
            }
            None => self.lose(staged.message, 1),
        }
    }

    /// Counts losses.
    pub(crate) fn lose(&mut self, message: u16, count: u64) {
        if let Some(place) = self.lost.get_mut(usize::from(message)) {
            *place += count;
        }
    }

    /// Takes everything out: each notification in order, then what was lost.
    pub(crate) fn drain(
        &mut self,
        mut kept: impl FnMut(&Staged, &[u8]),
        mut lost: impl FnMut(u16, u64),
    ) {
        let mut rest = self.memory.get(..self.used).unwrap_or(&[]);
        while let Some(staged) = Staged::read(rest) {
            let end = Staged::SIZE + staged.length as usize;
            let Some((record, behind)) = rest.split_at_checked(end) else {
                break;
            };
            kept(&staged, record.get(Staged::SIZE..).unwrap_or(&[]));
            rest = behind;
        }
        self.used = 0;
        for (message, count) in (0_u16..).zip(self.lost.iter_mut()) {
            if *count != 0 {
                lost(message, core::mem::take(count));
            }
        }
    }
}
