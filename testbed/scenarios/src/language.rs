// SPDX-License-Identifier: MIT OR Apache-2.0
//! The language of scenarios: one step a line, `#` begins a comment.
//!
//! ```text
//! about what it shows, in one line
//!
//! start DRIVER | stop DRIVER | unload DRIVER      load, stop, or ask to unload (which may be refused);
//!     where a line starts fltmgr, the Filter Manager is not there before
//! service NAME [queue=BYTES] [gets=N] [once=yes] [driver-queue=BYTES]     a process that connects
//!     [stream=KEY] [retention=MS] [takes-over=yes] [of=NAME] [waits=yes]
//!     of: a child of that one's process; waits: until there is a port
//! status                                          what `fltport status --json` says
//! stream KEY                                      what all instances of a stream have dealt with
//! kill NAME | leave NAME                          its end, without warning or in order
//! repeat N ... end                                the steps between, N times
//!
//! registry creates|deletes KEY                    a program on the registry; keys are paths below
//! registry sets KEY NAME [bytes=N] [count=N]      HKEY_LOCAL_MACHINE\\Software\\fltport-scenarios
//! registry unsets KEY NAME | registry renames KEY NAME
//! registry begins KEY [threads=N] | registry ends      threads that set values meanwhile
//!
//! NAME registers PROVIDER [quota=BYTES] [rate=N] [burst=N]     another one of the load generator's
//! NAME subscribes [provider=NAME] [observe=tick,blob,early,question] [decide=question]
//!     [filter=MESSAGE:PREDICATE] [snapshot=yes] [muted=yes]     muted: what it does itself
//! (of the load generator's providers each starts jobs: provider=NAME, also behind `finishes`)
//! NAME starts flood count=N [threads=N] [bytes=N]      notifications from threads
//! NAME starts dpc count=N [by=timer|queue]             notifications from DPCs
//! NAME starts ask rounds=N [threads=N] [deadline=MS]   questions from threads;
//!     [pending=N]                      so many of each thread's are pending, and not waited for
//! NAME starts change count=N [threads=N]               changes of objects, which snapshots report
//! NAME starts pairs count=N [threads=N]                pairs, of which the second half is booked
//! NAME tells count=N [about=NAME]  deeds, in its own name, about its process or that one's
//! NAME misregisters how=N          a provider whose schema is wrong in this way
//! NAME finishes                    waits for the job that was started last; its account
//! NAME sees                        waits until the expectations hold; its tally
//! NAME answers | NAME mutes        requests, from now on; it answers at first
//! NAME wakes | NAME sleeps         takes events, or does not, from now on
//! NAME replies                     to the requests that it kept, the last one first
//! NAME watches KEY[,KEY]           what the registry monitor watches; without, everything
//! NAME allows | NAME denies        what the registry monitor asks about; it allows at first
//! NAME echoes bytes=N
//! NAME faults address=N [write=yes]
//! NAME uses [provider=NAME]        what the provider takes of this connection
//! NAME refused                     what the driver has refused, by reason
//! NAME counts                      what the load generator has done
//! NAME sends command=N [provider=NAME] [bytes=N]       a command of arbitrary bytes
//! NAME passes [input=PLACE] [output=PLACE] [input-length=N] [output-length=N]
//! NAME crowds connections=N         connects so many times more, in place of those before
//! NAME tries WRONG [stream=KEY]       a handle of its own, with bytes that are wrong in this way
//! NAME greets PROVIDER [times=N]      with a connection of its own: a hello driver says hello, asks, and tells
//! NAME audits                      the ledger, once nothing is in flight
//! ```
//!
//! Every step may end with `expect` and what must come of it: `NAME=N`, `NAME>=N`, `NAME<=N`, or
//! `error=WORD`. In a filter `@NAME` is the number of that service's process. `within=MS` changes how long a step may take.

mod registry;
mod step;
#[cfg(test)]
mod tests;
mod watchers;
mod words;

use anyhow::{Result, anyhow, bail};
pub(crate) use registry::Work;
pub(crate) use step::{Action, Service, Step, Stream};
use words::Words;

/// A scenario.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) parts: Vec<Part>,
}

impl Scenario {
    /// All of its steps, each once.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.parts.iter().flat_map(|part| &part.steps)
    }
}

/// Steps, and how often they are done.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) times: u32,
    pub(crate) steps: Vec<Step>,
}

/// Reads a scenario; `file` is for errors.
pub(crate) fn read(name: &str, file: &str, text: &str) -> Result<Scenario> {
    let mut scenario = Scenario {
        name: name.to_owned(),
        about: String::new(),
        parts: Vec::new(),
    };
    let mut repeated_since = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let at = |error: anyhow::Error| anyhow!("{file}:{number}: {error:#}");
        if let Some(about) = line.strip_prefix("about ") {
            scenario.about = about.trim().to_owned();
        } else if !line.is_empty() {
            add(&mut scenario, &mut repeated_since, number, line).map_err(at)?;
        }
    }
    if let Some(number) = repeated_since {
        bail!("{file}:{number}: this `repeat` has no end. Write a line `end` behind its last step");
    }
    if scenario.about.is_empty() {
        bail!("{file}: nothing says what it shows. Begin it with a line `about ...`");
    }
    if scenario.parts.iter().all(|part| part.steps.is_empty()) {
        bail!("{file}: it has no steps, and shows nothing. Write one a line");
    }
    Ok(scenario)
}

fn add(
    scenario: &mut Scenario,
    repeated_since: &mut Option<u32>,
    number: u32,
    line: &str,
) -> Result<()> {
    let mut words = Words::new(line)?;
    let once = Part {
        times: 1,
        steps: Vec::new(),
    };
    match words.peek() {
        Some("repeat") => {
            words.next("repeat")?;
            if repeated_since.replace(number).is_some() {
                bail!("a `repeat` within a `repeat`. Write `end` before it");
            }
            let times = words.number("how often, as in `repeat 50`")?;
            if times == 0 {
                bail!("what is repeated 0 times shows nothing. Write how often, as in `repeat 50`");
            }
            scenario.parts.push(Part { times, ..once });
        }
        Some("end") => {
            words.next("end")?;
            if repeated_since.take().is_none() {
                bail!("an `end` of nothing. Write `repeat N` before the steps that it ends");
            }
            scenario.parts.push(once);
        }
        _ => {
            if scenario.parts.is_empty() {
                scenario.parts.push(once);
            }
            let step = step::read(number, line, &mut words)?;
            if let Some(part) = scenario.parts.last_mut() {
                part.steps.push(step);
            }
        }
    }
    words.finish()
}
