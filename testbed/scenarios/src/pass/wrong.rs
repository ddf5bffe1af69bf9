// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes that are wrong on purpose, each in one way: hellos, resume points, commands, filters. What is
//! wrong has a name in the scenarios. `version-1` alone is right: a service of the first version.

use super::{Buffers, send};
use crate::arguments::Seat;
use crate::orders::{Answer, Refusal};
use crate::service::key;
use fltport_abi::Message;
use fltport_abi::command::{
    CommandHeader, ConnectionRow, FilteredSubscription, Limits, Subscription, own,
};
use fltport_abi::filter::{FieldPlace, Op, Writer};
use fltport_abi::fixed::Fixed;
use fltport_abi::hello::{Hello, StreamHello, rights, stream};
use fltport_abi::limits::{MAX_FILTER, MAX_RETENTION_MS, MAX_WINDOW};
use loadgen::messages::{PROVIDER, Tick};

/// What is known of the place where it is tried.
struct Target<'n> {
    name: &'n str,
    /// The load generator's number.
    provider: u32,
    stream: &'n str,
}

/// What is sent: to connect with, and then as a command.
struct Sent {
    hello: Vec<u8>,
    command: Vec<u8>,
}

/// A way to be wrong.
type Wrong = (&'static str, fn(&Target<'_>) -> Sent);

const WRONG: [Wrong; 40] = [
    ("version-1", |t| greeting(t, |h| h.max_version = 1)),
    ("version-none", |t| {
        greeting(t, |h| (h.min_version, h.max_version) = (7, 9))
    }),
    ("hello-empty", |t| hello(t, |bytes| bytes.clear())),
    ("hello-short", |t| hello(t, |bytes| bytes.truncate(71))),
    ("hello-odd", |t| hello(t, |bytes| bytes.push(0))),
    ("hello-long", |t| hello(t, |bytes| bytes.resize(60_000, 0))),
    ("hello-magic", |t| greeting(t, |h| h.magic = 0)),
    ("hello-rights", |t| greeting(t, |h| h.rights = 1 << 31)),
    ("hello-versions", |t| greeting(t, |h| h.min_version = 3)),
    ("stream-key", |t| resuming(t, |s| s.key = [0; 16])),
    ("stream-flags", |t| resuming(t, |s| s.flags = 1 << 31)),
    ("stream-force", |t| {
        resuming(t, |s| s.flags = stream::TAKE_OVER)
    }),
    ("stream-retention", |t| {
        resuming(t, |s| s.retention_ms = MAX_RETENTION_MS + 1)
    }),
    ("stream-window", |t| {
        resuming(t, |s| s.window = MAX_WINDOW + 1)
    }),
    ("stream-reserved", |t| resuming(t, |s| s.reserved = 1)),
    ("stream-version-1", |t| {
        let mut sent = resuming(t, |_| ());
        // The newest version that the service speaks.
        sent.hello.splice(6..8, 1_u16.to_le_bytes());
        sent
    }),
    ("resume-in-use", |t| resuming(t, |_| ())),
    ("resume-nothing", |t| {
        resuming(t, |s| s.flags |= stream::MUST_EXIST)
    }),
    ("resume-beyond", |t| {
        resuming(t, |s| {
            (s.flags, s.acknowledged) = (stream::RESUME | stream::TAKE_OVER, u64::MAX);
        })
    }),
    ("resume-before", |t| {
        resuming(t, |s| {
            (s.flags, s.acknowledged) = (stream::RESUME | stream::TAKE_OVER, 1);
        })
    }),
    ("resume-former", |t| resuming(t, |s| s.former = 1)),
    ("command-empty", |t| raw(t, Vec::new())),
    ("command-short", |t| raw(t, vec![0; 15])),
    ("command-magic", |t| raw(t, vec![0xA5; 64])),
    ("command-length", |t| {
        let mut bytes = command(own::LEDGER, &[0; 8]);
        bytes.push(0);
        raw(t, bytes)
    }),
    ("command-unknown", |t| raw(t, command(999, &[0; 8]))),
    ("page-short", |t| raw(t, command(own::LEDGER, &[0; 7]))),
    ("subscribe-short", |t| {
        raw(t, command(own::SUBSCRIBE, &[0; 23]))
    }),
    ("subscribe-nobody", |t| {
        subscribing(t, |s| s.provider = 9_999)
    }),
    ("subscribe-bits", |t| {
        subscribing(t, |s| s.observe = u64::MAX)
    }),
    ("subscribe-tick", |t| subscribing(t, |s| s.decide = 1 << 1)),
    ("limits-queue", |t| {
        let limits = Limits {
            queue: u32::MAX,
            rate: 0,
            burst: 0,
            reserved: 0,
        };
        raw(t, command(own::LIMITS, &bytes(&limits)))
    }),
    ("acknowledge-beyond", |t| {
        raw(t, command(own::ACKNOWLEDGE, &u64::MAX.to_le_bytes()))
    }),
    ("filter-flags", |t| {
        filtering(t, &program(), |s| s.flags = 1 << 31)
    }),
    ("filter-length", |t| {
        filtering(t, &program(), |s| s.filters += 1)
    }),
    ("filter-schema", |t| {
        filtering(t, &program(), |s| s.hash ^= 1)
    }),
    ("filter-garbage", |t| filtering(t, &[0xFF; 64], |_| ())),
    ("filter-twice", |t| {
        filtering(t, &[program(), program()].concat(), |_| ())
    }),
    ("filter-operators", |t| {
        let nothing = |writer: &mut Writer<'_>| writer.operator(Op::And);
        filtering(t, &written(nothing), |_| ())
    }),
    ("filter-size", |t| {
        filtering(t, &vec![0; MAX_FILTER + 1], |_| ())
    }),
];

/// The names of all of it.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    WRONG.iter().map(|(name, _)| *name)
}

/// Sends it; what comes of it, and the version that was agreed on, if any was.
pub(crate) fn attempt(seat: &Seat, wrong: &str, provider: u32, stream: &str) -> Answer {
    let Some((_, make)) = WRONG.iter().find(|(name, _)| *name == wrong) else {
        return Answer::Refused(Refusal::new(format!("nothing is called {wrong}")));
    };
    let target = Target {
        name: &seat.name,
        provider,
        stream,
    };
    let sent = make(&target);
    let mut result = vec![0_u8; 64 * 1024];
    let buffers = Buffers {
        input: sent.command.as_ptr().expose_provenance() as u64,
        output: result.as_mut_ptr().expose_provenance() as u64,
        input_length: sent.command.len() as u32,
        output_length: result.len() as u32,
    };
    let mut answer = send(seat, &sent.hello, buffers);
    if let Answer::Done(numbers) = &mut answer
        && let Some(row) = ConnectionRow::read(&result)
    {
        numbers.insert("version".to_owned(), row.version.into());
    }
    answer
}

fn bytes<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    // It fits: the vector was made for it.
    let _fits = value.write(&mut bytes);
    bytes
}

fn command(number: u16, payload: &[u8]) -> Vec<u8> {
    let header = CommandHeader::new(0, number, payload.len());
    [bytes(&header), payload.to_vec()].concat()
}

/// A hello that is spoilt, and a harmless question behind it.
fn hello(target: &Target<'_>, spoil: impl FnOnce(&mut Vec<u8>)) -> Sent {
    let mut hello = Hello::new(target.name, rights::ALL, 0).to_bytes().to_vec();
    spoil(&mut hello);
    Sent {
        hello,
        command: command(own::INFO, &[]),
    }
}

fn greeting(target: &Target<'_>, spoil: impl FnOnce(&mut Hello)) -> Sent {
    let mut spoilt = Hello::new(target.name, rights::ALL, 0);
    spoil(&mut spoilt);
    hello(target, |hello| *hello = bytes(&spoilt))
}

/// A hello that asks for the stream, spoilt.
fn resuming(target: &Target<'_>, spoil: impl FnOnce(&mut StreamHello)) -> Sent {
    let mut wanted = StreamHello {
        key: key(target.stream),
        former: 0,
        flags: stream::RESUME,
        acknowledged: 0,
        retention_ms: 1_000,
        window: 0,
        reserved: 0,
    };
    spoil(&mut wanted);
    hello(target, |hello| hello.extend(bytes(&wanted)))
}

/// A good hello, and these bytes as a command.
fn raw(target: &Target<'_>, command: Vec<u8>) -> Sent {
    Sent {
        command,
        ..hello(target, |_| ())
    }
}

/// A subscription that is spoilt.
fn subscribing(target: &Target<'_>, spoil: impl FnOnce(&mut Subscription)) -> Sent {
    let mut wanted = Subscription {
        provider: target.provider,
        reserved: 0,
        observe: 1 << Tick::NUMBER,
        decide: 0,
    };
    spoil(&mut wanted);
    raw(target, command(own::SUBSCRIBE, &bytes(&wanted)))
}

/// A subscription with these filters, spoilt.
fn filtering(
    target: &Target<'_>,
    filters: &[u8],
    spoil: impl FnOnce(&mut FilteredSubscription),
) -> Sent {
    let mut wanted = FilteredSubscription {
        provider: target.provider,
        flags: 0,
        observe: 1 << Tick::NUMBER,
        decide: 0,
        hash: PROVIDER.hash(),
        filters: filters.len() as u32,
        reserved: 0,
    };
    spoil(&mut wanted);
    let payload = [bytes(&wanted), filters.to_vec()].concat();
    raw(target, command(own::SUBSCRIBE_FILTERED, &payload))
}

/// A filter that is right: ticks with a number below 10.
fn program() -> Vec<u8> {
    written(|writer| {
        let field = Tick::FIELDS.iter().find(|field| field.name == "number");
        field.map_or(Ok(()), |field| {
            let place = FieldPlace {
                kind: field.kind,
                offset: field.offset,
                optional: field.is_optional(),
            };
            writer.numbers(Op::Range, place, &[0, 9])
        })
    })
}

fn written(write: impl FnOnce(&mut Writer<'_>) -> Result<(), fltport::EncodeError>) -> Vec<u8> {
    let mut bytes = vec![0; MAX_FILTER];
    let mut writer = Writer::new(&mut bytes, Tick::NUMBER);
    // It fits: one instruction.
    let _fits = write(&mut writer);
    let length = writer.finish().unwrap_or(0);
    bytes.truncate(length);
    bytes
}
