// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps, and how a line becomes one.

use super::registry::{self, Work};
use super::words::Words;
use crate::orders::{self, Expected, Job, Order, Pass, Place};
use crate::pass;
use anyhow::{Context, Result, anyhow, bail};
use fltport_abi::schema::Provider;
use fltport_abi::{process_monitor, registry_monitor};
use serde::{Deserialize, Serialize};

/// How long a step may take, in milliseconds, unless it says otherwise.
const PATIENCE: u64 = 30_000;

/// One step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The line that it stands on.
    pub(crate) line: u32,
    /// That line.
    pub(crate) text: String,
    pub(crate) action: Action,
    /// What must come of it.
    pub(crate) expected: Vec<Expected>,
    /// It must be refused so.
    pub(crate) refusal: Option<String>,
    /// How long it may take, in milliseconds.
    pub(crate) within: u64,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Loads a driver.
    Start(String),
    /// Stops it.
    Stop(String),
    /// Asks for its unload, which it may refuse.
    Unload(String),
    /// Has a service connect.
    Service(Service),
    /// Kills its process.
    Kill(String),
    /// Asks as an operator does.
    Status,
    /// Has a program work on the registry.
    Registry(Work),
    /// Has a service do something.
    Order(String, Order),
    /// Waits, in a service, for the end of the job that this provider has started last.
    Finish { service: String, provider: String },
    /// Looks at what all instances of a stream have dealt with, one after the other.
    Stream(String),
}

/// A service to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) queue: Option<usize>,
    pub(crate) gets: Option<u32>,
    pub(crate) once: bool,
    pub(crate) stream: Option<Stream>,
    /// Bytes of its queue in the driver.
    pub(crate) driver_queue: Option<u32>,
    /// It is `fltport watch --json`; where no signal can end it, for so many seconds.
    pub(crate) watch: Option<u64>,
    /// It waits until there is something to connect to.
    pub(crate) waits: bool,
    /// The service whose process starts it.
    pub(crate) parent: Option<String>,
}

/// The stream that a service has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// Of which its key is made.
    pub(crate) name: String,
    /// How long it is kept without a service, in milliseconds.
    pub(crate) retention: u64,
    /// It is taken from the instance that has it.
    pub(crate) take_over: bool,
}

/// Reads a line.
pub(super) fn read(line: u32, text: &str, words: &mut Words<'_>) -> Result<Step> {
    let within = words.number_of("within", PATIENCE)?;
    let subject = words.next("who does something")?;
    let mut object = |what| words.next(what).map(str::to_owned);
    let action = match subject {
        "start" => Action::Start(object("the driver")?),
        "stop" => Action::Stop(object("the driver")?),
        "unload" => Action::Unload(object("the driver")?),
        "kill" => Action::Kill(object("the service")?),
        "leave" => Action::Order(object("the service")?, Order::Leave),
        "service" => Action::Service(service(words)?),
        "status" => Action::Status,
        "stream" => Action::Stream(object("the stream")?),
        "registry" => Action::Registry(registry::read(words)?),
        name => by_a_service(name, words, within)?,
    };
    let (mut expected, refusal) = words.expectations();
    if let Action::Order(_, Order::See { expected: seen, .. }) = &action {
        expected.clone_from(seen);
    }
    Ok(Step {
        line,
        text: text.to_owned(),
        action,
        expected,
        refusal,
        within,
    })
}

fn service(words: &mut Words<'_>) -> Result<Service> {
    let service = Service {
        name: words.next("its name")?.to_owned(),
        queue: optional(words, "queue")?,
        gets: optional(words, "gets")?,
        once: words.yes("once")?,
        driver_queue: optional(words, "driver-queue")?,
        stream: stream(words)?,
        watch: optional(words, "watch")?,
        waits: words.yes("waits")?,
        parent: words.option("of").map(str::to_owned),
    };
    if service.parent.is_some() && service.stream.is_some() {
        bail!("a child has no stream here: its journal is its parent's. Leave out of= or stream=");
    }
    Ok(service)
}

fn stream(words: &mut Words<'_>) -> Result<Option<Stream>> {
    let Some(name) = words.option("stream") else {
        return Ok(None);
    };
    Ok(Some(Stream {
        name: name.to_owned(),
        retention: words.number_of("retention", 30_000)?,
        take_over: words.yes("takes-over")?,
    }))
}

/// A number that is passed on if it is given.
fn optional<N: TryFrom<u64>>(words: &mut Words<'_>, name: &str) -> Result<Option<N>> {
    // No sensible value of these options is so large.
    let given = words.number_of::<u64>(name, u64::MAX)?;
    if given == u64::MAX {
        return Ok(None);
    }
    let fits = N::try_from(given).map_err(|_| anyhow!("{name}={given} is too large"))?;
    Ok(Some(fits))
}

fn by_a_service(name: &str, words: &mut Words<'_>, within: u64) -> Result<Action> {
    let verb = words.next(&format!("what {name} does"))?;
    let order = match verb {
        "finishes" => {
            return Ok(Action::Finish {
                service: name.to_owned(),
                provider: provider(words.option("provider"))?.name.to_owned(),
            });
        }
        "subscribes" => {
            let provider = provider(words.option("provider"))?;
            Order::Subscribe {
                provider: provider.name.to_owned(),
                observe: messages(provider, words.option("observe"))?,
                decide: messages(provider, words.option("decide"))?,
                filter: filter(provider, words.option("filter"))?,
                snapshot: words.yes("snapshot")?,
                muted: words.yes("muted")?,
                within,
            }
        }
        "registers" => Order::Register(orders::Provider {
            name: words.next("the provider")?.to_owned(),
            quota: words.number_of("quota", 0)?,
            rate: words.number_of("rate", 0)?,
            burst: words.number_of("burst", 0)?,
        }),
        "tells" => Order::Tell {
            count: words.required("count")?,
            about: words.option("about").map(|name| format!("@{name}")),
        },
        "misregisters" => Order::RegisterWrong {
            how: words.required("how")?,
        },
        "starts" => Order::Start {
            provider: provider(words.option("provider"))?.name.to_owned(),
            job: job(words)?,
        },
        "uses" => Order::Usage {
            provider: provider(words.option("provider"))?.name.to_owned(),
        },
        "refused" => Order::Refusals,
        "sees" => {
            let (expected, _) = words.expectations();
            if expected.is_empty() {
                bail!("{name} is to see nothing. Write what, as in `{name} sees expect ticks=100`");
            }
            Order::See { expected, within }
        }
        "answers" => Order::Answer(true),
        "mutes" => Order::Answer(false),
        "wakes" => Order::Take(true),
        "sleeps" => Order::Take(false),
        "replies" => Order::ReplyToKept,
        "watches" => Order::Watch {
            keys: match words.peek() {
                Some(_) => words.next("keys")?.split(',').map(str::to_owned).collect(),
                None => Vec::new(),
            },
        },
        "allows" => Order::Deny(false),
        "denies" => Order::Deny(true),
        "echoes" => Order::Echo {
            bytes: words.required("bytes")?,
        },
        "faults" => Order::Fault {
            address: words.required("address")?,
            write: words.yes("write")?,
        },
        "counts" => Order::Statistics,
        "sends" => Order::Send {
            provider: words.option("provider").unwrap_or("loadgen").to_owned(),
            command: words.required("command")?,
            bytes: words.number_of("bytes", 0)?,
        },
        "passes" => Order::Pass(Pass {
            input: place(words.option("input"))?,
            output: place(words.option("output"))?,
            input_length: optional(words, "input-length")?,
            output_length: words.number_of("output-length", 4096)?,
        }),
        "tries" => Order::Try {
            wrong: wrong(words.next("what is wrong")?)?,
            stream: words.option("stream").unwrap_or("nobody").to_owned(),
        },
        "crowds" => Order::Crowd {
            connections: words.required("connections")?,
        },
        "greets" => Order::Greet {
            provider: words.next("a hello driver's provider")?.to_owned(),
            times: words.number_of("times", 1)?,
        },
        "audits" => Order::Audit { within },
        other => bail!(
            "nobody can do \"{other}\". A line begins with start, stop, unload, service, stream, status, registry, kill, leave, repeat or end, or with the name of a service and what it does: subscribes, starts, finishes, sees, answers, mutes, wakes, sleeps, replies, watches, allows, denies, registers, tells, misregisters, uses, refused, echoes, faults, counts, sends, passes, tries, crowds, greets, audits"
        ),
    };
    Ok(Action::Order(name.to_owned(), order))
}

fn job(words: &mut Words<'_>) -> Result<Job> {
    Ok(
        match words.next("the job: flood, dpc, ask, change or pairs")? {
            "flood" => Job::Flood {
                count: words.required("count")?,
                threads: words.number_of("threads", 1)?,
                bytes: words.number_of("bytes", 0)?,
            },
            "dpc" => Job::Dpc {
                count: words.required("count")?,
                by_timer: match words.option("by") {
                    None | Some("timer") => true,
                    Some("queue") => false,
                    Some(other) => bail!("by={other} queues no DPC. Write by=timer or by=queue"),
                },
            },
            "ask" => Job::Ask {
                rounds: words.required("rounds")?,
                threads: words.number_of("threads", 1)?,
                deadline: words.number_of("deadline", 10_000)?,
                pending: words.number_of("pending", 0)?,
            },
            "change" => Job::Change {
                count: words.required("count")?,
                threads: words.number_of("threads", 1)?,
            },
            "pairs" => Job::Pairs {
                count: words.required("count")?,
                threads: words.number_of("threads", 1)?,
            },
            other => {
                bail!("no job is called \"{other}\". There are flood, dpc, ask, change and pairs")
            }
        },
    )
}

/// A provider whose messages scenarios know; the load generator if none is named.
fn provider(name: Option<&str>) -> Result<&'static Provider> {
    static OTHERS: [Provider; 2] = [registry_monitor::PROVIDER, process_monitor::PROVIDER];
    let name = name.unwrap_or(loadgen::messages::PROVIDER.name);
    let all = || loadgen::messages::PROVIDERS.iter().chain(&OTHERS);
    all().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<&str> = all().map(|known| known.name).collect();
        anyhow!(
            "no provider is called \"{name}\". There are {}",
            known.join(", ")
        )
    })
}

/// Message numbers from names.
fn messages(provider: &Provider, names: Option<&str>) -> Result<Vec<u16>> {
    let mut numbers = Vec::new();
    for name in names.into_iter().flat_map(|names| names.split(',')) {
        let found = provider.messages.iter().find(|known| known.name == name);
        let Some(message) = found else {
            let known: Vec<&str> = provider.messages.iter().map(|it| it.name).collect();
            bail!(
                "no message is called \"{name}\". There are {}",
                known.join(", ")
            );
        };
        numbers.push(message.number);
    }
    Ok(numbers)
}

/// A filter, `MESSAGE:PREDICATE` without blanks.
fn filter(provider: &Provider, text: Option<&str>) -> Result<Option<(u16, String)>> {
    let Some(text) = text else { return Ok(None) };
    let parts = text.split_once(':');
    let (name, filter) =
        parts.context("a filter is MESSAGE:PREDICATE, as in filter=tick:number<9")?;
    let message = messages(provider, Some(name))?;
    let message = message.first().context("a filter is for a message")?;
    Ok(Some((*message, filter.to_owned())))
}

fn wrong(name: &str) -> Result<String> {
    if pass::names().any(|known| known == name) {
        return Ok(name.to_owned());
    }
    let known: Vec<&str> = pass::names().collect();
    bail!(
        "nothing is wrong in the way \"{name}\". There are {}",
        known.join(", ")
    )
}

fn place(name: Option<&str>) -> Result<Place> {
    Ok(match name.unwrap_or("good") {
        "good" => Place::Good,
        "null" => Place::Null,
        "nowhere" => Place::Nowhere,
        "kernel" => Place::Kernel,
        "read-only" => Place::ReadOnly,
        other => bail!(
            "no place is called \"{other}\". There are good, null, nowhere, kernel and read-only"
        ),
    })
}
