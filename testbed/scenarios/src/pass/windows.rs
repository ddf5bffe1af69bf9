// SPDX-License-Identifier: MIT OR Apache-2.0
//! Through fltlib.dll.

use super::Buffers;
use crate::arguments::Seat;
use crate::orders::{Answer, Code, Numbers, Refusal};
use fltport_abi::limits::PORT_NAME;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null;
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::InstallableFileSystems::{
    FilterConnectCommunicationPort, FilterSendMessage,
};

pub(super) fn send(_seat: &Seat, hello: &[u8], buffers: Buffers) -> Answer {
    let port = match connect(hello) {
        Ok(port) => port,
        Err(hresult) => return refused("the port cannot be connected to", hresult),
    };
    let mut returned = 0;
    // SAFETY: the handle is open. Buffers are allegations to FilterSendMessage, which is what is
    // shown here: those that are good belong to the caller and have these lengths, for the others a
    // status is documented.
    let hresult = unsafe {
        FilterSendMessage(
            port.as_raw_handle(),
            buffers.input as usize as *const _,
            buffers.input_length,
            buffers.output as usize as *mut _,
            buffers.output_length,
            &mut returned,
        )
    };
    if hresult == 0 {
        Answer::Done(Numbers::from([("bytes".to_owned(), returned.into())]))
    } else {
        refused("FilterSendMessage", hresult)
    }
}

fn refused(what: &str, hresult: i32) -> Answer {
    Answer::Refused(Refusal {
        text: format!("{what}: HRESULT {hresult:#010x}"),
        code: Some(Code::Hresult(hresult)),
    })
}

fn connect(hello: &[u8]) -> Result<OwnedHandle, i32> {
    let name: Vec<u16> = PORT_NAME.encode_utf16().chain([0]).collect();
    // A pointer without a size is refused by fltlib.dll itself.
    let context = if hello.is_empty() {
        null()
    } else {
        hello.as_ptr().cast()
    };
    let mut handle: HANDLE = INVALID_HANDLE_VALUE;
    // SAFETY: the name is terminated, the context has the size that is passed, and the handle is a
    // variable of ours.
    let hresult = unsafe {
        FilterConnectCommunicationPort(
            name.as_ptr(),
            0,
            context,
            hello.len() as u16,
            null(),
            &mut handle,
        )
    };
    if hresult != 0 {
        return Err(hresult);
    }
    // SAFETY: the call succeeded, so the handle is open and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}
