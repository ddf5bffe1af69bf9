// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps a client connected: a thread that waits for the connection to end, connects again, and
//! makes the subscriptions again.
//!
//! Threads: the *pump* of the connection reads the port, another one the rings if there are any
//! ([`crate::rings`]); the *supervisor* owns them and the
//! connections one after the other. Lock order: [`Shared::subscribing`], [`Shared::control`],
//! anything of a connection or the queue.

use crate::answers::Answers;
use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::error::Error;
use crate::event::Event;
use crate::failure::Code;
use crate::lock::lock;
use crate::options::Options;
use crate::queue::EventQueue;
use crate::statistics::Counters;
use crate::stream::{Progress, StreamInfo};
use crate::subscriptions::Wanted;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the client, its pump and its supervisor share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) queue: EventQueue,
    pub(crate) counters: Counters,
    pub(crate) control: Mutex<Control>,
    pub(crate) changed: Condvar,
    /// Held while a subscription is made.
    pub(crate) subscribing: Mutex<()>,
    pub(crate) progress: Progress,
    /// A thread of the program reads the rings.
    pub(crate) serving: AtomicBool,
    /// How long who reads the rings looks on before it sleeps.
    pub(crate) spin: Duration,
}

/// What is wanted, and what is.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) closing: bool,
    pub(crate) current: Option<Arc<Connection>>,
    /// It is connected, but not the current one yet.
    pub(crate) opening: Option<Arc<Connection>>,
    /// The last connection that had the stream.
    former: u32,
    /// Of its stream, or of the connection without one.
    answers: Arc<Answers>,
    pub(crate) subscriptions: BTreeMap<String, Wanted>,
    /// Why the current pump ended.
    ended: Option<Error>,
    /// A provider that is wanted has registered: subscribe now.
    pub(crate) registered: bool,
}

/// A connection and the thread that reads it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Arc<Connection>,
    /// What goes on with it, if anything does.
    pub(crate) resumed: Option<StreamInfo>,
    pump: JoinHandle<()>,
    /// Reads the rings, if there are any.
    reader: Option<JoinHandle<()>>,
}

impl Shared {
    /// Whether a thread of the program reads the rings.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// The present connection is to end, for this reason, if it has not ended for another one.
    pub(crate) fn note_end(&self, reason: Error) {
        lock(&self.control).ended.get_or_insert(reason);
        self.changed.notify_all();
    }
}

/// Connects once and starts the pump.
pub(crate) fn establish(shared: &Arc<Shared>, generation: u32) -> Result<Session, Error> {
    let former = lock(&shared.control).former;
    let connection = Connection::open(&shared.options, generation, former)?;
    let pump = {
        let (shared, connection) = (shared.clone(), connection.clone());
        std::thread::Builder::new()
            .name("fltport-pump".into())
            .spawn(move || {
                let _end = End(&shared);
                shared.note_end(connection.pump(&shared));
            })
            .map_err(|e| Error::thread(&e))?
    };
    let mut session = Session {
        connection,
        resumed: None,
        pump,
        reader: None,
    };
    let asked = match open(shared, &session.connection) {
        true => session
            .connection
            .info()
            .and_then(|row| Ok((row, session.connection.stream()?)))
            .and_then(|both| {
                let limits = &shared.options.limits;
                session.connection.limit_if_possible(limits).map(|()| both)
            }),
        false => Err(Error::Closed),
    };
    match asked {
        Ok((row, stream)) => {
            let connection = &session.connection;
            connection.set_number(row.connection);
            connection.set_first(shared.progress.begin(stream.as_ref()));
            session.resumed = stream.filter(|stream| stream.former.is_some());
            if stream.is_some() {
                lock(&shared.control).former = row.connection;
            }
            if session.resumed.is_some() {
                connection.read_all_schemas();
            }
            match read_rings(shared, connection) {
                Ok(reader) => session.reader = reader,
                Err(error) => return Err(give_up(shared, session, error)),
            }
            take_answers(shared, &session);
            Ok(session)
        }
        Err(error) => Err(give_up(shared, session, error)),
    }
}

/// Ends a session that could not be made for this reason; the reason to tell.
fn give_up(shared: &Shared, session: Session, error: Error) -> Error {
    lock(&shared.control).opening = None;
    let told = end(shared, session);
    // When the pump has seen why the connection ended, that says more than that it did.
    match (error, told) {
        (Error::Disconnected(_), Some(told)) => told,
        (error, _) => error,
    }
}

/// Asks for rings, and starts the thread that reads them if there are any.
fn read_rings(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
) -> Result<Option<JoinHandle<()>>, Error> {
    connection.attach_rings(shared)?;
    if connection.rings().is_none() {
        return Ok(None);
    }
    let (shared, connection) = (shared.clone(), connection.clone());
    let reader = move || {
        let _end = End(&shared);
        let failed = connection
            .rings()
            .and_then(|rings| rings.pump(&connection, &shared));
        if let Some(error) = failed {
            shared.note_end(error);
            connection.shutdown();
        }
    };
    let thread = std::thread::Builder::new().name("fltport-rings".into());
    thread
        .spawn(reader)
        .map(Some)
        .map_err(|e| Error::thread(&e))
}

/// From now on answers go over this connection: to what has come over former ones as well, if it goes on
/// with their stream.
fn take_answers(shared: &Shared, session: &Session) {
    let mut control = lock(&shared.control);
    if session.resumed.is_none() {
        control.answers.end();
        control.answers = Arc::default();
    }
    control.answers.begin(&session.connection);
    session.connection.set_answers(control.answers.clone());
}

/// Lets [`Client::close`](crate::Client::close) end a connection that is still being made; false
/// if it has been called already.
fn open(shared: &Shared, connection: &Arc<Connection>) -> bool {
    let mut control = lock(&shared.control);
    if !control.closing {
        control.opening = Some(connection.clone());
    }
    !control.closing
}

/// Notes a pump's end even if it panics: nobody may wait for it for ever.
struct End<'s>(&'s Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.note_end(Error::Disconnected(Code::None));
    }
}

/// Says that no more events will come when the supervisor ends, in whatever way.
struct CloseQueue(Arc<Shared>);

impl Drop for CloseQueue {
    fn drop(&mut self) {
        self.0.queue.close();
        lock(&self.0.control).answers.end();
    }
}

/// Ends a session and waits for its pump; returns why the pump ended.
pub(crate) fn end(shared: &Shared, session: Session) -> Option<Error> {
    session.connection.shutdown();
    // A pump that panicked has told its reason to standard error.
    let _panicked = session.pump.join();
    // Neither has a reader, which ends when the pump has.
    let _panicked = session.reader.map(JoinHandle::join);
    lock(&shared.control).ended.take()
}

/// Makes the connection the current one, unless the client is being closed.
pub(crate) fn install(shared: &Shared, session: &Session) -> bool {
    let mut control = lock(&shared.control);
    control.opening = None;
    if control.closing {
        // Who closed the client may have been here before there were rings.
        if let Some(rings) = session.connection.rings() {
            rings.abandon();
        }
        return false;
    }
    control.current = Some(session.connection.clone());
    true
}

/// Starts the supervisor of a client whose first connection is `session`.
pub(crate) fn start(shared: &Arc<Shared>, session: Session) -> Result<JoinHandle<()>, Error> {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Session>(1);
    let spawned = std::thread::Builder::new().name("fltport".into()).spawn({
        let shared = shared.clone();
        move || {
            let closes = CloseQueue(shared);
            if let Ok(session) = receiver.recv() {
                supervise(&closes.0, session);
            }
        }
    });
    match spawned {
        Ok(thread) => {
            // The receiver is alive: the thread waits for it.
            let _sent = sender.send(session);
            Ok(thread)
        }
        Err(error) => {
            end(shared, session);
            Err(Error::thread(&error))
        }
    }
}

fn supervise(shared: &Arc<Shared>, first: Session) {
    let (initial, max) = shared.options.backoff;
    let mut backoff = Backoff::new(initial, max, RandomState::new().hash_one(initial));
    let mut session = first;
    loop {
        attend(shared, &session, max);
        let generation = session.connection.generation();
        let has_stream = session.connection.has_stream;
        let reason = end(shared, session).unwrap_or(Error::Closed);
        let mut control = lock(&shared.control);
        control.current = None;
        match has_stream {
            true => control.answers.pause(),
            false => control.answers.end(),
        }
        for wanted in control.subscriptions.values_mut() {
            wanted.resumed |= wanted.in_force;
            wanted.in_force = false;
        }
        let closing = control.closing;
        drop(control);
        if closing {
            return;
        }
        shared.queue.push([(Event::Disconnected { reason }, 0)]);
        if !shared.options.reconnect {
            return;
        }
        let Some(next) = reconnect(shared, generation.saturating_add(1), &mut backoff) else {
            return;
        };
        session = next;
    }
}

/// Waits until the pump has ended or the client is being closed; meanwhile makes outstanding
/// subscriptions.
fn attend(shared: &Shared, session: &Session, retry: Duration) {
    let mut next_try = Instant::now() + retry;
    loop {
        let mut control = lock(&shared.control);
        if control.closing || control.ended.is_some() {
            return;
        }
        let outstanding = control.subscriptions.values().any(|w| !w.in_force);
        let registered = std::mem::take(&mut control.registered);
        if outstanding && (registered || Instant::now() >= next_try) {
            drop(control);
            // That a new provider does not take it is news; that it still does not is none.
            shared.subscribe_again(&session.connection, registered);
            next_try = Instant::now() + retry;
            continue;
        }
        if outstanding {
            let left = next_try.saturating_duration_since(Instant::now());
            let waited = shared.changed.wait_timeout(control, left);
            control = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            let waited = shared.changed.wait(control);
            control = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(control);
    }
}

fn reconnect(shared: &Arc<Shared>, generation: u32, backoff: &mut Backoff) -> Option<Session> {
    loop {
        if pause(shared, backoff.next()) {
            return None;
        }
        let session = match establish(shared, generation) {
            Ok(session) => session,
            Err(Error::TakenOver(_)) => {
                shared.queue.push([(Event::TakenOver, 0)]);
                return None;
            }
            Err(_) => continue,
        };
        if !install(shared, &session) {
            end(shared, session);
            return None;
        }
        backoff.reset();
        shared.counters.reconnects.add(1);
        if session.resumed.is_none() {
            shared.begin_anew();
        }
        let event = match session.resumed {
            Some(_) => Event::Resumed { generation },
            None => Event::Reconnected { generation },
        };
        shared.queue.push([(event, 0)]);
        tell_if_streamless(shared, &session);
        session.connection.begin(&shared.queue);
        shared.subscribe_again(&session.connection, true);
        return Some(session);
    }
}

/// Tells a program that wants a stream that it has none.
pub(crate) fn tell_if_streamless(shared: &Shared, session: &Session) {
    if shared.options.stream.is_some() && !session.connection.has_stream {
        shared.queue.push([(Event::NoStream, 0)]);
    }
}

/// Waits; true if the client is being closed.
fn pause(shared: &Shared, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    let mut control = lock(&shared.control);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if control.closing || left.is_zero() {
            return control.closing;
        }
        let waited = shared.changed.wait_timeout(control, left);
        control = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}
