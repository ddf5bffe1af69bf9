// SPDX-License-Identifier: MIT OR Apache-2.0
//! NT's types and declarations as the drivers see them, in one name space.
//!
//! [`nt!`](crate::entry) compares every function of the hosted kernel with the declaration found
//! here, so a driver and the hosted kernel cannot disagree about a signature.

pub(crate) use fltport_nt::bindings::*;
pub(crate) use fltport_nt::linked::*;
