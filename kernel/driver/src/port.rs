// SPDX-License-Identifier: MIT OR Apache-2.0
//! What services do at the port: connect, disconnect, send commands.

use crate::access::Access;
use crate::command;
use crate::connection::{Alive, Connection, Identity};
use crate::driver::{DRIVER, Driver};
use crate::receiver::Receiver;
use crate::retention::Retention;
use crate::rings;
use crate::stream::Stream;
use crate::tag;
use fltport_abi::account::Refusal;
use fltport_abi::command::{Command, own};
use fltport_abi::common_driver;
use fltport_abi::hello::{Hello, StreamHello};
use fltport_abi::limits::MAX_COMMAND;
use fltport_abi::status;
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_BUFFER_TOO_SMALL, STATUS_CONNECTION_COUNT_LIMIT,
    STATUS_DELETE_PENDING, STATUS_DEVICE_NOT_READY, STATUS_INVALID_PARAMETER,
    STATUS_PORT_DISCONNECTED, STATUS_REVISION_MISMATCH,
};
use fltport_nt::ex::{PoolArc, PoolBox, PoolBytes};
use fltport_nt::flt::{ClientPort, PendingPort, PortCallbacks};
use fltport_nt::ke::system_time;
use fltport_nt::linked::STATUS_INVALID_MESSAGE;
use fltport_nt::user_memory::UserBuffer;
use fltport_nt::{NtError, Result, ps};

/// The protocol version that brought streams.
const STREAMS_SINCE: u16 = 2;

/// Before a service is let in: ends the connection that had its stream, whose requesters then ask
/// this one, and accounts for what the service says it has dealt with. From here on nothing of the
/// stream reaches the former connection.
fn go_on(driver: &Driver, identity: &Identity, former: Option<PoolBox<Receiver>>) {
    if let Some(former) = former {
        former.connection.end();
        while driver.routes().lock().settle_stream(identity.number) {}
    }
    // A stream that was not wanted any more may be over now.
    driver.look_after_streams();
}

/// Counts why a service did not get the place that it wanted.
fn refused_place(driver: &Driver, error: NtError) -> NtError {
    let reason = match error.status() {
        STATUS_CONNECTION_COUNT_LIMIT => Refusal::TooMany,
        STATUS_ACCESS_DENIED => Refusal::ProviderRight,
        status::CONNECTION_ACTIVE | status::CONNECTION_ABORTED => Refusal::StreamTaken,
        status::CONNECTION_INVALID | status::END_OF_FILE => Refusal::BadResume,
        _ => return error,
    };
    driver.refusals().refuse(reason, error.status())
}

/// Gives a service its place, and takes its port. The second half of a connect, and not one function
/// with the first: what that has on the stack is of no use any more.
#[inline(never)]
fn admit(
    driver: &PoolArc<Driver>,
    port: PendingPort,
    (hello, version): (&Hello, u16),
    access: Access,
    wanted: Option<&StreamHello>,
) -> Result<usize> {
    let filter = driver.filter().ok_or(NtError(STATUS_DEVICE_NOT_READY))?;
    let client_port = ClientPort::new(tag::CONNECTION, &filter)?;
    let identity = Identity {
        number: driver.next_connection(),
        pid: ps::current_process_id(),
        since: system_time(),
        rights: hello.rights,
        generation: hello.generation,
        version,
        name: hello.name,
    };
    let connection = Connection::new(driver, identity, access, client_port)?;
    let stream = wanted.map(|wanted| Stream::new(wanted, identity.number));
    let receiver = Receiver::new(connection.clone(), stream.transpose()?)?;
    Connection::start_sender(&connection)?;
    let attached = driver.routes().lock().attach(receiver, wanted);
    let refusal = match attached {
        Ok(former) => {
            go_on(driver, &identity, former);
            // The port is taken last: once it is taken, this must not fail any more. And this
            // look comes after the connection can be found, while the unload closes the census
            // before it looks for connections: one of the two ends this one.
            if !driver.is_closing() && connection.accept(port) {
                return Ok(identity.number as usize);
            }
            STATUS_DELETE_PENDING
        }
        Err((receiver, error)) => {
            drop(receiver);
            let error = refused_place(driver, error);
            error.status()
        }
    };
    driver.end_connection(&connection);
    Err(NtError(refusal))
}

/// The server port's callbacks. The cookie is the connection's number.
pub(crate) struct Callbacks;

impl PortCallbacks for Callbacks {
    fn connect(port: PendingPort, context: &[u8]) -> Result<usize> {
        let driver = DRIVER.get().ok_or(NtError(STATUS_DELETE_PENDING))?;
        // Dropped after everything that holds the filter.
        let _alive = Alive::new(&driver)?;
        let refuse = |reason, status| driver.refusals().refuse(reason, status);
        let hello = Hello::parse(context)
            .ok_or_else(|| refuse(Refusal::BadHello, STATUS_INVALID_PARAMETER))?;
        let version = hello
            .common_version()
            .ok_or_else(|| refuse(Refusal::Version, STATUS_REVISION_MISMATCH))?;
        let wanted = StreamHello::parse(context)
            .ok()
            .filter(|wanted| wanted.is_none() || version >= STREAMS_SINCE)
            .ok_or_else(|| refuse(Refusal::BadHello, STATUS_INVALID_PARAMETER))?;
        let access = Access::judge(&driver, hello.rights)?;
        if wanted.is_some() {
            Retention::ensure(&driver)?;
        }
        admit(&driver, port, (&hello, version), access, wanted.as_ref())
    }

    fn disconnect(cookie: usize) {
        if let Some(driver) = DRIVER.get() {
            let connection = driver.routes().lock().find(cookie as u32);
            if let Some(connection) = connection {
                driver.end_connection(&connection);
            }
        }
    }

    fn message(cookie: usize, input: UserBuffer, output: UserBuffer) -> Result<usize> {
        let driver = DRIVER.get().ok_or(NtError(STATUS_DELETE_PENDING))?;
        let connection = driver.routes().lock().find(cookie as u32);
        let connection = connection.ok_or(NtError(STATUS_PORT_DISCONNECTED))?;
        connection.access.judge_caller(&driver)?;
        connection.note_heard_of();
        let malformed = || {
            let refusals = driver.refusals();
            refusals.refuse(Refusal::BadCommand, STATUS_INVALID_PARAMETER)
        };
        if input.len() > MAX_COMMAND {
            return Err(malformed());
        }
        // Captured once; from here on the service cannot change it.
        let mut captured = PoolBytes::zeroed(tag::BUFFER, input.len())?;
        input.copy_in(&mut captured)?;
        let mut result = PoolBytes::zeroed(tag::BUFFER, output.len().min(MAX_COMMAND))?;
        let command = Command::parse(&captured).ok_or_else(malformed)?;
        connection.access.judge_command(&driver, &command)?;
        let length = command::run(&driver, &connection, &command, &mut result)
            .map_err(|error| counted(&driver, &command, error))?;
        let result = result
            .get(..length)
            .ok_or(NtError(STATUS_BUFFER_TOO_SMALL))?;
        let copied = output.copy_out(result);
        if (command.header.provider, command.header.command) == (0, own::RINGS) {
            rings::begin(&driver, &connection, copied.is_ok());
        }
        copied.map(|()| length)
    }
}

/// Counts the refusal of a command to the driver itself, if it is one that an operator should know of.
/// What a provider refuses is its own business.
fn counted(driver: &Driver, command: &Command<'_>, error: NtError) -> NtError {
    if command.header.provider != common_driver::NUMBER.into() {
        return error;
    }
    let reason = match (command.header.command, error) {
        (own::SUBSCRIBE_FILTERED, NtError(STATUS_INVALID_PARAMETER | STATUS_INVALID_MESSAGE)) => {
            Refusal::BadFilter
        }
        (own::ACKNOWLEDGE, NtError(status::CONNECTION_INVALID | status::END_OF_FILE)) => {
            Refusal::BadAcknowledgement
        }
        (_, NtError(STATUS_INVALID_PARAMETER)) => Refusal::BadCommand,
        // What is granted has been judged before.
        (_, NtError(STATUS_ACCESS_DENIED)) => Refusal::RightNotAsked,
        _ => return error,
    };
    driver.refusals().refuse(reason, error.status())
}
