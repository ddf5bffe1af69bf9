// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry as a program works on it.

use std::sync::Arc;

use super::operation::{self, Change, Done, Open, Opened, Operation};
use crate::abi::NTSTATUS;
use crate::kernel::State;
use crate::process::Process;
use crate::registry::{Disposition, Key, Value};
use crate::sched;
use crate::status::{STATUS_OBJECT_NAME_NOT_FOUND, is_success};
use crate::unicode;

const KEY_SET_VALUE: u32 = 0x2;
const KEY_WRITE: u32 = 0x2_0006;
const DELETE: u32 = 0x1_0000;

/// The registry, worked on by a thread of a process: what becomes of RegCreateKeyEx, RegSetValueEx
/// and their like. Registry callbacks are told of all of it, in the calling thread, attached to the
/// process. Keys are named by absolute paths (`\Registry\Machine\...`), and opened and closed again
/// by each call.
///
/// The errors are the registry's, or those of the callback that refuses.
pub struct UserRegistry<'k> {
    state: &'k State,
    process: Arc<Process>,
}

impl<'k> UserRegistry<'k> {
    pub(crate) fn new(state: &'k State, process: Arc<Process>) -> UserRegistry<'k> {
        UserRegistry { state, process }
    }

    /// Creates a key, or opens it if it is there. Only its last part may be missing.
    pub fn create_key(&self, path: &str) -> Result<Disposition, NTSTATUS> {
        self.enter("a key's creation", || {
            let (_, disposition) = self.open(path, true, KEY_WRITE)?;
            Ok(disposition)
        })
    }

    /// Sets a value of a key; the empty name is its default value.
    pub fn set_value(&self, path: &str, name: &str, value: &Value) -> Result<(), NTSTATUS> {
        let name = unicode::encode(name);
        let change = Change::SetValue { name: &name, value };
        self.change(path, KEY_SET_VALUE, change, |key| {
            key.set_value(&name, value.clone())
        })
    }

    /// Deletes a value of a key.
    pub fn delete_value(&self, path: &str, name: &str) -> Result<(), NTSTATUS> {
        let name = unicode::encode(name);
        let change = Change::DeleteValue { name: &name };
        self.change(path, KEY_SET_VALUE, change, |key| key.delete_value(&name))
    }

    /// Deletes a key, which must have no subkeys.
    pub fn delete_key(&self, path: &str) -> Result<(), NTSTATUS> {
        self.change(path, DELETE, Change::DeleteKey, |key| key.delete())
    }

    /// Gives a key another name.
    pub fn rename_key(&self, path: &str, new_name: &str) -> Result<(), NTSTATUS> {
        let new_name = unicode::encode(new_name);
        let change = Change::RenameKey {
            new_name: &new_name,
        };
        self.change(path, KEY_WRITE, change, |key| key.rename(&new_name))
    }

    fn enter<R>(&self, what: &'static str, call: impl FnOnce() -> R) -> R {
        sched::point(what);
        self.process.attach(call)
    }

    fn change(
        &self,
        path: &str,
        access: u32,
        change: Change<'_>,
        body: impl FnOnce(&Arc<Key>) -> Result<(), NTSTATUS>,
    ) -> Result<(), NTSTATUS> {
        self.enter("a change of the registry", || {
            let (key, _) = self.open(path, false, access)?;
            let operation = Operation { key: &key, change };
            let done = operation::run(self.state, &operation, || body(&key).into());
            success(&done)
        })
    }

    fn open(&self, path: &str, creates: bool, access: u32) -> Result<Opened, NTSTATUS> {
        let path = unicode::encode(path);
        let (start, remaining) = operation::absolute(self.state, &path)?;
        let open = Open {
            creates,
            path: &path,
            remaining,
            access,
            options: 0,
            attributes: 0,
        };
        let done = operation::open(self.state, &start, open, false);
        success(&done)?;
        // A callback that has opened a key of its own making: there is none to go on with.
        done.opened.ok_or(STATUS_OBJECT_NAME_NOT_FOUND)
    }
}

fn success(done: &Done) -> Result<(), NTSTATUS> {
    if is_success(done.status) {
        Ok(())
    } else {
        Err(done.status)
    }
}
