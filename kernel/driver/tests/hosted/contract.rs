// SPDX-License-Identifier: MIT OR Apache-2.0
//! Client drivers that break the contract of the function table, and the limits that it states. A
//! wrong call is a status and leaves no trace: nothing is registered, offered or asked.

use crate::bare::{BareClient, describe, interface};
use crate::generator::{Blob, PROVIDER, Question};
use crate::machine::{FLTPORT, Machine};
use crate::service::Service;
use fltport_abi::command::own;
use fltport_abi::fixed::Fixed;
use fltport_abi::interface::{
    Notification, ProviderDescription, ProviderHandle, Request, Revised, VERSION,
};
use fltport_abi::limits::{
    MAX_COMMAND, MAX_DEADLINE_MS, MAX_PROVIDERS, MAX_REPLY, MAX_REQUEST, MAX_SCHEMA,
};
use fltport_abi::message::Message;
use fltport_abi::schema::{MessageType, Provider};
use fltport_nt::bindings::{
    KfRaiseIrql, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_OBJECT_NAME_COLLISION,
    STATUS_REVISION_MISMATCH, STATUS_SUCCESS,
};
use fltport_nt::linked::{APC_LEVEL, DISPATCH_LEVEL, KeLowerIrql, STATUS_INVALID_LEVEL};
use nt_host::UserSlice;

const NO_PROVIDER: ProviderHandle = ProviderHandle(0);

fn machine() -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine
}

fn encoded(schema: &Provider) -> Vec<u8> {
    let mut bytes = vec![0; MAX_SCHEMA];
    let length = schema.encode(&mut bytes).expect("fits");
    bytes.truncate(length);
    bytes
}

/// A schema of another name, which lives as long as the program.
fn named(name: String) -> Provider {
    Provider {
        name: name.leak(),
        ..PROVIDER
    }
}

/// The status of a registration.
fn register(description: *const ProviderDescription) -> Result<ProviderHandle, i32> {
    let mut handle = NO_PROVIDER;
    // SAFETY: null or a description, and a place for the handle.
    match unsafe { (interface().register)(description, &raw mut handle) } {
        STATUS_SUCCESS => Ok(handle),
        status => Err(status),
    }
}

fn unregister(handle: ProviderHandle) {
    // SAFETY: a handle that is registered, or none.
    unsafe { (interface().unregister)(handle) };
}

fn at<R>(irql: u8, f: impl FnOnce() -> R) -> R {
    // SAFETY: lowered below.
    let former = unsafe { KfRaiseIrql(irql) };
    let result = f();
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    result
}

#[test]
fn a_wrong_registration_registers_nothing() {
    let machine = machine();
    let schema = encoded(&PROVIDER);
    let refused = |change: &dyn Fn(&mut ProviderDescription)| {
        let mut description = describe(&schema, 0);
        change(&mut description);
        register(&description).expect_err("it is wrong")
    };
    assert_eq!(register(std::ptr::null()), Err(STATUS_INVALID_PARAMETER));
    let too_short = ProviderDescription::FIRST as u32 - 1;
    assert_eq!(refused(&|d| d.size = too_short), STATUS_REVISION_MISMATCH);
    assert_eq!(
        refused(&|d| d.version = VERSION + 1),
        STATUS_REVISION_MISMATCH
    );
    assert_eq!(refused(&|d| d.backlog_policy = 2), STATUS_INVALID_PARAMETER);
    assert_eq!(
        refused(&|d| d.schema = std::ptr::null()),
        STATUS_INVALID_PARAMETER
    );
    assert_eq!(refused(&|d| d.schema_length = 0), STATUS_INVALID_PARAMETER);
    assert_eq!(refused(&|d| d.schema_length -= 1), STATUS_INVALID_PARAMETER);
    let too_long = MAX_SCHEMA as u32 + 1;
    assert_eq!(
        refused(&|d| d.schema_length = too_long),
        STATUS_INVALID_PARAMETER
    );
    assert_eq!(
        refused(&|d| d.backlog = u32::MAX),
        STATUS_INSUFFICIENT_RESOURCES
    );
    let description = describe(&schema, 0);
    assert_eq!(
        at(APC_LEVEL, || register(&description)),
        Err(STATUS_INVALID_LEVEL)
    );
    let service = Service::connect(&machine);
    assert_eq!(service.provider(PROVIDER.name), None);
    drop(service);
    machine.check();
}

#[test]
fn a_schema_that_contradicts_itself_is_refused() {
    static TWICE: [MessageType; 2] = [PROVIDER.messages[0], PROVIDER.messages[0]];
    let machine = machine();
    let twice = Provider {
        messages: &TWICE,
        ..PROVIDER
    };
    for schema in [twice, named(String::new())] {
        let bytes = encoded(&schema);
        let status = register(&describe(&bytes, 0));
        assert_eq!(status, Err(STATUS_INVALID_PARAMETER), "{schema:?}");
    }
    // A field in the place of another one: its offset stands before the length of its name.
    let mut bytes = encoded(&PROVIDER);
    let field = b"\x08\0\x04data";
    let found = bytes.windows(field.len()).position(|w| w == field);
    let place = found.expect("the field");
    bytes[place] = 4;
    let status = register(&describe(&bytes, 0));
    assert_eq!(status, Err(STATUS_INVALID_PARAMETER));
    machine.check();
}

/// Or a driver that tries again and again with what is refused would leave none to anybody.
#[test]
fn a_registration_that_is_refused_uses_up_no_number() {
    let machine = machine();
    for _ in 0..=u16::MAX {
        assert_eq!(register(&describe(&[], 0)), Err(STATUS_INVALID_PARAMETER));
    }
    let schema = encoded(&PROVIDER);
    let first = register(&describe(&schema, 0)).expect("there are numbers");
    let again = register(&describe(&schema, 0));
    assert_eq!(again, Err(STATUS_OBJECT_NAME_COLLISION));
    let service = Service::connect(&machine);
    let number = service.provider(PROVIDER.name).unwrap();
    unregister(first);
    let second = register(&describe(&schema, 0)).unwrap();
    let next = service.provider(PROVIDER.name);
    assert_eq!(
        next,
        Some(number + 1),
        "that of one that was there is never used again"
    );
    unregister(second);
    drop(service);
    machine.check();
}

#[test]
fn names_are_unique_and_places_limited() {
    let machine = machine();
    let service = Service::connect(&machine);
    // The driver's own messages have a place beside these.
    let own = service.providers().len();
    let mut handles = Vec::new();
    for number in 0..MAX_PROVIDERS {
        let schema = encoded(&named(format!("provider-{number}")));
        handles.push(register(&describe(&schema, 64)).expect("there is room"));
    }
    let again = encoded(&named("provider-0".to_owned()));
    assert_eq!(
        register(&describe(&again, 64)),
        Err(STATUS_OBJECT_NAME_COLLISION)
    );
    let more = encoded(&named("one-too-many".to_owned()));
    assert_eq!(
        register(&describe(&more, 64)),
        Err(STATUS_INSUFFICIENT_RESOURCES)
    );
    unregister(handles.remove(0));
    handles.push(register(&describe(&again, 64)).expect("the name is free again"));
    assert_eq!(service.providers().len(), own + MAX_PROVIDERS);
    handles.into_iter().for_each(unregister);
    drop(service);
    machine.check();
}

#[test]
fn a_wrong_notification_is_not_offered() {
    let machine = machine();
    let client = BareClient::register(&PROVIDER, 0);
    let payload = [0_u8; 64];
    let notification = || Notification {
        size: size_of::<Notification>() as u32,
        message: Blob::NUMBER,
        fixed: Blob::FIXED as u16,
        time: 1,
        payload: payload.as_ptr(),
        length: payload.len() as u32,
        ..Notification::EMPTY
    };
    let refused = |change: &dyn Fn(&mut Notification)| {
        let mut wrong = notification();
        change(&mut wrong);
        assert_eq!(
            client.send_at(0, &wrong),
            STATUS_INVALID_PARAMETER,
            "{wrong:?}"
        );
    };
    refused(&|n| n.size = Notification::FIRST as u32 - 1);
    refused(&|n| n.payload = std::ptr::null());
    refused(&|n| n.message = Question::NUMBER);
    refused(&|n| n.message = 64);
    refused(&|n| n.message = 0);
    refused(&|n| n.fixed = 65);
    let notify = interface().notify;
    // SAFETY: a null pointer is no notification.
    let status = unsafe { notify(client.handle, std::ptr::null()) };
    assert_eq!(status, STATUS_INVALID_PARAMETER);
    // SAFETY: 0 is no provider.
    let status = unsafe { notify(NO_PROVIDER, &notification()) };
    assert_eq!(status, STATUS_INVALID_PARAMETER);
    let mut service = Service::connect(&machine);
    let number = service.provider(PROVIDER.name).expect("is registered");
    assert!(service.ledger().iter().all(|row| row.offered == 0));
    service
        .subscribe(number, 1 << Blob::NUMBER, 0)
        .expect("subscribes");
    assert_eq!(client.send_at(0, &notification()), STATUS_SUCCESS);
    let record = service.next().expect("the one that is right");
    assert_eq!((record.header.time, record.payload), (1, payload.to_vec()));
    drop((service, client));
    machine.check();
}

#[test]
fn a_wrong_request_is_not_asked() {
    let machine = machine();
    let client = BareClient::register(&PROVIDER, 0);
    let mut service = Service::connect(&machine);
    let number = service.provider(PROVIDER.name).expect("is registered");
    service
        .subscribe(number, 0, 1 << Question::NUMBER)
        .expect("decides");
    let payload = vec![0_u8; MAX_REQUEST + 1];
    let mut reply = vec![0_u8; MAX_REPLY + 1];
    let reply = reply.as_mut_ptr();
    let table = interface();
    let ask = |change: &dyn Fn(&mut Request)| {
        let mut request = Request {
            size: size_of::<Request>() as u32,
            message: Question::NUMBER,
            fixed: 8,
            payload: payload.as_ptr(),
            length: 8,
            deadline_ms: 1000,
            reply,
            reply_length: 8,
            ..Request::EMPTY
        };
        change(&mut request);
        // SAFETY: a registered handle; buffers of at least the lengths that are said.
        unsafe { (table.request)(client.handle, &raw mut request) }
    };
    let too_short = Request::FIRST as u32 - 1;
    assert_eq!(ask(&|r| r.size = too_short), STATUS_INVALID_PARAMETER);
    assert_eq!(ask(&|r| r.deadline_ms = 0), STATUS_INVALID_PARAMETER);
    assert_eq!(
        ask(&|r| r.deadline_ms = MAX_DEADLINE_MS + 1),
        STATUS_INVALID_PARAMETER
    );
    assert_eq!(
        ask(&|r| r.reply = std::ptr::null_mut()),
        STATUS_INVALID_PARAMETER
    );
    assert_eq!(
        ask(&|r| r.payload = std::ptr::null()),
        STATUS_INVALID_PARAMETER
    );
    assert_eq!(ask(&|r| r.message = Blob::NUMBER), STATUS_INVALID_PARAMETER);
    assert_eq!(ask(&|r| r.fixed = 9), STATUS_INVALID_PARAMETER);
    assert_eq!(
        ask(&|r| r.length = MAX_REQUEST as u32 + 1),
        STATUS_BUFFER_OVERFLOW
    );
    assert_eq!(
        ask(&|r| r.reply_length = MAX_REPLY as u32 + 1),
        STATUS_BUFFER_OVERFLOW
    );
    assert_eq!(at(DISPATCH_LEVEL, || ask(&|_| ())), STATUS_INVALID_LEVEL);
    // SAFETY: a null pointer is no request.
    let nothing = unsafe { (table.request)(client.handle, std::ptr::null_mut()) };
    assert_eq!(nothing, STATUS_INVALID_PARAMETER);
    let mut rows = service.request_rows().into_iter();
    assert!(rows.all(|row| row.asked == 0), "the decider was asked");
    assert!(service.drain_available().is_empty());
    drop((service, client));
    machine.check();
}

#[test]
fn no_provider_has_no_listeners_and_cannot_be_unregistered() {
    let machine = machine();
    // SAFETY: 0 is no provider.
    let listening = unsafe { (interface().listening)(NO_PROVIDER, Blob::NUMBER) };
    assert_eq!(listening, 0);
    // SAFETY: as above.
    unsafe { (interface().lost)(NO_PROVIDER, Blob::NUMBER, 1, 5) };
    unregister(NO_PROVIDER);
    let service = Service::connect(&machine);
    assert!(service.ledger().iter().all(|row| row.offered == 0));
    drop(service);
    machine.check();
}

#[test]
fn a_service_reads_a_schema_by_the_providers_number() {
    let machine = machine();
    let client = BareClient::register(&PROVIDER, 0);
    let service = Service::connect(&machine);
    let number = service.provider(PROVIDER.name).expect("is registered");
    let schema = encoded(&PROVIDER);
    let ask = |number: u32| service.command(0, own::SCHEMA, &number.to_le_bytes());
    assert_eq!(ask(number), Ok(schema.clone()));
    assert_eq!(ask(number + 1), Err(STATUS_NOT_FOUND));
    assert_eq!(
        ask(number + 0x1_0000),
        Err(STATUS_NOT_FOUND),
        "it has 16 bits"
    );
    assert_eq!(
        service.command(0, own::SCHEMA, &[0; 3]),
        Err(STATUS_INVALID_PARAMETER)
    );
    let mut command = b"FPCM\x01\0\x01\0\0\0\0\0\0\0\0\0".to_vec();
    command[6..8].copy_from_slice(&own::SCHEMA.to_le_bytes());
    command[12..16].copy_from_slice(&4_u32.to_le_bytes());
    command.extend(number.to_le_bytes());
    let mut small = vec![0_u8; schema.len() - 1];
    assert!(small.len() < MAX_COMMAND);
    let slice = |bytes: *const u8, length: usize| UserSlice {
        address: bytes.addr() as u64,
        length: length as u32,
    };
    let input = slice(command.as_ptr(), command.len());
    let output = slice(small.as_mut_ptr(), small.len());
    let sent = service.port.send(&service.process, input, output);
    assert_eq!(sent, (STATUS_BUFFER_TOO_SMALL, 0));
    drop((service, client));
    machine.check();
}

#[test]
fn a_connection_outlives_more_providers_than_it_has_places_for() {
    let machine = machine();
    let mut service = Service::connect(&machine);
    for life in 0..3 * MAX_PROVIDERS as u64 {
        let schema = named(format!("life-{life}"));
        let client = BareClient::register(&schema, 0);
        let number = service.provider(schema.name).expect("is registered");
        service
            .subscribe(number, 1 << Blob::NUMBER, 0)
            .expect("a place is found");
        let blob = Blob {
            number: life,
            data: &[],
        };
        assert_eq!(client.notify_at(0, &blob), STATUS_SUCCESS);
        let record = service.drain().pop().expect("it comes");
        assert_eq!(u64::read(&record.payload), Some(life));
        drop(client);
    }
    drop(service);
    machine.check();
}
