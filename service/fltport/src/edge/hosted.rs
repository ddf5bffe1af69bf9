// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosted edge: the Filter Manager's message device over a Unix socket ([`fltport_abi::hosted`]
//! is the protocol).
//!
//! No `unsafe` here (but in `view`, which maps memory), although [`Port::send`] passes addresses: it is the hosted kernel that reads
//! and writes this process's memory, as NT would. The buffers belong to the table of pending calls
//! until their completion has come, so that a caller that gives up does not take them away from
//! under the kernel's hands; if this side ends the socket first, they are leaked for the same
//! reason. That the hosted kernel has ended the socket is known from reading only: a write may fail
//! while it is still at work.

use super::Got;
use super::socket::{self, Incoming, Reader};
use crate::failure::{Code, Failure, Fault, nt};
use crate::lock::lock;
use crate::options::Options;
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::connection::MAPS_VIEWS;
use fltport_abi::hosted::{self, CompletionHeader, MapView, RequestHeader, op};
use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

mod signal;
#[allow(unsafe_code)]
mod view;

pub(crate) use signal::Signal;
pub(crate) use view::View;

/// Replies and sends of one socket that wait for their completion. Fewer than the hosted kernel has
/// places for, so that it always reads on and gets are never held up behind them.
const MAX_CALLS: usize = hosted::MAX_OUTSTANDING / 2;

/// Who ended the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The hosted kernel, after its last access to this process's memory.
    Peer,
    /// This side, or nobody knows.
    Us,
}

/// One socket: one handle on the message device.
#[derive(Debug)]
pub(crate) struct Port {
    socket: UnixStream,
    /// Held while a request is written.
    writing: Mutex<()>,
    reader: Mutex<Reader>,
    table: Mutex<Table>,
    /// A call is complete, or the socket has ended.
    changed: Condvar,
    patience: Duration,
    /// What the hosted kernel can do, as it has said at the connect.
    can: u32,
    views: view::Views,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    gets: HashMap<u64, u32>,
    calls: HashMap<u64, Call>,
    /// Set once: the socket has ended, and why.
    ended: Option<Failure>,
}

#[derive(Debug)]
struct Call {
    done: SyncSender<(CompletionHeader, Buffers)>,
    buffers: Buffers,
    is_reply: bool,
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
        let mut port = Port::open(&options.socket_path(), options.patience)?;
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
        port.can = port.exchange(op::CONNECT, &payload)?.0.information;
        Ok(port)
    }

    fn open(path: &Path, patience: Duration) -> Result<Port, Failure> {
        let socket = socket::connect(path, patience)?;
        let reader = socket.try_clone().map_err(|e| Failure::from_io(&e))?;
        Ok(Port {
            writing: Mutex::default(),
            reader: Mutex::new(Reader::new(reader)),
            table: Mutex::default(),
            changed: Condvar::new(),
            patience,
            can: 0,
            views: view::Views::default(),
            socket,
        })
    }

    /// One request and its completion, while nobody else uses the socket yet. A hosted kernel that
    /// does not serve this socket may have ended it already, but has said why.
    fn exchange(&self, op: u32, payload: &[u8]) -> Result<(CompletionHeader, Vec<u8>), Failure> {
        let id = self.begin(|_, _| {})?;
        let written = self.write_request(op, id, payload);
        let deadline = Some(Instant::now() + self.patience);
        match lock(&self.reader).next(deadline, deadline) {
            Ok(Some(Incoming::Completion(header, payload))) if header.id == id => {
                check(header.status).map(|()| (header, payload))
            }
            Ok(Some(Incoming::Completion(header, _)))
                if header.id == hosted::NO_REQUEST && header.status != 0 =>
            {
                Err(Failure::from_status(header.status))
            }
            Ok(Some(_)) => Err(Failure::new(Fault::Protocol("a completion of nothing"))),
            Ok(None) => Err(Failure::new(Fault::NoAnswer)),
            Err(failure) => Err(written.err().unwrap_or(failure)),
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

    fn write_request(&self, op: u32, id: u64, payload: &[u8]) -> Result<(), Failure> {
        let mut bytes = encode(&RequestHeader::new(op, id, payload.len()));
        bytes.extend_from_slice(payload);
        let _one_at_a_time = lock(&self.writing);
        socket::write_all(&self.socket, &bytes).map_err(|e| Failure::from_io(&e))
    }

    fn write(&self, op: u32, id: u64, payload: &[u8]) -> Result<(), Failure> {
        let written = self.write_request(op, id, payload);
        // A request may have been written in part; nothing can follow it. That the peer reads no
        // more does not mean that it has ended the socket.
        written.map_err(|failure| self.end(failure, By::Us))
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
            let (header, payload) = match reader.next(deadline, None) {
                Ok(Some(Incoming::Completion(header, payload))) => (header, payload),
                Ok(Some(Incoming::Question(question, descriptor))) => {
                    self.map_view(&question, &descriptor)?;
                    continue;
                }
                Ok(None) => return Ok(None),
                Err(failure) if failure.fault == Fault::Disconnected => {
                    return Err(self.end(failure, By::Peer));
                }
                Err(failure) => return Err(self.end(failure, By::Us)),
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
            let nothing = Failure::new(Fault::Protocol("a completion of nothing"));
            return Err(self.end(nothing, By::Us));
        };
        // A caller that gave up has dropped its receiver; then the buffers end here.
        let _given_up = call.done.send((header, call.buffers));
        self.changed.notify_one();
        Ok(None)
    }

    fn call(&self, op: u32, payload: &[u8], buffers: Buffers) -> Result<(u32, Buffers), Failure> {
        let deadline = Instant::now() + self.patience;
        let (done, result) = sync_channel(1);
        let call = Call {
            done,
            buffers,
            is_reply: op == op::REPLY,
        };
        let id = self.begin_call(call, deadline)?;
        self.write(op, id, payload)?;
        match result.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((header, buffers)) => check(header.status).map(|()| (header.information, buffers)),
            Err(RecvTimeoutError::Timeout) => Err(Failure::new(Fault::NoAnswer)),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// Waits until there are not too many calls, and enters this one.
    fn begin_call(&self, call: Call, deadline: Instant) -> Result<u64, Failure> {
        let mut table = lock(&self.table);
        loop {
            if let Some(ended) = table.ended {
                return Err(ended);
            }
            if table.calls.len() < MAX_CALLS {
                table.last_id += 1;
                let id = table.last_id;
                table.calls.insert(id, call);
                return Ok(id);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(Fault::NoAnswer));
            }
            let waited = self.changed.wait_timeout(table, left);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// `FilterReplyMessage`.
    pub(crate) fn reply(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.call(op::REPLY, bytes, Buffers::default()).map(drop)
    }

    /// Answers the hosted kernel's question for a view. Who waits does so, because the answer cannot
    /// wait for the command that it belongs to.
    fn map_view(&self, question: &MapView, descriptor: &OwnedFd) -> Result<(), Failure> {
        let mapped = self.views.map(question, descriptor);
        let id = self.begin(|_, _| {})?;
        self.write(op::MAPPED, id, &encode(&mapped))
    }

    /// Whether the hosted kernel can have views mapped.
    pub(crate) fn maps_views(&self) -> bool {
        self.can & MAPS_VIEWS != 0
    }

    /// The view that a driver says it has mapped, for whoever asks first.
    pub(crate) fn take_view(&self, address: u64, length: usize) -> Option<View> {
        self.views.take(address, length)
    }

    /// As [`Port::send`], and the driver may map views meanwhile, if the hosted kernel can.
    pub(crate) fn send_with_views(
        &self,
        input: &[u8],
        capacity: usize,
    ) -> Result<Vec<u8>, Failure> {
        if self.maps_views() {
            self.send_as(op::SEND_WITH_VIEWS, input, capacity)
        } else {
            self.send(input, capacity)
        }
    }

    /// `FilterSendMessage`; the answer, at most `capacity` bytes.
    pub(crate) fn send(&self, input: &[u8], capacity: usize) -> Result<Vec<u8>, Failure> {
        self.send_as(op::SEND, input, capacity)
    }

    fn send_as(&self, op: u32, input: &[u8], capacity: usize) -> Result<Vec<u8>, Failure> {
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
        let (returned, buffers) = self.call(op, &encode(&send), buffers)?;
        let mut output = buffers.output;
        output.truncate(returned as usize);
        Ok(output)
    }

    /// The port is disconnected: waits for the replies that the hosted kernel is at work on. It may
    /// have taken them, and whoever sent them is to know. A command may take as long as its handler
    /// does, and is not waited for.
    pub(crate) fn settle(&self) {
        let deadline = Instant::now() + self.patience;
        let is_open = || lock(&self.table).calls.values().any(|call| call.is_reply);
        while is_open() {
            let left = deadline.saturating_duration_since(Instant::now());
            // Gets that complete now bring nothing any more.
            if left.is_zero() || self.wait(Some(left)).is_err() {
                return;
            }
        }
    }

    /// Ends the socket: `wait` and everybody blocked returns.
    pub(crate) fn shutdown(&self) {
        self.end(Failure::new(Fault::Cancelled), By::Us);
    }

    fn ended(&self) -> Failure {
        let ended = lock(&self.table).ended;
        ended.unwrap_or_else(|| Failure::new(Fault::Disconnected))
    }

    /// Notes the end, the first reason stays, and wakes everybody.
    fn end(&self, failure: Failure, by: By) -> Failure {
        let mut table = lock(&self.table);
        let reason = *table.ended.get_or_insert(failure);
        for (_, call) in table.calls.drain() {
            if by == By::Us {
                // The hosted kernel may still be at work on them.
                std::mem::forget(call.buffers);
            }
        }
        drop(table);
        self.changed.notify_all();
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
    let (_, payload) = asked.map_err(|f| crate::Error::new(f, &place, patience))?;
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

#[cfg(test)]
#[allow(unsafe_code)]
mod tests;
