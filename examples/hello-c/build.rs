// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the driver and the stub for the hosted kernel.

fn main() {
    // nt-host says where its headers are.
    let include = std::env::var("DEP_NT_HOST_INCLUDE").expect("nt-host is a dependency");
    cc::Build::new()
        .files(["hello.c", "../../include/fltport.c"])
        .include("../../include")
        .include(include)
        .std("c11")
        .flag("-fshort-wchar")
        // Pool tags are written as 'abcd', and callbacks have more arguments than they need.
        .flag("-Wno-multichar")
        .flag("-Wno-unused-parameter")
        .define("DriverEntry", "hello_c_entry")
        .compile("hello-c");
    println!("cargo::rerun-if-changed=hello.c");
    println!("cargo::rerun-if-changed=../../include");
}
