#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds NAME.sys of the crate NAME in this folder, without the Windows Driver Kit. Needs rustup's
# rust-src, and mingw-w64's windres for the version resource.
set -eu
name=client-driver
cd "$(dirname "$0")"
mkdir -p target/sys

# The driver as a static library, with core and alloc compiled for the kernel. One unit and link-time
# optimisation, so that what cannot be reached is removed, panics first of all.
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Ccontrol-flow-guard cargo rustc --release --lib \
    --crate-type staticlib --target x86_64-pc-windows-msvc --target-dir target \
    -Zbuild-std=core,alloc,compiler_builtins -Zbuild-std-features=compiler-builtins-mem \
    --config "profile.release.panic='abort'" --config "profile.release.lto='fat'" \
    --config profile.release.codegen-units=1 --config "profile.release.opt-level='s'" \
    --config "profile.release.debug='line-tables-only'"
library=target/x86_64-pc-windows-msvc/release/$(echo $name | tr - _).lib

# rust-lld comes with Rust. lld-link and Microsoft's link.exe take the same options.
host=$(rustc -vV | sed -n 's/^host: //p')
lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld

# What the compiler itself calls, and ntoskrnl.exe has.
printf 'LIBRARY ntoskrnl.exe\nEXPORTS\n__C_specific_handler\n__chkstk\n' > target/sys/runtime.def
"$lld" -flavor link /lib /nologo /machine:x64 \
    /def:target/sys/runtime.def /out:target/sys/runtime.lib

x86_64-w64-mingw32-windres -O res version.rc target/sys/version.res

# /INTEGRITYCHECK is for drivers with process notify routines; others leave it out.
"$lld" -flavor link /NOLOGO /MACHINE:X64 /DRIVER /SUBSYSTEM:NATIVE,10.00 /ENTRY:DriverEntry \
    /NODEFAULTLIB /FIXED:NO /TSAWARE:NO /OPT:REF,ICF \
    /GUARD:CF /MERGE:.00cfg=.rdata /SECTION:INIT,ERD /INTEGRITYCHECK \
    /RELEASE /BREPRO /DEBUG "/PDB:target/sys/$name.pdb" "/PDBALTPATH:$name.pdb" \
    "/PDBSOURCEPATH:$name" \
    /ALTERNATENAME:_fltused=__ImageBase \
    "/OUT:target/sys/$name.sys" $library target/sys/runtime.lib target/sys/version.res
echo "$PWD/target/sys/$name.sys"
