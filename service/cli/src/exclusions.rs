// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process monitor's exclusion list: `fltport exclusions`, `watch --exclude`.

use crate::arguments::Verifier;
use crate::failure::Failure;
use crate::output::Output;
use crate::service::Service;
use crate::table;
use fltport::process_monitor::{
    Exclusions, ExclusionsSet, GetExclusions, MAX_EXCLUSIONS, SetExclusions,
};
use fltport::{Error, TextList, rights};
use std::path::Path;
use std::process::ExitCode;

/// Prints the list.
pub(crate) fn run(socket: Option<&Path>) -> Result<ExitCode, Failure> {
    let service = Service::find(socket, Verifier::default())?;
    let client = service.connect("fltport exclusions", rights::COMMAND)?;
    let result = client.command("process-monitor", &GetExclusions {})?;
    let mut output = Output::new();
    for pattern in result.decode::<Exclusions<'_>>()?.images.iter() {
        output.line(&table::printable(&pattern.to_string()))?;
    }
    output.flush()?;
    drop(client);
    service.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Replaces the list.
pub(crate) fn set(service: &Service, patterns: &[String]) -> Result<(), Failure> {
    if patterns.len() > MAX_EXCLUSIONS {
        return Err(Failure::new(format!(
            "{} exclusions are too many; the driver takes {MAX_EXCLUSIONS}. Join some with *",
            patterns.len()
        )));
    }
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let images = TextList::Strings(&patterns);
    let client = service.connect("fltport watch --exclude", rights::COMMAND)?;
    let result = match client.command("process-monitor", &SetExclusions { images }) {
        Err(Error::Encode(_)) => {
            return Err(Failure::new(
                "the exclusions are too long together: the driver takes about 32,000 characters. Join some with *",
            ));
        }
        result => result?,
    };
    let taken = result.decode::<ExclusionsSet>()?.count;
    if taken as usize == patterns.len() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the driver took {taken} of {} exclusions. See `fltport exclusions`",
        patterns.len()
    )))
}
