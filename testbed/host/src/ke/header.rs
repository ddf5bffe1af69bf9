// SPDX-License-Identifier: MIT OR Apache-2.0
//! The head of every object a thread can wait for.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::abi::{DISPATCHER_HEADER, DISPATCHER_HEADER_0, DISPATCHER_HEADER_0_1, LIST_ENTRY};
use crate::verifier::{Report, Rule};

/// The values of DISPATCHER_HEADER.Type.
pub(crate) mod kind {
    pub(crate) const NOTIFICATION_EVENT: u8 = 0;
    pub(crate) const SYNCHRONIZATION_EVENT: u8 = 1;
    pub(crate) const MUTANT: u8 = 2;
    pub(crate) const PROCESS: u8 = 3;
    pub(crate) const THREAD: u8 = 6;
    pub(crate) const NOTIFICATION_TIMER: u8 = 8;
    pub(crate) const SYNCHRONIZATION_TIMER: u8 = 9;
}

/// A dispatcher object somewhere in memory, by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header(NonNull<DISPATCHER_HEADER>);

// SAFETY: a Header is an address; the memory behind it is read and written under the dispatcher
// lock, and its signal state atomically.
unsafe impl Send for Header {}
// SAFETY: as above.
unsafe impl Sync for Header {}

impl Header {
    /// Initialises a header in place: its kind, its signal state, and an empty wait list that
    /// points to itself, by which a moved object is recognised.
    ///
    /// # Safety
    /// `at` points to writable memory for a DISPATCHER_HEADER that nobody else uses yet.
    pub(crate) unsafe fn initialize(
        at: *mut DISPATCHER_HEADER,
        kind: u8,
        size: usize,
        signal: i32,
    ) {
        // SAFETY: only the address of a field is taken, of memory that is valid by contract.
        let list = unsafe { &raw mut (*at).WaitListHead };
        let header = DISPATCHER_HEADER {
            Anonymous: DISPATCHER_HEADER_0 {
                Anonymous2: DISPATCHER_HEADER_0_1 {
                    Type: kind,
                    Size: u8::try_from(size / 4).unwrap_or(u8::MAX),
                    ..Default::default()
                },
            },
            SignalState: signal,
            WaitListHead: LIST_ENTRY {
                Flink: list,
                Blink: list,
            },
        };
        // SAFETY: writable by contract.
        unsafe { at.write(header) };
    }

    /// The header at an address, if one was initialised there; otherwise a report is made.
    ///
    /// # Safety
    /// `at` is null or points to readable memory of at least a DISPATCHER_HEADER.
    pub(crate) unsafe fn at(at: *const c_void) -> Option<Header> {
        let Some(pointer) = NonNull::new(at.cast_mut().cast::<DISPATCHER_HEADER>()) else {
            not_initialized("a null pointer".to_owned());
            return None;
        };
        // SAFETY: readable by contract.
        let list = unsafe { &raw const (*pointer.as_ptr()).WaitListHead };
        // SAFETY: readable by contract.
        let first = unsafe { (*list).Flink };
        if !std::ptr::eq(first, list) {
            not_initialized(format!("{at:p} is not the head of an initialised object"));
            return None;
        }
        Some(Header(pointer))
    }

    /// Where the object lies.
    pub(crate) fn address(self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Which kind of object it is.
    pub(crate) fn kind(self) -> u8 {
        // SAFETY: `at` and `DispatcherObject::header` make Headers of initialised objects only,
        // and the driver keeps the object alive while a thread uses it.
        let union = unsafe { (*self.0.as_ptr()).Anonymous };
        // SAFETY: all variants of the union are plain bytes, and this one was written.
        unsafe { union.Anonymous2.Type }
    }

    /// The size that it says the object has, in words of 32 bits.
    pub(crate) fn words(self) -> u8 {
        // SAFETY: as in `kind`.
        let union = unsafe { (*self.0.as_ptr()).Anonymous };
        // SAFETY: all variants of the union are plain bytes, and this one was written.
        unsafe { union.Anonymous2.Size }
    }

    fn signal(self) -> &'static AtomicI32 {
        // SAFETY: only the address of a field is taken, of a live object.
        let state = unsafe { &raw mut (*self.0.as_ptr()).SignalState };
        // SAFETY: aligned and alive as long as the object; the reference does not leave the
        // functions below.
        unsafe { AtomicI32::from_ptr(state) }
    }

    /// The signal state: positive means signalled.
    pub(crate) fn signal_state(self) -> i32 {
        self.signal().load(Ordering::SeqCst)
    }

    /// Sets the signal state and returns the former one.
    pub(crate) fn set_signal_state(self, state: i32) -> i32 {
        self.signal().swap(state, Ordering::SeqCst)
    }
}

fn not_initialized(found: String) {
    Report::new(Rule::ObjectNotInitialized)
        .expected("an object initialised with KeInitialize… at the address where it is used")
        .found(found)
        .detail("initialise it in its final place; a KEVENT or KTIMER must not be moved afterwards")
        .file();
}

/// A header that the hosted kernel itself owns, in its processes and threads.
#[repr(transparent)]
pub(crate) struct DispatcherObject(UnsafeCell<DISPATCHER_HEADER>);

// SAFETY: the content is touched through Header only, which see.
unsafe impl Send for DispatcherObject {}
// SAFETY: as above.
unsafe impl Sync for DispatcherObject {}

impl Default for DispatcherObject {
    fn default() -> Self {
        DispatcherObject(UnsafeCell::new(DISPATCHER_HEADER::default()))
    }
}

impl DispatcherObject {
    /// Initialises the header where it now lies; it must not move afterwards.
    pub(crate) fn settle(&self, kind: u8, size: usize) {
        // SAFETY: the memory is ours; `settle` is called once, by the maker of the object, before
        // anybody else knows its address.
        unsafe { Header::initialize(self.0.get(), kind, size, 0) };
    }

    /// The header.
    pub(crate) fn header(&self) -> Header {
        // A cell's address is never null.
        Header(NonNull::from(&self.0).cast())
    }
}
