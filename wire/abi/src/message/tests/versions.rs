// SPDX-License-Identifier: MIT OR Apache-2.0
//! One message in three versions, each written by each and read by each.

use super::encoded;
use crate::message::{DecodeError, List, Message, Pid};
use crate::text::Text;
use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

mod first {
    use super::*;
    crate::messages! {
        /// The first version.
        provider PROVIDER = "growing";
        types {
            /// A part.
            record Part {
                /// Its number.
                number: u32,
            }
        }
        /// It.
        notification 1 "it" It<'a> {
            /// Who.
            pid: Pid,
            /// Where.
            path: Option<Text<'a>>,
            /// What it consists of.
            parts: List<'a, Part>,
        }
        /// Do it.
        command 2 "do" Do {
            /// How often.
            times: u32,
        } -> /// Done.
        Done {
            /// How often.
            times: u32,
        }
    }
}

mod second {
    use super::*;
    crate::messages! {
        /// The second version.
        provider PROVIDER = "growing";
        types {
            /// A part.
            record Part<'a> {
                /// Its number.
                number: u32,
                /// Its name.
                name: Option<Text<'a>>,
            }
        }
        /// It.
        notification 1 "it" It<'a> {
            /// Who.
            pid: Pid,
            /// Where.
            path: Option<Text<'a>>,
            /// What it consists of.
            parts: List<'a, Part<'a>>,
            /// Its weight.
            weight: u32 = 7,
        }
        /// Do it.
        command 2 "do" Do {
            /// How often.
            times: u32,
            /// How fast.
            speed: u32,
        } -> /// Done.
        Done {
            /// How often.
            times: u32,
            /// How fast.
            speed: Option<u32>,
        }
    }
}

mod third {
    use super::*;
    crate::messages! {
        /// The third version.
        provider PROVIDER = "growing";
        types {
            /// A part.
            record Part<'a> {
                /// Its number.
                number: u32,
                /// Its name.
                name: Option<Text<'a>>,
                /// Its colour.
                colour: u32 = 3,
            }
        }
        /// It.
        notification 1 "it" It<'a> {
            /// Who.
            pid: Pid,
            /// Where.
            path: Option<Text<'a>>,
            /// What it consists of.
            parts: List<'a, Part<'a>>,
            /// Its weight.
            weight: u32 = 7,
            /// More.
            note: Option<Text<'a>>,
            /// Even more.
            level: Option<u8>,
        }
    }
}

/// What the newest version can say.
#[derive(Clone, Debug)]
struct Told {
    pid: u32,
    path: Option<String>,
    parts: Vec<(u32, Option<String>, u32)>,
    weight: u32,
    note: Option<String>,
    level: Option<u8>,
}

impl Told {
    /// What is left of it when either side knows only this version.
    fn as_of(&self, version: usize) -> Told {
        let mut told = self.clone();
        if version < 3 {
            (told.note, told.level) = (None, None);
            told.parts.iter_mut().for_each(|part| part.2 = 3);
        }
        if version < 2 {
            told.weight = 7;
            told.parts.iter_mut().for_each(|part| part.1 = None);
        }
        told
    }

    /// The bytes that a writer of this version writes, and their fixed part.
    fn write(&self, version: usize) -> (Vec<u8>, usize) {
        let (pid, weight, level) = (Pid(self.pid), self.weight, self.level);
        let path = self.path.as_deref().map(Text::Utf8);
        let note = self.note.as_deref().map(Text::Utf8);
        let text = |name: &Option<String>| name.clone().map(|n| &*n.leak()).map(Text::Utf8);
        match version {
            1 => {
                let part = |p: &(u32, Option<String>, u32)| first::Part { number: p.0 };
                let parts: Vec<_> = self.parts.iter().map(part).collect();
                let parts = List::new(&parts);
                (encoded(&first::It { pid, path, parts }), first::It::FIXED)
            }
            2 => {
                let part = |p: &(u32, Option<String>, u32)| second::Part {
                    number: p.0,
                    name: text(&p.1),
                };
                let parts: Vec<_> = self.parts.iter().map(part).collect();
                let it = second::It {
                    pid,
                    path,
                    parts: List::new(&parts),
                    weight,
                };
                (encoded(&it), second::It::FIXED)
            }
            _ => {
                let part = |p: &(u32, Option<String>, u32)| third::Part {
                    number: p.0,
                    name: text(&p.1),
                    colour: p.2,
                };
                let parts: Vec<_> = self.parts.iter().map(part).collect();
                let it = third::It {
                    pid,
                    path,
                    parts: List::new(&parts),
                    weight,
                    note,
                    level,
                };
                (encoded(&it), third::It::FIXED)
            }
        }
    }

    /// Whether a reader of this version reads exactly this.
    fn is_read(&self, version: usize, bytes: &[u8], fixed: Option<usize>) {
        match version {
            1 => self.is_first(read(bytes, fixed)),
            2 => self.is_second(read(bytes, fixed)),
            _ => self.is_third(read(bytes, fixed)),
        }
    }

    fn is_first(&self, it: first::It<'_>) {
        let numbers: Vec<_> = it.parts.iter().map(|p| p.number).collect();
        assert_eq!((it.pid.0, it.path), (self.pid, text(&self.path)));
        assert!(numbers.iter().eq(self.parts.iter().map(|p| &p.0)));
    }

    fn is_second(&self, it: second::It<'_>) {
        assert_eq!((it.pid.0, it.path), (self.pid, text(&self.path)));
        assert_eq!(it.weight, self.weight);
        let parts = it.parts.iter().map(|p| (p.number, p.name));
        assert!(parts.eq(self.parts.iter().map(|p| (p.0, text(&p.1)))));
    }

    fn is_third(&self, it: third::It<'_>) {
        assert_eq!((it.pid.0, it.path), (self.pid, text(&self.path)));
        assert_eq!(it.weight, self.weight);
        assert_eq!((it.note, it.level), (text(&self.note), self.level));
        let parts = it.parts.iter().map(|p| (p.number, p.name, p.colour));
        assert!(parts.eq(self.parts.iter().map(|p| (p.0, text(&p.1), p.2))));
    }
}

fn read<'m, M: Message<'m>>(bytes: &'m [u8], fixed: Option<usize>) -> M {
    let read = match fixed {
        Some(fixed) => M::decode_fixed(bytes, fixed),
        None => M::decode(bytes),
    };
    read.expect("a message of another version")
}

fn text(text: &Option<String>) -> Option<Text<'_>> {
    text.as_deref().map(Text::Utf8)
}

fn told() -> impl Strategy<Value = Told> {
    let text = || proptest::option::of("[a-z]{0,3}");
    let part = (any::<u32>(), text(), any::<u32>());
    let parts = prop::collection::vec(part, 0..4);
    (
        any::<u32>(),
        text(),
        parts,
        any::<u32>(),
        text(),
        any::<Option<u8>>(),
    )
        .prop_map(|(pid, path, parts, weight, note, level)| Told {
            pid,
            path,
            parts,
            weight,
            note,
            level,
        })
}

proptest! {
    /// With the length of the fixed part from the record, and without it, as in commands.
    #[test]
    fn each_version_reads_each(told in told(), writer in 1_usize..=3, reader in 1_usize..=3) {
        let (bytes, fixed) = told.write(writer);
        let expected = told.as_of(writer).as_of(reader);
        expected.is_read(reader, &bytes, Some(fixed));
        expected.is_read(reader, &bytes, None);
    }
}

#[test]
fn a_required_field_that_the_writer_does_not_know_is_missing() {
    let bytes = encoded(&first::Do { times: 3 });
    assert_eq!(second::Do::decode(&bytes), Err(DecodeError::Missing));
    // A reply: the field is optional.
    let bytes = encoded(&first::Done { times: 3 });
    let speed = None;
    assert_eq!(
        second::Done::decode(&bytes),
        Ok(second::Done { times: 3, speed })
    );
    // Neither the one nor the other: half a field.
    assert_eq!(
        second::Done::decode(&[3, 0, 0, 0, 1, 0]),
        Err(DecodeError::TooShort)
    );
}
