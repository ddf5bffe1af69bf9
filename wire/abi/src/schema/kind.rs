// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types that a field can have.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $size:literal, $align:literal;)*) => {
        /// The type of a field. All numbers are little-endian.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum FieldKind { $($(#[$doc])* $name = $number,)* }

        impl FieldKind {
            /// Bytes in the fixed part, without the mark of an optional field; see
            /// [`place`](FieldKind::place).
            pub const fn size(self) -> usize {
                match self { $(FieldKind::$name => $size,)* }
            }

            /// The alignment in the fixed part: two 32-bit words address variable data.
            pub const fn align(self) -> usize {
                match self { $(FieldKind::$name => $align,)* }
            }

            /// The kind with this number on the wire; `None` for one that this version does not
            /// know.
            pub const fn from_wire(number: u8) -> Option<Self> {
                Some(match number { $($number => FieldKind::$name,)* _ => return None })
            }

            /// The name, as `fltport providers` prints it.
            pub const fn name(self) -> &'static str {
                match self { $(FieldKind::$name => stringify!($name),)* }
            }
        }

        /// All kinds, by number.
        pub const KINDS: &[FieldKind] = &[$(FieldKind::$name,)*];
    };
}

kinds! {
    /// Unsigned, 16 bits.
    U16 = 1, 2, 2;
    /// Unsigned, 32 bits.
    U32 = 2, 4, 4;
    /// Unsigned, 64 bits.
    U64 = 3, 8, 8;
    /// Signed, 32 bits.
    I32 = 4, 4, 4;
    /// Signed, 64 bits.
    I64 = 5, 8, 8;
    /// 0 or 1 in 32 bits.
    Bool = 6, 4, 4;
    /// A process or thread id, 32 bits.
    Pid = 7, 4, 4;
    /// NT system time, 64 bits.
    Time = 8, 8, 8;
    /// An NTSTATUS or exit status, 32 bits.
    Status = 9, 4, 4;
    /// UTF-16 text in the variable data.
    Text = 10, 8, 4;
    /// Bytes in the variable data.
    Bytes = 11, 8, 4;
    /// A list of texts in the variable data.
    TextList = 12, 8, 4;
    /// Unsigned, 8 bits.
    U8 = 13, 1, 1;
    /// Signed, 8 bits.
    I8 = 14, 1, 1;
    /// Signed, 16 bits.
    I16 = 15, 2, 2;
    /// A GUID as NT has it in memory, 16 bytes.
    Guid = 16, 16, 4;
    /// An IPv4 address in network order, 4 bytes.
    Ipv4 = 17, 4, 4;
    /// An IPv6 address in network order, 16 bytes.
    Ipv6 = 18, 16, 4;
    /// An address of either: a byte 4 or 6, three of 0, the address in network order in 16 bytes,
    /// those behind an IPv4 address 0.
    Address = 19, 20, 4;
    /// One of the named values of a definition, or another: 32 bits.
    Enum = 20, 4, 4;
    /// Any of the named bits of a definition, and others: 32 bits.
    Flags = 21, 4, 4;
    /// A record of a definition, in the variable data.
    Record = 22, 8, 4;
    /// Any number of records of a definition, in the variable data.
    List = 23, 8, 4;
}

impl FieldKind {
    /// Whether the fixed part has but the place and the length of the value.
    pub const fn is_variable(self) -> bool {
        matches!(
            self,
            FieldKind::Text
                | FieldKind::Bytes
                | FieldKind::TextList
                | FieldKind::Record
                | FieldKind::List
        )
    }

    /// Whether it means nothing without a definition.
    pub const fn needs_definition(self) -> bool {
        matches!(
            self,
            FieldKind::Enum | FieldKind::Flags | FieldKind::Record | FieldKind::List
        )
    }

    /// Bytes that a field takes in the fixed part. Behind an optional value that is not in the
    /// variable data stands a mark, a byte 1 if it is there, and zero bytes to the next multiple of
    /// the alignment.
    pub const fn place(self, optional: bool) -> usize {
        if optional && !self.is_variable() {
            self.size() + self.align()
        } else {
            self.size()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_a_row_and_sizes_are_multiples_of_alignments() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, at + 1);
            assert_eq!(FieldKind::from_wire(*kind as u8), Some(*kind));
            assert_eq!(kind.size() % kind.align(), 0, "{kind:?}");
            assert_eq!(kind.place(true) % kind.align(), 0, "{kind:?}");
        }
        let next = KINDS.len() as u8 + 1;
        assert_eq!(FieldKind::from_wire(0), None);
        assert_eq!(FieldKind::from_wire(next), None);
    }
}
