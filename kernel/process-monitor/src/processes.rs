// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that run and whose start was reported, each with the room that was booked for its
//! exit.

use crate::exclusions::ExclusionList;
use crate::monitor::TAG;
use fltport_client::Booking;
use fltport_nt::Result;
use fltport_nt::ex::PoolBox;
use fltport_nt::ke::SpinLock;

/// So many are known at one time; of more than that the exits are ordinary notifications.
const MAX_PROCESSES: usize = 4096;

/// A power of two.
const BUCKETS: usize = 128;

/// A process.
pub(crate) struct Process {
    pid: u32,
    /// Room for the notification of its exit.
    pub(crate) exit: Option<Booking<ExclusionList>>,
    next: Chain,
}

type Chain = Option<PoolBox<Process>>;

/// See the module.
pub(crate) struct Processes(SpinLock<PoolBox<Table>>);

struct Table {
    buckets: [Chain; BUCKETS],
    count: usize,
}

impl Processes {
    /// IRQL: PASSIVE_LEVEL. None yet.
    pub(crate) fn new() -> Result<Self> {
        let table = Table {
            buckets: [const { None }; BUCKETS],
            count: 0,
        };
        Ok(Processes(SpinLock::new(PoolBox::new(TAG, table)?)))
    }

    /// IRQL: <= DISPATCH_LEVEL. A process is about to be reported. Without memory or a place for it
    /// it is not remembered, and `exit` given back.
    pub(crate) fn started(&self, pid: u32, exit: Option<Booking<ExclusionList>>) {
        let process = Process {
            pid,
            exit,
            next: None,
        };
        let Ok(process) = PoolBox::new(TAG, process) else {
            return;
        };
        // What is dropped calls the common driver: after the lock has been released.
        let mut table = self.0.lock();
        let former = table.remove(pid);
        let no_place = table.insert(process).err();
        drop(table);
        drop((former, no_place));
    }

    /// IRQL: <= DISPATCH_LEVEL. A process has ended; what was known of it.
    pub(crate) fn ended(&self, pid: u32) -> Option<PoolBox<Process>> {
        self.0.lock().remove(pid)
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
        for bucket in &mut self.buckets {
            while let Some(mut process) = bucket.take() {
                *bucket = process.next.take();
            }
        }
    }
}
