// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a filter's meaning to the program that the driver runs.

use super::FilterProblem;
use super::parse::{Comparison, Expression, Literal, Operand, Test, parse};
use crate::schema::{DefinitionSchema, FormSchema, MessageSchema, Schema};
use fltport_abi::EncodeError;
use fltport_abi::Text;
use fltport_abi::filter::{Class, FieldPlace, Op, Program, Writer};
use fltport_abi::limits::{MAX_FILTER, MAX_PREDICATES};
use fltport_abi::schema::FieldKind;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// The program of a filter for this message of the schema.
pub(crate) fn compile(
    schema: &Schema,
    message: &MessageSchema,
    text: &str,
) -> Result<Vec<u8>, FilterProblem> {
    let expression = parse(text)?;
    let mut bytes = vec![0; MAX_FILTER];
    let mut compiler = Compiler {
        text,
        schema,
        message,
        writer: Writer::new(&mut bytes, message.number),
    };
    compiler.write(&expression)?;
    let whole = |cause| FilterProblem::whole(text, cause);
    let length = compiler.writer.finish().map_err(|_| whole(too_long()))?;
    bytes.truncate(length);
    // What the driver would find is found here, where it can be said better.
    let is_known = |kind: FieldKind, offset, marked| {
        let mut fields = message.fields.iter();
        fields.any(|f| {
            let mark = f.optional && !kind.is_variable();
            f.kind == Some(kind) && f.offset == offset && mark == marked
        })
    };
    Program::parse(&bytes)
        .and_then(|program| program.check(is_known))
        .map_err(|error| whole(format!("{error}; {}", too_long())))?;
    Ok(bytes)
}

/// How long a filter can be.
pub(super) fn too_long() -> String {
    format!("a filter has at most {MAX_PREDICATES} predicates and {MAX_FILTER} bytes")
}

struct Compiler<'c> {
    text: &'c str,
    schema: &'c Schema,
    message: &'c MessageSchema,
    writer: Writer<'c>,
}

/// A field and where the filter names it.
struct Named<'n> {
    name: &'n str,
    place: FieldPlace,
    /// What its values are called.
    names: &'n [(u32, String)],
    at: &'n Range<usize>,
}

impl Compiler<'_> {
    fn problem(&self, at: &Range<usize>, cause: impl Into<String>) -> FilterProblem {
        FilterProblem::new(self.text, at.clone(), cause.into())
    }

    fn written(&self, result: Result<(), EncodeError>) -> Result<(), FilterProblem> {
        result.map_err(|_| self.problem(&(0..self.text.len()), too_long()))
    }

    fn operator(&mut self, op: Op) -> Result<(), FilterProblem> {
        let result = self.writer.operator(op);
        self.written(result)
    }

    fn write(&mut self, expression: &Expression) -> Result<(), FilterProblem> {
        match expression {
            Expression::And(left, right) => {
                self.write(left)?;
                self.write(right)?;
                self.operator(Op::And)
            }
            Expression::Or(left, right) => {
                self.write(left)?;
                self.write(right)?;
                self.operator(Op::Or)
            }
            Expression::Not(inner) => {
                self.write(inner)?;
                self.operator(Op::Not)
            }
            Expression::Predicate { field, at, test } => {
                let (place, definition) = self.find(field, at)?;
                let names = match definition.as_ref().map(|it| &it.form) {
                    Some(FormSchema::Enum(names) | FormSchema::Flags(names)) => names.as_slice(),
                    _ => &[],
                };
                let field = Named {
                    name: field,
                    place,
                    names,
                    at,
                };
                self.predicate(&field, test)
            }
        }
    }

    /// The field with this name, and what its values are called.
    fn find(
        &self,
        name: &str,
        at: &Range<usize>,
    ) -> Result<(FieldPlace, Option<Arc<DefinitionSchema>>), FilterProblem> {
        let (provider, message) = (&self.schema.provider, &self.message.name);
        let Some(field) = self.message.fields.iter().find(|f| f.name == name) else {
            let names: Vec<&str> = self
                .message
                .fields
                .iter()
                .map(|f| f.name.as_str())
                .collect();
            let there = match names.is_empty() {
                true => "It has no fields".to_owned(),
                false => format!("It has {}", names.join(", ")),
            };
            let cause = format!("\"{message}\" of {provider} has no field \"{name}\". {there}");
            return Err(self.problem(at, cause));
        };
        match field.kind {
            Some(kind) => {
                let place = FieldPlace {
                    kind,
                    offset: field.offset,
                    optional: field.optional,
                };
                Ok((place, field.definition.clone()))
            }
            None => {
                let cause = format!(
                    "the field \"{name}\" of \"{message}\" is of a type that this program does not know. Use a newer version"
                );
                Err(self.problem(at, cause))
            }
        }
    }

    fn predicate(&mut self, field: &Named<'_>, test: &Test) -> Result<(), FilterProblem> {
        match test {
            Test::Absent => {
                let result = self.writer.absent(field.place);
                self.written(result)
            }
            Test::Present => {
                self.predicate(field, &Test::Absent)?;
                self.operator(Op::Not)
            }
            Test::Holds if field.place.kind == FieldKind::Bool => self.range(field, 1, 1),
            Test::Holds => Err(self.problem(
                field.at,
                format!(
                    "something must be said of \"{}\"; it can be {}",
                    field.name,
                    possible(field.place)
                ),
            )),
            Test::Compare(Comparison::NotEqual, operand) => {
                // Not equal, and there: a predicate about what is absent is false.
                self.compare(field, Comparison::Equal, operand)?;
                self.operator(Op::Not)?;
                self.predicate(field, &Test::Present)?;
                self.operator(Op::And)
            }
            Test::Compare(comparison, operand) => self.compare(field, *comparison, operand),
            Test::In(items) => self.one_of(field, items),
        }
    }

    fn range(&mut self, field: &Named<'_>, low: u64, high: u64) -> Result<(), FilterProblem> {
        let result = self.writer.numbers(Op::Range, field.place, &[low, high]);
        self.written(result)
    }

    fn compare(
        &mut self,
        field: &Named<'_>,
        comparison: Comparison,
        operand: &Operand,
    ) -> Result<(), FilterProblem> {
        match field.place.class() {
            Class::Text => self.compare_text(field, comparison, operand),
            Class::Bytes => self.compare_bytes(field, comparison, operand),
            Class::Unsigned | Class::Signed => self.compare_number(field, comparison, operand),
            Class::Address if comparison == Comparison::Equal => {
                let (address, bits) = self.network(operand)?;
                let result = self.writer.network(field.place, address, bits);
                self.written(result)
            }
            Class::Guid if comparison == Comparison::Equal => {
                let guid = match &operand.literal {
                    Literal::Text { text, .. } => guid(text),
                    _ => None,
                };
                let example =
                    "here a GUID was expected, as in '{12345678-9abc-def0-1234-56789abcdef0}'";
                let guid = guid.ok_or_else(|| self.problem(&operand.at, example))?;
                let result = self.writer.bytes(Op::BytesEqual, field.place, &guid);
                self.written(result)
            }
            Class::Address | Class::Guid | Class::Opaque => Err(self.impossible(field, operand)),
        }
    }

    /// An address, or a network of them.
    fn network(&self, operand: &Operand) -> Result<(IpAddr, u32), FilterProblem> {
        let found = match &operand.literal {
            Literal::Text { text, .. } => network(text),
            _ => None,
        };
        let example = "here an address or a network was expected, as in '10.0.0.0/8' or 'fe80::1'";
        found.ok_or_else(|| self.problem(&operand.at, example))
    }

    fn impossible(&self, field: &Named<'_>, operand: &Operand) -> FilterProblem {
        let at = field.at.start..operand.at.end;
        let cause = format!(
            "this cannot be said of \"{}\"; it can be {}",
            field.name,
            possible(field.place)
        );
        self.problem(&at, cause)
    }

    fn compare_text(
        &mut self,
        field: &Named<'_>,
        comparison: Comparison,
        operand: &Operand,
    ) -> Result<(), FilterProblem> {
        let op = match comparison {
            Comparison::Equal => Op::Equal,
            Comparison::Starts => Op::Prefix,
            Comparison::Ends => Op::Suffix,
            Comparison::Contains => Op::Contains,
            Comparison::Like => Op::Glob,
            _ => return Err(self.impossible(field, operand)),
        };
        let Literal::Text { text, case } = &operand.literal else {
            return Err(self.problem(&operand.at, "here a text in quotes was expected"));
        };
        let result = self.writer.text(op, field.place, Text::Utf8(text), !case);
        self.written(result)
    }

    fn compare_bytes(
        &mut self,
        field: &Named<'_>,
        comparison: Comparison,
        operand: &Operand,
    ) -> Result<(), FilterProblem> {
        let op = match comparison {
            Comparison::Equal => Op::BytesEqual,
            Comparison::Starts => Op::BytesPrefix,
            _ => return Err(self.impossible(field, operand)),
        };
        let Literal::Bytes(bytes) = &operand.literal else {
            return Err(self.problem(&operand.at, "here bytes were expected, as in x\"4d5a\""));
        };
        let result = self.writer.bytes(op, field.place, bytes);
        self.written(result)
    }

    fn compare_number(
        &mut self,
        field: &Named<'_>,
        comparison: Comparison,
        operand: &Operand,
    ) -> Result<(), FilterProblem> {
        if matches!(
            comparison,
            Comparison::Starts | Comparison::Ends | Comparison::Contains | Comparison::Like
        ) {
            return Err(self.impossible(field, operand));
        }
        let number = self.number(field, operand)?;
        let (least, most) = bounds(field.place);
        let beyond = "no number lies beyond that";
        let (low, high) = match comparison {
            Comparison::Equal => (number, number),
            Comparison::AtMost => (least, number),
            Comparison::AtLeast => (number, most),
            Comparison::Less if number > least => (least, number - 1),
            Comparison::More if number < most => (number + 1, most),
            Comparison::Less | Comparison::More => {
                return Err(self.problem(&operand.at, beyond));
            }
            Comparison::Has => {
                let mask = wire(number);
                let masked = self.writer.numbers(Op::Masked, field.place, &[mask, mask]);
                return self.written(masked);
            }
            _ => return Err(self.impossible(field, operand)),
        };
        self.range(field, wire(low), wire(high))
    }

    /// A number, or what stands for one, that a field of this kind can have.
    fn number(&self, field: &Named<'_>, operand: &Operand) -> Result<i128, FilterProblem> {
        let kind = field.place.kind;
        let number = match &operand.literal {
            Literal::Name(name) if kind == FieldKind::Bool => match name.as_str() {
                "true" => Some(1),
                "false" => Some(0),
                _ => None,
            },
            Literal::Name(name) => {
                let mut names = field.names.iter();
                let found = names.find(|(_, known)| known == name);
                found.map(|(value, _)| i128::from(*value))
            }
            Literal::Text { text, .. } if kind == FieldKind::Time => time(text),
            Literal::Number(digits) if kind != FieldKind::Bool => integer(digits),
            _ => None,
        };
        let Some(number) = number else {
            let cause = match field.names {
                [] => format!("here {} was expected", expected(kind)),
                names => {
                    let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
                    format!("here a number was expected, or one of {}", names.join(", "))
                }
            };
            return Err(self.problem(&operand.at, cause));
        };
        let (least, most) = bounds(field.place);
        // A status is written as it is read, with its highest bit and without a sign.
        let unsigned = kind == FieldKind::Status && number > most && number <= u32::MAX.into();
        let number = if unsigned { number - (1 << 32) } else { number };
        match (least..=most).contains(&number) {
            true => Ok(number),
            false => {
                let most = match kind {
                    FieldKind::Status => u32::MAX.into(),
                    _ => most,
                };
                let cause = format!("\"{}\" is from {least} to {most}", field.name);
                Err(self.problem(&operand.at, cause))
            }
        }
    }

    fn one_of(
        &mut self,
        field: &Named<'_>,
        items: &[(Operand, Option<Operand>)],
    ) -> Result<(), FilterProblem> {
        let is_number = matches!(field.place.class(), Class::Unsigned | Class::Signed);
        let mut written = 0_usize;
        let mut single = Vec::new();
        for (low, high) in items {
            match high {
                None if is_number => {
                    single.push(self.number(field, low)?);
                    continue;
                }
                None => self.compare(field, Comparison::Equal, low)?,
                Some(high) if is_number => {
                    let (from, to) = (self.number(field, low)?, self.number(field, high)?);
                    if from > to {
                        let cause = "the first of the two is the greater one";
                        return Err(self.problem(&(low.at.start..high.at.end), cause));
                    }
                    self.range(field, wire(from), wire(to))?;
                }
                Some(high) => return Err(self.impossible(field, high)),
            }
            written += 1;
        }
        if !single.is_empty() {
            single.sort_unstable();
            single.dedup();
            let numbers: Vec<u64> = single.into_iter().map(wire).collect();
            let result = self.writer.numbers(Op::In, field.place, &numbers);
            self.written(result)?;
            written += 1;
        }
        (1..written).try_for_each(|_| self.operator(Op::Or))
    }
}

/// A number as it travels: one with a sign as its two's complement.
fn wire(number: i128) -> u64 {
    number as u64
}

/// The least and the greatest number that a field can have.
fn bounds(place: FieldPlace) -> (i128, i128) {
    let bits = 8 * place.kind.size() as u32;
    match (place.kind, place.class()) {
        (FieldKind::Bool, _) => (0, 1),
        (_, Class::Signed) => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
        _ => (0, (1_i128 << bits) - 1),
    }
}

fn integer(digits: &str) -> Option<i128> {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, digits),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    Some(sign * i128::from(number.ok()?))
}

/// NT system time of a point in time in RFC 3339.
fn time(text: &str) -> Option<i128> {
    /// Intervals of 100 ns from 1601-01-01 to 1970-01-01.
    const TO_UNIX: i128 = 116_444_736_000_000_000;
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(timestamp.as_nanosecond().div_euclid(100) + TO_UNIX)
}

/// An address with the number of bits that count, all of them if it is not said.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then_some((address, bits))
}

/// A GUID as NT has it in memory, from `{12345678-9abc-def0-1234-56789abcdef0}`, with or without the
/// braces.
fn guid(text: &str) -> Option<[u8; 16]> {
    let inside = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let digits = inside.unwrap_or(text);
    let groups: Vec<&str> = digits.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let whole =
        lengths == [8, 4, 4, 4, 12] && digits.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    let number = u128::from_str_radix(&groups.concat(), 16)
        .ok()
        .filter(|_| whole)?;
    let mut bytes = number.to_be_bytes();
    // The first three numbers are little-endian.
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Some(bytes)
}

fn expected(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Bool => "true or false",
        FieldKind::Time => "a time in quotes, as in \"2026-01-31T08:00:00Z\"",
        _ => "a number",
    }
}

/// What can be said of a field.
fn possible(place: FieldPlace) -> &'static str {
    match (place.kind, place.class()) {
        (FieldKind::Bool, _) => "named alone, or compared with == and !=",
        (_, Class::Unsigned | Class::Signed) => "compared with == != < <= > >= in has",
        (_, Class::Text) => "compared with == != starts ends contains ~ in",
        (_, Class::Bytes) => "compared with == != starts",
        (_, Class::Address) => "compared with == != in",
        (_, Class::Guid) => "compared with == != in",
        (_, Class::Opaque) => "present or absent",
    }
}
