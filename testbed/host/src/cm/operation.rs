// SPDX-License-Identifier: MIT OR Apache-2.0
//! An operation on the registry: the callbacks before it, the operation unless one of them refuses
//! it or does it itself, and the callbacks after it.

use std::ffi::c_void;
use std::sync::Arc;

use super::callbacks::Registration;
use super::information::Information;
use super::names::ToldKey;
use crate::abi::{NTSTATUS, REG_NOTIFY_CLASS, REG_POST_OPERATION_INFORMATION};
use crate::kernel::State;
use crate::process::SYSTEM_PROCESS_ID;
use crate::registry::{Disposition, Key, Registry, Value};
use crate::status::{STATUS_CALLBACK_BYPASS, STATUS_SUCCESS, is_success};
use crate::thread;
use crate::user_memory::UserSlice;
use crate::user_memory::shadow::UserCall;

/// What stands where a structure has no key object: drivers must not touch it.
const UNDEFINED: usize = 0xFFFF_DEAD_DEAD_0000;

/// An operation that is about to be done.
pub(crate) struct Operation<'a> {
    /// The key that it is done to; for a path, the one that it counts from.
    pub(crate) key: &'a Arc<Key>,
    pub(crate) change: Change<'a>,
}

/// What is done.
pub(crate) enum Change<'a> {
    Open(Open<'a>),
    DeleteKey,
    RenameKey { new_name: &'a [u16] },
    SetValue { name: &'a [u16], value: &'a Value },
    DeleteValue { name: &'a [u16] },
}

/// A key is opened, or created if it is not there.
pub(crate) struct Open<'a> {
    pub(crate) creates: bool,
    /// As the caller has named it.
    pub(crate) path: &'a [u16],
    /// The same, relative to the operation's key.
    pub(crate) remaining: &'a [u16],
    pub(crate) access: u32,
    pub(crate) options: u32,
    pub(crate) attributes: u32,
}

/// A key that was opened or created.
pub(crate) type Opened = (Arc<Key>, Disposition);

/// What came of an operation.
pub(crate) struct Done {
    pub(crate) status: NTSTATUS,
    /// None, too, if a callback has done the operation in the registry's place.
    pub(crate) opened: Option<Opened>,
}

impl Done {
    fn with(status: NTSTATUS) -> Done {
        Done {
            status,
            opened: None,
        }
    }
}

impl From<Result<(), NTSTATUS>> for Done {
    fn from(result: Result<(), NTSTATUS>) -> Done {
        Done::with(result.map_or_else(|status| status, |()| STATUS_SUCCESS))
    }
}

impl From<Result<Opened, NTSTATUS>> for Done {
    fn from(result: Result<Opened, NTSTATUS>) -> Done {
        match result {
            Ok(opened) => Done {
                status: STATUS_SUCCESS,
                opened: Some(opened),
            },
            Err(status) => Done::with(status),
        }
    }
}

impl Operation<'_> {
    /// The texts that the structure points to.
    pub(super) fn texts(&self) -> (&[u16], &[u16]) {
        match &self.change {
            Change::Open(open) => (open.path, open.remaining),
            Change::DeleteKey => (&[], &[]),
            Change::RenameKey { new_name } => (new_name, &[]),
            Change::SetValue { name, .. } | Change::DeleteValue { name } => (name, &[]),
        }
    }

    /// The data that the structure points to.
    pub(super) fn data(&self) -> &[u8] {
        match &self.change {
            Change::SetValue { value, .. } => &value.data,
            _ => &[],
        }
    }
}

/// Opens or creates a key below `start`, `path` being relative to it, by way of the callbacks. An
/// `absolute` path is told of as one that counts from `\Registry`.
pub(crate) fn open(state: &State, start: &Arc<Key>, mut open: Open<'_>, volatile: bool) -> Done {
    let relative = open.remaining;
    let (root, rest) = below_registry(start, relative);
    open.remaining = rest;
    let creates = open.creates;
    let operation = Operation {
        key: &root,
        change: Change::Open(open),
    };
    run(state, &operation, || {
        if creates {
            start.create(relative, volatile).into()
        } else {
            let opened = start.open(relative);
            opened.map(|key| (key, Disposition::Opened)).into()
        }
    })
}

/// What NT calls the root of an absolute path, the key `\Registry`, and the path from there; what
/// starts elsewhere stays as it is.
fn below_registry<'p>(start: &Arc<Key>, path: &'p [u16]) -> (Arc<Key>, &'p [u16]) {
    let end = path.iter().position(|unit| *unit == u16::from(b'\\'));
    let (first, rest) = match end {
        Some(end) => (&path[..end], &path[end + 1..]),
        None => (path, &path[path.len()..]),
    };
    match start.open(first) {
        Ok(registry) if start.path().is_empty() && !first.is_empty() => (registry, rest),
        _ => (start.clone(), path),
    }
}

/// Does an operation by way of the callbacks.
pub(crate) fn run(state: &State, operation: &Operation<'_>, body: impl FnOnce() -> Done) -> Done {
    let registrations = state.registry_callbacks.in_order();
    if registrations.is_empty() {
        return body();
    }
    let mut telling = Telling::new(state, operation);
    let mut told = Vec::new();
    for registration in registrations {
        match telling.before(&registration) {
            None => {}
            Some((status, context)) if is_success(status) => told.push((registration, context)),
            Some((STATUS_CALLBACK_BYPASS, _)) => return Done::with(STATUS_SUCCESS),
            Some((refusal, _)) => return Done::with(refusal),
        }
    }
    let mut done = body();
    let opened = done.opened.as_ref().map(|(key, disposition)| {
        *telling.disposition = number_of(*disposition);
        state.registry_callbacks.names.tell(key)
    });
    for (registration, context) in told.iter().rev() {
        telling.after(registration, *context, &mut done);
    }
    drop(opened);
    done
}

/// What NT's functions call a disposition.
pub(crate) fn number_of(disposition: Disposition) -> u32 {
    match disposition {
        Disposition::Created => 1,
        Disposition::Opened => 2,
    }
}

/// An operation that callbacks are told of.
struct Telling<'s> {
    information: Information,
    disposition: Box<u32>,
    object: *mut c_void,
    opens: bool,
    _key: ToldKey<'s>,
}

impl<'s> Telling<'s> {
    fn new(state: &'s State, operation: &Operation<'_>) -> Telling<'s> {
        Telling {
            information: Information::new(operation),
            disposition: Box::new(0),
            object: Arc::as_ptr(operation.key).cast_mut().cast(),
            opens: matches!(operation.change, Change::Open(_)),
            _key: state.registry_callbacks.names.tell(operation.key),
        }
    }

    /// Tells one of what is to be done: its status, and what it keeps. None if it is gone.
    fn before(&mut self, registration: &Registration) -> Option<(NTSTATUS, usize)> {
        *self.information.call_context() = std::ptr::null_mut();
        let (class, pointer) = (self.information.before, self.information.pointer());
        let status = self.call(registration, class, pointer)?;
        Some((status, *self.information.call_context() as usize))
    }

    /// Tells one of what was done; it may change the status.
    fn after(&mut self, registration: &Registration, context: usize, done: &mut Done) {
        let context = context as *mut c_void;
        *self.information.call_context() = context;
        let mut over = Box::new(REG_POST_OPERATION_INFORMATION {
            Object: self.object_after(done),
            Status: done.status,
            PreInformation: self.information.pointer(),
            ReturnStatus: done.status,
            CallContext: context,
            ..Default::default()
        });
        let class = self.information.after;
        let answer = self.call(registration, class, (&raw mut *over).cast());
        if answer == Some(STATUS_CALLBACK_BYPASS) {
            done.status = over.ReturnStatus;
        }
    }

    /// The key object behind an operation: defined only if it has succeeded.
    fn object_after(&self, done: &Done) -> *mut c_void {
        match &done.opened {
            _ if done.status != STATUS_SUCCESS => UNDEFINED as *mut c_void,
            Some((key, _)) => Arc::as_ptr(key).cast_mut().cast(),
            None if self.opens => UNDEFINED as *mut c_void,
            None => self.object,
        }
    }

    /// Calls a routine. Where it stands whether a key is new may be the user's memory, so that what
    /// the driver sees in a user's process is an address that only the fault-safe copies know.
    fn call(
        &mut self,
        registration: &Registration,
        class: REG_NOTIFY_CLASS,
        argument: *mut c_void,
    ) -> Option<NTSTATUS> {
        type Callback =
            unsafe extern "system" fn(*mut c_void, *mut c_void, *mut c_void) -> NTSTATUS;
        let here = &raw mut *self.disposition;
        let of_user = thread::current_process().pid() != SYSTEM_PROCESS_ID;
        let driver = registration.routine.driver().filter(|_| of_user);
        let slice = UserSlice {
            address: here as u64,
            length: 4,
        };
        let opens = self.information.disposition().is_some();
        let memory = driver.filter(|_| opens);
        // An error: all addresses are in use, and the driver sees the memory itself.
        let memory = memory.and_then(|driver| UserCall::begin_here(driver, &slice).ok());
        if let Some(disposition) = self.information.disposition() {
            *disposition = memory.as_ref().map_or(here, |it| it.output as *mut u32);
        }
        let context = registration.context as *mut c_void;
        let status = registration.routine.run(|routine| {
            // SAFETY: registered as a routine of this kind.
            let routine: Callback = unsafe { std::mem::transmute(routine) };
            // SAFETY: the structure goes with the class and lives until the call has returned.
            unsafe { routine(context, class as usize as *mut c_void, argument) }
        });
        drop(memory);
        status
    }
}

/// The part of an absolute path below the root, and the root.
pub(crate) fn absolute<'p>(
    state: &State,
    path: &'p [u16],
) -> Result<(Arc<Key>, &'p [u16]), NTSTATUS> {
    let relative = Registry::relative(path)?;
    Ok((state.registry.root().clone(), relative))
}
