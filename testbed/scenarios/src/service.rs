// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service as a scenario has it: a process that takes orders from standard input, one JSON line
//! each, and answers each on standard output. Its first line says whether it could connect.

mod events;
mod orders;

use crate::arguments::Seat;
use crate::orders::{Answer, Numbers, Order, Refusal};
use crate::watching;
use anyhow::{Context, Result};
use events::Events;
use fltport::{Client, Options};
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

/// Runs it until it is told to leave, or nobody is there any more to tell it.
pub(crate) fn run(seat: &Seat) -> Result<()> {
    if let Some(seconds) = seat.watch {
        return watching::run(seat, seconds);
    }
    let client = match Client::connect(options(seat)) {
        Ok(client) => Arc::new(client),
        Err(error) => return answer(&Answer::Refused(Refusal::from(error))),
    };
    let events = Events::begin(&client).context("a thread cannot be started")?;
    answer(&Answer::Done(Numbers::new()))?;
    while let Some(order) = read_order()? {
        let leaves = order == Order::Leave;
        if leaves {
            client.close();
        }
        answer(&orders::obey(&client, &events, seat, order))?;
        if leaves {
            break;
        }
    }
    client.close();
    events.end();
    Ok(())
}

fn options(seat: &Seat) -> Options {
    let options = Options::new(&seat.name)
        .queue(seat.queue)
        .outstanding_gets(seat.gets)
        .backoff(Duration::from_millis(10), Duration::from_millis(200))
        .reconnect(!seat.once);
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
