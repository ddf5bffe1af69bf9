// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters: by example, against a naive evaluator, and with bytes that are none.

use super::*;
use crate::fixed::Fixed;
use crate::limits::{MAX_FILTER, MAX_PREDICATES};
use crate::message::{Message, Pid, Status, Time};
use crate::schema::Field;
use crate::text::{Text, TextList};
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

mod endpoints;

use samples::Sample;

#[allow(unreachable_pub)] // what the macro makes is public
mod samples {
    use crate::message::{Guid, Pid, Status, Time};
    use crate::text::{Text, TextList};
    use core::net::{IpAddr, Ipv4Addr};

    crate::messages! {
        /// Every class of fields.
        provider _SAMPLES = "samples";

        /// One of each.
        notification 1 "sample" Sample<'a> {
            /// Unsigned.
            size: u64,
            /// Signed.
            change: i64,
            /// A time.
            at: Time,
            /// Narrow and signed.
            status: Status,
            /// Narrow.
            pid: Pid,
            /// Yes or no.
            system: bool,
            /// Optional.
            image: Option<Text<'a>>,
            /// A list.
            names: TextList<'a>,
            /// Bytes.
            data: &'a [u8],
        }

        /// What has a mark or a form of its own.
        notification 2 "endpoint" Endpoint {
            /// Which interface.
            interface: Guid,
            /// Of either family.
            remote: IpAddr,
            /// Of one.
            local: Ipv4Addr,
            /// There or not.
            port: Option<u16>,
            /// There or not.
            owner: Option<Pid>,
        }
    }
}

fn upcase(unit: u16) -> u16 {
    match unit {
        0x61..=0x7a | 0xe4 => unit - 0x20,
        _ => unit,
    }
}

fn field(name: &str) -> FieldPlace {
    place(Sample::FIELDS, name)
}

fn place(fields: &[Field<'_>], name: &str) -> FieldPlace {
    let field = fields.iter().find(|f| f.name == name).unwrap();
    FieldPlace {
        kind: field.kind,
        offset: field.offset,
        optional: field.is_optional(),
    }
}

fn has_field(kind: FieldKind, offset: u16, marked: bool) -> bool {
    is_there(Sample::FIELDS, kind, offset, marked)
}

fn is_there(fields: &[Field<'_>], kind: FieldKind, offset: u16, marked: bool) -> bool {
    fields.iter().any(|f| {
        let mark = f.is_optional() && !f.kind.is_variable();
        (f.kind, f.offset, mark) == (kind, offset, marked)
    })
}

fn write(program: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; MAX_FILTER];
    let mut writer = Writer::new(&mut bytes, 1);
    program(&mut writer);
    let length = writer.finish().unwrap();
    bytes.truncate(length);
    bytes
}

const SAMPLE: Sample<'_> = Sample {
    size: 1 << 63,
    change: -5,
    at: Time(132_000_000_000_000_000),
    status: Status(-1_073_741_515),
    pid: Pid(4),
    system: true,
    image: Some(Text::Utf8("C:\\Tools\\NC.exe")),
    names: TextList::Strings(&["alpha", "", "beta"]),
    data: b"MZ\x90",
};

fn encoded(sample: &Sample<'_>) -> Vec<u8> {
    let mut bytes = vec![0; sample.encoded_len()];
    sample.encode(&mut bytes).unwrap();
    bytes
}

fn judge(program: &[u8], message: &[u8], fixed: usize) -> Verdict {
    let program = Program::parse(program).expect("a program");
    program.check(has_field).expect("that may run");
    program.evaluate(message, fixed, upcase)
}

fn holds(program: impl FnOnce(&mut Writer<'_>)) -> bool {
    match judge(&write(program), &encoded(&SAMPLE), Sample::FIXED) {
        Verdict::Wanted => true,
        Verdict::Unwanted => false,
        Verdict::Undecided => panic!("not decided"),
    }
}

#[test]
fn numbers() {
    let range = |name, low: i64, high: i64| {
        let numbers = [low.cast_unsigned(), high.cast_unsigned()];
        holds(|w| w.numbers(Op::Range, field(name), &numbers).unwrap())
    };
    assert!(range("pid", 4, 4) && !range("pid", 5, 9) && !range("pid", 0, 3));
    // By sign where there is one, and not where there is none.
    assert!(range("change", -10, 3) && !range("change", -4, 3));
    assert!(range("status", -1_073_741_515, -1_073_741_515));
    assert!(range("size", i64::MAX, -1) && !range("size", 0, i64::MAX));
    let set = |name, set: &[u64]| holds(|w| w.numbers(Op::In, field(name), set).unwrap());
    assert!(set("pid", &[1, 4, 9]) && !set("pid", &[1, 5]));
    assert!(set("change", &[-9_i64 as u64, -5_i64 as u64, 0, 7]));
    let masked =
        |mask, value| holds(|w| w.numbers(Op::Masked, field("pid"), &[mask, value]).unwrap());
    assert!(masked(6, 4) && !masked(6, 2) && masked(0, 0));
}

#[test]
fn texts_and_bytes() {
    let text = |op, name, text, ignore| {
        holds(|w| w.text(op, field(name), Text::Utf8(text), ignore).unwrap())
    };
    for (op, operand, expected) in [
        (Op::Equal, "c:\\tools\\nc.EXE", true),
        (Op::Equal, "c:\\tools\\nc", false),
        (Op::Prefix, "C:\\tools\\", true),
        (Op::Prefix, "C:\\tools\\NC.exe!", false),
        (Op::Suffix, "\\nc.exe", true),
        (Op::Suffix, "\\ncat.exe", false),
        (Op::Suffix, "", true),
        (Op::Contains, "S\\N", true),
        (Op::Contains, "", true),
        (Op::Contains, "exe.", false),
        (Op::Glob, "*\\nc.*", true),
        (Op::Glob, "c:\\*\\n?.exe", true),
        (Op::Glob, "nc.exe", false),
        (Op::Glob, "*.ex", false),
        (Op::Glob, "*", true),
    ] {
        assert_eq!(
            text(op, "image", operand, true),
            expected,
            "{op:?} {operand}"
        );
        let exact = text(op, "image", operand, false);
        assert!(!exact || expected, "case is one condition more");
    }
    assert!(text(Op::Suffix, "image", "NC.exe", false));
    assert!(!text(Op::Suffix, "image", "nc.exe", false));
    assert!(text(Op::Equal, "names", "BETA", true) && !text(Op::Equal, "names", "gamma", true));
    assert!(
        text(Op::Equal, "names", "", false),
        "the second one is empty"
    );
    let bytes = |op, bytes| holds(|w| w.bytes(op, field("data"), bytes).unwrap());
    assert!(bytes(Op::BytesPrefix, b"MZ") && !bytes(Op::BytesPrefix, b"MZ\x90\0"));
    assert!(bytes(Op::BytesEqual, b"MZ\x90") && !bytes(Op::BytesEqual, b"MZ"));
}

#[test]
fn what_is_absent_satisfies_nothing_else() {
    let none = Sample {
        image: None,
        ..SAMPLE
    };
    let absent = write(|w| w.absent(field("image")).unwrap());
    let any = write(|w| {
        w.text(Op::Glob, field("image"), Text::Utf8("*"), false)
            .unwrap()
    });
    assert_eq!(
        judge(&absent, &encoded(&none), Sample::FIXED),
        Verdict::Wanted
    );
    assert_eq!(
        judge(&any, &encoded(&none), Sample::FIXED),
        Verdict::Unwanted
    );
    assert_eq!(
        judge(&absent, &encoded(&SAMPLE), Sample::FIXED),
        Verdict::Unwanted
    );
    // Written by an older version, which ended before the image: the bytes there are something
    // else.
    let older = field("image").offset.into();
    for program in [&absent, &write(|w| w.absent(field("names")).unwrap())] {
        assert_eq!(judge(program, &encoded(&SAMPLE), older), Verdict::Wanted);
    }
    assert_eq!(judge(&any, &encoded(&SAMPLE), older), Verdict::Unwanted);
}

#[test]
fn too_much_work_and_bad_bytes_pass() {
    let long: String = "a".repeat(20_000);
    let sample = Sample {
        image: Some(Text::Utf8(&long)),
        ..SAMPLE
    };
    let slow = |pattern| {
        write(|w| {
            w.text(Op::Glob, field("image"), Text::Utf8(pattern), true)
                .unwrap()
        })
    };
    let message = encoded(&sample);
    assert_eq!(
        judge(&slow("*a*a*a*ab"), &message, Sample::FIXED),
        Verdict::Undecided
    );
    assert_eq!(
        judge(&slow("*b"), &message, Sample::FIXED),
        Verdict::Undecided
    );
    // The same question, asked so that it can be answered.
    let ends = write(|w| {
        w.text(Op::Suffix, field("image"), Text::Utf8("b"), true)
            .unwrap()
    });
    assert_eq!(judge(&ends, &message, Sample::FIXED), Verdict::Unwanted);
    let mut bad = encoded(&SAMPLE);
    let at = usize::from(field("image").offset);
    bad[at + 4..at + 8].fill(0xff);
    assert_eq!(judge(&ends, &bad, Sample::FIXED), Verdict::Undecided);
}

#[test]
fn what_may_not_run_is_refused() {
    let fault = |bytes: &[u8]| {
        let parsed = Program::parse(bytes).and_then(|p| p.check(has_field));
        parsed.expect_err("refused").fault
    };
    let pid = field("pid");
    let one = |w: &mut Writer<'_>| w.numbers(Op::Range, pid, &[1, 2]).unwrap();
    let nowhere = FieldPlace { offset: 3, ..pid };
    let other = FieldPlace {
        kind: FieldKind::U32,
        ..pid
    };
    for (program, expected) in [
        (write(|_| {}), Fault::Stack),
        (write(|w| w.operator(Op::Not).unwrap()), Fault::Stack),
        (
            write(|w| {
                one(w);
                one(w)
            }),
            Fault::Stack,
        ),
        (
            write(|w| {
                one(w);
                w.operator(Op::And).unwrap()
            }),
            Fault::Stack,
        ),
        (
            write(|w| w.numbers(Op::Range, nowhere, &[1, 2]).unwrap()),
            Fault::NoField,
        ),
        (
            write(|w| w.numbers(Op::Range, other, &[1, 2]).unwrap()),
            Fault::NoField,
        ),
        (
            write(|w| w.numbers(Op::Range, pid, &[2, 1]).unwrap()),
            Fault::Operand,
        ),
        (
            write(|w| w.numbers(Op::Range, pid, &[1]).unwrap()),
            Fault::Operand,
        ),
        (
            write(|w| w.numbers(Op::In, pid, &[]).unwrap()),
            Fault::Operand,
        ),
        (
            write(|w| w.numbers(Op::In, pid, &[3, 3]).unwrap()),
            Fault::Operand,
        ),
        (
            write(|w| w.numbers(Op::Masked, pid, &[1, 2]).unwrap()),
            Fault::Operand,
        ),
        (
            write(|w| w.bytes(Op::Suffix, field("image"), b"odd").unwrap()),
            Fault::Operand,
        ),
        (
            write(|w| w.text(Op::Suffix, pid, Text::Utf8("x"), false).unwrap()),
            Fault::WrongKind,
        ),
        (
            write(|w| w.numbers(Op::In, field("image"), &[1]).unwrap()),
            Fault::WrongKind,
        ),
        (
            write(|w| w.bytes(Op::BytesPrefix, field("image"), b"x").unwrap()),
            Fault::WrongKind,
        ),
        (
            write(|w| {
                (0..=MAX_PREDICATES).for_each(|_| one(w));
                (0..MAX_PREDICATES).for_each(|_| w.operator(Op::Or).unwrap());
            }),
            Fault::TooLong,
        ),
    ] {
        assert_eq!(fault(&program), expected);
    }
    let good = write(one);
    for (at, value, expected) in [
        (0, 0, Fault::Malformed),
        (4, 2, Fault::Version),
        (6, 2, Fault::Malformed),
        (6, 0, Fault::Stack),
        (12, 0, Fault::Malformed),
        (12, 64, Fault::Malformed),
        (14, 1, Fault::Malformed),
        (16, 99, Fault::UnknownOperation),
        (17, 99, Fault::WrongKind),
        (18, 1, Fault::WrongKind),
        (18, 2, Fault::NoField),
        (18, 4, Fault::Malformed),
        (19, 1, Fault::Malformed),
        (22, 15, Fault::Operand),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(fault(&bad), expected, "byte {at} is {value}");
    }
    for length in 0..good.len() {
        assert_eq!(fault(&good[..length]), Fault::Malformed);
    }
}

/// An expression, to be written as a program and judged naively.
#[derive(Clone, Debug)]
enum Expression {
    And(std::boxed::Box<(Expression, Expression)>),
    Or(std::boxed::Box<(Expression, Expression)>),
    Not(std::boxed::Box<Expression>),
    Absent,
    Range(&'static str, i64, i64),
    In(Vec<u8>),
    Image(Op, String, bool),
    AnyName(Op, String),
    Data(Op, Vec<u8>),
}

impl Expression {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Expression::And(both) | Expression::Or(both) => {
                both.0.write(w);
                both.1.write(w);
                let and = matches!(self, Expression::And(_));
                w.operator(if and { Op::And } else { Op::Or })
            }
            Expression::Not(inner) => {
                inner.write(w);
                w.operator(Op::Not)
            }
            Expression::Absent => w.absent(field("image")),
            Expression::Range(name, low, high) => {
                let numbers = [low.cast_unsigned(), high.cast_unsigned()];
                w.numbers(Op::Range, field(name), &numbers)
            }
            Expression::In(pids) => {
                let pids: Vec<u64> = pids.iter().map(|p| u64::from(*p)).collect();
                w.numbers(Op::In, field("pid"), &pids)
            }
            Expression::Image(op, text, ignore) => {
                w.text(*op, field("image"), Text::Utf8(text), *ignore)
            }
            Expression::AnyName(op, text) => w.text(*op, field("names"), Text::Utf8(text), false),
            Expression::Data(op, bytes) => w.bytes(*op, field("data"), bytes),
        }
        .unwrap();
    }

    fn holds(&self, of: &Plain) -> bool {
        match self {
            Expression::And(both) => both.0.holds(of) && both.1.holds(of),
            Expression::Or(both) => both.0.holds(of) || both.1.holds(of),
            Expression::Not(inner) => !inner.holds(of),
            Expression::Absent => of.image.is_none(),
            Expression::Range(name, low, high) => {
                let number = if *name == "pid" {
                    of.pid.into()
                } else {
                    of.change
                };
                (*low..=*high).contains(&number)
            }
            Expression::In(pids) => pids.iter().any(|p| u32::from(*p) == of.pid),
            Expression::Image(op, text, ignore) => {
                of.image.as_ref().is_some_and(|image| match ignore {
                    true => naive(*op, &text.to_uppercase(), &image.to_uppercase()),
                    false => naive(*op, text, image),
                })
            }
            Expression::AnyName(op, text) => of.names.iter().any(|name| naive(*op, text, name)),
            Expression::Data(Op::BytesEqual, bytes) => *bytes == of.data,
            Expression::Data(_, bytes) => of.data.starts_with(bytes),
        }
    }
}

fn naive(op: Op, operand: &str, text: &str) -> bool {
    match op {
        Op::Equal => text == operand,
        Op::Prefix => text.starts_with(operand),
        Op::Suffix => text.ends_with(operand),
        Op::Contains => text.contains(operand),
        _ => match operand.chars().next() {
            None => text.is_empty(),
            Some('*') => (0..=text.len()).any(|i| naive(op, &operand[1..], &text[i..])),
            Some(c) => {
                let fits = text.chars().next().is_some_and(|t| c == '?' || c == t);
                fits && naive(op, &operand[1..], &text[1..])
            }
        },
    }
}

/// A message's content.
#[derive(Clone, Debug)]
struct Plain {
    pid: u32,
    change: i64,
    image: Option<String>,
    names: Vec<String>,
    data: Vec<u8>,
}

fn plain() -> impl Strategy<Value = Plain> {
    let image = proptest::option::of("[abAB]{0,6}");
    let names = proptest::collection::vec("[ab]{0,3}", 0..3);
    let data = proptest::collection::vec(0_u8..3, 0..3);
    (0_u32..6, -3_i64..4, image, names, data).prop_map(|(pid, change, image, names, data)| Plain {
        pid,
        change,
        image,
        names,
        data,
    })
}

fn text_op() -> impl Strategy<Value = Op> {
    proptest::sample::select(vec![
        Op::Equal,
        Op::Prefix,
        Op::Suffix,
        Op::Contains,
        Op::Glob,
    ])
}

fn expression() -> impl Strategy<Value = Expression> {
    let range = |name| {
        (-3_i64..6, 0_i64..4).prop_map(move |(low, more)| {
            let low = if name == "pid" { low.max(0) } else { low };
            Expression::Range(name, low, low + more)
        })
    };
    let bytes_op = proptest::sample::select(vec![Op::BytesEqual, Op::BytesPrefix]);
    let leaf = prop_oneof![
        Just(Expression::Absent),
        range("pid"),
        range("change"),
        proptest::collection::btree_set(0_u8..6, 1..4)
            .prop_map(|set| Expression::In(set.into_iter().collect())),
        (text_op(), "[abAB*?]{0,5}", any::<bool>())
            // Stars and question marks are themselves but in a glob; no text has them.
            .prop_map(|(op, text, ignore)| Expression::Image(op, text, ignore)),
        (text_op(), "[ab]{0,3}").prop_map(|(op, text)| Expression::AnyName(op, text)),
        (bytes_op, proptest::collection::vec(0_u8..3, 0..3))
            .prop_map(|(op, bytes)| Expression::Data(op, bytes)),
    ];
    leaf.prop_recursive(5, 32, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|both| Expression::And(both.into())),
            (inner.clone(), inner.clone()).prop_map(|both| Expression::Or(both.into())),
            inner.prop_map(|inner| Expression::Not(inner.into())),
        ]
    })
}

proptest! {
    #[test]
    fn a_program_says_what_its_expression_does(expression in expression(), plain in plain()) {
        let names: Vec<&str> = plain.names.iter().map(String::as_str).collect();
        let message = encoded(&Sample {
            pid: Pid(plain.pid),
            change: plain.change,
            image: plain.image.as_deref().map(Text::Utf8),
            names: TextList::Strings(&names),
            data: &plain.data,
            ..SAMPLE
        });
        let expected = if expression.holds(&plain) { Verdict::Wanted } else { Verdict::Unwanted };
        let program = write(|w| expression.write(w));
        prop_assert_eq!(judge(&program, &message, Sample::FIXED), expected);
    }

    #[test]
    fn spoilt_programs_and_messages_do_no_harm(
        expression in expression(),
        spoilt in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        message in proptest::collection::vec(any::<u8>(), 0..120),
        fixed in 0_usize..200,
    ) {
        let mut program = write(|w| expression.write(w));
        for (at, value) in spoilt {
            let at = at.index(program.len());
            program[at] = value;
        }
        if let Ok(program) = Program::parse(&program) {
            // What has not been checked may say anything, but must not panic either.
            let _any = program.evaluate(&message, fixed, upcase);
            if program.check(|_, _, _| true).is_ok() {
                prop_assert!(program.predicates() <= MAX_PREDICATES);
                prop_assert!(program.instructions().all(|i| i.is_ok()));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_a_program(body in proptest::collection::vec(any::<u8>(), 0..64), count in 0_u16..4) {
        let header = ProgramHeader {
            magic: u32::from_le_bytes(*b"FPFI"),
            version: VERSION,
            instructions: count,
            length: (ProgramHeader::SIZE + body.len()) as u32,
            message: 1,
            reserved: 0,
        };
        let mut bytes = vec![0; ProgramHeader::SIZE];
        header.write(&mut bytes).unwrap();
        bytes.extend(body);
        let program = Program::parse(&bytes).expect("the framing is right");
        if program.check(has_field).is_ok() {
            prop_assert_ne!(program.instructions().count(), 0);
        }
        let _any = program.evaluate(&bytes, 64, upcase);
    }
}
