// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real machine. Services are changed through the service control manager and read from the
//! registry, where it keeps them.
//!
//! The bindings of windows-sys and not a crate for services: those there are cannot set a load
//! order group.

use super::{Condition, Entry, State, Trouble, Value};
use std::io::{self, Write};
use std::ptr::{null, null_mut};
use std::time::Duration;
use windows_registry::{Key, LOCAL_MACHINE, Type};
use windows_sys::Wdk::System::SystemInformation::{
    NtQuerySystemInformation, SystemCodeIntegrityInformation,
};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_SERVICE_DATABASE_LOCKED,
    ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SHARING_VIOLATION, ERROR_USER_MAPPED_FILE,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Services::{
    ChangeServiceConfigW, CloseServiceHandle, ControlService, CreateServiceW, DeleteService,
    OpenSCManagerW, OpenServiceW, QueryServiceStatus, SC_HANDLE, SC_MANAGER_CONNECT,
    SC_MANAGER_CREATE_SERVICE, SERVICE_CHANGE_CONFIG, SERVICE_CONTROL_STOP, SERVICE_QUERY_STATUS,
    SERVICE_RUNNING, SERVICE_START, SERVICE_START_PENDING, SERVICE_STATUS, SERVICE_STOP,
    SERVICE_STOP_PENDING, SERVICE_STOPPED, StartServiceW,
};
use windows_sys::Win32::System::WindowsProgramming::SYSTEM_CODEINTEGRITY_INFORMATION;

/// The right to delete a service (`DELETE`, a standard right).
const DELETE: u32 = 0x0001_0000;

/// How long the service control manager may be busy.
const BUSY: Duration = Duration::from_secs(20);
/// How long a file may be held after its driver has stopped.
const LET_GO: Duration = Duration::from_secs(5);
/// How long after it something is tried again.
const AGAIN: Duration = Duration::from_millis(200);

const SERVICES: &str = r"SYSTEM\CurrentControlSet\Services";

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    root: String,
}

/// A handle of the service control manager.
struct Handle(SC_HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle was opened by `opened` and is closed only here.
        unsafe { CloseServiceHandle(self.0) };
    }
}

fn last_error() -> u32 {
    io::Error::last_os_error()
        .raw_os_error()
        .map_or(0, i32::cast_unsigned)
}

/// The handle that a call has opened, or why it has not.
fn opened(handle: SC_HANDLE) -> Result<Handle, u32> {
    if handle.is_null() {
        Err(last_error())
    } else {
        Ok(Handle(handle))
    }
}

/// What a call that answers with a BOOL says.
fn done(result: i32) -> Result<(), u32> {
    if result == 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// As lists are passed: each terminated, and then the list. An empty list is not a null pointer,
/// which would mean "no change".
fn wide_list(texts: &[String]) -> Vec<u16> {
    let each = texts.iter().flat_map(|text| wide(text));
    each.chain([0, 0]).collect()
}

fn manager(access: u32) -> Result<Handle, u32> {
    // SAFETY: null stands for this machine and for its active database.
    opened(unsafe { OpenSCManagerW(null(), null(), access) })
}

fn service(name: &str, access: u32) -> Result<Handle, u32> {
    let manager = manager(SC_MANAGER_CONNECT)?;
    let name = wide(name);
    // SAFETY: the manager's handle is open and the name terminated.
    opened(unsafe { OpenServiceW(manager.0, name.as_ptr(), access) })
}

/// The texts of an entry as the service control manager takes them.
struct Texts {
    image: Vec<u16>,
    group: Vec<u16>,
    dependencies: Vec<u16>,
}

impl Texts {
    fn of(entry: &Entry) -> Texts {
        Texts {
            image: wide(&entry.image),
            group: wide(&entry.group),
            dependencies: wide_list(&entry.dependencies),
        }
    }
}

fn create(name: &str, entry: &Entry) -> Result<(), u32> {
    let manager = manager(SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE)?;
    let name = wide(name);
    let texts = Texts::of(entry);
    // SAFETY: the handle is open, all texts are terminated and live on; null stands for the name
    // as display name, no tag, and no account.
    let handle = unsafe {
        CreateServiceW(
            manager.0,
            name.as_ptr(),
            null(),
            SERVICE_QUERY_STATUS,
            entry.kind.number(),
            entry.start.number(),
            entry.error_control,
            texts.image.as_ptr(),
            texts.group.as_ptr(),
            null_mut(),
            texts.dependencies.as_ptr(),
            null(),
            null(),
        )
    };
    opened(handle).map(drop)
}

fn change(name: &str, entry: &Entry) -> Result<(), u32> {
    let service = service(name, SERVICE_CHANGE_CONFIG)?;
    let texts = Texts::of(entry);
    // SAFETY: the handle is open, all texts are terminated and live on; null stands for no tag and
    // for account and display name as they are.
    done(unsafe {
        ChangeServiceConfigW(
            service.0,
            entry.kind.number(),
            entry.start.number(),
            entry.error_control,
            texts.image.as_ptr(),
            texts.group.as_ptr(),
            null_mut(),
            texts.dependencies.as_ptr(),
            null(),
            null(),
            null(),
        )
    })
}

fn delete(name: &str) -> Result<(), u32> {
    let service = service(name, DELETE)?;
    // SAFETY: the handle is open, with the right to delete.
    done(unsafe { DeleteService(service.0) })
}

fn start(name: &str) -> Result<(), u32> {
    let service = service(name, SERVICE_START)?;
    // SAFETY: the handle is open, with the right to start; drivers take no arguments.
    done(unsafe { StartServiceW(service.0, 0, null()) })
}

fn stop(name: &str) -> Result<(), u32> {
    let service = service(name, SERVICE_STOP)?;
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open, with the right to stop; the status is a variable of ours.
    done(unsafe { ControlService(service.0, SERVICE_CONTROL_STOP, &mut status) })
}

fn condition(name: &str) -> Result<Condition, u32> {
    let service = service(name, SERVICE_QUERY_STATUS)?;
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open, with the right to query; the status is a variable of ours.
    done(unsafe { QueryServiceStatus(service.0, &mut status) })?;
    let state = match status.dwCurrentState {
        SERVICE_STOPPED => State::Stopped,
        SERVICE_START_PENDING => State::Starting,
        SERVICE_STOP_PENDING => State::Stopping,
        SERVICE_RUNNING => State::Running,
        other => State::Other(other),
    };
    Ok(Condition {
        state,
        exit_code: status.dwWin32ExitCode,
    })
}

/// Whether this is Wine, by the function of its ntdll that its documentation names for the purpose.
fn is_wine() -> bool {
    let ntdll = wide("ntdll.dll");
    // SAFETY: the name is terminated; every process has the module, and keeps it.
    let ntdll = unsafe { GetModuleHandleW(ntdll.as_ptr()) };
    if ntdll.is_null() {
        return false;
    }
    // SAFETY: the module is there, and the name is terminated. The function is not called.
    unsafe { GetProcAddress(ntdll, c"wine_get_version".as_ptr().cast()) }.is_some()
}

/// The options of code integrity; `None` where they cannot be asked for, or mean nothing: Wine
/// says that it enforces signatures, and does not.
fn code_integrity() -> Option<u32> {
    if is_wine() {
        return None;
    }
    let length = u32::try_from(size_of::<SYSTEM_CODEINTEGRITY_INFORMATION>()).unwrap_or(0);
    let mut information = SYSTEM_CODEINTEGRITY_INFORMATION {
        Length: length,
        CodeIntegrityOptions: 0,
    };
    let mut returned = 0;
    // SAFETY: the structure is a variable of ours and has the length that is passed.
    let status = unsafe {
        NtQuerySystemInformation(
            SystemCodeIntegrityInformation,
            (&raw mut information).cast(),
            length,
            &mut returned,
        )
    };
    (status == 0).then_some(information.CodeIntegrityOptions)
}

/// A call that is made again, for `limit`, as long as it fails with one of these codes.
fn patiently(
    limit: Duration,
    codes: &[u32],
    call: impl Fn() -> Result<(), u32>,
) -> Result<(), u32> {
    let mut left = limit;
    loop {
        match call() {
            Err(code) if codes.contains(&code) && !left.is_zero() => std::thread::sleep(AGAIN),
            other => return other,
        }
        left = left.saturating_sub(AGAIN);
    }
}

/// The service control manager is busy with other changes for some seconds when the machine has
/// started.
fn unless_busy(call: impl Fn() -> Result<(), u32>) -> Result<(), u32> {
    patiently(BUSY, &[ERROR_SERVICE_DATABASE_LOCKED], call)
}

/// A driver's file is let go a moment after the driver has stopped.
fn unless_in_use(call: impl Fn() -> io::Result<()>) -> Result<(), u32> {
    let codes = [
        ERROR_ACCESS_DENIED,
        ERROR_SHARING_VIOLATION,
        ERROR_USER_MAPPED_FILE,
    ];
    patiently(LET_GO, &codes, || {
        call().map_err(|error| code_of_io(&error))
    })
}

/// Writes a file so that it is on the disk when this returns: a name that survives a power failure
/// and a content that does not would be a half written driver.
fn write_through(path: &str, content: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn absent(code: u32) -> bool {
    matches!(code, ERROR_FILE_NOT_FOUND | ERROR_PATH_NOT_FOUND)
}

/// The system's error in what the registry's crate reports.
fn code_of(error: &windows_registry_error::Error) -> u32 {
    let code = error.code().0.cast_unsigned();
    if code >> 16 == 0x8007 {
        code & 0xffff
    } else {
        code
    }
}

/// `None` for what is not there.
fn found<T>(result: windows_registry_error::Result<T>) -> Result<Option<T>, u32> {
    match result.map_err(|error| code_of(&error)) {
        Ok(value) => Ok(Some(value)),
        Err(code) if absent(code) => Ok(None),
        Err(code) => Err(code),
    }
}

/// The error and the result of the registry's crate, which does not name them itself.
mod windows_registry_error {
    pub(super) use windows_result::{Error, Result};
}

/// A key below the services, for reading.
fn open(key: &str) -> Result<Option<Key>, u32> {
    found(LOCAL_MACHINE.open(format!(r"{SERVICES}\{key}")))
}

/// A key below the services, for writing. It must be there.
fn open_to_write(key: &str) -> Result<Key, u32> {
    let mut options = LOCAL_MACHINE.options();
    let opened = options.read().write().open(format!(r"{SERVICES}\{key}"));
    opened.map_err(|error| code_of(&error))
}

fn read_value(key: &str, name: &str) -> Result<Option<Value>, u32> {
    let Some(key) = open(key)? else {
        return Ok(None);
    };
    let Some(raw) = found(key.get_value(name))? else {
        return Ok(None);
    };
    let kept = Value::Other(u32::from(raw.ty()), raw.to_vec());
    let value = match raw.ty() {
        Type::String => String::try_from(raw).map(Value::Text),
        Type::ExpandString => String::try_from(raw).map(Value::Expand),
        Type::MultiString => Vec::<String>::try_from(raw).map(Value::Texts),
        Type::U32 => u32::try_from(raw).map(Value::Number),
        _ => return Ok(Some(kept)),
    };
    Ok(Some(value.unwrap_or(kept)))
}

fn write_value(key: &str, name: &str, value: &Value) -> Result<(), u32> {
    let key = open_to_write(key)?;
    let written = match value {
        Value::Text(text) => key.set_string(name, text),
        Value::Expand(text) => key.set_expand_string(name, text),
        Value::Texts(texts) => {
            let units = wide_list(texts);
            let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            key.set_bytes(name, Type::MultiString, &bytes)
        }
        Value::Number(number) => key.set_u32(name, *number),
        Value::Other(kind, bytes) => key.set_bytes(name, Type::from(*kind), bytes),
    };
    written.map_err(|error| code_of(&error))
}

fn code_of_io(error: &io::Error) -> u32 {
    error.raw_os_error().map_or(0, i32::cast_unsigned)
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let root = std::env::var("SystemRoot").unwrap_or_else(|_| r"C:\Windows".into());
        Machine { root }
    }

    /// The folder of the system, as `C:\Windows`.
    pub(crate) fn system_root(&self) -> String {
        self.root.clone()
    }

    /// Whether this process may create services.
    pub(crate) fn elevated(&self) -> Result<bool, Trouble> {
        match manager(SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE) {
            Ok(_) => Ok(true),
            Err(ERROR_ACCESS_DENIED) => Ok(false),
            Err(code) => Err(Trouble::new(
                "the service control manager cannot be asked",
                code,
            )),
        }
    }

    /// `None` if the service control manager knows no such service.
    pub(crate) fn condition(&self, name: &str) -> Result<Option<Condition>, Trouble> {
        match condition(name) {
            Ok(condition) => Ok(Some(condition)),
            Err(ERROR_SERVICE_DOES_NOT_EXIST) => Ok(None),
            Err(code) => Err(Trouble::new(
                format!("the service {name} cannot be asked for its state"),
                code,
            )),
        }
    }

    pub(crate) fn create(&self, name: &str, entry: &Entry) -> Result<(), Trouble> {
        unless_busy(|| create(name, entry))
            .map_err(|code| Trouble::new(format!("the service {name} cannot be created"), code))
    }

    pub(crate) fn change(&self, name: &str, entry: &Entry) -> Result<(), Trouble> {
        unless_busy(|| change(name, entry))
            .map_err(|code| Trouble::new(format!("the service {name} cannot be changed"), code))
    }

    pub(crate) fn delete(&self, name: &str) -> Result<(), Trouble> {
        unless_busy(|| delete(name))
            .map_err(|code| Trouble::new(format!("the service {name} cannot be deleted"), code))
    }

    /// Asks for the start of a service. The error code, to be explained as one of a start.
    pub(crate) fn start(&self, name: &str) -> Result<(), u32> {
        unless_busy(|| start(name))
    }

    /// Asks for the stop of a service.
    pub(crate) fn stop(&self, name: &str) -> Result<(), Trouble> {
        unless_busy(|| stop(name))
            .map_err(|code| Trouble::new(format!("{name} cannot be stopped"), code))
    }

    /// The names of the keys in a key below the services (all services: ""); `None` if it is not
    /// there.
    pub(crate) fn keys(&self, key: &str) -> Result<Option<Vec<String>>, Trouble> {
        let keys = open(key).and_then(|opened| {
            let Some(opened) = opened else {
                return Ok(None);
            };
            found(opened.keys().map(Iterator::collect))
        });
        keys.map_err(|code| Trouble::new(format!("the registry key {key} cannot be read"), code))
    }

    /// A value of a key below the services; `None` if it is not there.
    pub(crate) fn value(&self, key: &str, name: &str) -> Result<Option<Value>, Trouble> {
        read_value(key, name)
            .map_err(|code| Trouble::new(format!("{key}\\{name} cannot be read"), code))
    }

    /// The names of the values of a key below the services; none if it is not there.
    pub(crate) fn value_names(&self, key: &str) -> Result<Vec<String>, Trouble> {
        let names = open(key).and_then(|opened| {
            let Some(opened) = opened else {
                return Ok(Vec::new());
            };
            let names = found(
                opened
                    .values()
                    .map(|values| values.map(|(name, _)| name).collect()),
            );
            Ok(names?.unwrap_or_default())
        });
        names.map_err(|code| Trouble::new(format!("the registry key {key} cannot be read"), code))
    }

    /// Sets a value of a key that is there.
    pub(crate) fn set(&self, key: &str, name: &str, value: &Value) -> Result<(), Trouble> {
        write_value(key, name, value)
            .map_err(|code| Trouble::new(format!("{key}\\{name} cannot be written"), code))
    }

    pub(crate) fn remove_value(&self, key: &str, name: &str) -> Result<(), Trouble> {
        let removed = open_to_write(key)
            .and_then(|key| key.remove_value(name).map_err(|error| code_of(&error)));
        removed.map_err(|code| Trouble::new(format!("{key}\\{name} cannot be removed"), code))
    }

    pub(crate) fn make_key(&self, key: &str) -> Result<(), Trouble> {
        let made = LOCAL_MACHINE.create(format!(r"{SERVICES}\{key}"));
        made.map(drop).map_err(|error| {
            let what = format!("the registry key {key} cannot be made");
            Trouble::new(what, code_of(&error))
        })
    }

    /// Removes a key with what is in it.
    pub(crate) fn remove_key(&self, key: &str) -> Result<(), Trouble> {
        let removed = LOCAL_MACHINE
            .options()
            .read()
            .write()
            .open(SERVICES)
            .and_then(|services| services.remove_tree(key));
        removed.map_err(|error| {
            let what = format!("the registry key {key} cannot be removed");
            Trouble::new(what, code_of(&error))
        })
    }

    /// A file's content; `None` if it is not there.
    pub(crate) fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>, Trouble> {
        match std::fs::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if absent(code_of_io(&error)) => Ok(None),
            Err(error) => Err(Trouble::new(
                format!("{path} cannot be read"),
                code_of_io(&error),
            )),
        }
    }

    pub(crate) fn has_file(&self, path: &str) -> Result<bool, Trouble> {
        std::fs::exists(path).map_err(|error| {
            Trouble::new(format!("{path} cannot be looked at"), code_of_io(&error))
        })
    }

    /// Writes a file, whole or not at all: a half written driver would be what the next boot loads.
    pub(crate) fn write_file(&self, path: &str, content: &[u8]) -> Result<(), Trouble> {
        let new = format!("{path}.new");
        let written = write_through(&new, content).map_err(|error| code_of_io(&error));
        let written = written.and_then(|()| unless_in_use(|| std::fs::rename(&new, path)));
        written.map_err(|code| {
            // It may not even have been made.
            let _removed = std::fs::remove_file(&new);
            Trouble::new(format!("{path} cannot be written"), code)
        })
    }

    pub(crate) fn remove_file(&self, path: &str) -> Result<(), Trouble> {
        unless_in_use(|| std::fs::remove_file(path))
            .map_err(|code| Trouble::new(format!("{path} cannot be removed"), code))
    }

    /// Whether this is Wine and no Windows.
    pub(crate) fn is_wine(&self) -> bool {
        is_wine()
    }

    /// See [`code_integrity`].
    pub(crate) fn code_integrity(&self) -> Option<u32> {
        code_integrity()
    }

    /// Lets some time pass until a service is asked again.
    pub(crate) fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
