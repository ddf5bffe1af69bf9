// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands.

use crate::load::{self, Load};
use crate::messages::{
    Ask, AskStarted, Await, Change, ChangeStarted, Defer, DeferStarted, Echo, Echoed, Fault,
    Faulted, Flood, FloodStarted, GetStatistics, LoadStatistics, MAX_AWAIT_MS, Pairs, PairsStarted,
    Register, RegisterWrong, Registered, RegisteredWrong, Tell,
};
use crate::{asking, deeds, deferred, flood, objects, pairs};
use core::ffi::c_void;
use core::sync::atomic::Ordering;
use fltport_abi::message::{Message, Status};
use fltport_client::{CommandCaller, Handler, Snapshot};
use fltport_nt::bindings::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
    STATUS_IO_TIMEOUT,
};
use fltport_nt::ke::Timeout;
use fltport_nt::status::to_status;
use fltport_nt::user_memory::UserBuffer;
use fltport_nt::{NtError, Result};

/// How much the fault-safe copy is asked to copy.
const TOUCHED: usize = 16;

/// The addresses of the lower half end here; those above are NT's.
const USER_END: u64 = 0x8000_0000_0000;

fn read<'a, M: Message<'a>>(payload: &'a [u8]) -> Result<M> {
    M::decode(payload).map_err(|_| NtError(STATUS_INVALID_PARAMETER))
}

fn write<'a, M: Message<'a>>(result: &M, out: &mut [u8]) -> Result<usize> {
    result
        .encode(out)
        .map_err(|_| NtError(STATUS_BUFFER_TOO_SMALL))
}

impl Handler for Load {
    fn command(
        &self,
        _caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        match message {
            Flood::NUMBER => {
                let job = flood::start(self, &read(payload)?)?;
                write(&FloodStarted { job }, out)
            }
            Defer::NUMBER => {
                let job = deferred::start(self, &read(payload)?)?;
                write(&DeferStarted { job }, out)
            }
            Ask::NUMBER => {
                let job = asking::start(self, &read(payload)?)?;
                write(&AskStarted { job }, out)
            }
            Await::NUMBER => self.wait_for(&read(payload)?, out),
            Echo::NUMBER => {
                let Echo { data } = read(payload)?;
                write(&Echoed { data }, out)
            }
            Fault::NUMBER => {
                let status = touch(&read(payload)?)?;
                write(&Faulted { status }, out)
            }
            GetStatistics::NUMBER => {
                let GetStatistics {} = read(payload)?;
                write(&self.statistics(), out)
            }
            Register::NUMBER => {
                load::register(self, &read(payload)?)?;
                write(&Registered {}, out)
            }
            RegisterWrong::NUMBER => {
                load::register_wrong(&read(payload)?)?;
                write(&RegisteredWrong {}, out)
            }
            Change::NUMBER => {
                let job = objects::start(self, &read(payload)?)?;
                write(&ChangeStarted { job }, out)
            }
            Pairs::NUMBER => {
                let job = pairs::start(self, &read(payload)?)?;
                write(&PairsStarted { job }, out)
            }
            Tell::NUMBER => write(&deeds::tell(self, &read(payload)?)?, out),
            _ => Err(NtError(STATUS_INVALID_DEVICE_REQUEST)),
        }
    }

    fn snapshot(&self, snapshot: &Snapshot<'_>) -> Result<()> {
        self.objects.report(snapshot)
    }
}

impl Load {
    fn wait_for(&self, wanted: &Await, out: &mut [u8]) -> Result<usize> {
        let progress = self.progress(wanted.job)?;
        let timeout = Timeout::from_millis(wanted.timeout_ms.min(MAX_AWAIT_MS));
        let report = progress.wait(timeout);
        let written = write(&report.ok_or(NtError(STATUS_IO_TIMEOUT))?, out)?;
        self.forget(wanted.job);
        Ok(written)
    }

    fn statistics(&self) -> LoadStatistics {
        LoadStatistics {
            early: self.early.load(Ordering::Relaxed),
            jobs: self.started().into(),
            commands: self.commands.load(Ordering::Relaxed),
        }
    }
}

/// IRQL: PASSIVE_LEVEL. Touches an address with the fault-safe copy, which alone makes it a status
/// instead of the end of the machine.
fn touch(fault: &Fault) -> Result<Status> {
    if fault.address == 0 || fault.address >= USER_END - TOUCHED as u64 {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let buffer = UserBuffer::new(fault.address as usize as *const c_void, TOUCHED as u32);
    let mut bytes = [0; TOUCHED];
    let copied = if fault.write {
        buffer.copy_out(&bytes)
    } else {
        buffer.copy_in(&mut bytes).map(|_| ())
    };
    Ok(Status(to_status(copied)))
}
