// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager's message device of this process's hosted kernel, behind the socket.

use super::device::{Device, Got, Handle, SendBuffers};
use super::peer::Peer;
use crate::flt::{GetId, GetOutcome, UserPort};
use crate::kernel;
use crate::mm::MapViews;
use crate::mm::caller::Caller;
use crate::process::Process;
use crate::thread;
use crate::user_memory::UserSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opens handles on the message device.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageDevice;

/// A handle, and the process that opened it.
#[derive(Debug)]
pub struct MessageHandle {
    port: Arc<UserPort>,
    owner: Arc<Process>,
    /// Tells this one from every other.
    number: u64,
}

impl Device for MessageDevice {
    type Handle = MessageHandle;

    fn connect(
        &self,
        peer: &Peer,
        name: &[u16],
        context: &[u8],
    ) -> Result<Arc<MessageHandle>, i32> {
        let owner = Process::for_peer(peer.pid, peer.uid);
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let caller = Caller::There {
            connection: number,
            views: None,
        };
        let port = thread::called_by(caller, || UserPort::connect(&owner, name, context))?;
        Ok(Arc::new(MessageHandle {
            port,
            owner,
            number,
        }))
    }
}

impl Handle for MessageHandle {
    type Get = GetId;

    fn get(&self, capacity: usize, done: Box<dyn FnOnce(Got) + Send>) -> GetId {
        self.port
            .get(capacity, Box::new(move |outcome| done(got(outcome))))
    }

    fn cancel(&self, get: Option<GetId>) {
        self.port.cancel(get);
    }

    fn reply(&self, bytes: &[u8]) -> i32 {
        self.port.reply(bytes)
    }

    fn send(&self, buffers: SendBuffers, views: Option<Arc<dyn MapViews>>) -> (i32, u32) {
        let slice = |(address, length)| UserSlice { address, length };
        let (input, output) = (slice(buffers.input), slice(buffers.output));
        let send = || self.port.send(&self.owner, input, output);
        let caller = Caller::There {
            connection: self.number,
            views,
        };
        thread::called_by(caller, send)
    }

    fn close(&self) {
        self.port.close();
    }
}

impl Drop for MessageHandle {
    /// After the last send.
    fn drop(&mut self) {
        if let Some(state) = kernel::running() {
            state.views.connection_ended(self.number);
        }
    }
}

fn got(outcome: GetOutcome) -> Got {
    let status = outcome.status();
    match outcome {
        GetOutcome::Message(bytes) => Got::Message(bytes),
        GetOutcome::TooSmall { needed } => Got::TooSmall(u32::try_from(needed).unwrap_or(u32::MAX)),
        GetOutcome::Cancelled | GetOutcome::Disconnected => Got::Failed(status.0),
    }
}
