// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is behind the socket: the message device, as far as the transport needs to know it.

use super::peer::Peer;
use crate::mm::MapViews;
use std::sync::Arc;

/// How a get ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// With a message, the Filter Manager's header included.
    Message(Vec<u8>),
    /// It offered too little; this many bytes are needed.
    TooSmall(u32),
    /// With this NTSTATUS.
    Failed(i32),
}

/// The buffers of a send: addresses in the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendBuffers {
    /// The input's address and its length in bytes.
    pub input: (u64, u32),
    /// The output's address and its length in bytes.
    pub output: (u64, u32),
}

/// Opens handles.
pub trait Device: Send + Sync + 'static {
    /// An open handle.
    type Handle: Handle;

    /// Connects `peer` to the port `name` with `context`.
    ///
    /// # Errors
    /// The NTSTATUS with which it was refused.
    fn connect(&self, peer: &Peer, name: &[u16], context: &[u8]) -> Result<Arc<Self::Handle>, i32>;
}

/// One user-mode handle. All statuses are NTSTATUS.
pub trait Handle: Send + Sync + 'static {
    /// Names a get that waits.
    type Get: Copy + Send;

    /// Has a get wait; `done` is called once, now or later, from whatever thread, and does not
    /// block.
    fn get(&self, capacity: usize, done: Box<dyn FnOnce(Got) + Send>) -> Self::Get;
    /// Cancels one get, or all.
    fn cancel(&self, get: Option<Self::Get>);
    /// Replies.
    fn reply(&self, bytes: &[u8]) -> i32;
    /// Sends; returns the status and the number of bytes written to the output. Views can be mapped
    /// for the caller meanwhile if there is something to do that with.
    fn send(&self, buffers: SendBuffers, views: Option<Arc<dyn MapViews>>) -> (i32, u32);
    /// The last handle is closed.
    fn close(&self);
}
