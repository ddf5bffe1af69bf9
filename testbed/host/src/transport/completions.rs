// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way back: completions are put into a queue from any thread, without blocking, and one thread
//! writes them.

use super::lane::{Held, Lane};
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::CompletionHeader;
use std::io::Write;
use std::net::Shutdown;
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
/// the [`Lane`].
#[derive(Clone, Debug)]
pub(super) struct Completions(Sender<(Held, Vec<u8>)>);

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
    pub(super) fn start(
        socket: UnixStream,
        lane: Arc<Lane>,
    ) -> std::io::Result<(Completions, Writer)> {
        let (sender, receiver) = channel();
        let (ended, end) = channel();
        let writer = std::thread::Builder::new()
            .name("transport-writer".into())
            .spawn(move || {
                write_all(socket, &receiver, &lane);
                // The peer is gone: the reader must not wait for a place that nobody gives back.
                lane.close();
                drop(ended);
            })?;
        let writer = Writer {
            thread: writer,
            end,
        };
        Ok((Completions(sender), writer))
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
        // If the writer has ended, the peer is gone and nobody waits for it.
        let _peer_gone = self.0.send((held, bytes));
    }
}

fn write_all(mut socket: UnixStream, receiver: &Receiver<(Held, Vec<u8>)>, lane: &Lane) {
    let mut written = Vec::new();
    while let Ok((held, mut bytes)) = receiver.recv() {
        written.push(held);
        while bytes.len() < BATCH {
            let Ok((held, more)) = receiver.try_recv() else {
                break;
            };
            bytes.extend_from_slice(&more);
            written.push(held);
        }
        if socket.write_all(&bytes).is_err() {
            return;
        }
        written.drain(..).for_each(|held| lane.leave(held));
    }
}
