// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosted edge: the Filter Manager's message device over a Unix socket ([`fltport_abi::hosted`]
//! is the protocol).
//!
//! No `unsafe` here, although [`Port::send`] passes addresses: it is the hosted kernel that reads
//! and writes this process's memory, as NT would. The buffers belong to the table of pending calls
//! until their completion has come, so that a caller that gives up does not take them away from
//! under the kernel's hands; if this side ends the socket first, they are leaked for the same
//! reason.

use super::Got;
use crate::failure::{Code, Failure, Fault, nt};
use crate::lock::lock;
use crate::options::Options;
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::{self, CompletionHeader, RequestHeader, op};
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// One socket: one handle on the message device.
#[derive(Debug)]
pub(crate) struct Port {
    socket: UnixStream,
    writer: Mutex<UnixStream>,
    reader: Mutex<BufReader<UnixStream>>,
    table: Mutex<Table>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    gets: HashMap<u64, u32>,
    calls: HashMap<u64, Call>,
    /// Set once: the socket has ended, why, and whether the peer ended it.
    ended: Option<Failure>,
}

#[derive(Debug)]
struct Call {
    done: SyncSender<(CompletionHeader, Buffers)>,
    buffers: Buffers,
}

/// What the hosted kernel may touch while a send is pending.
#[derive(Debug, Default)]
struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Port {
    /// Connects to the socket, and through it to the port, with `context`.
    pub(crate) fn connect(options: &Options, context: &[u8]) -> Result<Port, Failure> {
        let port = Port::open(&options.socket_path(), options.patience)?;
        let name: Vec<u8> = options
            .port_name
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let header = hosted::Connect {
            name: length(name.len()),
            context: length(context.len()),
        };
        let payload = [&encode(&header), name.as_slice(), context].concat();
        if name.len() > hosted::MAX_NAME || context.len() > hosted::MAX_CONTEXT {
            return Err(Failure::new(Fault::Protocol("the port's name is too long")));
        }
        port.exchange(op::CONNECT, &payload)?;
        Ok(port)
    }

    fn open(path: &Path, patience: Duration) -> Result<Port, Failure> {
        let opened = || -> io::Result<Port> {
            let socket = UnixStream::connect(path)?;
            socket.set_write_timeout(Some(patience))?;
            Ok(Port {
                writer: Mutex::new(socket.try_clone()?),
                reader: Mutex::new(BufReader::with_capacity(256 * 1024, socket.try_clone()?)),
                table: Mutex::default(),
                patience,
                socket,
            })
        };
        opened().map_err(|e| Failure::from_io(&e))
    }

    /// One request and its completion, while nobody else uses the socket yet.
    fn exchange(&self, op: u32, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let id = self.begin(|_, _| {})?;
        self.write(op, id, payload)?;
        let deadline = Instant::now() + self.patience;
        let mut reader = lock(&self.reader);
        match read_completion(&self.socket, &mut reader, Some(deadline)) {
            Ok(Some((header, payload))) if header.id == id => {
                check(header.status).map(|()| payload)
            }
            Ok(Some(_)) => Err(Failure::new(Fault::Protocol("a completion of nothing"))),
            Ok(None) => Err(Failure::new(Fault::NoAnswer)),
            Err(failure) => Err(failure),
        }
    }

    /// Gives the next request its id and lets `enter` put it into the table, unless the socket has
    /// ended.
    fn begin(&self, enter: impl FnOnce(&mut Table, u64)) -> Result<u64, Failure> {
        let mut table = lock(&self.table);
        if let Some(ended) = table.ended {
            return Err(ended);
        }
        table.last_id += 1;
        let id = table.last_id;
        enter(&mut table, id);
        Ok(id)
    }

    fn write(&self, op: u32, id: u64, payload: &[u8]) -> Result<(), Failure> {
        let mut bytes = encode(&RequestHeader::new(op, id, payload.len()));
        bytes.extend_from_slice(payload);
        let written = lock(&self.writer).write_all(&bytes);
        // A request may have been written in part; nothing can follow it.
        written.map_err(|e| self.end(Failure::from_io(&e)))
    }

    /// Has a get wait at the port.
    pub(crate) fn post(&self, slot: u32, capacity: usize) -> Result<(), Failure> {
        let id = self.begin(|table, id| {
            table.gets.insert(id, slot);
        })?;
        let get = hosted::Get {
            capacity: length(capacity.min(hosted::MAX_GET)),
            reserved: 0,
        };
        self.write(op::GET, id, &encode(&get))
    }

    /// The next get that completed; `None` if there was none within `limit`.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Option<Got>, Failure> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut reader = lock(&self.reader);
        loop {
            let (header, payload) = match read_completion(&self.socket, &mut reader, deadline) {
                Ok(Some(completion)) => completion,
                Ok(None) => return Ok(None),
                Err(failure) => return Err(self.end(failure)),
            };
            if let Some(got) = self.complete(header, payload)? {
                return Ok(Some(got));
            }
        }
    }

    fn complete(&self, header: CompletionHeader, payload: Vec<u8>) -> Result<Option<Got>, Failure> {
        let mut table = lock(&self.table);
        if let Some(slot) = table.gets.remove(&header.id) {
            let outcome = match header.status {
                0 => Ok(payload),
                nt::FLT_BUFFER_TOO_SMALL => Err(Failure {
                    fault: Fault::TooSmall(header.information as usize),
                    code: Code::Status(header.status),
                }),
                code => Err(Failure::from_status(code)),
            };
            return Ok(Some(Got { slot, outcome }));
        }
        let Some(call) = table.calls.remove(&header.id) else {
            drop(table);
            return Err(self.end(Failure::new(Fault::Protocol("a completion of nothing"))));
        };
        // A caller that gave up has dropped its receiver; then the buffers end here.
        let _given_up = call.done.send((header, call.buffers));
        Ok(None)
    }

    fn call(&self, op: u32, payload: &[u8], buffers: Buffers) -> Result<(u32, Buffers), Failure> {
        let (done, result) = sync_channel(1);
        let id = self.begin(|table, id| {
            table.calls.insert(id, Call { done, buffers });
        })?;
        self.write(op, id, payload)?;
        match result.recv_timeout(self.patience) {
            Ok((header, buffers)) => check(header.status).map(|()| (header.information, buffers)),
            Err(RecvTimeoutError::Timeout) => Err(Failure::new(Fault::NoAnswer)),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// `FilterReplyMessage`.
    pub(crate) fn reply(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.call(op::REPLY, bytes, Buffers::default()).map(drop)
    }

    /// `FilterSendMessage`; the answer, at most `capacity` bytes.
    pub(crate) fn send(&self, input: &[u8], capacity: usize) -> Result<Vec<u8>, Failure> {
        let mut buffers = Buffers {
            input: input.to_vec(),
            output: vec![0; capacity],
        };
        let send = hosted::Send {
            input: buffers.input.as_ptr().expose_provenance() as u64,
            output: buffers.output.as_mut_ptr().expose_provenance() as u64,
            input_length: length(input.len()),
            output_length: length(capacity),
        };
        let (returned, buffers) = self.call(op::SEND, &encode(&send), buffers)?;
        let mut output = buffers.output;
        output.truncate(returned as usize);
        Ok(output)
    }

    /// Ends the socket: `wait` and everybody blocked returns.
    pub(crate) fn shutdown(&self) {
        self.end(Failure::new(Fault::Cancelled));
    }

    fn ended(&self) -> Failure {
        let ended = lock(&self.table).ended;
        ended.unwrap_or_else(|| Failure::new(Fault::Disconnected))
    }

    /// Notes the end, the first reason stays, and wakes everybody.
    fn end(&self, failure: Failure) -> Failure {
        let mut table = lock(&self.table);
        let by_peer = failure.fault == Fault::Disconnected;
        let reason = *table.ended.get_or_insert(failure);
        for (_, call) in table.calls.drain() {
            if !by_peer {
                // The hosted kernel may still be at work on them.
                std::mem::forget(call.buffers);
            }
        }
        drop(table);
        // Fails only if the peer has ended the socket already.
        let _ended = self.socket.shutdown(Shutdown::Both);
        reason
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn check(status: i32) -> Result<(), Failure> {
    if status == 0 {
        Ok(())
    } else {
        Err(Failure::from_status(status))
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn encode<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    // It fits: the vector was made for it.
    let _fits = value.write(&mut bytes);
    bytes
}

/// Reads one completion; `None` if nothing of it has come by the deadline. Once it has begun it is
/// read to its end.
fn read_completion(
    socket: &UnixStream,
    reader: &mut BufReader<UnixStream>,
    deadline: Option<Instant>,
) -> Result<Option<(CompletionHeader, Vec<u8>)>, Failure> {
    if reader.buffer().is_empty() && !wait_for_bytes(socket, reader, deadline)? {
        return Ok(None);
    }
    let mut bytes = [0; CompletionHeader::SIZE];
    read_all(reader, &mut bytes)?;
    let header =
        CompletionHeader::read(&bytes).ok_or(Failure::new(Fault::Protocol("a short header")))?;
    let length = header
        .payload_len()
        .map_err(|_| Failure::new(Fault::Protocol("a completion that is none")))?;
    let mut payload = vec![0; length];
    read_all(reader, &mut payload)?;
    Ok(Some((header, payload)))
}

fn wait_for_bytes(
    socket: &UnixStream,
    reader: &mut BufReader<UnixStream>,
    deadline: Option<Instant>,
) -> Result<bool, Failure> {
    use std::io::BufRead;
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        socket
            .set_read_timeout(left)
            .map_err(|e| Failure::from_io(&e))?;
        match reader.fill_buf() {
            Ok([]) => return Err(Failure::new(Fault::Disconnected)),
            Ok(_) => return Ok(true),
            Err(e) if is_pause(&e) => {}
            Err(e) => return Err(Failure::from_io(&e)),
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

fn read_all(reader: &mut BufReader<UnixStream>, mut bytes: &mut [u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match reader.read(bytes) {
            Ok(0) => return Err(Failure::new(Fault::Disconnected)),
            Ok(n) => bytes = bytes.get_mut(n..).unwrap_or_default(),
            Err(e) if is_pause(&e) => {}
            Err(e) => return Err(Failure::from_io(&e)),
        }
    }
    Ok(())
}

/// What a hosted kernel can do, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDescription {
    /// Process creations are held until the driver has answered, so that a request can deny one.
    pub holds_process_creation: bool,
    /// No process start or end is overlooked.
    pub sees_every_process: bool,
    /// Its process id.
    pub pid: u32,
    /// One line per thing that is missing: what, and the cure.
    pub missing: Vec<String>,
}

/// Asks the hosted kernel at `socket` what it can do, without connecting to a port. Waits at most
/// `patience`.
///
/// # Errors
/// As [`Client::connect`](crate::Client::connect), as far as the socket is concerned.
pub fn describe_host(socket: &Path, patience: Duration) -> Result<HostDescription, crate::Error> {
    let place = socket.display().to_string();
    let asked = Port::open(socket, patience).and_then(|port| port.exchange(op::DESCRIBE, &[]));
    let payload = asked.map_err(|f| crate::Error::new(f, &place, patience))?;
    let header = hosted::Description::read(&payload)
        .ok_or(crate::Error::Protocol("a description that is too short"))?;
    let text = payload.get(hosted::Description::SIZE..).unwrap_or_default();
    let has = |bit| header.capabilities & bit != 0;
    Ok(HostDescription {
        holds_process_creation: has(hosted::capability::HOLDS_PROCESS_CREATION),
        sees_every_process: has(hosted::capability::SEES_EVERY_PROCESS),
        pid: header.pid,
        missing: String::from_utf8_lossy(text)
            .lines()
            .map(str::to_owned)
            .collect(),
    })
}
