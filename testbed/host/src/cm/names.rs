// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys that callbacks are told of, and the paths of them that drivers have asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::abi::UNICODE_STRING;
use crate::driver::Driver;
use crate::registry::Key;
use crate::stack::Stack;
use crate::thread;
use crate::unicode::OwnedUnicodeString;
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

/// A path that a driver has and must give back.
struct Handed {
    descriptor: Box<UNICODE_STRING>,
    /// What the descriptor points to.
    _text: OwnedUnicodeString,
    driver: Option<Arc<Driver>>,
    /// Its place in the order of all.
    number: u64,
    function: &'static str,
    stack: Stack,
}

// SAFETY: the descriptor points to the text beside it, which any thread may read and drop.
unsafe impl Send for Handed {}

#[derive(Default)]
struct Paths {
    handed: BTreeMap<usize, Handed>,
    last_number: u64,
}

/// The keys of operations that run, by address, and the paths of keys that drivers have.
#[derive(Default)]
pub(crate) struct KeyNames {
    told: Mutex<BTreeMap<usize, (Arc<Key>, u32)>>,
    paths: Mutex<Paths>,
}

/// A key of an operation that runs. Dropping it ends that.
pub(super) struct ToldKey<'s> {
    names: &'s KeyNames,
    address: usize,
}

impl Drop for ToldKey<'_> {
    fn drop(&mut self) {
        let mut told = self.names.told.lock();
        if let Some((_, count)) = told.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                told.remove(&self.address);
            }
        }
    }
}

impl KeyNames {
    /// Callbacks are told of this key from now on.
    pub(super) fn tell(&self, key: &Arc<Key>) -> ToldKey<'_> {
        let address = Arc::as_ptr(key) as usize;
        let mut told = self.told.lock();
        told.entry(address).or_insert_with(|| (key.clone(), 0)).1 += 1;
        ToldKey {
            names: self,
            address,
        }
    }

    /// The key of a running operation at this address.
    pub(super) fn find(&self, address: usize) -> Option<Arc<Key>> {
        self.told.lock().get(&address).map(|(key, _)| key.clone())
    }

    /// Hands a key's path to the driver that calls.
    pub(super) fn hand_out(&self, key: &Key) -> *mut UNICODE_STRING {
        let text = OwnedUnicodeString::new(&key.path());
        let mut descriptor = Box::new(text.descriptor());
        let pointer: *mut UNICODE_STRING = &raw mut *descriptor;
        let mut paths = self.paths.lock();
        paths.last_number += 1;
        let handed = Handed {
            descriptor,
            _text: text,
            driver: attribution::responsible(),
            number: paths.last_number,
            function: thread::with_context(|context| context.function.get()),
            stack: Stack::capture(),
        };
        paths.handed.insert(pointer as usize, handed);
        pointer
    }

    /// Takes a path back; false if no driver has it.
    pub(super) fn take_back(&self, path: *const UNICODE_STRING) -> bool {
        let taken = self.paths.lock().handed.remove(&(path as usize));
        taken.is_some()
    }

    /// Reports the paths that `driver` has not given back.
    pub(super) fn report_left_by(&self, driver: &Arc<Driver>) {
        let mut left = Vec::new();
        self.paths.lock().handed.retain(|_, handed| {
            let of_driver = attribution::is(handed.driver.as_ref(), driver);
            if of_driver {
                let length = handed.descriptor.Length;
                left.push((handed.number, length, handed.function, handed.stack.clone()));
            }
            !of_driver
        });
        left.sort_by_key(|(number, ..)| *number);
        for (_, length, function, stack) in left {
            Report::new(Rule::KeyPathLeft)
                .driver(Some(driver.name()))
                .function(function)
                .expected("CmCallbackReleaseKeyObjectIDEx for every path of a key")
                .found(format!("a path of {length} bytes"))
                .made_at(stack)
                .file();
        }
    }
}
