// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles a driver with the frozen header and stub of revision 1.0, and one with today's.

fn main() {
    // nt-host says where its headers are.
    let include = std::env::var("DEP_NT_HOST_INCLUDE").expect("nt-host is a dependency");
    let driver = |sources: [&str; 2], header: &str, entry: &str| {
        let mut build = cc::Build::new();
        build
            .files(sources)
            .include(header)
            .include(&include)
            .std("c11")
            .flag("-fshort-wchar")
            .flag("-Wno-multichar")
            .flag("-Wno-unused-parameter")
            .define("DriverEntry", entry);
        build
    };
    let mut old = driver(
        ["../../examples/hello-c/hello.c", "1.0/fltport.c"],
        "1.0",
        "old_client_entry",
    );
    // Two stubs in one program need two names for each function.
    for function in [
        "FltPortRegister",
        "FltPortUnregister",
        "FltPortNotify",
        "FltPortNotifyEx",
        "FltPortLost",
        "FltPortRequest",
        "FltPortIsListening",
    ] {
        old.define(function, format!("{function}_1_0").as_str());
    }
    // What hello.c does not use is a function of the frozen stub still.
    old.flag("-Wno-unused-function").compile("old-client");
    let today = ["client.c", "../../include/fltport.c"];
    driver(today, "../../include", "new_client_entry").compile("new-client");
    for path in ["1.0", "client.c", "../../include", "../../examples/hello-c"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
