// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens the sources there are, and says what is missing and what helps.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::connector::{Connector, ConnectorError};
use super::gate::Gate;
use super::group::Group;
use super::statistics::Counters;
use super::{Options, SensorError, SourceChoice, procfs};

const SHORTEST_HOLD: Duration = Duration::from_millis(10);

/// The sources of a sensor. Opened, used and dropped by the sensor's threads of their own table.
pub(super) struct Sources {
    /// Without it: walks over `/proc`.
    pub(super) connector: Option<Connector>,
    /// Only beside a connector.
    pub(super) hold: Option<Hold>,
    /// What is missing, why, and the cure, each as one line.
    pub(super) missing: Vec<String>,
}

/// What holding execs takes.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) gate: Arc<Gate>,
    pub(super) group: Arc<Group>,
}

impl Sources {
    /// Opens what the options want and the machine has. `apart` says whether the calling thread has
    /// got a descriptor table of its own, without which nothing may be held.
    pub(super) fn open(
        options: &Options,
        apart: io::Result<()>,
        counters: &Arc<Counters>,
    ) -> Result<Sources, SensorError> {
        let mut missing = Vec::new();
        let connector = connect(options, &mut missing)?;
        let hold = match (&connector, options.source) {
            (None, _) => None,
            (Some(_), SourceChoice::ConnectorOnly) => {
                let line = "exec hold: not used, because the connector alone was demanded";
                missing.push(String::from(line));
                None
            }
            (Some(_), _) => match open_gate(options, apart, counters) {
                Ok(hold) => Some(hold),
                Err(reason) => {
                    missing.push(format!("exec hold: no: {reason}"));
                    None
                }
            },
        };
        Ok(Sources {
            connector,
            hold,
            missing,
        })
    }
}

/// Subscribes to the process connector if the options want it; notes why if there is none.
fn connect(options: &Options, missing: &mut Vec<String>) -> Result<Option<Connector>, SensorError> {
    if options.source == SourceChoice::Procfs {
        missing.push(String::from(
            "process connector: not used, because /proc was demanded",
        ));
        return Ok(None);
    }
    match Connector::subscribe(options.buffer_bytes) {
        Ok(connector) => Ok(Some(connector)),
        Err(error) if options.source == SourceChoice::ConnectorOnly => {
            Err(SensorError::NoConnector(reason_of(&error)))
        }
        Err(error) => {
            missing.push(format!("process connector: no: {}", reason_of(&error)));
            missing.push(String::from(
                "exec hold: no: it needs the process connector",
            ));
            Ok(None)
        }
    }
}

fn reason_of(error: &ConnectorError) -> String {
    match error {
        ConnectorError::Refused(error) => {
            format!("{error}; run as root (it needs CAP_NET_ADMIN)")
        }
        ConnectorError::Silent => String::from(
            "the kernel does not answer; run outside of containers (it needs the initial pid and \
             user namespaces) on a kernel with CONFIG_PROC_EVENTS",
        ),
    }
}

fn open_gate(
    options: &Options,
    apart: io::Result<()>,
    counters: &Arc<Counters>,
) -> Result<Hold, String> {
    // Before 5.11 a thread inside execve kept a lock that reading its arguments needs.
    if !procfs::kernel_can_show_held_execs() {
        return Err(String::from("it needs Linux 5.11 or later"));
    }
    apart.map_err(|error| format!("no descriptor table of its own: {error}"))?;
    let group =
        Group::new().map_err(|error| format!("{error}; run as root (it needs CAP_SYS_ADMIN)"))?;
    let gate = Gate::new(options.hold_cap.max(SHORTEST_HOLD), Arc::clone(counters));
    Ok(Hold {
        gate: Arc::new(gate),
        group: Arc::new(group),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(source: SourceChoice, apart: io::Result<()>) -> Sources {
        let options = Options {
            source,
            ..Options::default()
        };
        Sources::open(&options, apart, &Arc::default()).unwrap()
    }

    #[test]
    fn nothing_is_held_without_a_table_of_its_own() {
        let sources = open(SourceChoice::Auto, Err(io::Error::other("a reason")));
        assert!(sources.hold.is_none());
        assert!(
            sources
                .missing
                .iter()
                .any(|line| line.starts_with("exec hold: no: "))
        );
    }

    #[test]
    fn what_is_not_wanted_is_not_opened() {
        let sources = open(SourceChoice::Procfs, Ok(()));
        assert!(sources.connector.is_none() && sources.hold.is_none());
        assert_eq!(sources.missing.len(), 1);
    }
}
