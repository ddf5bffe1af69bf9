// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the order of the fields to their offsets.

use super::{Definition, Field, FieldKind, field_flags};

/// A field before it has a place.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldKind,
    /// [`field_flags`].
    pub flags: u8,
    /// What its values or its fields are called.
    pub definition: Option<&'static Definition>,
}

/// Makes a field table; for [`messages!`](crate::messages). Does not compile if a field would need
/// padding.
pub const fn fields<const N: usize>(specs: [FieldSpec; N]) -> [Field<'static>; N] {
    let mut table = [Field {
        name: "",
        kind: FieldKind::U16,
        offset: 0,
        flags: 0,
        definition: None,
    }; N];
    let mut offset = 0;
    let mut i = 0;
    while i < N {
        let spec = specs[i];
        assert!(
            offset % spec.kind.align() == 0,
            "a field needs padding before it: order the fields by size"
        );
        assert!(
            spec.kind.needs_definition() == spec.definition.is_some(),
            "a field of this type needs a definition"
        );
        let field = Field {
            name: spec.name,
            kind: spec.kind,
            offset: offset as u16,
            flags: spec.flags,
            definition: spec.definition,
        };
        offset += spec.kind.place(spec.flags & field_flags::OPTIONAL != 0);
        assert!(offset <= u16::MAX as usize, "the fixed part is too large");
        table[i] = field;
        i += 1;
    }
    table
}

/// Bytes of the fixed part with these fields.
pub const fn fixed_size(fields: &[Field<'_>]) -> usize {
    match fields.last() {
        Some(last) => last.offset as usize + last.place(),
        None => 0,
    }
}

/// The flag of a field that may be absent; for [`messages!`](crate::messages).
#[doc(hidden)]
pub const fn optional_flag(optional: bool) -> u8 {
    if optional { field_flags::OPTIONAL } else { 0 }
}
