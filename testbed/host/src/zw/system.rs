// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is in the whole system: the processes.

use std::ffi::c_void;

use crate::abi::NTSTATUS;
use crate::entry::nt;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel;
use crate::process::Process;
use crate::status::{
    STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS, STATUS_PENDING, STATUS_SUCCESS,
};

const SYSTEM_PROCESS_INFORMATION: u32 = 5;

/// SYSTEM_PROCESS_INFORMATION on x64, and SYSTEM_THREAD_INFORMATION behind it for each thread.
const ENTRY: usize = 0x100;
const THREAD: usize = 0x50;

/// What is known of a process for its entry.
struct Listed {
    pid: u64,
    parent: u64,
    threads: u32,
    name: Vec<u16>,
}

impl Listed {
    fn of(process: &Process) -> Listed {
        let separators = [u16::from(b'/'), u16::from(b'\\')];
        let path = process.image();
        let name = path.rsplit(|unit| separators.contains(unit)).next();
        Listed {
            pid: process.pid(),
            parent: process.parent_pid(),
            // One stands for all; a process that ends has none any more.
            threads: u32::from(process.exit_status() == STATUS_PENDING),
            name: name.unwrap_or_default().to_vec(),
        }
    }

    /// What NT lists first: the idle process.
    fn idle() -> Listed {
        Listed {
            pid: 0,
            parent: 0,
            threads: 1,
            name: Vec::new(),
        }
    }

    /// The entry, at `address`, with its threads and its name behind it.
    fn encode(&self, address: usize, is_last: bool) -> Vec<u8> {
        let mut bytes = vec![0; ENTRY + self.threads as usize * THREAD];
        let name_at = bytes.len();
        bytes.extend(self.name.iter().flat_map(|unit| unit.to_le_bytes()));
        let length = u16::try_from(bytes.len() - name_at).unwrap_or(u16::MAX - 1);
        // The name ends with a zero, as others do, which does not count.
        bytes.resize((bytes.len() + 2).next_multiple_of(8), 0);
        let next = if is_last { 0 } else { bytes.len() as u32 };
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &next.to_le_bytes());
        put(4, &self.threads.to_le_bytes());
        if length != 0 {
            put(56, &length.to_le_bytes());
            put(58, &length.saturating_add(2).to_le_bytes());
            put(64, &(address + name_at).to_le_bytes());
        }
        put(80, &self.pid.to_le_bytes());
        put(88, &self.parent.to_le_bytes());
        bytes
    }
}

/// All entries as they lie at `address`.
fn encode(address: usize) -> Vec<u8> {
    let processes = kernel::state().processes.all();
    let mut listed = vec![Listed::idle()];
    listed.extend(processes.iter().map(|process| Listed::of(process)));
    let last = listed.len() - 1;
    let mut bytes = Vec::new();
    for (i, one) in listed.iter().enumerate() {
        let entry = one.encode(address + bytes.len(), i == last);
        bytes.extend(entry);
    }
    bytes
}

nt! {
    /// Tells of the system; STATUS_INFO_LENGTH_MISMATCH, and how much is needed, where the buffer is
    /// too small.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "SystemProcessInformation: the processes that it was told of or that have connected, \
        with one thread each, and of the fields the number, the parent, the threads and the name";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwQuerySystemInformation(
        class: u32,
        information: *mut c_void,
        length: u32,
        returned: *mut u32,
    ) -> NTSTATUS {
        if class != SYSTEM_PROCESS_INFORMATION {
            return STATUS_INVALID_INFO_CLASS;
        }
        let bytes = encode(information as usize);
        if !returned.is_null() {
            // SAFETY: the caller passes null or memory for a length.
            unsafe { returned.write(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) };
        }
        if (length as usize) < bytes.len() {
            return STATUS_INFO_LENGTH_MISMATCH;
        }
        // SAFETY: the caller passes a buffer of `length` bytes, which are enough.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), information.cast(), bytes.len()) };
        STATUS_SUCCESS
    }
}
