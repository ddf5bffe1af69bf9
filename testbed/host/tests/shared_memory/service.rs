// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service's side, in a process of its own, with its bare hands.

use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::connection::MAPS_VIEWS;
use fltport_abi::hosted::{self, CompletionHeader, MapView, Mapped, RequestHeader, op};
use nt_host::status::{
    STATUS_ACCESS_DENIED, STATUS_INVALID_HANDLE, STATUS_NOT_SUPPORTED, STATUS_OBJECT_TYPE_MISMATCH,
};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::driver::{LENGTH, PORT};

struct Service(UnixStream);

fn bytes<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    value.write(&mut bytes).unwrap();
    bytes
}

fn eventfd(value: u32) -> File {
    // SAFETY: takes numbers.
    let made = unsafe { libc::eventfd(value, 0) };
    assert!(made >= 0);
    // SAFETY: just made, and nobody else's.
    File::from(unsafe { OwnedFd::from_raw_fd(made) })
}

fn handle(event: &File) -> u64 {
    event.as_raw_fd() as u64
}

impl Service {
    fn connect(path: &str) -> Service {
        let mut service = Service(UnixStream::connect(path).unwrap());
        let name: Vec<u8> = PORT.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let connect = hosted::Connect {
            name: name.len() as u32,
            context: 0,
        };
        service.ask(op::CONNECT, 1, &[bytes(&connect), name].concat());
        let (completion, _) = service.receive();
        let completion = CompletionHeader::read(&completion).unwrap();
        assert_eq!((completion.status, completion.information), (0, MAPS_VIEWS));
        service
    }

    fn ask(&mut self, op: u32, id: u64, payload: &[u8]) {
        let header = bytes(&RequestHeader::new(op, id, payload.len()));
        self.0.write_all(&[&header, payload].concat()).unwrap();
    }

    /// The header that comes next, with the descriptor that comes with it.
    fn receive(&mut self) -> ([u8; 24], Option<OwnedFd>) {
        let mut bytes = [0; 24];
        let mut ancillary = [0_u64; 8];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: plain numbers and pointers, for all of which zero is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&ancillary);
        let socket = self.0.as_raw_fd();
        // SAFETY: the message and what it points to live across the call.
        let got = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_WAITALL) };
        assert_eq!(got, 24);
        // SAFETY: a message that was received.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        if header.is_null() {
            return (bytes, None);
        }
        // SAFETY: a header of the message's, with a descriptor behind it.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: as above.
        let number = unsafe { data.cast::<i32>().read_unaligned() };
        // SAFETY: just received, and nobody else's.
        (bytes, Some(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Sends a message and maps what it is asked for; the status and the two addresses.
    fn command(&mut self, op: u32, message: u64) -> (i32, [u64; 2]) {
        let input = message.to_le_bytes();
        let mut output = [0_u64; 2];
        let send = hosted::Send {
            input: input.as_ptr() as u64,
            output: output.as_mut_ptr() as u64,
            input_length: 8,
            output_length: 16,
        };
        self.ask(op, 2, &bytes(&send));
        loop {
            let (header, descriptor) = self.receive();
            let Some(question) = MapView::find(&header).unwrap() else {
                let completion = CompletionHeader::read(&header).unwrap();
                // The kernel has written to it behind the compiler's back.
                return (completion.status, std::hint::black_box(output));
            };
            let address = map(&descriptor.unwrap(), question.writable != 0).unwrap();
            let mapped = Mapped {
                id: question.id,
                status: 0,
                reserved: 0,
                address,
            };
            self.ask(op::MAPPED, 3, &bytes(&mapped));
        }
    }
}

fn map(descriptor: &OwnedFd, writable: bool) -> Option<u64> {
    let write = if writable { libc::PROT_WRITE } else { 0 };
    let (protection, descriptor) = (libc::PROT_READ | write, descriptor.as_raw_fd());
    let wish = std::ptr::null_mut();
    // SAFETY: a new mapping where the host system likes.
    let at = unsafe { libc::mmap(wish, LENGTH, protection, libc::MAP_SHARED, descriptor, 0) };
    (at != libc::MAP_FAILED).then_some(at as u64)
}

fn word(address: u64, index: usize) -> *mut u32 {
    (address as *mut u32).wrapping_add(index)
}

fn read(address: u64, index: usize) -> u32 {
    // SAFETY: within a view.
    unsafe { word(address, index).read_volatile() }
}

/// What the program does that the test has started.
pub(crate) fn run(path: &str, role: &str) {
    let mut service = Service::connect(path);
    match role {
        "honest" => honest(&mut service),
        "odd-handles" => odd_handles(&mut service),
        "full-counter" => full_counter(&mut service),
        "stays" => {
            let event = eventfd(0);
            assert_eq!(service.command(op::SEND_WITH_VIEWS, handle(&event)).0, 0);
            wait_to_be_killed();
        }
        "does-not-answer" => {
            let event = eventfd(0);
            let input = handle(&event).to_le_bytes();
            let send = hosted::Send {
                input: input.as_ptr() as u64,
                output: 0,
                input_length: 8,
                output_length: 0,
            };
            service.ask(op::SEND_WITH_VIEWS, 2, &bytes(&send));
            service.receive().1.expect("a descriptor");
            wait_to_be_killed();
        }
        other => panic!("{other}"),
    }
}

/// The test holds the other end, and never writes.
fn wait_to_be_killed() {
    let _never = std::io::stdin().read(&mut [0]);
}

fn honest(service: &mut Service) {
    let mut event = eventfd(0);
    let (status, [data, consumer]) = service.command(op::SEND_WITH_VIEWS, handle(&event));
    assert_eq!(status, 0);
    let mut count = [0; 8];
    event.read_exact(&mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 2, "set twice");
    assert!((0..LENGTH / 4).all(|index| read(data, index) == index as u32));
    // SAFETY: a view, whose protection is all that may change.
    let raised = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        libc::mprotect(data as *mut _, LENGTH, protection)
    };
    assert_eq!(raised, -1, "what is read only stays so");
    // SAFETY: within a writable view.
    unsafe { word(consumer, 0).write_volatile(0xC0FFEE) };
}

fn odd_handles(service: &mut Service) {
    let file = File::open("/proc/self/status").unwrap();
    let closed = {
        let event = eventfd(0);
        handle(&event)
    };
    for (handle, expected) in [
        (handle(&file), STATUS_OBJECT_TYPE_MISMATCH),
        (closed, STATUS_INVALID_HANDLE),
        (u64::from(u32::MAX), STATUS_INVALID_HANDLE),
        (0xFFFF_FFFF_8000_0004, STATUS_INVALID_HANDLE),
    ] {
        let (status, _) = service.command(op::SEND_WITH_VIEWS, handle);
        assert_ne!(status, STATUS_ACCESS_DENIED, "the host may not look");
        assert_eq!(status, expected, "{handle:#x}");
    }
    // A service that does not say that it can is not asked for views.
    let event = eventfd(0);
    let (status, _) = service.command(op::SEND, handle(&event));
    assert_eq!(status, STATUS_NOT_SUPPORTED);
}

fn full_counter(service: &mut Service) {
    let mut event = eventfd(0);
    event.write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
    let (status, _) = service.command(op::SEND_WITH_VIEWS, handle(&event));
    assert_eq!(status, 0);
}
