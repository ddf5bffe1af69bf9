// SPDX-License-Identifier: MIT OR Apache-2.0
//! The definition of messages.

/// Defines a provider's messages: `notification N "name"`, `request N "name" … -> Reply`, `command
/// N "name" … -> Result`.
///
/// Each gives a struct with public fields that implements [`Message`](crate::Message), and the list
/// becomes a [`Provider`](crate::schema::Provider) constant. Fields must be ordered so that each
/// lies at a multiple of its alignment; the definition does not compile otherwise, and neither if
/// names or numbers collide.
///
/// ```
/// use fltport_abi::message::List;
/// use fltport_abi::{Message, Text};
/// use std::net::{IpAddr, Ipv4Addr};
///
/// fltport_abi::messages! {
///     /// A firewall.
///     provider PROVIDER = "wall";
///
///     types {
///         /// What becomes of a packet.
///         enum Verdict {
///             /// It passes.
///             0 "pass" Pass,
///             /// It is dropped.
///             1 "drop" Drop,
///         }
///
///         /// What a rule looks at.
///         flags Matched {
///             /// Where it goes.
///             0x1 "address" ADDRESS,
///             /// Who sends it.
///             0x2 "image" IMAGE,
///         }
///
///         /// A rule that was asked.
///         record Rule<'a> {
///             /// Its number.
///             number: u32,
///             /// What it looked at.
///             matched: Matched,
///             /// Its name.
///             name: Text<'a>,
///         }
///     }
///
///     /// A packet was judged.
///     notification 1 "packet" Packet<'a> {
///         /// Where it goes.
///         remote: IpAddr,
///         /// What became of it.
///         verdict: Verdict,
///         /// The rules that were asked.
///         rules: List<'a, Rule<'a>>,
///         /// Since the second version: its port.
///         port: Option<u16>,
///     }
/// }
///
/// let rules = [Rule { number: 7, matched: Matched::ADDRESS, name: Text::Utf8("no telemetry") }];
/// let packet = Packet {
///     remote: IpAddr::V4(Ipv4Addr::LOCALHOST),
///     verdict: Verdict::Drop,
///     rules: List::new(&rules),
///     port: Some(443),
/// };
/// let mut bytes = vec![0; packet.encoded_len()];
/// packet.encode(&mut bytes)?;
/// assert_eq!(Packet::decode(&bytes)?, packet);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Versions.** A message grows at its end. A reader skips what it does not know. What it knows and
/// the writer does not is `None`, or the default that the definition gives (`port: u16 = 80`); a
/// field that is neither makes the decoding fail with
/// [`DecodeError::Missing`](crate::DecodeError::Missing). The same is true of records. Enums and
/// flags may get more values: others than the named ones are kept as they are.
///
/// Two messages with one number, or a field that would need padding, do not compile:
///
/// ```compile_fail
/// fltport_abi::messages! {
///     /// One.
///     provider PROVIDER = "x";
///     /// One.
///     notification 1 "a" A { /// One.
///         one: u8, }
///     /// Two.
///     notification 1 "b" B { /// One.
///         one: u8, }
/// }
/// ```
///
/// ```compile_fail
/// fltport_abi::messages! {
///     /// One.
///     provider PROVIDER = "x";
///     /// One.
///     notification 1 "a" A { /// One.
///         one: u8, /// Two.
///         two: u32, }
/// }
/// ```
///
/// ```compile_fail
/// fltport_abi::messages! {
///     /// One.
///     provider PROVIDER = "x";
///     types { /// One.
///         enum E { /// One.
///             1 "a" A, /// Two.
///             2 "a" B, } }
///     /// One.
///     notification 1 "a" A { /// One.
///         one: E, }
/// }
/// ```
#[macro_export]
macro_rules! messages {
    (
        $(#[$pdoc:meta])*
        provider $provider:ident = $pname:literal;
        types { $($types:tt)* }
        $($messages:tt)*
    ) => {
        $crate::messages!(@types $($types)*);
        $crate::messages!(@provider [$(#[$pdoc])* $provider $pname] [] [$($types)*] $($messages)*);
    };
    (
        $(#[$pdoc:meta])*
        provider $provider:ident = $pname:literal;
        $($messages:tt)*
    ) => {
        $crate::messages!(@provider [$(#[$pdoc])* $provider $pname] [] [] $($messages)*);
    };

    // The names of the types, one after the other, and then everything.
    (@provider $head:tt [$($known:ident)*] [$(#[$doc:meta])* $form:ident $ty:ident $(<$lt:lifetime>)? { $($body:tt)* } $($rest:tt)*] $($messages:tt)*) => {
        $crate::messages!(@provider $head [$($known)* $ty] [$($rest)*] $($messages)*);
    };
    (@provider [$(#[$pdoc:meta])* $provider:ident $pname:literal] [$($known:ident)*] []
        $(
            $(#[$doc:meta])*
            $role:ident $number:literal $name:literal $ty:ident $(<$lt:lifetime>)? { $($body:tt)* }
            $(-> $(#[$rdoc:meta])* $rty:ident $(<$rlt:lifetime>)? { $($rbody:tt)* })?
        )*
    ) => {
        $(
            $crate::messages!(@message $number $name $(#[$doc])* $ty [$($lt)?] { $($body)* });
            $($crate::messages!(@message 0 $name $(#[$rdoc])* $rty [$($rlt)?] { $($rbody)* });)?
            $crate::messages!(@answer $role [$ty $(<$lt>)?] [$($lt)?] $($rty [$($rlt)?])?);
        )*
        $(#[$pdoc])*
        pub const $provider: $crate::schema::Provider = $crate::schema::Provider {
            name: $pname,
            definitions: &[$($known::DEFINITION,)*],
            messages: &[$($crate::schema::MessageType {
                number: $number,
                role: $crate::messages!(@role $role),
                name: $name,
                fields: <$ty as $crate::message::Message>::FIELDS,
                reply: $crate::messages!(@reply $($rty)?),
            },)*],
        };
        const _: () = $provider.assert_sound();
    };
    (@role notification) => { $crate::schema::Role::Notification };
    (@role request) => { $crate::schema::Role::Request };
    (@role command) => { $crate::schema::Role::Command };
    (@answer request [$whole:ty] [$($lt:lifetime)?] $rty:ident []) => {
        impl $(<$lt>)? $crate::message::Request for $whole {
            type Reply = $rty;
        }
    };
    (@answer request [$whole:ty] [$($lt:lifetime)?] $rty:ident [$rlt:lifetime]) => {
        impl $(<$lt>)? $crate::message::Request for $whole {
            type Reply = $rty<'static>;
        }
    };
    // A notification, a command, or a request without a reply.
    (@answer $($other:tt)*) => {};
    (@reply) => { &[] };
    (@reply $rty:ident) => { <$rty as $crate::message::Message>::FIELDS };

    (@types) => {};
    (@types $(#[$doc:meta])* enum $ty:ident { $($(#[$vdoc:meta])* $value:literal $vname:literal $variant:ident,)* } $($rest:tt)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $ty {
            $($(#[$vdoc])* $variant,)*
            /// A value that has no name here; of a newer version, perhaps.
            Other(u32),
        }
        #[allow(dead_code)]
        impl $ty {
            /// What the schema says about it.
            pub const DEFINITION: &'static $crate::schema::Definition = &$crate::schema::Definition {
                name: stringify!($ty),
                form: $crate::schema::Form::Enum(&[$($crate::schema::Named { value: $value, name: $vname },)*]),
            };
            /// The value's number.
            pub const fn number(self) -> u32 {
                match self { $($ty::$variant => $value,)* $ty::Other(number) => number }
            }
            /// The value with this number.
            pub const fn from_number(number: u32) -> Self {
                match number { $($value => $ty::$variant,)* _ => $ty::Other(number) }
            }
        }
        impl<'a> $crate::message::Field<'a> for $ty {
            const KIND: $crate::schema::FieldKind = $crate::schema::FieldKind::Enum;
            const DEFINITION: ::core::option::Option<&'static $crate::schema::Definition> = ::core::option::Option::Some($ty::DEFINITION);
            fn store(&self, encoder: &mut $crate::message::Encoder<'_>, at: usize) -> ::core::result::Result<(), $crate::EncodeError> {
                encoder.fixed(at, self.number())
            }
            fn load(decoder: &$crate::message::Decoder<'a>, at: usize) -> ::core::result::Result<Self, $crate::DecodeError> {
                decoder.fixed(at).map($ty::from_number)
            }
        }
        $crate::messages!(@types $($rest)*);
    };
    (@types $(#[$doc:meta])* flags $ty:ident { $($(#[$vdoc:meta])* $value:literal $vname:literal $flag:ident,)* } $($rest:tt)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $ty(pub u32);
        #[allow(dead_code)]
        impl $ty {
            $($(#[$vdoc])* pub const $flag: $ty = $ty($value);)*
            /// What the schema says about it.
            pub const DEFINITION: &'static $crate::schema::Definition = &$crate::schema::Definition {
                name: stringify!($ty),
                form: $crate::schema::Form::Flags(&[$($crate::schema::Named { value: $value, name: $vname },)*]),
            };
            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: $ty) -> bool {
                self.0 & other.0 == other.0
            }
        }
        impl ::core::ops::BitOr for $ty {
            type Output = $ty;
            fn bitor(self, other: $ty) -> $ty {
                $ty(self.0 | other.0)
            }
        }
        impl<'a> $crate::message::Field<'a> for $ty {
            const KIND: $crate::schema::FieldKind = $crate::schema::FieldKind::Flags;
            const DEFINITION: ::core::option::Option<&'static $crate::schema::Definition> = ::core::option::Option::Some($ty::DEFINITION);
            fn store(&self, encoder: &mut $crate::message::Encoder<'_>, at: usize) -> ::core::result::Result<(), $crate::EncodeError> {
                encoder.fixed(at, self.0)
            }
            fn load(decoder: &$crate::message::Decoder<'a>, at: usize) -> ::core::result::Result<Self, $crate::DecodeError> {
                decoder.fixed(at).map($ty)
            }
        }
        $crate::messages!(@types $($rest)*);
    };
    (@types $(#[$doc:meta])* record $ty:ident { $($fields:tt)* } $($rest:tt)*) => {
        $crate::messages!(@record 'a [$ty] $(#[$doc])* $ty { $($fields)* });
        $crate::messages!(@types $($rest)*);
    };
    (@types $(#[$doc:meta])* record $ty:ident <$lt:lifetime> { $($fields:tt)* } $($rest:tt)*) => {
        $crate::messages!(@record $lt [$ty<$lt>] $(#[$doc])* $ty <$lt> { $($fields)* });
        $crate::messages!(@types $($rest)*);
    };
    (@record $lt:lifetime [$whole:ty] $(#[$doc:meta])* $ty:ident $(<$own:lifetime>)? { $($(#[$fdoc:meta])* $field:ident : $fty:ty $(= $default:expr)?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $ty $(<$own>)? { $($(#[$fdoc])* pub $field: $fty,)* }
        impl $(<$own>)? $ty $(<$own>)? {
            /// What the schema says about it.
            pub const DEFINITION: &'static $crate::schema::Definition = &$crate::schema::Definition {
                name: stringify!($ty),
                form: $crate::schema::Form::Record(&$crate::messages!(@table $($field: $fty $(= $default)?,)*)),
            };
        }
        impl<$lt> $crate::message::Nested<$lt> for $whole {
            const RECORD: &'static $crate::schema::Definition = <$whole>::DEFINITION;
            const FIXED: usize = 0 $(+ <$fty as $crate::message::Field>::PLACE)*;
            fn variable_len(&self) -> usize {
                0 $(+ $crate::message::Field::variable_len(&self.$field))*
            }
            fn store(&self, encoder: &mut $crate::message::Encoder<'_>, at: usize) -> ::core::result::Result<(), $crate::EncodeError> {
                let mut layout = $crate::message::Layout::record(at, at + <Self as $crate::message::Nested>::FIXED);
                $($crate::message::Field::store(&self.$field, encoder, layout.next::<$fty>())?;)*
                ::core::result::Result::Ok(())
            }
            fn load(decoder: &$crate::message::Decoder<$lt>, at: usize, end: usize) -> ::core::result::Result<Self, $crate::DecodeError> {
                let mut layout = $crate::message::Layout::record(at, end);
                ::core::result::Result::Ok(Self { $($field: layout.load::<$fty>(decoder, || $crate::messages!(@missing $fty $(= $default)?))?,)* })
            }
        }
        impl<$lt> $crate::message::Field<$lt> for $whole {
            const KIND: $crate::schema::FieldKind = $crate::schema::FieldKind::Record;
            const DEFINITION: ::core::option::Option<&'static $crate::schema::Definition> = ::core::option::Option::Some(<$whole>::DEFINITION);
            fn variable_len(&self) -> usize {
                $crate::message::one_len(self)
            }
            fn store(&self, encoder: &mut $crate::message::Encoder<'_>, at: usize) -> ::core::result::Result<(), $crate::EncodeError> {
                $crate::message::store_one(self, encoder, at)
            }
            fn load(decoder: &$crate::message::Decoder<$lt>, at: usize) -> ::core::result::Result<Self, $crate::DecodeError> {
                $crate::message::load_one(decoder, at)
            }
        }
    };

    (@message $number:literal $name:literal $(#[$doc:meta])* $ty:ident [] { $($(#[$fdoc:meta])* $field:ident : $fty:ty $(= $default:expr)?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $ty { $($(#[$fdoc])* pub $field: $fty,)* }
        impl<'a> $crate::message::Message<'a> for $ty { $crate::messages!(@impl 'a $number $name $($field: $fty $(= $default)?,)*); }
    };
    (@message $number:literal $name:literal $(#[$doc:meta])* $ty:ident [$lt:lifetime] { $($(#[$fdoc:meta])* $field:ident : $fty:ty $(= $default:expr)?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $ty<$lt> { $($(#[$fdoc])* pub $field: $fty,)* }
        impl<$lt> $crate::message::Message<$lt> for $ty<$lt> { $crate::messages!(@impl $lt $number $name $($field: $fty $(= $default)?,)*); }
    };
    (@impl $lt:lifetime $number:literal $name:literal $($field:ident : $fty:ty $(= $default:expr)?,)*) => {
        const NUMBER: u16 = $number;
        const NAME: &'static str = $name;
        const FIELDS: &'static [$crate::schema::Field<'static>] = &$crate::messages!(@table $($field: $fty $(= $default)?,)*);
        const FIXED: usize = $crate::schema::fixed_size(Self::FIELDS);

        fn encoded_len(&self) -> usize {
            Self::FIXED $(+ $crate::message::Field::variable_len(&self.$field))*
        }

        #[allow(unused_mut, unused_variables)]
        fn encode(&self, out: &mut [u8]) -> ::core::result::Result<usize, $crate::EncodeError> {
            let mut encoder = $crate::message::Encoder::new(out, Self::FIXED)?;
            let mut layout = $crate::message::Layout::default();
            $($crate::message::Field::store(&self.$field, &mut encoder, layout.next::<$fty>())?;)*
            ::core::result::Result::Ok(encoder.len())
        }

        #[allow(unused_mut, unused_variables)]
        fn read(decoder: &$crate::message::Decoder<$lt>) -> ::core::result::Result<Self, $crate::DecodeError> {
            let mut layout = $crate::message::Layout::default();
            ::core::result::Result::Ok(Self { $($field: layout.load::<$fty>(decoder, || $crate::messages!(@missing $fty $(= $default)?))?,)* })
        }
    };
    (@missing $fty:ty) => { <$fty as $crate::message::Field>::missing() };
    (@missing $fty:ty = $default:expr) => { ::core::result::Result::Ok($default) };
    (@table $($field:ident : $fty:ty $(= $default:expr)?,)*) => {
        $crate::schema::fields([$($crate::schema::FieldSpec {
            name: stringify!($field),
            kind: <$fty as $crate::message::Field>::KIND,
            flags: $crate::messages!(@flags $fty $(= $default)?),
            definition: <$fty as $crate::message::Field>::DEFINITION,
        },)*])
    };
    (@flags $fty:ty) => { $crate::schema::optional_flag(<$fty as $crate::message::Field>::OPTIONAL) };
    (@flags $fty:ty = $default:expr) => {
        $crate::messages!(@flags $fty) | $crate::schema::field_flags::DEFAULTED
    };
}
