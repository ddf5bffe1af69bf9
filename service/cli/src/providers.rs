// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport providers`: what drivers can tell, ask and be told, read from their own schemas.

use crate::arguments::{self, Verifier};
use crate::clock;
use crate::failure::Failure;
use crate::json::Json;
use crate::output::Output;
use crate::plain::plain;
use crate::service::Service;
use crate::table::printable;
use fltport::{
    Client, CommandResult, DefinitionSchema, Error, FieldSchema, FormSchema, MessageSchema,
    ProviderInfo, Role, Schema, rights,
};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// A provider, and its schema or why there is none.
type Known = (ProviderInfo, Result<Described, Error>);

/// A schema, and what requests are answered with when nobody answers, by number.
struct Described {
    schema: Arc<Schema>,
    defaults: BTreeMap<u16, CommandResult>,
}

/// Prints them.
pub(crate) fn run(
    socket: Option<&Path>,
    arguments: &arguments::Providers,
) -> Result<ExitCode, Failure> {
    let service = Service::find(socket, Verifier::default())?;
    let client = service.connect("fltport providers", rights::OBSERVE)?;
    let known = ask(&client, arguments.name.as_deref())?;
    let mut output = Output::new();
    if arguments.json {
        output.line(&to_json(&known))?;
    } else {
        let zone = TimeZone::system();
        for line in known.iter().flat_map(|k| to_text(k, &zone)) {
            output.line(&printable(&line))?;
        }
    }
    output.flush()?;
    drop(client);
    service.end()?;
    Ok(ExitCode::SUCCESS)
}

fn ask(client: &Client, name: Option<&str>) -> Result<Vec<Known>, Failure> {
    let mut known = Vec::new();
    for provider in client.providers()? {
        if name.is_some_and(|name| name != provider.name) {
            continue;
        }
        match client.schema(&provider.name) {
            // Gone since the list was made.
            Err(Error::NoProvider(_) | Error::NotFound(_)) => {}
            Err(error @ Error::Schema(_)) => known.push((provider, Err(error))),
            // Those that this user may see are not to be missing for it.
            Err(error @ Error::AccessDenied(_)) if name.is_none() => {
                known.push((provider, Err(error)));
            }
            Err(error) => return Err(error.into()),
            Ok(schema) => match defaults(client, &provider.name, &schema) {
                Err(Error::NoProvider(_) | Error::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(defaults) => known.push((provider, Ok(Described { schema, defaults }))),
            },
        }
    }
    match name.filter(|_| known.is_empty()) {
        Some(name) => Err(Error::NoProvider(name.to_owned()).into()),
        None => Ok(known),
    }
}

/// The default replies that the provider declared.
fn defaults(
    client: &Client,
    provider: &str,
    schema: &Schema,
) -> Result<BTreeMap<u16, CommandResult>, Error> {
    let mut declared = BTreeMap::new();
    let requests = schema.messages.iter().filter(|m| m.role == Role::Request);
    for request in requests {
        let reply = client.default_reply(provider, request.number)?;
        if !reply.bytes().is_empty() {
            declared.insert(request.number, reply);
        }
    }
    Ok(declared)
}

fn to_text((provider, schema): &Known, zone: &TimeZone) -> Vec<String> {
    let backlog = match provider.backlog {
        0 => "no backlog".to_owned(),
        bytes => format!("backlog {} of {bytes} bytes", provider.backlog_used),
    };
    let since = clock::date_and_time(provider.since, zone);
    let mut lines = vec![format!(
        "{}: provider {}, since {since}, schema {:016x}, {backlog}",
        provider.name, provider.number, provider.hash
    )];
    match schema {
        Ok(Described { schema, defaults }) => {
            for message in &schema.messages {
                message_lines(message, &mut lines);
                let default = defaults.get(&message.number);
                lines.extend(default.map(|reply| default_line(message, reply.bytes())));
            }
            let definitions = schema.definitions.iter();
            lines.extend(definitions.flat_map(|d| definition_lines(d)));
        }
        Err(error) => lines.push(format!("  {error}")),
    }
    lines
}

fn message_lines(message: &MessageSchema, lines: &mut Vec<String>) {
    let MessageSchema {
        number, role, name, ..
    } = message;
    lines.push(format!("  {} {number} {name}", role.name()));
    lines.extend(message.fields.iter().map(|f| field_line("    ", f)));
    lines.extend(message.reply.iter().map(|f| field_line("    -> ", f)));
}

/// What the request is answered with when nobody answers it.
fn default_line(request: &MessageSchema, reply: &[u8]) -> String {
    let mut line = "    by default:".to_owned();
    for (name, value) in request.reply_fields(reply) {
        let value = value.map_or_else(|_| "?".to_owned(), |value| plain(&value));
        // Writing to a string does not fail.
        let _written = write!(line, " {name}={value}");
    }
    line
}

fn field_line(before: &str, field: &FieldSchema) -> String {
    let mut line = format!("{before}{}: {}", field.name, kind_name(field));
    if let Some(definition) = &field.definition {
        // Writing to a string does not fail.
        let _written = write!(line, " {}", definition.name);
    }
    if field.optional {
        line.push_str(", optional");
    }
    line
}

fn kind_name(field: &FieldSchema) -> String {
    match field.kind {
        Some(kind) => kind.name().to_owned(),
        None => format!("type {} of a newer version", field.kind_number),
    }
}

/// What the form is called, and its values.
fn form(definition: &DefinitionSchema) -> (&'static str, &[(u32, String)]) {
    match &definition.form {
        FormSchema::Enum(values) => ("enum", values),
        FormSchema::Flags(bits) => ("flags", bits),
        FormSchema::Record(_) => ("record", &[]),
        _ => ("unknown", &[]),
    }
}

fn definition_lines(definition: &DefinitionSchema) -> Vec<String> {
    let (name, values) = form(definition);
    let mut lines = vec![format!("  {name} {}", definition.name)];
    for (value, meaning) in values {
        lines.push(match definition.form {
            FormSchema::Flags(_) => format!("    {value:#x} {meaning}"),
            _ => format!("    {value} {meaning}"),
        });
    }
    if let FormSchema::Record(fields) = &definition.form {
        lines.extend(fields.iter().map(|f| field_line("    ", f)));
    }
    lines
}

fn to_json(known: &[Known]) -> String {
    let mut json = Json::default();
    json.object(|json| {
        json.key("providers").list(|json| {
            for (provider, schema) in known {
                json.object(|json| provider_json(json, provider, schema));
            }
        });
    });
    json.take()
}

fn provider_json(json: &mut Json, provider: &ProviderInfo, schema: &Result<Described, Error>) {
    json.key("name").text(&provider.name);
    json.key("number").number(provider.number);
    let since = clock::utc(provider.since);
    json.key("since").text_or_null(since.as_deref());
    json.key("hash").text(&format!("{:016x}", provider.hash));
    json.key("backlog").number(provider.backlog);
    json.key("backlog_used").number(provider.backlog_used);
    match schema {
        Ok(described) => schema_json(json, described),
        Err(error) => json.key("error").text(&error.to_string()),
    }
}

fn schema_json(json: &mut Json, Described { schema, defaults }: &Described) {
    json.key("messages").list(|json| {
        for message in &schema.messages {
            json.object(|json| {
                json.key("number").number(message.number);
                json.key("role").text(message.role.name());
                json.key("name").text(&message.name);
                fields_json(json.key("fields"), &message.fields);
                fields_json(json.key("reply"), &message.reply);
                if let Some(reply) = defaults.get(&message.number) {
                    json.key("default").object(|json| {
                        for (name, value) in message.reply_fields(reply.bytes()) {
                            json.key(name).value(&value);
                        }
                    });
                }
            });
        }
    });
    json.key("definitions").list(|json| {
        for definition in &schema.definitions {
            json.object(|json| definition_json(json, definition));
        }
    });
}

fn definition_json(json: &mut Json, definition: &DefinitionSchema) {
    let (name, values) = form(definition);
    json.key("name").text(&definition.name);
    json.key("form").text(name);
    json.key("values").list(|json| {
        for (value, name) in values {
            json.object(|json| {
                json.key("value").number(*value);
                json.key("name").text(name);
            });
        }
    });
    if let FormSchema::Record(fields) = &definition.form {
        fields_json(json.key("fields"), fields);
    }
}

fn fields_json(json: &mut Json, fields: &[FieldSchema]) {
    json.list(|json| {
        for field in fields {
            json.object(|json| {
                json.key("name").text(&field.name);
                json.key("type").text(&kind_name(field));
                json.key("offset").number(field.offset);
                json.key("optional").bool(field.optional);
                let definition = field.definition.as_deref();
                json.key("definition")
                    .text_or_null(definition.map(|d| d.name.as_str()));
            });
        }
    });
}

#[cfg(test)]
mod tests;
