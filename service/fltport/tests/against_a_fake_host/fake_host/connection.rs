// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection as the fake driver sees it, and what a test has it do.

use super::records::bytes;
use super::{DISCONNECTED, Driver};
use crate::fake_rings::FakeRings;
use fltport_abi::command::{FilteredSubscription, RingsWanted, Subscription};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{self, FrameHeader};
use fltport_abi::hello::{Hello, StreamHello};
use fltport_abi::hosted::{CompletionHeader, MapView, Request, RequestHeader, Send};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

const TOO_SMALL: i32 = 0x801C_0001_u32 as i32;

/// One connection as the fake driver sees it.
pub(crate) struct Connection {
    pub(crate) hello: Hello,
    /// The stream that it wants.
    pub(crate) stream: Option<StreamHello>,
    pub(crate) number: u32,
    pub(super) socket: Mutex<UnixStream>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) rings: OnceLock<FakeRings>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) gets: VecDeque<(u64, usize)>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) filtered: Vec<(FilteredSubscription, Vec<u8>)>,
    pub(super) replies: Vec<Vec<u8>>,
    pub(super) answers: Vec<Vec<u8>>,
    pub(super) reply_status: i32,
    pub(super) silent: bool,
    pub(super) disconnected: bool,
    pub(super) closes_behind_replies: bool,
    /// The service has ended the socket.
    pub(super) ended: bool,
    pub(super) gets_at_first_info: Option<usize>,
    pub(super) register_while_subscribing: bool,
    pub(super) acknowledged: Vec<u64>,
}

impl Connection {
    pub(super) fn complete(&self, id: u64, status: i32, information: usize, payload: &[u8]) {
        let header = CompletionHeader::new(id, status, information as u32, payload.len());
        let message = [&bytes(&header), payload].concat();
        let _gone = self.socket.lock().unwrap().write_all(&message);
    }

    /// The connection's rings.
    pub(crate) fn rings(&self) -> &FakeRings {
        self.rings.get().unwrap()
    }

    /// Has the service map a file; the address.
    fn map(&self, reader: &mut UnixStream, view: (&File, usize, bool)) -> u64 {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let (file, length, writable) = view;
        let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        let descriptors = [file.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let question = bytes(&MapView::new(7, length, writable));
        let parts = [std::io::IoSlice::new(&question)];
        let socket = self.socket.lock().unwrap();
        sendmsg(&*socket, &parts, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        drop(socket);
        let (header, payload) = next_request(reader).unwrap();
        match Request::parse(&header, &payload).unwrap() {
            Request::Mapped(mapped) => mapped.address,
            other => panic!("{other:?}"),
        }
    }

    /// Answers who asks for rings.
    pub(super) fn attach(
        &self,
        driver: &Driver,
        reader: &mut UnixStream,
        payload: &[u8],
    ) -> (i32, Vec<u8>) {
        let holds = driver.holds_rings.lock().unwrap().take();
        if let Some((asks, held)) = holds {
            asks.send(()).unwrap();
            let _dropped = held.recv();
            return (DISCONNECTED, Vec::new());
        }
        let status = driver.rings_status.load(Ordering::Acquire);
        if status != 0 {
            return (status, Vec::new());
        }
        let wanted = RingsWanted::read(payload).unwrap();
        let rings = FakeRings::new(driver.rings.load(Ordering::Acquire), &wanted);
        if driver.spoils_rings.load(Ordering::Acquire) {
            rings.scribble(8, &[0xFF; 8]);
        }
        let addresses = rings.views().map(|view| self.map(reader, view));
        let row = bytes(&rings.row(addresses));
        assert!(self.rings.set(rings).is_ok(), "rings once more");
        (0, row)
    }

    /// Waits until `n` gets are at the port.
    pub(crate) fn wait_for_gets(&self, n: usize) {
        let mut state = self.state.lock().unwrap();
        while state.gets.len() < n {
            let waited = self
                .changed
                .wait_timeout(state, Duration::from_secs(10))
                .unwrap();
            assert!(!waited.1.timed_out(), "gets");
            state = waited.0;
        }
    }

    pub(crate) fn gets(&self) -> usize {
        self.state.lock().unwrap().gets.len()
    }

    /// Completes the oldest get with a message: the Filter Manager's header, then `frame`. If it
    /// does not fit, completes that get with "too small" and tries the next.
    pub(crate) fn deliver(&self, message_id: u64, reply_length: u32, frame: &[u8]) {
        loop {
            self.wait_for_gets(1);
            if self.deliver_to(0, message_id, reply_length, frame) {
                return;
            }
        }
    }

    /// The same with the n-th oldest get; false if it was too small.
    pub(crate) fn deliver_to(
        &self,
        n: usize,
        message_id: u64,
        reply_length: u32,
        frame: &[u8],
    ) -> bool {
        let mut message = vec![0; 16];
        message[..4].copy_from_slice(&reply_length.to_le_bytes());
        message[8..].copy_from_slice(&message_id.to_le_bytes());
        message.extend_from_slice(frame);
        let (id, capacity) = self.state.lock().unwrap().gets.remove(n).unwrap();
        let fits = message.len() <= capacity;
        if fits {
            self.complete(id, 0, message.len(), &message);
        } else {
            self.complete(id, TOO_SMALL, message.len(), &[]);
        }
        fits
    }

    /// A frame of this connection.
    pub(crate) fn frame(&self, kind: u16, deadline_ms: u32, records: &[Vec<u8>]) -> Vec<u8> {
        let body = records.concat();
        let header = FrameHeader {
            magic: frame::MAGIC,
            version: 1,
            kind,
            length: (FrameHeader::SIZE + body.len()) as u32,
            records: records.len() as u32,
            deadline_ms,
            connection: self.number,
        };
        [bytes(&header), body].concat()
    }

    pub(crate) fn batch(&self, records: &[Vec<u8>]) -> Vec<u8> {
        self.frame(frame::FRAME_RECORDS, 0, records)
    }

    pub(crate) fn stream(&self, records: &[Vec<u8>]) {
        self.deliver(0, 0, &self.batch(records));
    }

    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        self.state.lock().unwrap().subscriptions.clone()
    }

    /// Those with filters or flags, and the filters.
    pub(crate) fn filtered(&self) -> Vec<(FilteredSubscription, Vec<u8>)> {
        self.state.lock().unwrap().filtered.clone()
    }

    pub(crate) fn wait_for_subscription(&self) {
        self.wait_for_subscriptions(1);
    }

    pub(crate) fn wait_for_subscriptions(&self, n: usize) {
        let mut state = self.state.lock().unwrap();
        while state.subscriptions.len() < n {
            let waited = self
                .changed
                .wait_timeout(state, Duration::from_secs(10))
                .unwrap();
            assert!(!waited.1.timed_out(), "no subscription");
            state = waited.0;
        }
    }

    pub(crate) fn replies(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().replies.clone()
    }

    /// The payloads of the commands that answer.
    pub(crate) fn answers(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().answers.clone()
    }

    pub(crate) fn reply_status(&self, status: i32) {
        self.state.lock().unwrap().reply_status = status;
    }

    /// What has been acknowledged, once that is something new.
    pub(crate) fn wait_for_acknowledgement(&self, number: u64) {
        let mut state = self.state.lock().unwrap();
        while state.acknowledged.last() != Some(&number) {
            let waited = self
                .changed
                .wait_timeout(state, Duration::from_secs(10))
                .unwrap();
            assert!(!waited.1.timed_out(), "{:?}", waited.0.acknowledged);
            state = waited.0;
        }
    }

    pub(crate) fn acknowledgements(&self) -> Vec<u64> {
        self.state.lock().unwrap().acknowledged.clone()
    }

    /// How many gets waited when the service first asked who it is.
    pub(crate) fn gets_at_first_info(&self) -> Option<usize> {
        self.state.lock().unwrap().gets_at_first_info
    }

    /// Have the provider register while the next subscription is under way.
    pub(crate) fn register_while_subscribing(&self) {
        self.state.lock().unwrap().register_while_subscribing = true;
    }

    /// Answer nothing any more.
    pub(crate) fn fall_silent(&self) {
        self.state.lock().unwrap().silent = true;
    }

    /// From now on the driver closes the client port when it has taken a reply.
    pub(crate) fn close_behind_replies(&self) {
        self.state.lock().unwrap().closes_behind_replies = true;
    }

    pub(super) fn close_before_completing(self: &Arc<Self>, id: u64, status: i32) {
        self.disconnect();
        let connection = self.clone();
        std::thread::spawn(move || {
            // As long as the reply is not complete the service must not end the socket; so this waits
            // in vain, if all is well.
            let state = connection.state.lock().unwrap();
            let ended = |state: &mut State| !state.ended;
            let waited = connection
                .changed
                .wait_timeout_while(state, Duration::from_millis(300), ended)
                .unwrap();
            drop(waited);
            connection.complete(id, status, 0, &[]);
        });
    }

    /// The driver closes the client port: gets complete with "disconnected", and so do those that the
    /// service has sent already and that are only read later.
    pub(crate) fn disconnect(&self) {
        let mut state = self.state.lock().unwrap();
        state.disconnected = true;
        let gets = std::mem::take(&mut state.gets);
        drop(state);
        for (id, _) in gets {
            self.complete(id, DISCONNECTED, 0, &[]);
        }
    }

    /// The hosted kernel's process ends.
    pub(crate) fn hang_up(&self) {
        let _gone = self
            .socket
            .lock()
            .unwrap()
            .shutdown(std::net::Shutdown::Both);
    }

    /// Writes what is not a completion.
    pub(crate) fn write_raw(&self, bytes: &[u8]) {
        self.socket.lock().unwrap().write_all(bytes).unwrap();
    }
}

pub(super) fn next_request(socket: &mut UnixStream) -> Option<(RequestHeader, Vec<u8>)> {
    let mut header = [0; RequestHeader::SIZE];
    socket.read_exact(&mut header).ok()?;
    let header = RequestHeader::read(&header).unwrap();
    let mut payload = vec![0; header.payload_len().unwrap()];
    socket.read_exact(&mut payload).unwrap();
    Some((header, payload))
}

/// Runs a command, whose input and output are in the service's memory.
pub(super) fn send(
    connection: &Connection,
    id: u64,
    send: &Send,
    command: impl FnOnce(&[u8]) -> (i32, Vec<u8>),
) {
    let mut options = File::options();
    let memory = options.read(true).write(true).open("/proc/self/mem");
    let memory = memory.unwrap();
    let mut input = vec![0; send.input_length as usize];
    memory.read_exact_at(&mut input, send.input).unwrap();
    let (status, output) = command(&input);
    let n = output.len().min(send.output_length as usize);
    memory.write_all_at(&output[..n], send.output).unwrap();
    connection.complete(id, status, n, &[]);
}
