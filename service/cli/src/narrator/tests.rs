// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use fltport::{Cause, Loss, Schema, Time};
use serde_json::json;
use std::sync::Arc;

fltport_abi::messages! {
    /// One that is lost to another.
    provider QUIET = "quiet";
    /// It said something.
    notification 3 "said" Said {
        /// So much.
        much: u32,
    }
}

fltport_abi::messages! {
    /// One that says too much.
    provider LOUD = "loud";
    /// It shouted.
    notification 1 "shouted" Shouted {
        /// So much.
        much: u32,
    }
}

fn schema_of(provider: &fltport_abi::schema::Provider) -> Arc<Schema> {
    let mut bytes = [0; 1024];
    let length = provider.encode(&mut bytes).unwrap();
    Arc::new(Schema::decode(&bytes[..length]).unwrap())
}

/// Seven of "said" lost, for this one.
fn gap(by: Option<(u16, Option<Arc<Schema>>)>) -> Event {
    let (by, by_schema) = by.map_or((None, None), |(by, schema)| (Some(by), schema));
    Event::Gap(Gap {
        first: 3,
        last: 9,
        time: Time(0),
        losses: vec![Loss {
            provider: 4,
            schema: Some(schema_of(&QUIET)),
            message: 3,
            cause: Some(Cause::Quota),
            count: 7,
            by,
            by_schema,
        }],
    })
}

fn row_of(event: &Event) -> String {
    let rows = Narrator::new().rows(event);
    assert_eq!(rows.len(), 1);
    rows[0].command_line.to_string()
}

fn json_of(event: &Event) -> serde_json::Value {
    let line = Narrator::new().json(event).expect("it has a line");
    serde_json::from_str(&line).expect("it is JSON")
}

#[test]
fn a_loss_names_who_took_too_much() {
    let named = gap(Some((5, Some(schema_of(&LOUD)))));
    assert_eq!(row_of(&named), "7 quiet/said: quota; loud took too much");
    assert_eq!(
        json_of(&named)["lost"][0],
        json!({ "provider": "quiet", "message": "said", "cause": "quota", "count": 7, "by": "loud" })
    );
    // One that is not subscribed to has no name here.
    let unnamed = gap(Some((5, None)));
    assert_eq!(
        row_of(&unnamed),
        "7 quiet/said: quota; provider 5 took too much"
    );
    assert_eq!(json_of(&unnamed)["lost"][0]["by"], 5);
    let nobody = gap(None);
    assert_eq!(row_of(&nobody), "7 quiet/said: quota");
    assert_eq!(json_of(&nobody)["lost"][0]["by"], json!(null));
}

#[test]
fn the_end_of_a_snapshot_says_whose_it_is() {
    let end = |schema| Event::SnapshotEnd {
        provider: 4,
        schema,
        time: Time(133_000_000_000_000_000),
        sequence: 12,
    };
    let named = end(Some(schema_of(&QUIET)));
    assert_eq!(
        row_of(&named),
        "quiet: that was all there is; from here on it happens"
    );
    assert_eq!(
        json_of(&named),
        json!({ "provider": "quiet", "message": "snapshot-end", "seq": 12,
            "time": "2022-06-18T04:26:40.0000000Z" })
    );
    assert_eq!(
        row_of(&end(None)),
        "provider 4: that was all there is; from here on it happens"
    );
}
