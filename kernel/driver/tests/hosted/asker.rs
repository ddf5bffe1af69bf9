// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver that asks asynchronously and remembers what it has been told, and how a service
//! reads its questions and answers them.

use crate::bare::BareClient;
use crate::generator::PROVIDER;
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Record, Service};
use fltport_abi::command::{RequestAccountRow, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{AsyncRequestHeader, REPLY_MAGIC, RecordKind, ReplyHeader};
use fltport_abi::interface::{AsyncRequest, Completion};
use fltport_nt::bindings::{KfRaiseIrql, STATUS_SUCCESS};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{DISPATCH_LEVEL, KeLowerIrql, PASSIVE_LEVEL};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The default reply.
pub(crate) const DEFAULT: u64 = 0xDEFA;
static DEFAULT_BYTES: [u8; 8] = DEFAULT.to_le_bytes();

/// A request that has been completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) number: u64,
    pub(crate) outcome: u32,
    pub(crate) reply: u64,
    pub(crate) waited_us: u32,
}

pub(crate) type Context = (u64, Sender<Completed>);

/// Tells the asker.
pub(crate) unsafe extern "system" fn completed(
    context: *mut c_void,
    completion: *const Completion,
) {
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
pub(crate) struct Asker {
    pub(crate) client: BareClient,
    pub(crate) sender: Sender<Completed>,
    pub(crate) completed: Mutex<Receiver<Completed>>,
}

impl Asker {
    pub(crate) fn new() -> Self {
        Self::of(BareClient::register(&PROVIDER, 0))
    }

    pub(crate) fn of(client: BareClient) -> Self {
        let (sender, completed) = channel();
        Asker {
            client,
            sender,
            completed: Mutex::new(completed),
        }
    }

    /// Asks as this request says, but for payload, routine and context; the status.
    pub(crate) fn ask_as(&self, number: u64, request: AsyncRequest) -> i32 {
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

    pub(crate) fn ask(&self, number: u64, deadline_ms: u32) {
        assert_eq!(self.ask_as(number, question(deadline_ms)), STATUS_SUCCESS);
    }

    /// The next that is completed.
    pub(crate) fn next(&self) -> Completed {
        self.completed
            .lock()
            .unwrap()
            .recv_timeout(PATIENCE)
            .expect("completed")
    }

    /// So many, by number; each once, and none behind them.
    pub(crate) fn take(&self, count: usize) -> BTreeMap<u64, Completed> {
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
pub(crate) fn question(deadline_ms: u32) -> AsyncRequest {
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
pub(crate) fn with_decider() -> (Machine, Asker, Service) {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let service = decider(&machine);
    (machine, asker, service)
}

pub(crate) fn decider(machine: &Machine) -> Service {
    let service = Service::connect(machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 0, 1 << 2).unwrap();
    service
}

/// A request as the service got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) id: u64,
    pub(crate) provider: u16,
    pub(crate) message: u16,
    pub(crate) number: u64,
    pub(crate) deadline_ms: u32,
}

pub(crate) fn read(record: &Record) -> Question {
    assert_eq!(record.kind, RecordKind::AsyncRequest);
    let header = AsyncRequestHeader::read(&record.payload).unwrap();
    assert_eq!(header.fixed, 8);
    Question {
        id: header.request,
        provider: record.header.provider,
        message: record.header.message,
        number: u64::read(&record.payload[AsyncRequestHeader::SIZE..]).unwrap(),
        deadline_ms: header.deadline_ms,
    }
}

pub(crate) fn next(service: &mut Service) -> Question {
    read(&service.next().expect("a request"))
}

/// Answers with these bytes; the status.
pub(crate) fn answer_as(service: &Service, header: ReplyHeader, reply: &[u8]) -> Result<(), i32> {
    let mut payload = vec![0; ReplyHeader::SIZE];
    header.write(&mut payload).unwrap();
    payload.extend(reply);
    service.command(0, own::ANSWER, &payload).map(drop)
}

pub(crate) fn header(question: &Question) -> ReplyHeader {
    ReplyHeader {
        magic: REPLY_MAGIC,
        provider: question.provider,
        message: question.message,
        request: question.id,
    }
}

/// The right answer: three times the number.
pub(crate) fn answer(service: &Service, question: &Question) -> Result<(), i32> {
    let reply = question.number * 3;
    answer_as(service, header(question), &reply.to_le_bytes())
}

/// Answers the asynchronous request that this record is, rightly; the status.
pub(crate) fn answer_record(service: &Service, record: &Record) -> Result<(), i32> {
    answer(service, &read(record))
}

/// The accounts by who was asked; each must balance.
pub(crate) fn accounts(service: &Service) -> Vec<RequestAccountRow> {
    let rows: Vec<RequestAccountRow> = service.try_rows(own::REQUEST_ACCOUNTS).unwrap();
    assert!(rows.iter().all(RequestAccountRow::balances), "{rows:?}");
    rows
}

pub(crate) fn at_dispatch_level<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: raises; lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let result = f();
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    result
}
