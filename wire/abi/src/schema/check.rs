// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether an encoded schema makes sense. Its author may be an enemy, or just mistaken.

use super::encoded::{DefinitionForm, FieldRow, Owner, SchemaVisitor, read};
use super::{FieldKind, MAX_DEFINITIONS, MAX_DEPTH, MAX_NAME, Role, field_flags};
use crate::limits::{MAX_PROVIDER_NAME, MAX_SCHEMA};
use crate::message::DecodeError;

/// What is wrong with a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaError {
    /// It cannot be read.
    Unreadable(DecodeError),
    /// It has more bytes than [`MAX_SCHEMA`].
    TooLarge,
    /// A name is empty, too long or has control characters.
    BadName,
    /// Two of the provider's messages have one number.
    SameNumber,
    /// Two messages, two definitions, two fields or two values of one definition have one name.
    SameName,
    /// Two fields overlap, or are not in the order of their offsets.
    Overlap,
    /// A field is not at a multiple of its alignment, or ends beyond 65,535 bytes.
    BadOffset,
    /// A field refers to no definition, or to none of the right form that stands before it.
    BadDefinition,
    /// There are too many definitions.
    TooManyDefinitions,
    /// Records lie too deep in records.
    TooDeep,
}

impl core::fmt::Display for SchemaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            SchemaError::Unreadable(_) => "the schema cannot be read",
            SchemaError::TooLarge => "the schema is larger than 16 KiB",
            SchemaError::BadName => "a name is empty, too long or has control characters",
            SchemaError::SameNumber => "two messages have one number",
            SchemaError::SameName => "two of a kind have one name",
            SchemaError::Overlap => "two fields overlap, or are not in order",
            SchemaError::BadOffset => "a field is not at a multiple of its alignment, or too far out",
            SchemaError::BadDefinition => {
                "a field refers to a definition that is not there, stands behind it or is of another form"
            }
            SchemaError::TooManyDefinitions => "there are more than 64 definitions",
            SchemaError::TooDeep => "records lie more than four deep in records",
        })
    }
}

impl core::error::Error for SchemaError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            SchemaError::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

/// Whether `bytes` are a schema that makes sense; what else is read of it can rely on that.
///
/// IRQL: any; its time grows with the square of the number of names. With the 1,400 of three letters that
/// have room it takes some 20 milliseconds; a schema is checked once, when its provider registers, at
/// PASSIVE_LEVEL and without a lock.
#[inline(never)]
pub fn check(bytes: &[u8]) -> Result<(), SchemaError> {
    if bytes.len() > MAX_SCHEMA {
        return Err(SchemaError::TooLarge);
    }
    let mut check = Check {
        bytes,
        wrong: None,
        place: Place::default(),
        numbers: 0,
        definitions: [Known::Unknown; MAX_DEFINITIONS],
        end: 0,
        reply_end: 0,
    };
    read(bytes, &mut check).map_err(SchemaError::Unreadable)?;
    match check.wrong {
        Some(wrong) => Err(wrong),
        None => Ok(()),
    }
}

/// How many of everything there were, down to the present part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Place {
    definitions: usize,
    messages: usize,
    /// Fields of the last definition, or of the last message.
    fields: usize,
    replies: usize,
    values: usize,
}

/// What is known of a definition.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Unknown,
    Enum,
    Flags,
    Record { depth: u8 },
}

struct Check<'a> {
    bytes: &'a [u8],
    wrong: Option<SchemaError>,
    place: Place,
    numbers: u64,
    /// On the stack, and of a driver: each is small.
    definitions: [Known; MAX_DEFINITIONS],
    /// Where the last field of a message or definition ends.
    end: usize,
    /// And of a reply, for its fields may stand between those of its message.
    reply_end: usize,
}

impl Check<'_> {
    fn require(&mut self, holds: bool, or: SchemaError) {
        if !holds {
            self.wrong.get_or_insert(or);
        }
    }

    fn name(&mut self, name: &str, part: Part) {
        let sane =
            !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        self.require(sane, SchemaError::BadName);
        // What is wrong already need not be compared: the time is bounded by what is right.
        if self.wrong.is_none() {
            let mut earlier = Earlier {
                name,
                part,
                until: self.place,
                place: Place::default(),
                found: false,
            };
            let again = read(self.bytes, &mut earlier).is_err() || !earlier.found;
            self.require(again, SchemaError::SameName);
        }
    }

    fn kind(&mut self, field: &FieldRow<'_>, kind: FieldKind) {
        let (offset, align) = (usize::from(field.offset), kind.align());
        let optional = field.flags & field_flags::OPTIONAL != 0;
        let end = offset + kind.place(optional);
        *self.end_of(field.owner) = end;
        let inside = offset.is_multiple_of(align) && end <= usize::from(u16::MAX);
        self.require(inside, SchemaError::BadOffset);
        let known = match usize::from(field.definition).checked_sub(1) {
            // A record does not know itself yet.
            Some(index) if index < self.known_before(field.owner) => self.definitions.get(index),
            Some(_) => None,
            None => Some(&Known::Unknown),
        };
        let fits = match kind {
            FieldKind::Enum => known == Some(&Known::Enum),
            FieldKind::Flags => known == Some(&Known::Flags),
            FieldKind::Record | FieldKind::List => matches!(known, Some(Known::Record { .. })),
            _ => field.definition == 0,
        };
        let below = match known {
            Some(Known::Record { depth }) => usize::from(*depth),
            _ => 0,
        };
        self.require(fits, SchemaError::BadDefinition);
        if field.owner == Owner::Record {
            self.deepen(below + 1);
        }
    }

    fn end_of(&mut self, owner: Owner) -> &mut usize {
        match owner {
            Owner::Reply => &mut self.reply_end,
            Owner::Message | Owner::Record => &mut self.end,
        }
    }

    fn known_before(&self, owner: Owner) -> usize {
        match owner {
            Owner::Record => self.place.definitions.saturating_sub(1),
            Owner::Message | Owner::Reply => self.place.definitions,
        }
    }

    fn deepen(&mut self, to: usize) {
        self.require(to <= MAX_DEPTH, SchemaError::TooDeep);
        let last = self.place.definitions.saturating_sub(1);
        if let Some(Known::Record { depth }) = self.definitions.get_mut(last) {
            // Deeper than may be is refused, whatever is noted here.
            *depth = (*depth).max(u8::try_from(to).unwrap_or(u8::MAX));
        }
    }
}

impl SchemaVisitor for Check<'_> {
    fn provider(&mut self, name: &str, _hash: u64) {
        let sane = !name.is_empty()
            && name.len() <= MAX_PROVIDER_NAME
            && !name.chars().any(char::is_control);
        self.require(sane, SchemaError::BadName);
    }

    fn definition(&mut self, form: Option<DefinitionForm>, name: &str) {
        self.name(name, Part::Definition);
        let known = match form {
            Some(DefinitionForm::Enum) => Known::Enum,
            Some(DefinitionForm::Flags) => Known::Flags,
            Some(DefinitionForm::Record) => Known::Record { depth: 1 },
            None => Known::Unknown,
        };
        match self.definitions.get_mut(self.place.definitions) {
            Some(place) => *place = known,
            None => self.require(false, SchemaError::TooManyDefinitions),
        }
        self.place.begin(Part::Definition);
        (self.end, self.reply_end) = (0, 0);
    }

    fn value(&mut self, _value: u32, name: &str) {
        self.name(name, Part::Value);
        self.place.begin(Part::Value);
    }

    fn message(&mut self, number: u16, _role: Role, name: &str) {
        let bit = 1_u64.checked_shl(number.into()).unwrap_or(0);
        self.require(self.numbers & bit == 0, SchemaError::SameNumber);
        self.numbers |= bit;
        self.name(name, Part::Message);
        self.place.begin(Part::Message);
        (self.end, self.reply_end) = (0, 0);
    }

    fn field(&mut self, field: &FieldRow<'_>) {
        let part = Part::of(field.owner);
        self.name(field.name, part);
        self.place.begin(part);
        let end = *self.end_of(field.owner);
        self.require(usize::from(field.offset) >= end, SchemaError::Overlap);
        match FieldKind::from_wire(field.kind) {
            Some(kind) => self.kind(field, kind),
            // Of a newer version: it has some bytes, but who knows how many.
            None => *self.end_of(field.owner) = usize::from(field.offset) + 1,
        }
    }
}

/// What a name is unique among.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Definition,
    Message,
    Field,
    Reply,
    Value,
}

impl Part {
    fn of(owner: Owner) -> Part {
        match owner {
            Owner::Reply => Part::Reply,
            Owner::Message | Owner::Record => Part::Field,
        }
    }
}

impl Place {
    /// Counts the next part.
    fn begin(&mut self, part: Part) {
        match part {
            Part::Field => self.fields += 1,
            Part::Reply => self.replies += 1,
            Part::Value => self.values += 1,
            Part::Definition | Part::Message => {
                (self.fields, self.replies, self.values) = (0, 0, 0);
                if part == Part::Message {
                    self.messages += 1;
                } else {
                    self.definitions += 1;
                }
            }
        }
    }
}

/// Looks for a name among those of its kind that stand before it.
struct Earlier<'n> {
    name: &'n str,
    part: Part,
    until: Place,
    place: Place,
    found: bool,
}

impl Earlier<'_> {
    fn see(&mut self, name: &str, part: Part) {
        let (here, until) = (&self.place, &self.until);
        let of_one = here.definitions == until.definitions && here.messages == until.messages;
        let comparable = match part {
            Part::Definition => here.definitions < until.definitions,
            Part::Message => here.messages < until.messages,
            Part::Field => of_one && here.fields < until.fields,
            Part::Reply => of_one && here.replies < until.replies,
            Part::Value => of_one && here.values < until.values,
        };
        self.found |= comparable && part == self.part && name == self.name;
        self.place.begin(part);
    }
}

impl SchemaVisitor for Earlier<'_> {
    fn provider(&mut self, _name: &str, _hash: u64) {}

    fn definition(&mut self, _form: Option<DefinitionForm>, name: &str) {
        self.see(name, Part::Definition);
    }

    fn value(&mut self, _value: u32, name: &str) {
        self.see(name, Part::Value);
    }

    fn message(&mut self, _number: u16, _role: Role, name: &str) {
        self.see(name, Part::Message);
    }

    fn field(&mut self, field: &FieldRow<'_>) {
        self.see(field.name, Part::of(field.owner));
    }
}

#[cfg(test)]
mod tests;
