// SPDX-License-Identifier: MIT OR Apache-2.0
//! What NT tells of, and what becomes of it.

use crate::exclusions::ExclusionList;
use crate::listing;
use crate::processes::Processes;
use fltport_abi::message::{Message, Pid, Status};
use fltport_abi::process_monitor::{
    ImageLoad, PROVIDER, ProcessCreate, ProcessExit, ProcessStart, ProcessVerdict, ThreadChange,
};
use fltport_abi::text::Text;
use fltport_client::{BacklogPolicy, Booking, DefaultReply, Options, Provider, Snapshot};
use fltport_nt::bindings::{
    NTSTATUS, STATUS_ACCESS_DENIED, STATUS_DEVICE_NOT_READY, STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
};
use fltport_nt::ex::{Global, PoolArc, PoolBytes, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::ke::{Event, EventKind, Timeout};
use fltport_nt::ps::{
    CreateInfo, ImageInfo, ImageNotify, ImageObserver, ProcessNotify, ProcessObserver,
    ThreadNotify, ThreadObserver,
};
use fltport_nt::{NtError, Result};

/// The tag of all this driver's pool memory.
pub(crate) const TAG: Tag = Tag::new(b"FpPm");

/// Bytes of notifications that the common driver keeps while no service is connected.
const BACKLOG: u32 = 512 * 1024;

/// Bytes of notifications that are kept while there is no common driver.
const STAGING: u32 = 64 * 1024;

/// How long a process creation may wait for a verdict, in milliseconds. Without one it is allowed.
const DEADLINE_MS: u32 = 500;
/// What nobody forbids happens.
const DEFAULTS: &[DefaultReply] = &[DefaultReply::to::<ProcessCreate>(&ProcessVerdict {
    deny: false,
})];

/// How long a snapshot waits for a driver that starts, in milliseconds; it has only to put its provider
/// where it is found.
const START_MS: u32 = 1000;

/// Longer image paths and command lines are cut, in UTF-16 units; together they fit into a request.
const MAX_IMAGE: usize = 8 * 1024;
const MAX_COMMAND_LINE: usize = 15 * 1024;

/// Bytes that are kept of a process for snapshots at most, and units of its image if that is longer.
const MAX_KEPT: usize = 1536;
const MAX_KEPT_IMAGE: usize = 512;

static PROVIDER_OF_THIS: Global<Provider<ExclusionList>> = Global::empty();
static PROCESSES: Global<Processes> = Global::empty();
/// Set when the provider can be found, which a service may ask for a snapshot before.
static STARTED: Global<Event> = Global::empty();
static REGISTRATIONS: Global<Registrations> = Global::empty();

/// What NT calls this driver for. Dropping it waits for callbacks in flight.
struct Registrations {
    _process: ProcessNotify<Monitor>,
    _thread: ThreadNotify<Monitor>,
    _image: ImageNotify<Monitor>,
}

/// IRQL: PASSIVE_LEVEL. Registers the callbacks, takes a list of what runs, and registers the provider, so
/// that the first snapshot has all processes; what starts before that has run before. [`stop`] is its
/// mirror, and undoes what was done if this fails on the way.
pub(crate) fn start(driver: DriverObject) -> Result<()> {
    begin(driver).inspect_err(|_| stop())
}

fn begin(driver: DriverObject) -> Result<()> {
    let started = PoolArc::new(TAG, Event::new(TAG, EventKind::Notification)?)?;
    STARTED.replace(Some(started.clone()));
    let processes = PoolArc::new(TAG, Processes::new()?)?;
    PROCESSES.replace(Some(processes.clone()));
    register_callbacks()?;
    // Without a list there are notifications all the same; each snapshot tries again.
    let _listed = listing::take(&processes, |_| false);
    let options = Options::new(TAG)
        .backlog(BACKLOG, BacklogPolicy::KeepNewest)
        .staging(STAGING)
        .default_replies(DEFAULTS);
    let provider = Provider::register(driver, &PROVIDER, ExclusionList::new()?, options)?;
    PROVIDER_OF_THIS.replace(Some(PoolArc::new(TAG, provider)?));
    started.set();
    Ok(())
}

fn register_callbacks() -> Result<()> {
    let registrations = Registrations {
        _process: ProcessNotify::register()?,
        _thread: ThreadNotify::register()?,
        _image: ImageNotify::register()?,
    };
    REGISTRATIONS.replace(Some(PoolArc::new(TAG, registrations)?));
    Ok(())
}

/// IRQL: PASSIVE_LEVEL. Gives everything back. A verdict that is being waited for delays it by its
/// deadline at most.
pub(crate) fn stop() {
    // No callback takes these, so they are dropped here and now.
    drop(REGISTRATIONS.replace(None));
    drop(PROCESSES.replace(None));
    drop(PROVIDER_OF_THIS.replace(None));
    drop(STARTED.replace(None));
}

/// The observer.
struct Monitor;

/// The text, cut to what is allowed, and whether it was cut.
fn cut(text: Option<&[u16]>, limit: usize) -> (Option<Text<'_>>, bool) {
    let kept = text.map(|text| text.get(..limit).unwrap_or(text));
    (
        kept.map(Text::Units),
        text.is_some_and(|text| text.len() > limit),
    )
}

impl ProcessObserver for Monitor {
    fn created(pid: u32, info: &mut CreateInfo<'_>) {
        // None while the driver starts: then the process is only noted.
        let provider = PROVIDER_OF_THIS.get();
        if let Some(provider) = &provider {
            if info
                .image()
                .is_some_and(|image| provider.handler().hides(pid, image))
            {
                return;
            }
            if verdict(provider, pid, info) {
                info.deny(STATUS_ACCESS_DENIED);
                return;
            }
        }
        let (image, image_cut) = cut(info.image(), MAX_IMAGE);
        let (command_line, line_cut) = cut(info.command_line(), MAX_COMMAND_LINE);
        let (creating_pid, creating_tid) = info.creator();
        let start = ProcessStart {
            pid: Pid(pid),
            parent_pid: Pid(info.parent()),
            creating_pid: Pid(creating_pid),
            creating_tid: Pid(creating_tid),
            image,
            command_line,
            truncated: image_cut || line_cut,
        };
        let tell = || {
            // Asked again: a service that has seen the table without this process is to be told.
            let Some(provider) = PROVIDER_OF_THIS.get() else {
                return;
            };
            // Always one of the provider's own notifications, so never refused; a loss is in the
            // ledger.
            let _accounted = provider.notify(&start);
        };
        let Some(processes) = PROCESSES.get() else {
            return tell();
        };
        // Before the start is offered: where there is no room for the exit, the start is not to take
        // the last of it. Without room the exit is as any other notification.
        let room = provider.as_ref();
        let exit = room.and_then(|provider| provider.book::<ProcessExit>(ProcessExit::FIXED).ok());
        processes.started(pid, exit, encode(&kept(&start)), tell);
    }

    fn exited(pid: u32, exit_status: NTSTATUS) {
        let exit = ProcessExit {
            pid: Pid(pid),
            exit_status: Status(exit_status),
        };
        let tell = |booked: Option<Booking>| {
            // As for a start.
            let Some(provider) = PROVIDER_OF_THIS.get() else {
                return;
            };
            let _accounted = match booked {
                _ if provider.handler().hid(pid) => Ok(()),
                Some(room) => room.notify(&exit),
                None => provider.notify(&exit),
            };
        };
        match PROCESSES.get() {
            Some(processes) => processes.ended(pid, tell),
            None => tell(None),
        }
    }
}

/// IRQL: PASSIVE_LEVEL. Reports the processes that run to a service that begins to observe. If one had to be
/// forgotten, they are listed anew; one that is being created at that moment may be in the snapshot, and
/// told of as well.
///
/// The provider waits for this: a reference to it could be the last one.
pub(crate) fn report(snapshot: &Snapshot<'_>, exclusions: &ExclusionList) -> Result<()> {
    let started = STARTED.get().ok_or(NtError(STATUS_NOT_SUPPORTED))?;
    if !started.wait(Timeout::from_millis(START_MS)) {
        return Err(NtError(STATUS_DEVICE_NOT_READY));
    }
    let processes = PROCESSES.get().ok_or(NtError(STATUS_NOT_SUPPORTED))?;
    if processes.lacks_some() {
        listing::take(&processes, |pid| exclusions.is_hidden(pid))?;
    }
    processes.report(snapshot)
}

/// The start as it is kept for snapshots, in as many bytes as all that may run have room for: without
/// its command line if that is long, and with an image that is cut if that is.
pub(crate) fn kept<'a>(start: &ProcessStart<'a>) -> ProcessStart<'a> {
    let mut kept = *start;
    if kept.encoded_len() > MAX_KEPT && kept.command_line.take().is_some() {
        kept.truncated = true;
    }
    if kept.encoded_len() > MAX_KEPT
        && let Some(Text::Units(units)) = kept.image
    {
        kept.image = units.get(..MAX_KEPT_IMAGE).map(Text::Units);
        kept.truncated = true;
    }
    kept
}

pub(crate) fn encode(start: &ProcessStart<'_>) -> Result<PoolBytes> {
    let mut bytes = PoolBytes::zeroed(TAG, start.encoded_len())?;
    // The length is the message's own, so it fits.
    start
        .encode(&mut bytes)
        .map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
    Ok(bytes)
}

/// Asks whether the process must not be created. A question that could not be asked is answered by
/// the default, too.
fn verdict(provider: &Provider<ExclusionList>, pid: u32, info: &CreateInfo<'_>) -> bool {
    let (image, image_cut) = cut(info.image(), MAX_IMAGE);
    let (command_line, line_cut) = cut(info.command_line(), MAX_COMMAND_LINE);
    let (creating_pid, creating_tid) = info.creator();
    let question = ProcessCreate {
        pid: Pid(pid),
        parent_pid: Pid(info.parent()),
        creating_pid: Pid(creating_pid),
        creating_tid: Pid(creating_tid),
        image,
        command_line,
        truncated: image_cut || line_cut,
    };
    let answer = provider.ask(&question, DEADLINE_MS, None);
    answer.is_ok_and(|answer| answer.reply.deny)
}

impl ThreadObserver for Monitor {
    fn changed(pid: u32, tid: u32, created: bool) {
        if let Some(provider) = PROVIDER_OF_THIS.get() {
            let _accounted = provider.notify(&ThreadChange {
                pid: Pid(pid),
                tid: Pid(tid),
                created,
            });
        }
    }
}

impl ImageObserver for Monitor {
    fn loaded(image: &ImageInfo<'_>) {
        let Some(provider) = PROVIDER_OF_THIS
            .get()
            .filter(|p| p.is_listening(ImageLoad::NUMBER))
        else {
            return;
        };
        let (path, truncated) = cut(image.path, MAX_IMAGE);
        let _accounted = provider.notify(&ImageLoad {
            base: image.base,
            size: image.size,
            pid: Pid(image.pid),
            image: path,
            system: image.system,
            truncated,
        });
    }
}
