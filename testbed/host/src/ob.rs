// SPDX-License-Identifier: MIT OR Apache-2.0
//! The object manager: references and handles.

use std::ffi::c_void;

use crate::abi::{
    ACCESS_STATE, HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, OBJECT_HANDLE_INFORMATION, POBJECT_TYPE,
};
use crate::entry::nt;
use crate::ex::mode::USER_MODE;
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use crate::ke::user_event;
use crate::kernel::{self, State};
use crate::object::Object;
use crate::process::SYSTEM_PROCESS_ID;
use crate::status::{
    STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};
use crate::thread;
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

const OBJ_KERNEL_HANDLE: u32 = 0x200;
/// NtCurrentProcess().
const CURRENT_PROCESS: isize = -1;
/// NtCurrentThread().
const CURRENT_THREAD: isize = -2;

/// The type of an object. Drivers know its address only.
#[derive(Debug)]
struct ObjectType {
    name: &'static str,
}

/// The variables through which drivers name an object type (`*PsThreadType`).
macro_rules! object_types {
    ($($name:ident is $type_name:literal;)*) => {
        $(
            #[doc = concat!("Points to the pointer to the type of ", $type_name, " objects.")]
            #[allow(non_upper_case_globals, unreachable_pub, private_interfaces)]
            #[unsafe(no_mangle)]
            pub static $name: &&ObjectType = {
                static TYPE: ObjectType = ObjectType { name: $type_name };
                static POINTER: &ObjectType = &TYPE;
                &POINTER
            };
        )*

        static OBJECT_TYPES: &[&&&ObjectType] = &[$(&$name,)*];
    };
}

object_types! {
    PsProcessType is "Process";
    PsThreadType is "Thread";
    SeTokenObjectType is "Token";
    ExEventObjectType is "Event";
}

/// Whether `object_type` is null or the address of the type of this name.
fn fits(object_type: POBJECT_TYPE, name: &str) -> bool {
    let is_named = |known: &&&&ObjectType| {
        let known: &ObjectType = known;
        std::ptr::from_ref(known) as POBJECT_TYPE == object_type && known.name == name
    };
    object_type == 0 || OBJECT_TYPES.iter().any(is_named)
}

/// The flags of object attributes.
///
/// # Safety
/// `attributes` is null or points to object attributes.
pub(crate) unsafe fn flags(attributes: *const OBJECT_ATTRIBUTES) -> u32 {
    if attributes.is_null() {
        return 0;
    }
    // SAFETY: not null, and object attributes by contract.
    unsafe { (*attributes).Attributes }
}

/// Opens a handle for the driver that asks.
pub(crate) fn open_with(state: &State, object: Object, flags: u32, access: u32) -> HANDLE {
    let process = thread::current_process();
    if flags & OBJ_KERNEL_HANDLE == 0 && process.pid() != SYSTEM_PROCESS_ID {
        Report::new(Rule::HandleNotKernel)
            .expected("OBJ_KERNEL_HANDLE, when a driver makes a handle in a user process")
            .found(format!(
                "a {} handle in process {}",
                object.type_name(),
                process.pid()
            ))
            .detail("user mode could close or use it")
            .file();
    }
    state
        .objects
        .open_handle(object, access, attribution::responsible()) as HANDLE
}

/// Removes a reference; the new count. A report if there is none to remove.
pub(crate) fn dereference(address: usize) -> isize {
    let driver = attribution::responsible();
    match kernel::state()
        .objects
        .dereference(address, driver.as_ref())
    {
        Some(count) => isize::try_from(count).unwrap_or(isize::MAX),
        None => {
            Report::new(Rule::ReferenceUnderflow)
                .expected("a reference taken before")
                .found(format!("no references to an object at {address:#x}"))
                .file();
            0
        }
    }
}

/// The object that a handle stands for, pseudo handles included.
pub(crate) fn by_handle(state: &State, handle: HANDLE) -> Option<Object> {
    match handle as isize {
        CURRENT_PROCESS => Some(Object::Process(thread::current_process())),
        CURRENT_THREAD => Some(Object::Thread(thread::current_thread())),
        value => state.objects.by_handle(value as usize),
    }
}

/// The process that the thread is attached to, if it lies there. It may have ended and been
/// forgotten, but a thread keeps its process.
fn current_process_at(address: usize) -> Option<Object> {
    let current = thread::current_process();
    (current.address() == address).then_some(Object::Process(current))
}

/// The object behind a handle of the driver's, or in UserMode of the process that has called it: one
/// that is no handle is then the caller's mistake.
fn find(state: &State, handle: HANDLE, mode: i8) -> Result<Object, NTSTATUS> {
    let is_pseudo = matches!(handle as isize, CURRENT_PROCESS | CURRENT_THREAD);
    if mode == USER_MODE && !is_pseudo {
        let event = user_event::by_handle(state, handle as u64)?;
        state.objects.ensure(Object::Event(event.clone()));
        return Ok(Object::Event(event));
    }
    by_handle(state, handle).ok_or_else(|| {
        report_bad_handle(handle);
        STATUS_INVALID_HANDLE
    })
}

pub(crate) fn report_bad_handle(handle: HANDLE) {
    Report::new(Rule::HandleInvalid)
        .expected("an open handle")
        .found(format!("{handle:p}"))
        .detail("it was closed before, or never opened")
        .file();
}

nt! {
    /// References the object behind a handle.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "access is not checked; the count of handle references is not kept apart; handles of \
        user mode are those of events";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ObReferenceObjectByHandle(
        handle: HANDLE,
        access: u32,
        object_type: POBJECT_TYPE,
        mode: i8,
        object: *mut *mut c_void,
        information: *mut OBJECT_HANDLE_INFORMATION,
    ) -> NTSTATUS {
        let state = kernel::state();
        let found = match find(&state, handle, mode) {
            Ok(found) => found,
            Err(status) => return status,
        };
        if !fits(object_type, found.type_name()) {
            return STATUS_OBJECT_TYPE_MISMATCH;
        }
        state.objects.reference(found.address(), attribution::responsible().as_ref());
        // SAFETY: the caller passes memory for the pointer.
        unsafe { object.write(found.address() as *mut c_void) };
        if !information.is_null() {
            let granted = OBJECT_HANDLE_INFORMATION { HandleAttributes: 0, GrantedAccess: access };
            // SAFETY: the caller passes null or memory for it.
            unsafe { information.write(granted) };
        }
        STATUS_SUCCESS
    }

    /// Opens a handle to an object.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "access is not checked, and the access state is ignored";
    max_irql = APC_LEVEL;
    pub unsafe fn ObOpenObjectByPointer(
        object: *const c_void,
        attributes: u32,
        _access_state: *const ACCESS_STATE,
        access: u32,
        object_type: POBJECT_TYPE,
        _mode: i8,
        handle: *mut HANDLE,
    ) -> NTSTATUS {
        let state = kernel::state();
        let current = || current_process_at(object as usize);
        let Some(found) = state.objects.find(object as usize).or_else(current) else {
            Report::new(Rule::ObjectUnknown)
                .expected("an object that is referenced")
                .found(format!("{object:p}"))
                .file();
            return STATUS_INVALID_PARAMETER;
        };
        if !fits(object_type, found.type_name()) {
            return STATUS_OBJECT_TYPE_MISMATCH;
        }
        let opened = open_with(&state, found, attributes, access);
        // SAFETY: the caller passes memory for a handle.
        unsafe { handle.write(opened) };
        STATUS_SUCCESS
    }

    /// Adds a reference; returns the new count.
    simplified = "counts what drivers hold; the number that it returns is smaller than NT's";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ObfReferenceObject(object: *const c_void) -> isize {
        let driver = attribution::responsible();
        let state = kernel::state();
        if let Some(current) = current_process_at(object as usize) {
            state.objects.ensure(current);
        }
        match state.objects.reference(object as usize, driver.as_ref()) {
            Some(count) => isize::try_from(count).unwrap_or(isize::MAX),
            None => {
                Report::new(Rule::ObjectUnknown)
                    .expected("an object that is referenced, or that the caller is told of now")
                    .found(format!("{object:p}"))
                    .file();
                0
            }
        }
    }

    /// Removes a reference; returns the new count.
    simplified = "counts what drivers hold; the number that it returns is smaller than NT's";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ObfDereferenceObject(object: *const c_void) -> isize {
        dereference(object as usize)
    }

    /// Closes a handle.
    simplified = "one handle table for all processes";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwClose(handle: HANDLE) -> NTSTATUS {
        if kernel::state().objects.close_handle(handle as usize) {
            return STATUS_SUCCESS;
        }
        report_bad_handle(handle);
        STATUS_INVALID_HANDLE
    }
}
