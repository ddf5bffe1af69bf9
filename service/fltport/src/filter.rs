// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters as text: what a service wants of a message type, by the values of its fields. The driver
//! runs them, so what is not wanted costs nothing but that.
//!
//! ```text
//! pid == 4 and (image ends "\\nc.exe" or command_line contains "-enc")
//! ```
//!
//! | field | predicates |
//! | --- | --- |
//! | number, process id, status, time | `==` `!=` `<` `<=` `>` `>=`, `in (4, 100..200)`, `has 0x10` (all these bits) |
//! | yes or no | its name alone; `== true`, `== false` |
//! | text | `==` `!=` `starts` `ends` `contains` `~` (a pattern: `*` any characters, `?` one), `in ("a", "b")` |
//! | list of texts | the same, true if it is of any of them |
//! | enum, flags | as a number, by name or by number: `==`, `in (allow, 7)`, `has write` |
//! | address | `==` `!=` `in ('10.0.0.0/8', 'fe80::1')` |
//! | GUID | `==` `!=` `in ('{…}')` |
//! | bytes | `==` `!=` `starts`, with `x"4d5a"` |
//! | any | `is absent`, `is present` |
//!
//! They are combined with `and`, `or`, `not` and parentheses; `and` binds more closely than `or`.
//! Case is ignored, as NT does, unless `case` stands before the text: `image ends case "NC"`.
//! In `"…"` a backslash is written twice; in `'…'` everything is itself. Numbers may be hexadecimal;
//! a status may be written without sign, `0xC0000005`. A time is RFC 3339, in quotes.
//!
//! A predicate about a field that a message does not have is false, but `is absent`; so is `!=`.

mod compile;
mod parse;
mod words;

pub(crate) use compile::compile;
pub use parse::FilterProblem;

#[cfg(test)]
mod tests;
