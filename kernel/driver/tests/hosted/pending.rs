// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asynchronous requests: answered, missed, and each completed once, whatever happens.

use crate::bare::{BareClient, describe};
use crate::generator::{self, PROVIDER, Reply};
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Record, Service};
use crate::streams::wanted;
use fltport_abi::account::Outcome;
use fltport_abi::command::{ENDED, RequestAccountRow, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{AsyncRequestHeader, OutcomeRecord, REPLY_MAGIC, RecordKind, ReplyHeader};
use fltport_abi::hello::{Hello, StreamHello, rights, stream};
use fltport_abi::interface::{
    AsyncRequest, CommandCaller, Completion, ProviderDescription, REQUEST_DECLARED_DEFAULT,
};
use fltport_abi::limits::MAX_PENDING;
use fltport_client::{Answer, BacklogPolicy};
use fltport_nt::bindings::{
    KfRaiseIrql, STATUS_ACCESS_DENIED, STATUS_BUFFER_OVERFLOW, STATUS_FLT_NO_WAITER_FOR_REPLY,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{DISPATCH_LEVEL, KeLowerIrql, PASSIVE_LEVEL, STATUS_INVALID_LEVEL};
use nt_host::faults::FaultPlan;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The default reply.
const DEFAULT: u64 = 0xDEFA;
static DEFAULT_BYTES: [u8; 8] = DEFAULT.to_le_bytes();

/// A request that has been completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Completed {
    number: u64,
    outcome: u32,
    reply: u64,
    waited_us: u32,
}

type Context = (u64, Sender<Completed>);

unsafe extern "system" fn completed(context: *mut c_void, completion: *const Completion) {
    assert_eq!(current_irql(), PASSIVE_LEVEL);
    // SAFETY: passed with the request, and called once: a second call would find freed memory, which
    // the tests that count would see first.
    let (number, sender) = *unsafe { Box::from_raw(context.cast::<Context>()) };
    // SAFETY: the common driver passes a valid completion.
    let completion = unsafe { &*completion };
    assert_eq!((completion.message, completion.reply_length), (2, 8));
    // SAFETY: valid for its length.
    let reply = unsafe { completion.reply.cast::<u64>().read_unaligned() };
    // A test that has ended does not listen any more.
    let _heard = sender.send(Completed {
        number,
        outcome: completion.outcome,
        reply,
        waited_us: completion.waited_us,
    });
}

/// A client driver that asks, and what it has been told.
struct Asker {
    client: BareClient,
    sender: Sender<Completed>,
    completed: Mutex<Receiver<Completed>>,
}

impl Asker {
    fn new() -> Self {
        Self::of(BareClient::register(&PROVIDER, 0))
    }

    fn of(client: BareClient) -> Self {
        let (sender, completed) = channel();
        Asker {
            client,
            sender,
            completed: Mutex::new(completed),
        }
    }

    /// Asks as this request says, but for payload, routine and context; the status.
    fn ask_as(&self, number: u64, request: AsyncRequest) -> i32 {
        let context: *mut Context = Box::into_raw(Box::new((number, self.sender.clone())));
        let payload = number.to_le_bytes();
        let request = AsyncRequest {
            payload: payload.as_ptr(),
            on_completion: Some(completed),
            context: context.cast(),
            ..request
        };
        let ask = self.client.table.request_async.expect("there");
        // SAFETY: a registered handle and a valid request; the routine takes the context over.
        let status = unsafe { ask(self.client.handle, &raw const request) };
        if status != STATUS_SUCCESS {
            // SAFETY: without success the routine is not called.
            drop(unsafe { Box::from_raw(context) });
        }
        status
    }

    fn ask(&self, number: u64, deadline_ms: u32) {
        assert_eq!(self.ask_as(number, question(deadline_ms)), STATUS_SUCCESS);
    }

    /// The next that is completed.
    fn next(&self) -> Completed {
        self.completed
            .lock()
            .unwrap()
            .recv_timeout(PATIENCE)
            .expect("completed")
    }

    /// So many, by number; each once, and none behind them.
    fn take(&self, count: usize) -> BTreeMap<u64, Completed> {
        let mut all = BTreeMap::new();
        for _ in 0..count {
            let completed = self.next();
            let before = all.insert(completed.number, completed);
            assert_eq!(before, None, "completed twice");
        }
        assert_eq!(
            self.completed.lock().unwrap().recv_timeout(Duration::ZERO),
            Err(RecvTimeoutError::Timeout)
        );
        all
    }
}

/// A question with this deadline.
fn question(deadline_ms: u32) -> AsyncRequest {
    AsyncRequest {
        size: size_of::<AsyncRequest>() as u32,
        message: 2,
        fixed: 8,
        payload: std::ptr::null(),
        length: 8,
        deadline_ms,
        reply: DEFAULT_BYTES.as_ptr(),
        reply_length: 8,
        flags: 0,
        on_completion: None,
        context: std::ptr::null_mut(),
    }
}

/// A machine with a client driver that asks and a service that decides.
fn with_decider() -> (Machine, Asker, Service) {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let service = decider(&machine);
    (machine, asker, service)
}

fn decider(machine: &Machine) -> Service {
    let service = Service::connect(machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 0, 1 << 2).unwrap();
    service
}

/// A request as the service got it.
#[derive(Clone, Copy, Debug)]
struct Question {
    id: u64,
    provider: u16,
    number: u64,
    deadline_ms: u32,
}

fn read(record: &Record) -> Question {
    assert_eq!(
        (record.kind, record.header.message),
        (RecordKind::AsyncRequest, 2)
    );
    let header = AsyncRequestHeader::read(&record.payload).unwrap();
    assert_eq!(header.fixed, 8);
    Question {
        id: header.request,
        provider: record.header.provider,
        number: u64::read(&record.payload[AsyncRequestHeader::SIZE..]).unwrap(),
        deadline_ms: header.deadline_ms,
    }
}

fn next(service: &mut Service) -> Question {
    read(&service.next().expect("a request"))
}

/// Answers with these bytes; the status.
fn answer_as(service: &Service, header: ReplyHeader, reply: &[u8]) -> Result<(), i32> {
    let mut payload = vec![0; ReplyHeader::SIZE];
    header.write(&mut payload).unwrap();
    payload.extend(reply);
    service.command(0, own::ANSWER, &payload).map(drop)
}

fn header(question: &Question) -> ReplyHeader {
    ReplyHeader {
        magic: REPLY_MAGIC,
        provider: question.provider,
        message: 2,
        request: question.id,
    }
}

/// The right answer: three times the number.
fn answer(service: &Service, question: &Question) -> Result<(), i32> {
    let reply = question.number * 3;
    answer_as(service, header(question), &reply.to_le_bytes())
}

/// Answers the asynchronous request that this record is, rightly; the status.
pub(crate) fn answer_record(service: &Service, record: &Record) -> Result<(), i32> {
    answer(service, &read(record))
}

/// The accounts by who was asked; each must balance.
fn accounts(service: &Service) -> Vec<RequestAccountRow> {
    let rows: Vec<RequestAccountRow> = service.try_rows(own::REQUEST_ACCOUNTS).unwrap();
    assert!(rows.iter().all(RequestAccountRow::balances), "{rows:?}");
    rows
}

fn at_dispatch_level<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: raises; lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let result = f();
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    result
}

#[test]
fn as_many_as_there_may_be_are_answered_out_of_order() {
    let (machine, asker, mut service) = with_decider();
    let all = MAX_PENDING as u64;
    at_dispatch_level(|| (0..all).for_each(|n| asker.ask(n, 60_000)));
    let one_more = at_dispatch_level(|| asker.ask_as(all, question(60_000)));
    assert_eq!(one_more, STATUS_INSUFFICIENT_RESOURCES);
    let mut questions: Vec<_> = (0..all).map(|_| next(&mut service)).collect();
    assert!(questions.iter().map(|q| q.number).eq(0..all), "in order");
    let number = service.info().connection;
    let row = accounts(&service)
        .into_iter()
        .find(|r| r.connection == number);
    let row = row.unwrap();
    assert_eq!((row.in_flight, row.in_flight_peak), (all, all));
    // Every third from the end, and so on: no order that the driver could rely on.
    questions.sort_by_key(|q| (q.number % 3, u64::MAX - q.number));
    for question in &questions {
        assert_eq!(answer(&service, question), Ok(()));
        let completed = asker.next();
        assert_eq!(completed.number, question.number);
        assert_eq!(completed.reply, question.number * 3);
        assert_eq!(completed.outcome, Outcome::Answered as u32);
    }
    assert!(asker.take(0).is_empty());
    let requests = &service.request_rows()[0];
    assert_eq!(requests.asked, all);
    assert_eq!(requests.outcomes[Outcome::Answered.index()], all);
    // The ledger knows nothing of them.
    assert!(
        service
            .ledger()
            .iter()
            .all(|row| row.message != 2 || row.offered == 0)
    );
    drop((service, asker));
    machine.check();
}

#[test]
fn every_deadline_is_kept_once() {
    let (machine, asker, mut service) = with_decider();
    let deadline = |n: u64| 20 + (n * 37 % 200) as u32;
    at_dispatch_level(|| (0..200).for_each(|n| asker.ask(n, deadline(n))));
    for (n, completed) in asker.take(200) {
        assert_eq!(completed.outcome, Outcome::Missed as u32);
        assert_eq!(completed.reply, DEFAULT);
        assert!(
            completed.waited_us >= deadline(n) * 1000,
            "{n}: {completed:?}"
        );
    }
    for _ in 0..200 {
        let question = next(&mut service);
        assert_eq!(question.deadline_ms, deadline(question.number));
        assert_eq!(
            answer(&service, &question),
            Err(STATUS_FLT_NO_WAITER_FOR_REPLY)
        );
    }
    assert!(asker.take(0).is_empty());
    drop((service, asker));
    machine.check();
}

#[test]
fn a_later_request_with_an_earlier_deadline_does_not_wait_for_the_others() {
    let (machine, asker, service) = with_decider();
    at_dispatch_level(|| asker.ask(1, 60_000));
    let begun = Instant::now();
    at_dispatch_level(|| asker.ask(2, 50));
    assert_eq!(asker.next().number, 2);
    assert!(begun.elapsed() < PATIENCE);
    drop(service);
    assert_eq!(asker.next().outcome, Outcome::Disconnected as u32);
    drop(asker);
    machine.check();
}

#[test]
fn the_death_of_the_decider_completes_everything_at_once() {
    let (machine, asker, mut service) = with_decider();
    let observer = Service::connect(&machine);
    at_dispatch_level(|| (0..1000).for_each(|n| asker.ask(n, 60_000)));
    for _ in 0..10 {
        let question = next(&mut service);
        assert_eq!(answer(&service, &question), Ok(()));
    }
    let begun = Instant::now();
    service.close();
    let all = asker.take(1000);
    assert!(begun.elapsed() < PATIENCE, "nobody waited for the deadline");
    let count = |outcome| all.values().filter(|c| c.outcome == outcome as u32).count();
    assert_eq!(count(Outcome::Answered), 10);
    assert_eq!(count(Outcome::Disconnected), 990);
    let gone = accounts(&observer)
        .into_iter()
        .find(|row| row.connection == ENDED);
    let gone = gone.unwrap();
    assert_eq!(
        (gone.asked, gone.in_flight, gone.in_flight_peak),
        (1000, 0, 1000)
    );
    drop((service, observer, asker));
    machine.check();
}

#[test]
fn no_answer_of_an_enemy_completes_what_it_should_not() {
    let (machine, asker, mut service) = with_decider();
    let other = Service::connect(&machine);
    let hello = Hello::new("observer", rights::OBSERVE, 0).to_bytes();
    let observer = Service::connect_with(&machine, &hello).unwrap();
    at_dispatch_level(|| asker.ask(5, 60_000));
    let question = next(&mut service);
    let right = header(&question);
    let reply = [1; 8];
    let nobody = Err(STATUS_FLT_NO_WAITER_FOR_REPLY);
    assert_eq!(answer_as(&other, right, &reply), nobody, "not asked");
    assert_eq!(
        answer_as(&observer, right, &reply),
        Err(STATUS_ACCESS_DENIED)
    );
    for bit in 0..64 {
        let request = right.request ^ (1 << bit);
        let wrong = ReplyHeader { request, ..right };
        assert_eq!(answer_as(&service, wrong, &reply), nobody, "bit {bit}");
    }
    for provider in [0, right.provider + 1, u16::MAX] {
        let wrong = ReplyHeader { provider, ..right };
        assert_eq!(answer_as(&service, wrong, &reply), nobody);
    }
    let malformed = Err(STATUS_INVALID_PARAMETER);
    let magic = ReplyHeader { magic: 0, ..right };
    assert_eq!(answer_as(&service, magic, &reply), malformed);
    for length in 0..ReplyHeader::SIZE {
        let short = service.command(0, own::ANSWER, &vec![0; length]);
        assert_eq!(short.map(drop), malformed);
    }
    assert!(asker.take(0).is_empty(), "nothing of this is an answer");
    assert_eq!(answer(&service, &question), Ok(()));
    assert_eq!(asker.next().reply, 15);
    assert_eq!(answer(&service, &question), nobody, "twice");
    drop((service, other, observer, asker));
    machine.check();
}

#[test]
fn an_answer_of_another_length_or_message_ends_it_with_the_default() {
    let (machine, asker, mut service) = with_decider();
    let wrong: [(u16, &[u8]); 5] = [
        (2, &[]),
        (2, &[1; 7]),
        (2, &[1; 9]),
        (2, &[1; 60_000]),
        (3, &[1; 8]),
    ];
    for (message, reply) in wrong {
        at_dispatch_level(|| asker.ask(1, 60_000));
        let question = next(&mut service);
        let header = ReplyHeader {
            message,
            ..header(&question)
        };
        assert_eq!(
            answer_as(&service, header, reply),
            Err(STATUS_INVALID_PARAMETER)
        );
        let completed = asker.next();
        assert_eq!(
            (completed.outcome, completed.reply),
            (Outcome::BadReply as u32, DEFAULT)
        );
        assert_eq!(
            answer(&service, &question),
            Err(STATUS_FLT_NO_WAITER_FOR_REPLY)
        );
    }
    drop((service, asker));
    machine.check();
}

#[test]
fn what_is_certain_at_once_comes_in_the_callback_too() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    at_dispatch_level(|| asker.ask(1, 60_000));
    assert_eq!(asker.next().outcome, Outcome::NoDecider as u32);
    let service = decider(&machine);
    at_dispatch_level(|| (3..6).for_each(|n| asker.ask(n, 20)));
    assert!(
        asker
            .take(3)
            .values()
            .all(|c| c.outcome == Outcome::Missed as u32)
    );
    at_dispatch_level(|| asker.ask(6, 60_000));
    let completed = asker.next();
    assert_eq!(
        (completed.outcome, completed.reply),
        (Outcome::CircuitOpen as u32, DEFAULT)
    );
    drop(service);
    drop(asker);
    machine.check();
}

/// What the command handler of the next test asks through.
static INSIDE: Mutex<Option<Asker>> = Mutex::new(None);

/// Asks in the process of the service that sends the command.
unsafe extern "system" fn ask_inside(
    _context: *mut c_void,
    _caller: *const CommandCaller,
    _message: u16,
    _input: *const u8,
    _length: u32,
    _output: *mut u8,
    _capacity: u32,
    _returned: *mut u32,
) -> i32 {
    let asker = INSIDE.lock().unwrap();
    asker.as_ref().unwrap().ask_as(1, question(60_000))
}

#[test]
fn the_decider_is_not_asked_about_itself() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let mut schema = [0; 4096];
    let length = PROVIDER.encode(&mut schema).unwrap();
    let client = BareClient::describe(&ProviderDescription {
        on_command: Some(ask_inside),
        ..describe(&schema[..length], 0)
    });
    *INSIDE.lock().unwrap() = Some(Asker::of(client.unwrap()));
    let service = decider(&machine);
    let provider = service.provider("generator").unwrap();
    let echo = [8, 0, 0, 0, 1, 0, 0, 0, b'a'];
    service.command(provider, 3, &echo).expect("asked");
    let asker = INSIDE.lock().unwrap().take().unwrap();
    assert_eq!(asker.next().outcome, Outcome::FromDecider as u32);
    drop((service, asker));
    machine.check();
}

#[test]
fn a_service_that_does_not_know_them_is_not_asked() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let hello = Hello {
        max_version: 1,
        ..Hello::new("old", rights::ALL, 0)
    };
    let mut old = Service::connect_with(&machine, &hello.to_bytes()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    at_dispatch_level(|| asker.ask(1, 60_000));
    assert_eq!(asker.next().outcome, Outcome::Failed as u32);
    assert!(
        old.drain()
            .iter()
            .all(|r| r.kind != RecordKind::AsyncRequest)
    );
    drop((old, asker));
    machine.check();
}

#[test]
fn unregistering_completes_everything_before_it_returns() {
    let (machine, asker, mut service) = with_decider();
    at_dispatch_level(|| (0..300).for_each(|n| asker.ask(n, 60_000)));
    let question = next(&mut service);
    let Asker {
        client,
        completed,
        sender,
    } = asker;
    drop(client);
    drop(sender);
    let all: Vec<_> = completed.lock().unwrap().try_iter().collect();
    assert_eq!(all.len(), 300, "by now");
    assert!(
        all.iter()
            .all(|c| c.outcome == Outcome::Failed as u32 && c.reply == DEFAULT)
    );
    assert_eq!(
        answer(&service, &question),
        Err(STATUS_FLT_NO_WAITER_FOR_REPLY)
    );
    // The books of the connection know how it ended.
    let number = service.info().connection;
    let rows = accounts(&service);
    let row = rows.iter().find(|row| row.connection == number).unwrap();
    assert_eq!(row.outcomes[Outcome::Failed.index()], 300);
    drop(service);
    machine.check();
}

/// What the former instance has acknowledged and not answered is asked again; the rest was on its way
/// in any case. Nothing is answered twice, and nothing is lost.
#[test]
fn who_takes_the_stream_over_is_asked_what_was_not_answered() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let observer = Service::connect(&machine);
    let mut old = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    at_dispatch_level(|| (0..100).for_each(|n| asker.ask(n, 60_000)));
    let records: Vec<_> = (0..80).map(|_| old.next().unwrap()).collect();
    let questions: Vec<_> = records.iter().map(read).collect();
    for question in questions.iter().take(20) {
        assert_eq!(answer(&old, question), Ok(()));
    }
    assert_eq!(asker.take(20).len(), 20);
    let read_up_to = records[49].header.sequence;
    old.command(0, own::ACKNOWLEDGE, &read_up_to.to_le_bytes())
        .unwrap();

    let taking_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let mut new = Service::with_stream(&machine, &taking_over).unwrap();
    let stale = &questions[79];
    assert!(answer(&old, stale).is_err(), "it has been ended");
    let again: Vec<_> = (0..80).map(|_| next(&mut new)).collect();
    let numbers: Vec<_> = again.iter().map(|q| q.number).collect();
    assert!(
        numbers.iter().copied().eq((50..100).chain(20..50)),
        "{numbers:?}"
    );
    for question in &again {
        assert_eq!(answer(&new, question), Ok(()));
    }
    let all = asker.take(80);
    assert!(
        all.values()
            .all(|c| c.outcome == Outcome::Answered as u32 && c.reply == c.number * 3)
    );
    let number = new.info().connection;
    let rows = accounts(&observer);
    let row = rows.iter().find(|row| row.connection == number).unwrap();
    assert_eq!(
        (row.asked, row.in_flight),
        (100, 0),
        "the account went along"
    );
    drop((old, new, observer, asker));
    machine.check();
}

/// What a new connection is sent again is not what waits in the queue: a request behind it is still
/// known to have been read, and so is asked again by the next one to take over.
#[test]
fn a_request_behind_what_is_sent_again_is_asked_again_as_well() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let mut old = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    // Two gets wait, and are not followed by others; the third one's frame waits for a get.
    for n in 0..3 {
        asker.ask(n, 60_000);
        while old.info().queued != 0 || old.info().next_sequence != n + 2 {
            thread::yield_now();
        }
    }
    asker.ask(3, 60_000);
    let taking_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let mut new = Service::with_stream(&machine, &taking_over).unwrap();
    let numbers: Vec<_> = (0..4).map(|_| next(&mut new).number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    new.acknowledge(new.last()).unwrap();
    let mut newest = Service::with_stream(&machine, &taking_over).unwrap();
    for _ in 0..4 {
        let question = next(&mut newest);
        assert_eq!(answer(&newest, &question), Ok(()));
    }
    let all = asker.take(4);
    assert!(all.values().all(|c| c.outcome == Outcome::Answered as u32));
    old.receive(Duration::ZERO);
    drop((old, new, newest, asker));
    machine.check();
}

/// The thread that asked the former instance asks the new one by itself: its request is in the books
/// of both.
#[test]
fn the_accounts_balance_when_a_stream_is_taken_over_from_under_a_request() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(0, BacklogPolicy::KeepNewest));
    let mut old = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    let asked = thread::spawn(|| generator::outcome(1, 60_000));
    old.next_request().unwrap();
    let taking_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let mut new = Service::with_stream(&machine, &taking_over).unwrap();
    let request = new.next_request().unwrap();
    assert_eq!(new.reply(&request, &[0; 8]), 0);
    assert_eq!(asked.join().unwrap(), Outcome::Answered);
    let number = new.info().connection;
    let rows = accounts(&new);
    let of = |connection| rows.iter().find(|r| r.connection == connection).unwrap();
    assert_eq!((of(number).asked, of(number).in_flight), (1, 0));
    assert_eq!(of(number).outcomes[Outcome::Answered.index()], 1);
    assert_eq!((of(ENDED).asked, of(ENDED).in_flight), (1, 0));
    assert_eq!(of(ENDED).outcomes[Outcome::Disconnected.index()], 1);
    drop((old, new));
    machine.check();
}

#[test]
fn answers_and_deadlines_race_and_each_is_completed_once() {
    let (machine, asker, mut service) = with_decider();
    const ALL: u64 = 2000;
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            for n in 0..ALL {
                at_dispatch_level(|| asker.ask(n, 1 + (n % 7) as u32));
            }
        });
        let mut answered = 0;
        while !asking.is_finished() || service.receive(Duration::from_millis(50)) {
            service.receive(Duration::from_millis(1));
            for record in service.drain_available() {
                match answer(&service, &read(&record)) {
                    Ok(()) => answered += 1,
                    Err(status) => assert_eq!(status, STATUS_FLT_NO_WAITER_FOR_REPLY),
                }
            }
        }
        asking.join().unwrap();
        for record in service.drain_available() {
            answered += u64::from(answer(&service, &read(&record)).is_ok());
        }
        let all: Vec<_> = (0..ALL).map(|_| asker.next()).collect();
        let right = all.iter().filter(|c| c.outcome == Outcome::Answered as u32);
        assert!(right.clone().all(|c| c.reply == c.number * 3));
        assert_eq!(right.count() as u64, answered, "what was taken was told");
        let mut numbers: Vec<_> = all.iter().map(|c| c.number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..ALL));
    });
    accounts(&service);
    drop((service, asker));
    machine.check();
}

#[test]
fn a_decider_that_reads_nothing_gets_what_fits_and_the_rest_fails() {
    let (machine, asker, service) = with_decider();
    let big = vec![7_u8; 40_000];
    let ask = |n: u64| {
        let context: *mut Context = Box::into_raw(Box::new((n, asker.sender.clone())));
        let request = AsyncRequest {
            payload: big.as_ptr(),
            length: big.len() as u32,
            on_completion: Some(completed),
            context: context.cast(),
            ..question(60_000)
        };
        let ask = asker.client.table.request_async.unwrap();
        // SAFETY: a registered handle and a valid request; the routine takes the context over.
        let status = at_dispatch_level(|| unsafe { ask(asker.client.handle, &raw const request) });
        assert_eq!(status, STATUS_SUCCESS);
    };
    (0..100).for_each(ask);
    let failed: Vec<_> = (0..50).map(|_| asker.next()).collect();
    assert!(
        failed.iter().all(|c| c.outcome == Outcome::Failed as u32),
        "{failed:?}"
    );
    service.close();
    drop(service);
    drop(asker);
    machine.check();
}

#[test]
fn observers_see_how_it_ended() {
    let (machine, asker, mut service) = with_decider();
    let mut observer = Service::connect(&machine);
    let provider = observer.provider("generator").unwrap();
    observer.subscribe(provider, 1 << 2, 0).unwrap();
    at_dispatch_level(|| asker.ask(9, 60_000));
    let question = next(&mut service);
    answer(&service, &question).unwrap();
    let seen = observer.next().unwrap();
    let record = fltport_abi::frame::Record {
        header: seen.header,
        kind: seen.kind,
        payload: &seen.payload,
    };
    let outcome = OutcomeRecord::parse(&record).unwrap();
    assert_eq!(outcome.header.request, question.id);
    assert_eq!(outcome.header.decider, service.info().connection);
    assert_eq!(outcome.header.outcome, Outcome::Answered as u16);
    assert_eq!(outcome.request, 9_u64.to_le_bytes());
    assert_eq!(outcome.reply, 27_u64.to_le_bytes());
    asker.next();
    drop((service, observer, asker));
    machine.check();
}

#[test]
fn what_cannot_be_asked_is_refused_and_never_completed() {
    let (machine, asker, service) = with_decider();
    let big = vec![0_u8; 50_000];
    let refused = [
        (question(0), STATUS_INVALID_PARAMETER),
        (question(60_001), STATUS_INVALID_PARAMETER),
        (
            AsyncRequest {
                message: 1,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                message: 64,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                fixed: 9,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                flags: 2,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                flags: REQUEST_DECLARED_DEFAULT,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                reply: std::ptr::null(),
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
        (
            AsyncRequest {
                reply: big.as_ptr(),
                reply_length: 4097,
                ..question(10)
            },
            STATUS_BUFFER_OVERFLOW,
        ),
        (
            AsyncRequest {
                size: 8,
                ..question(10)
            },
            STATUS_INVALID_PARAMETER,
        ),
    ];
    for (n, (request, status)) in refused.into_iter().enumerate() {
        assert_eq!(asker.ask_as(0, request), status, "case {n}");
    }
    // SAFETY: raises; lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL + 1) };
    let status = asker.ask_as(0, question(10));
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    assert_eq!(status, STATUS_INVALID_LEVEL);
    assert!(asker.take(0).is_empty());
    assert_eq!(service.request_rows()[0].asked, 0);
    drop((service, asker));
    machine.check();
}

/// Asks through the stub; what comes back goes to the channel, with the number.
fn ask_through_the_stub(numbers: std::ops::Range<u64>) -> Receiver<(u64, Answer<Reply>)> {
    let (sender, answers) = channel();
    for number in numbers {
        let sender = sender.clone();
        // A test that has ended does not listen any more.
        let then = move |answer| {
            let _heard = sender.send((number, answer));
        };
        at_dispatch_level(|| generator::ask_async(number, 60_000, then)).expect("asked");
    }
    answers
}

#[test]
fn the_stub_asks_and_is_answered_with_types() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(0, BacklogPolicy::KeepNewest));
    let mut service = decider(&machine);
    let answers = ask_through_the_stub(0..50);
    for _ in 0..50 {
        let question = next(&mut service);
        assert_eq!(answer(&service, &question), Ok(()));
        let (number, answer) = answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!(number, question.number);
        assert_eq!(answer.outcome, Outcome::Answered);
        assert_eq!(answer.reply.number, number * 3);
    }
    // Nobody keeps a closure that has been called.
    assert!(answers.recv().is_err());
    drop(service);
    machine.check();
}

#[test]
fn the_unload_of_the_common_driver_completes_everything_and_then_the_stub_does() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let image = generator::image(0, BacklogPolicy::KeepNewest);
    machine.load(&image);
    let service = decider(&machine);
    let answers = ask_through_the_stub(0..300);
    machine.stop(&FLTPORT);
    let all: Vec<_> = answers.try_iter().collect();
    assert_eq!(all.len(), 300, "by the end of the unload");
    let outcomes = [Outcome::Failed, Outcome::Disconnected];
    assert!(
        all.iter()
            .all(|(_, a)| outcomes.contains(&a.outcome) && a.reply.number == 0)
    );
    // Without a common driver: the default, in order, from a work item.
    let answers = ask_through_the_stub(0..20);
    machine.stop(&image);
    let all: Vec<_> = answers.try_iter().collect();
    assert!(all.iter().map(|(number, _)| *number).eq(0..20), "{all:?}");
    assert!(all.iter().all(|(_, a)| a.outcome == Outcome::NoDecider));
    drop(service);
    machine.check();
}

/// A closure that cannot be passed on is dropped, not called; each other one is called once, and no
/// memory is left.
#[test]
fn a_stub_short_of_memory_refuses_and_leaves_nothing() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(0, BacklogPolicy::KeepNewest));
    let mut refused = 0;
    for n in 0.. {
        let (sender, answers) = channel();
        let plan = FaultPlan::nth(n).of("ExAllocatePool2");
        machine.kernel.set_faults(plan.clone());
        let asked = generator::ask_async(n, 60_000, move |answer| {
            let _heard = sender.send(answer);
        });
        machine.kernel.set_faults(FaultPlan::default());
        let answer = answers.recv_timeout(PATIENCE);
        match asked {
            Ok(()) => assert_eq!(answer.unwrap().outcome, Outcome::NoDecider),
            Err(error) => {
                assert_eq!(error.status(), STATUS_INSUFFICIENT_RESOURCES);
                assert_eq!(answer, Err(RecvTimeoutError::Disconnected));
                refused += 1;
            }
        }
        if plan.injected().is_empty() {
            break;
        }
    }
    assert!(refused >= 6, "{refused}");
    machine.check();
}
