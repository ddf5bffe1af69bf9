// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service that is a program in C, `examples/ring-watcher`: it watches, and is ordered to by simple lines. What else
//! a scenario has it do, this process does over a connection of its own.

use super::events::Events;
use super::orders::{self, Outcome};
use super::{answer, options, read_order};
use crate::arguments::Seat;
use crate::orders::{Answer, Code, Expected, Numbers, Order, Refusal, Relation};
use crate::status;
use crate::talk::{self, Talk};
use anyhow::{Context, Result, bail};
use fltport::Client;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long this process's own connection may take to be there again.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the program may take beyond the time of its order: longer than it waits for a port, and shorter than whoever
/// ordered waits for this process, so that it is known who does not answer.
const GRACE: Duration = Duration::from_secs(15);

/// The program. It ends with this.
struct Watcher {
    process: Child,
    orders: ChildStdin,
    /// Its lines; none any more when it has closed its output.
    answers: Receiver<String>,
    grace: Duration,
}

/// This process's own connection.
struct Control {
    client: Arc<Client>,
    events: Events,
}

/// Runs it as [`super::run`] runs a service.
pub(super) fn run(seat: &Seat, program: &Path) -> Result<()> {
    let mut watcher = Watcher::start(seat, program)?;
    let connected = watcher.answer(0)?;
    if let Err(refusal) = connected {
        watcher.wait()?;
        return answer(&Answer::Refused(refusal));
    }
    let control = Control::connect(seat)?;
    answer(&Answer::Done(Numbers::new()))?;
    while let Some(order) = read_order()? {
        let leaves = order == Order::Leave;
        let outcome = watcher.obey(&control, seat, order)?;
        if leaves {
            watcher.wait()?;
            control.end();
            return answer(&outcome);
        }
        answer(&outcome)?;
    }
    // The program has no orders any more either, and ends.
    Ok(())
}

impl Control {
    fn connect(seat: &Seat) -> Result<Control> {
        let own = Seat {
            name: format!("{}-control", seat.name),
            ..seat.clone()
        };
        let client = Arc::new(Client::connect(options(&own).rings(false))?);
        let events = Events::begin(&client, None).context("a thread cannot be started")?;
        Ok(Control { client, events })
    }

    /// Waits until it is connected, if the watcher is again.
    fn catch_up(&self, reconnected: u64) {
        let expected = Expected {
            name: "reconnected".to_owned(),
            relation: Relation::AtLeast,
            number: reconnected,
        };
        self.events.see(&[expected], Instant::now() + PATIENCE);
    }

    fn end(self) {
        self.client.close();
        self.events.end();
    }
}

impl Watcher {
    fn start(seat: &Seat, program: &Path) -> Result<Watcher> {
        let mut command = Command::new(program);
        command.args(["--orders", "--name", &seat.name]);
        if let Some(socket) = &seat.socket {
            command.arg("--socket").arg(socket);
        }
        if let Some(bytes) = seat.driver_queue {
            let bytes = bytes.to_string();
            command.args(["--queue", &bytes, "--ring", &bytes]);
        }
        if std::env::var_os("SCENARIOS_WITHOUT_RINGS").is_some() {
            command.arg("--without-rings");
        }
        for (option, wanted) in [("--once", seat.once), ("--waits", seat.waits)] {
            if wanted {
                command.arg(option);
            }
        }
        Watcher::spawn(command).with_context(|| format!("with {}", program.display()))
    }

    fn spawn(command: Command) -> Result<Watcher> {
        let Talk {
            process,
            orders,
            answers,
        } = talk::start(command)?;
        Ok(Watcher {
            process,
            orders,
            answers,
            grace: GRACE,
        })
    }

    fn obey(&mut self, control: &Control, seat: &Seat, order: Order) -> Result<Answer> {
        let mut time = 0;
        let line = match order {
            Order::Subscribe {
                provider,
                observe,
                snapshot,
                within,
                ..
            } => {
                let bits = observe
                    .iter()
                    .fold(0_u64, |bits, number| bits | 1 << number);
                let flags = u32::from(snapshot);
                time = within;
                format!("subscribe {provider} {bits:x} {flags:x} {within}")
            }
            Order::See { expected, within } => {
                let words: String = expected.iter().filter_map(at_least).collect();
                time = within;
                format!("see {within}{words}")
            }
            Order::Take(true) => "wake".to_owned(),
            Order::Take(false) => "sleep".to_owned(),
            Order::Leave => "leave".to_owned(),
            Order::KillProgram => {
                self.process.kill().context("it cannot be killed")?;
                self.process.wait().context("its end is unknown")?;
                return Ok(Answer::Done(Numbers::new()));
            }
            order => return self.obey_over(control, seat, order),
        };
        Ok(into_answer(self.order(&line, time)?))
    }

    /// What is another connection's to do.
    fn obey_over(&mut self, control: &Control, seat: &Seat, order: Order) -> Result<Answer> {
        let counts = self.counts()?;
        let known = |name: &str| counts.get(name).copied().unwrap_or(0);
        control.catch_up(known("reconnected"));
        if let Order::Usage { provider } = order {
            let own = u32::try_from(known("connection"))?;
            return Ok(into_answer(orders::usage_of(
                &control.client,
                own,
                &provider,
            )));
        }
        Ok(orders::obey(&control.client, &control.events, seat, order))
    }

    fn counts(&mut self) -> Result<Numbers> {
        match self.order("see 0", 0)? {
            Ok(numbers) => Ok(numbers),
            Err(refusal) => bail!("the watcher does not say what it has seen: {refusal:?}"),
        }
    }

    /// Has it obey, for which it may take so many milliseconds.
    fn order(&mut self, line: &str, within: u64) -> Result<Outcome> {
        writeln!(self.orders, "{line}").context("the watcher takes no orders")?;
        self.answer(within)
    }

    fn answer(&mut self, within: u64) -> Result<Outcome> {
        let patience = Duration::from_millis(within) + self.grace;
        let line = match self.answers.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the watcher has not answered within {patience:?}")
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.process.wait().context("its end is unknown")?;
                bail!("the watcher has ended with {status} instead of answering")
            }
        };
        parse(line.trim_end())
            .with_context(|| format!("the watcher says what is no answer: {line}"))
    }

    /// Waits for its end, to which it comes by itself.
    fn wait(&mut self) -> Result<()> {
        match self.answers.recv_timeout(self.grace) {
            Err(RecvTimeoutError::Disconnected) => {}
            Ok(line) => bail!("a watcher that leaves says {line}"),
            Err(RecvTimeoutError::Timeout) => bail!("a watcher that leaves does not end"),
        }
        let status = self.process.wait().context("its end is unknown")?;
        // 1: it could not connect, and has said why.
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("the watcher has ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It fails if the process has ended, which is what is wanted.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn into_answer(outcome: Outcome) -> Answer {
    match outcome {
        Ok(numbers) => Answer::Done(numbers),
        Err(refusal) => Answer::Refused(refusal),
    }
}

/// What waiting can bring about.
fn at_least(expected: &Expected) -> Option<String> {
    let Expected { name, number, .. } = expected;
    (expected.relation != Relation::AtMost).then(|| format!(" {name}={number}"))
}

/// `done NAME=NUMBER...`, `refused no-provider`, `refused status 0x...` or `refused hresult 0x...`.
fn parse(line: &str) -> Option<Outcome> {
    let mut words = line.split(' ');
    match words.next()? {
        "done" => {
            let pair = |word: &str| {
                let (name, number) = word.split_once('=')?;
                Some((name.to_owned(), number.parse().ok()?))
            };
            let numbers: Option<Numbers> = words.map(pair).collect();
            let mut numbers = numbers?;
            // Who decides nothing is asked nothing.
            for name in ["requests", "answered", "kept"] {
                numbers.insert(name.to_owned(), 0);
            }
            Some(Ok(numbers))
        }
        "refused" => {
            let kind = words.next()?;
            if kind == status::NO_PROVIDER {
                return Some(Err(Refusal::new(kind)));
            }
            let code = words.next()?.strip_prefix("0x")?;
            let code = u32::from_str_radix(code, 16).ok()? as i32;
            let code = match kind {
                "status" => Code::Status(code),
                "hresult" => Code::Hresult(code),
                _ => return None,
            };
            Some(Err(Refusal {
                text: line.to_owned(),
                code: Some(code),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_watcher_that_says_nothing_is_waited_for_as_long_as_its_order_may_take() {
        let mut deaf = Command::new("sh");
        deaf.args(["-c", "while read order; do :; done"]);
        let mut watcher = Watcher::spawn(deaf).unwrap();
        watcher.grace = Duration::ZERO;
        for told in [watcher.order("see 1", 1), watcher.answer(0)] {
            let told = told.unwrap_err().to_string();
            assert!(told.contains("has not answered within"), "{told}");
        }
        let told = watcher.wait().unwrap_err().to_string();
        assert!(told.contains("does not end"), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn a_watcher_that_has_ended_is_told_of_with_its_status() {
        let mut short = Command::new("sh");
        short.args(["-c", "exit 3"]);
        let mut watcher = Watcher::spawn(short).unwrap();
        let told = watcher.answer(0).unwrap_err().to_string();
        assert!(told.contains("exit status: 3"), "{told}");
    }

    #[test]
    fn answers_are_read() {
        let done = parse("done connection=3 ticks=100").unwrap().unwrap();
        assert_eq!(
            (done["ticks"], done["connection"], done["kept"]),
            (100, 3, 0)
        );
        let refused = parse("refused status 0xc0000034").unwrap().unwrap_err();
        assert!(status::is(&refused, "not-running"), "{refused:?}");
        let nobody = parse("refused no-provider").unwrap().unwrap_err();
        assert!(status::is(&nobody, "no-provider"), "{nobody:?}");
        for odd in [
            "",
            "done ticks",
            "refused status",
            "refused odd 0x1",
            "hello",
        ] {
            assert!(parse(odd).is_none(), "{odd}");
        }
    }
}
