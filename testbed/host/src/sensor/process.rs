// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one process, from what was seen of it to what is delivered.
//!
//! A process has at most one start that is not yet matched by an exit. It begins unreported; its
//! first exec, or the time it is given for one, reports it. A later exec ends the reported life
//! with status 0 and begins another. Everything here runs on one worker at a time per process.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use super::exec_call::Call;
use super::executable::{FileId, Next};
use super::gate::HeldExec;
use super::procfs::{self, Status};
use super::statistics::Counters;
use super::{ProcessEvents, ProcessExit, ProcessStart, StartCause, Verdict};

/// Where starts and exits go.
pub(super) struct Delivery {
    pub(super) events: Arc<dyn ProcessEvents>,
    pub(super) counters: Arc<Counters>,
}

impl Delivery {
    pub(super) fn running(&self, process: ProcessStart) {
        if panic::catch_unwind(AssertUnwindSafe(|| self.events.running(process))).is_err() {
            self.counters.callback_panics.add_one();
        }
    }

    fn start(&self, start: ProcessStart) -> Verdict {
        self.counters.starts.add_one();
        if start.held {
            self.counters.held.add_one();
        }
        let call = AssertUnwindSafe(|| self.events.start(start));
        panic::catch_unwind(call).unwrap_or_else(|_| {
            self.counters.callback_panics.add_one();
            Verdict::Allow
        })
    }

    fn exit(&self, pid: u32, exit_status: i32) {
        self.counters.exits.add_one();
        let exit = ProcessExit { pid, exit_status };
        if panic::catch_unwind(AssertUnwindSafe(|| self.events.exit(exit))).is_err() {
            self.counters.callback_panics.add_one();
        }
    }
}

/// What a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) path: Option<OsString>,
    pub(super) command_line: Option<OsString>,
}

impl Image {
    /// What `/proc` shows of a process now.
    pub(super) fn of(pid: u32) -> Image {
        Image {
            path: procfs::image(pid),
            command_line: procfs::command_line(pid),
        }
    }
}

/// A process's image, shared between its worker, which sets it before the exec goes on, and the
/// reader, which hands it to the children it learns of afterwards.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageCell(Arc<Mutex<Arc<Image>>>);

impl ImageCell {
    pub(super) fn new(image: Arc<Image>) -> ImageCell {
        ImageCell(Arc::new(Mutex::new(image)))
    }

    pub(super) fn get(&self) -> Arc<Image> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, image: Image) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(image);
    }
}

/// How the sensor came to know a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It ran when the sensor started: its start is not reported, its exit is.
    Running,
    /// It was created by this process and thread.
    Forked {
        creating_pid: u32,
        creating_tid: u32,
    },
    /// It was created by kthreadd, and is not a process unless it executes a program.
    KernelThread,
}

/// The first thing that is known of a process.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) origin: Origin,
    /// Tells this process from earlier ones of the same pid.
    pub(super) serial: u64,
    /// The former process of this pid was this one, seen too early; it does not end.
    pub(super) corrects: bool,
    pub(super) image: ImageCell,
}

/// What was seen of a process.
#[derive(Debug)]
pub(super) enum Sighting {
    Birth(Birth),
    /// An exec is being held.
    Held {
        exec: HeldExec,
        status: Status,
    },
    /// An exec has succeeded. The image is there if the reader has not seen it being held.
    Exec {
        image: Option<Image>,
    },
    /// The process of this serial number has had its time for an exec.
    GraceOver {
        serial: u64,
    },
    Exit {
        status: i32,
    },
}

/// An `execve` that has been let through and has not yet succeeded or failed.
#[derive(Debug)]
struct ExecUnderWay {
    next: Next,
    call: Option<Call>,
}

impl ExecUnderWay {
    /// Whether the file that is being opened now belongs to this exec.
    fn continues_with(&self, exec: &HeldExec) -> bool {
        match &self.next {
            Next::File(id) => exec.is_of(*id),
            Next::Nothing => false,
            Next::Anything => self.call.is_some() && self.call == Call::of(exec.tid()),
        }
    }
}

/// The path of the program a held call names. It is the file that is held, unless that is the
/// interpreter of a program whose file system is not marked.
fn program_of(exec: &HeldExec, call: Option<&Call>) -> Option<OsString> {
    let program = call.and_then(|call| call.program(exec.tid()));
    let unmarked = program.filter(|file| FileId::of(file).is_ok_and(|id| !exec.is_of(id)));
    unmarked.map_or_else(|| exec.path(), |file| procfs::path_of(&file))
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    origin: Origin,
    serial: u64,
    image: ImageCell,
    /// A start is outstanding (or, for a process that ran already, taken as such).
    reported: bool,
    under_way: Option<ExecUnderWay>,
}

/// Takes one sighting of `pid` into account; `process` is `None` before its birth and after its
/// end.
pub(super) fn witness(
    process: &mut Option<Process>,
    pid: u32,
    sighting: Sighting,
    delivery: &Delivery,
) {
    match (sighting, process.as_mut()) {
        (Sighting::Birth(birth), former) => {
            if former.is_some_and(|former| former.reported && !birth.corrects) {
                delivery.counters.made_up_exits.add_one();
                delivery.exit(pid, ProcessExit::UNKNOWN);
            }
            *process = Some(Process::born(pid, birth));
        }
        (Sighting::Held { exec, status }, Some(process)) => process.held(exec, status, delivery),
        (Sighting::Exec { image }, Some(process)) => process.executed(image, delivery),
        (Sighting::GraceOver { serial }, Some(process)) => {
            if process.serial == serial && !process.reported {
                process.forked_without_exec(delivery);
            }
        }
        (Sighting::Exit { status }, Some(former)) => {
            former.end(status, delivery);
            *process = None;
        }
        // Nothing is known of the process: a held exec goes on by being dropped here.
        (_, None) => {}
    }
}

impl Process {
    fn born(pid: u32, birth: Birth) -> Process {
        let Birth {
            origin,
            serial,
            image,
            ..
        } = birth;
        let reported = origin == Origin::Running;
        Process {
            pid,
            origin,
            serial,
            image,
            reported,
            under_way: None,
        }
    }

    fn held(&mut self, exec: HeldExec, status: Status, delivery: &Delivery) {
        let tid = exec.tid();
        if let Some(under_way) = &mut self.under_way
            && under_way.continues_with(&exec)
        {
            under_way.next = Next::after(&exec);
            exec.answer(Verdict::Allow);
            return;
        }
        let call = Call::of(tid);
        let command_line = call.as_ref().and_then(|call| call.command_line(tid));
        let path = program_of(&exec, call.as_ref());
        // Read while the file is held: the answer lets the exec go on to the next file.
        let next = Next::after(&exec);
        let image = Image { path, command_line };
        self.under_way = Some(ExecUnderWay { next, call });
        let held = exec.is_held();
        match self.replace_image(image, tid, Some(status), held, delivery) {
            Verdict::Allow => {
                exec.answer(Verdict::Allow);
            }
            Verdict::Deny => {
                if exec.answer(Verdict::Deny) {
                    self.under_way = None;
                } else {
                    delivery.counters.late_denials.add_one();
                }
            }
        }
    }

    fn executed(&mut self, image: Option<Image>, delivery: &Delivery) {
        if self.under_way.take().is_some() {
            return;
        }
        let image = image.unwrap_or_else(|| Image::of(self.pid));
        let status = procfs::status(self.pid);
        if self.replace_image(image, self.pid, status, false, delivery) == Verdict::Deny {
            delivery.counters.late_denials.add_one();
        }
    }

    /// Delivers the start of an image, after the exit of the one it replaces.
    fn replace_image(
        &mut self,
        image: Image,
        tid: u32,
        status: Option<Status>,
        held: bool,
        delivery: &Delivery,
    ) -> Verdict {
        let creator = if self.reported {
            delivery.exit(self.pid, 0);
            Some((self.pid, tid))
        } else {
            self.creator()
        };
        self.image.set(image);
        self.reported = true;
        delivery.start(self.start(creator, status, held, StartCause::Exec))
    }

    fn forked_without_exec(&mut self, delivery: &Delivery) {
        if self.origin == Origin::KernelThread {
            return;
        }
        if self.image.get().path.is_none() {
            self.image.set(Image::of(self.pid));
        }
        self.reported = true;
        let status = procfs::status(self.pid).filter(|status| status.pid == self.pid);
        let cause = StartCause::ForkWithoutExec;
        if delivery.start(self.start(self.creator(), status, false, cause)) == Verdict::Deny {
            delivery.counters.late_denials.add_one();
        }
    }

    fn end(&mut self, status: i32, delivery: &Delivery) {
        if !self.reported {
            self.forked_without_exec(delivery);
        }
        if self.reported {
            delivery.exit(self.pid, status);
        }
    }

    fn creator(&self) -> Option<(u32, u32)> {
        match self.origin {
            Origin::Forked {
                creating_pid,
                creating_tid,
            } => Some((creating_pid, creating_tid)),
            Origin::Running | Origin::KernelThread => None,
        }
    }

    fn start(
        &self,
        creator: Option<(u32, u32)>,
        status: Option<Status>,
        held: bool,
        how: StartCause,
    ) -> ProcessStart {
        let known_parent = match self.origin {
            Origin::Forked { creating_pid, .. } => creating_pid,
            Origin::Running | Origin::KernelThread => 0,
        };
        let parent_pid = status.map_or(known_parent, |status| status.parent);
        let (creating_pid, creating_tid) = creator.unwrap_or((parent_pid, parent_pid));
        let image = self.image.get();
        ProcessStart {
            pid: self.pid,
            parent_pid,
            creating_pid,
            creating_tid,
            uid: status.map(|status| status.uid),
            image: image.path.clone(),
            command_line: image.command_line.clone(),
            held,
            how,
        }
    }
}
