// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of the registry monitor.
//!
//! Keys are named by NT's full paths, `\REGISTRY\MACHINE\SOFTWARE\...`, and pids and thread ids are
//! those of the thread that did it. Texts that were too long are cut at the end and flagged.

use crate::message::{Pid, Status};
use crate::text::{Text, TextList};

crate::messages! {
    /// The registry monitor as it registers.
    provider PROVIDER = "registry-monitor";

    types {
        /// What a program is about to do.
        enum Intention {
            /// Set a value.
            1 "set value" SetValue,
            /// Delete a value.
            2 "delete value" DeleteValue,
            /// Delete a key.
            3 "delete key" DeleteKey,
            /// Rename a key.
            4 "rename key" RenameKey,
        }

        /// The type of a value's data.
        enum ValueType {
            /// None.
            0 "REG_NONE" None,
            /// Text.
            1 "REG_SZ" Sz,
            /// Text with names of environment variables in it.
            2 "REG_EXPAND_SZ" ExpandSz,
            /// Bytes.
            3 "REG_BINARY" Binary,
            /// A number of 32 bits.
            4 "REG_DWORD" Dword,
            /// A number of 32 bits, the highest first.
            5 "REG_DWORD_BIG_ENDIAN" DwordBigEndian,
            /// The path of another key.
            6 "REG_LINK" Link,
            /// Texts.
            7 "REG_MULTI_SZ" MultiSz,
            /// Of a driver's resources.
            8 "REG_RESOURCE_LIST" ResourceList,
            /// Of a device's resources.
            9 "REG_FULL_RESOURCE_DESCRIPTOR" FullResourceDescriptor,
            /// Of the resources that a device asks for.
            10 "REG_RESOURCE_REQUIREMENTS_LIST" ResourceRequirementsList,
            /// A number of 64 bits.
            11 "REG_QWORD" Qword,
        }
    }

    /// A key has been created; not told of one that was there and has been opened.
    notification 1 "key-created" KeyCreated<'a> {
        /// The process that created it.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// The key; absent if NT does not give its path.
        key: Option<Text<'a>>,
        /// The path was too long and has been cut.
        truncated: bool,
    }

    /// A key was to be deleted.
    notification 2 "key-deleted" KeyDeleted<'a> {
        /// The process that did it.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// What came of it.
        status: Status,
        /// The key; absent if its path is not known.
        key: Option<Text<'a>>,
        /// The path was too long and has been cut.
        truncated: bool,
    }

    /// A key was to be renamed.
    notification 3 "key-renamed" KeyRenamed<'a> {
        /// The process that did it.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// What came of it.
        status: Status,
        /// The key by its former name; absent if its path is not known.
        key: Option<Text<'a>>,
        /// Its new name, without a path.
        new_name: Text<'a>,
        /// The path or the name was too long and has been cut.
        truncated: bool,
    }

    /// A value was to be set.
    notification 4 "value-set" ValueSet<'a> {
        /// The process that did it.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// What came of it.
        status: Status,
        /// The type of the data.
        kind: ValueType,
        /// The bytes of data that there are.
        size: u32,
        /// The key; absent if NT does not give its path.
        key: Option<Text<'a>>,
        /// The value; empty for the key's default value.
        name: Text<'a>,
        /// The first of the data, [`MAX_DATA`] bytes at most.
        data: &'a [u8],
        /// The path or the name was too long and has been cut.
        truncated: bool,
    }

    /// A value was to be deleted.
    notification 5 "value-deleted" ValueDeleted<'a> {
        /// The process that did it.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// What came of it.
        status: Status,
        /// The key; absent if NT does not give its path.
        key: Option<Text<'a>>,
        /// The value; empty for the key's default value.
        name: Text<'a>,
        /// The path or the name was too long and has been cut.
        truncated: bool,
    }

    /// A program is about to change a watched key, or one below it: may it? Not asked while no key is
    /// watched, nor about what drivers do.
    request 6 "change" KeyChange<'a> {
        /// The process that is about to do it.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// What it is about to do.
        operation: Intention,
        /// To set a value: the type of the data.
        kind: ValueType,
        /// To set a value: the bytes of data that there are.
        size: u32,
        /// The key.
        key: Text<'a>,
        /// To set or delete a value: the value. To rename a key: its new name. Absent otherwise.
        name: Option<Text<'a>>,
        /// To set a value: the first of the data, [`MAX_DATA`] bytes at most.
        data: &'a [u8],
        /// The path or the name was too long and has been cut.
        truncated: bool,
    } -> /// The decider's verdict.
    ChangeVerdict {
        /// It must not be done.
        deny: bool,
    }

    /// Replaces the list of watched keys. Only what happens to them and below them is told of and
    /// asked about. While the list is empty everything is told of, and nothing asked about.
    command 7 "set-watched" SetWatched<'a> {
        /// Full paths, as `\REGISTRY\MACHINE\SOFTWARE\Vendor`; case is ignored.
        keys: TextList<'a>,
    } -> /// How the list was taken.
    WatchedSet {
        /// The number of keys that the driver now watches.
        count: u32,
    }

    /// Asks for the list of watched keys.
    command 8 "watched" GetWatched {} -> /// The list that the driver holds.
    Watched<'a> {
        /// Full paths.
        keys: TextList<'a>,
    }
}

/// The most keys that the registry monitor watches.
pub const MAX_WATCHED: usize = 64;

/// The longest path of a watched key, in UTF-16 units.
pub const MAX_WATCHED_PATH: usize = 1024;

/// The most bytes of a value's data that a message has.
pub const MAX_DATA: usize = 256;

#[cfg(test)]
mod tests;
