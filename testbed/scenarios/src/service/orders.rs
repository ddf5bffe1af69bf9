// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service does when it is ordered to.

use super::events::Events;
use crate::arguments::Seat;
use crate::orders::{Answer, Code, Job, Numbers, Order, Provider, Refusal};
use crate::{pass, registry, status, tally};
use fltport::{Client, Error, MessageSet, Refusal as Reason, Subscription};
use fltport_abi::message::Pid;
use fltport_abi::registry_monitor::{self, SetWatched, WatchedSet};
use fltport_abi::status as nt;
use fltport_abi::text::TextList;
use loadgen::messages::{
    Ask, AskStarted, Await, Change, ChangeStarted, Defer, DeferStarted, Echo, Echoed, Fault,
    Faulted, Flood, FloodStarted, GetStatistics, JobReport, LoadStatistics, MAX_AWAIT_MS, PROVIDER,
    PROVIDERS, Pairs, PairsStarted, Register, RegisterWrong, Tell, Told,
};
use std::time::{Duration, Instant};

pub(super) type Outcome = Result<Numbers, Refusal>;

/// Does it.
pub(super) fn obey(client: &Client, events: &Events, seat: &Seat, order: Order) -> Answer {
    let outcome = match order {
        Order::Pass(buffers) => return pass::pass(seat, &buffers),
        Order::Try { wrong, stream } => return attempt(client, seat, &wrong, &stream),
        Order::Subscribe {
            provider,
            observe,
            decide,
            filter,
            snapshot,
            muted,
            within,
        } => {
            let mut wanted = Subscription::to(provider)
                .observe(observe.into_iter().collect::<MessageSet>())
                .decide(decide.into_iter().collect::<MessageSet>());
            if let Some((message, filter)) = filter {
                wanted = wanted.filter(message, filter);
            }
            if snapshot {
                wanted = wanted.snapshot();
            }
            if muted {
                wanted = wanted.mute_self();
            }
            subscribe(client, events, &wanted, after(within))
        }
        Order::Tell { count, about } => tell(client, count, about.as_deref()),
        Order::RegisterWrong { how } => register_wrong(client, how),
        Order::Register(provider) => register(client, &provider),
        Order::Usage { provider } => usage(client, &provider),
        Order::Refusals => refusals(client),
        Order::Watch { keys } => watch(client, &keys),
        Order::Deny(denies) => {
            events.deny(denies);
            Ok(Numbers::new())
        }
        Order::Start { provider, job } => {
            start(client, &provider, job).map(|job| one("job", job.into()))
        }
        Order::Finish {
            provider,
            job,
            within,
        } => finish(client, &provider, job, after(within)),
        Order::Echo { bytes } => echo(client, bytes),
        Order::Fault { address, write } => fault(client, address, write),
        Order::Statistics => statistics(client),
        Order::Send {
            provider,
            command,
            bytes,
        } => send(client, &provider, command, bytes),
        Order::See { expected, within } => Ok(events.see(&expected, after(within))),
        Order::Answer(answers) => {
            events.answer(answers);
            Ok(Numbers::new())
        }
        Order::Take(takes) => {
            events.take(takes);
            Ok(Numbers::new())
        }
        Order::ReplyToKept => reply_to_kept(events),
        Order::Audit { within } => audit(client, after(within)),
        // Done by whoever has the connections, and the children.
        Order::Connect
        | Order::Begin(_)
        | Order::ToChild { .. }
        | Order::Crowd { .. }
        | Order::Greet { .. }
        | Order::KillProgram
        | Order::Leave => Ok(Numbers::new()),
    };
    match outcome {
        Ok(numbers) => Answer::Done(numbers),
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn after(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

pub(super) fn one(name: &str, number: u64) -> Numbers {
    Numbers::from([(name.to_owned(), number)])
}

/// Subscribes to what is to be observed and decided as soon as the provider is there: it may still be
/// on its way to the common driver.
fn subscribe(
    client: &Client,
    events: &Events,
    wanted: &Subscription,
    deadline: Instant,
) -> Outcome {
    loop {
        let known = events.providers();
        events.begin_anew();
        match client.subscribe_with(wanted.clone()) {
            Ok(()) => return Ok(Numbers::new()),
            Err(Error::NoProvider(_) | Error::Disconnected(_))
                if events.wait_for_provider(known, deadline) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn watch(client: &Client, keys: &[String]) -> Outcome {
    let paths: Vec<String> = keys.iter().map(|key| registry::full_path(key)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let wanted = SetWatched {
        keys: TextList::Strings(&paths),
    };
    let set = client.command(registry_monitor::PROVIDER.name, &wanted)?;
    Ok(one("watched", set.decode::<WatchedSet>()?.count.into()))
}

fn register(client: &Client, provider: &Provider) -> Outcome {
    let place = PROVIDERS.iter().position(|it| it.name == provider.name);
    let place = place.and_then(|place| u32::try_from(place).ok());
    let wanted = Register {
        place: place.unwrap_or(u32::MAX),
        quota: provider.quota,
        rate: provider.rate,
        burst: provider.burst,
    };
    client.command(PROVIDER.name, &wanted)?;
    Ok(Numbers::new())
}

/// Sends what is wrong; filters are for the load generator as it is registered now.
fn attempt(client: &Client, seat: &Seat, wrong: &str, stream: &str) -> Answer {
    match number_of(client, PROVIDER.name) {
        Ok(provider) => pass::attempt(seat, wrong, provider, stream),
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn tell(client: &Client, count: u32, about: Option<&str>) -> Outcome {
    let about = about.map_or(Ok(0), str::parse);
    let about = about.map_err(|_| Refusal::new("this is not the number of a process"))?;
    let wanted = Tell {
        count,
        about: Pid(about),
    };
    let told = client.command(PROVIDER.name, &wanted)?;
    Ok(one("told", told.decode::<Told>()?.count.into()))
}

fn register_wrong(client: &Client, how: u32) -> Outcome {
    let wanted = RegisterWrong { how, reserved: 0 };
    client.command(PROVIDER.name, &wanted)?;
    Ok(Numbers::new())
}

/// The number of a provider that is registered.
fn number_of(client: &Client, provider: &str) -> Result<u32, Refusal> {
    let known = client.providers()?;
    let found = known.iter().find(|known| known.name == provider);
    let found = found.ok_or_else(|| Refusal::new(status::NO_PROVIDER))?;
    Ok(found.number.into())
}

fn usage(client: &Client, provider: &str) -> Outcome {
    usage_of(client, client.info()?.number, provider)
}

/// What a provider takes of this connection.
pub(super) fn usage_of(client: &Client, own: u32, provider: &str) -> Outcome {
    let number = number_of(client, provider)?;
    let rows = client.usage()?;
    let row = rows
        .iter()
        .find(|row| row.connection == own && row.provider == number);
    let row = row.ok_or_else(|| Refusal::new("the provider has nothing of this connection"))?;
    let numbers = [
        ("bytes", row.bytes.into()),
        ("bytes-peak", row.bytes_peak.into()),
        ("booked", row.booked.into()),
        ("blamed", row.blamed),
        ("filtered", row.filtered),
        ("muted", row.muted),
        ("unjudged", row.unjudged),
    ];
    Ok(numbers.map(|(name, n)| (name.to_owned(), n)).into())
}

fn refusals(client: &Client) -> Outcome {
    let mut numbers: Numbers = Reason::ALL
        .iter()
        .map(|reason| (reason_name(reason.name()), 0))
        .collect();
    for row in client.refusals()? {
        let reason = u16::try_from(row.reason).ok().and_then(Reason::from_wire);
        numbers.insert(
            reason_name(reason.map_or("unknown", Reason::name)),
            row.count,
        );
    }
    Ok(numbers)
}

fn reason_name(name: &str) -> String {
    name.replace(' ', "-")
}

fn start(client: &Client, provider: &str, job: Job) -> Result<u32, Refusal> {
    Ok(match job {
        Job::Flood {
            count,
            threads,
            bytes,
        } => {
            let flood = Flood {
                count,
                threads,
                bytes,
            };
            let started = client.command(provider, &flood)?;
            started.decode::<FloodStarted>()?.job
        }
        Job::Dpc { count, by_timer } => {
            let defer = Defer {
                count,
                by_timer,
                reserved: 0,
            };
            let started = client.command(provider, &defer)?;
            started.decode::<DeferStarted>()?.job
        }
        Job::Ask {
            rounds,
            threads,
            deadline,
            pending,
        } => {
            let ask = Ask {
                rounds,
                threads,
                deadline_ms: deadline,
                pending,
            };
            let started = client.command(provider, &ask)?;
            started.decode::<AskStarted>()?.job
        }
        Job::Change { count, threads } => {
            let change = Change {
                count,
                threads,
                reserved: 0,
            };
            let started = client.command(provider, &change)?;
            started.decode::<ChangeStarted>()?.job
        }
        Job::Pairs { count, threads } => {
            let pairs = Pairs {
                count,
                threads,
                reserved: 0,
            };
            let started = client.command(provider, &pairs)?;
            started.decode::<PairsStarted>()?.job
        }
    })
}

/// Whether a refusal says that the job goes on.
fn goes_on(error: &Error) -> bool {
    let busy = Refusal::from(error.clone()).code;
    // ERROR_SEM_TIMEOUT is what fltlib.dll makes of STATUS_IO_TIMEOUT.
    let known = [
        Code::Status(nt::IO_TIMEOUT),
        Code::Hresult(0x8007_0079_u32 as i32),
    ];
    busy.is_some_and(|code| known.contains(&code))
}

fn finish(client: &Client, provider: &str, job: u32, deadline: Instant) -> Outcome {
    let wanted = Await {
        job,
        timeout_ms: MAX_AWAIT_MS,
    };
    loop {
        match client.command(provider, &wanted) {
            Ok(result) => return Ok(account(&result.decode::<JobReport>()?)),
            Err(error) if goes_on(&error) && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn account(report: &JobReport) -> Numbers {
    let numbers = [
        ("done", report.done),
        ("refused", report.refused),
        ("answered", report.answered),
        ("missed", report.missed),
        ("defaulted", report.defaulted),
        ("disconnected", report.disconnected),
        ("failed", report.failed),
        ("wrong", report.wrong),
        ("unbooked", report.unbooked),
        ("longest-ms", report.longest_us / 1000),
        ("elapsed-ms", report.elapsed_us / 1000),
    ];
    let named = numbers.map(|(name, number)| (name.to_owned(), number));
    Numbers::from(named)
}

fn echo(client: &Client, bytes: usize) -> Outcome {
    let data: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    let result = client.command(PROVIDER.name, &Echo { data: &data })?;
    let Echoed { data: back } = result.decode()?;
    if back != data {
        return Err(Refusal::new("what came back is not what was sent"));
    }
    Ok(one("bytes", back.len() as u64))
}

fn fault(client: &Client, address: u64, write: bool) -> Outcome {
    let fault = Fault {
        address,
        write,
        reserved: 0,
    };
    let result = client.command(PROVIDER.name, &fault)?;
    match result.decode::<Faulted>()?.status.0 {
        nt::SUCCESS => Ok(Numbers::new()),
        code => Err(Refusal {
            text: format!("NTSTATUS {code:#010x} in the driver"),
            code: Some(Code::Status(code)),
        }),
    }
}

fn statistics(client: &Client) -> Outcome {
    let result = client.command(PROVIDER.name, &GetStatistics {})?;
    let LoadStatistics {
        early,
        jobs,
        commands,
    } = result.decode()?;
    let numbers = [("early", early), ("jobs", jobs), ("commands", commands)];
    Ok(numbers.map(|(name, n)| (name.to_owned(), n)).into())
}

fn send(client: &Client, provider: &str, command: u16, bytes: usize) -> Outcome {
    // Bytes that are a message of no provider.
    let payload = vec![0xA5; bytes];
    let result = client.command_bytes(provider, command, &payload)?;
    Ok(one("bytes", result.bytes().len() as u64))
}

fn reply_to_kept(events: &Events) -> Outcome {
    let kept = events.take_kept();
    let count = kept.len() as u64;
    for request in kept.into_iter().rev() {
        events.reply(request)?;
    }
    Ok(one("replies", count))
}

/// The ledger's sums when nothing is in flight any more, or the time is over.
fn audit(client: &Client, deadline: Instant) -> Outcome {
    loop {
        let sums = tally::sums(&client.ledger()?);
        let at_rest = sums.get("in-flight").is_none_or(|n| *n == 0);
        let broken = sums.get("unbalanced").is_some_and(|n| *n != 0);
        if at_rest || broken || Instant::now() >= deadline {
            return Ok(sums);
        }
        // The driver tells of no rest: it is asked again as soon as others have had their turn.
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fltport_abi::Message;

    #[test]
    fn every_number_of_a_report_has_a_name() {
        let report = JobReport {
            done: 1,
            refused: 2,
            answered: 3,
            missed: 4,
            defaulted: 5,
            disconnected: 6,
            failed: 7,
            wrong: 8,
            unbooked: 9,
            longest_us: 10_000,
            elapsed_us: 11_000,
        };
        let numbers: Vec<u64> = account(&report).into_values().collect();
        assert_eq!(numbers.len(), JobReport::FIELDS.len());
        assert_eq!(numbers.iter().sum::<u64>(), 66);
    }
}
