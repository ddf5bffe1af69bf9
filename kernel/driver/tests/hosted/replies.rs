// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replies of a service that was built with another version of the definition than the driver that asks.

use crate::asker;
use crate::bare::BareClient;
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Service};
use fltport_abi::account::Outcome;
use fltport_abi::frame::{OutcomeRecord, Record, RecordKind};
use fltport_abi::message::Message;
use fltport_client::{Answer, CommandCaller, Handler, Options, Provider};
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_INVALID_DEVICE_REQUEST, UNICODE_STRING,
};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};
use nt_host::DriverImage;
use std::sync::mpsc::channel;
use std::thread;

fltport_abi::messages! {
    /// Asks whether something may be.
    provider ASKING = "asking";

    /// May it?
    request 1 "may" May {
        /// Counted by the test.
        number: u64,
    } -> /// What becomes of it.
    Verdict {
        /// Yes.
        allow: bool,
        /// Since the second version: because of this rule.
        rule: Option<u32>,
        /// Since the second version: for so many seconds.
        seconds: u32 = 80,
    }
}

/// The first version, of which the service is.
mod older {
    fltport_abi::messages! {
        /// Asks whether something may be.
        provider ASKING = "asking";

        /// May it?
        request 1 "may" May {
            /// Counted by the test.
            number: u64,
        } -> /// What becomes of it.
        Verdict {
            /// Yes.
            allow: bool,
        }
    }
}

/// The third.
mod newer {
    fltport_abi::messages! {
        /// Asks whether something may be.
        provider ASKING = "asking";

        /// May it?
        request 1 "may" May {
            /// Counted by the test.
            number: u64,
        } -> /// What becomes of it.
        Verdict<'a> {
            /// Yes.
            allow: bool,
            /// Because of this rule.
            rule: Option<u32>,
            /// For so many seconds.
            seconds: u32 = 80,
            /// Since the third version: in words.
            why: &'a [u8],
        }
    }
}

const TAG: Tag = Tag::new(b"Askg");
static DRIVER: Global<Provider<Nothing>> = Global::empty();
const IMAGE: DriverImage = DriverImage {
    name: "asking",
    entry,
    force_integrity: false,
};
const DEFAULT: Verdict = Verdict {
    allow: false,
    rule: Some(7),
    seconds: 5,
};
/// Bytes that a reply may be longer than the driver knows it.
const GROWTH: usize = 1024;

struct Nothing;

impl Handler for Nothing {
    fn command(&self, _: &CommandCaller, _: u16, _: &[u8], _: &mut [u8]) -> Result<usize> {
        Err(NtError(STATUS_INVALID_DEVICE_REQUEST))
    }
}

unsafe extern "system" fn entry(driver: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the hosted kernel passes this driver's object.
    let driver = unsafe { DriverObject::new(driver) };
    driver.set_unload(unload);
    let registered = Provider::register(driver, &ASKING, Nothing, Options::new(TAG));
    to_status(registered.and_then(|provider| {
        DRIVER.replace(Some(PoolArc::new(TAG, provider)?));
        Ok(())
    }))
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
    drop(DRIVER.replace(None));
}

/// The bytes of a message.
fn bytes<'m, M: Message<'m>>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; message.encoded_len()];
    message.encode(&mut bytes).expect("fits");
    bytes
}

/// Asks both ways, and has it answered with these bytes.
fn answered_with(reply: &[u8]) -> Answer<Verdict> {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&IMAGE);
    let mut service = Service::connect(&machine);
    let mut observer = Service::connect(&machine);
    let provider = service.provider(ASKING.name).expect("is registered");
    service.subscribe(provider, 0, 1 << 1).expect("decides");
    observer.subscribe(provider, 1 << 1, 0).expect("observes");
    let driver = || DRIVER.get().expect("is loaded");
    let waits = thread::spawn(move || driver().ask(&May { number: 1 }, 60_000, DEFAULT));
    let request = service.next_request().expect("is asked");
    let _named = service.reply(&request, reply);
    let waited = waits.join().unwrap().expect("was asked");

    let (sender, answers) = channel();
    let then = move |answer| sender.send(answer).expect("the test waits");
    let asked = driver().ask_async(&May { number: 2 }, 60_000, DEFAULT, then);
    asked.expect("was asked");
    let question = asker::next(&mut service);
    let _named = asker::answer_as(&service, asker::header(&question), reply);
    let called = answers.recv_timeout(PATIENCE).expect("completed");
    assert_eq!(waited, called, "one rule for both");

    // Who observes is told what the driver has.
    for _ in 0..2 {
        let seen = observer.next().expect("an outcome");
        let record = Record {
            header: seen.header,
            kind: RecordKind::Outcome,
            payload: &seen.payload,
        };
        let outcome = OutcomeRecord::parse(&record).expect("well-formed");
        assert_eq!(outcome.header.outcome, waited.outcome as u16);
        assert_eq!(Verdict::decode(outcome.reply), Ok(waited.reply));
    }
    drop((service, observer));
    machine.stop(&IMAGE);
    machine.check();
    waited
}

#[test]
fn of_a_newer_version_what_is_known_is_taken() {
    let verdict = newer::Verdict {
        allow: true,
        rule: None,
        seconds: 9,
        why: b"because it is told so",
    };
    let answer = answered_with(&bytes(&verdict));
    assert_eq!(answer.outcome, Outcome::Answered);
    let known = Verdict {
        allow: true,
        rule: None,
        seconds: 9,
    };
    assert_eq!(answer.reply, known);
}

#[test]
fn what_an_older_version_does_not_have_is_absent_or_as_in_the_default() {
    let answer = answered_with(&bytes(&older::Verdict { allow: true }));
    assert_eq!(answer.outcome, Outcome::Answered);
    let known = Verdict {
        allow: true,
        rule: None,
        seconds: DEFAULT.seconds,
    };
    assert_eq!(answer.reply, known);
}

#[test]
fn a_reply_grows_by_a_bounded_number_of_bytes() {
    let mut reply = bytes(&DEFAULT);
    reply.resize(Verdict::FIXED + GROWTH, 0xA5);
    let answer = answered_with(&reply);
    assert_eq!((answer.outcome, answer.reply), (Outcome::Answered, DEFAULT));
    for longer in [GROWTH + 1, GROWTH + 2, 3000] {
        reply.resize(Verdict::FIXED + longer, 0xA5);
        let answer = answered_with(&reply);
        assert_eq!((answer.outcome, answer.reply), (Outcome::BadReply, DEFAULT));
    }
}

/// A driver may ask with a default that is not its definition's: then only the length says what is a
/// reply.
#[test]
fn a_default_of_another_length_is_answered_in_that_length_only() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register(&ASKING, 0);
    let mut service = Service::connect(&machine);
    let provider = service.provider(ASKING.name).expect("is registered");
    service.subscribe(provider, 0, 1 << 1).expect("decides");
    for (given, outcome) in [
        (6, Outcome::Answered),
        (4, Outcome::BadReply),
        (12, Outcome::BadReply),
        (16, Outcome::BadReply),
        (17, Outcome::BadReply),
    ] {
        let (ended, reply) = thread::scope(|scope| {
            let waits = scope.spawn(|| client.ask(1, &[0; 8], &[7; 6]));
            let request = service.next_request().expect("is asked");
            let _named = service.reply(&request, &vec![1; given]);
            waits.join().unwrap().expect("was asked")
        });
        let stands = if outcome == Outcome::Answered { 1 } else { 7 };
        assert_eq!((ended, reply), (outcome, vec![stands; 6]), "{given}");
    }
    drop((client, service));
    machine.check();
}

#[test]
fn what_is_of_no_version_is_a_bad_reply() {
    let whole = bytes(&Verdict {
        allow: true,
        ..DEFAULT
    });
    for length in 0..whole.len() {
        let answer = answered_with(&whole[..length]);
        // The ends of the fields.
        if [4, 12].contains(&length) {
            assert_eq!(answer.outcome, Outcome::Answered, "{length}");
            assert!(answer.reply.allow);
        } else {
            assert_eq!(answer.outcome, Outcome::BadReply, "{length}");
            assert_eq!(answer.reply, DEFAULT);
        }
    }
}
