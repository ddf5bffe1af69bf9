// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel objects: who references them, and which handles are open.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::driver::Driver;
use crate::ex::callback::CallbackObject;
use crate::ke::user_event::EventObject;
use crate::mm::section::Section;
use crate::process::Process;
use crate::ps::thread::Thread;
use crate::registry::Key;
use crate::se::token::Token;
use crate::stack::Stack;
use crate::thread;

/// An object that has references or handles.
#[derive(Clone)]
pub(crate) enum Object {
    Process(Arc<Process>),
    Thread(Arc<Thread>),
    Token(Arc<Token>),
    Callback(Arc<CallbackObject>),
    Key(Arc<Key>),
    Driver(Arc<Driver>),
    Section(Arc<Section>),
    Event(Arc<EventObject>),
}

impl Object {
    /// The address by which drivers know the object.
    pub(crate) fn address(&self) -> usize {
        match self {
            Object::Process(process) => process.address(),
            Object::Thread(thread) => thread.address(),
            Object::Token(token) => token.address(),
            Object::Callback(callback) => callback.address(),
            Object::Key(key) => Arc::as_ptr(key) as usize,
            Object::Driver(driver) => driver.object() as usize,
            Object::Section(section) => Arc::as_ptr(section) as usize,
            Object::Event(event) => event.address(),
        }
    }

    /// The name of the object's type, as NT's object manager calls it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Object::Process(_) => "Process",
            Object::Thread(_) => "Thread",
            Object::Token(_) => "Token",
            Object::Callback(_) => "Callback",
            Object::Key(_) => "Key",
            Object::Driver(_) => "Driver",
            Object::Section(_) => "Section",
            Object::Event(_) => "Event",
        }
    }
}

/// References that one driver holds to one object.
struct Holder {
    driver: Option<Arc<Driver>>,
    count: i64,
    last: Stack,
    /// The function that took the last one.
    function: &'static str,
}

struct Entry {
    object: Object,
    /// Its place in the order in which objects became known.
    number: u64,
    /// The hosted kernel itself still uses the object.
    kept: bool,
    references: u64,
    handles: u64,
    holders: Vec<Holder>,
}

struct Handle {
    address: usize,
    access: u32,
    driver: Option<Arc<Driver>>,
    stack: Stack,
    /// The function that opened it.
    function: &'static str,
}

/// Something that a driver did not give back.
pub(crate) struct LeftBehind {
    pub what: String,
    pub stack: Stack,
    /// The function that the driver got it from.
    pub function: &'static str,
}

#[derive(Default)]
struct Tables {
    entries: BTreeMap<usize, Entry>,
    handles: BTreeMap<usize, Handle>,
    last_handle: usize,
    /// Entries made so far.
    made: u64,
}

/// All objects of one kernel.
#[derive(Default)]
pub(crate) struct ObjectTable(Mutex<Tables>);

/// Kernel handles have their upper bits set, so that none can be mistaken for a user's.
const KERNEL_HANDLE_BASE: usize = 0xFFFF_FFFF_8000_0000;

impl ObjectTable {
    /// Makes an object known, kept by the hosted kernel until [`ObjectTable::retire`].
    pub(crate) fn insert(&self, object: Object) {
        let address = object.address();
        // Entries keep their objects alive: no other object can have lain at this address.
        self.0.lock().entry(address, object).kept = true;
    }

    /// Makes an object known that lives only as long as drivers reference it.
    pub(crate) fn ensure(&self, object: Object) {
        let address = object.address();
        self.0.lock().entry(address, object);
    }

    /// Ends the hosted kernel's own use of an object.
    pub(crate) fn retire(&self, address: usize) {
        let mut tables = self.0.lock();
        if let Some(entry) = tables.entries.get_mut(&address) {
            entry.kept = false;
        }
        let gone = tables.remove_unused(address);
        drop(tables);
        drop(gone);
    }

    /// The object at an address.
    pub(crate) fn find(&self, address: usize) -> Option<Object> {
        self.0
            .lock()
            .entries
            .get(&address)
            .map(|entry| entry.object.clone())
    }

    /// Adds a reference on behalf of `driver`; the new count, or none if there is no such object.
    pub(crate) fn reference(&self, address: usize, driver: Option<&Arc<Driver>>) -> Option<u64> {
        let stack = Stack::capture();
        let mut tables = self.0.lock();
        let entry = tables.entries.get_mut(&address)?;
        entry.references += 1;
        let holder = entry.holder(driver);
        holder.count += 1;
        holder.last = stack;
        holder.function = thread::with_context(|context| context.function.get());
        Some(entry.references + u64::from(entry.kept))
    }

    /// Removes a reference; the new count, or none if there was no reference to remove.
    pub(crate) fn dereference(&self, address: usize, driver: Option<&Arc<Driver>>) -> Option<u64> {
        let mut tables = self.0.lock();
        let entry = tables.entries.get_mut(&address)?;
        entry.references = entry.references.checked_sub(1)?;
        entry.holder(driver).count -= 1;
        let count = entry.references + u64::from(entry.kept);
        let gone = tables.remove_unused(address);
        drop(tables);
        drop(gone);
        Some(count)
    }

    /// Opens a handle to an object that is in the table or gets into it now.
    pub(crate) fn open_handle(
        &self,
        object: Object,
        access: u32,
        driver: Option<Arc<Driver>>,
    ) -> usize {
        let stack = Stack::capture();
        let address = object.address();
        let mut tables = self.0.lock();
        tables.entry(address, object).handles += 1;
        tables.last_handle += 4;
        let value = KERNEL_HANDLE_BASE + tables.last_handle;
        tables.handles.insert(
            value,
            Handle {
                address,
                access,
                driver,
                stack,
                function: thread::with_context(|context| context.function.get()),
            },
        );
        value
    }

    /// The object that an open handle stands for.
    pub(crate) fn by_handle(&self, handle: usize) -> Option<Object> {
        self.by_handle_with_access(handle).map(|(object, _)| object)
    }

    /// The object that an open handle stands for, and the access it was opened with.
    pub(crate) fn by_handle_with_access(&self, handle: usize) -> Option<(Object, u32)> {
        let tables = self.0.lock();
        let handle = tables.handles.get(&handle)?;
        let entry = tables.entries.get(&handle.address)?;
        Some((entry.object.clone(), handle.access))
    }

    /// Closes a handle; false if it is not open.
    pub(crate) fn close_handle(&self, handle: usize) -> bool {
        let mut tables = self.0.lock();
        let Some(closed) = tables.handles.remove(&handle) else {
            return false;
        };
        if let Some(entry) = tables.entries.get_mut(&closed.address) {
            entry.handles -= 1;
        }
        let gone = tables.remove_unused(closed.address);
        drop(tables);
        drop(gone);
        true
    }

    /// References that `driver` took and nobody gave back; they are forgotten.
    pub(crate) fn references_left_by(&self, driver: &Arc<Driver>) -> Vec<LeftBehind> {
        let mut tables = self.0.lock();
        let mut left = Vec::new();
        let mut entries: Vec<&mut Entry> = tables.entries.values_mut().collect();
        // By age, not by address: runs are to be reproducible.
        entries.sort_by_key(|entry| entry.number);
        for entry in entries {
            let own = entry.object.address() == driver.object() as usize;
            let Some(holder) = entry.holders.iter_mut().find(|holder| holder.is(driver)) else {
                continue;
            };
            let count = std::mem::take(&mut holder.count);
            if count > 0 && entry.references > 0 && !own {
                left.push(LeftBehind {
                    what: format!(
                        "{count} references to a {} object at {:#x}",
                        entry.object.type_name(),
                        entry.object.address()
                    ),
                    stack: std::mem::take(&mut holder.last),
                    function: holder.function,
                });
            }
        }
        left
    }

    /// Handles that `driver` opened and nobody closed; they are closed.
    pub(crate) fn handles_left_by(&self, driver: &Arc<Driver>) -> Vec<LeftBehind> {
        let mut tables = self.0.lock();
        let values: Vec<usize> = tables
            .handles
            .iter()
            .filter(|(_, handle)| {
                handle
                    .driver
                    .as_ref()
                    .is_some_and(|by| Arc::ptr_eq(by, driver))
            })
            .map(|(value, _)| *value)
            .collect();
        let mut left = Vec::new();
        for value in values {
            let Some(handle) = tables.handles.remove(&value) else {
                continue;
            };
            let Some(entry) = tables.entries.get_mut(&handle.address) else {
                continue;
            };
            entry.handles -= 1;
            left.push(LeftBehind {
                what: format!("handle {value:#x} to a {} object", entry.object.type_name()),
                stack: handle.stack,
                function: handle.function,
            });
        }
        left
    }
}

impl Tables {
    fn entry(&mut self, address: usize, object: Object) -> &mut Entry {
        let made = &mut self.made;
        self.entries.entry(address).or_insert_with(|| {
            *made += 1;
            Entry {
                object,
                number: *made,
                kept: false,
                references: 0,
                handles: 0,
                holders: Vec::new(),
            }
        })
    }

    /// Takes an object out of the table when nothing uses it; the caller drops it unlocked.
    fn remove_unused(&mut self, address: usize) -> Option<Entry> {
        let entry = self.entries.get(&address)?;
        if entry.kept || entry.references > 0 || entry.handles > 0 {
            return None;
        }
        self.entries.remove(&address)
    }
}

impl Holder {
    fn is(&self, driver: &Arc<Driver>) -> bool {
        self.driver
            .as_ref()
            .is_some_and(|by| Arc::ptr_eq(by, driver))
    }
}

impl Entry {
    fn holder(&mut self, driver: Option<&Arc<Driver>>) -> &mut Holder {
        let found = self
            .holders
            .iter()
            .position(|holder| match (&holder.driver, driver) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            });
        let index = found.unwrap_or_else(|| {
            let driver = driver.cloned();
            self.holders.push(Holder {
                driver,
                count: 0,
                last: Stack::default(),
                function: "",
            });
            self.holders.len() - 1
        });
        &mut self.holders[index]
    }
}
