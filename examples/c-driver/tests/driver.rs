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
    guide::compare(guide::TESTING, "report", &reports[0].to_string());
}

#[test]
fn the_mended_driver_leaves_nothing_behind() {
    assert!(refuse_a_service(&c_driver::MENDED).is_empty());
}

#[test]
fn the_guide_to_testing_shows_the_examples_as_they_are() {
    let compare = |name, actual| guide::compare(guide::TESTING, name, actual);
    compare("driver", include_str!("../src/driver.c"));
    compare("user-memory", include_str!("../src/user_memory.h"));
    compare("build", include_str!("../build.rs"));
    compare("rust-driver", include_str!("../../rust-driver/src/lib.rs"));
    compare(
        "rust-test",
        include_str!("../../rust-driver/tests/driver.rs"),
    );
    let test = include_str!("driver.rs");
    let shown = test
        .split("#[test]")
        .next()
        .and_then(|it| it.split_once("/// A kernel with"));
    let (_, shown) = shown.expect("the helpers stand before the first test");
    compare("c-test", &format!("/// A kernel with{shown}"));
}

/// How the client driver of the examples is built without xtask.
const CLIENT_BUILD: &str = include_str!("../../client-driver/build.sh");

#[test]
fn the_guide_to_writing_shows_the_example_as_it_is() {
    let compare = |name, actual| guide::compare(guide::WRITING, name, actual);
    compare(
        "client-messages",
        include_str!("../../client-driver/src/messages.rs"),
    );
    compare(
        "client-driver",
        include_str!("../../client-driver/src/lib.rs"),
    );
    compare(
        "client-entry",
        include_str!("../../client-driver/src/entry.rs"),
    );
    compare(
        "client-test",
        include_str!("../../client-driver/tests/driver.rs"),
    );
    compare("client-build", CLIENT_BUILD);
}

/// The script for others says what `cargo xtask windows` says to compiler and linker.
#[test]
fn others_build_their_drivers_as_this_project_builds_its_own() {
    let linker = include_str!("../../../xtask/src/windows/linker.rs");
    let toolchain = include_str!("../../../xtask/src/windows/toolchain.rs");
    let build = include_str!("../../../xtask/src/windows/build.rs");
    let mut options = 0;
    for text in [linker, toolchain, build] {
        let quoted = text.split('"').skip(1).step_by(2);
        for option in quoted.filter(|option| is_option(option)) {
            options += 1;
            assert!(CLIENT_BUILD.contains(option), "build.sh has no {option}");
        }
    }
    assert!(options > 20, "{options} options were found");
}

/// What every driver is compiled and linked with; exports are for those that have some, and what
/// names this project is for this project.
fn is_option(quoted: &str) -> bool {
    let kernel_profile = quoted.starts_with("profile.release.") && !quoted.contains("strip");
    let linker = quoted.starts_with('/') && quoted[1..].starts_with(|c: char| c.is_uppercase());
    let compiler = quoted.starts_with("-Zbuild-std=core")
        || quoted.starts_with("-Zbuild-std-features")
        || quoted.starts_with("-Ccontrol");
    let of_some = ["/EXPORT:", "/IMPLIB:", "/MAP:", "/PDBSOURCEPATH:"]
        .iter()
        .any(|name| quoted.starts_with(name));
    kernel_profile || compiler || linker && !of_some
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
