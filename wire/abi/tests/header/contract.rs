// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Rust says, as a program in C that does not compile if the header says otherwise.

use std::fmt::Write;
use std::mem::{offset_of, size_of};

use fltport_abi::import::{Booking, FUNCTIONS, Registration};
use fltport_abi::interface::{
    self, Ask, AsyncRequest, BacklogPolicy, CommandCaller, Completion, DefaultReply, Interface,
    Notification, ProviderDescription, ProviderStatistics, Request, Reservation, Revised,
};
use fltport_abi::schema::{self, FieldKind, Role};
use fltport_abi::{Cause, Outcome, account, limits};

struct Program {
    text: String,
    asserts: usize,
}

impl Program {
    fn assert(&mut self, condition: &str) {
        let number = self.asserts;
        self.asserts += 1;
        writeln!(self.text, "FLTPORT_ASSERT({number}, {condition});").expect("writes to a string");
    }

    fn constant(&mut self, name: &str, value: u64) {
        self.assert(&format!("FLTPORT_{name} == {value}"));
    }
}

/// Asserts a struct's size and alignment, and the place and size of every field. Rust checks that
/// none is left out.
macro_rules! layout {
    ($program:ident, $c:literal, $ty:ident { $($member:literal = $field:ident,)* }) => {
        // Does not compile if a field is missing.
        #[allow(dead_code)]
        fn every_field(value: &$ty) {
            let $ty { $($field: _,)* } = value;
        }
        $program.assert(&format!("sizeof({}) == {}", $c, size_of::<$ty>()));
        let mut end = 0;
        $(
            let offset = offset_of!($ty, $field);
            assert!(offset >= end, concat!("the fields of ", $c, " are not in order"));
            end = offset + 1;
            $program.assert(&format!("offsetof({}, {}) == {}", $c, $member, offset));
        )*
        let _ = end;
    };
}

/// Every number of the contract as a condition.
pub(crate) fn program() -> String {
    let mut p = Program {
        text: "#include <fltport.h>\n".to_owned(),
        asserts: 0,
    };
    records(&mut p);
    table(&mut p);
    first_revision(&mut p);
    constants(&mut p);
    p.text
}

fn records(p: &mut Program) {
    {
        layout!(p, "FLTPORT_NOTIFICATION", Notification {
            "Size" = size, "Message" = message, "Fixed" = fixed, "Time" = time,
            "Payload" = payload, "Length" = length, "Reserved" = reserved, "Booking" = booking,
        });
    }
    {
        layout!(p, "FLTPORT_RESERVATION", Reservation {
            "Size" = size, "Message" = message, "Reserved" = reserved, "Length" = length,
            "Reserved2" = reserved2, "Payload" = payload, "Handle" = handle,
        });
    }
    {
        layout!(p, "FLTPORT_REQUEST", Request {
            "Size" = size, "Message" = message, "Fixed" = fixed, "Payload" = payload,
            "Length" = length, "DeadlineMs" = deadline_ms, "Reply" = reply,
            "ReplyLength" = reply_length, "Outcome" = outcome, "Flags" = flags,
            "WaitedUs" = waited_us,
        });
    }
    {
        layout!(p, "FLTPORT_COMPLETION", Completion {
            "Size" = size, "Message" = message, "Reserved" = reserved, "Outcome" = outcome,
            "WaitedUs" = waited_us, "Reply" = reply, "ReplyLength" = reply_length,
            "Reserved2" = reserved2,
        });
    }
    {
        layout!(p, "FLTPORT_ASYNC_REQUEST", AsyncRequest {
            "Size" = size, "Message" = message, "Fixed" = fixed, "Payload" = payload,
            "Length" = length, "DeadlineMs" = deadline_ms, "Reply" = reply,
            "ReplyLength" = reply_length, "Flags" = flags, "OnCompletion" = on_completion,
            "Context" = context,
        });
    }
    {
        layout!(p, "FLTPORT_COMMAND_CALLER", CommandCaller {
            "Size" = size, "Connection" = connection, "Pid" = pid, "Reserved" = reserved,
        });
    }
    {
        layout!(p, "FLTPORT_DEFAULT_REPLY", DefaultReply {
            "Size" = size, "Message" = message, "Reserved" = reserved, "Reply" = reply,
            "Length" = length, "Reserved2" = reserved2,
        });
    }
    {
        layout!(p, "FLTPORT_STATISTICS", ProviderStatistics {
            "Size" = size, "Message" = message, "Reserved" = reserved, "Observers" = observers,
            "Deciders" = deciders, "Offered" = offered, "Delivered" = delivered,
            "InFlight" = in_flight, "Lost" = lost, "Asked" = asked, "Outcomes" = outcomes,
        });
    }
}

fn table(p: &mut Program) {
    {
        layout!(p, "FLTPORT_DESCRIPTION", ProviderDescription {
            "Size" = size, "Version" = version, "Schema" = schema,
            "SchemaLength" = schema_length, "Backlog" = backlog,
            "BacklogPolicy" = backlog_policy, "Reserved" = reserved, "OnCommand" = on_command,
            "Context" = context, "Interest" = interest, "OnSnapshot" = on_snapshot,
            "Defaults" = defaults, "DefaultCount" = default_count, "Quota" = quota,
            "Rate" = rate, "Burst" = burst, "Quiet" = quiet, "Unheard" = unheard,
            "UnheardRows" = unheard_rows, "Reserved2" = reserved2,
        });
    }
    {
        layout!(p, "FLTPORT_INTERFACE", Interface {
            "Size" = size, "Version" = version, "Register" = register,
            "Unregister" = unregister, "Notify" = notify, "Lost" = lost, "Request" = request,
            "Listening" = listening, "Reserve" = reserve, "Commit" = commit,
            "Discard" = discard, "Book" = book, "Unbook" = unbook,
            "RequestAsync" = request_async, "Statistics" = statistics,
            "SnapshotAdd" = snapshot_add, "SnapshotLive" = snapshot_live,
        });
    }
    {
        layout!(p, "FLTPORT_QUESTION", Ask {
            "Size" = size, "Version" = version, "Interface" = interface,
        });
    }
    {
        layout!(p, "FLTPORT_REGISTRATION", Registration {
            "Size" = size, "Version" = version, "Schema" = schema,
            "WriteSchema" = write_schema, "PoolTag" = pool_tag, "Staging" = staging,
            "Backlog" = backlog, "BacklogPolicy" = backlog_policy, "OnCommand" = on_command,
            "Context" = context, "OnSnapshot" = on_snapshot, "Defaults" = defaults,
            "DefaultCount" = default_count, "Quota" = quota, "Rate" = rate, "Burst" = burst,
        });
    }
    {
        layout!(p, "FLTPORT_BOOKING", Booking {
            "Number" = number, "Staged" = staged, "Reserved" = reserved,
        });
    }
    for function in FUNCTIONS {
        p.assert(&format!("sizeof(&{function}) == 8"));
    }
    let handles = size_of::<interface::ProviderHandle>();
    assert_eq!(handles, size_of::<interface::SnapshotHandle>());
    p.assert(&format!("sizeof(FLTPORT_SNAPSHOT) == {handles}"));
    p.assert(&format!("sizeof(PFLTPORT_PROVIDER) == {handles}"));
}

fn first_revision(p: &mut Program) {
    p.constant("NOTIFICATION_1_0", Notification::FIRST as u64);
    p.constant("REQUEST_1_0", Request::FIRST as u64);
    p.constant("DESCRIPTION_1_0", ProviderDescription::FIRST as u64);
    p.constant("REGISTRATION_1_0", Registration::FIRST as u64);
    p.constant("INTERFACE_1_0", Interface::FIRST as u64);
}

fn constants(p: &mut Program) {
    p.constant("VERSION", interface::VERSION.into());
    p.constant("ANNOUNCE", interface::ANNOUNCE as u64);
    p.constant("REVOKE", interface::REVOKE as u64);
    p.constant("ASK", interface::ASK as u64);
    p.constant("UNHEARD_ROW", interface::UNHEARD_ROW as u64);
    p.constant("MAX_UNHEARD_ROWS", interface::MAX_UNHEARD_ROWS.into());
    p.constant("KEEP_NEWEST", BacklogPolicy::KeepNewest as u64);
    p.constant("KEEP_OLDEST", BacklogPolicy::KeepOldest as u64);
    let declared = interface::REQUEST_DECLARED_DEFAULT;
    p.constant("REQUEST_DECLARED_DEFAULT", declared.into());
    p.constant("MAX_MESSAGE_NUMBER", limits::MAX_MESSAGE_NUMBER.into());
    p.constant("MAX_PAYLOAD", limits::MAX_PAYLOAD as u64);
    p.constant("MAX_REQUEST", limits::MAX_REQUEST as u64);
    p.constant("MAX_REPLY", limits::MAX_REPLY as u64);
    p.constant("MAX_SCHEMA", limits::MAX_SCHEMA as u64);
    p.constant("MAX_PROVIDER_NAME", limits::MAX_PROVIDER_NAME as u64);
    p.constant("MAX_DEADLINE_MS", limits::MAX_DEADLINE_MS.into());
    p.constant("MAX_BOOKINGS", limits::MAX_BOOKINGS as u64);
    p.constant("MAX_PENDING", limits::MAX_PENDING as u64);
    p.constant("CAUSES", account::CAUSES as u64);
    p.constant("OUTCOMES", account::OUTCOMES as u64);
    for cause in Cause::ALL {
        p.constant(&constant("CAUSE", cause.name()), *cause as u64);
    }
    for outcome in Outcome::ALL {
        p.constant(&constant("OUTCOME", outcome.name()), *outcome as u64);
    }
    p.constant("ROLE_NOTIFICATION", Role::Notification as u64);
    p.constant("ROLE_REQUEST", Role::Request as u64);
    p.constant("ROLE_COMMAND", Role::Command as u64);
    kinds(p);
    // The name is wide characters, which are no constant expression.
    p.assert("sizeof(FLTPORT_CALLBACK_NAME) == 2 * (sizeof(\"\\\\Callback\\\\FltPort\"))");
    assert_eq!(interface::CALLBACK_NAME, "\\Callback\\FltPort");
}

/// `RING_FULL` of "ring full".
fn constant(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.to_uppercase().replace(' ', "_"))
}

/// The names of the kinds in C, but for those that are the Rust ones in capitals.
fn kind_name(kind: FieldKind) -> String {
    match kind {
        FieldKind::TextList => "TEXTS".to_owned(),
        other => other.name().to_uppercase(),
    }
}

fn kinds(p: &mut Program) {
    for kind in schema::KINDS {
        let name = kind_name(*kind);
        p.constant(&format!("KIND_{name}"), *kind as u64);
        for (prefix, optional) in [("", false), ("OPT_", true)] {
            let place = kind.place(optional);
            p.assert(&format!("sizeof(FLTPORT_TYPE_{prefix}{name}) == {place}"));
            let flags = u64::from(optional) << 8;
            p.constant(&format!("KIND_{prefix}{name}"), flags | *kind as u64);
        }
    }
}
