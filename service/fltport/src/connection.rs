// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection: the port, its gets, its commands.

use crate::answers::Answers;
use crate::edge::{Got, Port, View};
use crate::error::Error;
use crate::failure::{Failure, Fault};
use crate::intake::Intake;
use crate::lock::lock;
use crate::options::Options;
use crate::queue::EventQueue;
use crate::rings::Rings;
use crate::schema::Schema;
use crate::statistics::Counters;
use crate::supervisor::Shared;
use crate::transport::{NoRings, Transport};
use fltport_abi::command::CommandHeader;
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::hello::Hello;
use fltport_abi::limits::{MAX_COMMAND, MAX_SCHEMA};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The largest buffer that a get grows to: what the hosted kernel takes, and more than the largest
/// frame.
pub(crate) const MAX_BUFFER: usize = fltport_abi::hosted::MAX_GET;

/// How often in a row, for each get, a get is too small: one message may fail all that wait.
const MAX_GROWTH: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    port: Port,
    place: String,
    patience: Duration,
    generation: u32,
    /// The driver's number for it; 0 until it is known. No frame comes before that.
    number: AtomicU32,
    /// The number of the first record that is news to the client.
    first: AtomicU64,
    /// It has a stream: the driver knows what that is.
    pub(crate) has_stream: bool,
    schemas: Mutex<HashMap<u16, Arc<Schema>>>,
    /// How often these have changed.
    schema_epoch: AtomicU64,
    /// How records come; known when gets begin to wait.
    transport: OnceLock<(Transport, Option<Rings>)>,
    gets: Mutex<Gets>,
    /// Where answers to what comes over it go.
    answers: Mutex<Arc<Answers>>,
}

/// The gets, by slot.
#[derive(Debug)]
struct Gets {
    /// Frames may come: this connection's number is known.
    open: bool,
    capacity: usize,
    /// How many were too small since the last message, and how many may be.
    growth: u32,
    max_growth: u32,
    /// Bit n: slot n is at the port.
    waiting: u64,
    /// Slots that are held back because the program does not take its events.
    held_back: Vec<u32>,
}

impl Connection {
    /// Connects. No get waits yet. `former` is the connection that the client had its stream with.
    pub(crate) fn open(
        options: &Options,
        generation: u32,
        former: u32,
    ) -> Result<Arc<Connection>, Error> {
        let hello = Hello::new(&options.name, options.rights, generation);
        let place = options.place();
        let connected = connect(options, &hello, former);
        let (port, has_stream) = connected.map_err(|f| Error::new(f, &place, options.patience))?;
        let connection = Arc::new(Connection {
            port,
            place,
            patience: options.patience,
            generation,
            number: AtomicU32::new(0),
            first: AtomicU64::new(1),
            has_stream,
            schemas: Mutex::default(),
            schema_epoch: AtomicU64::new(0),
            transport: OnceLock::new(),
            gets: Mutex::new(Gets {
                open: false,
                capacity: options.buffer,
                growth: 0,
                max_growth: MAX_GROWTH * options.outstanding_gets,
                waiting: 0,
                held_back: (0..options.outstanding_gets).collect(),
            }),
            answers: Mutex::default(),
        });
        connection.set_schema(common_driver::NUMBER, Arc::new(own_schema()?));
        Ok(connection)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    pub(crate) fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Release);
    }

    pub(crate) fn first(&self) -> u64 {
        self.first.load(Ordering::Acquire)
    }

    pub(crate) fn set_first(&self, first: u64) {
        self.first.store(first, Ordering::Release);
    }

    pub(crate) fn answers(&self) -> Arc<Answers> {
        lock(&self.answers).clone()
    }

    pub(crate) fn set_answers(&self, answers: Arc<Answers>) {
        *lock(&self.answers) = answers;
    }

    pub(crate) fn schema_of(&self, provider: u16) -> Option<Arc<Schema>> {
        lock(&self.schemas).get(&provider).cloned()
    }

    pub(crate) fn set_schema(&self, provider: u16, schema: Arc<Schema>) {
        lock(&self.schemas).insert(provider, schema);
        self.schema_epoch.fetch_add(1, Ordering::Release);
    }

    /// What changes whenever a schema does.
    pub(crate) fn schema_epoch(&self) -> u64 {
        self.schema_epoch.load(Ordering::Acquire)
    }

    pub(crate) fn set_transport(&self, transport: Transport, rings: Option<Rings>) {
        // It is set once, by who makes the connection.
        let _first = self.transport.set((transport, rings));
    }

    pub(crate) fn transport(&self) -> Transport {
        let known = self.transport.get().map(|(transport, _)| *transport);
        known.unwrap_or(Transport::Port(NoRings::NotWanted))
    }

    pub(crate) fn rings(&self) -> Option<&Rings> {
        self.transport.get()?.1.as_ref()
    }

    pub(crate) fn maps_views(&self) -> bool {
        self.port.maps_views()
    }

    pub(crate) fn take_view(&self, address: u64, length: usize) -> Option<View> {
        self.port.take_view(address, length)
    }

    /// The number of the subscribed provider with this name.
    pub(crate) fn provider_number(&self, name: &str) -> Option<u16> {
        let schemas = lock(&self.schemas);
        let found = schemas.iter().find(|(_, s)| s.provider == name);
        found.map(|(number, _)| *number)
    }

    /// Takes what the gets bring until the connection ends; returns why it did.
    pub(crate) fn pump(self: &Arc<Self>, shared: &Shared) -> Error {
        let _ends = EndRings(self);
        let Shared {
            queue,
            counters,
            progress,
            ..
        } = shared;
        let mut intake = Intake::new(self, counters);
        let failure = loop {
            if let Err(failure) = self.refill(queue) {
                break failure;
            }
            match self.port.wait(intake.patience()) {
                Ok(Some(got)) => {
                    if let Err(failure) = self.take(got, &mut intake, counters) {
                        break failure;
                    }
                }
                Ok(None) => intake.judge(lock(&self.gets).waiting),
                Err(failure) => break failure,
            }
            let events = intake.events();
            counters.overdue.add(queue.forget_overdue());
            for (event, _) in &events {
                shared.notice(event);
            }
            progress.received(events.iter().map(|(event, _)| event));
            queue.push(events);
        };
        self.port.settle();
        self.port.shutdown();
        intake.judge(0);
        let events = intake.events();
        progress.received(events.iter().map(|(event, _)| event));
        queue.push(events);
        self.error(failure)
    }

    fn take(&self, got: Got, intake: &mut Intake<'_>, counters: &Counters) -> Result<(), Failure> {
        let mut gets = lock(&self.gets);
        gets.waiting &= !(1_u64 << (got.slot % 64));
        gets.held_back.push(got.slot);
        match got.outcome {
            Ok(message) => {
                gets.growth = 0;
                let waiting = gets.waiting;
                drop(gets);
                intake.take(got.slot, message, waiting);
                Ok(())
            }
            Err(Failure {
                fault: Fault::TooSmall(needed),
                ..
            }) if needed <= MAX_BUFFER && gets.growth < gets.max_growth => {
                counters.grown.add(1);
                gets.growth += 1;
                gets.capacity = gets.capacity.max(needed);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// The stream begins: from now on gets wait at the port. Not before the number is known and
    /// everything of the former connection is in the queue.
    pub(crate) fn begin(&self, queue: &EventQueue) {
        lock(&self.gets).open = true;
        if let Some(rings) = self.rings() {
            rings.open();
        }
        // If this fails the connection has ended, and the pump says so.
        let _ended = self.refill(queue);
    }

    /// Has gets wait at the port, unless the program is behind with taking events.
    pub(crate) fn refill(&self, queue: &EventQueue) -> Result<(), Failure> {
        let mut gets = lock(&self.gets);
        let unread = self.rings().map_or(0, Rings::unread);
        while gets.open && !gets.held_back.is_empty() && !queue.holds_gets(unread) {
            let Some(slot) = gets.held_back.pop() else {
                break;
            };
            gets.waiting |= 1 << (slot % 64);
            self.port.post(slot, gets.capacity)?;
        }
        Ok(())
    }

    /// Sends a command; the result has at most `capacity` bytes.
    pub(crate) fn command(
        &self,
        provider: u32,
        command: u16,
        payload: &[u8],
        capacity: usize,
    ) -> Result<Vec<u8>, Error> {
        let bytes = command_bytes(provider, command, payload);
        if bytes.len() > MAX_COMMAND {
            return Err(Error::Encode(fltport_abi::EncodeError::TooLarge));
        }
        let sent = self.port.send(&bytes, capacity.min(MAX_COMMAND));
        sent.map_err(|f| self.error(f))
    }

    /// Sends a small command during which the driver may map views.
    pub(crate) fn command_with_views(
        &self,
        provider: u32,
        command: u16,
        payload: &[u8],
        capacity: usize,
    ) -> Result<Vec<u8>, Failure> {
        let bytes = command_bytes(provider, command, payload);
        self.port.send_with_views(&bytes, capacity)
    }

    pub(crate) fn reply(&self, bytes: &[u8]) -> Result<(), Error> {
        self.port.reply(bytes).map_err(|f| self.error(f))
    }

    /// Ends it, from any thread.
    pub(crate) fn shutdown(&self) {
        self.port.shutdown();
    }

    pub(crate) fn error(&self, failure: Failure) -> Error {
        Error::new(failure, &self.place, self.patience)
    }
}

/// Tells who reads the rings that the connection has ended, when the pump ends in whatever way.
struct EndRings<'c>(&'c Connection);

impl Drop for EndRings<'_> {
    fn drop(&mut self) {
        if let Some(rings) = self.0.rings() {
            rings.end();
        }
    }
}

fn command_bytes(provider: u32, command: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; CommandHeader::SIZE];
    // It fits: the vector was made for it.
    let _fits = CommandHeader::new(provider, command, payload.len()).write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// The port, and whether it has the stream that is wanted. A driver of before there were streams takes
/// only a hello that is alone; every other refusal is one.
fn connect(options: &Options, hello: &Hello, former: u32) -> Result<(Port, bool), Failure> {
    if let Some(stream) = &options.stream {
        match Port::connect(options, &stream.hello(hello, former)) {
            Ok(port) => return Ok((port, true)),
            Err(failure) if failure.fault == Fault::Malformed => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok((Port::connect(options, &hello.to_bytes())?, false))
}

/// The common driver's own messages, which come without a subscription.
fn own_schema() -> Result<Schema, Error> {
    let mut bytes = vec![0; MAX_SCHEMA];
    let length = common_driver::PROVIDER.encode(&mut bytes)?;
    bytes.truncate(length);
    Ok(Schema::decode(&bytes)?)
}
