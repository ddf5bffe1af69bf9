// SPDX-License-Identifier: MIT OR Apache-2.0
//! System services that drivers call: the registry, waiting by handle, the processes that run.

pub(crate) mod enumerate;
pub(crate) mod key;
pub(crate) mod system;
pub(crate) mod wait;
