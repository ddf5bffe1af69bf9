// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine in memory. Each call can be made to fail, by its number.

use super::{Condition, Entry, State, Trouble, Value};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The code of failures that tests inject: the disk is full.
pub(crate) const INJECTED: u32 = 112;

type Values = BTreeMap<String, Value>;

/// All that remains when the machine is looked at again. Names are compared in lower case, as
/// Windows does.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// By the path below the services.
    pub(crate) keys: BTreeMap<String, Values>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(path, content)| (path, content.len()))
            .collect();
        f.debug_struct("Contents")
            .field("keys", &self.keys)
            .field("files", &files)
            .finish()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) contents: RefCell<Contents>,
    pub(crate) conditions: RefCell<BTreeMap<String, Condition>>,
    /// What a start answers instead of success, by service.
    pub(crate) start_errors: RefCell<BTreeMap<String, u32>>,
    /// What a stop answers instead of success, by service.
    pub(crate) stop_errors: RefCell<BTreeMap<String, u32>>,
    /// Keys and files that nobody may read.
    pub(crate) unreadable: RefCell<BTreeSet<String>>,
    /// Services that the registry has, and the service control manager does not know.
    pub(crate) unknown: RefCell<BTreeSet<String>>,
    /// Services that stay in the state "starting" or "stopping".
    pub(crate) stuck: RefCell<BTreeSet<String>>,
    pub(crate) not_elevated: Cell<bool>,
    pub(crate) code_integrity: Cell<Option<u32>>,
    pub(crate) wine: Cell<bool>,
    calls: Cell<usize>,
    fail_at: RefCell<BTreeSet<usize>>,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        Machine::default()
    }

    /// Has the calls of these numbers fail, counted from now, beginning with 0.
    pub(crate) fn fail_at(&self, calls: &[usize]) {
        self.calls.set(0);
        *self.fail_at.borrow_mut() = calls.iter().copied().collect();
    }

    /// How many calls there were since [`Machine::fail_at`].
    pub(crate) fn calls(&self) -> usize {
        self.calls.get()
    }

    fn enter(&self, what: &str) -> Result<(), Trouble> {
        let call = self.calls.get();
        self.calls.set(call + 1);
        if self.fail_at.borrow().contains(&call) {
            return Err(Trouble::new(format!("{what} fails"), INJECTED));
        }
        Ok(())
    }

    fn known(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.contents.borrow().keys.contains_key(&name) && !self.unknown.borrow().contains(&name)
    }

    fn may_read(&self, key: &str) -> Result<(), Trouble> {
        match self.unreadable.borrow().contains(&key.to_lowercase()) {
            true => Err(Trouble::new(format!("{key} cannot be read"), 5)),
            false => Ok(()),
        }
    }

    fn put_entry(&self, name: &str, entry: &Entry) {
        let mut contents = self.contents.borrow_mut();
        let values = contents.keys.entry(name.to_lowercase()).or_default();
        for (name, value) in [
            ("type", Value::Number(entry.kind.number())),
            ("start", Value::Number(entry.start.number())),
            ("errorcontrol", Value::Number(entry.error_control)),
            ("group", Value::text(&entry.group)),
            ("dependonservice", Value::Texts(entry.dependencies.clone())),
            ("imagepath", Value::Expand(entry.image.clone())),
        ] {
            values.insert(name.into(), value);
        }
    }

    pub(crate) fn system_root(&self) -> String {
        r"C:\Windows".into()
    }

    pub(crate) fn elevated(&self) -> Result<bool, Trouble> {
        self.enter("elevated")?;
        Ok(!self.not_elevated.get())
    }

    pub(crate) fn condition(&self, name: &str) -> Result<Option<Condition>, Trouble> {
        self.enter("condition")?;
        if !self.known(name) {
            return Ok(None);
        }
        let stopped = Condition {
            state: State::Stopped,
            exit_code: 1077,
        };
        let conditions = self.conditions.borrow();
        Ok(Some(
            *conditions.get(&name.to_lowercase()).unwrap_or(&stopped),
        ))
    }

    pub(crate) fn set_state(&self, name: &str, state: State) {
        let condition = Condition {
            state,
            exit_code: 0,
        };
        self.conditions
            .borrow_mut()
            .insert(name.to_lowercase(), condition);
    }

    pub(crate) fn create(&self, name: &str, entry: &Entry) -> Result<(), Trouble> {
        self.enter("create")?;
        if self.known(name) {
            return Err(Trouble::new("create", 1073));
        }
        self.put_entry(name, entry);
        Ok(())
    }

    pub(crate) fn change(&self, name: &str, entry: &Entry) -> Result<(), Trouble> {
        self.enter("change")?;
        if !self.known(name) {
            return Err(Trouble::new("change", 1060));
        }
        self.put_entry(name, entry);
        Ok(())
    }

    /// A service that is not stopped stays, marked for deletion, as with the real one.
    pub(crate) fn delete(&self, name: &str) -> Result<(), Trouble> {
        self.enter("delete")?;
        let name = name.to_lowercase();
        if !self.known(&name) {
            return Err(Trouble::new("delete", 1060));
        }
        let mut contents = self.contents.borrow_mut();
        let running = self
            .conditions
            .borrow()
            .get(&name)
            .is_some_and(|c| c.state != State::Stopped);
        if running {
            let values = contents.keys.entry(name).or_default();
            values.insert("deleteflag".into(), Value::Number(1));
        } else {
            let below = format!("{name}\\");
            contents
                .keys
                .retain(|key, _| *key != name && !key.starts_with(&below));
            self.conditions.borrow_mut().remove(&name);
        }
        Ok(())
    }

    pub(crate) fn start(&self, name: &str) -> Result<(), u32> {
        self.enter("start").map_err(|trouble| trouble.code)?;
        if !self.known(name) {
            return Err(1060);
        }
        let name = name.to_lowercase();
        if let Some(code) = self.start_errors.borrow().get(&name) {
            let failed = Condition {
                state: State::Stopped,
                exit_code: *code,
            };
            self.conditions.borrow_mut().insert(name, failed);
            return Err(*code);
        }
        let state = self.conditions.borrow().get(&name).map(|c| c.state);
        if let Some(State::Starting | State::Running) = state {
            return Err(1056);
        }
        self.set_state(&name, State::Starting);
        Ok(())
    }

    pub(crate) fn stop(&self, name: &str) -> Result<(), Trouble> {
        self.enter("stop")?;
        if let Some(code) = self.stop_errors.borrow().get(&name.to_lowercase()) {
            return Err(Trouble::new("stop", *code));
        }
        self.set_state(name, State::Stopping);
        Ok(())
    }

    pub(crate) fn keys(&self, key: &str) -> Result<Option<Vec<String>>, Trouble> {
        self.enter("keys")?;
        self.may_read(key)?;
        let contents = self.contents.borrow();
        let below = match key {
            "" => String::new(),
            key if !contents.keys.contains_key(&key.to_lowercase()) => return Ok(None),
            key => format!("{}\\", key.to_lowercase()),
        };
        let names = contents
            .keys
            .keys()
            .filter_map(|key| key.strip_prefix(&below));
        let direct = names.filter(|name| !name.contains('\\')).map(str::to_owned);
        Ok(Some(direct.collect()))
    }

    pub(crate) fn value(&self, key: &str, name: &str) -> Result<Option<Value>, Trouble> {
        self.enter("value")?;
        self.may_read(key)?;
        let contents = self.contents.borrow();
        let key = contents.keys.get(&key.to_lowercase());
        Ok(key
            .and_then(|values| values.get(&name.to_lowercase()))
            .cloned())
    }

    pub(crate) fn value_names(&self, key: &str) -> Result<Vec<String>, Trouble> {
        self.enter("value_names")?;
        self.may_read(key)?;
        let contents = self.contents.borrow();
        let values = contents.keys.get(&key.to_lowercase());
        Ok(values.into_iter().flat_map(|v| v.keys().cloned()).collect())
    }

    pub(crate) fn set(&self, key: &str, name: &str, value: &Value) -> Result<(), Trouble> {
        self.enter("set")?;
        let mut contents = self.contents.borrow_mut();
        let values = contents.keys.get_mut(&key.to_lowercase());
        let values = values.ok_or_else(|| Trouble::new("set", 2))?;
        values.insert(name.to_lowercase(), value.clone());
        Ok(())
    }

    pub(crate) fn remove_value(&self, key: &str, name: &str) -> Result<(), Trouble> {
        self.enter("remove_value")?;
        let mut contents = self.contents.borrow_mut();
        let values = contents.keys.get_mut(&key.to_lowercase());
        let removed = values.and_then(|values| values.remove(&name.to_lowercase()));
        removed
            .map(drop)
            .ok_or_else(|| Trouble::new("remove_value", 2))
    }

    pub(crate) fn make_key(&self, key: &str) -> Result<(), Trouble> {
        self.enter("make_key")?;
        let mut contents = self.contents.borrow_mut();
        contents.keys.entry(key.to_lowercase()).or_default();
        Ok(())
    }

    pub(crate) fn remove_key(&self, key: &str) -> Result<(), Trouble> {
        self.enter("remove_key")?;
        let key = key.to_lowercase();
        let below = format!("{key}\\");
        let mut contents = self.contents.borrow_mut();
        contents
            .keys
            .retain(|name, _| *name != key && !name.starts_with(&below));
        Ok(())
    }

    pub(crate) fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>, Trouble> {
        self.enter("read_file")?;
        self.may_read(path)?;
        Ok(self
            .contents
            .borrow()
            .files
            .get(&path.to_lowercase())
            .cloned())
    }

    pub(crate) fn has_file(&self, path: &str) -> Result<bool, Trouble> {
        self.enter("has_file")?;
        Ok(self
            .contents
            .borrow()
            .files
            .contains_key(&path.to_lowercase()))
    }

    pub(crate) fn write_file(&self, path: &str, content: &[u8]) -> Result<(), Trouble> {
        self.enter("write_file")?;
        let mut contents = self.contents.borrow_mut();
        contents.files.insert(path.to_lowercase(), content.to_vec());
        Ok(())
    }

    pub(crate) fn remove_file(&self, path: &str) -> Result<(), Trouble> {
        self.enter("remove_file")?;
        let removed = self
            .contents
            .borrow_mut()
            .files
            .remove(&path.to_lowercase());
        removed
            .map(drop)
            .ok_or_else(|| Trouble::new("remove_file", 2))
    }

    pub(crate) fn is_wine(&self) -> bool {
        self.wine.get()
    }

    pub(crate) fn code_integrity(&self) -> Option<u32> {
        self.code_integrity.get()
    }

    /// What starts or stops has done so afterwards, unless it is stuck.
    pub(crate) fn pause(&self, _: Duration) {
        for (name, condition) in self.conditions.borrow_mut().iter_mut() {
            if self.stuck.borrow().contains(name) {
                continue;
            }
            match condition.state {
                State::Starting => condition.state = State::Running,
                State::Stopping => condition.state = State::Stopped,
                _ => {}
            }
        }
    }
}
