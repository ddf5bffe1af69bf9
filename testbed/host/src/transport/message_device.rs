// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager's message device of this process's hosted kernel, behind the socket.

use super::device::{Device, Got, Handle, SendBuffers};
use super::peer::Peer;
use crate::flt::{GetId, GetOutcome, UserPort};
use crate::process::Process;
use crate::user_memory::UserSlice;
use std::sync::Arc;

/// Opens handles on the message device.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageDevice;

/// A handle, and the process that opened it.
#[derive(Debug)]
pub struct MessageHandle {
    port: Arc<UserPort>,
    owner: Arc<Process>,
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
        let port = UserPort::connect(&owner, name, context)?;
        Ok(Arc::new(MessageHandle { port, owner }))
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

    fn send(&self, buffers: SendBuffers) -> (i32, u32) {
        let slice = |(address, length)| UserSlice { address, length };
        self.port
            .send(&self.owner, slice(buffers.input), slice(buffers.output))
    }

    fn close(&self) {
        self.port.close();
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
