// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager's devices: opening them, and device controls on them.

use core::ffi::c_void;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};

use fltmgr::Status;
use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_OPEN_IF, FILE_SYNCHRONOUS_IO_NONALERT, NtCreateFile,
};
use windows_sys::Wdk::System::IO::NtDeviceIoControlFile;
use windows_sys::Wdk::System::Threading::NtWaitForSingleObject;
use windows_sys::Win32::Foundation::{
    HANDLE, OBJ_CASE_INSENSITIVE, OBJ_INHERIT, RtlNtStatusToDosError, UNICODE_STRING,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{FILE_READ_DATA, FILE_WRITE_DATA, SYNCHRONIZE};
use windows_sys::Win32::System::IO::{IO_STATUS_BLOCK, IO_STATUS_BLOCK_0, OVERLAPPED};
use windows_sys::Win32::System::Threading::CreateEventW;

use crate::wait::{Next, after_call, after_shared_wait};

/// Access for messages both ways.
pub(crate) const READ_WRITE: u32 = FILE_READ_DATA | FILE_WRITE_DATA | SYNCHRONIZE;
/// Access for orders to the control device.
pub(crate) const WRITE: u32 = FILE_WRITE_DATA | SYNCHRONIZE;

/// Input and output of a device control; the lengths are those of the memory behind the pointers.
#[derive(Clone, Copy)]
pub(crate) struct Buffers {
    pub(crate) input: *const c_void,
    pub(crate) input_length: u32,
    pub(crate) output: *mut c_void,
    pub(crate) output_length: u32,
}

impl Buffers {
    pub(crate) fn input(input: *const c_void, input_length: u32) -> Buffers {
        Buffers {
            input,
            input_length,
            output: null_mut(),
            output_length: 0,
        }
    }

    pub(crate) fn output(output: *mut c_void, output_length: u32) -> Buffers {
        Buffers {
            input: null(),
            input_length: 0,
            output,
            output_length,
        }
    }

    /// The input only, from memory of ours.
    ///
    /// # Errors
    /// STATUS_INVALID_PARAMETER beyond 4 GiB.
    pub(crate) fn bytes(input: &[u8]) -> Result<Buffers, Status> {
        let length = u32::try_from(input.len()).map_err(|_| Status::INVALID_PARAMETER)?;
        Ok(Buffers::input(input.as_ptr().cast(), length))
    }
}

/// The HRESULT of a status, with the Win32 errors of ntdll.
pub(crate) fn hresult(status: Status) -> i32 {
    let win32 = |status: Status| {
        // SAFETY: it takes and returns a number.
        unsafe { RtlNtStatusToDosError(status.0) }
    };
    status.hresult_by(win32).cast_signed()
}

/// How a handle on a device is to be.
pub(crate) struct Opening {
    pub(crate) access: u32,
    pub(crate) synchronous: bool,
    pub(crate) inherited: bool,
    /// NULL for the default.
    pub(crate) descriptor: *mut c_void,
}

impl Opening {
    pub(crate) fn new(access: u32) -> Opening {
        Opening {
            access,
            synchronous: false,
            inherited: false,
            descriptor: null_mut(),
        }
    }

    /// Takes over what a program says about its new handle.
    ///
    /// # Safety
    /// `attributes` is NULL or points to one.
    pub(crate) unsafe fn attributes(mut self, attributes: *const SECURITY_ATTRIBUTES) -> Opening {
        // SAFETY: the caller promises that.
        if let Some(attributes) = unsafe { attributes.as_ref() } {
            self.inherited = attributes.bInheritHandle != 0;
            self.descriptor = attributes.lpSecurityDescriptor;
        }
        self
    }

    /// Opens the device behind `link`.
    ///
    /// # Safety
    /// The descriptor is NULL or points to a security descriptor.
    pub(crate) unsafe fn open(&self, link: &str) -> Result<OwnedHandle, Status> {
        let mut name: Vec<u16> = link.encode_utf16().collect();
        let length = u16::try_from(name.len() * 2).map_err(|_| Status::OBJECT_NAME_INVALID)?;
        let name = UNICODE_STRING {
            Length: length,
            MaximumLength: length,
            Buffer: name.as_mut_ptr(),
        };
        let inherit = if self.inherited { OBJ_INHERIT } else { 0 };
        let attributes = OBJECT_ATTRIBUTES {
            Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
            RootDirectory: null_mut(),
            ObjectName: &raw const name,
            Attributes: OBJ_CASE_INSENSITIVE | inherit,
            SecurityDescriptor: self.descriptor.cast(),
            SecurityQualityOfService: null(),
        };
        let (mut handle, mut block) = (null_mut(), IO_STATUS_BLOCK::default());
        let options = if self.synchronous {
            FILE_SYNCHRONOUS_IO_NONALERT
        } else {
            0
        };
        // SAFETY: the attributes and what they point to live until the call returns, as do the two
        // results; there is no allocation size and no extended attribute.
        let status = Status(unsafe {
            NtCreateFile(
                &mut handle,
                self.access,
                &attributes,
                &mut block,
                null(),
                0,
                0,
                FILE_OPEN_IF,
                options,
                null(),
                0,
            )
        });
        if !status.is_success() {
            return Err(status);
        }
        // SAFETY: the call succeeded, so the handle is open and nobody else's.
        Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
    }
}

/// The status block of one synchronous call, in memory that the kernel may write for as long as the
/// call goes on, even when nobody waits for it any more.
struct Block(*mut IO_STATUS_BLOCK);

impl Block {
    fn new() -> Block {
        Block(Box::into_raw(Box::new(IO_STATUS_BLOCK {
            Anonymous: IO_STATUS_BLOCK_0 {
                Status: Status::PENDING.0,
            },
            Information: 0,
        })))
    }

    fn status(&self) -> Status {
        // SAFETY: the block is never freed while it has an owner; volatile, because the kernel
        // writes it meanwhile. It begins with its status, and any bits are one.
        Status(unsafe { self.0.cast::<i32>().read_volatile() })
    }

    fn information(&self) -> usize {
        // SAFETY: as above; any bits are a number.
        let block = unsafe { self.0.read_volatile() };
        block.Information
    }

    /// Frees the block; the call is over.
    fn free(self) {
        // SAFETY: the box was made by `new`, and the kernel does not write it any more.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// A device control to the end, waited for with an event of its own. Returns its status and the
/// number of bytes that came back.
///
/// # Safety
/// The buffers have the lengths they claim.
pub(crate) unsafe fn control(port: HANDLE, code: u32, buffers: Buffers) -> (Status, usize) {
    // SAFETY: no attributes and no name; a manual-reset event that is not signalled.
    let event = unsafe { CreateEventW(null(), 1, 0, null()) };
    if event.is_null() {
        return (Status::INSUFFICIENT_RESOURCES, 0);
    }
    // SAFETY: the call succeeded, so the event is open and nobody else's.
    let event = unsafe { OwnedHandle::from_raw_handle(event) };
    let block = Block::new();
    // SAFETY: the caller vouches for the buffers, which outlive the call, because it is waited for;
    // so do the event and the block.
    let returned = unsafe {
        NtDeviceIoControlFile(
            port,
            event.as_raw_handle(),
            None,
            null(),
            block.0,
            code,
            buffers.input,
            buffers.input_length,
            buffers.output,
            buffers.output_length,
        )
    };
    let status = match after_call(Status(returned)) {
        Next::Done(status) => status,
        Next::Wait => {
            // SAFETY: the event is open; the wait has no end but the event.
            let _signalled =
                unsafe { NtWaitForSingleObject(event.as_raw_handle(), false, null_mut()) };
            block.status()
        }
    };
    let information = block.information();
    block.free();
    (status, information)
}

/// A device control without an event, as Windows' fltlib does it: if it pends, the wait is for the
/// file handle, which any operation on an asynchronous handle signals.
///
/// # Safety
/// The buffers have the lengths they claim, and on an asynchronous handle that somebody else uses
/// meanwhile they outlive the call: it may return before it is over.
pub(crate) unsafe fn control_on_handle(port: HANDLE, code: u32, buffers: Buffers) -> Status {
    let block = Block::new();
    // SAFETY: the caller vouches for the buffers; the block outlives the call, see below.
    let returned = unsafe {
        NtDeviceIoControlFile(
            port,
            null_mut(),
            None,
            null(),
            block.0,
            code,
            buffers.input,
            buffers.input_length,
            buffers.output,
            buffers.output_length,
        )
    };
    if let Next::Done(status) = after_call(Status(returned)) {
        block.free();
        return status;
    }
    // SAFETY: the program's handle; if it is none, the call above failed.
    let _signalled = unsafe { NtWaitForSingleObject(port, false, null_mut()) };
    let found = block.status();
    if found != Status::PENDING {
        block.free();
    }
    // Otherwise the call goes on and writes the block when it ends: the block is given up.
    after_shared_wait(found)
}

/// Starts a device control that ends with the event of `overlapped` and, if the handle has one, a
/// packet at the completion port.
///
/// # Safety
/// `overlapped` is valid; it and the buffers, which have the lengths they claim, outlive the
/// operation.
pub(crate) unsafe fn start(
    port: HANDLE,
    code: u32,
    buffers: Buffers,
    overlapped: *mut OVERLAPPED,
) -> Status {
    let event = {
        // SAFETY: the caller's OVERLAPPED, which the kernel does not know yet.
        let overlapped = unsafe { &mut *overlapped };
        overlapped.Internal = Status::PENDING.0.cast_unsigned() as usize;
        overlapped.hEvent
    };
    // SAFETY: the caller vouches for the buffers and the OVERLAPPED, which begins with what a status
    // block is.
    Status(unsafe {
        NtDeviceIoControlFile(
            port,
            event,
            None,
            overlapped.cast(),
            overlapped.cast(),
            code,
            buffers.input,
            buffers.input_length,
            buffers.output,
            buffers.output_length,
        )
    })
}
