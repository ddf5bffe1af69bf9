// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way back, from any thread and without blocking: a completion is written at once if nothing is in front of it and the
//! socket takes it; otherwise it goes into a queue that one thread writes.

use super::lane::{Held, Lane};
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::{CompletionHeader, MapView};
use parking_lot::Mutex;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes to gather before writing.
const BATCH: usize = 128 * 1024;

/// How long a peer that does not listen is given for the last completions.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Puts completions in. The queue is unbounded, but a completion goes only with what it holds of
/// the [`Lane`], and a question only with a send that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Completions {
    queue: Sender<Entry>,
    front: Arc<Front>,
    lane: Arc<Lane>,
}

/// Whose turn it is to write.
#[derive(Debug)]
struct Front {
    socket: UnixStream,
    /// Entries that the thread has not written yet; without any, whoever holds this may write.
    queued: Mutex<usize>,
}

#[derive(Debug)]
enum Entry {
    Completion(Held, Vec<u8>),
    /// A question for a view, and what is to be mapped.
    Question(Vec<u8>, OwnedFd),
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    thread: JoinHandle<()>,
    /// Nothing is ever sent; it is disconnected when the thread ends.
    end: Receiver<()>,
}

impl Writer {
    /// Gives the writer a moment to write what is queued, then ends the socket and waits for it.
    pub(super) fn finish(self, socket: &UnixStream) {
        let _ended_or_stuck = self.end.recv_timeout(LAST_WORDS);
        // It fails if the peer has ended the socket already.
        let _gone = socket.shutdown(Shutdown::Both);
        // A thread that panicked has told its reason to standard error.
        let _panicked = self.thread.join();
    }
}

impl Completions {
    /// Starts the writer, which ends when all copies of this are gone, or when the peer is.
    pub(super) fn start(socket: UnixStream, lane: Arc<Lane>) -> io::Result<(Completions, Writer)> {
        let (sender, receiver) = channel();
        let (ended, end) = channel();
        let front = Arc::new(Front {
            socket: socket.try_clone()?,
            queued: Mutex::new(0),
        });
        let completions = Completions {
            queue: sender,
            front: front.clone(),
            lane: lane.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("transport-writer".into())
            .spawn(move || {
                write_all(socket, &receiver, &lane, &front);
                // The peer is gone: the reader must not wait for a place that nobody gives back.
                lane.close();
                drop(ended);
            })?;
        let writer = Writer {
            thread: writer,
            end,
        };
        Ok((completions, writer))
    }

    /// Completes the request `id`.
    pub(super) fn put(&self, id: u64, status: i32, information: u32, payload: &[u8]) {
        self.put_held(Held::Place, id, status, information, payload);
    }

    /// Completes the request `id`, which holds `held` of the lane.
    pub(super) fn put_held(
        &self,
        held: Held,
        id: u64,
        status: i32,
        information: u32,
        payload: &[u8],
    ) {
        let header = CompletionHeader::new(id, status, information, payload.len());
        let mut bytes = vec![0; CompletionHeader::SIZE];
        // It fits: the vector was made for it.
        let _fits = header.write(&mut bytes);
        bytes.extend_from_slice(payload);
        let mut queued = self.front.queued.lock();
        let written = match *queued {
            0 => try_write(&self.front.socket, &bytes),
            _ => 0,
        };
        if written == bytes.len() {
            drop(queued);
            self.lane.leave(held);
            return;
        }
        *queued += 1;
        let rest = bytes.split_off(written);
        // If the writer has ended, the peer is gone and nobody waits for it.
        let _peer_gone = self.queue.send(Entry::Completion(held, rest));
    }

    /// Asks for a view.
    pub(super) fn ask(&self, question: &MapView, descriptor: OwnedFd) {
        let mut bytes = vec![0; MapView::SIZE];
        // It fits: the vector was made for it.
        let _fits = question.write(&mut bytes);
        let mut queued = self.front.queued.lock();
        *queued += 1;
        // As above; who asks learns it from the reader.
        let _peer_gone = self.queue.send(Entry::Question(bytes, descriptor));
    }
}

/// Writes what the socket takes now, and says how much that was. What keeps it from taking more is found by who
/// writes the rest.
fn try_write(socket: &UnixStream, bytes: &[u8]) -> usize {
    let (start, length) = (bytes.as_ptr().cast(), bytes.len());
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: valid bytes of that length, which are only read.
    let sent = unsafe { libc::send(socket.as_raw_fd(), start, length, flags) };
    usize::try_from(sent).unwrap_or(0)
}

fn write_all(mut socket: UnixStream, receiver: &Receiver<Entry>, lane: &Lane, front: &Front) {
    let mut written = Vec::new();
    let mut next = None;
    while let Some(entry) = next.take().or_else(|| receiver.recv().ok()) {
        let (held, mut bytes) = match entry {
            Entry::Completion(held, bytes) => (held, bytes),
            Entry::Question(question, descriptor) => {
                if write_with(&mut socket, &question, &descriptor).is_err() {
                    // The peer may be there all the same. The reader ends, and so who asks.
                    let _gone = socket.shutdown(Shutdown::Read);
                    return;
                }
                *front.queued.lock() -= 1;
                continue;
            }
        };
        written.push(held);
        while bytes.len() < BATCH {
            match receiver.try_recv() {
                Ok(Entry::Completion(held, more)) => {
                    bytes.extend_from_slice(&more);
                    written.push(held);
                }
                Ok(question) => {
                    next = Some(question);
                    break;
                }
                Err(_) => break,
            }
        }
        if socket.write_all(&bytes).is_err() {
            return;
        }
        *front.queued.lock() -= written.len();
        written.drain(..).for_each(|held| lane.leave(held));
    }
}

/// Room for the one descriptor beside the bytes, aligned as the host system wants it.
#[repr(C, align(8))]
struct Ancillary([u8; 32]);

/// Writes bytes, with a descriptor that comes with the first of them.
fn write_with(socket: &mut UnixStream, bytes: &[u8], descriptor: &OwnedFd) -> io::Result<()> {
    let number = descriptor.as_raw_fd();
    let size = size_of_val(&number) as u32;
    let mut ancillary = Ancillary([0; 32]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: plain numbers and pointers, for all of which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut ancillary).cast();
    // SAFETY: takes a number.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as usize;
    // SAFETY: a message with room for a header in what it says is ancillary.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    let filled = libc::cmsghdr {
        // SAFETY: takes a number.
        cmsg_len: unsafe { libc::CMSG_LEN(size) } as usize,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: the header lies in `ancillary`, which is aligned for it.
    unsafe { header.write(filled) };
    // SAFETY: a header with room for a number behind it.
    let place = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: the room behind the header; a number of four bytes needs no more than that.
    unsafe { place.cast::<libc::c_int>().write_unaligned(number) };
    let flags = libc::MSG_NOSIGNAL;
    let sent = loop {
        // SAFETY: the message and what it points to live across the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
        let error = io::Error::last_os_error();
        match usize::try_from(sent) {
            Ok(sent) => break sent,
            Err(_) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(error),
        }
    };
    socket.write_all(bytes.get(sent..).unwrap_or_default())
}
