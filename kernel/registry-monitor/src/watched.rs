// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of watched keys, and the commands that set and read it.

use crate::monitor::TAG;
use fltport_abi::message::Message;
use fltport_abi::registry_monitor::{
    GetWatched, MAX_WATCHED, MAX_WATCHED_PATH, SetWatched, Watched, WatchedSet,
};
use fltport_abi::text::{Text, TextList};
use fltport_client::{CommandCaller, Handler};
use fltport_nt::bindings::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
};
use fltport_nt::ex::{Global, PoolArc, PoolBytes};
use fltport_nt::{NtError, Result, rtl};

const BACKSLASH: u16 = b'\\' as u16;

/// What is to be done about a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concern {
    /// Nothing.
    None,
    /// What happens to it is told.
    Told,
    /// The decider is asked before, too.
    Asked,
}

/// The list as it came over the wire; none before the first one.
///
/// Who uses it takes a reference, so that nothing is held while paths are compared: NT's upper-case
/// table may be asked at PASSIVE_LEVEL only.
pub(crate) struct WatchedKeys(Global<PoolBytes>);

impl WatchedKeys {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        WatchedKeys(Global::empty())
    }

    /// IRQL: PASSIVE_LEVEL. What is to be done about a key of this path.
    pub(crate) fn concern(&self, path: &[u16]) -> Concern {
        match self.0.get().filter(|list| !list.is_empty()) {
            None => Concern::Told,
            Some(list) if TextList::Wire(&list).iter().any(|key| is_below(path, key)) => {
                Concern::Asked
            }
            Some(_) => Concern::None,
        }
    }

    /// IRQL: PASSIVE_LEVEL. Replaces the list; how many keys it has.
    fn set(&self, keys: TextList<'_>) -> Result<u32> {
        let bad = NtError(STATUS_INVALID_PARAMETER);
        let TextList::Wire(wire) = keys else {
            return Err(bad);
        };
        let count = keys.iter().count();
        if count > MAX_WATCHED || !keys.iter().all(is_path) {
            return Err(bad);
        }
        let fresh = PoolArc::new(TAG, PoolBytes::copy_of(TAG, wire)?)?;
        drop(self.0.replace(Some(fresh)));
        Ok(count as u32)
    }
}

/// Whether it is a full path of a key, without a backslash at its end.
fn is_path(text: Text<'_>) -> bool {
    let length = text.units().count();
    let starts = text.units().next() == Some(BACKSLASH);
    let ends = text.units().last() == Some(BACKSLASH);
    starts && !ends && length <= MAX_WATCHED_PATH
}

/// IRQL: PASSIVE_LEVEL. Whether a key is the watched one or lies below it.
fn is_below(path: &[u16], watched: Text<'_>) -> bool {
    let mut rest = path.iter().copied();
    let same = |unit| rest.next().is_some_and(|other| is_same(unit, other));
    watched.units().all(same) && rest.next().is_none_or(|unit| unit == BACKSLASH)
}

fn is_same(one: u16, other: u16) -> bool {
    one == other || rtl::upcase(one) == rtl::upcase(other)
}

impl Handler for WatchedKeys {
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
            SetWatched::NUMBER => {
                let wanted = SetWatched::decode(payload).map_err(malformed)?;
                let count = self.set(wanted.keys)?;
                WatchedSet { count }.encode(out).map_err(no_room)
            }
            GetWatched::NUMBER => {
                GetWatched::decode(payload).map_err(malformed)?;
                let list = self.0.get();
                let keys = TextList::Wire(list.as_deref().map_or(&[], |list| list));
                Watched { keys }.encode(out).map_err(no_room)
            }
            _ => Err(NtError(STATUS_INVALID_DEVICE_REQUEST)),
        }
    }
}
