// SPDX-License-Identifier: MIT OR Apache-2.0
//! `include/fltport.h` says what this crate says: every size, offset and constant that crosses, the
//! bytes of a schema and its hash, the bytes of messages.
//!
//! The program in C that compares is made here and compiled by each compiler that there is. `cc` has
//! to be there, as Rust itself needs it as its linker.

mod compiler;
mod contract;
mod written;

use compiler::{COMPILERS, Compiler};

#[test]
fn sizes_offsets_and_constants_are_the_same_for_every_compiler() {
    let program = contract::program();
    assert!(program.matches("FLTPORT_ASSERT").count() > 150, "{program}");
    for compiler in present() {
        compiler.check("layout", &program);
    }
}

#[test]
fn it_can_be_included_alone_and_behind_the_headers_of_nt() {
    let alone = "#include <fltport.h>\nint main(void) { return FLTPORT_VERSION - 1; }\n";
    for compiler in present() {
        compiler.check("alone", alone);
        compiler.check("behind", &format!("#include <ntddk.h>\n{alone}"));
        compiler.check("import", &format!("#define FLTPORT_IMPORT\n{alone}"));
    }
}

#[test]
fn the_stub_compiles_without_a_warning() {
    for compiler in present() {
        compiler.check("stub", include_str!("../../../../include/fltport.c"));
    }
}

/// The blocks of the guide's chapter, one behind the other, are a part of a driver.
#[test]
fn what_the_guide_shows_compiles() {
    let guide = include_str!("../../../../docs/writing-a-driver.md");
    let (_, chapter) = guide.split_once("\n## In C and C++\n").expect("a chapter");
    let blocks: Vec<&str> = chapter
        .split("```c\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 4, "{blocks:?}");
    let program = format!(
        "#include <ntddk.h>\n#include <fltport.h>\n{}",
        blocks.concat()
    );
    for compiler in present() {
        compiler.check("guide", &program);
    }
}

#[test]
fn a_wrong_size_does_not_compile() {
    let program = contract::program().replacen("sizeof(FLTPORT_REQUEST) == ", "1 + 1 == ", 1);
    let refused = COMPILERS[0].output("wrong", &program);
    assert!(!refused.status.success());
}

#[test]
fn a_field_that_needs_padding_does_not_compile() {
    let program = "#include <fltport.h>\n#define F(FIELD, TYPED) FIELD(U32, a) FIELD(U64, b)\n\
                   FLTPORT_MESSAGE(PADDED, F)\n";
    let refused = COMPILERS[0].output("padded", program);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && errors.contains("PADDED_NeedsNoPadding"),
        "{errors}"
    );
}

#[test]
fn a_definition_in_c_is_the_one_in_rust() {
    let output = COMPILERS[0].run("written", include_str!("written.c"));
    let blobs: Vec<&[u8]> = compiler::blobs(&output).collect();
    let expected = written::expected();
    assert_eq!(blobs.len(), expected.len());
    for (blob, (what, bytes)) in blobs.into_iter().zip(&expected) {
        assert_eq!(blob, bytes, "{what}");
    }
}

/// Those that are installed; the others are named.
fn present() -> impl Iterator<Item = &'static Compiler> {
    COMPILERS.iter().filter(|compiler| compiler.is_present())
}
