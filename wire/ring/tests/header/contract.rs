// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Rust says, as a program in C that does not compile if the header says otherwise.

use fltport_abi::account::{self, Cause};
use fltport_abi::command::{
    self, CommandHeader, ConnectionRow, FeaturesRow, FilteredSubscription, LedgerRow, Limits, Page,
    ProviderRow, RingsRow, RingsWanted, Subscription, features, flags, own,
};
use fltport_abi::common_driver::{BacklogsUnread, ProviderChange};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{
    self, FrameHeader, GapEntry, GapHeader, OutcomeHeader, RecordHeader, RecordKind,
};
use fltport_abi::hello::{self, Hello, rights};
use fltport_abi::{Message, limits};
use fltport_ring::{CONSUMER_LINE, DATA_LINE, MAGIC, MAX_RINGS, Shape, ShapeHeader, VERSION};
use std::fmt::Write;

/// The program, a line for each comparison.
struct Program(String);

impl Program {
    fn same(&mut self, c: &str, value: u64) {
        writeln!(self.0, "SAME({c}, {value:#x})").expect("writes to a string");
    }

    fn constant(&mut self, name: &str, value: impl Into<u64>) {
        self.same(&format!("FLTPORT_{name}"), value.into());
    }
}

/// A value whose bytes say where they lie: each is its own place.
fn marked<T: Fixed>() -> T {
    let bytes: Vec<u8> = (0..T::SIZE).map(|at| at as u8).collect();
    T::read(&bytes).expect("as many bytes as it has")
}

/// Where a field's first byte lies, and how many it has.
fn place<F: Fixed>(field: &F) -> (u64, u64) {
    let mut bytes = vec![0; F::SIZE];
    field.write(&mut bytes).expect("as many bytes as it has");
    (bytes[0].into(), F::SIZE as u64)
}

/// Compares a struct's size, and the place and size of every field. Rust checks that none is left out.
macro_rules! layout {
    ($program:ident, $($c:literal, $ty:ident { $($member:literal = $field:ident,)* })*) => {$({
        assert!(<$ty>::SIZE < 256, "a byte does not say where it lies");
        let $ty { $($field,)* } = marked::<$ty>();
        $program.same(&format!("sizeof({})", $c), <$ty>::SIZE as u64);
        $(
            let (offset, size) = place(&$field);
            $program.same(&format!("offsetof({}, {})", $c, $member), offset);
            $program.same(&format!("sizeof((({} *)0)->{})", $c, $member), size);
        )*
    })*};
}

/// Every number of the header as a condition.
pub(crate) fn program() -> String {
    let mut p = Program(
        "#include <fltport_service.h>\n\
         #define GLUE(a, b) a##b\n\
         #define AT(line, c, rust) typedef char GLUE(same_, line)[(c) == (rust) ? 1 : -1];\n\
         #define SAME(c, rust) AT(__LINE__, c, rust)\n"
            .to_owned(),
    );
    stream(&mut p);
    commands(&mut p);
    rings(&mut p);
    constants(&mut p);
    p.0
}

fn stream(p: &mut Program) {
    layout!(p,
        "FLTPORT_HELLO", Hello {
            "Magic" = magic, "MinVersion" = min_version, "MaxVersion" = max_version,
            "Generation" = generation, "Rights" = rights, "Reserved" = reserved, "Name" = name,
        }
        "FLTPORT_FRAME_HEADER", FrameHeader {
            "Magic" = magic, "Version" = version, "Kind" = kind, "Length" = length,
            "Records" = records, "DeadlineMs" = deadline_ms, "Connection" = connection,
        }
        "FLTPORT_RECORD_HEADER", RecordHeader {
            "Size" = size, "Payload" = payload, "Sequence" = sequence, "Time" = time,
            "Provider" = provider, "Message" = message, "Kind" = kind, "Fixed" = fixed,
        }
        "FLTPORT_GAP_HEADER", GapHeader {
            "First" = first, "Entries" = entries, "Reserved" = reserved,
        }
        "FLTPORT_GAP_ENTRY", GapEntry {
            "Count" = count, "Provider" = provider, "Message" = message, "Cause" = cause, "By" = by,
        }
        "FLTPORT_OUTCOME_HEADER", OutcomeHeader {
            "Request" = request, "WaitedUs" = waited_us, "Decider" = decider,
            "Payload" = payload, "Reply" = reply, "Outcome" = outcome,
        }
    );
}

fn commands(p: &mut Program) {
    layout!(p,
        "FLTPORT_COMMAND_HEADER", CommandHeader {
            "Magic" = magic, "Version" = version, "Command" = command, "Provider" = provider,
            "Payload" = payload,
        }
        "FLTPORT_PAGE", Page { "Skip" = skip, "Reserved" = reserved, }
        "FLTPORT_SUBSCRIPTION", Subscription {
            "Provider" = provider, "Reserved" = reserved, "Observe" = observe, "Decide" = decide,
        }
        "FLTPORT_FILTERED_SUBSCRIPTION", FilteredSubscription {
            "Provider" = provider, "Flags" = flags, "Observe" = observe, "Decide" = decide,
            "Hash" = hash, "Filters" = filters, "Reserved" = reserved,
        }
        "FLTPORT_LIMITS", Limits {
            "Queue" = queue, "Rate" = rate, "Burst" = burst, "Reserved" = reserved,
        }
        "FLTPORT_FEATURES_ROW", FeaturesRow {
            "Features" = features, "Version" = version, "MinVersion" = min_version,
            "Interface" = interface, "InterfaceSize" = interface_size,
            "MaxConnections" = max_connections, "MaxProviders" = max_providers,
            "Reserved" = reserved,
        }
        "FLTPORT_PROVIDER_ROW", ProviderRow {
            "Provider" = provider, "Schema" = schema, "Hash" = hash, "Backlog" = backlog,
            "BacklogUsed" = backlog_used, "Since" = since, "Name" = name,
        }
        "FLTPORT_CONNECTION_ROW", ConnectionRow {
            "Connection" = connection, "Pid" = pid, "Since" = since, "Rights" = rights,
            "Generation" = generation, "NextSequence" = next_sequence, "Queued" = queued,
            "QueuedPeak" = queued_peak, "Capacity" = capacity, "Version" = version, "Own" = own,
            "Name" = name,
        }
        "FLTPORT_LEDGER_ROW", LedgerRow {
            "Connection" = connection, "Provider" = provider, "Message" = message,
            "Offered" = offered, "Delivered" = delivered, "InFlight" = in_flight, "Lost" = lost,
            "InFlightPeak" = in_flight_peak,
        }
    );
    for (name, number) in [
        ("INFO", own::INFO),
        ("PROVIDERS", own::PROVIDERS),
        ("SCHEMA", own::SCHEMA),
        ("SUBSCRIBE", own::SUBSCRIBE),
        ("LEDGER", own::LEDGER),
        ("FEATURES", own::FEATURES),
        ("LIMITS", own::LIMITS),
        ("SUBSCRIBE_FILTERED", own::SUBSCRIBE_FILTERED),
        ("RINGS", own::RINGS),
    ] {
        p.constant(&format!("COMMAND_{name}"), number);
    }
    p.constant("SUBSCRIBE_SNAPSHOT", flags::SNAPSHOT);
    p.constant("SUBSCRIBE_MUTE_SELF", flags::MUTE_SELF);
    p.constant("FEATURE_FILTERS", features::FILTERS);
    p.constant("FEATURE_SNAPSHOTS", features::SNAPSHOTS);
    p.constant("FEATURE_MUTE", features::MUTE);
    p.constant("FEATURE_LIMITS", features::LIMITS);
    p.constant("FEATURE_RINGS", features::RINGS);
    p.constant("LEDGER_BACKLOG", command::BACKLOG);
    p.constant("LEDGER_ENDED", command::ENDED);
}

fn rings(p: &mut Program) {
    layout!(p,
        "FLTPORT_RINGS_WANTED", RingsWanted {
            "Capacity" = capacity, "Reserved" = reserved, "Event" = event,
        }
        "FLTPORT_RINGS_ROW", RingsRow {
            "Data" = data, "Consumer" = consumer, "DataSize" = data_size,
            "ConsumerSize" = consumer_size, "Reserved" = reserved,
        }
        "FLTPORT_RING_SHAPE", ShapeHeader {
            "Magic" = magic, "Version" = version, "Rings" = rings, "Capacity" = capacity,
            "Published" = published, "First" = first, "Consumed" = consumed,
            "Reserved" = reserved,
        }
    );
    p.constant("RING_MAGIC", MAGIC);
    p.constant("RING_VERSION", VERSION);
    p.constant("MAX_RINGS", MAX_RINGS);
    p.constant("RING_STRIDE", fltport_ring::stride(1) as u64);
    assert_eq!(DATA_LINE, CONSUMER_LINE);
    p.constant("RING_LINE", DATA_LINE as u64);
    let shape = Shape::new(2, limits::MIN_RING).expect("two small rings");
    p.constant("RING_LINE", u64::from(shape.header().consumed));
}

fn constants(p: &mut Program) {
    p.constant("PROTOCOL_VERSION", limits::PROTOCOL_VERSION);
    p.constant("MIN_PROTOCOL_VERSION", limits::MIN_PROTOCOL_VERSION);
    p.constant("MAX_FRAME", limits::MAX_FRAME as u64);
    p.constant("MAX_PAYLOAD", limits::MAX_PAYLOAD as u64);
    p.constant("MAX_COMMAND", limits::MAX_COMMAND as u64);
    p.constant("MAX_MESSAGE_NUMBER", limits::MAX_MESSAGE_NUMBER);
    p.constant("MAX_PROVIDERS", limits::MAX_PROVIDERS as u64);
    p.constant("MAX_PROVIDER_NAME", limits::MAX_PROVIDER_NAME as u64);
    p.constant("MAX_SCHEMA", limits::MAX_SCHEMA as u64);
    p.constant("MAX_SERVICE_NAME", limits::MAX_SERVICE_NAME as u64);
    p.constant("MIN_QUEUE", limits::MIN_QUEUE);
    p.constant("MAX_QUEUE", limits::MAX_QUEUE);
    p.constant("MIN_RING", limits::MIN_RING);
    p.constant("MAX_RING", limits::MAX_RING);
    p.constant("CAUSES", account::CAUSES as u64);
    for cause in Cause::ALL {
        let name = cause.name().to_uppercase().replace(' ', "_");
        p.constant(&format!("CAUSE_{name}"), *cause as u64);
    }
    p.constant("HELLO_MAGIC", hello::MAGIC);
    p.constant("RIGHT_OBSERVE", rights::OBSERVE);
    p.constant("RIGHT_DECIDE", rights::DECIDE);
    p.constant("RIGHT_COMMAND", rights::COMMAND);
    p.constant("FRAME_MAGIC", frame::MAGIC);
    p.constant("FRAME_RECORDS", frame::FRAME_RECORDS);
    p.constant("FRAME_REQUEST", frame::FRAME_REQUEST);
    p.constant("BLAME_NONE", frame::BLAME_NONE);
    for (name, kind) in [
        ("NOTIFICATION", RecordKind::Notification),
        ("GAP", RecordKind::Gap),
        ("REQUEST", RecordKind::Request),
        ("OUTCOME", RecordKind::Outcome),
        ("SNAPSHOT", RecordKind::Snapshot),
        ("SNAPSHOT_END", RecordKind::SnapshotEnd),
        ("ASYNC_REQUEST", RecordKind::AsyncRequest),
    ] {
        p.constant(&format!("RECORD_{name}"), kind as u64);
    }
    p.constant("OWN_MESSAGE_PROVIDER", ProviderChange::NUMBER);
    p.constant("OWN_MESSAGE_BACKLOGS_UNREAD", BacklogsUnread::NUMBER);
    p.constant("COMMAND_MAGIC", command::MAGIC);
    // Without a prefix it is a literal of bytes.
    p.same(
        "sizeof(FLTPORT_PORT_NAME())",
        limits::PORT_NAME.len() as u64 + 1,
    );
}
