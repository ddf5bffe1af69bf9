// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the targets share.

mod messages;
mod program;
mod rings;

pub use messages::{All, Branch, Choice, Leaf, PROVIDER, Rights, look, sound};
pub use program::Program;
pub use rings::{Memory, Ours, Region};
