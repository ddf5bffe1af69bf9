// SPDX-License-Identifier: MIT OR Apache-2.0
//! System services that drivers call: the registry.

pub(crate) mod key;
