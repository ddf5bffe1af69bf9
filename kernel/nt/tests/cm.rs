// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registry callbacks on the hosted kernel: what an observer is told, and what it may refuse.

use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, REG_BINARY, STATUS_ACCESS_DENIED,
    STATUS_FLT_INSTANCE_ALTITUDE_COLLISION, STATUS_OBJECT_NAME_NOT_FOUND, UNICODE_STRING,
};
use fltport_nt::cm::{Change, Completed, Operation, RegistryCallback, RegistryObserver};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result, utf16};
use nt_host::faults::sweep;
use nt_host::registry::{Disposition, Value};
use nt_host::{Config, DriverImage, Kernel};
use std::sync::Mutex;

const TAG: Tag = Tag::new(b"Test");
const KEY: &str = "\\Registry\\Machine\\Software\\Vendor";

static NOTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
static CALLBACK: Global<RegistryCallback<Notes>> = Global::empty();

fn note(text: String) {
    NOTED.lock().unwrap().push(text);
}

/// Notes what it is told, keeps a number of its own, and refuses values named `forbidden`.
struct Notes;

fn text(units: &[u16]) -> String {
    String::from_utf16_lossy(units)
}

fn describe(operation: &Operation<'_>) -> String {
    let path = operation.key.path().map(|path| text(&path));
    let path = path.unwrap_or_else(|error| format!("{error}"));
    match operation.change {
        Change::CreateKey { path: new } => format!("create {path} {}", text(new)),
        Change::DeleteKey => format!("delete {path}"),
        Change::RenameKey { new_name } => format!("rename {path} {}", text(new_name)),
        Change::SetValue { name, kind, data } => {
            format!("set {path} {} {kind} {data:?}", text(name))
        }
        Change::DeleteValue { name } => format!("delete {path} {}", text(name)),
    }
}

impl RegistryObserver for Notes {
    fn before(&self, operation: &Operation<'_>) -> Result<usize> {
        note(describe(operation));
        match operation.change {
            Change::SetValue { name, .. } if text(name) == "forbidden" => {
                Err(NtError(STATUS_ACCESS_DENIED))
            }
            _ => Ok(7),
        }
    }

    fn after(&self, completed: &Completed<'_>) {
        assert_eq!(completed.kept, 7);
        let created = completed
            .created()
            .map(|key| key.path().map(|path| text(&path)));
        note(format!("{:#x} {created:?}", completed.status));
    }
}

unsafe extern "system" fn entry(
    driver: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: NT passes this driver's object; nothing made from it outlives the unload.
    let object = unsafe { DriverObject::new(driver) };
    object.set_unload(unload);
    to_status(register(object))
}

fn register(object: DriverObject) -> Result<()> {
    let callback = RegistryCallback::register(object, TAG, utf16!("370000"), Notes)?;
    CALLBACK.replace(Some(PoolArc::new(TAG, callback)?));
    let second = RegistryCallback::register(object, TAG, utf16!("370000"), Notes);
    note(format!("{:?}", second.err().map(NtError::status)));
    Ok(())
}

unsafe extern "system" fn unload(_driver: *const DRIVER_OBJECT) {
    drop(CALLBACK.replace(None));
}

const IMAGE: DriverImage = DriverImage {
    name: "observer",
    entry,
    force_integrity: false,
};

#[test]
fn an_observer_is_told_before_and_after_and_may_refuse() {
    let kernel = Kernel::boot(Config::default());
    kernel.registry().create_path(KEY);
    kernel.load(&IMAGE).unwrap();
    let user = kernel.peer(100, 1000);
    let registry = kernel.registry_of(&user);
    let value = Value {
        kind: REG_BINARY,
        data: vec![1, 2],
    };
    let new = format!("{KEY}\\New");
    registry.create_key(&new).unwrap();
    registry.create_key(&new).unwrap();
    registry.set_value(KEY, "value", &value).unwrap();
    let refused = registry.set_value(KEY, "forbidden", &value);
    assert_eq!(refused, Err(STATUS_ACCESS_DENIED));
    registry.delete_value(KEY, "value").unwrap();
    let missing = registry.delete_value(KEY, "value");
    assert_eq!(missing, Err(STATUS_OBJECT_NAME_NOT_FOUND));
    registry.rename_key(&new, "Newer").unwrap();
    registry.delete_key(&format!("{KEY}\\Newer")).unwrap();
    let create = format!("create \\Registry {new}");
    let done = String::from("0x0 None");
    let expected = [
        format!("{:?}", Some(STATUS_FLT_INSTANCE_ALTITUDE_COLLISION)),
        create.clone(),
        format!("0x0 Some(Ok({new:?}))"),
        create,
        done.clone(),
        format!("set {KEY} value 3 [1, 2]"),
        done.clone(),
        format!("set {KEY} forbidden 3 [1, 2]"),
        format!("delete {KEY} value"),
        done.clone(),
        format!("delete {KEY} value"),
        format!("{:#x} None", STATUS_OBJECT_NAME_NOT_FOUND),
        format!("rename {new} Newer"),
        done.clone(),
        format!("delete {KEY}\\Newer"),
        done,
    ];
    assert_eq!(std::mem::take(&mut *NOTED.lock().unwrap()), expected);
    kernel.shutdown_clean();
}

#[test]
fn every_failure_on_the_way_is_survived() {
    let swept = sweep(|config| {
        let kernel = Kernel::boot(config);
        kernel.registry().create_path(KEY);
        if kernel.load(&IMAGE) == Ok(()) {
            let user = kernel.peer(100, 1000);
            let registry = kernel.registry_of(&user);
            assert_eq!(
                registry.create_key(&format!("{KEY}\\New")),
                Ok(Disposition::Created)
            );
            let set = registry.set_value(KEY, "value", &Value::dword(1));
            assert_eq!(set, Ok(()));
        }
        NOTED.lock().unwrap().clear();
        kernel.shutdown_clean();
    });
    // The memory of the observer and of its owner, the registrations, the paths, the disposition.
    assert!(swept.runs() > 6, "{swept}");
}
