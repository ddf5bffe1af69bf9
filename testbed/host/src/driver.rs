// SPDX-License-Identifier: MIT OR Apache-2.0
//! Driver images, and the driver objects that the hosted kernel makes of them.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::abi::{DRIVER_EXTENSION, DRIVER_OBJECT, DRIVER_UNLOAD, NTSTATUS, UNICODE_STRING};
use crate::sched::{self, Waiter};
use crate::status::{STATUS_DELETE_PENDING, STATUS_OBJECT_NAME_NOT_FOUND};
use crate::unicode::OwnedUnicodeString;
use crate::verifier::attribution;

/// A driver's entry point, as the linker option `/ENTRY` names it in a `.sys`.
pub type DriverEntry =
    unsafe extern "system" fn(*mut DRIVER_OBJECT, *const UNICODE_STRING) -> NTSTATUS;

/// What takes the place of a `.sys` file: a driver linked into this process.
#[derive(Clone, Copy, Debug)]
pub struct DriverImage {
    /// The name of its service key.
    pub name: &'static str,
    /// Its entry point.
    pub entry: DriverEntry,
    /// Whether it was linked with `/INTEGRITYCHECK`, which PsSetCreateProcessNotifyRoutineEx asks
    /// for.
    pub force_integrity: bool,
}

/// The value of DRIVER_OBJECT.Type.
const IO_TYPE_DRIVER: i16 = 4;

/// The memory of a driver object that the driver itself reads and writes.
struct Memory {
    object: UnsafeCell<DRIVER_OBJECT>,
    extension: UnsafeCell<DRIVER_EXTENSION>,
    registry_path: UnsafeCell<UNICODE_STRING>,
    // The strings that the descriptors above point into.
    _strings: [OwnedUnicodeString; 3],
}

/// How far the unload of a driver has come.
#[derive(Default)]
enum Unloading {
    #[default]
    NotBegun,
    /// One is under way, and these threads wait for its end.
    UnderWay(Vec<Arc<Waiter>>),
    /// The driver is gone.
    Done,
}

/// A loaded driver.
pub struct Driver {
    image: DriverImage,
    memory: Box<Memory>,
    package: OnceLock<Option<Box<str>>>,
    in_entry: AtomicBool,
    unloading: Mutex<Unloading>,
    unloaded: AtomicBool,
    /// Whether a reinitialisation routine runs.
    pub(crate) reinitializing: AtomicBool,
    /// Reinitialisation routines that have not run yet.
    pub(crate) reinitialize: Mutex<Vec<crate::io::reinitialize::Routine>>,
}

// SAFETY: the raw memory is NT's driver object, which drivers touch from every thread by NT's own
// rules; the hosted kernel itself reads and writes it through raw pointers only, while it loads
// and unloads the driver.
unsafe impl Send for Driver {}
// SAFETY: as above; everything else in the struct is Sync.
unsafe impl Sync for Driver {}

impl Driver {
    pub(crate) fn new(image: DriverImage) -> Arc<Driver> {
        let service = OwnedUnicodeString::from_text(image.name);
        let name = OwnedUnicodeString::from_text(&format!("\\Driver\\{}", image.name));
        let path = OwnedUnicodeString::from_text(&registry_path(image.name));
        let extension = DRIVER_EXTENSION {
            ServiceKeyName: service.descriptor(),
            ..Default::default()
        };
        let object = DRIVER_OBJECT {
            Type: IO_TYPE_DRIVER,
            Size: i16::try_from(size_of::<DRIVER_OBJECT>()).unwrap_or(i16::MAX),
            DriverStart: image.entry as *mut c_void,
            DriverName: name.descriptor(),
            ..Default::default()
        };
        let memory = Box::new(Memory {
            object: UnsafeCell::new(object),
            extension: UnsafeCell::new(extension),
            registry_path: UnsafeCell::new(path.descriptor()),
            _strings: [service, name, path],
        });
        let driver = Driver {
            image,
            memory,
            package: OnceLock::new(),
            in_entry: AtomicBool::new(false),
            unloading: Mutex::default(),
            unloaded: AtomicBool::new(false),
            reinitializing: AtomicBool::new(false),
            reinitialize: Mutex::new(Vec::new()),
        };
        driver.tie();
        Arc::new(driver)
    }

    /// Lets the driver object and its extension point to each other.
    fn tie(&self) {
        let object = self.object();
        let extension = self.memory.extension.get();
        // SAFETY: the memory was just made and nobody else knows it; the pointer is valid.
        unsafe { (*object).DriverExtension = extension };
        // SAFETY: as above.
        unsafe { (*extension).DriverObject = object };
    }

    /// The name of the service key.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.image.name
    }

    /// The image the driver was made from.
    #[must_use]
    pub fn image(&self) -> &DriverImage {
        &self.image
    }

    /// The package that the entry point is in, as far as the executable tells.
    pub(crate) fn package(&self) -> Option<&str> {
        self.package
            .get_or_init(|| attribution::package_of_entry(self.image.entry))
            .as_deref()
    }

    /// The driver object; valid as long as `self` lives.
    #[must_use]
    pub fn object(&self) -> *mut DRIVER_OBJECT {
        self.memory.object.get()
    }

    /// DriverUnload. The Filter Manager may put its own there in any thread.
    fn unload_place(&self) -> &AtomicPtr<c_void> {
        // SAFETY: only the address of a field is taken, of an object that lives as long as `self`.
        let place = unsafe { &raw mut (*self.object()).DriverUnload };
        // SAFETY: a pointer to a function or null, aligned and alive as above; the driver writes it
        // in its DriverEntry, when nobody else does.
        unsafe { AtomicPtr::from_ptr(place.cast()) }
    }

    /// What is called when the driver is stopped; without it the driver cannot be.
    pub(crate) fn unload_routine(&self) -> DRIVER_UNLOAD {
        let routine = self.unload_place().load(Ordering::Acquire);
        // SAFETY: null, which is None, or what the driver or the Filter Manager put there, of this
        // type.
        unsafe { std::mem::transmute::<*mut c_void, DRIVER_UNLOAD>(routine) }
    }

    pub(crate) fn set_unload_routine(&self, routine: DRIVER_UNLOAD) {
        let routine = routine.map_or(std::ptr::null_mut(), |it| it as *mut c_void);
        self.unload_place().store(routine, Ordering::Release);
    }

    pub(crate) fn extension(&self) -> *mut DRIVER_EXTENSION {
        self.memory.extension.get()
    }

    pub(crate) fn registry_path(&self) -> *const UNICODE_STRING {
        self.memory.registry_path.get()
    }

    /// Whether DriverEntry has been called and has not returned.
    pub(crate) fn is_in_entry(&self) -> bool {
        self.in_entry.load(Ordering::Acquire)
    }

    pub(crate) fn set_in_entry(&self, inside: bool) {
        self.in_entry.store(inside, Ordering::Release);
    }

    /// Begins an unload, which [`Driver::end_unload`] ends; STATUS_DELETE_PENDING if another one is
    /// under way.
    pub(crate) fn begin_unload(&self) -> Result<(), NTSTATUS> {
        let mut unloading = self.unloading.lock();
        match *unloading {
            Unloading::NotBegun => *unloading = Unloading::UnderWay(Vec::new()),
            Unloading::UnderWay(_) => return Err(STATUS_DELETE_PENDING),
            // Found a moment before.
            Unloading::Done => return Err(STATUS_OBJECT_NAME_NOT_FOUND),
        }
        Ok(())
    }

    /// The driver is gone, or stays loaded.
    pub(crate) fn end_unload(&self, gone: bool) {
        let now = if gone {
            Unloading::Done
        } else {
            Unloading::NotBegun
        };
        let former = std::mem::replace(&mut *self.unloading.lock(), now);
        if let Unloading::UnderWay(waiting) = former {
            waiting.iter().for_each(|waiter| sched::wake(waiter));
        }
    }

    /// Waits for the end of the unload that is under way, if one is.
    pub(crate) fn wait_for_unload(&self) {
        let waiter = Arc::new(Waiter::new());
        match &mut *self.unloading.lock() {
            Unloading::UnderWay(waiting) => waiting.push(waiter.clone()),
            _ => return,
        }
        sched::block(&waiter, None);
    }

    /// Whether its image is gone: on NT its addresses are unmapped, so none of its code may run.
    pub(crate) fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Acquire)
    }

    pub(crate) fn set_unloaded(&self) {
        self.unloaded.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

/// The path of a driver's service key.
pub(crate) fn registry_path(name: &str) -> String {
    format!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\{name}")
}
