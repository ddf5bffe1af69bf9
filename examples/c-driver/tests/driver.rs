// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in C meets a service that it refuses, and one that it serves.

mod guide;

use std::sync::Arc;

use nt_host::flt::UserPort;
use nt_host::registry::Value;
use nt_host::status::{STATUS_ACCESS_VIOLATION, STATUS_SUCCESS};
use nt_host::{Config, DebugPrint, DriverImage, Kernel, Report, Rule, Unload, UserSlice};
use parking_lot::Mutex;

const STATUS_REVISION_MISMATCH: i32 = 0xC000_0059_u32 as i32;

/// A kernel with the driver in it. FltRegisterFilter asks for an instance with an altitude, which
/// an INF writes on Windows.
fn machine(driver: &DriverImage, config: Config) -> Kernel {
    let kernel = Kernel::boot(config);
    let instances = format!(
        r"\Registry\Machine\System\CurrentControlSet\Services\{}\Instances",
        driver.name
    );
    let instance = format!(r"{instances}\Default");
    let set = |key: &str, name: &str, value| {
        kernel.registry().create_path(key);
        kernel
            .registry()
            .set_value(key, name, value)
            .expect("a key that is there");
    };
    set(&instances, "DefaultInstance", Value::string("Default"));
    set(&instance, "Altitude", Value::string("370000"));
    set(&instance, "Flags", Value::dword(0));
    kernel.load(driver).expect("DriverEntry succeeds");
    kernel
}

/// A service of another version connects and is refused; then the driver is stopped.
fn refuse_a_service(driver: &DriverImage) -> Vec<Report> {
    let kernel = machine(driver, Config::default());
    let service = kernel.process(4).expect("System");
    let name: Vec<u16> = r"\CDriver".encode_utf16().collect();
    let refused = UserPort::connect(&service, &name, &2_u32.to_le_bytes());
    assert_eq!(refused.unwrap_err(), STATUS_REVISION_MISMATCH);
    kernel
        .unload(driver.name, Unload::Stop)
        .expect("it can be stopped");
    kernel.shutdown()
}

#[test]
fn what_a_refused_service_left_behind_is_reported_as_the_guide_shows() {
    let reports = refuse_a_service(&c_driver::DRIVER);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].rule, Rule::PoolLeak);
    assert_eq!(reports[0].driver.as_deref(), Some("cdriver"));
    guide::compare("report", &reports[0].to_string());
}

#[test]
fn the_mended_driver_leaves_nothing_behind() {
    assert!(refuse_a_service(&c_driver::MENDED).is_empty());
}

#[test]
fn the_guide_shows_the_examples_as_they_are() {
    guide::compare("driver", include_str!("../src/driver.c"));
    guide::compare("user-memory", include_str!("../src/user_memory.h"));
    guide::compare("build", include_str!("../build.rs"));
    guide::compare("rust-driver", include_str!("../../rust-driver/src/lib.rs"));
    guide::compare(
        "rust-test",
        include_str!("../../rust-driver/tests/driver.rs"),
    );
    let test = include_str!("driver.rs");
    let shown = test
        .split("#[test]")
        .next()
        .and_then(|it| it.split_once("/// A kernel with"));
    let (_, shown) = shown.expect("the helpers stand before the first test");
    guide::compare("c-test", &format!("/// A kernel with{shown}"));
}

#[test]
fn numbers_are_summed_up_and_a_bad_address_is_refused() {
    let printed = Arc::new(Mutex::new(String::new()));
    let sink = printed.clone();
    let debug_print = DebugPrint::Sink(Arc::new(move |line| sink.lock().push_str(line)));
    let config = Config {
        debug_print,
        ..Config::default()
    };
    let kernel = machine(&c_driver::MENDED, config);
    let service = kernel.process(4).expect("System");
    let name: Vec<u16> = r"\CDriver".encode_utf16().collect();
    let port = UserPort::connect(&service, &name, &1_u32.to_le_bytes()).expect("is accepted");
    let number = 21_i32;
    let here = UserSlice {
        address: (&raw const number).addr() as u64,
        length: 4,
    };
    for _ in 0..2 {
        assert_eq!(
            port.send(&service, here, UserSlice::default()),
            (STATUS_SUCCESS, 0)
        );
    }
    let nowhere = UserSlice {
        address: 0x1000,
        length: 4,
    };
    assert_eq!(
        port.send(&service, nowhere, UserSlice::default()),
        (STATUS_ACCESS_VIOLATION, 0)
    );
    port.close();
    kernel.shutdown_clean();
    assert!(printed.lock().ends_with("sum 42\n"), "{}", printed.lock());
}
