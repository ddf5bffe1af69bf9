// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C headers say what the Rust declarations say: functions, sizes, offsets, constants.
//!
//! The headers are read as text, a C program that prints what a C compiler makes of them is
//! compiled and run, and its output is compared. The compiler is `cc`, which Rust itself needs as
//! its linker.

mod declarations;
mod header;
mod layouts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use declarations::Declarations;
use header::Header;

const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include");

/// Exported, but not through the table: the first takes any number of arguments, and the others
/// are no functions of NT.
const NOT_IN_THE_TABLE: [&str; 5] = [
    "DbgPrintEx",
    "fltport_copy_from_user",
    "fltport_copy_to_user",
    "fltport_probe_and_lock_pages",
    "nt_host_paged_code",
];

/// For the headers alone, therefore not declared in Rust; without arguments.
const FOR_C: [&str; 1] = ["nt_host_paged_code"];

/// Structs that no function of the kernel takes, and the metadata of the bindings lacks.
const ONLY_IN_C: [&str; 1] = ["STRING"];

/// 15 on x64; the metadata of the bindings has the value of x86.
const DIFFERENT: [&str; 1] = ["HIGH_LEVEL"];

fn headers() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(INCLUDE).expect("the folder of the headers");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn read_headers() -> Header {
    let mut all = Header::default();
    for path in headers() {
        all.read(&std::fs::read_to_string(path).expect("a header"));
    }
    all
}

/// Runs the compiler over a source of the caller's.
#[track_caller]
fn compile(name: &str, source: &str, options: &[&str]) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, source).expect("the folder for tests can be written");
    let output = Command::new("cc")
        .args(["-fshort-wchar", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args(["-I", INCLUDE])
        .args(options)
        .arg(&path)
        .output()
        .expect("`cc` starts; install gcc or clang with the headers of the C library");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
}

/// What the compiler makes of the headers: by kind and name, the numbers. Each test names its own
/// program, because they run at the same time.
#[track_caller]
fn measured(test: &str, header: &Header, constants: &BTreeSet<&str>) -> BTreeMap<String, Vec<i64>> {
    let program = format!("{}/headers-{test}", env!("CARGO_TARGET_TMPDIR"));
    let source = header.program(constants);
    let options = ["-std=gnu11", "-Wno-pedantic", "-o", &program];
    compile(&format!("headers-{test}.c"), &source, &options);
    let output = Command::new(&program).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut measured = BTreeMap::new();
    for line in text.lines() {
        let (name, numbers) = line.split_once(" =").expect("a name and numbers");
        let numbers = numbers.split_whitespace();
        let numbers = numbers.map(|number| number.parse().expect("a number"));
        measured.insert(name.to_owned(), numbers.collect());
    }
    measured
}

#[test]
fn each_header_can_be_included_alone_in_c_and_cpp() {
    for path in headers() {
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let source = format!("#include <{name}>\nint main(void) {{ return 0; }}\n");
        for (language, standard) in [("c", "-std=c11"), ("c++", "-std=c++17")] {
            let options = ["-x", language, standard, "-fsyntax-only"];
            compile(&format!("{name}-alone.{language}"), &source, &options);
        }
    }
}

#[test]
fn what_drivers_write_compiles() {
    let source = "\
#include <ntifs.h>
static __forceinline LONG First(LONG Value) { return Value + 1; }
static FORCEINLINE LONG Second(LONG Value) { return First(Value); }
__forceinline LONG Third(LONG Value) { return Value + 1; }
static __inline LONG Fourth(LONG Value) { return Third(Second(Value)); }
int main(void)
{
    PVOID Block = ExAllocatePoolWithTag(NonPagedPoolNx, 16, 'kcoB');
    PVOID Paged = ExAllocatePoolZero(PagedPool, 16, 'kcoB');
    ExFreePoolWithTag(Block, 'kcoB');
    ExFreePool(Paged);
    return Fourth(ExAllocatePoolUninitialized(NonPagedPool, 1, 'kcoB') == NULL);
}
";
    for (language, standard) in [("c", "-std=gnu11"), ("c++", "-std=gnu++17")] {
        let options = ["-x", language, standard, "-fsyntax-only", "-Wno-multichar"];
        compile(&format!("driver.{language}"), source, &options);
    }
}

#[test]
fn every_exported_function_is_declared_and_no_other() {
    let header = read_headers();
    let declared: BTreeSet<&str> = header.functions.keys().map(String::as_str).collect();
    let exported: BTreeSet<&str> = nt_host::entry::exports()
        .map(|export| export.function.name)
        .chain(NOT_IN_THE_TABLE)
        .collect();
    let missing: Vec<&&str> = exported.difference(&declared).collect();
    let unknown: Vec<&&str> = declared.difference(&exported).collect();
    assert!(
        missing.is_empty(),
        "declare in testbed/host/include: {missing:?}"
    );
    assert!(
        unknown.is_empty(),
        "declared, but not exported: {unknown:?}"
    );
}

#[test]
fn arguments_and_results_have_the_same_sizes() {
    let header = read_headers();
    let rust = Declarations::read();
    let measured = measured("functions", &header, &BTreeSet::new());
    for name in header
        .functions
        .keys()
        .filter(|it| !FOR_C.contains(&it.as_str()))
    {
        let expected = rust
            .sizes_of(name)
            .unwrap_or_else(|| panic!("{name} has no declaration"));
        assert_eq!(
            measured[&format!("function {name}")],
            expected,
            "{name}: result, arguments"
        );
    }
}

#[test]
fn structs_have_the_same_layout() {
    let header = read_headers();
    let measured = measured("structs", &header, &BTreeSet::new());
    let rust = layouts::all();
    for (name, fields) in &header.structs {
        if ONLY_IN_C.contains(&name.as_str()) {
            continue;
        }
        let layout = rust
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} in layouts.rs"));
        assert_eq!(
            measured[&format!("struct {name}")],
            [layout.size],
            "the size of {name}"
        );
        for field in fields {
            let known = layout.fields.get(field.as_str());
            let known = known.unwrap_or_else(|| panic!("{name}.{field} in layouts.rs"));
            let actual = &measured[&format!("field {name}.{field}")];
            assert_eq!(actual, known, "{name}.{field}: offset, size");
        }
    }
    let known: BTreeSet<&str> = header.structs.keys().map(String::as_str).collect();
    let gone: Vec<_> = rust.keys().filter(|name| !known.contains(*name)).collect();
    assert!(gone.is_empty(), "no longer in a header: {gone:?}");
}

#[test]
fn constants_have_the_same_values() {
    let header = read_headers();
    let rust = Declarations::read();
    let shared: BTreeSet<&str> = header
        .constants
        .iter()
        .map(String::as_str)
        .filter(|name| rust.constants.contains_key(*name) && !DIFFERENT.contains(name))
        .collect();
    assert!(shared.len() > 120, "only {} were found", shared.len());
    let measured = measured("constants", &header, &shared);
    for name in shared {
        let value = measured[&format!("constant {name}")][0];
        // A status is signed on one side and a pattern of bits on the other.
        assert_eq!(value as u32, rust.constants[name] as u32, "{name}");
    }
}
