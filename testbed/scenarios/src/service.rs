// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service as a scenario has it: a process that takes orders from standard input, one JSON line
//! each, and answers each on standard output. The first one is to connect, so that a floor that is
//! not told of processes by itself can be told of this one before.

mod events;
mod in_c;
mod orders;

use crate::arguments::Seat;
use crate::cast::Cast;
use crate::journal::Journal;
use crate::orders::{Answer, Numbers, Order, Refusal};
use crate::watching;
use anyhow::{Context, Result, bail};
use events::Events;
use fltport::{Acknowledge, Client, Options, StreamKey};
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs it until it is told to leave, or nobody is there any more to tell it.
pub(crate) fn run(seat: &Seat) -> Result<()> {
    match read_order()? {
        None => return Ok(()),
        Some(Order::Connect) => {}
        Some(other) => bail!("this service has not been told to connect, but {other:?}"),
    }
    if let Some(seconds) = seat.watch {
        return watching::run(seat, seconds);
    }
    if let Some(program) = &seat.program {
        return in_c::run(seat, program);
    }
    let client = match connect(seat) {
        Ok(client) => Arc::new(client),
        Err(error) => return answer(&Answer::Refused(Refusal::from(error))),
    };
    let journal = journal(&client, seat)?;
    let events = Events::begin(&client, journal).context("a thread cannot be started")?;
    answer(&Answer::Done(Numbers::new()))?;
    let (mut crowd, mut children) = (Vec::new(), Cast::default());
    while let Some(order) = read_order()? {
        let leaves = order == Order::Leave;
        if leaves {
            client.close();
        }
        answer(&match order {
            Order::Crowd { connections } => match gather(seat, &mut crowd, connections) {
                Ok(()) => Answer::Done(Numbers::new()),
                Err(error) => Answer::Refused(Refusal::from(error)),
            },
            Order::Greet { provider, times } => greet(seat, &provider, times),
            Order::Begin(child) => {
                let process = children.begin(&child, seat.socket.as_deref(), None)?;
                Answer::Done(orders::one("process", process.into()))
            }
            Order::ToChild {
                name,
                order,
                within,
            } => children.order(&name, &order, within)?,
            order => orders::obey(&client, &events, seat, order),
        })?;
        if leaves {
            break;
        }
    }
    client.close();
    events.end();
    Ok(())
}

/// Is the hello drivers' service for a while.
fn greet(seat: &Seat, provider: &str, times: u32) -> Answer {
    let client = match Client::connect(options(seat)) {
        Ok(client) => client,
        Err(error) => return Answer::Refused(Refusal::from(error)),
    };
    match hello_service::greet(&client, provider, times) {
        Ok((before, told)) => Answer::Done(Numbers::from([
            ("before".to_owned(), before.into()),
            ("told".to_owned(), told.len() as u64),
        ])),
        Err(error) => Answer::Refused(Refusal::new(format!("{error:#}"))),
    }
}

/// Connects so many times, in place of those who are there.
fn gather(seat: &Seat, crowd: &mut Vec<Client>, count: usize) -> Result<(), fltport::Error> {
    crowd.clear();
    for _ in 0..count {
        crowd.push(Client::connect(options(seat))?);
    }
    Ok(())
}

/// How long the driver may take to hear of the end of the process that had the stream, and to open
/// its port.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects; a stream whose last instance was killed a moment ago may still be that one's, and
/// nothing tells a new one when it is not. Nor does anything tell of a port.
fn connect(seat: &Seat) -> Result<Client, fltport::Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(options(seat)) {
            Err(fltport::Error::StreamInUse(_)) if Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(fltport::Error::NotRunning { .. }) if seat.waits && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            connected => return connected,
        }
    }
}

/// The journal of a service that has a stream.
fn journal(client: &Client, seat: &Seat) -> Result<Option<Journal>> {
    let Some(path) = &seat.journal else {
        return Ok(None);
    };
    let stream = client.stream().context("the stream cannot be looked at")?;
    let stream = stream.context("a service that has no stream")?;
    let journal = Journal::begin(path, stream.acknowledged);
    journal.map(Some).context("the journal cannot be written")
}

/// The key that a stream's name stands for.
pub(crate) fn key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (byte, letter) in key.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    key
}

fn options(seat: &Seat) -> Options {
    let mut options = Options::new(&seat.name)
        .queue(seat.queue)
        .outstanding_gets(seat.gets)
        .backoff(Duration::from_millis(10), Duration::from_millis(200))
        .reconnect(!seat.once);
    if let Some(key) = seat.stream.as_deref().map(key).and_then(StreamKey::new) {
        options = options
            .stream(key, Duration::from_millis(seat.retention))
            .take_over(seat.take_over)
            .acknowledge(Acknowledge::Explicitly);
    }
    if let Some(bytes) = seat.driver_queue {
        // What a scenario says of the queue is to hold of a ring as well.
        options = options.driver_queue(bytes).ring_size(bytes);
    }
    if std::env::var_os("SCENARIOS_WITHOUT_RINGS").is_some() {
        options = options.rings(false);
    }
    #[cfg(unix)]
    if let Some(socket) = &seat.socket {
        return options.socket(socket);
    }
    options
}

/// The next order; none when nobody is there any more.
pub(crate) fn read_order() -> Result<Option<Order>> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.context("standard input cannot be read")? == 0 {
        return Ok(None);
    }
    let order = serde_json::from_str(&line).context("this is not an order")?;
    Ok(Some(order))
}

pub(crate) fn answer(answer: &Answer) -> Result<()> {
    let line = serde_json::to_string(answer).context("an answer cannot be written as JSON")?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").context("nobody takes the answer")?;
    stdout.flush().context("nobody takes the answer")
}
