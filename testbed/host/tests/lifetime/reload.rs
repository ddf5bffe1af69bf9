// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver that is loaded again after its unload begins anew, whatever it left behind.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use fltport_nt::bindings::*;
use nt_host::Rule;

use crate::driver::*;
use crate::filter;
use crate::left::set_timer;
use crate::notify::{self, CALLS, KINDS, Kind};

unsafe extern "system" fn rings(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {}

#[test]
fn a_driver_loaded_again_is_clean_and_its_routines_are_called() {
    static HANDLE: AtomicUsize = AtomicUsize::new(0);
    static OBJECT: AtomicUsize = AtomicUsize::new(0);
    let register = |_: *mut DRIVER_OBJECT| {
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::ThreadEx) {
            assert_eq!(kind.add(), STATUS_SUCCESS, "{kind:?}");
        }
        let (object, handle) = notify::register_callback("\\Callback\\Again");
        OBJECT.store(object as usize, Ordering::SeqCst);
        HANDLE.store(handle as usize, Ordering::SeqCst);
    };
    let kernel = boot();
    let messy = move |object| {
        register(object);
        set_timer(rings, -600_000_000);
        // SAFETY: the driver's own object.
        unsafe { IoAllocateWorkItem(object.cast()) };
    };
    load(&kernel, messy, |_| {});
    unload_it(&kernel);
    let left = kernel.reports().len();
    assert_eq!(
        left, 9,
        "5 notify routines, callback, its object, timer, work item"
    );

    load(&kernel, register, |_| {
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::ThreadEx) {
            assert_eq!(kind.remove(), STATUS_SUCCESS, "{kind:?}");
        }
        notify::unregister_callback(HANDLE.load(Ordering::SeqCst) as *mut _);
        dereference(OBJECT.load(Ordering::SeqCst) as *const _);
    });
    CALLS.store(0, Ordering::SeqCst);
    notify::events(&kernel, 100);
    notify::notify_callback(OBJECT.load(Ordering::SeqCst) as PCALLBACK_OBJECT);
    assert_eq!(CALLS.load(Ordering::SeqCst), 6, "those of the second load");
    unload_it(&kernel);
    let reports = kernel.shutdown();
    let later: Vec<Rule> = reports[left..].iter().map(|report| report.rule).collect();
    assert_eq!(
        later,
        [Rule::CallIntoUnloadedDriver; 6],
        "those of the first load"
    );
}

#[test]
fn a_filter_loaded_again_registers_and_listens_although_the_first_was_left() {
    let kernel = filter::boot();
    filter::set_callbacks(filter::Callbacks::default());
    load(&kernel, filter::begin, |_| {});
    unload_it(&kernel);
    let left = [Rule::FilterLeft, Rule::PortLeft];
    assert_broken(&kernel.reports(), &left);
    load(&kernel, filter::begin, filter::end);
    let service = filter::connect_service(&kernel);
    filter::command(&kernel, &service);
    service.close();
    unload_it(&kernel);
    assert_broken(&kernel.shutdown(), &left);
}

unsafe extern "system" fn later(_: *const DRIVER_OBJECT, _: *const c_void, _: u32) {
    unreachable!("its DriverEntry failed");
}

#[test]
fn a_failed_entry_must_not_have_registered_for_reinitialisation() {
    let kernel = boot();
    load_failing(&kernel, |object| {
        // SAFETY: the driver's own object, in its entry point.
        unsafe { IoRegisterDriverReinitialization(object, Some(later), std::ptr::null()) };
        // SAFETY: as above.
        unsafe { IoRegisterBootDriverReinitialization(object, Some(later), std::ptr::null()) };
    });
    load_failing(&kernel, |_| {});
    kernel.boot_drivers_initialized();
    let reports = kernel.shutdown();
    assert_broken(&reports, &[Rule::ReinitializeMisuse; 2]);
    assert_eq!(reports[0].function, "IoRegisterDriverReinitialization");
    assert_eq!(reports[1].function, "IoRegisterBootDriverReinitialization");
}
