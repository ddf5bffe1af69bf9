// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the hosted kernel's socket is.

use fltport_abi::hosted::{SOCKET_NAME, SOCKET_VARIABLE};
use std::ffi::OsString;
use std::path::PathBuf;

/// The hosted kernel's socket: `$FLTPORT_SOCKET`; otherwise, for root, `/run/fltport/host.sock`;
/// for others `$XDG_RUNTIME_DIR/fltport/host.sock`, or `/tmp/fltport-UID/host.sock`.
pub fn socket_path() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    choose(
        uid,
        std::env::var_os(SOCKET_VARIABLE),
        std::env::var_os("XDG_RUNTIME_DIR"),
    )
}

fn choose(uid: u32, variable: Option<OsString>, runtime: Option<OsString>) -> PathBuf {
    let given = |value: Option<OsString>| value.filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(path) = given(variable) {
        return path;
    }
    let directory = match given(runtime) {
        _ if uid == 0 => PathBuf::from("/run/fltport"),
        Some(runtime) => runtime.join("fltport"),
        None => PathBuf::from(format!("/tmp/fltport-{uid}")),
    };
    directory.join(SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_applies() {
        let os = |text: &str| Some(OsString::from(text));
        for (uid, variable, runtime, expected) in [
            (0, os("/x/y"), os("/run/user/0"), "/x/y"),
            (0, None, os("/run/user/0"), "/run/fltport/host.sock"),
            (
                7,
                os(""),
                os("/run/user/7"),
                "/run/user/7/fltport/host.sock",
            ),
            (7, None, None, "/tmp/fltport-7/host.sock"),
        ] {
            assert_eq!(choose(uid, variable, runtime), PathBuf::from(expected));
        }
    }
}
