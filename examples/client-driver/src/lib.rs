// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver: before a program starts it asks a service whether it may, and tells which have
//! started. `docs/writing-a-driver.md` explains it.
#![no_std]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod entry;
pub mod messages;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fltport_abi::message::{Message, Pid};
use fltport_abi::text::Text;
use fltport_client::{BacklogPolicy, CommandCaller, Handler, Options, Provider};
use fltport_nt::bindings::{
    NTSTATUS, STATUS_ACCESS_DENIED, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::ps::{CreateInfo, ProcessNotify, ProcessObserver};
use fltport_nt::{NtError, Result};

use crate::messages::{Launch, Launched, PROVIDER, Pause, Paused, Verdict};
pub use entry::driver_entry;

/// The name of the service, and of the image without its extension.
pub const IMAGE_NAME: &str = "client-driver";

/// The tag of all this driver's pool memory.
const TAG: Tag = Tag::new(b"Gate");

/// How long a program may wait for the verdict, in milliseconds. Without one it starts.
const DEADLINE_MS: u32 = 500;

/// Longer paths are cut, in UTF-16 units, so that a request has room for them.
const MAX_IMAGE: usize = 8 * 1024;

static GATE: Global<Provider<Gate>> = Global::empty();
static CALLBACK: Global<ProcessNotify<Gate>> = Global::empty();

/// What the commands change.
#[derive(Default)]
struct Gate {
    paused: AtomicBool,
    asked: AtomicU32,
}

/// IRQL: PASSIVE_LEVEL. First the provider, so that the callback finds it; `stop` is its mirror, and
/// undoes what was done if this fails on the way.
fn start(driver: DriverObject) -> Result<()> {
    let options = Options::new(TAG)
        .backlog(256 * 1024, BacklogPolicy::KeepNewest)
        .staging(16 * 1024);
    let provider = Provider::register(driver, &PROVIDER, Gate::default(), options)?;
    GATE.replace(Some(PoolArc::new(TAG, provider)?));
    register_callback().inspect_err(|_| stop())
}

fn register_callback() -> Result<()> {
    let callback = PoolArc::new(TAG, ProcessNotify::register()?)?;
    CALLBACK.replace(Some(callback));
    Ok(())
}

/// IRQL: PASSIVE_LEVEL. First whatever calls the provider, then the provider. Waits for what is
/// under way: callbacks, and with them a verdict, for its deadline at most; commands.
fn stop() {
    drop(CALLBACK.replace(None));
    drop(GATE.replace(None));
}

impl ProcessObserver for Gate {
    fn created(pid: u32, info: &mut CreateInfo<'_>) {
        let (Some(provider), Some(image)) = (GATE.get(), info.image()) else {
            return;
        };
        let image = Text::Units(image.get(..MAX_IMAGE).unwrap_or(image));
        let pid = Pid(pid);
        if !may_start(&provider, &Launch { pid, image }) {
            info.deny(STATUS_ACCESS_DENIED);
            return;
        }
        // Only fails for what is no notification of this provider; a loss is in the ledger.
        let _accounted = provider.notify(&Launched { pid, image });
    }

    fn exited(_pid: u32, _exit_status: NTSTATUS) {}
}

/// IRQL: <= APC_LEVEL. A question that could not be asked is answered by the default, too.
fn may_start(provider: &Provider<Gate>, launch: &Launch<'_>) -> bool {
    let gate = provider.handler();
    if gate.paused.load(Ordering::Relaxed) {
        return true;
    }
    gate.asked.fetch_add(1, Ordering::Relaxed);
    let answer = provider.ask(launch, DEADLINE_MS, Verdict { deny: false });
    !answer.is_ok_and(|answer| answer.reply.deny)
}

impl Handler for Gate {
    fn command(
        &self,
        _caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        if message != Pause::NUMBER {
            return Err(NtError(STATUS_INVALID_DEVICE_REQUEST));
        }
        let wanted = Pause::decode(payload).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        self.paused.store(wanted.paused, Ordering::Relaxed);
        let asked = self.asked.load(Ordering::Relaxed);
        let result = Paused { asked }.encode(out);
        result.map_err(|_| NtError(STATUS_BUFFER_TOO_SMALL))
    }
}
