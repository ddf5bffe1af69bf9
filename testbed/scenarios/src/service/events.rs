// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service is told, and what it does about it: a thread that counts and answers.

use crate::journal::Journal;
use crate::orders::{Expected, Numbers};
use crate::tally::{self, Tally};
use fltport::{Client, Event, Request};
use fltport_abi::Message;
use fltport_abi::registry_monitor::ChangeVerdict;
use loadgen::messages::{Question, Reply, answer_to};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The thread, and what it has seen.
pub(super) struct Events {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    tally: Tally,
    /// It takes events.
    takes: bool,
    /// It answers requests.
    answers: bool,
    /// It denies what it is asked about.
    denies: bool,
    kept: Vec<Request>,
    /// Providers have come or gone so often.
    providers: u64,
    ended: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            tally: Tally::default(),
            takes: true,
            answers: true,
            denies: false,
            kept: Vec::new(),
            providers: 0,
            ended: false,
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and tells whoever waits.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits while something is so, at most until the deadline; the state then.
    fn wait_while(
        &self,
        deadline: Option<Instant>,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while condition(&state) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        state
    }
}

impl Events {
    /// Starts the thread.
    pub(super) fn begin(client: &Arc<Client>, journal: Option<Journal>) -> io::Result<Events> {
        let shared = Arc::new(Shared::default());
        let (client, inner) = (client.clone(), shared.clone());
        let named = thread::Builder::new().name("events".into());
        let thread = named.spawn(move || inner.take_from(&client, journal))?;
        Ok(Events { shared, thread })
    }

    /// Waits for its end, which comes when the client has been closed.
    pub(super) fn end(self) {
        self.shared.change(|state| state.takes = true);
        // A thread that panicked has told its reason to standard error.
        let _panicked = self.thread.join();
    }

    /// Whether requests are answered from now on.
    pub(super) fn answer(&self, answers: bool) {
        self.shared.change(|state| state.answers = answers);
    }

    /// Whether what is asked about is denied from now on.
    pub(super) fn deny(&self, denies: bool) {
        self.shared.change(|state| state.denies = denies);
    }

    /// Answers a request as it would now.
    pub(super) fn reply(&self, request: Request) -> Result<(), fltport::Error> {
        let denies = self.shared.state().denies;
        reply(request, denies)
    }

    /// Whether events are taken from now on.
    pub(super) fn take(&self, takes: bool) {
        self.shared.change(|state| state.takes = takes);
    }

    /// The requests that were kept.
    pub(super) fn take_kept(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.state().kept)
    }

    /// The load generator was loaded anew: numbers begin anew.
    pub(super) fn begin_anew(&self) {
        self.shared.state().tally.begin_anew();
    }

    /// Waits until all of this is reached, or the time is over; the tally then.
    pub(super) fn see(&self, expected: &[Expected], deadline: Instant) -> Numbers {
        let lacks = |state: &State| {
            let numbers = state.tally.numbers();
            !state.ended && !expected.iter().all(|it| it.is_reached(&numbers))
        };
        let state = self.shared.wait_while(Some(deadline), lacks);
        state.tally.numbers()
    }

    /// How often providers have come or gone.
    pub(super) fn providers(&self) -> u64 {
        self.shared.state().providers
    }

    /// Waits until they have done so more than `known` times; false if the time was over first.
    pub(super) fn wait_for_provider(&self, known: u64, deadline: Instant) -> bool {
        let same = |state: &State| state.providers == known && !state.ended;
        self.shared.wait_while(Some(deadline), same).providers != known
    }
}

impl Shared {
    fn take_from(&self, client: &Client, journal: Option<Journal>) {
        let mut stream = journal.map(Stream::of);
        while !client.is_over() {
            drop(self.wait_while(None, |state| !state.takes));
            let event = client.next(Duration::ZERO).or_else(|| {
                if let Some(stream) = &mut stream {
                    self.written(stream.acknowledge(client));
                }
                // Woken when the client is closed.
                client.next(Duration::from_secs(3600))
            });
            if let Some(event) = event {
                self.take(event, client, stream.as_mut());
            }
        }
        self.change(|state| state.ended = true);
    }

    /// A journal that cannot be written is no journal.
    fn written(&self, written: io::Result<()>) {
        if written.is_err() {
            self.change(|state| state.tally.add("damaged", 1));
        }
    }

    fn take(&self, event: Event, client: &Client, mut stream: Option<&mut Stream>) {
        if let Some(stream) = &mut stream {
            self.written(stream.add(&event, client));
        }
        match event {
            Event::Notification(record) => self.change(|state| state.tally.told(&record)),
            Event::CommonDriver(_) => self.change(|state| state.providers += 1),
            Event::Snapshot(record) => self.change(|state| state.tally.reported(&record)),
            Event::SnapshotEnd { provider, .. } => {
                self.change(|state| state.tally.snapshot_ended(provider));
            }
            Event::Gap(gap) => self.change(|state| state.tally.gap(&gap.losses)),
            Event::Outcome(_) => self.change(|state| state.tally.add("outcomes", 1)),
            Event::Request(request) => {
                let answered = self.asked(request);
                if let Some(stream) = stream.filter(|_| answered) {
                    self.written(stream.journal.answered());
                }
            }
            Event::Missing { first, last } => {
                self.change(|state| state.tally.add("missing", last - first + 1));
            }
            Event::Disconnected { .. } => {
                self.change(|state| state.tally.add("disconnected", 1));
            }
            Event::Reconnected { .. } => self.change(|state| {
                state.tally.add("reconnected", 1);
                state.tally.begin_anew();
                state.providers += 1;
            }),
            Event::Resumed { .. } => self.change(|state| {
                state.tally.add("resumed", 1);
                state.providers += 1;
            }),
            Event::TakenOver => self.change(|state| state.tally.add("taken-over", 1)),
            Event::SubscriptionFailed { .. } => {
                self.change(|state| state.tally.add("unsubscribed", 1));
            }
            _ => self.change(|state| state.tally.add("unknown", 1)),
        }
    }

    /// Whether it was answered, and the driver has taken the answer.
    fn asked(&self, request: Request) -> bool {
        let mut accepted = false;
        let mut unanswered = Some(request);
        let (answers, denies) = {
            let state = self.state();
            (state.answers, state.denies)
        };
        if answers && let Some(request) = unanswered.take() {
            accepted = reply(request, denies).is_ok();
            let answered = if accepted { "answered" } else { "unanswered" };
            self.change(|state| state.tally.add(answered, 1));
        }
        self.change(|state| {
            state.tally.add("requests", 1);
            state.tally.add("kept", u64::from(unanswered.is_some()));
            state.kept.extend(unanswered);
        });
        accepted
    }
}

/// So many events at most are dealt with before that is acknowledged.
const EVENTS_AT_ONCE: u32 = 128;

/// A stream whose records are acknowledged when they stand in the journal.
struct Stream {
    journal: Journal,
    acknowledged: u64,
    since: u32,
}

impl Stream {
    fn of(journal: Journal) -> Stream {
        Stream {
            acknowledged: journal.last,
            journal,
            since: 0,
        }
    }

    fn add(&mut self, event: &Event, client: &Client) -> io::Result<()> {
        self.journal.add(event)?;
        self.since += 1;
        if self.since < EVENTS_AT_ONCE {
            return Ok(());
        }
        self.acknowledge(client)
    }

    /// Whatever stands in the journal.
    fn acknowledge(&mut self, client: &Client) -> io::Result<()> {
        self.since = 0;
        let last = self.journal.last;
        if last > self.acknowledged {
            self.journal.flush()?;
            // Refused if another instance has the stream, or the connection has ended: then the
            // records come again, to whoever has it next.
            if client.acknowledge(last).is_ok() {
                self.acknowledged = last;
            }
        }
        Ok(())
    }
}

/// Answers a question of the load generator rightly, and one of another driver by a verdict.
fn reply(request: Request, denies: bool) -> Result<(), fltport::Error> {
    let provider = tally::provider_of(&request.record);
    if provider.and_then(tally::place_of).is_none() {
        // All of them have the same reply.
        return request.reply(&ChangeVerdict { deny: denies });
    }
    let number = {
        let question: Question = request.record.decode()?;
        debug_assert_eq!(request.record.message(), Question::NUMBER);
        answer_to(&question)
    };
    request.reply(&Reply { number })
}
