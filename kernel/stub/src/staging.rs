// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client keeps while there is no common driver: the oldest notifications that fit, and how
//! many were lost of which type.
//!
//! The oldest, because early in a machine's life the beginning is what cannot be learnt otherwise.

use fltport_abi::account::{CAUSES, Cause};
use fltport_abi::fixed::Fixed;
use fltport_abi::limits::MAX_MESSAGE_NUMBER;
use fltport_nt::Result;
use fltport_nt::ex::{PoolBytes, PoolSlice, Tag};
use fltport_nt::ke::system_time;

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

impl Staged {
    /// Of a payload whose fixed part has `fixed` bytes, now: who takes it takes the time, if he keeps it at all.
    pub(crate) fn new(message: u16, fixed: u16, payload: &[u8]) -> Self {
        Staged {
            time: 0,
            message,
            fixed,
            // Longer than any message may be, it is refused.
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        }
    }
}

const TYPES: usize = MAX_MESSAGE_NUMBER as usize + 1;

/// The staging buffer.
pub(crate) struct Staging {
    memory: PoolBytes,
    /// What lies before it has been taken out.
    start: usize,
    end: usize,
    lost: PoolSlice<[u64; CAUSES]>,
    any_lost: bool,
    /// Bytes behind the end that are booked.
    booked: usize,
}

impl Staging {
    /// IRQL: <= DISPATCH_LEVEL. Room for so many bytes.
    pub(crate) fn new(tag: Tag, bytes: usize) -> Result<Self> {
        Ok(Staging {
            memory: PoolBytes::zeroed(tag, bytes)?,
            start: 0,
            end: 0,
            lost: PoolSlice::filled(tag, TYPES, [0; CAUSES])?,
            any_lost: false,
            booked: 0,
        })
    }

    /// Keeps room for a notification of this length; false if there is none.
    pub(crate) fn book(&mut self, length: usize) -> bool {
        let booked = (self.booked + Staged::SIZE).saturating_add(length);
        let has_room = self.end.saturating_add(booked) <= self.memory.len();
        if has_room {
            self.booked = booked;
        }
        has_room
    }

    /// Gives that room back.
    pub(crate) fn unbook(&mut self, length: usize) {
        self.booked = self.booked.saturating_sub(Staged::SIZE + length);
    }

    /// Keeps a notification, or counts it as lost. `booked`: there was room for it, which has been
    /// given back just now.
    pub(crate) fn push(&mut self, staged: &Staged, booked: bool, payload: &[u8]) {
        let end = self
            .end
            .saturating_add(Staged::SIZE)
            .saturating_add(payload.len());
        // Once something has been lost, everything behind it is, so that the loss has one place;
        // but for what has its room.
        let refused = self.any_lost && !booked;
        let has_room = end.saturating_add(self.booked) <= self.memory.len();
        let place = self.memory.get_mut(self.end..end);
        let place = place.filter(|_| has_room && !refused);
        match place.and_then(|place| place.split_at_mut_checked(Staged::SIZE)) {
            Some((start, rest)) => {
                let time = system_time();
                // Always fits: the place has the header's size.
                let _fits = Staged { time, ..*staged }.write(start);
                // Of equal length; not `copy_from_slice`, which would keep a path to a panic.
                rest.iter_mut()
                    .zip(payload)
                    .for_each(|(to, from)| *to = *from);
                self.end = end;
            }
            None => self.lose(staged.message, Cause::RingFull, 1),
        }
    }

    /// Counts losses.
    pub(crate) fn lose(&mut self, message: u16, cause: Cause, count: u64) {
        let causes = self.lost.get_mut(usize::from(message));
        if let Some(place) = causes.and_then(|causes| causes.get_mut(cause.index())) {
            *place += count;
            // What a common driver lost at its end came before all this.
            self.any_lost |= cause != Cause::ShuttingDown;
        }
    }

    /// Takes everything out: each notification in order, then what was lost. When `kept` answers
    /// false, that notification and everything behind it stay.
    pub(crate) fn drain(
        &mut self,
        mut kept: impl FnMut(&Staged, &[u8]) -> bool,
        mut lost: impl FnMut(u16, Cause, u64),
    ) {
        let mut rest = self.memory.get(self.start..self.end).unwrap_or(&[]);
        while let Some(staged) = Staged::read(rest) {
            let end = Staged::SIZE + staged.length as usize;
            let Some((record, behind)) = rest.split_at_checked(end) else {
                break;
            };
            if !kept(&staged, record.get(Staged::SIZE..).unwrap_or(&[])) {
                return;
            }
            self.start += end;
            rest = behind;
        }
        (self.start, self.end) = (0, 0);
        self.any_lost = false;
        for (message, causes) in (0_u16..).zip(self.lost.iter_mut()) {
            for (cause, count) in Cause::ALL.iter().zip(causes) {
                if *count != 0 {
                    lost(message, *cause, core::mem::take(count));
                }
            }
        }
    }
}
