// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry of this machine.

use crate::registry::{BASE, Change};
use anyhow::{Context, Result};
use windows_registry::{Key, LOCAL_MACHINE, Type};

fn base() -> windows_registry::Result<Key> {
    LOCAL_MACHINE.create(format!("Software\\{BASE}"))
}

/// Makes the key below which everything happens.
pub(super) fn prepare() -> Result<()> {
    let made = base().map(drop);
    made.with_context(|| format!("the key HKEY_LOCAL_MACHINE\\Software\\{BASE} cannot be made"))
}

/// Takes it away with what is in it.
pub(super) fn clean_up() {
    let software = LOCAL_MACHINE.options().read().write().open("Software");
    // An error: it is not there, or cannot be taken away; it harms nobody.
    let _left = software.and_then(|software| software.remove_tree(BASE));
}

/// Makes a change.
pub(super) fn change(change: &Change) -> windows_registry::Result<()> {
    let base = base()?;
    let open = |key: &str| base.options().read().write().open(key);
    match change {
        Change::Create { key } => base.create(key).map(drop),
        Change::Set { key, name, bytes } => {
            open(key)?.set_bytes(name, Type::Bytes, &vec![0xA5; *bytes])
        }
        Change::Unset { key, name } => open(key)?.remove_value(name),
        Change::Rename { key, name } => base.rename(key, name),
        Change::Delete { key } => base.remove_tree(key),
    }
}
