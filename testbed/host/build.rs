// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the build scripts of crates that depend on this one where the C headers are, in the
//! variable DEP_NT_HOST_INCLUDE.

fn main() {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo::metadata=include={package}/include");
    println!("cargo::rerun-if-changed=include");
}
