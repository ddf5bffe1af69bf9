// SPDX-License-Identifier: MIT OR Apache-2.0
//! C and C++ compilers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A compiler for one language.
pub(crate) struct Compiler {
    program: &'static str,
    /// As `-x` takes it, and as files are named.
    language: &'static str,
    standard: &'static str,
    /// Compiles for Windows: 16-bit wchar_t is its own.
    windows: bool,
}

const fn compiler(
    program: &'static str,
    language: &'static str,
    standard: &'static str,
    windows: bool,
) -> Compiler {
    Compiler {
        program,
        language,
        standard,
        windows,
    }
}

/// The first is there wherever Rust can link.
pub(crate) const COMPILERS: [Compiler; 10] = [
    compiler("cc", "c", "-std=c11", false),
    compiler("cc", "c", "-std=gnu99", false),
    compiler("cc", "c", "-std=gnu89", false),
    compiler("c++", "c++", "-std=c++11", false),
    compiler("clang", "c", "-std=c17", false),
    compiler("clang", "c", "-std=gnu89", false),
    compiler("clang++", "c++", "-std=c++20", false),
    compiler("x86_64-w64-mingw32-gcc", "c", "-std=c11", true),
    compiler("x86_64-w64-mingw32-gcc", "c", "-std=gnu89", true),
    compiler("x86_64-w64-mingw32-g++", "c++", "-std=c++17", true),
];

impl Compiler {
    /// Whether it is installed; says so if it is not.
    pub(crate) fn is_present(&self) -> bool {
        let answers = Command::new(self.program).arg("--version").output();
        let is_present = answers.is_ok_and(|output| output.status.success());
        if !is_present {
            assert_ne!(self.program, "cc", "install gcc or clang");
            // Past the test harness, which shows nothing of a test that passes.
            let line = format!(
                "SKIPPED header by {} {}: it is not installed\n",
                self.program, self.standard
            );
            let _told = std::io::stdout().write_all(line.as_bytes());
        }
        is_present
    }

    fn command(&self, test: &str, source: &str) -> (Command, PathBuf) {
        let Compiler {
            program,
            language,
            standard,
            ..
        } = self;
        let name = format!("{test}-{program}{standard}");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join(format!("{name}.source"));
        std::fs::write(&path, source).expect("the folder for tests can be written");
        let mut command = Command::new(program);
        command
            .args([standard, "-Wall", "-Wextra", "-Werror", "-O2"])
            // As drivers for the hosted kernel and for Windows are compiled.
            .arg(format!("-I{ROOT}/include"))
            .args(["-isystem", &format!("{ROOT}/testbed/host/include")])
            .args(["-x", language])
            .arg(&path);
        if !self.windows {
            command.arg("-fshort-wchar");
        }
        (command, folder.join(name))
    }

    /// What the compiler says of it.
    pub(crate) fn output(&self, test: &str, source: &str) -> Output {
        let (mut command, object) = self.command(test, source);
        command.arg("-c").arg("-o").arg(object.with_extension("o"));
        command.output().expect("a compiler that is present starts")
    }

    /// Compiles it; a warning is an error.
    #[track_caller]
    pub(crate) fn check(&self, test: &str, source: &str) {
        let output = self.output(test, source);
        let errors = String::from_utf8_lossy(&output.stderr);
        let Compiler {
            program, standard, ..
        } = self;
        assert!(
            output.status.success(),
            "{test}: {program} {standard}: {errors}"
        );
    }

    /// Compiles and runs it; what it writes.
    #[track_caller]
    pub(crate) fn run(&self, test: &str, source: &str) -> Vec<u8> {
        let (mut command, program) = self.command(test, source);
        let output = command.arg("-o").arg(&program).output().expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{test}: {errors}");
        let output = Command::new(&program).output().expect("it runs");
        assert!(output.status.success(), "{test}: {:?}", output.status);
        output.stdout
    }
}

/// What a program wrote as lengths of 32 bits, each followed by so many bytes.
pub(crate) fn blobs(mut output: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = output.split_first_chunk()?;
        let (blob, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        output = rest;
        Some(blob)
    })
}
