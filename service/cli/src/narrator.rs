// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events as lines: of the table, or of JSON. Both are read from the provider's own field table;
//! the table has places of its own for the fields that it knows by name, and prints the others as
//! name=value.

use crate::clock;
use crate::json::Json;
use crate::plain::plain;
use crate::table::{Row, Tone};
use fltport::{DecodeError, Event, Gap, Outcome, Record, RequestOutcome, Schema, Value};
use jiff::tz::TimeZone;
use std::borrow::Cow;
use std::collections::HashMap;

/// Images to remember for their exits.
const REMEMBERED: usize = 65_536;

type Field<'f> = (&'f str, Result<Value<'f>, DecodeError>);

/// Remembers what rows need of earlier ones.
#[derive(Debug)]
pub(crate) struct Narrator {
    zone: TimeZone,
    images: HashMap<u32, String>,
    json: Json,
}

impl Narrator {
    pub(crate) fn new() -> Narrator {
        Narrator {
            zone: TimeZone::system(),
            images: HashMap::new(),
            json: Json::default(),
        }
    }

    /// The rows of an event; most have one.
    pub(crate) fn rows(&mut self, event: &Event) -> Vec<Row<'static>> {
        match event {
            Event::Notification(record) | Event::CommonDriver(record) => {
                vec![self.notification(record)]
            }
            Event::Snapshot(record) => {
                let mut row = self.notification(record);
                row.event = format!("={}", row.event).into();
                vec![row]
            }
            Event::SnapshotEnd {
                provider,
                schema,
                time,
                ..
            } => vec![Row {
                time: clock::time_of_day(*time, &self.zone),
                event: "=".into(),
                command_line: format!(
                    "{}: that was all there is; from here on it happens",
                    provider_name(*provider, schema.as_deref())
                )
                .into(),
                ..blank(Tone::Other)
            }],
            Event::Outcome(outcome) => self.outcome(outcome).into_iter().collect(),
            Event::Gap(gap) => self.gap(gap),
            Event::Corrupt(corrupt) => vec![Row {
                time: clock::time_of_day(corrupt.time, &self.zone),
                event: "corrupt".into(),
                command_line: format!(
                    "{}/{}: {}",
                    corrupt.schema.provider,
                    corrupt.message_name().unwrap_or("?"),
                    corrupt.error
                )
                .into(),
                ..blank(Tone::Bad)
            }],
            Event::Missing { first, last } => vec![Row {
                event: "lost".into(),
                command_line: format!(
                    "{} without explanation: numbers {first} to {last}",
                    last - first + 1
                )
                .into(),
                ..blank(Tone::Bad)
            }],
            _ => Vec::new(),
        }
    }

    fn notification(&mut self, record: &Record) -> Row<'static> {
        let name = message_name(record);
        let mut row = fill(record.fields());
        row.time = clock::time_of_day(record.time(), &self.zone);
        row.tone = match name.as_str() {
            "start" => Tone::Start,
            "exit" => Tone::Exit,
            _ => Tone::Other,
        };
        if let Ok(pid) = row.pid.parse() {
            match row.tone {
                // A process id that is used again has another image.
                Tone::Start if self.images.len() < REMEMBERED || self.images.contains_key(&pid) => {
                    self.images.insert(pid, row.image.to_string());
                }
                Tone::Exit => {
                    row.image = self.images.remove(&pid).unwrap_or_default().into();
                }
                _ => {}
            }
        }
        row.event = name.into();
        row
    }

    /// A denial, or a request that nobody answered; an allowance by the decider is no news.
    fn outcome(&self, outcome: &RequestOutcome) -> Option<Row<'static>> {
        let denied = outcome
            .reply_fields()
            .any(|(name, value)| name == "deny" && value == Ok(Value::Bool(true)));
        let (event, note) = match outcome.outcome() {
            Some(Outcome::Answered) if denied => ("deny", None),
            Some(Outcome::Answered | Outcome::NoDecider | Outcome::FromDecider) if !denied => {
                return None;
            }
            Some(how @ Outcome::CircuitOpen) if !denied => ("allow*", Some(how.name())),
            Some(how) if denied => ("deny*", Some(how.name())),
            Some(how) => ("miss", Some(how.name())),
            None => ("miss", Some("for a reason that this version does not know")),
        };
        let mut row = fill(outcome.request_fields());
        row.tone = Tone::Bad;
        row.time = clock::time_of_day(outcome.record.time(), &self.zone);
        row.event = event.into();
        if let Some(note) = note {
            let waited = outcome.waited_us() / 1000;
            row.command_line = format!("({note}, {waited} ms) {}", row.command_line).into();
        }
        Some(row)
    }

    fn gap(&self, gap: &Gap) -> Vec<Row<'static>> {
        let row = |loss: &fltport::Loss| {
            let provider = loss
                .provider_name()
                .map_or_else(|| loss.provider.to_string(), str::to_owned);
            let message = loss
                .message_name()
                .map_or_else(|| loss.message.to_string(), str::to_owned);
            let cause = loss.cause.map_or("unknown cause", |c| c.name());
            let guilty = loss.by.map_or_else(String::new, |by| {
                let name = provider_name(by, loss.by_schema.as_deref());
                format!("; {name} took too much")
            });
            let count = loss.count;
            Row {
                time: clock::time_of_day(gap.time, &self.zone),
                event: "lost".into(),
                command_line: format!("{count} {provider}/{message}: {cause}{guilty}").into(),
                ..blank(Tone::Loss)
            }
        };
        gap.losses.iter().map(row).collect()
    }

    /// The JSON line of an event; `None` for one that has none.
    pub(crate) fn json(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Notification(record) | Event::CommonDriver(record) => self.json.object(|json| {
                head(json, record, &message_name(record));
                fields(json, record.fields());
            }),
            Event::Snapshot(record) => self.json.object(|json| {
                head(json, record, &message_name(record));
                json.key("snapshot").bool(true);
                fields(json, record.fields());
            }),
            Event::SnapshotEnd {
                schema,
                time,
                sequence,
                ..
            } => self.json.object(|json| {
                let provider = schema.as_deref().map(|s| s.provider.as_str());
                json.key("provider").text_or_null(provider);
                json.key("message").text("snapshot-end");
                json.key("seq").number(*sequence);
                json.key("time").text_or_null(clock::utc(*time).as_deref());
            }),
            Event::Outcome(outcome) => self.json.object(|json| outcome_json(json, outcome)),
            Event::Gap(gap) => self.json.object(|json| gap_json(json, gap)),
            Event::Corrupt(corrupt) => self.json.object(|json| {
                json.key("provider").text(&corrupt.schema.provider);
                json.key("message").text("corrupt");
                json.key("seq").number(corrupt.sequence);
                json.key("time")
                    .text_or_null(clock::utc(corrupt.time).as_deref());
                json.key("of").text_or_null(corrupt.message_name());
                json.key("error").text(&corrupt.error.to_string());
            }),
            Event::Missing { first, last } => self.json.object(|json| {
                json.key("provider").null();
                json.key("message").text("missing");
                json.key("seq").number(*last);
                json.key("time").null();
                json.key("first").number(*first);
                json.key("last").number(*last);
            }),
            _ => return None,
        }
        Some(self.json.take())
    }
}

/// The name of a provider, or what stands for it if it is not subscribed to.
fn provider_name(number: u16, schema: Option<&Schema>) -> String {
    schema.map_or_else(|| format!("provider {number}"), |s| s.provider.clone())
}

fn message_name(record: &Record) -> String {
    let message = record.schema().and_then(|s| s.message(record.message()));
    message.map_or_else(|| record.message().to_string(), |m| m.name.clone())
}

fn head(json: &mut Json, record: &Record, message: &str) {
    let provider = record.schema().map(|s| s.provider.as_str());
    json.key("provider").text_or_null(provider);
    json.key("message").text(message);
    json.key("seq").number(record.sequence());
    let time = clock::utc(record.time());
    json.key("time").text_or_null(time.as_deref());
}

fn fields<'f>(json: &mut Json, fields: impl Iterator<Item = Field<'f>>) {
    for (name, value) in fields {
        json.key(name).value(&value);
    }
}

fn outcome_json(json: &mut Json, outcome: &RequestOutcome) {
    head(json, &outcome.record, &message_name(&outcome.record));
    json.key("outcome")
        .text(outcome.outcome().map_or("unknown", |o| o.name()));
    json.key("request").number(outcome.id());
    json.key("waited_us").number(outcome.waited_us());
    match outcome.decider() {
        Some(decider) => json.key("decider").number(decider),
        None => json.key("decider").null(),
    }
    fields(json, outcome.request_fields());
    fields(json, outcome.reply_fields());
}

fn gap_json(json: &mut Json, gap: &Gap) {
    json.key("provider").null();
    json.key("message").text("gap");
    json.key("seq").number(gap.last);
    json.key("time")
        .text_or_null(clock::utc(gap.time).as_deref());
    json.key("first").number(gap.first);
    json.key("last").number(gap.last);
    json.key("lost").list(|json| {
        for loss in &gap.losses {
            json.object(|json| {
                json.key("provider").text_or_null(loss.provider_name());
                match loss.message_name() {
                    Some(name) => json.key("message").text(name),
                    None => json.key("message").number(loss.message),
                }
                json.key("cause").text_or_null(loss.cause.map(|c| c.name()));
                json.key("count").number(loss.count);
                match (loss.by_name(), loss.by) {
                    (Some(name), _) => json.key("by").text(name),
                    (None, Some(number)) => json.key("by").number(number),
                    (None, None) => json.key("by").null(),
                }
            });
        }
    });
}

fn blank(tone: Tone) -> Row<'static> {
    Row {
        tone,
        time: String::new(),
        event: "".into(),
        pid: String::new(),
        parent: String::new(),
        image: "".into(),
        command_line: "".into(),
        exit: String::new(),
    }
}

/// A row with the fields in their places.
fn fill<'f>(fields: impl Iterator<Item = Field<'f>>) -> Row<'static> {
    let mut row = blank(Tone::Other);
    let mut others = Vec::new();
    for (name, value) in fields {
        let Ok(value) = value else {
            others.push(format!("{name}=?"));
            continue;
        };
        match (name, value) {
            (_, Value::Absent) => {}
            ("pid", Value::Pid(pid)) => row.pid = pid.0.to_string(),
            ("parent_pid", Value::Pid(pid)) => row.parent = pid.0.to_string(),
            ("image", Value::Text(text)) => row.image = text.to_string().into(),
            ("command_line", Value::Text(text)) => row.command_line = text.to_string().into(),
            ("exit_status", Value::Status(status)) => row.exit = status.0.to_string(),
            // In JSON only.
            ("creating_pid" | "creating_tid" | "truncated", _) => {}
            (name, value) => others.push(format!("{name}={}", plain(&value))),
        }
    }
    if !others.is_empty() {
        let text: Cow<'_, str> = row.command_line;
        row.command_line = [others.join(" "), text.into_owned()]
            .join(" ")
            .trim_end()
            .to_owned()
            .into();
    }
    row
}

#[cfg(test)]
mod tests;
