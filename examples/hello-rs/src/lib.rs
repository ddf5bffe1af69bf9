// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver in Rust: says hello when it is told to, asks how one feels, and tells the answer.
//! It may be loaded before the common driver. `docs/writing-a-driver.md` explains it.
#![no_std]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fltport_abi::message::Message;
use fltport_abi::text::Text;
use fltport_client::{BacklogPolicy, CommandCaller, DefaultReply, Handler, Options, Provider};
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, UNICODE_STRING,
};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::ke::{Event, EventKind, Timeout};
use fltport_nt::ps::SystemThread;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};

fltport_abi::messages! {
    /// What it tells, asks and takes.
    provider PROVIDER = "hello-rs";

    /// Hello.
    notification 1 "hello" Hello<'a> {
        /// Which.
        count: u32,
        /// In words.
        text: Text<'a>,
    }

    /// What became of a question.
    notification 2 "answer" Answered {
        /// Which.
        count: u32,
        /// The outcome's number.
        outcome: u32,
        /// What the decider said, or the default.
        fine: bool,
    }

    /// How are you?
    request 3 "how-are-you" Question {
        /// Which.
        count: u32,
    } -> /// So.
    Mood {
        /// Well.
        fine: bool,
    }

    /// Says hello.
    command 4 "greet" Greet {
        /// How often.
        times: u32,
    } -> /// It will.
    Greeted {
        /// How often it has before.
        before: u32,
    }
}

/// The name of the service, and of the image without its extension.
pub const IMAGE_NAME: &str = "hello-rs";

const TAG: Tag = Tag::new(b"HelR");
const DEADLINE_MS: u32 = 2000;
/// Without a decider one is fine.
const DEFAULTS: &[DefaultReply] = &[DefaultReply::to::<Question>(&Mood { fine: true })];
/// Nothing waits for ever; the thread looks again then, and sees nothing.
const LONG: Timeout = Timeout::from_millis(60_000);

static GREETER: Global<Greeter> = Global::empty();

/// The driver. Dropped in this order: first the thread, which uses the provider.
struct Greeter {
    _thread: SystemThread,
    orders: PoolArc<Orders>,
    _provider: PoolArc<Provider<Commands>>,
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.orders.stopping.store(true, Ordering::Relaxed);
        self.orders.wake.set();
    }
}

/// What the command tells the thread.
struct Orders {
    wanted: AtomicU32,
    stopping: AtomicBool,
    wake: Event,
}

/// What the thread works with.
struct Work {
    provider: PoolArc<Provider<Commands>>,
    orders: PoolArc<Orders>,
}

struct Commands(PoolArc<Orders>);

impl Handler for Commands {
    fn command(
        &self,
        _caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let greet = Greet::decode(payload).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        if message != Greet::NUMBER {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        let before = self.0.wanted.fetch_add(greet.times, Ordering::Relaxed);
        self.0.wake.set();
        let result = Greeted { before }.encode(out);
        result.map_err(|_| NtError(STATUS_BUFFER_TOO_SMALL))
    }
}

impl Work {
    /// The thread: requests wait. The first hello needs nobody to want it.
    fn run(&self) {
        let mut count = 0;
        self.say_hello(count);
        while !self.orders.stopping.load(Ordering::Relaxed) {
            if count == self.orders.wanted.load(Ordering::Relaxed) {
                self.orders.wake.wait(LONG);
                continue;
            }
            count = count.wrapping_add(1);
            self.say_hello(count);
            self.ask_how(count);
        }
    }

    fn say_hello(&self, count: u32) {
        if self.provider.is_listening(Hello::NUMBER) {
            let text = Text::Utf8("Hello from Rust");
            // Only fails for what is no notification of this provider; a loss is in the ledger.
            let _accounted = self.provider.notify(&Hello { count, text });
        }
    }

    /// Answered with [`DEFAULTS`] if nobody decides.
    fn ask_how(&self, count: u32) {
        let Ok(answer) = self.provider.ask(&Question { count }, DEADLINE_MS, None) else {
            return;
        };
        let (outcome, fine) = (answer.outcome as u32, answer.reply.fine);
        let _accounted = self.provider.notify(&Answered {
            count,
            outcome,
            fine,
        });
    }
}

/// IRQL: PASSIVE_LEVEL.
fn start(driver: DriverObject) -> Result<()> {
    let orders = PoolArc::new(
        TAG,
        Orders {
            wanted: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
            wake: Event::new(TAG, EventKind::Synchronization)?,
        },
    )?;
    let options = Options::new(TAG)
        .backlog(64 * 1024, BacklogPolicy::KeepNewest)
        .default_replies(DEFAULTS);
    let provider = Provider::register(driver, &PROVIDER, Commands(orders.clone()), options)?;
    let provider = PoolArc::new(TAG, provider)?;
    let work = Work {
        provider: provider.clone(),
        orders: orders.clone(),
    };
    let greeter = Greeter {
        _thread: SystemThread::spawn(TAG, PoolArc::new(TAG, work)?, Work::run)?,
        orders,
        _provider: provider,
    };
    GREETER.replace(Some(PoolArc::new(TAG, greeter)?));
    Ok(())
}

/// IRQL: PASSIVE_LEVEL. What NT calls when it has loaded the driver.
///
/// # Safety
/// For NT to call, with this image's driver object.
pub unsafe extern "system" fn driver_entry(
    driver: *mut DRIVER_OBJECT,
    _registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: NT passes this image's driver object; nothing made from it outlives the unload.
    let object = unsafe { DriverObject::new(driver) };
    object.set_unload(unload);
    to_status(start(object))
}

/// The name that the linker is told. It lies in the section that NT frees when it has returned. A
/// test of two drivers would have two of the name, so it is there on Windows only.
#[cfg(windows)]
#[unsafe(no_mangle)]
#[unsafe(link_section = "INIT")]
unsafe extern "system" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: as NT calls it.
    unsafe { driver_entry(driver, registry_path) }
}

unsafe extern "system" fn unload(_driver: *const DRIVER_OBJECT) {
    drop(GREETER.replace(None));
}
