// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that run and whose start was reported, each with the room that was booked for its
//! exit, and with its start for snapshots.
//!
//! A process and its notification are one for whoever holds the lock: what a snapshot reports under
//! it, and what is offered behind it, is exact.

use crate::exclusions::ExclusionList;
use crate::monitor::TAG;
use fltport_abi::message::Message;
use fltport_abi::process_monitor::ProcessStart;
use fltport_client::{Booking, Snapshot};
use fltport_nt::bindings::STATUS_INSUFFICIENT_RESOURCES;
use fltport_nt::ex::{FastMutex, PoolBox, PoolBytes, PoolSlice};
use fltport_nt::{NtError, Result};

/// So many are known at one time; of more than that the exits are ordinary notifications.
const MAX_PROCESSES: usize = 4096;

/// A power of two.
const BUCKETS: usize = 128;

/// A process.
pub(crate) struct Process {
    pid: u32,
    /// Room for the notification of its exit.
    exit: Option<Booking<ExclusionList>>,
    /// How its start was told, encoded.
    start: PoolBytes,
    next: Chain,
}

type Chain = Option<PoolBox<Process>>;

/// See the module.
pub(crate) struct Processes(FastMutex<Table>);

struct Table {
    buckets: PoolSlice<Chain>,
    count: usize,
    /// There was no memory or no place for a process: snapshots would lack it.
    lacks_one: bool,
}

impl Processes {
    /// IRQL: PASSIVE_LEVEL. None yet.
    pub(crate) fn new() -> Result<Self> {
        let table = Table {
            buckets: PoolSlice::filled_with(TAG, BUCKETS, || None)?,
            count: 0,
            lacks_one: false,
        };
        Ok(Processes(FastMutex::new(TAG, table)?))
    }

    /// IRQL: PASSIVE_LEVEL. A process has been created: remembers it, with the room for its exit, and
    /// has it told. Without memory or a place for it `exit` is given back.
    pub(crate) fn started(
        &self,
        pid: u32,
        exit: Option<Booking<ExclusionList>>,
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
        table.lacks_one |= !matches!(no_place, Ok(None));
        tell();
        drop(table);
        drop((former, no_place));
    }

    /// IRQL: PASSIVE_LEVEL. A process has ended: forgets it, and has it told with the room that was
    /// booked for that.
    pub(crate) fn ended(&self, pid: u32, tell: impl FnOnce(Option<Booking<ExclusionList>>)) {
        let mut table = self.0.lock();
        let mut known = table.remove(pid);
        tell(known.as_mut().and_then(|process| process.exit.take()));
        drop(table);
        drop(known);
    }

    /// IRQL: PASSIVE_LEVEL. Reports the processes that run. Fails with `STATUS_INSUFFICIENT_RESOURCES`
    /// if one of them had to be forgotten.
    pub(crate) fn report(&self, snapshot: &Snapshot) -> Result<()> {
        let table = self.0.lock();
        if table.lacks_one {
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
