// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions of fltUser.h that a client of a port needs.

use core::ffi::c_void;
use std::os::windows::io::{AsRawHandle, IntoRawHandle, OwnedHandle};
use std::slice;

use fltmgr::Status;
use fltmgr::device::{
    CONNECT, CONTROL_DEVICE_LINK, ConnectBlock, GET_MESSAGE, LOAD, MESSAGE_DEVICE_LINK,
    REPLY_MESSAGE, SEND_MESSAGE, UNLOAD, encode_name,
};
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::core::{HRESULT, PCWSTR};

use crate::arguments;
use crate::device::{
    Buffers, Opening, READ_WRITE, WRITE, control, control_on_handle, hresult, start,
};

const S_OK: HRESULT = 0;

/// The string behind a pointer, without its terminator.
///
/// # Errors
/// STATUS_INVALID_PARAMETER for NULL.
///
/// # Safety
/// `text` is NULL or points to a terminated string that stays as it is.
unsafe fn string<'a>(text: PCWSTR) -> Result<&'a [u16], Status> {
    if text.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    let mut length = 0;
    loop {
        // SAFETY: no unit before this one was the terminator, so this one is the string's.
        let unit = unsafe { text.add(length) };
        // SAFETY: see above.
        if unsafe { unit.read() } == 0 {
            break;
        }
        length += 1;
    }
    // SAFETY: so many units were just read.
    Ok(unsafe { slice::from_raw_parts(text, length) })
}

fn result(status: Status) -> Result<(), Status> {
    if status.is_success() {
        Ok(())
    } else {
        Err(status)
    }
}

fn answer(outcome: Result<(), Status>) -> HRESULT {
    outcome.map_or_else(hresult, |()| S_OK)
}

/// Connects to the port `name`; the new handle goes to `port`, INVALID_HANDLE_VALUE on failure.
///
/// Errors: 0x80070002 no such port, 0x80070005 its security descriptor refuses, 0x800704D6 too many
/// connections, 0x80070057 arguments, 0x80070216 a context that is too large, else what the driver's
/// ConnectNotify returned.
///
/// # Safety
/// As fltUser.h has it: a terminated name, a context of `size` bytes, attributes or NULL, and a
/// place for the handle.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn FilterConnectCommunicationPort(
    name: PCWSTR,
    options: u32,
    context: *const c_void,
    size: u16,
    attributes: *const SECURITY_ATTRIBUTES,
    port: *mut HANDLE,
) -> HRESULT {
    if port.is_null() {
        return hresult(Status::INVALID_PARAMETER);
    }
    // SAFETY: the caller has one, and it is not NULL.
    unsafe { port.write(INVALID_HANDLE_VALUE) };
    // SAFETY: the caller promises what `connect` asks for.
    match unsafe { connect(name, options, context, size, attributes) } {
        Ok(connected) => {
            // SAFETY: as above.
            unsafe { port.write(connected.into_raw_handle()) };
            S_OK
        }
        Err(status) => hresult(status),
    }
}

/// # Safety
/// That of [`FilterConnectCommunicationPort`].
unsafe fn connect(
    name: PCWSTR,
    options: u32,
    context: *const c_void,
    size: u16,
    attributes: *const SECURITY_ATTRIBUTES,
) -> Result<OwnedHandle, Status> {
    let synchronous = arguments::synchronous(options)?;
    arguments::context(!context.is_null(), size)?;
    // SAFETY: the caller promises a terminated string.
    let name = unsafe { string(name) }?;
    let context = match size {
        0 => &[],
        // SAFETY: not NULL, because a size goes with a pointer; the caller has that many bytes.
        size => unsafe { slice::from_raw_parts(context.cast::<u8>(), usize::from(size)) },
    };
    let block = ConnectBlock::encode(name, context)?;
    let opening = Opening {
        synchronous,
        ..Opening::new(READ_WRITE)
    };
    // SAFETY: the caller promises attributes or NULL.
    let opening = unsafe { opening.attributes(attributes) };
    // SAFETY: the descriptor is the caller's.
    let port = unsafe { opening.open(MESSAGE_DEVICE_LINK) }?;
    // SAFETY: the block is ours and outlives the call.
    let (status, _) = unsafe { control(port.as_raw_handle(), CONNECT, Buffers::bytes(&block)?) };
    result(status)?;
    Ok(port)
}

/// Hands the driver's MessageNotify `in_size` bytes and waits until it returned; what it answers
/// comes to `out`, its length to `returned`.
///
/// Errors: 0x80070006 disconnected, else what MessageNotify returned.
///
/// # Safety
/// As fltUser.h has it: two buffers of their sizes, and a place for the length.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn FilterSendMessage(
    port: HANDLE,
    input: *const c_void,
    in_size: u32,
    out: *mut c_void,
    out_size: u32,
    returned: *mut u32,
) -> HRESULT {
    if returned.is_null() {
        return hresult(Status::INVALID_PARAMETER);
    }
    let buffers = Buffers {
        input,
        input_length: arguments::optional(!input.is_null(), in_size),
        output: out,
        output_length: arguments::optional(!out.is_null(), out_size),
    };
    // SAFETY: the buffers are the caller's, who waits here.
    let (status, bytes) = unsafe { control(port, SEND_MESSAGE, buffers) };
    let bytes = if status.is_success() { bytes } else { 0 };
    // SAFETY: the caller has one, and it is not NULL.
    unsafe { returned.write(u32::try_from(bytes).unwrap_or(u32::MAX)) };
    answer(result(status))
}

/// Takes the next message: header and payload. With an OVERLAPPED it returns 0x800703E5 and the
/// message comes later; without, it waits on `port`, which any operation on
/// an asynchronous handle signals.
///
/// Errors: 0x8007007A more room is needed, how much is the number of bytes of the completion;
/// 0x800703E3 cancelled; 0x80070006 disconnected.
///
/// # Safety
/// As fltUser.h has it: a buffer of its size; with an OVERLAPPED both outlive the operation, without
/// the handle is used by nobody else meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn FilterGetMessage(
    port: HANDLE,
    buffer: *mut c_void,
    size: u32,
    overlapped: *mut OVERLAPPED,
) -> HRESULT {
    if buffer.is_null() {
        return hresult(Status::INVALID_PARAMETER);
    }
    let buffers = Buffers::output(buffer, size);
    let status = if overlapped.is_null() {
        // SAFETY: the caller has the buffer, and the handle alone.
        unsafe { control_on_handle(port, GET_MESSAGE, buffers) }
    } else {
        // SAFETY: the caller's buffer and OVERLAPPED outlive the operation.
        unsafe { start(port, GET_MESSAGE, buffers, overlapped) }
    };
    hresult(status)
}

/// Answers a message: header and payload.
///
/// Errors: 0x801F0020 nobody waits for that reply; 0x80070006 disconnected.
///
/// # Safety
/// As fltUser.h has it: a buffer of its size.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn FilterReplyMessage(
    port: HANDLE,
    buffer: *const c_void,
    size: u32,
) -> HRESULT {
    if buffer.is_null() {
        return hresult(Status::INVALID_PARAMETER);
    }
    // SAFETY: the buffer is the caller's, who waits here.
    let (status, _) = unsafe { control(port, REPLY_MESSAGE, Buffers::input(buffer, size)) };
    answer(result(status))
}

/// Loads the filter of the service `name`.
///
/// Errors: 0x80070002 no such service, 0x80070420 loaded already, 0x80070057 no name.
///
/// # Safety
/// A terminated name, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn FilterLoad(name: PCWSTR) -> HRESULT {
    // SAFETY: the caller's name.
    answer(unsafe { order(LOAD, name) })
}

/// Unloads the filter of the service `name`, which may refuse.
///
/// Errors: 0x801F0013 no such filter, 0x801F0010 it refuses, 0x80070057 no name.
///
/// # Safety
/// A terminated name, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn FilterUnload(name: PCWSTR) -> HRESULT {
    // SAFETY: the caller's name.
    answer(unsafe { order(UNLOAD, name) })
}

/// # Safety
/// `name` is NULL or terminated.
unsafe fn order(code: u32, name: PCWSTR) -> Result<(), Status> {
    // SAFETY: the caller promises that.
    let name = unsafe { string(name) }?;
    arguments::service_name(name)?;
    let block = encode_name(name)?;
    // SAFETY: there is no descriptor.
    let device = unsafe { Opening::new(WRITE).open(CONTROL_DEVICE_LINK) }?;
    // SAFETY: the block is ours and outlives the call.
    let (status, _) = unsafe { control(device.as_raw_handle(), code, Buffers::bytes(&block)?) };
    result(status)
}
