// SPDX-License-Identifier: MIT OR Apache-2.0
#![allow(unreachable_pub)]

use super::*;
use crate::plain::plain;
use fltport::{List, Message, SchemaError, Text, Value, read_fields};
use serde_json::json;
use std::net::IpAddr;

fltport_abi::messages! {
    /// A firewall.
    provider PROVIDER = "wall";

    types {
        /// What becomes of a packet.
        enum Verdict {
            /// It passes.
            0 "pass" Pass,
            /// It is dropped.
            1 "drop" Drop,
        }

        /// Access.
        flags Access {
            /// Read.
            0x1 "read" READ,
            /// Write.
            0x2 "write" WRITE,
        }

        /// A rule.
        record Rule<'a> {
            /// Its name.
            name: Text<'a>,
            /// How often it was asked.
            asked: Option<u16>,
        }
    }

    /// A packet was judged.
    notification 1 "packet" Packet<'a> {
        /// What became of it.
        verdict: Verdict,
        /// What it may do.
        access: Access,
        /// Where it goes.
        remote: IpAddr,
        /// The rules.
        rules: List<'a, Rule<'a>>,
        /// Its first bytes.
        head: &'a [u8],
    }

    /// May it pass?
    request 3 "judge" Judge {
        /// Its length.
        length: u32,
    } -> /// What is to become of it.
    Judged {
        /// What becomes of it.
        verdict: Verdict,
    }

    /// Forget the rules.
    command 2 "reset" Reset {} -> /// It did.
    ResetDone {
        /// So many.
        count: u32,
    }
}

fn schema() -> Arc<Schema> {
    let mut bytes = vec![0; 16 * 1024];
    let length = PROVIDER.encode(&mut bytes).unwrap();
    Arc::new(Schema::decode(&bytes[..length]).unwrap())
}

fn described() -> Described {
    let mut reply = vec![0; 4];
    let verdict = Verdict::Drop;
    Judged { verdict }.encode(&mut reply).unwrap();
    let defaults = BTreeMap::from([(3, reply.into())]);
    Described {
        schema: schema(),
        defaults,
    }
}

fn provider() -> ProviderInfo {
    let mut row = fltport_abi::command::ProviderRow {
        provider: 3,
        schema: 0,
        hash: 0xab,
        backlog: 4096,
        backlog_used: 96,
        since: 0,
        name: [0; 32],
    };
    row.name[..4].copy_from_slice(b"wall");
    row.into()
}

#[test]
fn a_provider_is_told_as_text() {
    let lines = to_text(&(provider(), Ok(described())), &TimeZone::UTC);
    let text = lines.join("\n");
    let expected = "\
wall: provider 3, since 1601-01-01 00:00:00, schema 00000000000000ab, backlog 96 of 4096 bytes
  notification 1 packet
    verdict: Enum Verdict
    access: Flags Access
    remote: Address
    rules: List Rule
    head: Bytes
  request 3 judge
    length: U32
    -> verdict: Enum Verdict
    by default: verdict=drop
  command 2 reset
    -> count: U32
  enum Verdict
    0 pass
    1 drop
  flags Access
    0x1 read
    0x2 write
  record Rule
    name: Text
    asked: U16, optional";
    assert_eq!(text, expected);
    let corrupt = (provider(), Err(Error::Schema(SchemaError::Overlap)));
    let lines = to_text(&corrupt, &TimeZone::UTC);
    assert!(lines[1].contains("overlap"), "{lines:?}");
}

#[test]
fn a_provider_is_told_as_json() {
    let told = to_json(&[(provider(), Ok(described()))]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let provider = &told["providers"][0];
    assert_eq!(provider["hash"], "00000000000000ab");
    assert_eq!(
        provider["messages"][0]["fields"][0],
        json!({"name": "verdict", "type": "Enum", "offset": 0, "optional": false, "definition": "Verdict"})
    );
    assert_eq!(
        provider["messages"][1]["default"],
        json!({"verdict": "drop"})
    );
    assert_eq!(provider["messages"][2]["reply"][0]["name"], "count");
    assert_eq!(
        provider["definitions"][1],
        json!({"name": "Access", "form": "flags",
            "values": [{"value": 1, "name": "read"}, {"value": 2, "name": "write"}]})
    );
    assert_eq!(provider["definitions"][2]["fields"][1]["optional"], true);
}

/// A packet's fields as `fltport watch` prints them: in the table, and in JSON.
fn printed(verdict: Verdict, access: u32) -> (String, serde_json::Value) {
    let rules = [("a", Some(3)), ("b", None)].map(|(name, asked)| Rule {
        name: Text::Utf8(name),
        asked,
    });
    let packet = Packet {
        verdict,
        access: Access(access),
        remote: "10.0.0.1".parse().unwrap(),
        rules: List::new(&rules),
        head: &[0xde, 0xad],
    };
    let mut bytes = vec![0; packet.encoded_len()];
    packet.encode(&mut bytes).unwrap();
    let schema = schema();
    let fields = || read_fields(&schema.messages[0].fields, &bytes, Packet::FIXED);
    let texts = fields().map(|(_, value): (_, Result<Value<'_>, _>)| plain(&value.unwrap()));
    let text = texts.collect::<Vec<_>>().join(" ");
    let mut json = Json::default();
    json.object(|json| {
        for (name, value) in fields() {
            json.key(name).value(&value);
        }
    });
    (text, serde_json::from_str(&json.take()).unwrap())
}

#[test]
fn every_type_is_printed_as_its_reader_expects() {
    let (text, json) = printed(Verdict::Drop, 0x13);
    assert_eq!(
        text,
        "drop read|write|0x10 10.0.0.1 [{name=a asked=0x3} {name=b}] dead"
    );
    assert_eq!(
        json,
        json!({"verdict": "drop", "access": ["read", "write", 16], "remote": "10.0.0.1",
            "rules": [{"name": "a", "asked": 3}, {"name": "b", "asked": null}], "head": "dead"})
    );
    let (text, json) = printed(Verdict::Other(9), 0);
    assert!(text.starts_with("0x9 0x0 "), "{text}");
    assert_eq!((&json["verdict"], &json["access"]), (&json!(9), &json!([])));
}
