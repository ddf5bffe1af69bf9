// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cm: the configuration manager, which keeps the registry, and its callbacks.

mod callback;
mod operation;

pub use callback::{RegistryCallback, RegistryObserver};
pub use operation::{Change, Completed, KeyObject, KeyPath, Operation};
