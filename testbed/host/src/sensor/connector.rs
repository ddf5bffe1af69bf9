// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process connector: a netlink socket on which the kernel tells forks, execs and exits.
//!
//! A datagram is a netlink header (16 bytes), a connector header (20) and a process event: what
//! (4), CPU (4), time stamp in monotonic nanoseconds (8), then fields by kind. The kernel answers a
//! subscription with an event of kind "none" that carries an error number; outside the initial pid
//! and user namespaces it says nothing at all, which is why the answer is waited for with a limit.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::ffi::{self, Interest};

const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
const EVENT: usize = NETLINK_HEADER + CONNECTOR_HEADER;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// What the kernel told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A process (`child == child_tgid`) or a thread was created.
    Fork {
        parent: u32,
        parent_tgid: u32,
        child: u32,
        child_tgid: u32,
    },
    /// A process has a new image.
    Exec { pid: u32 },
    /// A thread has ended; `status` is in the form of wait(2).
    Exit { tid: u32, pid: u32, status: u32 },
    /// The answer to the subscription whose number is `subscription`.
    Answer { subscription: u32, error: u32 },
}

/// An event and when it happened, in monotonic nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) time: u64,
}

/// What one attempt to receive brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// An event.
    Event(Event),
    /// A datagram that is of no interest.
    Other,
    /// Nothing waits.
    Empty,
    /// The kernel has dropped events.
    Overrun,
}

/// Why there is no process connector.
#[derive(Debug)]
pub(super) enum ConnectorError {
    /// A system call failed, or the kernel answered the subscription with this error.
    Refused(io::Error),
    /// The kernel did not answer.
    Silent,
}

/// A subscription to the process events of the whole machine.
#[derive(Debug)]
pub(super) struct Connector {
    socket: File,
    /// Events that came while the answer to the subscription was awaited.
    early: std::collections::VecDeque<Event>,
    /// And events were dropped meanwhile, which is still to be told.
    lost_early: bool,
    /// How often the subscription was asked for: older kernels count, and want it taken back as
    /// often.
    asked: u32,
}

impl Connector {
    /// Subscribes, with a receive buffer of `buffer_bytes`.
    pub(super) fn subscribe(buffer_bytes: usize) -> Result<Connector, ConnectorError> {
        let socket = ffi::connector_socket().map_err(ConnectorError::Refused)?;
        ffi::set_receive_buffer(socket.as_fd(), buffer_bytes).map_err(ConnectorError::Refused)?;
        let mut connector = Connector {
            socket: socket.into(),
            early: Default::default(),
            lost_early: false,
            asked: 0,
        };
        // The answer goes to every listener of the machine, so the number must be ours alone.
        let number = std::process::id() ^ (ffi::monotonic_nanoseconds() as u32);
        connector.listen(number)?;
        connector.await_answer(number)?;
        Ok(connector)
    }

    fn listen(&mut self, number: u32) -> Result<(), ConnectorError> {
        self.asked += 1;
        self.send(LISTEN, number).map_err(ConnectorError::Refused)
    }

    /// The next event, without waiting.
    pub(super) fn receive(&mut self) -> io::Result<Received> {
        match self.early.pop_front() {
            Some(event) => Ok(Received::Event(event)),
            None if std::mem::take(&mut self.lost_early) => Ok(Received::Overrun),
            None => self.receive_from_kernel(),
        }
    }

    fn receive_from_kernel(&self) -> io::Result<Received> {
        let mut buffer = [0u8; 1024];
        match ffi::receive(self.socket.as_fd(), &mut buffer) {
            // Any program may send to our netlink address; only the kernel's word counts.
            Ok((_, sender)) if sender != 0 => Ok(Received::Other),
            Ok((length, _)) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                Ok(parse(datagram).map_or(Received::Other, Received::Event))
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(Received::Empty),
                Some(libc::ENOBUFS) => Ok(Received::Overrun),
                Some(libc::EINTR) => Ok(Received::Other),
                _ => Err(error),
            },
        }
    }

    fn send(&self, operation: u32, number: u32) -> io::Result<()> {
        (&self.socket).write_all(&request(operation, number))
    }

    /// Waits for the answer to the subscription `number`. It comes through the buffer of the events,
    /// and goes the way of those that find no room in it: then the question is put again.
    fn await_answer(&mut self, number: u32) -> Result<(), ConnectorError> {
        let limit = Instant::now() + ANSWER_LIMIT;
        let wanted = number.wrapping_add(1);
        let mut overrun = false;
        loop {
            match self
                .receive_from_kernel()
                .map_err(ConnectorError::Refused)?
            {
                Received::Event(Event {
                    kind:
                        Kind::Answer {
                            subscription,
                            error,
                        },
                    ..
                }) if subscription == wanted => {
                    return match error {
                        0 => Ok(()),
                        code => Err(ConnectorError::Refused(io::Error::from_raw_os_error(
                            code.cast_signed(),
                        ))),
                    };
                }
                Received::Event(event) => self.early.push_back(event),
                Received::Other => {}
                Received::Overrun => (overrun, self.lost_early) = (true, true),
                Received::Empty => {
                    let left = limit.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(ConnectorError::Silent);
                    }
                    // The kernel drops everything from an overrun on until the buffer is empty.
                    if std::mem::take(&mut overrun) {
                        self.listen(number)?;
                        continue;
                    }
                    ffi::wait_readable([Interest::Read(self.socket.as_fd())], Some(left))
                        .map_err(ConnectorError::Refused)?;
                }
            }
        }
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Older kernels count listeners and do not notice that a socket was closed. There is nobody
        // to tell a failure to, and the socket goes in any case.
        for _ in 0..self.asked {
            let _ = self.send(IGNORE, 0);
        }
    }
}

fn request(operation: u32, number: u32) -> Vec<u8> {
    let payload = 4u16;
    let length = (EVENT + usize::from(payload)) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&(libc::NLMSG_DONE as u16).to_ne_bytes());
    bytes.extend_from_slice(&0u16.to_ne_bytes());
    // Netlink sequence and port, then connector index, value, sequence, answer number.
    for word in [0, 0, ffi::CN_IDX_PROC, 1, number, number] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(&payload.to_ne_bytes());
    bytes.extend_from_slice(&0u16.to_ne_bytes());
    bytes.extend_from_slice(&operation.to_ne_bytes());
    bytes
}

/// Reads one datagram; `None` if it is cut short or of a kind the sensor does not use.
fn parse(datagram: &[u8]) -> Option<Event> {
    let word = |at: usize| {
        datagram
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_ne_bytes)
    };
    if word(NETLINK_HEADER)? != ffi::CN_IDX_PROC {
        return None;
    }
    let field = |index: usize| word(EVENT + 16 + 4 * index);
    let time = u64::from_ne_bytes(datagram.get(EVENT + 8..EVENT + 16)?.try_into().ok()?);
    let kind = match word(EVENT)? {
        0 => Kind::Answer {
            subscription: word(NETLINK_HEADER + 12)?,
            error: field(0)?,
        },
        1 => Kind::Fork {
            parent: field(0)?,
            parent_tgid: field(1)?,
            child: field(2)?,
            child_tgid: field(3)?,
        },
        2 => Kind::Exec { pid: field(1)? },
        0x8000_0000 => Kind::Exit {
            tid: field(0)?,
            pid: field(1)?,
            status: field(2)?,
        },
        _ => return None,
    };
    Some(Event { kind, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Connector {
        /// One to which nobody tells anything any more, but that has received this while it subscribed,
        /// and lost more.
        pub(in super::super) fn that_has_lost<const N: usize>(early: [Event; N]) -> Connector {
            let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
            Connector {
                socket: File::from(std::os::fd::OwnedFd::from(socket)),
                early: early.into(),
                lost_early: true,
                asked: 0,
            }
        }
    }

    fn datagram(what: u32, fields: [u32; 4]) -> Vec<u8> {
        let mut bytes = request(0, 7);
        bytes.truncate(EVENT);
        bytes.extend_from_slice(&what.to_ne_bytes());
        bytes.extend_from_slice(&3u32.to_ne_bytes());
        bytes.extend_from_slice(&99u64.to_ne_bytes());
        for field in fields {
            bytes.extend_from_slice(&field.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn what_was_dropped_while_the_answer_was_awaited_is_told_behind_what_was_not() {
        let event = parse(&datagram(1, [10, 11, 12, 13])).unwrap();
        let mut connector = Connector::that_has_lost([event]);
        let mut received = || connector.receive().unwrap();
        assert_eq!(received(), Received::Event(event));
        assert_eq!(received(), Received::Overrun);
        assert_eq!(received(), Received::Empty);
    }

    #[test]
    fn a_request_has_the_layout_the_kernel_reads() {
        let bytes = request(LISTEN, 0x0102_0304);
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[0..4], 40u32.to_ne_bytes());
        assert_eq!(
            bytes[16..24],
            [1u32.to_ne_bytes(), 1u32.to_ne_bytes()].concat()
        );
        assert_eq!(bytes[24..28], 0x0102_0304u32.to_ne_bytes());
        assert_eq!(bytes[32..34], 4u16.to_ne_bytes());
        assert_eq!(bytes[36..40], 1u32.to_ne_bytes());
    }

    #[test]
    fn events_are_read_field_by_field() {
        let fork = parse(&datagram(1, [10, 11, 12, 13])).unwrap();
        assert_eq!(fork.time, 99);
        let wanted = Kind::Fork {
            parent: 10,
            parent_tgid: 11,
            child: 12,
            child_tgid: 13,
        };
        assert_eq!(fork.kind, wanted);
        assert_eq!(
            parse(&datagram(2, [5, 6, 0, 0])).unwrap().kind,
            Kind::Exec { pid: 6 }
        );
        let exit = parse(&datagram(0x8000_0000, [5, 6, 0x300, 17])).unwrap();
        assert_eq!(
            exit.kind,
            Kind::Exit {
                tid: 5,
                pid: 6,
                status: 0x300
            }
        );
        let answer = parse(&datagram(0, [1, 0, 0, 0])).unwrap();
        assert_eq!(
            answer.kind,
            Kind::Answer {
                subscription: 7,
                error: 1
            }
        );
    }

    #[test]
    fn what_is_cut_short_or_foreign_is_not_an_event() {
        let whole = datagram(1, [1, 2, 3, 4]);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(&datagram(0x200, [1, 2, 3, 4])), None);
        let mut foreign = whole;
        foreign[16] = 9;
        assert_eq!(parse(&foreign), None);
    }
}
