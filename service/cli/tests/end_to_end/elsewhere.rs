// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that are for Windows say so.

use std::process::Command;

#[test]
fn commands_of_windows_say_what_to_do_instead() {
    for line in [
        &["install", "--start", "boot"][..],
        &["doctor", "--json"],
        &["stop"],
    ] {
        let ran = Command::new(env!("CARGO_BIN_EXE_fltport"))
            .args(line)
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(1), "{line:?}");
        assert!(ran.stdout.is_empty());
        let text = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("Windows") && text.contains("fltport watch"),
            "{text}"
        );
    }
}
