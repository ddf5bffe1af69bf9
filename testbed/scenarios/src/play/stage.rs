// SPDX-License-Identifier: MIT OR Apache-2.0
//! A scenario that is being played: the floor, the drivers that are loaded, the services.

use crate::cast::Cast;
use crate::floor::{Floor, Outcome};
use crate::language::{Action, Scenario, Service, Step, Work};
use crate::operator;
use crate::orders::{Answer, Numbers, Order};
use crate::registry::Busy;
use crate::status;
use crate::watching;
use anyhow::{Result, anyhow, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// How long the laws may take to come to rest at the end, in milliseconds.
const PATIENCE: u64 = 30_000;

/// What a service must not have seen in any scenario.
const NEVER: [&str; 5] = ["missing", "disordered", "unannounced", "damaged", "unknown"];

/// Why the command cannot be part of a scenario.
const NO_COMMAND: &str = "there is no fltport beside this program; build fltport-cli";

/// Why a scenario is not one for a program that only watches.
const NO_WATCHER: &str = "nobody in it does nothing but watch the load generator";

/// The common driver, without which there is no ledger.
const COMMON_DRIVER: &str = "fltport";

/// Without which the common driver waits.
const FILTER_MANAGER: &str = "fltmgr";

/// What is there, and what has been measured.
pub(super) struct Stage {
    // Services end before the floor does.
    cast: Cast,
    floor: Floor,
    /// In the order of their loading.
    drivers: Vec<String>,
    /// The last job of each provider.
    jobs: BTreeMap<String, u32>,
    /// Threads of a program that set values.
    busy: Option<Busy>,
    /// The process of each service, also of those that have ended.
    processes: BTreeMap<String, u32>,
    measured: BTreeMap<String, Numbers>,
    /// The program that those of these names are who do nothing but watch.
    watcher: Option<(PathBuf, BTreeSet<String>)>,
}

impl Stage {
    pub(super) fn open(scenario: &Scenario) -> Result<Stage> {
        let watcher = std::env::var_os("SCENARIOS_WATCHER").map(PathBuf::from);
        let late = scenario.steps().any(starts_filter_manager);
        Ok(Stage {
            cast: Cast::default(),
            floor: Floor::open(late)?,
            drivers: Vec::new(),
            jobs: BTreeMap::new(),
            busy: None,
            processes: BTreeMap::new(),
            measured: BTreeMap::new(),
            watcher: watcher.map(|program| (program, scenario.watchers())),
        })
    }

    /// Why this scenario shows nothing of a program that only watches, if there is one to be shown.
    pub(super) fn lacks_watchers(&self) -> Option<&'static str> {
        let (_, names) = self.watcher.as_ref()?;
        names.is_empty().then_some(NO_WATCHER)
    }

    /// Why this floor is another one than a scenario with this step begins on, if so.
    pub(super) fn lacks_from_the_beginning(step: &Step) -> Option<&'static str> {
        let why = Floor::late_filter_manager_lacks();
        why.filter(|_| starts_filter_manager(step))
    }

    /// Does a step and compares what comes of it; the reason if it cannot be done on this floor.
    pub(super) fn act(&mut self, step: &Step) -> Result<Option<String>> {
        let answer = match &step.action {
            Action::Start(_) if starts_filter_manager(step) => {
                self.floor.start_filter_manager();
                Answer::Done(Numbers::new())
            }
            Action::Start(driver) => self.start(driver)?,
            Action::Stop(driver) => {
                let outcome = self.floor.stop(driver)?;
                self.gone(driver, outcome)
            }
            Action::Unload(driver) => {
                let outcome = self.floor.unload(driver)?;
                self.gone(driver, outcome)
            }
            Action::Service(service)
                if service.watch.is_some() && watching::command().is_none() =>
            {
                return Ok(Some(NO_COMMAND.to_owned()));
            }
            Action::Service(Service {
                parent: Some(_), ..
            }) if let Some(why) = Floor::children_lack() => return Ok(Some(why.to_owned())),
            Action::Service(service) => self.connect(service)?,
            Action::Registry(_) if let Some(why) = Floor::registry_lacks() => {
                return Ok(Some(why.to_owned()));
            }
            Action::Registry(work) => self.registry(work)?,
            Action::Kill(name) => {
                self.cast.kill(name)?;
                self.ended(name);
                Answer::Done(Numbers::new())
            }
            Action::Finish { service, provider } => {
                let job = self.jobs.get(provider).copied().ok_or_else(|| {
                    anyhow!("no job was started. Write `{service} starts flood count=100` before")
                })?;
                let within = step.within;
                let finish = Order::Finish {
                    provider: provider.clone(),
                    job,
                    within,
                };
                self.order(service, &finish, within)?
            }
            Action::Status if watching::command().is_none() => {
                return Ok(Some(NO_COMMAND.to_owned()));
            }
            Action::Status => Answer::Done(operator::status(self.floor.socket())?),
            Action::Stream(name) => Answer::Done(self.stream(name)?),
            Action::Order(name, Order::Leave) => {
                self.look_at(name)?;
                let left = self.order(name, &Order::Leave, step.within)?;
                self.ended(name);
                left
            }
            Action::Order(_, order) if let Some(why) = Floor::lacks(order) => {
                return Ok(Some(why.to_owned()));
            }
            Action::Order(name, order) => {
                let order = self.with_processes(order)?;
                self.order(name, &order, step.within)?
            }
        };
        compare(step, answer).map(|()| None)
    }

    /// Has a program work on the registry. What is done several times ends with the first refusal.
    fn registry(&mut self, work: &Work) -> Result<Answer> {
        let program = self.floor.program()?;
        match work {
            Work::Change { change, count } => {
                for _ in 0..*count {
                    if let Outcome::Refused(refusal) = program.change(change)? {
                        return Ok(Answer::Refused(refusal));
                    }
                }
            }
            Work::Begin { key, threads } => self.busy = Some(Busy::begin(&program, key, *threads)?),
            Work::End => {
                let busy = self.busy.take();
                let busy = busy.ok_or_else(|| {
                    anyhow!("nothing has begun. Write `registry begins KEY` before")
                })?;
                return Ok(Answer::Done(busy.end()?));
            }
        }
        Ok(Answer::Done(Numbers::new()))
    }

    fn start(&mut self, driver: &str) -> Result<Answer> {
        let outcome = self.floor.start(driver)?;
        if let Outcome::Done = outcome {
            self.drivers.push(driver.to_owned());
        }
        Ok(Answer::from(outcome))
    }

    fn gone(&mut self, driver: &str, outcome: Outcome) -> Answer {
        if let Outcome::Done = outcome {
            self.drivers.retain(|loaded| loaded != driver);
        }
        Answer::from(outcome)
    }

    /// Starts a service's process and has it connect; what it says of that.
    fn connect(&mut self, service: &Service) -> Result<Answer> {
        let watcher = self.watcher.as_ref();
        let watcher = watcher.filter(|(_, names)| names.contains(&service.name));
        let program = watcher.map(|(program, _)| program.as_path());
        let process = self.cast.begin(service, self.floor.socket(), program)?;
        let parent = match &service.parent {
            Some(parent) => self.process_of(parent)?,
            None => std::process::id(),
        };
        self.floor.process_began(process, parent);
        self.processes.insert(service.name.clone(), process);
        let answer = self.cast.order(&service.name, &Order::Connect, 0)?;
        if let Answer::Refused(_) = &answer {
            self.ended(&service.name);
        }
        Ok(answer)
    }

    /// A service's process is gone.
    fn ended(&self, name: &str) {
        if let Some(process) = self.processes.get(name) {
            self.floor.process_ended(*process);
        }
    }

    fn process_of(&self, name: &str) -> Result<u32> {
        let process = self.processes.get(name).copied();
        process.ok_or_else(|| {
            anyhow!("there is no service {name}. Write `service {name}` before this line")
        })
    }

    /// An order in which the services that it names are the numbers of their processes.
    fn with_processes(&self, order: &Order) -> Result<Order> {
        let mut order = order.clone();
        match &mut order {
            Order::Tell {
                about: Some(text), ..
            }
            | Order::Subscribe {
                filter: Some((_, text)),
                ..
            } => *text = self.numbered(text)?,
            _ => {}
        }
        Ok(order)
    }

    /// `@NAME` becomes the number of that service's process.
    fn numbered(&self, text: &str) -> Result<String> {
        let mut parts = text.split('@');
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '-');
            let (name, rest) = part.split_at(end.unwrap_or(part.len()));
            whole.push_str(&self.process_of(name)?.to_string());
            whole.push_str(rest);
        }
        Ok(whole)
    }

    fn order(&mut self, name: &str, order: &Order, within: u64) -> Result<Answer> {
        let answer = self.cast.order(name, order, within)?;
        if let Answer::Done(numbers) = &answer {
            match order {
                Order::Start { provider, .. } => {
                    if let Some(job) = numbers.get("job").and_then(|n| (*n).try_into().ok()) {
                        self.jobs.insert(provider.clone(), job);
                    }
                }
                Order::See { .. } | Order::Finish { .. } | Order::Audit { .. } => {
                    self.measure(name, order, numbers);
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    /// What all instances of a stream have dealt with; it must be one stream.
    fn stream(&mut self, name: &str) -> Result<Numbers> {
        let numbers = self.cast.stream(name)?;
        for never in ["holes", "twice"] {
            if let Some(count) = numbers.get(never).filter(|count| **count != 0) {
                bail!("the stream {name} has {count} {never}: {}", list(&numbers));
            }
        }
        self.measured.insert(name.to_owned(), numbers.clone());
        Ok(numbers)
    }

    /// Keeps numbers for the report: the last of a service and of the ledger, and the sums of jobs.
    fn measure(&mut self, name: &str, order: &Order, numbers: &Numbers) {
        match order {
            Order::See { .. } => self.measured.insert(name.to_owned(), numbers.clone()),
            Order::Audit { .. } => self.measured.insert("ledger".to_owned(), numbers.clone()),
            _ => {
                let jobs = self.measured.entry("jobs".to_owned()).or_default();
                for (name, number) in numbers {
                    let sum = jobs.entry(name.clone()).or_default();
                    match name.starts_with("longest") {
                        true => *sum = (*sum).max(*number),
                        false => *sum += number,
                    }
                }
                None
            }
        };
    }

    /// What a service has seen, and whether any of it must not be.
    fn look_at(&mut self, name: &str) -> Result<()> {
        let look = Order::See {
            expected: Vec::new(),
            within: 0,
        };
        let Answer::Done(numbers) = self.order(name, &look, 0)? else {
            bail!("{name} does not say what it has seen");
        };
        for never in NEVER {
            if let Some(count) = numbers.get(never).filter(|count| **count != 0) {
                bail!("{name} has seen {count} {never}: the stream is not as it is declared");
            }
        }
        Ok(())
    }

    /// Checks the laws, unloads everything and ends the floor; what has been measured.
    pub(super) fn close(mut self) -> Result<BTreeMap<String, Numbers>> {
        drop(self.busy.take());
        let laws = self.check();
        let ended = self.end();
        drop(self.cast);
        let closed = self.floor.close();
        if let Some((_, names)) = &self.watcher {
            let count = Numbers::from([("services".to_owned(), names.len() as u64)]);
            self.measured.insert("in C".to_owned(), count);
        }
        laws.and(ended).and(closed).map(|()| self.measured)
    }

    fn check(&mut self) -> Result<()> {
        for name in self.cast.names() {
            self.look_at(&name)?;
            self.cast.order(&name, &Order::Leave, PATIENCE)?;
            self.ended(&name);
        }
        if self.drivers.iter().any(|driver| driver == COMMON_DRIVER) {
            self.audit()?;
        }
        Ok(())
    }

    /// Law 1, once everybody has gone.
    fn audit(&mut self) -> Result<()> {
        let auditor = Service {
            name: "auditor".to_owned(),
            queue: None,
            gets: None,
            once: true,
            watch: None,
            stream: None,
            driver_queue: None,
            waits: false,
            parent: None,
        };
        if let Answer::Refused(refusal) = self.connect(&auditor)? {
            bail!("the auditor cannot connect: {}", status::describe(&refusal));
        }
        let audit = Order::Audit { within: PATIENCE };
        let answer = self.order(&auditor.name, &audit, PATIENCE)?;
        let Answer::Done(sums) = answer else {
            bail!("the ledger cannot be read: {answer:?}");
        };
        for law in ["unbalanced", "in-flight"] {
            if sums.get(law) != Some(&0) {
                bail!("the ledger does not balance at rest: {sums:?}");
            }
        }
        self.cast.order(&auditor.name, &Order::Leave, PATIENCE)?;
        self.ended(&auditor.name);
        Ok(())
    }

    /// Stops the drivers, the last one first.
    fn end(&mut self) -> Result<()> {
        while let Some(driver) = self.drivers.pop() {
            if let Outcome::Refused(refusal) = self.floor.stop(&driver)? {
                bail!("{driver} cannot be stopped: {}", status::describe(&refusal));
            }
        }
        Ok(())
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Done => Answer::Done(Numbers::new()),
            Outcome::Refused(refusal) => Answer::Refused(refusal),
        }
    }
}

/// Whether the Filter Manager is not there before this step.
fn starts_filter_manager(step: &Step) -> bool {
    matches!(&step.action, Action::Start(driver) if driver == FILTER_MANAGER)
}

/// Compares what came of a step with what must.
fn compare(step: &Step, answer: Answer) -> Result<()> {
    let numbers = match (answer, &step.refusal) {
        (Answer::Refused(refusal), Some(word)) if status::is(&refusal, word) => return Ok(()),
        (Answer::Refused(refusal), Some(word)) => {
            bail!(
                "refused with {} instead of {word}",
                status::describe(&refusal)
            )
        }
        (Answer::Refused(refusal), None) => bail!("refused: {}", status::describe(&refusal)),
        (Answer::Done(_), Some(word)) => bail!("not refused, though it must be: {word}"),
        (Answer::Done(numbers), None) => numbers,
    };
    let broken: Vec<String> = step
        .expected
        .iter()
        .filter(|expected| !expected.holds(&numbers))
        .map(ToString::to_string)
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    bail!(
        "it is not so that {}. What there is: {}",
        broken.join(" and "),
        list(&numbers)
    )
}

/// Numbers in a line, but for zeros.
pub(super) fn list(numbers: &Numbers) -> String {
    let words: Vec<String> = numbers
        .iter()
        .filter(|(_, number)| **number != 0)
        .map(|(name, number)| format!("{name} {number}"))
        .collect();
    words.join(", ")
}
