// SPDX-License-Identifier: MIT OR Apache-2.0
//! The notify routines that drivers register with the process manager.

use std::ffi::c_void;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::abi::{
    NTSTATUS, PCREATE_PROCESS_NOTIFY_ROUTINE, PCREATE_PROCESS_NOTIFY_ROUTINE_EX,
    PCREATE_THREAD_NOTIFY_ROUTINE, PLOAD_IMAGE_NOTIFY_ROUTINE, PSCREATEPROCESSNOTIFYTYPE,
    PSCREATETHREADNOTIFYTYPE,
};
use crate::driver::Driver;
use crate::entry::nt;
use crate::irql::{APC_LEVEL, PASSIVE_LEVEL};
use crate::kernel;
use crate::routine::Routine;
use crate::status::{
    STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_PROCEDURE_NOT_FOUND, STATUS_SUCCESS,
};
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

/// As many routines of one kind as the system takes.
const MOST_ROUTINES: usize = 64;

/// What a routine is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// PsSetCreateProcessNotifyRoutine: the plain form.
    Process,
    /// PsSetCreateProcessNotifyRoutineEx: with PS_CREATE_NOTIFY_INFO, can veto.
    ProcessEx,
    /// PsSetCreateProcessNotifyRoutineEx2: as Ex, for all subsystems.
    ProcessEx2,
    Thread,
    /// PsSetCreateThreadNotifyRoutineEx: the create call comes on the new thread.
    ThreadOnNew,
    Image,
}

impl Kind {
    fn table(self) -> Kind {
        match self {
            Kind::Process | Kind::ProcessEx | Kind::ProcessEx2 => Kind::Process,
            Kind::Thread | Kind::ThreadOnNew => Kind::Thread,
            Kind::Image => Kind::Image,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Process | Kind::ProcessEx | Kind::ProcessEx2 => "a process notify routine",
            Kind::Thread | Kind::ThreadOnNew => "a thread notify routine",
            Kind::Image => "an image notify routine",
        }
    }
}

/// One registered routine.
pub(crate) struct Registration {
    pub(crate) kind: Kind,
    pub(crate) routine: Routine,
}

/// All notify routines of one kernel, in the order of their registration.
#[derive(Default)]
pub(crate) struct NotifyRoutines(Mutex<Vec<Arc<Registration>>>);

impl NotifyRoutines {
    fn add(&self, kind: Kind, routine: usize) -> NTSTATUS {
        let full = match kind.table() {
            Kind::Process => STATUS_INVALID_PARAMETER,
            _ => STATUS_INSUFFICIENT_RESOURCES,
        };
        let registration = Arc::new(Registration {
            kind,
            routine: Routine::new(kind.name(), routine),
        });
        let mut routines = self.0.lock();
        let mut same = routines
            .iter()
            .filter(|other| other.kind.table() == kind.table() && !other.routine.is_stale());
        if same.clone().count() >= MOST_ROUTINES {
            return full;
        }
        let first = same
            .find(|other| other.kind == kind && other.routine.address() == routine)
            .cloned();
        let refused = first.is_some() && kind.table() == Kind::Process;
        if !refused {
            routines.push(registration);
        }
        drop(routines);
        if let Some(first) = first {
            report_twice(&first);
        }
        if refused {
            STATUS_INVALID_PARAMETER
        } else {
            STATUS_SUCCESS
        }
    }

    /// Removes a routine of one of `kinds` and waits for its calls; false if it is not there.
    fn remove(&self, kinds: &[Kind], routine: usize) -> bool {
        let mut routines = self.0.lock();
        let found = routines
            .iter()
            .position(|it| kinds.contains(&it.kind) && it.routine.is_at(routine));
        let removed = found.map(|index| routines.remove(index));
        drop(routines);
        match removed {
            Some(registration) => {
                registration.routine.drain();
                true
            }
            None => false,
        }
    }

    /// The routines of some kinds.
    pub(crate) fn of(&self, kinds: &[Kind]) -> Vec<Arc<Registration>> {
        self.0
            .lock()
            .iter()
            .filter(|it| kinds.contains(&it.kind))
            .cloned()
            .collect()
    }

    /// Reports the routines that `driver` left, after the calls that run have returned. They stay,
    /// so that the event that would call one is reported, too.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let left: Vec<_> = self.0.lock().clone();
        for registration in left {
            registration.routine.report_left_by(driver);
        }
    }
}

fn report_twice(first: &Registration) {
    Report::new(Rule::NotifyRegisteredTwice)
        .expected("a routine is registered once, and removed before it is registered again")
        .found(format!(
            "{} that is registered already",
            first.routine.name()
        ))
        .detail(
            "a process routine is refused, a thread or image routine is called twice for each \
             event and has to be removed twice",
        )
        .related(
            "it was registered first here",
            first.routine.stack().clone(),
        )
        .file();
}

/// Registers or removes a process routine.
fn set_process(kind: Kind, routine: Option<usize>, remove: bool) -> NTSTATUS {
    let (state, Some(routine)) = (kernel::state(), routine) else {
        return STATUS_INVALID_PARAMETER;
    };
    if remove {
        let found = state.notify.remove(&[kind], routine);
        return if found {
            STATUS_SUCCESS
        } else {
            STATUS_INVALID_PARAMETER
        };
    }
    let integrity = attribution::responsible().is_none_or(|it| it.image().force_integrity);
    if kind != Kind::Process && !integrity {
        return STATUS_ACCESS_DENIED;
    }
    state.notify.add(kind, routine)
}

fn add(kind: Kind, routine: Option<usize>) -> NTSTATUS {
    match routine {
        Some(routine) => kernel::state().notify.add(kind, routine),
        None => STATUS_INVALID_PARAMETER,
    }
}

fn remove(kinds: &[Kind], routine: Option<usize>) -> NTSTATUS {
    match routine {
        Some(routine) if kernel::state().notify.remove(kinds, routine) => STATUS_SUCCESS,
        _ => STATUS_PROCEDURE_NOT_FOUND,
    }
}

nt! {
    /// Registers or removes a process routine; removal waits for its calls. 64 at most.
    fails = STATUS_INVALID_PARAMETER if !remove;
    simplified = "is called in the thread that reports the event, from a script or from the host's own \
        processes";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsSetCreateProcessNotifyRoutine(
        routine: PCREATE_PROCESS_NOTIFY_ROUTINE,
        remove: bool,
    ) -> NTSTATUS {
        set_process(Kind::Process, routine.map(|it| it as usize), remove)
    }

    /// As PsSetCreateProcessNotifyRoutine, with PS_CREATE_NOTIFY_INFO. STATUS_ACCESS_DENIED for an
    /// image without `/INTEGRITYCHECK`.
    fails = STATUS_INVALID_PARAMETER if !remove;
    simplified = "is called in the thread that reports the event, from a script or from the host's own \
        processes; FileObject is null";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsSetCreateProcessNotifyRoutineEx(
        routine: PCREATE_PROCESS_NOTIFY_ROUTINE_EX,
        remove: bool,
    ) -> NTSTATUS {
        set_process(Kind::ProcessEx, routine.map(|it| it as usize), remove)
    }

    /// As PsSetCreateProcessNotifyRoutineEx, for processes of all subsystems. The only type is
    /// PsCreateProcessNotifySubsystems (0).
    fails = STATUS_INVALID_PARAMETER if !remove;
    simplified = "is called in the thread that reports the event, from a script or from the host's own \
        processes; FileObject is null, and there is one subsystem";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsSetCreateProcessNotifyRoutineEx2(
        kind: PSCREATEPROCESSNOTIFYTYPE,
        routine: *const c_void,
        remove: bool,
    ) -> NTSTATUS {
        if kind != 0 {
            return STATUS_INVALID_PARAMETER;
        }
        let routine = (!routine.is_null()).then_some(routine as usize);
        set_process(Kind::ProcessEx2, routine, remove)
    }

    /// Registers a thread routine.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "is called in the thread that reports the event, from a script or from the host's own \
        processes";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsSetCreateThreadNotifyRoutine(
        routine: PCREATE_THREAD_NOTIFY_ROUTINE,
    ) -> NTSTATUS {
        add(Kind::Thread, routine.map(|it| it as usize))
    }

    /// Registers a thread routine of a type: PsCreateThreadNotifyNonSystem (0) is called on the
    /// new thread, PsCreateThreadNotifySubsystems (1) for all subsystems.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "is called in the thread that reports the event, from a script or from the host's own \
        processes, also where NT calls on the new thread";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsSetCreateThreadNotifyRoutineEx(
        kind: PSCREATETHREADNOTIFYTYPE,
        routine: *const c_void,
    ) -> NTSTATUS {
        let kind = match kind {
            0 => Kind::ThreadOnNew,
            1 => Kind::Thread,
            _ => return STATUS_INVALID_PARAMETER,
        };
        add(kind, (!routine.is_null()).then_some(routine as usize))
    }

    /// Removes a thread routine and waits for its calls.
    max_irql = APC_LEVEL;
    pub unsafe fn PsRemoveCreateThreadNotifyRoutine(
        routine: PCREATE_THREAD_NOTIFY_ROUTINE,
    ) -> NTSTATUS {
        remove(&[Kind::Thread, Kind::ThreadOnNew], routine.map(|it| it as usize))
    }

    /// Registers an image routine.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "is called in the thread that reports the event, from a script or from the host's own \
        processes; no extended information";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsSetLoadImageNotifyRoutine(routine: PLOAD_IMAGE_NOTIFY_ROUTINE) -> NTSTATUS {
        add(Kind::Image, routine.map(|it| it as usize))
    }

    /// Removes an image routine and waits for its calls.
    max_irql = APC_LEVEL;
    pub unsafe fn PsRemoveLoadImageNotifyRoutine(
        routine: PLOAD_IMAGE_NOTIFY_ROUTINE,
    ) -> NTSTATUS {
        remove(&[Kind::Image], routine.map(|it| it as usize))
    }
}
