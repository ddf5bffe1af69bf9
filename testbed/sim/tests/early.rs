// SPDX-License-Identifier: MIT OR Apache-2.0
//! The common driver is unloaded while it registers with the Filter Manager, whose calls fail.

use nt_host::clock::SECOND;
use nt_host::faults::FaultPlan;
use nt_host::sched::{self, Waiter};
use nt_host::{Config, DriverImage, FilterManagerStart, Kernel, Unload, sim};

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

/// The driver asks the Filter Manager when the boot drivers are up, and every second after a
/// failure; it is stopped at one of these moments.
fn stopped_early(seed: u64, fails: FaultPlan) {
    let kernel = Kernel::boot(Config {
        filter_manager: FilterManagerStart::Late,
        ..Config::default()
    });
    kernel.load(&FLTPORT).expect("is loaded");
    kernel.set_faults(fails);
    kernel.filter_manager_ready();
    kernel.boot_drivers_initialized();
    match seed % 3 {
        0 => {}
        seconds => drop(sched::expect(&Waiter::new(), seconds * SECOND)),
    }
    kernel
        .unload(FLTPORT.name, Unload::Stop)
        .expect("nothing refuses a stop");
    kernel.shutdown_clean();
}

/// A filter that the driver unregisters at a moment of its own choice is one whose unload the
/// Filter Manager may be asked for at the same moment.
#[test]
fn an_unload_during_the_registration_leaves_nothing() {
    let functions = [
        "FltRegisterFilter",
        "FltCreateCommunicationPort",
        "FltStartFiltering",
        "ExAllocatePool2",
    ];
    for function in functions {
        let outcome = sim::explore(0..500, move |seed| {
            stopped_early(seed, FaultPlan::random(seed, 2).of(function));
        });
        if let Err(failure) = outcome {
            panic!("{function}: {failure}");
        }
    }
}
