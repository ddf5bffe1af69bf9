// SPDX-License-Identifier: MIT OR Apache-2.0
//! Se: who may what: security descriptors, and subjects that are checked against them.

mod descriptor;
mod subject;

pub use descriptor::SecurityDescriptor;
pub use subject::{Mapping, Subject};
