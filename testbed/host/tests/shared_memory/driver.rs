// SPDX-License-Identifier: MIT OR Apache-2.0
//! A filter driver that shares two pieces of memory with whoever sends it a message: the first to be
//! read, the second to be written. The message is a handle of an event, which it sets; the answer
//! is two addresses.

use fltport_nt::bindings::*;
use fltport_nt::ke::{SpinLock, UserEvent};
use fltport_nt::mm::SharedMemory;
use fltport_nt::user_memory::UserBuffer;
use nt_host::{DriverImage, Kernel, Process, Unload};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{self, filter, one_port};

pub(crate) const PORT: &str = "\\SharedMemory";
/// Bytes of each piece.
pub(crate) const LENGTH: usize = 16384;
const SERVICE: &str = "sharedmemory";

struct Shared {
    data: SharedMemory,
    consumer: SharedMemory,
}

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);
static CALLER: Mutex<Option<u64>> = Mutex::new(None);
/// How many messages are under way.
static ASKS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "system" fn entry(
    object: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    let shared = Shared {
        data: SharedMemory::new(LENGTH).unwrap(),
        consumer: SharedMemory::new(LENGTH).unwrap(),
    };
    *SHARED.lock().unwrap() = Some(shared);
    one_port::start(object, Some(unload), None, PORT, Some(message))
}

unsafe extern "system" fn unload(_flags: u32) -> NTSTATUS {
    one_port::stop();
    SHARED.lock().unwrap().take();
    STATUS_SUCCESS
}

unsafe extern "system" fn message(
    _cookie: *const c_void,
    input: *const c_void,
    input_length: u32,
    output: *mut c_void,
    output_length: u32,
    returned: *mut u32,
) -> NTSTATUS {
    // SAFETY: the Filter Manager passes a variable.
    unsafe { returned.write(0) };
    // SAFETY: takes nothing.
    let pid = unsafe { PsGetCurrentProcessId() } as u64;
    *CALLER.lock().unwrap() = Some(pid);
    ASKS.fetch_add(1, Ordering::SeqCst);
    let answer = share(&UserBuffer::new(input, input_length));
    let status = match answer {
        Ok(answer) => match UserBuffer::new(output, output_length).copy_out(&answer) {
            Ok(()) => {
                // SAFETY: as above.
                unsafe { returned.write(answer.len() as u32) };
                STATUS_SUCCESS
            }
            Err(error) => error.0,
        },
        Err(error) => error.0,
    };
    ASKS.fetch_sub(1, Ordering::SeqCst);
    status
}

/// Takes the event of a message, maps both pieces, fills the first and sets the event twice.
fn share(message: &UserBuffer) -> fltport_nt::Result<[u8; 16]> {
    let mut handle = [0; 8];
    message.copy_in(&mut handle)?;
    let event = UserEvent::from_handle(u64::from_le_bytes(handle))?;
    let shared = SHARED.lock().unwrap();
    let Shared { data, consumer } = shared.as_ref().unwrap();
    let views = (
        data.map_into_current_process(false)?,
        consumer.map_into_current_process(true)?,
    );
    let lock = SpinLock::new(());
    let held = lock.lock();
    (0..LENGTH / 4).for_each(|index| write(data, index, index as u32));
    event.set();
    event.set();
    drop(held);
    let mut answer = [0; 16];
    answer[..8].copy_from_slice(&views.0.address().to_le_bytes());
    answer[8..].copy_from_slice(&views.1.address().to_le_bytes());
    views.0.leave();
    views.1.leave();
    Ok(answer)
}

fn place(memory: &SharedMemory, index: usize) -> *mut u32 {
    assert!(index < LENGTH / 4);
    memory.base().as_ptr().cast::<u32>().wrapping_add(index)
}

fn write(memory: &SharedMemory, index: usize, value: u32) {
    // SAFETY: within the memory.
    unsafe { place(memory, index).write_volatile(value) };
}

/// A kernel with the driver.
pub(crate) struct Machine(Kernel);

impl Machine {
    pub(crate) fn boot() -> Machine {
        let kernel = support::boot();
        filter::install(&kernel, SERVICE, "365000.9");
        *CALLER.lock().unwrap() = None;
        let image = DriverImage {
            name: SERVICE,
            entry,
            force_integrity: false,
        };
        kernel.load(&image).unwrap();
        Machine(kernel)
    }

    /// What a service has written there.
    pub(crate) fn consumer(&self, index: usize) -> u32 {
        let shared = SHARED.lock().unwrap();
        let at = place(&shared.as_ref().unwrap().consumer, index);
        // SAFETY: within the memory.
        unsafe { at.read_volatile() }
    }

    /// Writes where services read.
    pub(crate) fn fill(&self, index: usize, value: u32) {
        let shared = SHARED.lock().unwrap();
        write(&shared.as_ref().unwrap().data, index, value);
    }

    /// Messages under way.
    pub(crate) fn asks(&self) -> usize {
        ASKS.load(Ordering::SeqCst)
    }

    /// How many views the last caller has.
    pub(crate) fn views(&self) -> usize {
        let caller = *CALLER.lock().unwrap();
        let process = caller.and_then(|pid| self.0.process(pid));
        process.map_or(0, |process: Arc<Process>| process.views().len())
    }

    pub(crate) fn end(self) {
        self.0.unload(SERVICE, Unload::Stop).unwrap();
        self.0.shutdown_clean();
    }
}
