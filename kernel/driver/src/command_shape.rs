// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a provider's commands look like, read from its schema once, so that each is checked before its
//! handler sees it: a service may be an enemy, and a handler in C has no decoder.

use crate::provider::TYPES;
use crate::tag;
use fltport_abi::message::{DecodeError, Decoder};
use fltport_abi::schema::{
    self, DefinitionForm, FieldKind, FieldRow, MAX_DEFINITIONS, MAX_DEPTH, Owner, Role,
    SchemaVisitor, Value, field_flags, value_of,
};
use fltport_nt::Result;
use fltport_nt::ex::PoolSlice;

/// A field of a command, or of a record.
#[derive(Clone, Copy)]
struct Field {
    kind: FieldKind,
    optional: bool,
    /// The number of its definition, from 1; 0 for none.
    definition: u8,
    offset: u16,
}

/// The fields of a command, or of a record, among all.
#[derive(Clone, Copy, Default)]
struct Shape {
    first: u16,
    count: u16,
    /// Bytes of the fixed part that every version of it has.
    needed: u16,
}

/// The shapes of a provider's commands, and of the records in them.
pub(crate) struct Shapes {
    commands: PoolSlice<Shape>,
    records: PoolSlice<Shape>,
    fields: PoolSlice<Field>,
}

/// Whose fields are being told.
#[derive(Clone, Copy)]
enum Within {
    Nothing,
    Command(u16),
    Record(usize),
}

/// Goes through a schema that has been checked: once to count, and once to fill in.
struct Survey {
    shapes: Shapes,
    within: Within,
    definitions: usize,
    fields: usize,
}

impl SchemaVisitor for Survey {
    fn provider(&mut self, _name: &str, _hash: u64) {}

    fn definition(&mut self, form: Option<DefinitionForm>, _name: &str) {
        self.within = match form {
            Some(DefinitionForm::Record) => Within::Record(self.definitions),
            _ => Within::Nothing,
        };
        self.definitions += 1;
    }

    fn message(&mut self, number: u16, role: Role, _name: &str) {
        self.within = match role {
            Role::Command => Within::Command(number),
            Role::Notification | Role::Request => Within::Nothing,
        };
    }

    fn field(&mut self, field: &FieldRow<'_>) {
        let shape = match (self.within, field.owner) {
            (Within::Command(number), Owner::Message) => {
                self.shapes.commands.get_mut(usize::from(number))
            }
            (Within::Record(index), Owner::Record) => self.shapes.records.get_mut(index),
            _ => None,
        };
        // A kind that this version does not know is for the handler to look at.
        let (Some(shape), Some(kind)) = (shape, FieldKind::from_wire(field.kind)) else {
            return;
        };
        let optional = field.flags & field_flags::OPTIONAL != 0;
        if let Some(place) = self.shapes.fields.get_mut(self.fields) {
            *place = Field {
                kind,
                optional,
                definition: field.definition,
                offset: field.offset,
            };
            if shape.count == 0 {
                // There are fewer than a schema has bytes.
                shape.first = self.fields as u16;
            }
            shape.count += 1;
            if !optional && field.flags & field_flags::DEFAULTED == 0 {
                // The schema has been checked: no field ends beyond 65,535 bytes.
                shape.needed = field.offset.saturating_add(kind.place(false) as u16);
            }
        }
        self.fields += 1;
    }
}

impl Shapes {
    /// IRQL: PASSIVE_LEVEL. Those of a schema that has been checked.
    #[inline(never)]
    pub(crate) fn new(schema: &[u8]) -> Result<Self> {
        let mut survey = Survey {
            shapes: Shapes {
                commands: PoolSlice::filled(tag::PROVIDER, TYPES, Shape::default())?,
                records: PoolSlice::filled(tag::PROVIDER, MAX_DEFINITIONS, Shape::default())?,
                fields: PoolSlice::filled_with(tag::PROVIDER, 0, || NO_FIELD)?,
            },
            within: Within::Nothing,
            definitions: 0,
            fields: 0,
        };
        // It has been read before.
        let _sound = schema::read(schema, &mut survey);
        survey.shapes.fields = PoolSlice::filled(tag::PROVIDER, survey.fields, NO_FIELD)?;
        (survey.within, survey.definitions, survey.fields) = (Within::Nothing, 0, 0);
        let _sound = schema::read(schema, &mut survey);
        Ok(survey.shapes)
    }

    /// IRQL: any. Checks a command's payload field by field, down to the last record of the last list:
    /// that what must be there is, and that each field has a value of its type.
    ///
    /// What it takes is bounded by the bytes: a field that is looked at has some, records have them to
    /// themselves ([`Decoder`]), and what a version does not have is not gone through.
    pub(crate) fn check(
        &self,
        command: u16,
        payload: &[u8],
    ) -> core::result::Result<(), DecodeError> {
        let decoder = Decoder::new(payload);
        let shape = self.commands.get(usize::from(command)).copied();
        let shape = shape.unwrap_or_default();
        self.check_fields(&decoder, shape, 0, None, MAX_DEPTH)?;
        match decoder.end() < usize::from(shape.needed) {
            true => Err(DecodeError::TooShort),
            false => Ok(()),
        }
    }

    /// The fields of the command, or of a record that ends before `end` and in which records may lie
    /// `depth` deep.
    fn check_fields(
        &self,
        decoder: &Decoder<'_>,
        shape: Shape,
        base: usize,
        end: Option<usize>,
        depth: usize,
    ) -> core::result::Result<(), DecodeError> {
        let fields = self.fields.iter().skip(shape.first.into());
        for field in fields.take(shape.count.into()) {
            let at = base + usize::from(field.offset);
            // The command's own fixed part ends where the variable data begins.
            let end = end.unwrap_or_else(|| decoder.end());
            if at >= end {
                break;
            }
            let value = value_of(decoder, at, end, field.kind, field.optional)?;
            let Value::Records(elements) = value else {
                continue;
            };
            let index = usize::from(field.definition).wrapping_sub(1);
            // A schema that has been checked is not as deep, and each record's definition is there.
            let (Some(shape), Some(depth)) = (self.records.get(index), depth.checked_sub(1)) else {
                return Err(DecodeError::BadValue);
            };
            if elements.block.count != 0 && elements.block.stride < usize::from(shape.needed) {
                return Err(DecodeError::TooShort);
            }
            for (at, end) in elements.places() {
                self.check_fields(decoder, *shape, at, Some(end), depth)?;
            }
        }
        Ok(())
    }
}

const NO_FIELD: Field = Field {
    kind: FieldKind::U8,
    optional: true,
    definition: 0,
    offset: 0,
};
