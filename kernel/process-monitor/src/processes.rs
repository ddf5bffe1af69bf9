// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that run, each with the room that was booked for its exit, if its start was reported,
//! and with its start for snapshots.
//!
//! A process and its notification are one for whoever holds the lock: what a snapshot reports under
//! it, and what is offered behind it, is exact.
//!
//! Those that ran before the driver come from a list that NT makes ([`crate::listing`]) while processes
//! start and end. Who ends meanwhile is remembered, so that it does not come back with the list; who starts
//! meanwhile is here already, or replaces what the list said when its start is told.

use crate::monitor::TAG;
use fltport_abi::message::Message;
use fltport_abi::process_monitor::ProcessStart;
use fltport_client::{Booking, Snapshot};
use fltport_nt::bindings::{STATUS_DEVICE_NOT_READY, STATUS_INSUFFICIENT_RESOURCES};
use fltport_nt::ex::{FastMutex, PoolBox, PoolBytes, PoolSlice};
use fltport_nt::{NtError, Result};

/// So many are known at one time; of more than that the exits are ordinary notifications.
const MAX_PROCESSES: usize = 4096;

/// So many may end while a list is made, or it is made again.
const MAX_ENDED: usize = 1024;

/// A power of two.
const BUCKETS: usize = 128;

/// A process.
pub(crate) struct Process {
    pid: u32,
    /// Room for the notification of its exit.
    exit: Option<Booking>,
    /// How its start was told, encoded.
    start: PoolBytes,
    next: Chain,
}

type Chain = Option<PoolBox<Process>>;

/// Processes that were found in a list.
#[derive(Default)]
pub(crate) struct Found(Chain);

/// See the module.
pub(crate) struct Processes(FastMutex<Table>);

struct Table {
    buckets: PoolSlice<Chain>,
    count: usize,
    /// There was no memory or no place for a process, or no list yet: snapshots would lack some.
    lacks_some: bool,
    /// While a list is made: which processes have ended since that began.
    ended: Option<Ended>,
}

struct Ended {
    pids: PoolSlice<u32>,
    count: usize,
}

impl Ended {
    /// `None` if not all are known.
    fn all(&self) -> Option<&[u32]> {
        self.pids.get(..self.count)
    }

    fn add(&mut self, pid: u32) {
        if let Some(place) = self.pids.get_mut(self.count) {
            *place = pid;
        }
        self.count = self.count.saturating_add(1);
    }
}

impl Found {
    /// IRQL: <= DISPATCH_LEVEL. Adds a process. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn add(&mut self, pid: u32, start: PoolBytes) -> Result<()> {
        let process = Process {
            pid,
            exit: None,
            start,
            next: None,
        };
        let mut process = PoolBox::new(TAG, process)?;
        process.next = self.0.take();
        self.0 = Some(process);
        Ok(())
    }

    fn pop(&mut self) -> Chain {
        let mut first = self.0.take()?;
        self.0 = first.next.take();
        Some(first)
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        // One by one, as the table.
        while self.pop().is_some() {}
    }
}

impl Processes {
    /// IRQL: PASSIVE_LEVEL. None yet.
    pub(crate) fn new() -> Result<Self> {
        let table = Table {
            buckets: PoolSlice::filled_with(TAG, BUCKETS, || None)?,
            count: 0,
            lacks_some: true,
            ended: None,
        };
        Ok(Processes(FastMutex::new(TAG, table)?))
    }

    /// IRQL: PASSIVE_LEVEL. A process has been created: remembers it, with the room for its exit, and
    /// has it told. Without memory or a place for it `exit` is given back.
    pub(crate) fn started(
        &self,
        pid: u32,
        exit: Option<Booking>,
        start: Result<PoolBytes>,
        tell: impl FnOnce(),
    ) {
        let process = start.and_then(|start| {
            let process = Process {
                pid,
                exit,
                start,
                next: None,
            };
            PoolBox::new(TAG, process)
        });
        // What is not needed is dropped after the lock has been released.
        let mut table = self.0.lock();
        let former = table.remove(pid);
        let no_place = process.map(|process| table.insert(process).err());
        table.lacks_some |= !matches!(no_place, Ok(None));
        tell();
        drop(table);
        drop((former, no_place));
    }

    /// IRQL: PASSIVE_LEVEL. A process has ended: forgets it, and has it told with the room that was
    /// booked for that.
    pub(crate) fn ended(&self, pid: u32, tell: impl FnOnce(Option<Booking>)) {
        let mut table = self.0.lock();
        let mut known = table.remove(pid);
        if let Some(ended) = &mut table.ended {
            ended.add(pid);
        }
        tell(known.as_mut().and_then(|process| process.exit.take()));
        drop(table);
        drop(known);
    }

    /// IRQL: PASSIVE_LEVEL. Whether a snapshot would lack processes; so it would while somebody makes a
    /// list.
    pub(crate) fn lacks_some(&self) -> bool {
        self.0.lock().lacks_any()
    }

    /// IRQL: PASSIVE_LEVEL. From here to [`Self::merge`], who ends is remembered: a list of processes is
    /// made. Fails with `STATUS_DEVICE_NOT_READY` if somebody else makes one, and with
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn begin_list(&self) -> Result<()> {
        let ended = Ended {
            pids: PoolSlice::filled(TAG, MAX_ENDED, 0)?,
            count: 0,
        };
        let mut table = self.0.lock();
        if table.ended.is_some() {
            drop(table);
            return Err(NtError(STATUS_DEVICE_NOT_READY));
        }
        table.ended = Some(ended);
        // Whoever starts from now on and finds no place says so again.
        table.lacks_some = false;
        Ok(())
    }

    /// IRQL: PASSIVE_LEVEL. Ends what [`Self::begin_list`] began, and takes the processes over that have
    /// not ended since and are not known; `None` if there was no list. False if more have ended than are
    /// remembered: then none are taken over, and the list is to be made again.
    pub(crate) fn merge(&self, found: Option<Found>) -> bool {
        let mut dropped = Found::default();
        let mut found = found;
        let mut table = self.0.lock();
        let ended = table.ended.take();
        let all = ended.as_ref().and_then(Ended::all);
        if let (Some(ended), Some(found)) = (all, &mut found) {
            while let Some(process) = found.pop() {
                let pid = process.pid;
                let refused = if ended.contains(&pid) || table.knows(pid) {
                    Some(process)
                } else {
                    let no_place = table.insert(process).err();
                    table.lacks_some |= no_place.is_some();
                    no_place
                };
                if let Some(mut process) = refused {
                    process.next = dropped.0.take();
                    dropped.0 = Some(process);
                }
            }
        } else {
            table.lacks_some = true;
        }
        let is_whole = all.is_some();
        // What is not needed is dropped after the lock has been released.
        drop(table);
        is_whole
    }

    /// IRQL: PASSIVE_LEVEL. Reports the processes that run. Fails with `STATUS_INSUFFICIENT_RESOURCES`
    /// if not all of them are known.
    pub(crate) fn report(&self, snapshot: &Snapshot<'_>) -> Result<()> {
        let table = self.0.lock();
        if table.lacks_any() {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
        for bucket in table.buckets.iter() {
            let mut place = bucket.as_ref();
            while let Some(process) = place {
                if let Ok(start) = ProcessStart::decode(&process.start) {
                    snapshot.add(&start)?;
                }
                place = process.next.as_ref();
            }
        }
        snapshot.live()
    }
}

impl Table {
    fn lacks_any(&self) -> bool {
        self.lacks_some || self.ended.is_some()
    }

    fn bucket(&mut self, pid: u32) -> Option<&mut Chain> {
        // The lowest two bits of a process id are 0.
        self.buckets.get_mut((pid / 4) as usize % BUCKETS)
    }

    /// Gives the process back if there are too many.
    fn insert(
        &mut self,
        mut process: PoolBox<Process>,
    ) -> core::result::Result<(), PoolBox<Process>> {
        if self.count >= MAX_PROCESSES {
            return Err(process);
        }
        let Some(bucket) = self.bucket(process.pid) else {
            return Err(process);
        };
        process.next = bucket.take();
        *bucket = Some(process);
        self.count += 1;
        Ok(())
    }

    fn knows(&mut self, pid: u32) -> bool {
        let mut place = self.bucket(pid).and_then(|bucket| bucket.as_ref());
        while let Some(process) = place {
            if process.pid == pid {
                return true;
            }
            place = process.next.as_ref();
        }
        false
    }

    fn remove(&mut self, pid: u32) -> Chain {
        let mut place = self.bucket(pid)?;
        while place.as_ref().is_some_and(|process| process.pid != pid) {
            place = &mut place.as_mut()?.next;
        }
        let mut found = place.take()?;
        *place = found.next.take();
        self.count -= 1;
        Some(found)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // One by one: a chain that drops itself would need stack for each.
        for bucket in self.buckets.iter_mut() {
            while let Some(mut process) = bucket.take() {
                *bucket = process.next.take();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use nt_host::{Config, Kernel};

    #[test]
    fn while_a_list_is_made_a_snapshot_would_lack_some() {
        // For its pool.
        let kernel = Kernel::boot(Config::default());
        let processes = Processes::new().unwrap();
        assert!(processes.lacks_some(), "nobody has listed them");
        processes.begin_list().unwrap();
        assert!(processes.lacks_some(), "the list is not there yet");
        let other = processes.begin_list();
        assert_eq!(
            other,
            Err(NtError(STATUS_DEVICE_NOT_READY)),
            "it is asked for again"
        );
        assert!(processes.merge(Some(Found::default())));
        assert!(!processes.lacks_some());
        drop(processes);
        drop(kernel);
    }
}
