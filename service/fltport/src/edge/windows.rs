// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Windows edge: fltlib.dll, with overlapped gets on a completion port.
//!
//! The handle is asynchronous (no `FLT_PORT_FLAG_SYNC_HANDLE`): several gets wait at once, each
//! with an OVERLAPPED of its own, while replies and sends go on from other threads. Only gets are
//! overlapped, so the completion port sees nothing else.
//!
//! A get's memory belongs to the kernel from the call until its completion packet has been taken;
//! it is a box whose pointer travels as the OVERLAPPED's address. If packets are still missing when
//! the port is dropped, their boxes are leaked.
//!
//! A get outlives the thread that made it: the I/O manager cancels what a thread has outstanding
//! when the thread ends, but not what goes to a completion port and has no event of its own.
//! `port-conformance` in testbed/wine checks that.

use super::Got;
use super::arguments::{address, aligned, bytes_of, length, milliseconds, needed};
use crate::failure::{Code, Failure, Fault, nt};
use crate::lock::lock;
use crate::options::Options;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, HANDLE, INVALID_HANDLE_VALUE, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::InstallableFileSystems::{
    FilterConnectCommunicationPort, FilterGetMessage, FilterReplyMessage, FilterSendMessage,
};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED,
    PostQueuedCompletionStatus,
};

mod signal;
mod view;

pub(crate) use signal::Signal;
pub(crate) use view::View;

const INSUFFICIENT_BUFFER: u32 = 0x8007_007A;
const PENDING: u32 = 0x8007_0000 | ERROR_IO_PENDING;

/// How long a dropped port waits for its cancelled gets.
const DRAIN: Duration = Duration::from_secs(5);

/// One port handle.
#[derive(Debug)]
pub(crate) struct Port {
    // Dropped in this order: the handle first, so that nothing new is queued.
    handle: OwnedHandle,
    completions: OwnedHandle,
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    closing: bool,
    outstanding: usize,
}

/// A get at the port. The OVERLAPPED comes first, so that its address is the box's.
#[repr(C)]
struct Get {
    overlapped: OVERLAPPED,
    slot: u32,
    /// In 64-bit words, for the alignment of the message's header.
    buffer: Vec<u64>,
}

fn last_error() -> Failure {
    let error = std::io::Error::last_os_error();
    Failure {
        fault: Fault::Other,
        code: error.raw_os_error().map_or(Code::None, Code::Os),
    }
}

fn check(result: i32) -> Result<(), Failure> {
    if result >= 0 {
        Ok(())
    } else {
        Err(Failure::from_hresult(result))
    }
}

impl Port {
    /// Connects to the port with `context`.
    pub(crate) fn connect(options: &Options, context: &[u8]) -> Result<Port, Failure> {
        let name: Vec<u16> = options.port_name.encode_utf16().chain([0]).collect();
        let size = u16::try_from(context.len()).unwrap_or(u16::MAX);
        let words = aligned(context);
        let mut handle: HANDLE = INVALID_HANDLE_VALUE;
        // SAFETY: the name is terminated, the context has the size that is passed, and the handle
        // is a variable of ours.
        let result = unsafe {
            FilterConnectCommunicationPort(
                name.as_ptr(),
                0,
                address(&words),
                size,
                null(),
                &mut handle,
            )
        };
        check(result)?;
        // SAFETY: the call succeeded, so the handle is open and nobody else's.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        // SAFETY: the handle is open; a new completion port is made for it.
        let completions =
            unsafe { CreateIoCompletionPort(handle.as_raw_handle(), null_mut(), 0, 1) };
        if completions.is_null() {
            return Err(last_error());
        }
        // SAFETY: the call succeeded, so the handle is open and nobody else's.
        let completions = unsafe { OwnedHandle::from_raw_handle(completions) };
        Ok(Port {
            handle,
            completions,
            gate: Mutex::default(),
        })
    }

    /// Has a get wait at the port.
    pub(crate) fn post(&self, slot: u32, capacity: usize) -> Result<(), Failure> {
        let mut gate = lock(&self.gate);
        if gate.closing {
            return Err(Failure::new(Fault::Cancelled));
        }
        let get = Box::into_raw(Box::new(Get {
            overlapped: OVERLAPPED::default(),
            slot,
            buffer: vec![0; capacity.div_ceil(8)],
        }));
        // SAFETY: the box is alive and nobody else knows it yet.
        let buffer = unsafe { &mut (*get).buffer };
        let (message, size) = (buffer.as_mut_ptr().cast(), length(buffer.len() * 8));
        // SAFETY: message buffer and OVERLAPPED lie in the box, which stays until its completion
        // packet has been taken.
        let result =
            unsafe { FilterGetMessage(self.handle.as_raw_handle(), message, size, get.cast()) };
        // "Too small" is a warning for the I/O manager, which queues a packet for it as for a
        // success. (STATUS_BUFFER_TOO_SMALL, an error, would look the same; a get with room for the
        // header does not meet it.) For an error that is returned at once it queues none.
        if result >= 0 || matches!(result as u32, PENDING | INSUFFICIENT_BUFFER) {
            gate.outstanding += 1;
            return Ok(());
        }
        // SAFETY: the call failed at once, so no packet will come and the kernel does not know the
        // box.
        drop(unsafe { Box::from_raw(get) });
        Err(Failure::from_hresult(result))
    }

    /// The next get that completed; `None` if there was none within `limit`.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Option<Got>, Failure> {
        let Some(get) = self.take(milliseconds(limit))? else {
            return Ok(None);
        };
        let transferred = get.overlapped.InternalHigh;
        let outcome = match get.overlapped.Internal as u32 as i32 {
            0 => Ok(bytes_of(&get.buffer, transferred)),
            nt::FLT_BUFFER_TOO_SMALL => Err(Failure {
                fault: Fault::TooSmall(needed(transferred, get.buffer.len() * 8)),
                code: Code::Status(nt::FLT_BUFFER_TOO_SMALL),
            }),
            status => Err(Failure::from_status(status)),
        };
        Ok(Some(Got {
            slot: get.slot,
            outcome,
        }))
    }

    /// The get of the next completion packet; `None` if there was none within `milliseconds`.
    fn take(&self, milliseconds: u32) -> Result<Option<Box<Get>>, Failure> {
        let (mut bytes, mut key) = (0, 0);
        let mut overlapped: *mut OVERLAPPED = null_mut();
        // SAFETY: the completion port is open, and the three results are variables of ours.
        let taken = unsafe {
            GetQueuedCompletionStatus(
                self.completions.as_raw_handle(),
                &mut bytes,
                &mut key,
                &mut overlapped,
                milliseconds,
            )
        };
        if !overlapped.is_null() {
            let mut gate = lock(&self.gate);
            gate.outstanding = gate.outstanding.saturating_sub(1);
            // SAFETY: only `post` makes packets with an OVERLAPPED, each for one box, and this
            // packet has been taken just once.
            return Ok(Some(unsafe { Box::from_raw(overlapped.cast()) }));
        }
        if taken != 0 {
            // The packet that `shutdown` posts.
            return Err(Failure::new(Fault::Cancelled));
        }
        let failure = last_error();
        if failure.code == Code::Os(WAIT_TIMEOUT as i32) {
            Ok(None)
        } else {
            Err(failure)
        }
    }

    /// `FilterReplyMessage`.
    pub(crate) fn reply(&self, bytes: &[u8]) -> Result<(), Failure> {
        let words = aligned(bytes);
        // SAFETY: the handle is open, and the words hold the bytes that are passed.
        let result = unsafe {
            FilterReplyMessage(
                self.handle.as_raw_handle(),
                address(&words).cast(),
                length(bytes.len()),
            )
        };
        check(result)
    }

    /// Whether a driver can map views: on Windows it does so by itself.
    pub(crate) fn maps_views(&self) -> bool {
        true
    }

    /// The view that a driver says it has mapped, and left to this process. To be asked for once.
    pub(crate) fn take_view(&self, address: u64, length: usize) -> Option<View> {
        View::of(address, length)
    }

    /// As [`Port::send`]; the driver may map views meanwhile.
    pub(crate) fn send_with_views(
        &self,
        input: &[u8],
        capacity: usize,
    ) -> Result<Vec<u8>, Failure> {
        self.send(input, capacity)
    }

    /// `FilterSendMessage`; the answer, at most `capacity` bytes.
    pub(crate) fn send(&self, input: &[u8], capacity: usize) -> Result<Vec<u8>, Failure> {
        let words = aligned(input);
        let mut output = vec![0_u64; capacity.div_ceil(8)];
        let room = if output.is_empty() {
            null_mut()
        } else {
            output.as_mut_ptr().cast()
        };
        let mut returned = 0;
        // SAFETY: the handle is open, input and output have the lengths that are passed, and the
        // call is synchronous.
        let result = unsafe {
            FilterSendMessage(
                self.handle.as_raw_handle(),
                address(&words),
                length(input.len()),
                room,
                length(capacity),
                &mut returned,
            )
        };
        check(result)?;
        Ok(bytes_of(&output, (returned as usize).min(capacity)))
    }

    /// The port is disconnected. NT completes what has begun, and whoever waits for it is told by NT.
    pub(crate) fn settle(&self) {}

    /// Cancels the gets and wakes whoever waits for them.
    pub(crate) fn shutdown(&self) {
        let mut gate = lock(&self.gate);
        if std::mem::replace(&mut gate.closing, true) {
            return;
        }
        drop(gate);
        // SAFETY: the handle is open. It fails if nothing was outstanding, which is well.
        let _cancelled = unsafe { CancelIoEx(self.handle.as_raw_handle(), null()) };
        // SAFETY: the completion port is open; a packet without OVERLAPPED is not taken for a get.
        let _posted =
            unsafe { PostQueuedCompletionStatus(self.completions.as_raw_handle(), 0, 0, null()) };
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shutdown();
        let deadline = Instant::now() + DRAIN;
        while lock(&self.gate).outstanding > 0 && Instant::now() < deadline {
            // The packet of `shutdown` may come among them; it is passed over.
            let _get_or_shutdown = self.take(100);
        }
    }
}
