// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of rings, as both this driver and a service have it.

use fltport_nt::Result;
use fltport_nt::mm::{SharedMemory, UserView};
use fltport_ring::Shared;

/// Memory that rings lie in.
pub(super) struct Mapped {
    /// As rings use it. Goes before the memory.
    shared: Shared,
    memory: SharedMemory,
}

impl Mapped {
    /// IRQL: PASSIVE_LEVEL. So many bytes, all zero.
    pub(super) fn new(bytes: usize) -> Result<Self> {
        let memory = SharedMemory::new(bytes)?;
        // SAFETY: page-aligned memory of this length, which lives as long as this; copies are in producers and in a bell, which `Rings` drops
        // before this. Nobody in this driver uses it in any other way, once `begin_with` has been called.
        let shared = unsafe { Shared::new(memory.base(), memory.len()) };
        Ok(Mapped { shared, memory })
    }

    /// Writes these bytes at the start, before anybody else has the memory.
    pub(super) fn begin_with(&self, bytes: &[u8]) {
        let length = bytes.len().min(self.memory.len());
        let base = self.memory.base().as_ptr();
        // SAFETY: within the memory, which nobody else has yet.
        unsafe { base.copy_from_nonoverlapping(bytes.as_ptr(), length) };
    }

    /// IRQL: PASSIVE_LEVEL, in the thread of the process. Maps it into the process.
    pub(super) fn map(&self, writable: bool) -> Result<UserView> {
        self.memory.map_into_current_process(writable)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}
