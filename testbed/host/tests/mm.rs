// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sections, their views, and memory descriptor lists.

mod support;

use fltport_nt::bindings::*;
use fltport_nt::linked::{ExEventObjectType, KeLowerIrql, PAGE_READONLY, PAGE_READWRITE};
use nt_host::irql::DISPATCH_LEVEL;
use nt_host::{DriverImage, Kernel, Rule, Unload, UserEvent, fltport_probe_and_lock_pages};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use support::*;

const THIS_PROCESS: HANDLE = -1_isize as HANDLE;
const KERNEL: i8 = 0;
const USER: i8 = 1;

fn create(size: i64, protection: u32, allocation: u32) -> Result<HANDLE, NTSTATUS> {
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        Attributes: OBJ_KERNEL_HANDLE,
        ..Default::default()
    };
    let mut handle = null_mut();
    // SAFETY: valid attributes, and variables.
    let status = unsafe {
        ZwCreateSection(
            &raw mut handle,
            SECTION_ALL_ACCESS,
            &raw const attributes,
            &raw const size,
            protection,
            allocation,
            null_mut(),
        )
    };
    result(status, handle)
}

fn result<T>(status: NTSTATUS, value: T) -> Result<T, NTSTATUS> {
    match status {
        STATUS_SUCCESS => Ok(value),
        error => Err(error),
    }
}

fn section(size: i64) -> HANDLE {
    create(size, PAGE_READWRITE, SEC_COMMIT).unwrap()
}

fn close(handle: HANDLE) {
    // SAFETY: an open handle.
    assert_eq!(unsafe { ZwClose(handle) }, STATUS_SUCCESS);
}

fn map(section: HANDLE, size: usize, protection: u32) -> Result<(*mut u8, usize), NTSTATUS> {
    let (mut base, mut size) = (null_mut(), size);
    // SAFETY: variables for the results.
    let status = unsafe {
        ZwMapViewOfSection(
            section,
            THIS_PROCESS,
            &raw mut base,
            0,
            0,
            null_mut(),
            &raw mut size,
            ViewUnmap,
            0,
            protection,
        )
    };
    result(status, (base.cast(), size))
}

fn unmap(base: *const u8) -> NTSTATUS {
    // SAFETY: takes an address.
    unsafe { ZwUnmapViewOfSection(THIS_PROCESS, base.cast()) }
}

/// The section object behind a handle, referenced.
fn object(section: HANDLE) -> *mut c_void {
    let mut object = null_mut();
    // SAFETY: a variable for the pointer.
    let status =
        unsafe { ObReferenceObjectByHandle(section, 0, 0, KERNEL, &raw mut object, null_mut()) };
    assert_eq!(status, STATUS_SUCCESS);
    object
}

fn map_for_system(section: HANDLE, size: usize) -> Result<(*mut u8, usize), NTSTATUS> {
    let object = object(section);
    let (mut base, mut size) = (null_mut(), size);
    // SAFETY: a referenced object, and variables.
    let status = unsafe { MmMapViewInSystemSpace(object, &raw mut base, &raw mut size) };
    // SAFETY: referenced above.
    unsafe { ObfDereferenceObject(object) };
    result(status, (base.cast(), size))
}

fn unmap_for_system(base: *const u8) -> NTSTATUS {
    // SAFETY: takes an address.
    unsafe { MmUnmapViewInSystemSpace(base.cast()) }
}

fn read(at: *const u8) -> u8 {
    // SAFETY: mapped, as each test sees to.
    unsafe { at.read_volatile() }
}

fn write(at: *mut u8, value: u8) {
    // SAFETY: mapped writable, as each test sees to.
    unsafe { at.write_volatile(value) };
}

#[test]
fn sections_are_as_the_documentation_says() {
    let kernel = boot();
    assert_eq!(
        create(0, PAGE_READWRITE, SEC_COMMIT),
        Err(STATUS_INVALID_PARAMETER)
    );
    assert_eq!(
        create(1, 0x40, SEC_COMMIT),
        Err(STATUS_INVALID_PAGE_PROTECTION)
    );
    assert_eq!(create(1, PAGE_READWRITE, 0), Err(STATUS_NOT_SUPPORTED));
    let small = section(1);
    let (base, size) = map(small, 0, PAGE_READWRITE).unwrap();
    assert_eq!(size, 4096, "whole pages");
    assert_eq!((read(base), read(base.wrapping_add(4095))), (0, 0));
    let too_large = map(small, 4097, PAGE_READWRITE);
    assert_eq!(too_large, Err(STATUS_INVALID_VIEW_SIZE));
    assert_eq!(map_for_system(small, 8192), Err(STATUS_INVALID_VIEW_SIZE));
    assert_eq!(map(small, 0, 0x40), Err(STATUS_INVALID_PAGE_PROTECTION));
    write(base, 5);
    assert_eq!(unmap(base.wrapping_add(100)), STATUS_SUCCESS, "any address");
    let (again, _) = map(small, 0, PAGE_READONLY).unwrap();
    assert_eq!(read(again), 5, "the section keeps what it holds");
    close(small);
    assert_eq!(read(again), 5, "and a view keeps the section");
    assert_eq!(unmap(again), STATUS_SUCCESS);
    let read_only = create(1, PAGE_READONLY, SEC_COMMIT).unwrap();
    let raised = map(read_only, 0, PAGE_READWRITE);
    assert_eq!(raised, Err(STATUS_INVALID_PAGE_PROTECTION));
    close(read_only);
    kernel.shutdown_clean();
}

#[test]
fn the_system_and_a_process_see_the_same_memory() {
    let kernel = boot();
    let service = kernel.peer(100, 1000);
    let shared = section(8192);
    let (system, size) = map_for_system(shared, 0).unwrap();
    assert_eq!(size, 8192);
    let (view, _) = service.attach(|| map(shared, 8192, PAGE_READONLY)).unwrap();
    write(system.wrapping_add(8191), 3);
    assert_eq!(read(view.wrapping_add(8191)), 3);
    // It is in that process, and in no other.
    assert_eq!(service.views(), [(view as u64, 8192)]);
    assert_eq!(unmap(view), STATUS_NOT_MAPPED_VIEW);
    assert_eq!(service.attach(|| unmap(view)), STATUS_SUCCESS);
    assert_eq!(service.attach(|| unmap(view)), STATUS_NOT_MAPPED_VIEW);
    assert_eq!(service.views(), []);
    assert_eq!(unmap_for_system(system), STATUS_SUCCESS);
    assert_eq!(unmap_for_system(system), STATUS_NOT_MAPPED_VIEW);
    close(shared);
    expect(kernel, &[Rule::ViewUnknown, Rule::ViewUnknown]);
}

#[test]
fn a_process_that_has_ended_has_no_views() {
    let kernel = boot();
    let service = kernel.peer(100, 1000);
    let shared = section(4096);
    let map = || map(shared, 0, PAGE_READWRITE);
    let (view, _) = service.attach(map).unwrap();
    kernel.process_exited(100, 0);
    assert_eq!(service.views(), []);
    assert_eq!(service.attach(map), Err(STATUS_PROCESS_IS_TERMINATING));
    let unmapped = service.attach(|| unmap(view));
    assert_eq!(unmapped, STATUS_PROCESS_IS_TERMINATING);
    close(shared);
    kernel.shutdown_clean();
}

fn list(address: *const u8, length: u32) -> *mut MDL {
    // SAFETY: of memory that nobody touches through it before it is locked.
    unsafe { IoAllocateMdl(address.cast(), length, false, false, null_mut()) }
}

fn lock(list: *mut MDL) -> NTSTATUS {
    // SAFETY: a list, unless that is the test's intent, and found.
    unsafe { fltport_probe_and_lock_pages(list, KERNEL, IoModifyAccess) }
}

fn map_locked(list: *mut MDL) -> *mut u8 {
    let priority = NormalPagePriority as u32;
    // SAFETY: as above.
    unsafe { MmMapLockedPagesSpecifyCache(list, KERNEL, MmCached, null(), 0, priority) }.cast()
}

fn unmap_locked(base: *const u8, list: *mut MDL) {
    // SAFETY: as above.
    unsafe { MmUnmapLockedPages(base.cast(), list) };
}

fn unlock(list: *mut MDL) {
    // SAFETY: as above.
    unsafe { MmUnlockPages(list) };
}

fn free(list: *mut MDL) {
    // SAFETY: as above.
    unsafe { IoFreeMdl(list) };
}

#[test]
fn locked_pages_are_mapped_once_more() {
    let kernel = boot();
    let shared = section(8192);
    let (system, _) = map_for_system(shared, 0).unwrap();
    let list = list(system.wrapping_add(4100), 3000);
    // SAFETY: a list that was just allocated.
    let fresh = unsafe { list.read() };
    assert_eq!((fresh.ByteOffset, fresh.ByteCount), (4, 3000));
    assert_eq!(fresh.StartVa as usize, system as usize + 4096);
    assert_eq!(lock(list), STATUS_SUCCESS);
    // SAFETY: takes a level; what follows may be called there.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let mapped = map_locked(list);
    assert_ne!(mapped, system.wrapping_add(4100));
    write(mapped, 8);
    // SAFETY: as above.
    let seen = unsafe { list.read() };
    assert_eq!((seen.MdlFlags, seen.MappedSystemVa.cast()), (3, mapped));
    unmap_locked(mapped, list);
    unlock(list);
    free(list);
    // SAFETY: the level before.
    unsafe { KeLowerIrql(former) };
    assert_eq!(read(system.wrapping_add(4100)), 8);
    assert_eq!(unmap_for_system(system), STATUS_SUCCESS);
    close(shared);
    // Other memory of the kernel's stays where it is, and unlocking unmaps.
    let other = Box::new([0_u8; 100]);
    let list = self::list(other.as_ptr(), 100);
    assert_eq!(lock(list), STATUS_SUCCESS);
    assert_eq!(map_locked(list).cast_const(), other.as_ptr());
    unlock(list);
    free(list);
    kernel.shutdown_clean();
}

#[test]
fn a_list_used_out_of_turn_is_reported() {
    let kernel = boot();
    let memory = [0_u8; 100];
    let list = list(memory.as_ptr(), 100);
    assert!(map_locked(list).is_null());
    unlock(list);
    assert_eq!(lock(list), STATUS_SUCCESS);
    assert_eq!(lock(list), STATUS_INVALID_PARAMETER);
    let mapped = map_locked(list);
    assert!(map_locked(list).is_null());
    unmap_locked(mapped.wrapping_add(1), list);
    unmap_locked(mapped, list);
    unmap_locked(mapped, list);
    free(list);
    free(list);
    assert_eq!(lock(list), STATUS_INVALID_PARAMETER);
    expect(kernel, &[Rule::MdlMisuse; 9]);
}

#[test]
fn what_is_paged_or_waits_is_not_for_dispatch_level() {
    let kernel = boot();
    let shared = section(4096);
    // SAFETY: takes a level.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let (view, _) = map(shared, 0, PAGE_READWRITE).unwrap();
    unmap(view);
    let memory = [0_u8; 100];
    let list = list(memory.as_ptr(), 100);
    lock(list);
    // SAFETY: the level before.
    unsafe { KeLowerIrql(former) };
    unlock(list);
    free(list);
    close(shared);
    expect(kernel, &[Rule::IrqlTooHigh; 3]);
}

static LEAVES: Mutex<bool> = Mutex::new(false);

unsafe extern "system" fn entry(
    driver: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*driver).DriverUnload = Some(unload) };
    let shared = section(4096);
    let (system, _) = map_for_system(shared, 0).unwrap();
    let (view, _) = map(shared, 0, PAGE_READONLY).unwrap();
    let list = list(system, 4096);
    assert_eq!(lock(list), STATUS_SUCCESS);
    let mapped = map_locked(list);
    close(shared);
    if !*LEAVES.lock().unwrap() {
        unmap_locked(mapped, list);
        unlock(list);
        free(list);
        unmap_for_system(system);
        unmap(view);
    }
    STATUS_SUCCESS
}

unsafe extern "system" fn unload(_driver: *const DRIVER_OBJECT) {}

/// The rules that the driver breaks that leaves all of it, or nothing.
fn left(leaves: bool) -> Vec<Rule> {
    *LEAVES.lock().unwrap() = leaves;
    let kernel = boot();
    let image = DriverImage {
        name: "sharer",
        entry,
        force_integrity: false,
    };
    kernel.load(&image).unwrap();
    kernel.unload("sharer", Unload::Stop).unwrap();
    rules(&kernel.shutdown())
}

#[test]
fn what_a_driver_leaves_is_reported() {
    assert_eq!(left(false), []);
    assert_eq!(left(true), [Rule::MdlLeft, Rule::ViewLeft, Rule::ViewLeft]);
}

/// The event behind a handle of user mode, as a driver asks for it.
fn event_of(handle: u64, mode: i8) -> Result<*mut c_void, NTSTATUS> {
    let mut object = null_mut();
    // SAFETY: a variable that points to the type.
    let kind = unsafe { *ExEventObjectType };
    let handle = handle as HANDLE;
    // SAFETY: a variable for the pointer; the handle may be anything.
    let status = unsafe {
        ObReferenceObjectByHandle(
            handle,
            EVENT_MODIFY_STATE,
            kind,
            mode,
            &raw mut object,
            null_mut(),
        )
    };
    result(status, object)
}

#[test]
fn user_mode_has_handles_of_its_own() {
    let kernel = boot();
    let service = kernel.peer(100, 1000);
    let event = UserEvent::new(&service);
    let ask = |handle, mode| service.attach(|| event_of(handle, mode));
    let found = ask(event.handle(), USER).unwrap();
    // A handle of the kernel's is none for user mode, and the other way round that is a mistake of
    // the driver's.
    let kernels = section(4096);
    assert_eq!(ask(kernels as u64, USER), Err(STATUS_INVALID_HANDLE));
    assert_eq!(ask(event.handle(), KERNEL), Err(STATUS_INVALID_HANDLE));
    assert_eq!(
        ask(kernels as u64, KERNEL),
        Err(STATUS_OBJECT_TYPE_MISMATCH)
    );
    close(kernels);
    // SAFETY: a referenced event.
    unsafe { KeSetEvent(found.cast(), 0, false) };
    assert!(event.wait(std::time::Duration::ZERO));
    // SAFETY: referenced above.
    unsafe { ObfDereferenceObject(found) };
    expect(kernel, &[Rule::HandleInvalid]);
}

#[test]
fn a_reference_to_an_event_that_is_left_is_reported() {
    fn leaves(kernel: &Kernel) {
        let service = kernel.peer(100, 1000);
        let event = UserEvent::new(&service);
        let taken = service.attach(|| event_of(event.handle(), USER));
        HELD.lock().unwrap().replace(taken.unwrap() as usize);
    }
    static HELD: Mutex<Option<usize>> = Mutex::new(None);
    unsafe extern "system" fn entry(
        driver: *mut DRIVER_OBJECT,
        _path: *const UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the driver's own object.
        unsafe { (*driver).DriverUnload = Some(unload) };
        let kernel = KERNEL_OF_TEST.lock().unwrap();
        leaves(kernel.as_ref().unwrap());
        STATUS_SUCCESS
    }
    static KERNEL_OF_TEST: Mutex<Option<Kernel>> = Mutex::new(None);
    let kernel = boot();
    KERNEL_OF_TEST.lock().unwrap().replace(kernel.clone());
    let image = DriverImage {
        name: "keeper",
        entry,
        force_integrity: false,
    };
    kernel.load(&image).unwrap();
    kernel.unload("keeper", Unload::Stop).unwrap();
    KERNEL_OF_TEST.lock().unwrap().take();
    assert!(HELD.lock().unwrap().is_some());
    expect(kernel, &[Rule::ReferenceLeft]);
}
