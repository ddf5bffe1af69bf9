// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mounted file systems whose programs are to be held.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::ffi::{self, Interest};
use super::group::Group;

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// File systems that hold no programs. `fanotify_mark` refuses some of them.
const PSEUDO: [&str; 23] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "pipefs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sockfs",
    "sysfs",
    "tracefs",
];

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) kind: String,
    /// The kernel's number of the file system, as text.
    device: String,
}

impl Mount {
    /// Such a file system may keep a thread waiting so that not even a signal ends it. If that were
    /// one of this sensor's threads, the death of this process would not free what it holds.
    fn is_served_by_a_program(&self) -> bool {
        self.kind == "fuse" || self.kind == "fuseblk" || self.kind.starts_with("fuse.")
    }
}

/// What marking the file systems has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    pub(super) file_systems: usize,
    /// Each with the reason, as one line.
    pub(super) refused: Vec<String>,
}

/// The real file systems of this mount namespace.
pub(super) fn real_mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(MOUNT_TABLE)?))
}

fn parse(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|byte| *byte == b'\n').filter_map(parse_line);
    lines
        .filter(|mount| !PSEUDO.contains(&mount.kind.as_str()))
        .collect()
}

/// A line is: id, parent, major:minor, root, mount point, options, optional fields, "-", type,
/// source.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let text = |index: usize| Some(String::from_utf8_lossy(fields.get(index)?).into_owned());
    let dash = fields.iter().position(|field| *field == b"-")?;
    let point = PathBuf::from(OsString::from_vec(unescape(fields.get(4)?)));
    Some(Mount {
        point,
        kind: text(dash + 1)?,
        device: text(2)?,
    })
}

/// Blanks and the like stand in the table as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *byte == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                plain.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    plain
}

/// Marks every real file system; marking one twice changes nothing.
pub(super) fn mark_all(group: &Group) -> io::Result<Coverage> {
    let mut marked: Vec<String> = Vec::new();
    let mut refused: Vec<(String, String)> = Vec::new();
    for mount in real_mounts()? {
        let outcome = if mount.is_served_by_a_program() {
            Err(io::Error::other(
                "it is served by a program that may not answer",
            ))
        } else {
            group.mark(&mount.point)
        };
        match outcome {
            Ok(()) => marked.push(mount.device),
            Err(error) => {
                let place = mount.point.display();
                let reason = format!("programs on {place} ({}) are not held: {error}", mount.kind);
                refused.push((mount.device, reason));
            }
        }
    }
    // A file system may be reachable by one mount point and hidden at another.
    refused.retain(|(device, _)| !marked.contains(device));
    marked.sort_unstable();
    marked.dedup();
    let refused = refused.into_iter().map(|(_, reason)| reason).collect();
    Ok(Coverage {
        file_systems: marked.len(),
        refused,
    })
}

/// Marks what is mounted now and what is mounted later, until `stop` is written to or `holds` says
/// that there is nothing to hold any more. `marked` is called with the outcome each time.
pub(super) fn follow(
    group: &Group,
    stop: &File,
    holds: impl Fn() -> bool,
    mut marked: impl FnMut(Coverage),
) -> io::Result<()> {
    // The table is opened before it is read: a change in between ends the first wait at once.
    let table = File::open(MOUNT_TABLE)?;
    while holds() {
        marked(mark_all(group)?);
        let wanted = [
            Interest::Read(stop.as_fd()),
            Interest::Change(table.as_fd()),
        ];
        if let [true, _] = ffi::wait_readable(wanted, None)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudo_file_systems_are_left_out() {
        let table = b"22 27 0:21 / /proc rw - proc proc rw\n\
            27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
            30 27 0:9 / /a\\040b\\134c rw - tmpfs none rw\n\
            short line\n";
        let mounts = parse(table);
        let points: Vec<_> = mounts
            .iter()
            .map(|mount| mount.point.to_str().unwrap())
            .collect();
        assert_eq!(points, ["/", "/a b\\c"]);
        assert_eq!(mounts[0].kind, "ext4");
        assert_eq!(mounts[0].device, "254:0");
    }

    #[test]
    fn file_systems_of_programs_are_recognised() {
        let table = b"30 27 0:9 / /a rw - fuse.sshfs none rw\n\
            31 27 0:9 / /b rw - fusectl none rw\n\
            32 27 0:9 / /c rw - fuseblk none rw\n\
            33 27 0:9 / /d rw - ext4 none rw\n";
        let served = parse(table)
            .iter()
            .map(Mount::is_served_by_a_program)
            .collect::<Vec<_>>();
        assert_eq!(served, [true, true, false]);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(
            real_mounts()
                .unwrap()
                .iter()
                .any(|mount| mount.point.to_str() == Some("/"))
        );
    }
}
