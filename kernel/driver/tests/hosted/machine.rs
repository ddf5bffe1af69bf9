// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hosted kernel with the drivers in it.

use nt_host::{Config, DriverImage, FilterManagerStart, Kernel, ProcessCreated, Unload};

/// The common driver's image.
pub(crate) const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

/// The process monitor's image.
pub(crate) const MONITOR: DriverImage = DriverImage {
    name: process_monitor::IMAGE_NAME,
    entry: process_monitor::driver_entry,
    force_integrity: true,
};

/// A machine. Its end checks that NT's rules were kept.
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
}

impl Machine {
    /// A machine without drivers.
    pub(crate) fn bare() -> Self {
        Machine {
            kernel: Kernel::boot(Config::default()),
        }
    }

    /// A machine whose Filter Manager is not up yet.
    pub(crate) fn without_filter_manager() -> Self {
        let filter_manager = FilterManagerStart::Late;
        Machine {
            kernel: Kernel::boot(Config {
                filter_manager,
                ..Config::default()
            }),
        }
    }

    /// A machine with both drivers.
    pub(crate) fn new() -> Self {
        let machine = Machine::bare();
        machine.load(&FLTPORT);
        machine.load(&MONITOR);
        machine
    }

    pub(crate) fn load(&self, image: &DriverImage) {
        self.kernel
            .load(image)
            .unwrap_or_else(|status| panic!("{}: {status:#010x}", image.name));
    }

    /// Stops a driver as the service control manager does.
    pub(crate) fn stop(&self, image: &DriverImage) {
        self.kernel
            .unload(image.name, Unload::Stop)
            .unwrap_or_else(|status| panic!("{}: {status:#010x}", image.name));
    }

    /// A process of this image is created by process 1000; the status that a driver gave the
    /// creation.
    pub(crate) fn start_process(&self, pid: u64, image: &str) -> i32 {
        self.start_process_by(1000, pid, image)
    }

    pub(crate) fn start_process_by(&self, creator: u64, pid: u64, image: &str) -> i32 {
        self.kernel.process_created(&ProcessCreated {
            pid,
            parent_pid: creator,
            creator_pid: creator,
            creator_tid: creator,
            image: Some(image.encode_utf16().collect()),
            command_line: Some(format!("{image} --now").encode_utf16().collect()),
            uid: Some(0),
        })
    }

    pub(crate) fn end_process(&self, pid: u64, exit_status: i32) {
        self.kernel.process_exited(pid, exit_status);
    }

    /// Ends the machine; panics with what was broken, if anything was.
    pub(crate) fn check(self) {
        self.kernel.shutdown_clean();
    }
}
