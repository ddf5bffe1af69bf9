// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the driver for the hosted kernel.

fn main() {
    // nt-host says where its headers are.
    let include = std::env::var("DEP_NT_HOST_INCLUDE").expect("nt-host is a dependency");
    cc::Build::new()
        .cpp(true)
        .file("hello.cpp")
        .include("../../include")
        .include(include)
        .std("c++17")
        .flag("-fshort-wchar")
        .flags(["-fno-exceptions", "-fno-rtti"])
        .cpp_link_stdlib(None)
        // Pool tags are written as 'abcd', and callbacks have more arguments than they need.
        .flag("-Wno-multichar")
        .flag("-Wno-unused-parameter")
        .define("DriverEntry", "hello_cpp_entry")
        .compile("hello-cpp");
    println!("cargo::rerun-if-changed=hello.cpp");
    println!("cargo::rerun-if-changed=../../include");
}
