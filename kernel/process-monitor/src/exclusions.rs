// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of images whose processes are not offered, and the commands that set and read it.

use crate::monitor::{self, TAG};
use fltport_abi::glob;
use fltport_abi::message::Message;
use fltport_abi::process_monitor::{
    Exclusions, ExclusionsSet, GetExclusions, MAX_EXCLUSIONS, SetExclusions,
};
use fltport_abi::text::{Text, TextList};
use fltport_client::{CommandCaller, Handler, Snapshot};
use fltport_nt::bindings::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
};
use fltport_nt::ex::{Global, PoolArc, PoolBytes, PoolSlice};
use fltport_nt::ke::SpinLock;
use fltport_nt::{NtError, Result, rtl};

/// The list as it came over the wire; none before the first one.
///
/// Who uses it takes a reference, so that nothing is held while patterns are matched: NT's
/// upper-case table may be asked at PASSIVE_LEVEL only.
pub(crate) struct ExclusionList {
    patterns: Global<PoolBytes>,
    /// The processes that were excluded when they were created and still run, so that their exits
    /// are not offered either. 0 is a free place.
    running: SpinLock<PoolSlice<u32>>,
}

/// So many excluded processes are remembered; the exits of more than that are offered.
const MAX_RUNNING: usize = 1024;

impl ExclusionList {
    /// IRQL: PASSIVE_LEVEL. An empty list.
    pub(crate) fn new() -> Result<Self> {
        let running = PoolSlice::filled(TAG, MAX_RUNNING, 0)?;
        Ok(ExclusionList {
            patterns: Global::empty(),
            running: SpinLock::new(running),
        })
    }

    /// IRQL: PASSIVE_LEVEL. Whether a new process of this image is not to be offered; its exit will
    /// not be then either.
    pub(crate) fn hides(&self, pid: u32, image: &[u16]) -> bool {
        let hidden = self.covers(image);
        if hidden && let Some(free) = self.running.lock().iter_mut().find(|place| **place == 0) {
            *free = pid;
        }
        hidden
    }

    /// IRQL: <= DISPATCH_LEVEL. Whether a process that has ended was hidden.
    pub(crate) fn hid(&self, pid: u32) -> bool {
        let mut running = self.running.lock();
        let place = running.iter_mut().find(|place| **place == pid);
        place.map(|place| *place = 0).is_some()
    }

    /// IRQL: <= DISPATCH_LEVEL. Whether a process that runs is hidden.
    pub(crate) fn is_hidden(&self, pid: u32) -> bool {
        self.running.lock().contains(&pid)
    }

    fn covers(&self, image: &[u16]) -> bool {
        let covers = |pattern: Text<'_>| glob::matches(pattern, Text::Units(image), rtl::upcase);
        let list = self.patterns.get();
        list.is_some_and(|list| TextList::Wire(&list).iter().any(covers))
    }

    /// IRQL: PASSIVE_LEVEL. Replaces the list; how many patterns it has.
    fn set(&self, images: TextList<'_>) -> Result<u32> {
        let bad = NtError(STATUS_INVALID_PARAMETER);
        let TextList::Wire(wire) = images else {
            return Err(bad);
        };
        let count = images.iter().count();
        let too_long = |pattern: Text<'_>| pattern.units().count() > glob::MAX_PATTERN;
        if count > MAX_EXCLUSIONS || images.iter().any(too_long) {
            return Err(bad);
        }
        let fresh = PoolArc::new(TAG, PoolBytes::copy_of(TAG, wire)?)?;
        drop(self.patterns.replace(Some(fresh)));
        Ok(count as u32)
    }
}

impl Handler for ExclusionList {
    fn snapshot(&self, snapshot: &Snapshot<'_>) -> Result<()> {
        monitor::report(snapshot, self)
    }

    fn command(
        &self,
        _caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let malformed = |_| NtError(STATUS_INVALID_PARAMETER);
        let no_room = |_| NtError(STATUS_BUFFER_TOO_SMALL);
        match message {
            SetExclusions::NUMBER => {
                let wanted = SetExclusions::decode(payload).map_err(malformed)?;
                let count = self.set(wanted.images)?;
                ExclusionsSet { count }.encode(out).map_err(no_room)
            }
            GetExclusions::NUMBER => {
                GetExclusions::decode(payload).map_err(malformed)?;
                let list = self.patterns.get();
                let images = TextList::Wire(list.as_deref().map_or(&[], |list| list));
                Exclusions { images }.encode(out).map_err(no_room)
            }
            _ => Err(NtError(STATUS_INVALID_DEVICE_REQUEST)),
        }
    }
}
