// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views that a service is asked for, by services that do what they should and by others.
use super::*;
use crate::mm::shared_memory::{Mapping, SharedMemory};
use crate::status::{
    STATUS_CONFLICTING_ADDRESSES, STATUS_IO_TIMEOUT, STATUS_NO_MEMORY,
    STATUS_PROCESS_IS_TERMINATING,
};
use crate::transport::completions::Completions;
use crate::transport::lane::Lane;
use crate::transport::views::Views;
use fltport_abi::hosted::{MapView, Mapped};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// The input length of a send that maps a view.
pub(super) const MAPS: u32 = 77;
const LENGTH: usize = 8192;

/// What is mapped, and the driver's own mapping of it.
pub(super) struct Memory {
    shared: SharedMemory,
    own: Mapping,
}

impl Default for Memory {
    fn default() -> Memory {
        let shared = SharedMemory::new(LENGTH).unwrap();
        let own = shared.map(true).unwrap();
        Memory { shared, own }
    }
}

impl Memory {
    /// How many descriptors of it this process has.
    fn descriptors(&self) -> usize {
        let own = self.shared.inode();
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let is_it = |path: PathBuf| std::fs::metadata(path).is_ok_and(|it| it.ino() == own);
        open.filter(|entry| entry.as_ref().is_ok_and(|entry| is_it(entry.path())))
            .count()
    }
}

impl Scripted {
    /// Maps the memory into the caller's process, and notes where; the status.
    pub(super) fn map_view(&self, views: Option<Arc<dyn MapViews>>) -> i32 {
        let Some(views) = views else {
            self.note("no views");
            return 0;
        };
        let descriptor = self.memory.shared.descriptor(false).unwrap();
        match views.map(descriptor, LENGTH, false) {
            Ok(address) => {
                self.note(format!("mapped at {address:#x}"));
                0
            }
            Err(status) => {
                self.note("not mapped");
                status
            }
        }
    }
}

/// A header, whatever it is of, and the descriptor that comes with it.
fn receive(socket: &UnixStream) -> ([u8; 24], Option<OwnedFd>) {
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
    let flags = libc::MSG_WAITALL | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message and what it points to live across the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
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

/// The question that comes next.
fn question(socket: &UnixStream) -> (MapView, OwnedFd) {
    let (bytes, descriptor) = receive(socket);
    let question = MapView::find(&bytes).unwrap().expect("a question");
    (question, descriptor.expect("a descriptor"))
}

fn map(descriptor: &OwnedFd, protection: i32) -> *mut libc::c_void {
    let descriptor = descriptor.as_raw_fd();
    let wish = std::ptr::null_mut();
    // SAFETY: a new mapping where the host system likes.
    unsafe { libc::mmap(wish, LENGTH, protection, libc::MAP_SHARED, descriptor, 0) }
}

fn answer_with(socket: &mut UnixStream, id: u64, status: i32, address: u64) {
    let mapped = Mapped {
        id,
        status,
        reserved: 0,
        address,
    };
    ask(socket, op::MAPPED, 1000 + id, &bytes(&mapped));
}

#[test]
fn a_view_is_the_drivers_memory_and_cannot_be_written_to() {
    let bench = Bench::new();
    let memory = &bench.device.memory;
    let mut socket = bench.connected();
    send_as(&mut socket, op::SEND_WITH_VIEWS, 30, MAPS);
    let (question, descriptor) = question(&socket);
    assert_eq!((question.length, question.writable), (LENGTH as u64, 0));
    let writable = map(&descriptor, libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!(writable, libc::MAP_FAILED);
    let view = map(&descriptor, libc::PROT_READ);
    drop(descriptor);
    answer_with(&mut socket, question.id, 0, view as u64);
    assert_eq!(answer(&mut socket), Some((30, 0, 0, vec![])));
    bench.device.wait_for(&format!("mapped at {view:p}"));
    let last = LENGTH - 1;
    // SAFETY: the driver's mapping, of that length.
    unsafe {
        (memory.own.address() as *mut u8)
            .wrapping_add(last)
            .write_volatile(9)
    };
    // SAFETY: mapped above, of that length.
    let seen = unsafe { view.cast::<u8>().wrapping_add(last).read_volatile() };
    assert_eq!(seen, 9);
    assert_eq!(memory.descriptors(), 1, "the section's own");
    // SAFETY: mapped above.
    unsafe { libc::munmap(view, LENGTH) };
}

#[test]
fn a_service_that_does_not_say_that_it_can_is_not_asked() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    send(&mut socket, 30, MAPS);
    assert_eq!(answer(&mut socket), Some((30, 0, 0, vec![])));
    bench.device.wait_for("no views");
}

#[test]
fn answers_give_their_place_back_and_what_comes_between_is_not_mixed_up() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    for id in 0..2 * hosted::MAX_OUTSTANDING as u64 {
        send_as(&mut socket, op::SEND_WITH_VIEWS, 100 + id, MAPS);
        ask(&mut socket, op::REPLY, 1, b"x");
        let (mut asked, mut replied) = (false, false);
        while !(asked && replied) {
            let (bytes, descriptor) = receive(&socket);
            match MapView::find(&bytes).unwrap() {
                Some(question) => {
                    assert!(descriptor.is_some());
                    asked = true;
                    answer_with(&mut socket, question.id, 0, 4096);
                }
                None => {
                    assert!(descriptor.is_none());
                    assert_eq!(CompletionHeader::read(&bytes).unwrap().id, 1);
                    replied = true;
                }
            }
        }
        assert_eq!(answer(&mut socket), Some((100 + id, 0, 0, vec![])));
    }
    assert_eq!(bench.device.memory.descriptors(), 1);
}

#[test]
fn nonsense_is_an_error_of_the_mapping() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    for (id, status, address, expected) in [
        (1, 0, 0, STATUS_CONFLICTING_ADDRESSES),
        (2, 0, 4097, STATUS_CONFLICTING_ADDRESSES),
        (3, 0, u64::MAX - 4095, STATUS_CONFLICTING_ADDRESSES),
        (4, 0, 0x7FFF_FFFF_F000, STATUS_CONFLICTING_ADDRESSES),
        (5, -1, 4096, STATUS_NO_MEMORY),
        (6, 1, 4096, STATUS_NO_MEMORY),
    ] {
        send_as(&mut socket, op::SEND_WITH_VIEWS, 30, MAPS);
        assert_eq!(question(&socket).0.id, id);
        answer_with(&mut socket, id, status, address);
        assert_eq!(answer(&mut socket), Some((30, expected, 0, vec![])));
    }
}

#[test]
fn an_answer_to_nothing_breaks_the_protocol() {
    let bench = Bench::new();
    for (asks, id) in [(false, 1), (true, 2), (true, 0)] {
        let mut socket = bench.connected();
        if asks {
            send_as(&mut socket, op::SEND_WITH_VIEWS, 30, MAPS);
            question(&socket);
        }
        answer_with(&mut socket, id, 0, 4096);
        if asks {
            let terminating = Some((30, STATUS_PROCESS_IS_TERMINATING, 0, vec![]));
            assert_eq!(answer(&mut socket), terminating);
        }
        assert_eq!(answer(&mut socket), None);
    }
}

#[test]
fn a_service_that_goes_instead_of_answering_holds_nobody_up() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    send_as(&mut socket, op::SEND_WITH_VIEWS, 30, MAPS);
    drop(question(&socket));
    drop(socket);
    bench.device.wait_for("not mapped");
    bench.device.wait_for("close");
    // Nor one that has not even read the question.
    let mut socket = bench.connected();
    send_as(&mut socket, op::SEND_WITH_VIEWS, 30, MAPS);
    bench.device.wait_for("send");
    drop(socket);
    let device = bench.device.clone();
    drop(bench);
    assert_eq!(device.memory.descriptors(), 1);
}

#[test]
fn a_service_that_never_answers_costs_so_much_time_and_no_more() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let lane = Arc::new(Lane::new(1));
    let (completions, writer) = Completions::start(ours.try_clone().unwrap(), lane).unwrap();
    let views = Views::patient(completions, Duration::from_millis(20));
    let memory = Memory::default();
    let ask = || views.map(memory.shared.descriptor(true).unwrap(), LENGTH, true);
    assert_eq!(ask(), Err(STATUS_IO_TIMEOUT));
    let (question, descriptor) = question(&theirs);
    assert_eq!((question.id, question.writable), (1, 1));
    drop(descriptor);
    let answer = |id| Mapped {
        id,
        status: 0,
        reserved: 0,
        address: 4096,
    };
    assert_eq!(views.answered(answer(1)), Ok(()), "late");
    assert_eq!(views.answered(answer(2)), Err(hosted::Violation::Value));
    views.close();
    assert_eq!(ask(), Err(STATUS_PROCESS_IS_TERMINATING));
    drop(views);
    writer.finish(&ours);
    assert_eq!(memory.descriptors(), 1);
}
