// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views: where sections are mapped.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::caller::Caller;
use super::section::Section;
use super::shared_memory::Mapping;
use crate::abi::{HANDLE, NTSTATUS, PAGE_READONLY, PAGE_READWRITE, SECTION_INHERIT};
use crate::driver::Driver;
use crate::entry::nt;
use crate::irql::{APC_LEVEL, PASSIVE_LEVEL};
use crate::kernel;
use crate::ob;
use crate::object::Object;
use crate::pages;
use crate::process::{Process, SYSTEM_PROCESS_ID};
use crate::stack::Stack;
use crate::status::{
    STATUS_INVALID_HANDLE, STATUS_INVALID_PAGE_PROTECTION, STATUS_INVALID_PARAMETER,
    STATUS_INVALID_VIEW_SIZE, STATUS_NO_MEMORY, STATUS_NOT_MAPPED_VIEW, STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_PENDING, STATUS_PROCESS_IS_TERMINATING, STATUS_SUCCESS,
};
use crate::thread;
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

/// A section at an address.
struct View {
    /// Whose address space it is; none for the system's.
    process: Option<Arc<Process>>,
    place: Range<usize>,
    section: Arc<Section>,
    /// What keeps it there.
    held: Held,
    driver: Option<Arc<Driver>>,
    stack: Stack,
    function: &'static str,
}

/// What keeps a view where it is.
enum Held {
    /// It is mapped in this process of the host system.
    Here(#[allow(dead_code, reason = "held for its drop")] Mapping),
    /// A service in another one has mapped it, through this connection.
    There { connection: u64 },
}

impl View {
    /// Whether it lies in the same address space.
    fn is_in(&self, process: Option<&Arc<Process>>) -> bool {
        match (&self.process, process) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether nobody but the driver can unmap it: a process's views go with it, and are its own.
    fn is_the_systems(&self) -> bool {
        let process = self.process.as_ref();
        process.is_none_or(|process| process.pid() == SYSTEM_PROCESS_ID)
    }
}

/// Whether nobody is left to have views.
fn has_ended(process: &Process) -> bool {
    process.exit_status() != STATUS_PENDING
}

/// All views of one kernel.
#[derive(Default)]
pub(crate) struct Views(Mutex<Vec<View>>);

impl Views {
    fn add(
        &self,
        process: Option<Arc<Process>>,
        section: &Arc<Section>,
        place: Range<usize>,
        held: Held,
    ) {
        let view = View {
            process,
            place,
            section: section.clone(),
            held,
            driver: attribution::responsible(),
            stack: Stack::capture(),
            function: thread::with_context(|context| context.function.get()),
        };
        self.0.lock().push(view);
    }

    /// Takes the view out that has an address; the caller drops it.
    fn take(&self, process: Option<&Arc<Process>>, address: usize) -> Option<View> {
        let mut views = self.0.lock();
        let is_it = |view: &View| view.is_in(process) && view.place.contains(&address);
        let index = views.iter().position(is_it)?;
        Some(views.swap_remove(index))
    }

    /// The section that is mapped at an address of the system's, and how far into it that is.
    pub(super) fn section_at(&self, address: usize) -> Option<(Arc<Section>, usize)> {
        let views = self.0.lock();
        let is_it = |view: &&View| view.process.is_none() && view.place.contains(&address);
        let view = views.iter().find(is_it)?;
        Some((view.section.clone(), address - view.place.start))
    }

    /// Takes out what is gone, and drops it unlocked.
    fn remove(&self, is_gone: impl Fn(&View) -> bool) -> Vec<View> {
        self.0.lock().extract_if(.., |view| is_gone(view)).collect()
    }

    /// A process has ended, and with it its views.
    pub(crate) fn process_ended(&self, process: &Arc<Process>) {
        drop(self.remove(|view| view.is_in(Some(process))));
    }

    /// A service in another process has ended a connection, and so unmapped what was mapped
    /// through it.
    pub(crate) fn connection_ended(&self, ended: u64) {
        let is_it =
            |view: &View| matches!(view.held, Held::There { connection } if connection == ended);
        drop(self.remove(is_it));
    }

    /// Where a process has views, in the order of their addresses.
    pub(crate) fn of(&self, process: &Arc<Process>) -> Vec<Range<usize>> {
        let views = self.0.lock();
        let own = views.iter().filter(|view| view.is_in(Some(process)));
        let mut places: Vec<_> = own.map(|view| view.place.clone()).collect();
        places.sort_by_key(|place| place.start);
        places
    }

    /// UnmapViewOfFile by a service in this process; false if nothing is mapped there.
    pub(crate) fn unmap(&self, process: &Arc<Process>, address: usize) -> bool {
        self.take(Some(process), address).is_some()
    }

    /// Reports what `driver` left mapped in the system's address space, and unmaps it. What lies in a
    /// process is that process's.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let is_own = |view: &View| attribution::is(view.driver.as_ref(), driver);
        for view in self.remove(|view| is_own(view) && view.is_the_systems()) {
            Report::new(Rule::ViewLeft)
                .driver(Some(driver.name()))
                .function(view.function)
                .expected("all views in the system's address space are unmapped")
                .found(format!("a view at {:#x}", view.place.start))
                .detail("on NT the memory is lost until the system ends")
                .made_at(view.stack.clone())
                .file();
        }
    }
}

fn report_unknown(address: *const c_void) -> NTSTATUS {
    Report::new(Rule::ViewUnknown)
        .expected("an address within a view that is mapped there")
        .found(format!("{address:p}"))
        .detail("it was unmapped before, or never mapped, or lies in another address space")
        .file();
    STATUS_NOT_MAPPED_VIEW
}

/// How much of a section a view has: as much as is asked for, in whole pages; zero is all of it.
fn extent(section: &Section, wanted: usize) -> Result<usize, NTSTATUS> {
    let whole = section.memory.length();
    match wanted {
        0 => Ok(whole),
        _ => pages::whole_pages(wanted)
            .filter(|size| *size <= whole)
            .ok_or(STATUS_INVALID_VIEW_SIZE),
    }
}

/// Maps a section into a process's address space; where.
fn map(
    process: &Arc<Process>,
    section: &Arc<Section>,
    length: usize,
    writable: bool,
) -> Result<(usize, Held), NTSTATUS> {
    let caller = thread::with_context(|context| context.caller.borrow().clone());
    match caller {
        Caller::There { connection, views } if process.pid() != SYSTEM_PROCESS_ID => {
            let is_current = Arc::ptr_eq(process, &thread::current_process());
            let views = views.filter(|_| is_current).ok_or(STATUS_NOT_SUPPORTED)?;
            let descriptor = section.memory.descriptor(writable);
            let descriptor = descriptor.map_err(|error| match error.kind() {
                std::io::ErrorKind::Unsupported => STATUS_NOT_SUPPORTED,
                _ => STATUS_NO_MEMORY,
            })?;
            let address = views.map(descriptor, length, writable)?;
            Ok((address as usize, Held::There { connection }))
        }
        _ => {
            let mapping = section.memory.map(writable).map_err(|_| STATUS_NO_MEMORY)?;
            Ok((mapping.address(), Held::Here(mapping)))
        }
    }
}

fn section_of(handle: HANDLE) -> Result<Arc<Section>, NTSTATUS> {
    match ob::by_handle(&kernel::state(), handle) {
        Some(Object::Section(section)) => Ok(section),
        Some(_) => Err(STATUS_OBJECT_TYPE_MISMATCH),
        None => {
            ob::report_bad_handle(handle);
            Err(STATUS_INVALID_HANDLE)
        }
    }
}

fn process_of(handle: HANDLE) -> Result<Arc<Process>, NTSTATUS> {
    match ob::by_handle(&kernel::state(), handle) {
        Some(Object::Process(process)) => Ok(process),
        Some(_) => Err(STATUS_OBJECT_TYPE_MISMATCH),
        None => {
            ob::report_bad_handle(handle);
            Err(STATUS_INVALID_HANDLE)
        }
    }
}

/// What ZwMapViewOfSection asks for, once it is known to be possible here.
fn map_for(
    (section, process): (HANDLE, HANDLE),
    wanted: usize,
    protection: u32,
) -> Result<Range<usize>, NTSTATUS> {
    let (section, process) = (section_of(section)?, process_of(process)?);
    let writable = match protection {
        PAGE_READONLY => false,
        PAGE_READWRITE if section.writable => true,
        _ => return Err(STATUS_INVALID_PAGE_PROTECTION),
    };
    if has_ended(&process) {
        return Err(STATUS_PROCESS_IS_TERMINATING);
    }
    let length = extent(&section, wanted)?;
    let (address, held) = map(&process, &section, length, writable)?;
    let place = address..address.saturating_add(length);
    let views = &kernel::state().views;
    views.add(Some(process), &section, place.clone(), held);
    Ok(place)
}

nt! {
    /// Maps a section into the system's address space. What lies there is pageable.
    fails = STATUS_NO_MEMORY;
    simplified = "that the view is pageable is not checked: a touch at DISPATCH_LEVEL is not found out";
    max_irql = APC_LEVEL;
    pub unsafe fn MmMapViewInSystemSpace(
        section: *const c_void,
        base: *mut *mut c_void,
        size: *mut usize,
    ) -> NTSTATUS {
        let state = kernel::state();
        let Some(Object::Section(section)) = state.objects.find(section as usize) else {
            Report::new(Rule::ObjectUnknown)
                .expected("a section object that is referenced")
                .found(format!("{section:p}"))
                .file();
            return STATUS_INVALID_PARAMETER;
        };
        // SAFETY: the caller passes a size.
        let length = match extent(&section, unsafe { size.read() }) {
            Ok(length) => length,
            Err(status) => return status,
        };
        let Ok(mapping) = section.memory.map(section.writable) else {
            return STATUS_NO_MEMORY;
        };
        let address = mapping.address();
        state.views.add(None, &section, address..address + length, Held::Here(mapping));
        // SAFETY: the caller passes memory for an address.
        unsafe { base.write(address as *mut c_void) };
        // SAFETY: the caller passes memory for the size.
        unsafe { size.write(length) };
        STATUS_SUCCESS
    }

    /// Unmaps what MmMapViewInSystemSpace has mapped.
    max_irql = APC_LEVEL;
    pub unsafe fn MmUnmapViewInSystemSpace(base: *const c_void) -> NTSTATUS {
        match kernel::state().views.take(None, base as usize) {
            Some(_unmapped) => STATUS_SUCCESS,
            None => report_unknown(base),
        }
    }

    /// Maps a section into the address space of a process.
    fails = STATUS_NO_MEMORY | STATUS_PROCESS_IS_TERMINATING;
    simplified = "from the section's beginning, at an address that it chooses; a service that is \
        another process is asked to map it, in a command and with a library that can; a section is \
        either writable or read-only for all such services";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwMapViewOfSection(
        section: HANDLE,
        process: HANDLE,
        base: *mut *mut c_void,
        _zero_bits: usize,
        _commit: usize,
        offset: *mut i64,
        size: *mut usize,
        _inherit: SECTION_INHERIT,
        allocation: u32,
        protection: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller passes null or an offset.
        let offset = unsafe { offset.as_ref() }.copied().unwrap_or(0);
        // SAFETY: the caller passes memory with an address.
        let wish = unsafe { base.read() };
        if offset != 0 || !wish.is_null() || allocation != 0 {
            return STATUS_NOT_SUPPORTED;
        }
        // SAFETY: the caller passes a size.
        let wanted = unsafe { size.read() };
        let place = match map_for((section, process), wanted, protection) {
            Ok(place) => place,
            Err(status) => return status,
        };
        // SAFETY: the caller passes memory for an address.
        unsafe { base.write(place.start as *mut c_void) };
        // SAFETY: the caller passes memory for the size.
        unsafe { size.write(place.len()) };
        STATUS_SUCCESS
    }

    /// Unmaps the view that contains an address, in whatever thread.
    simplified = "a service that is another process keeps its mapping until it ends its connection";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwUnmapViewOfSection(process: HANDLE, base: *const c_void) -> NTSTATUS {
        let process = match process_of(process) {
            Ok(process) => process,
            Err(status) => return status,
        };
        match kernel::state().views.take(Some(&process), base as usize) {
            Some(_unmapped) => STATUS_SUCCESS,
            None if has_ended(&process) => STATUS_PROCESS_IS_TERMINATING,
            None if process.pid() == SYSTEM_PROCESS_ID => report_unknown(base),
            // The process may have unmapped it itself.
            None => STATUS_NOT_MAPPED_VIEW,
        }
    }
}
