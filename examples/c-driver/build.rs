// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the driver twice: as it is, and mended.

fn main() {
    // nt-host says where its headers are.
    let include = std::env::var("DEP_NT_HOST_INCLUDE").expect("nt-host is a dependency");
    let driver = |entry: &str| {
        let mut build = cc::Build::new();
        build
            .file("src/driver.c")
            .include(&include)
            .std("c11")
            .flag("-fshort-wchar")
            // Pool tags are written as 'abcd', and callbacks have more arguments than they need.
            .flag("-Wno-multichar")
            .flag("-Wno-unused-parameter")
            // Two drivers in one program need two names for what the linker sees.
            .define("DriverEntry", entry);
        build
    };
    driver("c_driver_entry").compile("c-driver");
    driver("c_driver_mended_entry")
        .define("MENDED", None)
        .compile("c-driver-mended");
    println!("cargo::rerun-if-changed=src");
}
