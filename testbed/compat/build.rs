// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles a driver with the frozen header and stub of revision 1.0, one with today's, and one that calls
//! today's functions one by one: with the stub, and importing.

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
    contract(
        driver(
            ["contract.c", "../../include/fltport.c"],
            "../../include",
            "stub_entry",
        ),
        "stub",
    );
    let mut import = driver(
        ["contract.c", "../../include/fltport.c"],
        "../../include",
        "import_entry",
    );
    import.define("FLTPORT_IMPORT", None);
    contract(import, "import");
    for path in [
        "1.0",
        "client.c",
        "contract.c",
        "../../include",
        "../../examples/hello-c",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// Compiles `contract.c`, whose functions have this in front of their names: there are two of each.
fn contract(mut build: cc::Build, way: &str) {
    for function in [
        "notify",
        "notify_ex",
        "notify_nothing",
        "lost",
        "listening",
        "listening_without",
        "in_place",
        "book",
        "notify_booked",
        "unbook",
        "statistics",
        "ask",
        "ask_later",
        "completed",
        "report_with",
        "add",
        "add_nothing",
        "live",
    ] {
        let name = format!("contract_{function}");
        build.define(&name, format!("{way}_{function}").as_str());
    }
    build.compile(&format!("contract-{way}"));
}
