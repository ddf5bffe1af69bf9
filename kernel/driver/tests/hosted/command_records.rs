// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records in commands: a handler, which may be written in C, gets none that is not what its schema
//! says, however deep it lies.

use crate::bare::{BareClient, describe};
use crate::machine::{FLTPORT, Machine};
use crate::service::Service;
use fltport_abi::DecodeError;
use fltport_abi::interface::{CommandCaller, ProviderDescription};
use fltport_abi::message::{List, Message, Nested};
use fltport_abi::text::Text;
use fltport_nt::bindings::{NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use proptest::prelude::*;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

fltport_abi::messages! {
    /// Keeps rules.
    provider RULES = "rules";

    types {
        /// What a rule is about.
        record Port<'a> {
            /// Its number.
            number: u32,
            /// Whether it is open.
            open: bool,
            /// What it is called.
            name: Text<'a>,
        }
        /// A rule.
        record Rule<'a> {
            /// Which.
            number: u64,
            /// The ports.
            ports: List<'a, Port<'a>>,
            /// Since the second version: how long.
            seconds: u32 = 10,
            /// Since the third: for whom.
            user: Option<u32>,
        }
    }

    /// Replaces the rules.
    command 1 "set-rules" SetRules<'a> {
        /// All of them.
        rules: List<'a, Rule<'a>>,
        /// The one for what has none.
        last: Port<'a>,
    } -> /// Done.
    RulesSet {
        /// So many.
        count: u32,
    }
}

/// The first version, and something before it that never was.
mod older {
    use fltport_abi::message::List;

    fltport_abi::messages! {
        /// Keeps rules.
        provider RULES = "rules";

        types {
            /// A rule.
            record Rule<'a> {
                /// Which.
                number: u64,
                /// The ports.
                ports: &'a [u8],
            }
            /// What a rule is about.
            record Port {
                /// Its number.
                number: u32,
            }
        }

        /// Replaces the rules.
        command 1 "set-rules" SetRules<'a> {
            /// All of them.
            rules: List<'a, Rule<'a>>,
            /// The one for what has none.
            last: Port,
        } -> /// Done.
        RulesSet {
            /// So many.
            count: u32,
        }
    }
}

static SEEN: AtomicU32 = AtomicU32::new(0);

/// Only counts.
unsafe extern "system" fn handler(
    _context: *mut c_void,
    _caller: *const CommandCaller,
    _message: u16,
    _input: *const u8,
    _length: u32,
    _output: *mut u8,
    _capacity: u32,
    returned: *mut u32,
) -> NTSTATUS {
    SEEN.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the common driver passes a place for the length.
    unsafe { returned.write(0) };
    STATUS_SUCCESS
}

/// A provider with rules, and a service that sends commands to it.
struct Rules {
    // Dropped in this order.
    service: Service,
    client: BareClient,
    machine: Machine,
    provider: u32,
}

impl Rules {
    fn new() -> Self {
        let machine = Machine::bare();
        machine.load(&FLTPORT);
        let mut schema = [0; 4096];
        let length = RULES.encode(&mut schema).expect("fits");
        let client = BareClient::describe(&ProviderDescription {
            on_command: Some(handler),
            ..describe(&schema[..length], 0)
        });
        let service = Service::connect(&machine);
        Rules {
            provider: service.provider(RULES.name).expect("is registered"),
            client: client.expect("registers"),
            machine,
            service,
        }
    }

    /// Whether the handler has seen this command.
    fn reaches(&self, payload: &[u8]) -> bool {
        let before = SEEN.load(Ordering::SeqCst);
        let status = self.service.command(self.provider, 1, payload).err();
        let seen = SEEN.load(Ordering::SeqCst) != before;
        assert_eq!(status, (!seen).then_some(STATUS_INVALID_PARAMETER));
        seen
    }

    fn end(self) {
        drop((self.service, self.client));
        self.machine.check();
    }
}

/// A command with all there is.
fn right() -> Vec<u8> {
    let port = |number, name| Port {
        number,
        open: true,
        name: Text::Utf8(name),
    };
    let ports = [port(80, "http"), port(443, "https")];
    let rule = |number, ports| Rule {
        number,
        ports: List::new(ports),
        seconds: 5,
        user: Some(7),
    };
    let rules = [rule(1, &ports), rule(2, &[]), rule(3, &ports[..1])];
    let command = SetRules {
        rules: List::new(&rules),
        last: port(0, "any"),
    };
    let mut bytes = vec![0; command.encoded_len()];
    let length = command.encode(&mut bytes).expect("fits");
    bytes.truncate(length);
    bytes
}

/// Where these bytes are in the command.
fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    let mut windows = bytes.windows(wanted.len());
    windows.position(|w| w == wanted).expect("is in there")
}

/// What a handler in Rust would read.
fn read(payload: &[u8]) -> Result<(), DecodeError> {
    SetRules::decode(payload).map(drop)
}

#[test]
fn a_bad_record_in_a_record_does_not_reach_the_handler() {
    let rules = Rules::new();
    let right = right();
    assert!(rules.reaches(&right));
    // The port 443: its number, that it is open, where its name lies.
    let port = find(&right, &[0xBB, 1, 0, 0, 1, 0, 0, 0]);
    let mut open = right.clone();
    open[port + 4] = 2;
    assert!(!rules.reaches(&open), "no yes and no no");
    let mut place = right.clone();
    place[port + 8..port + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(!rules.reaches(&place), "a name outside");
    let mut odd = right.clone();
    odd[port + 12] -= 1;
    assert!(!rules.reaches(&odd), "half a unit");
    assert!(rules.reaches(&right));
    rules.end();
}

/// An older version's rules have less, but a port has never had a number alone.
#[test]
fn what_an_older_version_has_not_may_be_missing_in_records_as_well() {
    let rules = Rules::new();
    let rule = older::Rule {
        number: 1,
        ports: &[16, 0, 0, 0, 0, 0, 0, 0],
    };
    let both = [rule, rule];
    let older = older::SetRules {
        rules: List::new(&both),
        last: older::Port { number: 1 },
    };
    let mut bytes = vec![0; older.encoded_len()];
    older.encode(&mut bytes).expect("fits");
    assert!(!rules.reaches(&bytes), "half a port");
    // Without that port it is a command of the first version.
    let last = bytes.split_off(bytes.len() - 12);
    assert_eq!(last.len(), 8 + 4);
    bytes[8..16].fill(0);
    assert!(rules.reaches(&bytes));
    rules.end();
}

/// Two lists of the same records would be more work than the command has bytes.
#[test]
fn records_are_in_one_list_only() {
    let rules = Rules::new();
    let mut shared = right();
    let rule = find(&shared, &1_u64.to_le_bytes());
    let stride = <Rule<'_> as Nested<'_>>::FIXED;
    let ports: [u8; 8] = shared[rule + 8..rule + 16].try_into().expect("8");
    for other in 1..3 {
        let at = rule + other * stride + 8;
        shared[at..at + 8].copy_from_slice(&ports);
    }
    assert!(!rules.reaches(&shared));
    rules.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed in a command: what reaches the handler can be read.
    #[test]
    fn what_reaches_a_handler_can_be_read(
        changes in prop::collection::vec(
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            50,
        ),
    ) {
        let rules = Rules::new();
        for change in changes {
            let mut bytes = right();
            for (at, byte) in change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let reaches = rules.reaches(&bytes);
            match read(&bytes) {
                Ok(()) => prop_assert!(reaches, "{:?}", bytes),
                // The schema does not say whether a text or list may be absent.
                Err(DecodeError::Missing) => {}
                Err(error) => prop_assert!(!reaches, "{:?} {:?}", error, bytes),
            }
        }
        rules.end();
    }
}
