// SPDX-License-Identifier: MIT OR Apache-2.0
//! Security: tokens, security identifiers, descriptors and access checks.

pub(crate) mod access;
pub mod descriptor;
pub(crate) mod sid;
pub(crate) mod subject;
pub mod token;
