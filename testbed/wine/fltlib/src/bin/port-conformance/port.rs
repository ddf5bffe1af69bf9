// SPDX-License-Identifier: MIT OR Apache-2.0
//! fltlib's functions, with owners for handles and for what the kernel writes.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use fltmgr::Message;
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, WAIT_OBJECT_0};
use windows_sys::Win32::Storage::InstallableFileSystems::{
    FilterConnectCommunicationPort, FilterGetMessage, FilterLoad, FilterReplyMessage,
    FilterSendMessage, FilterUnload,
};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED,
};
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};

pub(crate) const S_OK: u32 = 0;
pub(crate) const IO_PENDING: u32 = 0x8007_03E5;
pub(crate) const INVALID_ARGUMENT: u32 = 0x8007_0057;
pub(crate) const DISCONNECTED: u32 = 0x8007_0006;
pub(crate) const NO_WAITER: u32 = 0x801F_0020;
pub(crate) const COUNT_LIMIT: u32 = 0x8007_04D6;
/// No wait here is longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// `CONFORMANCE_PORT`.
pub(crate) const NAME: &str = "\\Conformance";
/// `CONFORMANCE_VERSION`, the context that the driver wants.
pub(crate) const CONTEXT: [u8; 4] = 1_u32.to_le_bytes();
/// Most bytes that the driver sends.
pub(crate) const BYTES: usize = 4096;

/// What FilterConnectCommunicationPort is told.
pub(crate) struct Connect<'a> {
    pub(crate) name: &'a str,
    pub(crate) options: u32,
    pub(crate) context: Option<&'a [u8]>,
    pub(crate) size: u16,
}

impl Connect<'static> {
    /// What the driver accepts.
    pub(crate) const GOOD: Connect<'static> = Connect {
        name: NAME,
        options: 0,
        context: Some(&CONTEXT),
        size: 4,
    };
}

impl Connect<'_> {
    /// The HRESULT, and the port if there is one.
    ///
    /// Panics if the size is more than the context has.
    pub(crate) fn call(&self) -> (i32, Option<Port>) {
        let name = terminated(self.name);
        let context = self.context.map_or(null(), |context| {
            assert!(context.len() >= usize::from(self.size));
            context.as_ptr().cast()
        });
        let mut handle: HANDLE = null_mut();
        // SAFETY: a terminated name, a context of at least that size or none, and a place for the
        // handle.
        let result = unsafe {
            FilterConnectCommunicationPort(
                name.as_ptr(),
                self.options,
                context,
                self.size,
                null(),
                &mut handle,
            )
        };
        if handle == INVALID_HANDLE_VALUE || handle.is_null() {
            return (result, None);
        }
        // SAFETY: open, and nobody else's.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        (result, Some(Port { handle }))
    }
}

impl Connect<'_> {
    /// As [`Connect::call`], but waits for the slot of a connection that has just been closed. That
    /// it is free again is not announced.
    pub(crate) fn patiently(&self) -> (i32, Option<Port>) {
        let until = Instant::now() + LIMIT;
        loop {
            let (result, port) = self.call();
            if result.cast_unsigned() != COUNT_LIMIT || Instant::now() > until {
                return (result, port);
            }
            std::thread::yield_now();
        }
    }
}

fn terminated(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// A connection to the driver.
pub(crate) struct Port {
    handle: OwnedHandle,
}

/// `ORDER`: what the driver is to send.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Order {
    /// How much; nothing means that it is to disconnect.
    pub(crate) bytes: u32,
    /// How much room for a reply; none means that none is wanted.
    pub(crate) room: u32,
    pub(crate) milliseconds: u32,
}

/// What became of an order.
#[derive(Clone, Copy)]
pub(crate) struct Ordered {
    pub(crate) result: i32,
    /// `lpBytesReturned`.
    pub(crate) returned: u32,
    /// `OUTCOME`: what the driver's FltSendMessage returned,
    pub(crate) status: i32,
    /// and how many bytes of a reply it got.
    pub(crate) replied: u32,
}

impl Port {
    /// A connection that must be possible.
    ///
    /// Panics if it is not.
    pub(crate) fn connect() -> Port {
        let (result, port) = Connect::GOOD.patiently();
        port.unwrap_or_else(|| {
            panic!("cannot connect to {NAME}: 0x{result:08X}; is the driver started?")
        })
    }

    /// FilterSendMessage with any input and output.
    pub(crate) fn send(&self, input: &[u8], output: &mut [u8]) -> (i32, u32) {
        let mut returned = u32::MAX;
        // SAFETY: the handle is open; two buffers with their lengths, and a place for a length.
        let result = unsafe {
            FilterSendMessage(
                self.handle.as_raw_handle(),
                input.as_ptr().cast(),
                input.len() as u32,
                output.as_mut_ptr().cast(),
                output.len() as u32,
                &mut returned,
            )
        };
        (result, returned)
    }

    /// Has the driver send something, and waits until it did.
    pub(crate) fn order(&self, order: Order) -> Ordered {
        let fields = [order.bytes, order.room, order.milliseconds];
        let input = fields.map(u32::to_le_bytes).concat();
        let mut output = [0; 8];
        let (result, returned) = self.send(&input, &mut output);
        let [a, b, c, d, e, f, g, h] = output;
        Ordered {
            result,
            returned,
            status: i32::from_le_bytes([a, b, c, d]),
            replied: u32::from_le_bytes([e, f, g, h]),
        }
    }

    /// FilterReplyMessage: header and `payload`.
    pub(crate) fn reply(&self, id: u64, payload: &[u8]) -> i32 {
        let header = [[0; 8], id.to_le_bytes()].concat();
        self.reply_bytes(&[&header, payload].concat())
    }

    /// FilterReplyMessage with any bytes.
    pub(crate) fn reply_bytes(&self, bytes: &[u8]) -> i32 {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(padded);
        }
        // SAFETY: the handle is open; the words hold that many bytes.
        unsafe {
            FilterReplyMessage(
                self.handle.as_raw_handle(),
                words.as_ptr().cast(),
                bytes.len() as u32,
            )
        }
    }

    /// FilterGetMessage without an OVERLAPPED; nobody else may use the handle with one meanwhile.
    pub(crate) fn get_and_wait(&self, size: usize) -> (i32, Vec<u64>) {
        let mut buffer = vec![0_u64; size.div_ceil(8)];
        // SAFETY: the handle is open; the buffer has that size, and is waited for.
        let result = unsafe {
            FilterGetMessage(
                self.handle.as_raw_handle(),
                buffer.as_mut_ptr().cast(),
                size as u32,
                null_mut(),
            )
        };
        (result, buffer)
    }

    /// FilterGetMessage with an OVERLAPPED that has an event.
    pub(crate) fn get(&self, size: usize) -> (i32, Get) {
        self.start(Get::new(size), size)
    }

    /// FilterGetMessage with an OVERLAPPED without an event, for a completion port.
    pub(crate) fn get_without_event(&self, size: usize) -> (i32, Get) {
        let get = Get::new(size);
        // SAFETY: alive as long as `get`, which nobody else knows yet.
        let overlapped = unsafe { &mut (*get.operation).overlapped };
        overlapped.hEvent = null_mut();
        self.start(get, size)
    }

    fn start(&self, get: Get, size: usize) -> (i32, Get) {
        // SAFETY: alive as long as `get`, which nobody else knows yet.
        let buffer = unsafe { &mut (*get.operation).buffer };
        let buffer = buffer.as_mut_ptr().cast();
        // SAFETY: buffer and OVERLAPPED live in a box that is given up if the operation is not
        // seen to end.
        let result = unsafe {
            FilterGetMessage(
                self.handle.as_raw_handle(),
                buffer,
                size as u32,
                get.operation.cast(),
            )
        };
        (result, get)
    }

    /// Cancels all that is outstanding; whether there was something.
    pub(crate) fn cancel(&self) -> bool {
        // SAFETY: the handle is open.
        unsafe { CancelIoEx(self.handle.as_raw_handle(), null()) != 0 }
    }

    /// A completion port for this handle.
    pub(crate) fn completions(&self) -> Completions {
        // SAFETY: the handle is open; a new completion port is made for it.
        let port = unsafe { CreateIoCompletionPort(self.handle.as_raw_handle(), null_mut(), 0, 1) };
        assert!(!port.is_null(), "no completion port");
        // SAFETY: open, and nobody else's.
        Completions(unsafe { OwnedHandle::from_raw_handle(port) })
    }
}

/// An outstanding get. Its memory is given up, unless it was seen to end.
pub(crate) struct Get {
    operation: *mut Operation,
    event: OwnedHandle,
}

// SAFETY: it owns the box alone, but for the kernel, which does not care who waits.
unsafe impl Send for Get {}

#[repr(C)]
struct Operation {
    overlapped: OVERLAPPED,
    buffer: Vec<u64>,
}

/// What a get ended with.
pub(crate) struct Got {
    pub(crate) status: i32,
    /// The number of bytes that the operation reports.
    pub(crate) transferred: usize,
    bytes: Vec<u8>,
}

impl Got {
    /// The message, of a get that succeeded.
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).expect("a message has a header")
    }
}

impl Get {
    fn new(size: usize) -> Get {
        // SAFETY: no attributes and no name; a manual-reset event, signalled, so that it is seen
        // that the call resets it.
        let event = unsafe { CreateEventW(null(), 1, 1, null()) };
        assert!(!event.is_null(), "no event");
        let operation = Box::into_raw(Box::new(Operation {
            overlapped: OVERLAPPED {
                hEvent: event,
                ..OVERLAPPED::default()
            },
            buffer: vec![0; size.div_ceil(8)],
        }));
        // SAFETY: open, and nobody else's.
        let event = unsafe { OwnedHandle::from_raw_handle(event) };
        Get { operation, event }
    }

    /// Whether it ends within `limit`.
    pub(crate) fn ends(&self, limit: Duration) -> bool {
        // SAFETY: the event is open.
        let waited =
            unsafe { WaitForSingleObject(self.event.as_raw_handle(), limit.as_millis() as u32) };
        waited == WAIT_OBJECT_0
    }

    /// Waits for the end.
    pub(crate) fn finish(self) -> Option<Got> {
        // SAFETY: the operation is over, and only this owner knows the box.
        self.ends(LIMIT)
            .then(|| unsafe { finished(self.operation) })
    }

    /// Whether a completion packet is this get's.
    fn is(&self, overlapped: *mut OVERLAPPED) -> bool {
        self.operation.cast() == overlapped
    }
}

/// # Safety
/// `operation` is over, and is not used afterwards.
unsafe fn finished(operation: *mut Operation) -> Got {
    // SAFETY: made by `Get::new`; the kernel is done with it.
    let operation = unsafe { Box::from_raw(operation) };
    let transferred = operation.overlapped.InternalHigh;
    let mut bytes: Vec<u8> = operation
        .buffer
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    bytes.truncate(transferred);
    Got {
        status: operation.overlapped.Internal as u32 as i32,
        transferred,
        bytes,
    }
}

/// A completion port.
pub(crate) struct Completions(OwnedHandle);

impl Completions {
    /// The next get of `gets` that ended within `limit`.
    pub(crate) fn next(&self, gets: &mut Vec<Get>, limit: Duration) -> Option<Got> {
        let (mut bytes, mut key) = (0, 0);
        let mut overlapped: *mut OVERLAPPED = null_mut();
        // SAFETY: the completion port is open, and there are places for three results.
        unsafe {
            GetQueuedCompletionStatus(
                self.0.as_raw_handle(),
                &mut bytes,
                &mut key,
                &mut overlapped,
                limit.as_millis() as u32,
            )
        };
        let index = gets.iter().position(|get| get.is(overlapped))?;
        let get = gets.swap_remove(index);
        // SAFETY: its packet has been taken, and only this owner knows the box.
        Some(unsafe { finished(get.operation) })
    }
}

/// FilterLoad.
pub(crate) fn load(service: &str) -> i32 {
    let service = terminated(service);
    // SAFETY: a terminated name.
    unsafe { FilterLoad(service.as_ptr()) }
}

/// FilterUnload.
pub(crate) fn unload(service: &str) -> i32 {
    let service = terminated(service);
    // SAFETY: a terminated name.
    unsafe { FilterUnload(service.as_ptr()) }
}

/// FilterGetMessage and FilterReplyMessage on something that is no handle.
pub(crate) fn on_no_handle() -> [i32; 2] {
    let mut message = [0_u64; 4];
    let size = size_of_val(&message) as u32;
    // SAFETY: a buffer with its size; there is no handle.
    let get = unsafe {
        FilterGetMessage(
            INVALID_HANDLE_VALUE,
            message.as_mut_ptr().cast(),
            size,
            null_mut(),
        )
    };
    // SAFETY: as above.
    let reply = unsafe { FilterReplyMessage(INVALID_HANDLE_VALUE, message.as_ptr().cast(), size) };
    [get, reply]
}
