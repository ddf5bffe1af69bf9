// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory descriptor lists: locked pages, and their mapping that may be touched at DISPATCH_LEVEL.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;

use parking_lot::Mutex;

use super::shared_memory::Mapping;
use crate::abi::{IRP, LOCK_OPERATION, MDL, MEMORY_CACHING_TYPE, NTSTATUS};
use crate::driver::Driver;
use crate::entry::{Function, enter, failure, nt};
use crate::ex::mode::USER_MODE;
use crate::faults::{self, FailsWith};
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL};
use crate::kernel;
use crate::pages::{self, PAGE_SIZE};
use crate::stack::Stack;
use crate::status::{STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_SUCCESS};
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

/// Bits of MDL.MdlFlags, as the WDK's headers have them.
const MAPPED_TO_SYSTEM_VA: i16 = 0x1;
const PAGES_LOCKED: i16 = 0x2;

/// A list that a driver has allocated.
struct Record {
    /// The list itself, in the memory that drivers see.
    list: Box<MDL>,
    /// Where the memory lies that it describes.
    address: usize,
    state: State,
    driver: Option<Arc<Driver>>,
    stack: Stack,
}

// SAFETY: the list's pointers are never followed; drivers reach it under NT's rules.
unsafe impl Send for Record {}

/// How far the list has come.
enum State {
    Unlocked,
    Locked,
    /// With the address, and what holds the mapping there if that is not the driver's own.
    Mapped(
        usize,
        #[allow(dead_code, reason = "held for its drop")] Option<Mapping>,
    ),
}

impl Record {
    /// Goes over to another state, which the list shows.
    fn set(&mut self, state: State) -> State {
        let (flags, address) = match &state {
            State::Unlocked => (0, 0),
            State::Locked => (PAGES_LOCKED, 0),
            State::Mapped(address, _) => (PAGES_LOCKED | MAPPED_TO_SYSTEM_VA, *address),
        };
        self.list.MdlFlags = flags;
        self.list.MappedSystemVa = address as *mut c_void;
        std::mem::replace(&mut self.state, state)
    }
}

/// All lists of one kernel, by address.
#[derive(Default)]
pub(crate) struct Lists(Mutex<BTreeMap<usize, Record>>);

impl Lists {
    fn with<R>(&self, list: *const MDL, f: impl FnOnce(&mut Record) -> R) -> Option<R> {
        self.0.lock().get_mut(&(list as usize)).map(f)
    }

    /// Reports the lists that `driver` left, and frees them.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let is_own = |record: &Record| attribution::is(record.driver.as_ref(), driver);
        let mut lists = self.0.lock();
        let (left, kept) = std::mem::take(&mut *lists)
            .into_iter()
            .partition(|(_, record)| is_own(record));
        *lists = kept;
        drop(lists);
        let left: BTreeMap<usize, Record> = left;
        for (address, record) in left {
            let state = match record.state {
                State::Unlocked => "",
                State::Locked => " with locked pages",
                State::Mapped(..) => " with locked and mapped pages",
            };
            Report::new(Rule::MdlLeft)
                .driver(Some(driver.name()))
                .function("IoAllocateMdl")
                .expected("all memory descriptor lists are freed")
                .found(format!("one at {address:#x}{state}"))
                .detail("on NT its pages stay locked until the system ends")
                .made_at(record.stack)
                .file();
        }
    }
}

fn misuse(expected: &str, found: &str) {
    Report::new(Rule::MdlMisuse)
        .expected(expected)
        .found(found)
        .file();
}

fn unknown(list: *const MDL) {
    misuse(
        "a memory descriptor list of IoAllocateMdl's that is not freed",
        &format!("{list:p}"),
    );
}

/// What is known of [`fltport_probe_and_lock_pages`].
pub(crate) static PROBE_AND_LOCK: Function = Function {
    name: "fltport_probe_and_lock_pages",
    min_irql: 0,
    max_irql: APC_LEVEL,
    fails: &[failure!(STATUS_INSUFFICIENT_RESOURCES)],
    simplified: Some(
        "not a function of NT: MmProbeAndLockPages raises an exception where this returns a status; \
         kernel memory only, and nothing is paged here",
    ),
};

/// Locks the pages of kernel memory that a list describes. Not a function of NT: on Windows,
/// drivers call MmProbeAndLockPages within structured exception handling.
///
/// # Safety
/// `list` is one of IoAllocateMdl's for memory that stays as long as it is locked.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn fltport_probe_and_lock_pages(
    list: *mut MDL,
    mode: i8,
    _operation: LOCK_OPERATION,
) -> NTSTATUS {
    enter(&PROBE_AND_LOCK);
    if let Some(failure) = faults::asked(&PROBE_AND_LOCK, true) {
        return FailsWith::failed(failure);
    }
    if mode == USER_MODE {
        return STATUS_NOT_SUPPORTED;
    }
    let locked = kernel::state().lists.with(list, |record| {
        let fresh = matches!(record.state, State::Unlocked);
        if fresh {
            record.set(State::Locked);
        }
        fresh
    });
    match locked {
        Some(true) => STATUS_SUCCESS,
        Some(false) => {
            misuse("pages that are not locked by this list", "they are");
            STATUS_INVALID_PARAMETER
        }
        None => {
            unknown(list);
            STATUS_INVALID_PARAMETER
        }
    }
}

nt! {
    /// Allocates a list for a range of memory; null without memory.
    fails = null;
    simplified = "for no request, and of one buffer; the numbers of the pages do not follow it";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoAllocateMdl(
        address: *const c_void,
        length: u32,
        secondary: bool,
        _charge: bool,
        irp: *mut IRP,
    ) -> *mut MDL {
        if secondary || !irp.is_null() || length == 0 {
            return std::ptr::null_mut();
        }
        let address = address as usize;
        let in_page = address % PAGE_SIZE;
        let pages = pages::whole_pages(in_page + length as usize).unwrap_or(0) / PAGE_SIZE;
        let size = size_of::<MDL>() + pages * size_of::<usize>();
        let mut list = Box::new(MDL {
            Size: i16::try_from(size).unwrap_or(i16::MAX),
            StartVa: (address - in_page) as *mut c_void,
            ByteOffset: in_page as u32,
            ByteCount: length,
            ..MDL::default()
        });
        let pointer: *mut MDL = &raw mut *list;
        let record = Record {
            list,
            address,
            state: State::Unlocked,
            driver: attribution::responsible(),
            stack: Stack::capture(),
        };
        kernel::state().lists.0.lock().insert(pointer as usize, record);
        pointer
    }

    /// Frees a list.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn IoFreeMdl(list: *mut MDL) {
        let freed = kernel::state().lists.0.lock().remove(&(list as usize));
        match freed {
            Some(Record { state: State::Unlocked, .. }) => {}
            Some(_) => misuse("MmUnlockPages before IoFreeMdl", "the pages are locked"),
            None => unknown(list),
        }
    }

    /// Unlocks the pages of a list, and unmaps them if they are mapped.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn MmUnlockPages(list: *mut MDL) {
        let former = kernel::state().lists.with(list, |record| record.set(State::Unlocked));
        match former {
            Some(State::Unlocked) => misuse("locked pages", "pages that are not locked"),
            Some(_unmapped) => {}
            None => unknown(list),
        }
    }

    /// Maps locked pages where they can be touched at DISPATCH_LEVEL; null without room.
    fails = null;
    simplified = "for kernel mode; pages of a section are mapped once more, others stay where they \
        are; the flags of the priority have no effect";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn MmMapLockedPagesSpecifyCache(
        list: *mut MDL,
        mode: i8,
        _caching: MEMORY_CACHING_TYPE,
        _wish: *const c_void,
        _bug_check_on_failure: u32,
        _priority: u32,
    ) -> *mut c_void {
        if mode == USER_MODE {
            return std::ptr::null_mut();
        }
        let state = kernel::state();
        let ready = state.lists.with(list, |record| match record.state {
            State::Locked => Ok(record.address),
            State::Unlocked => Err("pages that are not locked"),
            State::Mapped(..) => Err("pages that are mapped already"),
        });
        let address = match ready {
            Some(Ok(address)) => address,
            Some(Err(found)) => {
                misuse("locked pages that are not mapped", found);
                return std::ptr::null_mut();
            }
            None => {
                unknown(list);
                return std::ptr::null_mut();
            }
        };
        let (place, mapping) = match state.views.section_at(address) {
            Some((section, offset)) => match section.memory.map(section.writable) {
                Ok(mapping) => (mapping.address() + offset, Some(mapping)),
                Err(_) => return std::ptr::null_mut(),
            },
            None => (address, None),
        };
        state.lists.with(list, |record| record.set(State::Mapped(place, mapping)));
        place as *mut c_void
    }

    /// Unmaps pages that MmMapLockedPagesSpecifyCache has mapped; they stay locked.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn MmUnmapLockedPages(base: *const c_void, list: *mut MDL) {
        let unmapped = kernel::state().lists.with(list, |record| match record.state {
            State::Mapped(address, _) if address == base as usize => {
                Some(record.set(State::Locked))
            }
            _ => None,
        });
        match unmapped {
            Some(Some(_)) => {}
            Some(None) => misuse(
                "the address that MmMapLockedPagesSpecifyCache returned for this list",
                &format!("{base:p}"),
            ),
            None => unknown(list),
        }
    }
}
