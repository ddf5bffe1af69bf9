// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltRegisterFilter and what it reads and changes.

use std::sync::Arc;

use parking_lot::Mutex;

use super::driver::*;
use crate::abi::{DRIVER_OBJECT, FLT_REGISTRATION};
use crate::registry::Value;
use crate::{FilterManagerStart, Unload};

#[test]
fn registering_before_the_filter_manager_is_up_fails() {
    let kernel = boot_with(FilterManagerStart::Late);
    assert_eq!(load(&kernel, Hooks::default()), Err(nt(0xC01C_0007)));
    kernel.filter_manager_ready();
    load(&kernel, Hooks::default()).unwrap();
    finish(kernel);
}

#[test]
fn the_instance_is_read_from_either_layout() {
    for root in ["Instances", "Parameters\\Instances"] {
        let kernel = boot();
        let instance = format!("{INSTANCES}\\Main");
        kernel.registry().open(&instance).unwrap().delete().unwrap();
        kernel.registry().open(INSTANCES).unwrap().delete().unwrap();
        assert_eq!(
            load(&kernel, Hooks::default()),
            Err(nt(0xC000_0034)),
            "no instance"
        );
        write_instances(&kernel, &INSTANCES.replace("Instances", root));
        load(&kernel, Hooks::default()).unwrap();
        finish(kernel);
    }
}

#[test]
fn an_incomplete_instance_does_not_register() {
    let kernel = boot();
    let registry = kernel.registry();
    registry
        .set_value(INSTANCES, "DefaultInstance", Value::string("Other"))
        .unwrap();
    assert_eq!(
        load(&kernel, Hooks::default()),
        Err(nt(0xC000_0034)),
        "no such subkey"
    );
    registry
        .set_value(INSTANCES, "DefaultInstance", Value::dword(1))
        .unwrap();
    assert_eq!(
        load(&kernel, Hooks::default()),
        Err(nt(0xC000_000D)),
        "not a string"
    );
    registry
        .set_value(INSTANCES, "DefaultInstance", Value::string("Main"))
        .unwrap();
    let instance = format!("{INSTANCES}\\Main");
    registry
        .set_value(&instance, "Altitude", Value::dword(365_000))
        .unwrap();
    assert_eq!(
        load(&kernel, Hooks::default()),
        Err(nt(0xC000_000D)),
        "not a string"
    );
    kernel.shutdown_clean();
}

#[test]
fn an_older_and_shorter_registration_is_read_only_as_far_as_it_goes() {
    let entry = Arc::new(|object| {
        let mut registration = full_registration();
        (registration.Size, registration.Version) = (0x58, 0x0200);
        let mut bytes = vec![0_u64; 0x58 / 8];
        let from = (&raw const registration).cast::<u64>();
        // SAFETY: the structure is longer than the copy.
        unsafe { bytes.as_mut_ptr().copy_from(from, bytes.len()) };
        // SAFETY: FltRegisterFilter reads no more than `Size` says.
        let short = unsafe { &*bytes.as_ptr().cast::<[u8; 0x58]>() };
        register_bytes(object, short)
    });
    let kernel = with_driver(Hooks {
        entry,
        unload: Arc::new(|_| {
            unregister();
            OK
        }),
        ..Hooks::default()
    });
    finish(kernel);
}

fn register_bytes(object: *mut DRIVER_OBJECT, registration: &[u8; 0x58]) -> i32 {
    let at = registration.as_ptr().cast::<FLT_REGISTRATION>();
    let mut filter = 0;
    // SAFETY: a driver object, a registration that says its size, memory for the result.
    let status = unsafe { crate::abi::FltRegisterFilter(object, at, &raw mut filter) };
    set_filter(filter);
    status
}

#[test]
fn a_filter_that_declines_its_instance_is_not_attached() {
    let kernel = with_driver(Hooks::default());
    assert!(!crate::flt::attached(SERVICE));
    finish(kernel);
}

#[test]
fn a_filter_without_setup_callback_is_attached_everywhere() {
    let entry = Arc::new(|object| {
        let plain = FLT_REGISTRATION {
            InstanceSetupCallback: None,
            ..full_registration()
        };
        register_and_listen(object, &plain)
    });
    let kernel = with_driver(Hooks {
        entry,
        ..Hooks::default()
    });
    assert!(crate::flt::attached(SERVICE));
    finish(kernel);
}

#[test]
fn the_setup_callback_runs_inside_start_filtering() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let setup = Arc::new(move |flags| {
        log.lock().push(flags);
        OK
    });
    let kernel = with_driver(Hooks {
        setup,
        ..Hooks::default()
    });
    assert_eq!(*seen.lock(), [1], "automatic attachment");
    assert!(crate::flt::attached(SERVICE));
    finish(kernel);
}

#[test]
fn a_failed_driver_entry_that_cleans_up_leaves_nothing() {
    let entry = Arc::new(|object| {
        let status = register_and_listen(object, &full_registration());
        assert_eq!(status, OK);
        tear_down();
        nt(0xC000_009A)
    });
    let kernel = boot();
    assert_eq!(
        load(
            &kernel,
            Hooks {
                entry,
                ..Hooks::default()
            }
        ),
        Err(nt(0xC000_009A))
    );
    assert_eq!(kernel.unload(SERVICE, Unload::Stop), Err(nt(0xC000_0034)));
    kernel.shutdown_clean();
}
