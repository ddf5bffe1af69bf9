// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts this module's functions onto Wine's ntoskrnl.exe: a new export directory behind the image,
//! and the image's header changed to say so. One function, which Wine calls itself, is replaced where
//! it stands.

use alloc::vec;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::null_mut;

use fltmgr::Status;
use fltport_nt::bindings::MmGetSystemRoutineAddress;
use fltport_nt::rtl::UnicodeString;
use fltport_nt::utf16;

use super::export_directory::ExportDirectory;
use super::{
    callback_object, dpc, free_irp, irql, pool, process, registry_callback, rundown, section,
    security, time, timer, work_item,
};
use crate::nt::{
    CURRENT_PROCESS, RtlPcToFileHeader, ZwAllocateVirtualMemory, ZwProtectVirtualMemory,
};

const MEM_COMMIT_RESERVE: u32 = 0x3000;
const PAGE_READWRITE: u32 = 0x04;
const PAGE_EXECUTE_READWRITE: u32 = 0x40;
/// What addresses of reservations are multiples of.
const GRANULARITY: usize = 0x1_0000;
/// Where the header says how large the image is, and where its export directory lies and how large
/// it is; from the "PE" on, in a 64-bit image.
const SIZE_OF_IMAGE: usize = 0x50;
const EXPORT_ENTRY: usize = 0x88;
/// `mov rax, imm64; jmp rax`, padded.
const JUMP: usize = 16;

fn functions() -> Vec<(&'static str, *const ())> {
    vec![
        (
            "CmCallbackGetKeyObjectIDEx",
            registry_callback::key_path as *const (),
        ),
        (
            "CmCallbackReleaseKeyObjectIDEx",
            registry_callback::release_key_path as *const (),
        ),
        (
            "CmRegisterCallbackEx",
            registry_callback::register as *const (),
        ),
        (
            "CmUnRegisterCallback",
            registry_callback::unregister as *const (),
        ),
        ("KeCancelTimer", timer::cancel as *const ()),
        ("KeSetTimerEx", timer::set as *const ()),
        (
            "ExUnregisterCallback",
            callback_object::unregister as *const (),
        ),
        ("ExRegisterCallback", callback_object::register as *const ()),
        ("ExNotifyCallback", callback_object::notify as *const ()),
        ("ExAcquireRundownProtection", rundown::acquire as *const ()),
        (
            "ExAcquireRundownProtectionCacheAware",
            rundown::acquire as *const (),
        ),
        (
            "ExAllocateCacheAwareRundownProtection",
            rundown::allocate_cache_aware as *const (),
        ),
        ("ExAllocatePool2", pool::allocate_pool2 as *const ()),
        ("ExAllocatePoolZero", pool::allocate_pool_zero as *const ()),
        ("ExCreateCallback", callback_object::create as *const ()),
        (
            "ExFreeCacheAwareRundownProtection",
            rundown::free_cache_aware as *const (),
        ),
        ("ExGetPreviousMode", process::previous_mode as *const ()),
        (
            "ExInitializeRundownProtection",
            rundown::initialize as *const (),
        ),
        (
            "ExInitializeRundownProtectionCacheAware",
            rundown::initialize_cache_aware as *const (),
        ),
        (
            "ExReInitializeRundownProtection",
            rundown::reinitialize as *const (),
        ),
        (
            "ExReInitializeRundownProtectionCacheAware",
            rundown::reinitialize as *const (),
        ),
        ("ExReleaseRundownProtection", rundown::release as *const ()),
        (
            "ExReleaseRundownProtectionCacheAware",
            rundown::release as *const (),
        ),
        ("ExRundownCompleted", rundown::completed as *const ()),
        (
            "ExRundownCompletedCacheAware",
            rundown::completed as *const (),
        ),
        (
            "ExSizeOfRundownProtectionCacheAware",
            rundown::size_cache_aware as *const (),
        ),
        (
            "ExWaitForRundownProtectionRelease",
            rundown::wait as *const (),
        ),
        (
            "ExWaitForRundownProtectionReleaseCacheAware",
            rundown::wait as *const (),
        ),
        ("IoGetCurrentProcess", process::current as *const ()),
        ("IoInitializeWorkItem", work_item::initialize as *const ()),
        ("IoQueueWorkItemEx", work_item::queue as *const ()),
        ("IoSizeofWorkItem", work_item::size as *const ()),
        (
            "IoUninitializeWorkItem",
            work_item::uninitialize as *const (),
        ),
        (
            "KeAcquireSpinLockRaiseToDpc",
            irql::acquire_spin_lock as *const (),
        ),
        ("KeFlushQueuedDpcs", dpc::flush as *const ()),
        ("KeGetCurrentIrql", irql::get_current as *const ()),
        ("KeInitializeDpc", dpc::initialize as *const ()),
        ("KeInsertQueueDpc", dpc::insert as *const ()),
        ("KeLowerIrql", irql::lower as *const ()),
        (
            "KeQueryInterruptTime",
            time::query_interrupt_time as *const (),
        ),
        (
            "KeQueryInterruptTimePrecise",
            time::query_interrupt_time_precise as *const (),
        ),
        (
            "KeQueryPerformanceCounter",
            time::query_performance_counter as *const (),
        ),
        (
            "KeQuerySystemTimePrecise",
            time::query_system_time_precise as *const (),
        ),
        (
            "KeQueryUnbiasedInterruptTime",
            time::query_unbiased_interrupt_time as *const (),
        ),
        ("KeRaiseIrqlToDpcLevel", irql::raise_to_dpc as *const ()),
        ("KeReleaseSpinLock", irql::release_spin_lock as *const ()),
        ("KeRemoveQueueDpc", dpc::remove as *const ()),
        ("KfRaiseIrql", irql::raise as *const ()),
        ("KfLowerIrql", irql::lower as *const ()),
        (
            "MmMapViewInSystemSpace",
            section::map_in_system_space as *const (),
        ),
        (
            "MmUnmapViewInSystemSpace",
            section::unmap_in_system_space as *const (),
        ),
        (
            "ObfDereferenceObject",
            callback_object::dereference_object as *const (),
        ),
        (
            "ObfReferenceObject",
            callback_object::reference_object as *const (),
        ),
        ("PsGetCurrentProcess", process::current as *const ()),
        ("PsGetCurrentProcessId", process::current_id as *const ()),
        ("PsGetProcessExitStatus", process::exit_status as *const ()),
        ("SeAccessCheck", security::access_check as *const ()),
        ("SeCaptureSubjectContext", security::capture as *const ()),
        (
            "SeCaptureSubjectContextEx",
            security::capture_of as *const (),
        ),
        (
            "SeLocateProcessImageName",
            security::locate_image as *const (),
        ),
        ("SeReleaseSubjectContext", security::release as *const ()),
        ("ZwCreateSection", section::create as *const ()),
    ]
}

/// The address of one of Wine's functions.
fn routine(name: &[u16]) -> Option<*mut c_void> {
    let name = UnicodeString::new(name).ok()?;
    // SAFETY: a valid name.
    let routine = unsafe { MmGetSystemRoutineAddress(name.raw()) };
    (!routine.is_null()).then_some(routine)
}

/// Has a function of Wine's, longer than a jump, jump elsewhere. Nobody may be in it.
fn replace(name: &[u16], function: *const ()) -> Result<(), Status> {
    let place = routine(name).ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
    let former = protect(place, JUMP, PAGE_EXECUTE_READWRITE)?;
    // SAFETY: code of that function, writable now.
    unsafe { place.cast::<[u8; JUMP]>().write(jump(function as usize)) };
    protect(place, JUMP, former).map(drop)
}

/// An image in memory.
struct Image(*mut u8);

impl Image {
    /// Wine's ntoskrnl.exe.
    fn ntoskrnl() -> Option<Image> {
        let routine = routine(utf16!("IoCreateDevice"))?;
        let mut base = null_mut();
        // SAFETY: an address, and a valid place for the image's.
        unsafe { RtlPcToFileHeader(routine, &raw mut base) };
        (!base.is_null()).then_some(Image(base.cast()))
    }

    /// A field of the header, by its offset from the "PE".
    fn field(&self, offset: usize) -> *mut u32 {
        const NEW_HEADER: usize = 0x3C;
        // SAFETY: inside of the image's first page.
        let at = unsafe { self.0.add(NEW_HEADER) };
        // SAFETY: aligned, and inside of the image.
        let header = unsafe { at.cast::<u32>().read() } as usize;
        // SAFETY: inside of the image's header.
        unsafe { self.0.add(header + offset) }.cast()
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: an aligned field of the header.
        unsafe { self.field(offset).read() }
    }

    /// Changes the two words of the export directory's entry.
    fn set_exports(&self, rva: u32, size: u32) -> Result<(), Status> {
        let place = self.field(EXPORT_ENTRY);
        let former = protect(place.cast(), 8, PAGE_READWRITE)?;
        // SAFETY: two aligned fields of the header, writable now.
        unsafe { place.cast::<[u32; 2]>().write([rva, size]) };
        protect(place.cast(), 8, former).map(drop)
    }
}

fn protect(at: *mut c_void, size: usize, protection: u32) -> Result<u32, Status> {
    let (mut base, mut size, mut former) = (at, size, 0);
    // SAFETY: three valid places; nothing but the protection of these pages changes.
    let status = unsafe {
        ZwProtectVirtualMemory(
            CURRENT_PROCESS,
            &raw mut base,
            &raw mut size,
            protection,
            &raw mut former,
        )
    };
    match Status(status) {
        status if status.is_success() => Ok(former),
        status => Err(status),
    }
}

/// Memory that the image's 32-bit relative addresses reach.
fn allocate_behind(image: &Image, size: usize) -> Result<*mut u8, Status> {
    let end = image.0 as usize + image.read(SIZE_OF_IMAGE) as usize;
    let first = end.next_multiple_of(GRANULARITY);
    let last = image.0 as usize + (u32::MAX as usize - size);
    for address in (first..last).step_by(GRANULARITY) {
        let (mut base, mut size) = (address as *mut c_void, size);
        // SAFETY: two valid places; a reservation harms nobody.
        let status = unsafe {
            ZwAllocateVirtualMemory(
                CURRENT_PROCESS,
                &raw mut base,
                0,
                &raw mut size,
                MEM_COMMIT_RESERVE,
                PAGE_EXECUTE_READWRITE,
            )
        };
        if status >= 0 {
            return Ok(base.cast());
        }
    }
    Err(Status::NO_MEMORY)
}

/// Grafts the functions onto Wine's ntoskrnl.exe.
pub(crate) fn graft() -> Result<(), Status> {
    let image = Image::ntoskrnl().ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
    // Requests are freed by the thread that this runs in, as long as no device is pended.
    replace(utf16!("IoFreeIrp"), free_irp::free as *const ())?;
    let length = image.read(SIZE_OF_IMAGE) as usize;
    // SAFETY: the loader has mapped the whole image, and nobody writes to what is read of it.
    let bytes = unsafe { core::slice::from_raw_parts(image.0, length) };
    let (rva, size) = (image.read(EXPORT_ENTRY), image.read(EXPORT_ENTRY + 4));
    let mut directory = ExportDirectory::read(bytes, rva, size).ok_or(Status::INVALID_PARAMETER)?;

    let functions = functions();
    let jumps = functions.len() * JUMP;
    // Room for the names that are new.
    let room = jumps + size as usize + functions.len() * 64;
    let memory = allocate_behind(&image, room)?;
    let begin = (memory as usize - image.0 as usize) as u32;
    let mut content = Vec::with_capacity(room);
    for (name, function) in functions {
        if !directory.set(name, begin + content.len() as u32) {
            return Err(Status::NO_MEMORY);
        }
        content.extend_from_slice(&jump(function as usize));
    }
    let directory = directory.write(begin + jumps as u32);
    content.extend_from_slice(&directory);
    if content.len() > room {
        return Err(Status::NO_MEMORY);
    }
    // SAFETY: allocated above with this much room.
    unsafe { memory.copy_from(content.as_ptr(), content.len()) };
    image.set_exports(begin + jumps as u32, directory.len() as u32)
}

fn jump(to: usize) -> [u8; JUMP] {
    let mut code = [0xCC; JUMP];
    code[..2].copy_from_slice(&[0x48, 0xB8]);
    code[2..10].copy_from_slice(&to.to_le_bytes());
    code[10..12].copy_from_slice(&[0xFF, 0xE0]);
    code
}
