// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosted edge's socket: made so that nothing on it waits for ever, and trusted only as far as
//! the user who runs the other end.

use crate::failure::{Failure, Fault};
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::{CompletionHeader, MapView};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, SocketAddrUnix, sockopt};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes to read at once.
const READ_AHEAD: usize = 256 * 1024;

/// Descriptors whose questions have not been read to their ends: bytes are read on when all that came before belongs to a
/// message that has begun, and bring one descriptor at most.
#[cfg(target_os = "linux")]
const MAX_UNASKED: usize = 2;

/// Connects to the hosted kernel at `path`. Waits at most `patience`, also where the listener's
/// queue is full because its process is stopped; so does every write from then on.
pub(super) fn connect(path: &Path, patience: Duration) -> Result<UnixStream, Failure> {
    let address = SocketAddrUnix::new(path).map_err(not_a_place)?;
    let socket = open().map_err(not_a_place)?;
    let limit = Some(patience.max(Duration::from_millis(1)));
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, limit).map_err(not_a_place)?;
    retry_on_intr(|| rustix::net::connect(&socket, &address)).map_err(not_a_place)?;
    let socket = UnixStream::from(socket);
    #[cfg(target_os = "linux")]
    trust_the_host(&socket)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn open() -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let family = AddressFamily::UNIX;
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

#[cfg(not(target_os = "linux"))]
fn open() -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// What keeps this path from being a hosted kernel's, unless nobody listens there.
fn not_a_place(error: Errno) -> Failure {
    let failure = Failure::from_io(&error.into());
    match failure.fault {
        Fault::NotThere | Fault::AccessDenied | Fault::NoAnswer => failure,
        _ => Failure {
            fault: Fault::NotAPlace,
            ..failure
        },
    }
}

/// The hosted kernel reads and writes this process's memory, as a kernel does. So its user must be
/// root or this process's own; and where the system allows tracing to ancestors only (the sysctl
/// kernel.yama.ptrace_scope), that one process is let in.
#[cfg(target_os = "linux")]
fn trust_the_host(socket: &UnixStream) -> Result<(), Failure> {
    use rustix::process::{PTracer, geteuid, set_ptracer};
    let host = sockopt::socket_peercred(socket).map_err(not_a_place)?;
    if !host.uid.is_root() && host.uid != geteuid() {
        return Err(Failure::new(Fault::ForeignHost(host.uid.as_raw())));
    }
    if !geteuid().is_root() {
        // It fails where there is no such restriction.
        let _unrestricted = set_ptracer(PTracer::ProcessID(host.pid));
    }
    Ok(())
}

/// Writes all bytes; without SIGPIPE, which a program that is not Rust's would die of.
pub(super) fn write_all(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    let flags = SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    let flags = SendFlags::empty();
    while !bytes.is_empty() {
        let written = retry_on_intr(|| rustix::net::send(socket, bytes, flags))?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// What a socket brings: bytes, and beside them descriptors, in the order in which they were sent.
#[derive(Debug)]
struct Source {
    socket: UnixStream,
    descriptors: VecDeque<OwnedFd>,
}

impl Read for Source {
    #[cfg(target_os = "linux")]
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut room);
        let mut parts = [io::IoSliceMut::new(bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.socket, &mut parts, &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                // More than a host that keeps to the protocol sends are closed here.
                let room = MAX_UNASKED.saturating_sub(self.descriptors.len());
                self.descriptors.extend(descriptors.take(room));
            }
        }
        Ok(received.bytes)
    }

    /// No hosted kernel runs elsewhere, so none sends descriptors.
    #[cfg(not(target_os = "linux"))]
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read(bytes)
    }
}

/// What the hosted kernel says.
pub(super) enum Incoming {
    /// Something is complete.
    Completion(CompletionHeader, Vec<u8>),
    /// It asks for a view of what the descriptor stands for.
    Question(MapView, OwnedFd),
}

/// Reads what comes in.
#[derive(Debug)]
pub(super) struct Reader(BufReader<Source>);

impl Reader {
    pub(super) fn new(socket: UnixStream) -> Self {
        let source = Source {
            socket,
            descriptors: VecDeque::new(),
        };
        Reader(BufReader::with_capacity(READ_AHEAD, source))
    }

    /// Reads one completion or question; `None` if nothing of it has come by the deadline. Once it has begun
    /// it is read to its end: by `end` if there is one, for then nobody could end the socket from
    /// outside.
    pub(super) fn next(
        &mut self,
        deadline: Option<Instant>,
        end: Option<Instant>,
    ) -> Result<Option<Incoming>, Failure> {
        if self.0.buffer().is_empty() {
            self.refuse_unasked()?;
            if !self.wait(deadline)? {
                return Ok(None);
            }
        }
        let mut bytes = [0; CompletionHeader::SIZE];
        self.read_all(&mut bytes, end)?;
        let odd = |_| Failure::new(Fault::Protocol("a question that is none"));
        if let Some(question) = MapView::find(&bytes).map_err(odd)? {
            let descriptor = self.0.get_mut().descriptors.pop_front();
            let nothing = Failure::new(Fault::Protocol("a view of nothing"));
            let descriptor = descriptor.ok_or(nothing)?;
            return Ok(Some(Incoming::Question(question, descriptor)));
        }
        let header = CompletionHeader::read(&bytes)
            .ok_or(Failure::new(Fault::Protocol("a short header")))?;
        let length = header
            .payload_len()
            .map_err(|_| Failure::new(Fault::Protocol("a completion that is none")))?;
        let mut payload = vec![0; length];
        self.read_all(&mut payload, end)?;
        Ok(Some(Incoming::Completion(header, payload)))
    }

    /// Between two messages, when no question can be on its way: descriptors that came beside something else are closed.
    fn refuse_unasked(&mut self) -> Result<(), Failure> {
        let descriptors = &mut self.0.get_mut().descriptors;
        if descriptors.is_empty() {
            return Ok(());
        }
        descriptors.clear();
        let unasked = Fault::Protocol("a descriptor without a question");
        Err(Failure::new(unasked))
    }

    /// Lets the next read wait until `deadline`; false if that has passed.
    fn limit(&self, deadline: Option<Instant>) -> Result<bool, Failure> {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let limited = self.0.get_ref().socket.set_read_timeout(left);
        limited.map(|()| true).map_err(|e| Failure::from_io(&e))
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool, Failure> {
        while self.limit(deadline)? {
            match self.0.fill_buf() {
                Ok([]) => return Err(Failure::new(Fault::Disconnected)),
                Ok(_) => return Ok(true),
                Err(e) if is_pause(&e) => {}
                Err(e) => return Err(Failure::from_io(&e)),
            }
        }
        Ok(false)
    }

    fn read_all(&mut self, mut bytes: &mut [u8], end: Option<Instant>) -> Result<(), Failure> {
        while !bytes.is_empty() {
            match self.0.read(bytes) {
                Ok(0) => return Err(Failure::new(Fault::Disconnected)),
                Ok(n) => bytes = bytes.get_mut(n..).unwrap_or_default(),
                Err(e) if is_pause(&e) => {
                    if !self.limit(end)? {
                        return Err(Failure::new(Fault::NoAnswer));
                    }
                }
                Err(e) => return Err(Failure::from_io(&e)),
            }
        }
        Ok(())
    }
}

fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
