// SPDX-License-Identifier: MIT OR Apache-2.0
//! What user mode asks for on a handle: connect, get, reply, send, load, unload, close.

use alloc::sync::Arc;

use fltmgr::device::{
    CONNECT, ConnectBlock, GET_MESSAGE, LOAD, REPLY_MESSAGE, SEND_MESSAGE, UNLOAD, decode_name,
};
use fltmgr::{ConnectionId, Status};
use fltport_nt::bindings::{DEVICE_OBJECT, IRP, NTSTATUS};
use fltport_nt::ke::SpinLock;

use crate::identity::Identity;
use crate::irp::{Irp, PendedIrp};
use crate::nt::IoReleaseCancelSpinLock;
use crate::table::{self, PortRecord};
use crate::{callback, effects, unload, work};

/// One open handle; on the message device, one connection at most.
struct File {
    state: SpinLock<State>,
}

#[derive(Clone)]
enum State {
    New,
    Connecting,
    Connected {
        connection: ConnectionId,
        port: Arc<PortRecord>,
    },
    Closed,
}

/// The file of a request. To be called where it is dispatched: when a process is killed, Wine closes its files although
/// requests on them are pending, and neither the context nor the file's object is there then.
fn file_of(irp: Irp) -> Arc<File> {
    // SAFETY: the place of the context in an open file's object.
    let context = unsafe { irp.file_context().read() };
    // SAFETY: `open` put one count of an Arc there, which `close` takes.
    unsafe { Arc::increment_strong_count(context.cast::<File>()) };
    // SAFETY: the count taken above is this one's.
    unsafe { Arc::from_raw(context.cast::<File>()) }
}

pub(crate) fn open(irp: Irp) -> NTSTATUS {
    let file = Arc::new(File {
        state: SpinLock::new(State::New),
    });
    let context = Arc::into_raw(file).cast_mut().cast();
    // SAFETY: the place of the context in the new file's object, which is this driver's to use.
    unsafe { irp.file_context().write(context) };
    irp.complete(Status::SUCCESS, 0)
}

/// IRP_MJ_CLEANUP: the last handle is closed.
pub(crate) fn cleanup(irp: Irp) -> NTSTATUS {
    end(&file_of(irp));
    irp.complete(Status::SUCCESS, 0)
}

/// IRP_MJ_CLOSE: nobody refers to the file any more.
pub(crate) fn close(irp: Irp) -> NTSTATUS {
    // SAFETY: the place of the context in the file's object.
    let context = unsafe { irp.file_context().read() };
    // SAFETY: the count that `open` put there, taken once.
    let file = unsafe { Arc::from_raw(context.cast::<File>()) };
    end(&file);
    irp.complete(Status::SUCCESS, 0)
}

fn end(file: &File) {
    let state = core::mem::replace(&mut *file.state.lock(), State::Closed);
    if let State::Connected { connection, .. } = state {
        let effects = table::lock().machine.close_handle(connection);
        // DisconnectNotify is among them, and may wait.
        work::queue(move || effects::execute(effects));
    }
}

/// IRP_MJ_DEVICE_CONTROL.
pub(crate) fn control(irp: Irp) -> NTSTATUS {
    match irp.code() {
        GET_MESSAGE => get(irp),
        REPLY_MESSAGE => reply(irp),
        SEND_MESSAGE => {
            let file = file_of(irp);
            elsewhere(irp, move |irp| send(irp, &file))
        }
        CONNECT => {
            let file = file_of(irp);
            elsewhere(irp, move |irp| connect(irp, &file))
        }
        LOAD => elsewhere(irp, |irp| {
            by_name(irp, unload::load);
        }),
        UNLOAD => elsewhere(irp, |irp| {
            by_name(irp, unload::voluntary);
        }),
        _ => irp.complete(Status::INVALID_DEVICE_REQUEST, 0),
    }
}

/// Has a request dealt with in another thread, on behalf of the process that made it.
fn elsewhere(irp: Irp, run: impl FnOnce(Irp) + Send + 'static) -> NTSTATUS {
    irp.mark_pending();
    let identity = Identity::current();
    work::queue(move || identity.run(|| run(irp)));
    Status::PENDING.0
}

fn by_name(irp: Irp, call: impl FnOnce(&[u16]) -> Result<(), Status>) {
    let result = decode_name(irp.system_buffer()).and_then(|name| call(&name));
    irp.complete(result.err().unwrap_or(Status::SUCCESS), 0);
}

fn connect(irp: Irp, file: &File) {
    let result = ConnectBlock::decode(irp.system_buffer()).and_then(|block| {
        let mut state = file.state.lock();
        if !matches!(*state, State::New) {
            return Err(Status::INVALID_PARAMETER);
        }
        *state = State::Connecting;
        drop(state);
        connect_file(file, &block)
    });
    irp.complete(result.err().unwrap_or(Status::SUCCESS), 0);
}

fn connect_file(file: &File, block: &ConnectBlock) -> Result<(), Status> {
    let connected = connect_port(block);
    let mut state = file.state.lock();
    match (&*state, connected) {
        (State::Connecting, Ok((connection, port))) => {
            *state = State::Connected { connection, port };
            Ok(())
        }
        (State::Connecting, Err(status)) => {
            *state = State::New;
            Err(status)
        }
        // The handle was closed meanwhile.
        (_, Ok((connection, _))) => {
            drop(state);
            let effects = table::lock().machine.close_handle(connection);
            effects::execute(effects);
            Err(Status::CANCELLED)
        }
        (_, Err(status)) => Err(status),
    }
}

fn connect_port(block: &ConnectBlock) -> Result<(ConnectionId, Arc<PortRecord>), Status> {
    let mut tables = table::lock();
    let context = &block.context;
    let connecting = tables
        .machine
        .connect_begin(&block.name, context.len(), |_| true)?;
    let port = tables.ports.get(&connecting.port).cloned();
    drop(tables);
    let answer = match &port {
        Some(port) => callback::connect(port, &connecting, context),
        None => Err(Status::OBJECT_NAME_NOT_FOUND),
    };
    let id = connecting.connection;
    let (result, effects) = table::lock().machine.connect_finish(id, answer);
    effects::execute(effects);
    result?;
    let port = port.ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
    Ok((id, port))
}

/// The file's connection.
fn connection_of(file: &File) -> Result<(ConnectionId, Arc<PortRecord>), Status> {
    match &*file.state.lock() {
        State::Connected { connection, port } => Ok((*connection, port.clone())),
        _ => Err(Status::INVALID_DEVICE_REQUEST),
    }
}

fn get(irp: Irp) -> NTSTATUS {
    let (connection, _) = match connection_of(&file_of(irp)) {
        Ok(connected) => connected,
        Err(status) => return irp.complete(status, 0),
    };
    let mut tables = table::lock();
    let Some(pended) = PendedIrp::pend(irp, Some(cancel)) else {
        drop(tables);
        irp.complete(Status::CANCELLED, 0);
        return Status::PENDING.0;
    };
    let (id, effects) = tables.machine.get(connection, irp.output_length());
    tables.gets.insert(id, (connection, pended));
    drop(tables);
    effects::execute(effects);
    Status::PENDING.0
}

/// The cancel routine of a get; called with the cancel lock held.
unsafe extern "system" fn cancel(_: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: whoever completes a get has the cancel lock in between, so the request exists.
    let irql = unsafe { (*irp).CancelIrql };
    // Only its address from here on: it may be completed as soon as the lock is released.
    let address = irp as usize;
    let mut tables = table::lock();
    let mut gets = tables.gets.iter();
    let get = gets.find_map(|(id, (connection, get))| {
        (get.address() == address).then_some((*connection, *id))
    });
    let effects = get.map(|(connection, get)| tables.machine.cancel_get(connection, get));
    drop(tables);
    // SAFETY: the lock that this routine was called with.
    unsafe { IoReleaseCancelSpinLock(irql) };
    effects::execute(effects.unwrap_or_default());
}

fn reply(irp: Irp) -> NTSTATUS {
    let (connection, _) = match connection_of(&file_of(irp)) {
        Ok(connected) => connected,
        Err(status) => return irp.complete(status, 0),
    };
    let (result, effects) = table::lock().machine.reply(connection, irp.input());
    effects::execute(effects);
    irp.complete(result.err().unwrap_or(Status::SUCCESS), 0)
}

fn send(irp: Irp, file: &File) {
    let (connection, port) = match connection_of(file) {
        Ok(connected) => connected,
        Err(status) => {
            irp.complete(status, 0);
            return;
        }
    };
    let begun = table::lock().machine.message_begin(connection);
    let (call, cookie) = match begun {
        Ok(begun) => begun,
        Err(status) => {
            irp.complete(status, 0);
            return;
        }
    };
    let (status, count) = callback::message(&port, cookie, &irp.user_buffers());
    let mut tables = table::lock();
    let returned = tables.machine.decisions().bytes_returned(status, count);
    let effects = tables.machine.message_end(call);
    drop(tables);
    irp.complete(status, returned as usize);
    effects::execute(effects);
}
