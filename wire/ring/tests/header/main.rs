// SPDX-License-Identifier: MIT OR Apache-2.0
//! `include/fltport_service.h` says what this crate and `fltport-abi` say: every size, offset and constant that a service
//! in C needs.

#[allow(dead_code, reason = "a header is not run")]
#[path = "../../../abi/tests/header/compiler.rs"]
mod compiler;
mod contract;

use compiler::{COMPILERS, Compiler};

#[test]
fn sizes_offsets_and_constants_are_the_same_for_every_compiler() {
    let program = contract::program();
    assert!(program.matches("SAME(").count() > 250, "{program}");
    for compiler in present() {
        compiler.check("service-layout", &program);
    }
}

#[test]
fn it_can_be_included_alone_and_beside_the_one_for_drivers() {
    let service = "#include <fltport_service.h>\n";
    let driver = "#include <fltport.h>\n";
    let end = "int main(void) { return FLTPORT_PROTOCOL_VERSION - 2; }\n";
    for compiler in present() {
        compiler.check("service-alone", &format!("{service}{end}"));
        compiler.check("service-before", &format!("{service}{driver}{end}"));
        compiler.check("service-behind", &format!("{driver}{service}{end}"));
    }
}

#[test]
fn a_wrong_offset_does_not_compile() {
    let line = "SAME(offsetof(FLTPORT_RECORD_HEADER, Sequence), 0x8)";
    let program = contract::program();
    assert!(program.contains(line), "{program}");
    let wrong = program.replace(line, "SAME(offsetof(FLTPORT_RECORD_HEADER, Sequence), 0x9)");
    let refused = COMPILERS[0].output("service-wrong", &wrong);
    assert!(!refused.status.success());
}

/// Those that are installed; the others are named.
fn present() -> impl Iterator<Item = &'static Compiler> {
    COMPILERS.iter().filter(|compiler| compiler.is_present())
}
