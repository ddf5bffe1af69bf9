// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in Rust on the hosted kernel.

use nt_host::status::{STATUS_ACCESS_DENIED, STATUS_SUCCESS};
use nt_host::{Config, DriverImage, Kernel, ProcessCreated, Unload};

const DRIVER: DriverImage = DriverImage {
    name: rust_driver::IMAGE_NAME,
    entry: rust_driver::driver_entry,
    force_integrity: true,
};

fn start(kernel: &Kernel, pid: u64, image: &str) -> i32 {
    kernel.process_created(&ProcessCreated {
        pid,
        creator_pid: 4,
        image: Some(image.encode_utf16().collect()),
        ..Default::default()
    })
}

#[test]
fn a_miner_is_refused_and_nobody_else() {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&DRIVER).expect("DriverEntry succeeds");
    assert_eq!(
        start(&kernel, 100, r"\??\C:\tools\editor.exe"),
        STATUS_SUCCESS
    );
    assert_eq!(
        start(&kernel, 101, r"\??\C:\temp\miner.exe"),
        STATUS_ACCESS_DENIED
    );
    kernel.process_exited(100, 0);
    assert_eq!(rust_driver::refusals(), 1);
    kernel
        .unload(DRIVER.name, Unload::Stop)
        .expect("it can be stopped");
    kernel.shutdown_clean();
}

#[test]
fn an_image_without_integrity_check_may_not_watch_processes() {
    let kernel = Kernel::boot(Config::default());
    let image = DriverImage {
        force_integrity: false,
        ..DRIVER
    };
    assert_eq!(kernel.load(&image), Err(STATUS_ACCESS_DENIED));
    kernel.shutdown_clean();
}
