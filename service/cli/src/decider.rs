// SPDX-License-Identifier: MIT OR Apache-2.0
//! `watch --deny`: answers the process monitor's request whether a process may be created.
//!
//! It has a connection and threads of its own, so that neither a slow terminal nor a full stream
//! delays a verdict.

use crate::failure::{Failure, complain};
use crate::service::Service;
use crate::watch::Input;
use fltport::process_monitor::{ProcessCreate, ProcessVerdict};
use fltport::{Client, Error, Event, Message, MessageSet, Text, glob, rights};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests that are answered at one time.
const THREADS: usize = 4;

/// The decider. Dropping it gives the role up.
#[derive(Debug)]
pub(crate) struct Decider {
    client: Arc<Client>,
    threads: Vec<JoinHandle<()>>,
}

impl Decider {
    /// Takes the role. Tells `watch` when it is lost.
    pub(crate) fn start(
        service: &Service,
        deny: &[String],
        watch: &SyncSender<Input>,
    ) -> Result<Decider, Failure> {
        let client = Arc::new(service.connect("fltport watch --deny", rights::DECIDE)?);
        let role = MessageSet::from(ProcessCreate::NUMBER);
        client.subscribe("process-monitor", MessageSet::NONE, role)?;
        let mut decider = Decider {
            client,
            threads: Vec::new(),
        };
        let deny: Arc<[String]> = deny.into();
        for _ in 0..THREADS {
            let (client, deny, watch) = (decider.client.clone(), deny.clone(), watch.clone());
            let thread = std::thread::Builder::new()
                .name("decider".into())
                .spawn(move || decide(&client, &deny, &watch))
                .map_err(|e| {
                    Failure::new(format!(
                        "no thread can be started: {e}. Raise the limit on threads"
                    ))
                })?;
            decider.threads.push(thread);
        }
        Ok(decider)
    }
}

impl Drop for Decider {
    fn drop(&mut self) {
        self.client.close();
        for thread in self.threads.drain(..) {
            // One that panicked has told its reason to standard error.
            let _panicked = thread.join();
        }
    }
}

fn decide(client: &Client, deny: &[String], watch: &SyncSender<Input>) {
    while !client.is_over() {
        let request = match client.next(Duration::from_secs(3600)) {
            Some(Event::Request(request)) => request,
            Some(lost @ Event::Disconnected { .. }) => {
                // If the channel is gone, the command is ending.
                let _ending = watch.send(Input::Event(lost));
                return;
            }
            Some(Event::SubscriptionFailed { reason, .. }) => {
                complain(&format!("nothing is denied until this is mended: {reason}"));
                continue;
            }
            _ => continue,
        };
        let image = request.record.decode::<ProcessCreate<'_>>().ok();
        let image = image.and_then(|create| create.image);
        let deny = image.is_some_and(|image| matches_any(deny, image));
        match request.reply(&ProcessVerdict { deny }) {
            // Too late, or the connection has ended: the driver has answered by itself, and the
            // outcome shows in the stream.
            Ok(()) | Err(Error::TooLate(_) | Error::Disconnected(_)) => {}
            Err(error) => complain(&format!("a verdict was not taken: {error}")),
        }
    }
}

fn matches_any(patterns: &[String], image: Text<'_>) -> bool {
    let matches = |pattern: &String| glob::matches(Text::Utf8(pattern), image, upcase);
    patterns.iter().any(matches)
}

/// The upper case of one UTF-16 unit, where that is one unit too: as NT compares names.
fn upcase(unit: u16) -> u16 {
    let mut upper = match char::from_u32(unit.into()) {
        Some(character) => character.to_uppercase(),
        None => return unit,
    };
    match (upper.next().map(u32::from), upper.next()) {
        (Some(upper), None) => u16::try_from(upper).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_held_against_the_image_as_the_driver_does() {
        let patterns = ["*/nc".to_owned(), "ÄRGER".to_owned()];
        assert!(matches_any(&patterns, Text::Utf8("/usr/bin/NC")));
        assert!(matches_any(&patterns, Text::Utf8("/opt/ärger")));
        assert!(!matches_any(&patterns, Text::Utf8("/usr/bin/ncat")));
        assert_eq!(upcase(u16::from(b'a')), u16::from(b'A'));
        assert_eq!(upcase(0xd800), 0xd800);
        assert_eq!(upcase(0xdf), 0xdf, "SS is two units");
    }
}
