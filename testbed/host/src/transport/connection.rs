// SPDX-License-Identifier: MIT OR Apache-2.0
//! One socket: reads requests and has them carried out.
//!
//! The end: the handle is closed (which completes every get), sends under way are waited for, and
//! only then the socket is shut down. A service may thus take its buffers back as soon as it sees
//! the end of the socket.

use super::completions::Completions;
use super::device::{Device, Got, Handle, SendBuffers};
use super::lane::{Held, Lane};
use super::listener::Description;
use super::peer::Peer;
use super::views::Views;
use crate::mm::MapViews;
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::connection::MAPS_VIEWS;
use fltport_abi::hosted::{Mapped, Request, RequestHeader, Send, Violation};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

const SUCCESS: i32 = 0;
const BUFFER_TOO_SMALL: i32 = 0x801C_0001_u32 as i32;
const INVALID_PARAMETER: i32 = 0xC000_000D_u32 as i32;
const INVALID_HANDLE: i32 = 0xC000_0008_u32 as i32;
const INSUFFICIENT_RESOURCES: i32 = 0xC000_009A_u32 as i32;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed it, or died, between two requests.
    Closed,
    /// The peer broke the protocol.
    Broken(Violation),
    /// The peer went in the middle of a request, or the socket failed.
    Failed(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("closed"),
            End::Broken(violation) => write!(f, "it broke the protocol: {violation}"),
            End::Failed(error) => write!(f, "the socket failed within a request: {error}"),
        }
    }
}

type Gets<H> = Arc<Mutex<HashMap<u64, Option<<H as Handle>::Get>>>>;

/// The reader's state.
pub(super) struct Connection<'s, D: Device> {
    device: &'s D,
    peer: Peer,
    description: &'s Description,
    lane: Arc<Lane>,
    completions: Completions,
    handle: Option<Arc<D::Handle>>,
    gets: Gets<D::Handle>,
    sends: Vec<JoinHandle<()>>,
    views: Arc<Views>,
}

/// Serves one socket until its end.
pub(super) fn serve<D: Device>(
    device: &D,
    description: &Description,
    socket: &UnixStream,
    peer: Peer,
    lane: Arc<Lane>,
) -> End {
    let started = socket
        .try_clone()
        .and_then(|writer| Completions::start(writer, lane.clone()));
    let (completions, writer) = match started {
        Ok(started) => started,
        Err(error) => return End::Failed(error),
    };
    let mut connection = Connection {
        device,
        peer,
        description,
        lane,
        views: Arc::new(Views::new(completions.clone())),
        completions,
        handle: None,
        gets: Arc::default(),
        sends: Vec::new(),
    };
    let end = connection.read(socket);
    drop(connection);
    writer.finish(socket);
    end
}

/// Reads exactly `bytes`; false if the socket ends before the first of them.
fn read_all(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) if at == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => at += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

impl<D: Device> Connection<'_, D> {
    fn read(&mut self, socket: &UnixStream) -> End {
        let mut reader = BufReader::with_capacity(16 * 1024, socket);
        let mut bytes = [0; RequestHeader::SIZE];
        let mut payload = Vec::new();
        while self.lane.enter() {
            match read_all(&mut reader, &mut bytes) {
                Ok(true) => {}
                Ok(false) => return End::Closed,
                Err(error) => return End::Failed(error),
            }
            let Some(header) = RequestHeader::read(&bytes) else {
                return End::Broken(Violation::Length);
            };
            let length = match header.payload_len() {
                Ok(length) => length,
                Err(violation) => return End::Broken(violation),
            };
            payload.resize(length, 0);
            match read_all(&mut reader, &mut payload) {
                Ok(complete) if complete || length == 0 => {}
                Ok(_) => return End::Failed(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return End::Failed(error),
            }
            let done = Request::parse(&header, &payload)
                .and_then(|request| self.carry_out(header.id, request));
            if let Err(violation) = done {
                return End::Broken(violation);
            }
        }
        End::Closed
    }

    fn carry_out(&mut self, id: u64, request: Request<'_>) -> Result<(), Violation> {
        match request {
            Request::Describe => {
                let bytes = self.description.bytes();
                self.completions.put(id, SUCCESS, 0, &bytes);
            }
            Request::Connect { name, context } => self.connect(id, name, context)?,
            Request::Cancel(get) => self.cancel(id, get),
            Request::Get(capacity) => return self.get(id, capacity),
            Request::Reply(bytes) => {
                let status = self
                    .handle
                    .as_ref()
                    .map_or(INVALID_HANDLE, |h| h.reply(bytes));
                self.completions.put(id, status, 0, &[]);
            }
            Request::Send(send) => self.send(id, send, None),
            Request::SendWithViews(send) => {
                let views = self.views.clone();
                self.send(id, send, Some(views));
            }
            Request::Mapped(mapped) => return self.mapped(mapped),
        }
        Ok(())
    }

    fn connect(&mut self, id: u64, name: &[u8], context: &[u8]) -> Result<(), Violation> {
        if self.handle.is_some() {
            return Err(Violation::Operation);
        }
        let unit = |pair: &[u8]| pair.try_into().map_or(0, u16::from_le_bytes);
        let name: Vec<u16> = name.chunks_exact(2).map(unit).collect();
        let (status, can) = match self.device.connect(&self.peer, &name, context) {
            Ok(handle) => {
                self.handle = Some(handle);
                (SUCCESS, MAPS_VIEWS)
            }
            Err(status) => (status, 0),
        };
        self.completions.put(id, status, can, &[]);
        Ok(())
    }

    /// The answer to a question for a view, which has no completion to give its place back.
    fn mapped(&self, mapped: Mapped) -> Result<(), Violation> {
        self.lane.leave(Held::Place);
        self.views.answered(mapped)
    }

    fn get(&mut self, id: u64, capacity: usize) -> Result<(), Violation> {
        let Some(handle) = &self.handle else {
            self.completions.put(id, INVALID_HANDLE, 0, &[]);
            return Ok(());
        };
        if self.gets.lock().contains_key(&id) {
            return Err(Violation::Value);
        }
        if !self.lane.begin_get() {
            self.completions.put(id, INSUFFICIENT_RESOURCES, 0, &[]);
            return Ok(());
        }
        self.gets.lock().insert(id, None);
        let (gets, completions) = (self.gets.clone(), self.completions.clone());
        let get = handle.get(
            capacity,
            Box::new(move |got| {
                gets.lock().remove(&id);
                let (status, information, payload) = match got {
                    Got::Message(bytes) => (SUCCESS, bytes.len(), bytes),
                    Got::TooSmall(needed) => (BUFFER_TOO_SMALL, needed as usize, Vec::new()),
                    Got::Failed(status) => (status, 0, Vec::new()),
                };
                let information = u32::try_from(information).unwrap_or(u32::MAX);
                completions.put_held(Held::Get, id, status, information, &payload);
            }),
        );
        // If it is not there any more, the get has completed already.
        if let Some(waiting) = self.gets.lock().get_mut(&id) {
            *waiting = Some(get);
        }
        Ok(())
    }

    fn cancel(&mut self, id: u64, get: Option<u64>) {
        let status = match (&self.handle, get) {
            (None, _) => INVALID_HANDLE,
            (Some(handle), None) => {
                handle.cancel(None);
                SUCCESS
            }
            (Some(handle), Some(get)) => {
                let waiting = self.gets.lock().get(&get).copied().flatten();
                if waiting.is_some() {
                    handle.cancel(waiting);
                }
                waiting.map_or(INVALID_PARAMETER, |_| SUCCESS)
            }
        };
        self.completions.put(id, status, 0, &[]);
    }

    fn send(&mut self, id: u64, send: Send, views: Option<Arc<dyn MapViews>>) {
        self.sends.retain(|thread| !thread.is_finished());
        let Some(handle) = self.handle.clone() else {
            self.completions.put(id, INVALID_HANDLE, 0, &[]);
            return;
        };
        let buffers = SendBuffers {
            input: (send.input, send.input_length),
            output: (send.output, send.output_length),
        };
        let completions = self.completions.clone();
        let spawned = std::thread::Builder::new()
            .name("transport-send".into())
            .spawn(move || {
                let (status, returned) = handle.send(buffers, views);
                completions.put(id, status, returned.min(buffers.output.1), &[]);
            });
        match spawned {
            Ok(thread) => self.sends.push(thread),
            Err(_) => self.completions.put(id, INSUFFICIENT_RESOURCES, 0, &[]),
        }
    }
}

impl<D: Device> Drop for Connection<'_, D> {
    fn drop(&mut self) {
        self.views.close();
        if let Some(handle) = self.handle.take() {
            handle.close();
        }
        for thread in self.sends.drain(..) {
            // One that panicked has told its reason to standard error; its request stays without a
            // completion.
            let _panicked = thread.join();
        }
    }
}
