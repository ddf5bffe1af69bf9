// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with the configuration of who may what, and what the driver has refused.

use super::checks::finding;
use super::{Examination, Finding, Severity};
use crate::access::{Access, Entry, ProviderAccess};
use crate::driver::COMMON;
use crate::machine::Value;
use crate::rights::OTHERS;
use fltport::{Refusal, RefusalRow};

/// Keys, and entries of one, beyond these are not read by the driver.
const MAX_KEYS: usize = 64;
const MAX_ENTRIES: usize = 64;

/// The configuration.
pub(super) fn configuration(examination: &Examination) -> Vec<Finding> {
    let Some(access) = &examination.access else {
        return Vec::new();
    };
    let mut findings: Vec<Finding> = images(access).into_iter().collect();
    let providers = access.providers.as_deref().unwrap_or_default();
    for provider in providers {
        findings.extend(judge(provider));
    }
    if providers.len() > MAX_KEYS {
        findings.push(too_many(
            "Parameters\\Access has more than 64 keys",
            "the driver does not read more, and lets nobody in rather than miss one",
        ));
    }
    findings
}

fn warning(id: &'static str, what: &str, why: &str, cure: &str) -> Finding {
    finding(Severity::Warning, id, Some(COMMON), [what, why, cure])
}

fn too_many(what: &str, why: &str) -> Finding {
    warning(
        "access-too-many",
        what,
        why,
        "Grant to groups instead of to each member",
    )
}

fn judge(access: &ProviderAccess) -> Vec<Finding> {
    let at = match access.provider.as_str() {
        OTHERS => "Parameters\\Access\\*".to_owned(),
        name => format!("Parameters\\Access\\{name}"),
    };
    let mut findings = Vec::new();
    for entry in &access.entries {
        findings.extend(judge_entry(&at, entry));
    }
    if access
        .entries
        .iter()
        .all(|entry| entry.grant.is_none_or(|(_, rights)| rights.0 == 0))
    {
        let what = format!("{at} gives nobody any right");
        let why = "no service can use the providers that it is for";
        let cure = format!(
            "fltport access reset --provider {}, or grant somebody something",
            access.provider
        );
        findings.push(warning("access-empty", &what, why, &cure));
    } else if !access.has_administrators() {
        let what = format!("{at} gives SYSTEM and Administrators no right");
        let why = "services and this command, run by an administrator, are refused there; that may be what is wanted";
        let cure = format!(
            "fltport access grant --provider {} --sid S-1-5-32-544 --rights all",
            access.provider
        );
        let texts = [what.as_str(), why, &cure];
        findings.push(finding(
            Severity::Note,
            "access-no-administrator",
            Some(COMMON),
            texts,
        ));
    }
    if access.entries.len() > MAX_ENTRIES {
        findings.push(too_many(
            &format!("{at} has more than 64 values"),
            "the driver does not read more, so the rest gives nobody anything",
        ));
    }
    findings
}

fn judge_entry(at: &str, entry: &Entry) -> Option<Finding> {
    let Some((sid, rights)) = entry.grant else {
        let what = format!(
            "{at} has a value \"{}\", which is no SID with a number",
            entry.name
        );
        let why = "the driver passes it over: it gives nobody anything";
        let cure = "Its name must be a SID, as S-1-5-32-545, and its type REG_DWORD; `fltport access grant` writes it so";
        return Some(warning("access-malformed", &what, why, cure));
    };
    if !sid.is_world() || rights.0 == 0 {
        return None;
    }
    let what = format!("{at} gives {sid} the rights {rights}");
    let why = "that is about everybody who can log on: any program can see what drivers tell, or answer in the service's place";
    Some(warning(
        "access-world",
        &what,
        why,
        "Grant to a service's own SID: `sc showsid NAME` shows it, `sc sidtype NAME unrestricted` turns it on",
    ))
}

fn images(access: &Access) -> Option<Finding> {
    let why = "the driver lets nobody connect who is not in it";
    let cure =
        "Make Parameters\\Images a REG_MULTI_SZ with patterns such as *\\service.exe, or remove it";
    let (id, what) = match access.images.as_ref()? {
        Value::Texts(texts) if texts.is_empty() => {
            ("images-empty", "Parameters\\Images is empty".to_owned())
        }
        Value::Texts(_) => return None,
        other => (
            "images-malformed",
            format!(
                "Parameters\\Images is {}, and no list of texts",
                other.type_name()
            ),
        ),
    };
    let texts = [what.as_str(), why, cure];
    Some(finding(Severity::Error, id, Some(COMMON), texts))
}

/// For each reason: what was refused, and the cure.
#[rustfmt::skip]
fn explain(reason: Refusal) -> (&'static str, &'static str, &'static str) {
    match reason {
        Refusal::NoRights => ("refused-no-rights", "a program of a user that has no right at any provider", "If it may, `fltport access grant`"),
        Refusal::RightNotGranted => ("refused-right", "a service that asked for more than its user may", "Have it ask for fewer rights, or `fltport access grant`"),
        Refusal::ProviderRight => ("refused-provider", "a subscription, command or stream without the right at that provider", "If it may, `fltport access grant --provider NAME`"),
        Refusal::Image => ("refused-image", "a program that is not in Parameters\\Images", "If it may connect, add its path there; the pattern meets NT's path, as \\Device\\HarddiskVolume3\\...: begin it with *"),
        Refusal::Configuration => ("refused-configuration", "everybody, because Parameters\\Images cannot be understood", "Make it a REG_MULTI_SZ, or remove it"),
        Refusal::OtherProcess => ("refused-process", "a call over another process's connection", "A handle was inherited or duplicated: have each process connect by itself"),
        Refusal::BadHello => ("refused-hello", "something that is no service of fltport, or broken", "See which program that process was"),
        Refusal::Version => ("refused-version", "a service of another version", "Update the older of the two"),
        Refusal::TooMany => ("refused-too-many", "a service for which there was no place", "End services that are not needed; `fltport status` lists them"),
        Refusal::StreamTaken => ("refused-stream", "a service whose stream another instance has", "Run one instance, or have the new one take the stream over"),
        Refusal::BadResume => ("refused-resume", "a service that wanted to go on where there is nothing", "It was away for longer than its retention: let it begin anew"),
        Refusal::BadCommand => ("refused-command", "a malformed command", "Use the library of the driver's version"),
        Refusal::BadFilter => ("refused-filter", "a filter that is malformed, or made for another schema", "Make it for the schema that the provider has"),
        Refusal::BadSchema => ("refused-schema", "a client driver whose schema is malformed", "Build that driver with the header of this version"),
        Refusal::BadAcknowledgement => ("refused-acknowledgement", "an acknowledgement of what was not sent, or without a stream", "Have the service connect with a stream, and acknowledge what it has read"),
        Refusal::RightNotAsked => ("refused-not-asked", "a service that used a right without having asked for it when it connected", "Have it ask for the right in its hello"),
    }
}

/// What the driver has refused since it was started.
pub(super) fn refusals(rows: &[RefusalRow]) -> Vec<Finding> {
    let known = rows.iter().filter(|row| row.count != 0).filter_map(|row| {
        let reason = u16::try_from(row.reason)
            .ok()
            .and_then(Refusal::from_wire)?;
        Some((row, explain(reason)))
    });
    let findings = known.map(|(row, (id, whom, cure))| {
        let times = if row.count == 1 {
            "once".to_owned()
        } else {
            format!("{} times", row.count)
        };
        let what = format!(
            "the driver has refused {whom}: {times}, the last time to process {}",
            row.pid
        );
        let why = "what is refused does not work; if it should not, this is as it should be";
        let texts = [what.as_str(), why, cure];
        finding(Severity::Note, id, Some(COMMON), texts)
    });
    findings.collect()
}
