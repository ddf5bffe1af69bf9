// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport watch`.

use crate::arguments::Watch;
use crate::decider::Decider;
use crate::exclusions;
use crate::failure::{Failure, complain};
use crate::ledger::{self, Names};
use crate::narrator::Narrator;
use crate::output::Output;
use crate::selection::{self, Selection};
use crate::service::Service;
use crate::stop::Stop;
use crate::table;
use fltport::{
    Acknowledge, Client, Event, LedgerRow, ProviderInfo, Role, Schema, StreamKey, Subscription,
    common_driver, rights,
};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long the end waits for records that are on their way.
const LAST_RECORDS: Duration = Duration::from_secs(3);

/// How long a stream is kept if nothing is said.
const RETENTION: Duration = Duration::from_secs(30);

/// The namespace of the streams' names.
const STREAMS: Uuid = Uuid::from_u128(0x6f0c_2d4e_9a5b_4c1f_8f37_1b6e_d2a0_54c9);

/// Events to print before the output is flushed, at most.
const BATCH: usize = 1024;

/// What the main thread waits for.
pub(crate) enum Input {
    Event(Event),
    /// Ctrl-C, or a request to end.
    Stop,
    /// No more events will come.
    Over,
}

/// Why the stream was left.
enum End {
    Asked,
    HostGone(fltport::Error),
    /// Another command has the stream now.
    TakenOver,
}

/// Runs it.
pub(crate) fn run(socket: Option<&Path>, arguments: &Watch) -> Result<ExitCode, Failure> {
    let (sender, inputs) = sync_channel(4096);
    let stop = Stop::on_signal({
        let sender = sender.clone();
        move || {
            // If the channel is full, whoever takes from it looks whether the end is asked for.
            let _full = sender.try_send(Input::Stop);
        }
    })?;
    let service = Service::find(socket, arguments.verifier)?;
    if !arguments.deny.is_empty() {
        service.require_denial()?;
    }
    let watched = Stream::open(&service, arguments, sender).and_then(|stream| {
        let mut show = Show::new(arguments.json, stop, &stream);
        // The time is that of watching, not of starting a host.
        let deadline = arguments
            .duration
            .and_then(|d| Instant::now().checked_add(d));
        let end = show.run(&stream, &inputs, deadline);
        // Nobody may wait for a place in the channel when the threads are joined.
        drop(inputs);
        stream.close(&mut show, end)
    });
    let ended = service.end();
    watched?;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// The key of the stream of this name.
fn stream_key(name: &str) -> Result<StreamKey, Failure> {
    let key = Uuid::new_v5(&STREAMS, name.as_bytes());
    // A version number is in it, so it is not all zero.
    StreamKey::new(key.into_bytes()).ok_or_else(|| {
        Failure::new(format!(
            "no stream can have the name {name}. Choose another"
        ))
    })
}

/// The connection, the thread that takes its events, and the decider.
struct Stream {
    client: Arc<Client>,
    reader: JoinHandle<()>,
    /// The last record that was dealt with, if this is a stream that is kept.
    goes_on: Option<u64>,
    /// Gives its role up when the stream is closed.
    _decider: Option<Decider>,
}

impl Stream {
    fn open(
        service: &Service,
        arguments: &Watch,
        sender: SyncSender<Input>,
    ) -> Result<Stream, Failure> {
        // Before the first subscription, and over a connection of its own: who only watches needs no
        // right to command, and a stream has no more rights once than another time.
        if !arguments.exclude.is_empty() {
            exclusions::set(service, &arguments.exclude)?;
        }
        let client = Arc::new(connect(service, arguments)?);
        let decider = if arguments.deny.is_empty() {
            None
        } else {
            Some(Decider::start(service, &arguments.deny, &sender)?)
        };
        let selections = Arc::new(arguments.selections.clone());
        let snapshot = arguments.snapshot;
        let providers = client.providers()?;
        let schemas = schemas(&client, &providers)?;
        // Before the first subscription: that takes what was kept, and a slip must not lose it.
        check(&schemas, &selections)?;
        observe_all(&client, &schemas, snapshot, &selections)?;
        let reader = std::thread::Builder::new()
            .name("events".into())
            .spawn({
                let client = client.clone();
                move || read(&client, snapshot, &selections, &sender)
            })
            .map_err(|e| {
                Failure::new(format!(
                    "no thread can be started: {e}. Raise the limit on threads"
                ))
            })?;
        let goes_on = client.stream()?.map(|stream| stream.acknowledged);
        if let Some(number @ 1..) = goes_on {
            complain(&format!("the stream goes on behind number {number}"));
        }
        Ok(Stream {
            client,
            goes_on,
            reader,
            _decider: decider,
        })
    }

    /// The account of this connection, then the end of it.
    fn close(self, show: &mut Show, end: Result<End, Failure>) -> Result<(), Failure> {
        let ending = match end {
            Ok(End::Asked) => self.account(show),
            Ok(End::HostGone(reason)) => Err(reason.into()),
            Ok(End::TakenOver) => Err(fltport::Error::TakenOver(fltport::Code::None).into()),
            Err(failure) => Err(failure),
        };
        self.client.close();
        // One that panicked has told its reason to standard error.
        let _panicked = self.reader.join();
        ending
    }

    fn account(&self, show: &mut Show) -> Result<(), Failure> {
        let own = self.client.info()?.number;
        let rows = self.client.ledger()?;
        let of_this = |row: &LedgerRow| row.connection == own;
        let rows: Vec<LedgerRow> = rows.into_iter().filter(of_this).collect();
        let names = Names::ask(&self.client)?;
        let lines = ledger::table(&rows, &names);
        let missing = self.client.statistics().missing;
        if missing > 0 {
            complain(&format!(
                "{missing} sequence numbers are missing without explanation. This is a fault; please report it"
            ));
        }
        show.summary(&lines)
    }
}

/// Connects, and says in the first line what there is to say of this place, and how records will come.
fn connect(service: &Service, arguments: &Watch) -> Result<Client, Failure> {
    let connected = match &arguments.stream {
        None => service.connect_with("fltport watch", |options| {
            options.rights(rights::OBSERVE).reconnect(false)
        }),
        Some(name) => {
            let key = stream_key(name)?;
            service.connect_with("fltport watch", |options| {
                let retention = arguments.retention.unwrap_or(RETENTION);
                options
                    .rights(rights::OBSERVE)
                    .stream(key, retention)
                    .take_over(arguments.take_over)
                    .acknowledge(Acknowledge::Explicitly)
            })
        }
    };
    let transport = connected.as_ref().ok().and_then(|it| it.transport().ok());
    let by = transport.map(|transport| format!("records come by {transport}"));
    service.tell_what_is_so(by.as_slice());
    connected
}

/// What is said of a provider that cannot be observed. The others can be.
fn leave_out(provider: &str, error: &fltport::Error) {
    complain(&format!("{provider} is left out: {error}"));
}

/// What these providers can tell.
fn schemas(client: &Client, providers: &[ProviderInfo]) -> Result<Vec<Arc<Schema>>, Failure> {
    let mut schemas = Vec::with_capacity(providers.len());
    for provider in providers {
        match client.schema(&provider.name) {
            Ok(schema) => schemas.push(schema),
            Err(error @ (fltport::Error::AccessDenied(_) | fltport::Error::Schema(_))) => {
                leave_out(&provider.name, &error);
            }
            // Gone since the list was made.
            Err(fltport::Error::NoProvider(_) | fltport::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(schemas)
}

/// Whether each selection is about something that one of these providers tells, and right.
fn check(schemas: &[Arc<Schema>], selections: &[Selection]) -> Result<(), Failure> {
    for selection in selections {
        if !schemas.iter().any(|s| selection.message_of(s).is_some()) {
            return Err(Failure::new(selection.unmet(schemas)));
        }
    }
    for schema in schemas {
        let checked = wanted(schema, selections).check(schema);
        checked.map_err(|problem| Failure::new(selection::wrong(selections, &problem)))?;
    }
    Ok(())
}

/// All that a provider tells and the selections let pass.
fn wanted(schema: &Schema, selections: &[Selection]) -> Subscription {
    let all = schema.numbers(Role::Notification) | schema.numbers(Role::Request);
    let mut subscription = Subscription::to(&schema.provider).observe(all);
    for selection in selections {
        if let Some(number) = selection.message_of(schema) {
            subscription = subscription.filter(number, selection.filter());
        }
    }
    subscription
}

/// Subscribes to all that may be observed; fails if that is nothing.
fn observe_all(
    client: &Client,
    schemas: &[Arc<Schema>],
    snapshot: bool,
    selections: &[Selection],
) -> Result<(), Failure> {
    let mut observed = false;
    let mut refusal = None;
    for schema in schemas {
        match observe(client, &schema.provider, snapshot, selections) {
            Ok(()) => observed = true,
            Err(error @ fltport::Error::AccessDenied(_)) => {
                leave_out(&schema.provider, &error);
                refusal = Some(error);
            }
            Err(fltport::Error::NoProvider(_) | fltport::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match refusal.filter(|_| !observed) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Subscribes to it.
fn observe(
    client: &Client,
    provider: &str,
    snapshot: bool,
    selections: &[Selection],
) -> Result<(), fltport::Error> {
    let subscription = wanted(&*client.schema(provider)?, selections);
    if snapshot {
        match client.subscribe_with(subscription.clone().snapshot()) {
            // Those that have none are observed all the same.
            Err(fltport::Error::NoSnapshot(_)) => {}
            subscribed => return subscribed,
        }
    }
    client.subscribe_with(subscription)
}

/// The name of the provider that an event says has registered.
fn registered(event: &Event) -> Option<String> {
    match event {
        Event::CommonDriver(record) => {
            let change = record.decode::<common_driver::ProviderChange<'_>>().ok()?;
            change.registered.then(|| change.name.to_string())
        }
        _ => None,
    }
}

fn read(client: &Client, snapshot: bool, selections: &[Selection], sender: &SyncSender<Input>) {
    while !client.is_over() {
        let Some(event) = client.next(Duration::from_secs(3600)) else {
            continue;
        };
        if let Some(provider) = registered(&event)
            && let Err(error) = observe(client, &provider, snapshot, selections)
        {
            leave_out(&provider, &error);
        }
        if sender.send(Input::Event(event)).is_err() {
            return;
        }
    }
    // If the channel is gone, the command is ending.
    let _ending = sender.send(Input::Over);
}

/// Prints.
struct Show {
    output: Output,
    narrator: Narrator,
    json: bool,
    stop: Stop,
    /// What is printed is acknowledged.
    has_stream: bool,
    /// The last sequence number that was printed.
    last: u64,
    acknowledged: u64,
}

impl Show {
    fn new(json: bool, stop: Stop, stream: &Stream) -> Show {
        Show {
            output: Output::new(),
            narrator: Narrator::new(),
            json,
            stop,
            has_stream: stream.goes_on.is_some(),
            last: stream.goes_on.unwrap_or(0),
            acknowledged: stream.goes_on.unwrap_or(0),
        }
    }

    /// Prints events until the end.
    fn run(
        &mut self,
        stream: &Stream,
        inputs: &Receiver<Input>,
        deadline: Option<Instant>,
    ) -> Result<End, Failure> {
        if !self.json {
            let header = table::header(self.output.width(), self.output.colour());
            self.output.line(&header)?;
            self.output.flush()?;
        }
        loop {
            let mut end = self.take(wait(inputs, deadline))?;
            for _ in 0..BATCH {
                match inputs.try_recv() {
                    Ok(input) if end.is_none() => end = self.take(Some(input))?,
                    _ => break,
                }
            }
            self.output.flush()?;
            self.acknowledge(stream);
            let over = deadline.is_some_and(|d| Instant::now() >= d);
            if over || self.stop.is_asked() {
                end = end.or(Some(End::Asked));
            }
            if let Some(end) = end {
                if matches!(end, End::Asked) {
                    self.last_records(stream, inputs)?;
                }
                return Ok(end);
            }
        }
    }

    /// Deals with one input; `None` is the deadline.
    fn take(&mut self, input: Option<Input>) -> io::Result<Option<End>> {
        match input {
            Some(Input::Event(Event::Disconnected { reason })) if self.has_stream => {
                complain(&format!("{reason}. The stream is kept; connecting again"));
                Ok(None)
            }
            Some(Input::Event(Event::Disconnected { reason })) => Ok(Some(End::HostGone(reason))),
            Some(Input::Event(Event::TakenOver)) => Ok(Some(End::TakenOver)),
            Some(Input::Event(event)) => self.print(&event).map(|()| None),
            Some(Input::Over) => {
                let reason = fltport::Error::Disconnected(fltport::Code::None);
                Ok(Some(End::HostGone(reason)))
            }
            Some(Input::Stop) | None => Ok(Some(End::Asked)),
        }
    }

    /// Prints what the driver had numbered by now and is still on its way.
    fn last_records(&mut self, stream: &Stream, inputs: &Receiver<Input>) -> Result<(), Failure> {
        let next = stream.client.info()?.next_sequence;
        let until = Some(Instant::now() + LAST_RECORDS);
        while self.last + 1 < next {
            match wait(inputs, until) {
                Some(Input::Event(event)) => self.print(&event)?,
                Some(Input::Stop) => {}
                Some(Input::Over) | None => break,
            }
        }
        self.output.flush()?;
        self.acknowledge(stream);
        Ok(())
    }

    /// What was printed need not come again.
    fn acknowledge(&mut self, stream: &Stream) {
        // What fails is due again: with the next, or on the next connection.
        if self.has_stream
            && self.last > self.acknowledged
            && stream.client.acknowledge(self.last).is_ok()
        {
            self.acknowledged = self.last;
        }
    }

    fn print(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Resumed { .. } => complain("the stream goes on"),
            Event::NoStream => complain(
                "the driver is too old for streams: what comes while this command does not run is lost. Update the driver",
            ),
            Event::Reconnected { .. } => {
                complain("a new stream begins: the former one was not kept");
                (self.last, self.acknowledged) = (0, 0);
            }
            _ => self.last = event.last_sequence().unwrap_or(self.last),
        }
        if self.json {
            return match self.narrator.json(event) {
                Some(line) => self.output.line(&line),
                None => Ok(()),
            };
        }
        let (width, colour) = (self.output.width(), self.output.colour());
        for row in self.narrator.rows(event) {
            self.output.line(&table::line(&row, width, colour))?;
        }
        Ok(())
    }

    /// The ledger: below the table, or beside the JSON.
    fn summary(&mut self, lines: &[String]) -> Result<(), Failure> {
        if self.json {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return Ok(());
        }
        self.output.line("")?;
        for line in lines {
            self.output.line(line)?;
        }
        Ok(self.output.flush()?)
    }
}

/// The next input; `None` at the deadline.
fn wait(inputs: &Receiver<Input>, deadline: Option<Instant>) -> Option<Input> {
    let Some(deadline) = deadline else {
        return Some(inputs.recv().unwrap_or(Input::Over));
    };
    let left = deadline.saturating_duration_since(Instant::now());
    match inputs.recv_timeout(left) {
        Ok(input) => Some(input),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Input::Over),
    }
}
