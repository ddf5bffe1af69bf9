// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services of a scenario, from the side of who orders them: processes of this program.

use crate::journal::Journals;
use crate::language::{Service, Stream};
use crate::orders::{Answer, Numbers, Order};
use crate::talk::{self, Talk};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// What a service may take beyond the time of its order, to answer that it is over.
const GRACE: Duration = Duration::from_secs(20);

/// The services that are there, and what was written by those that had a stream.
#[derive(Default)]
pub(crate) struct Cast {
    members: BTreeMap<String, Member>,
    /// Services that are children of a member's process, and whose.
    children: BTreeMap<String, String>,
    journals: Journals,
}

struct Member {
    /// The stream that it will have when it is connected, and where it writes.
    journal: Option<(String, PathBuf)>,
    process: Child,
    /// Another program is the service, and this process its voice.
    is_program: bool,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Cast {
    /// Starts a service's process, which may be that of the program that does nothing but watch; its number. It connects
    /// when it is ordered to.
    pub(crate) fn begin(
        &mut self,
        service: &Service,
        socket: Option<&Path>,
        watcher: Option<&Path>,
    ) -> Result<u32> {
        let name = &service.name;
        if self.members.contains_key(name) || self.children.contains_key(name) {
            bail!("there is a service {name} already. Call this one otherwise, or end that one");
        }
        if let Some(parent) = &service.parent {
            return self.begin_child(parent, service);
        }
        let program = std::env::current_exe().context("this program cannot be found")?;
        let mut command = Command::new(program);
        command.args(["service", "--name", name]);
        if let Some(socket) = socket {
            command.arg("--socket").arg(socket);
        }
        if let Some(program) = watcher {
            command.arg("--program").arg(program);
        }
        for (option, value) in [
            ("--queue", service.queue.map(|n| n.to_string())),
            ("--gets", service.gets.map(|n| n.to_string())),
            ("--watch", service.watch.map(|n| n.to_string())),
            (
                "--driver-queue",
                service.driver_queue.map(|n| n.to_string()),
            ),
        ] {
            value.map(|value| command.args([option, &value]));
        }
        for (option, wanted) in [("--once", service.once), ("--waits", service.waits)] {
            if wanted {
                command.arg(option);
            }
        }
        let journal = self.prepare(service.stream.as_ref(), &mut command)?;
        let mut member = Member::start(command)?;
        let stream = service.stream.as_ref().map(|stream| stream.name.clone());
        member.journal = stream.zip(journal);
        member.is_program = watcher.is_some();
        let process = member.process.id();
        self.members.insert(name.clone(), member);
        Ok(process)
    }

    /// Has another service start it: its process is that one's child.
    fn begin_child(&mut self, parent: &str, service: &Service) -> Result<u32> {
        let child = Service {
            parent: None,
            ..service.clone()
        };
        let answer = self.order(parent, &Order::Begin(child), 0)?;
        let Answer::Done(numbers) = answer else {
            bail!("{parent} cannot start {}: {answer:?}", service.name);
        };
        let process = numbers.get("process").copied();
        let process = process.and_then(|process| u32::try_from(process).ok());
        let process = process.with_context(|| format!("{parent} has started nobody"))?;
        let (name, parent) = (service.name.clone(), parent.to_owned());
        self.children.insert(name, parent);
        Ok(process)
    }

    /// What a service with a stream has to know; where it writes.
    fn prepare(&self, stream: Option<&Stream>, command: &mut Command) -> Result<Option<PathBuf>> {
        let Some(stream) = stream else {
            return Ok(None);
        };
        let journal = self.journals.next(&stream.name)?;
        command.args(["--stream", &stream.name]);
        command.args(["--retention", &stream.retention.to_string()]);
        command.arg("--journal").arg(&journal);
        if stream.take_over {
            command.arg("--take-over");
        }
        Ok(Some(journal))
    }

    /// What all instances of a stream have dealt with, one after the other.
    pub(crate) fn stream(&self, name: &str) -> Result<Numbers> {
        self.journals.sums(name)
    }

    /// Has a service do something.
    pub(crate) fn order(&mut self, name: &str, order: &Order, within: u64) -> Result<Answer> {
        if let Some(parent) = self.children.get(name).cloned() {
            return self.order_child(&parent, name, order, within);
        }
        let member = self.members.get_mut(name).ok_or_else(|| nobody(name))?;
        let line = serde_json::to_string(order).context("an order cannot be written as JSON")?;
        writeln!(member.orders, "{line}").with_context(|| format!("{name} takes no orders"))?;
        member.orders.flush()?;
        let answer = member.answer(name, Duration::from_millis(within) + GRACE)?;
        match (order, &answer) {
            (Order::Leave, _) => {
                if let Some(member) = self.members.remove(name) {
                    member.wait()?;
                }
            }
            (Order::Connect, Answer::Refused(_)) => drop(self.members.remove(name)),
            (Order::Connect, Answer::Done(_)) => {
                if let Some((stream, journal)) = member.journal.take() {
                    self.journals.add(&stream, journal);
                }
            }
            _ => {}
        }
        Ok(answer)
    }

    fn order_child(
        &mut self,
        parent: &str,
        name: &str,
        order: &Order,
        within: u64,
    ) -> Result<Answer> {
        let passed_on = Order::ToChild {
            name: name.to_owned(),
            order: Box::new(order.clone()),
            within,
        };
        // Who passes it on waits for its child as long as this would wait for it.
        let patience = within.saturating_add(GRACE.as_millis() as u64);
        let answer = self.order(parent, &passed_on, patience)?;
        let refused = matches!(answer, Answer::Refused(_));
        if *order == Order::Leave || (*order == Order::Connect && refused) {
            self.children.remove(name);
        }
        Ok(answer)
    }

    /// Kills a service's process, and waits until it is gone. Its children end by themselves.
    pub(crate) fn kill(&mut self, name: &str) -> Result<()> {
        self.children.retain(|_, parent| parent != name);
        if self
            .members
            .get(name)
            .is_some_and(|member| member.is_program)
        {
            self.order(name, &Order::KillProgram, 0)?;
        }
        let mut member = self.members.remove(name).ok_or_else(|| nobody(name))?;
        member.process.kill().context("it cannot be killed")?;
        member.process.wait().context("its end is unknown")?;
        Ok(())
    }

    /// Who is there, children before those whose children they are.
    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.children.keys().chain(self.members.keys());
        all.cloned().collect()
    }
}

fn nobody(name: &str) -> anyhow::Error {
    anyhow!("there is no service {name}. Write `service {name}` before this line")
}

impl Member {
    fn start(command: Command) -> Result<Member> {
        let Talk {
            process,
            orders,
            answers,
        } = talk::start(command).context("no service")?;
        Ok(Member {
            journal: None,
            process,
            is_program: false,
            orders,
            answers,
        })
    }

    fn answer(&mut self, name: &str, patience: Duration) -> Result<Answer> {
        match self.answers.recv_timeout(patience) {
            Ok(line) => serde_json::from_str(&line)
                .with_context(|| format!("{name} says what is no answer: {line}")),
            Err(RecvTimeoutError::Timeout) => bail!("{name} has not answered within {patience:?}"),
            Err(RecvTimeoutError::Disconnected) => match self.process.wait() {
                Ok(status) => bail!("{name} has ended with {status} instead of answering"),
                Err(error) => bail!("{name} has ended instead of answering: {error}"),
            },
        }
    }

    /// Waits for its end, which it has been told to come to.
    fn wait(mut self) -> Result<()> {
        match self.answers.recv_timeout(GRACE) {
            Err(RecvTimeoutError::Disconnected) => {}
            Ok(line) => bail!("a service that leaves says {line}"),
            Err(RecvTimeoutError::Timeout) => bail!("a service that leaves does not end"),
        }
        let status = self.process.wait().context("its end is unknown")?;
        if !status.success() {
            bail!("a service has ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It fails if the process has ended, which is what is wanted.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}
