// SPDX-License-Identifier: MIT OR Apache-2.0
//! System services that drivers call: the registry, waiting by handle.

pub(crate) mod enumerate;
pub(crate) mod key;
pub(crate) mod wait;
