// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registry callbacks: what they are told, in which order, what they may refuse, and drivers that
//! misuse them.

#![allow(non_upper_case_globals, reason = "NT's names of the classes")]

mod support;

use fltport_nt::bindings::*;
use nt_host::registry::{Disposition, Value};
use nt_host::{Config, DriverImage, Kernel, Process, Rule, Unload, clock, irql};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use support::*;

const NAME: &str = "cm";
const SOFTWARE: &str = "\\Registry\\Machine\\Software";
const KEY: &str = "\\Registry\\Machine\\Software\\Vendor";
const PID: u64 = 100;

/// What the driver does when it is told: its context, the class, the structure.
type Answer = fn(usize, REG_NOTIFY_CLASS, *mut c_void) -> NTSTATUS;

static ANSWER: Mutex<Answer> = Mutex::new(|_, _, _| STATUS_SUCCESS);
/// The altitudes that the entry registers, with the contexts 0, 1, ...
static ALTITUDES: Mutex<&[&str]> = Mutex::new(&[]);
static COOKIES: Mutex<Vec<i64>> = Mutex::new(Vec::new());
/// The unload routine leaves its callbacks registered.
static LEAVES: AtomicBool = AtomicBool::new(false);
static OBJECT: AtomicUsize = AtomicUsize::new(0);
static NOTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(text: String) {
    NOTED.lock().unwrap().push(text);
}

fn noted() -> Vec<String> {
    std::mem::take(&mut *NOTED.lock().unwrap())
}

unsafe extern "system" fn callback(
    context: *mut c_void,
    class: *mut c_void,
    information: *mut c_void,
) -> NTSTATUS {
    let answer = *ANSWER.lock().unwrap();
    answer(context as usize, class as usize as i32, information)
}

/// A driver's registration; the cookie, or the status.
fn register(altitude: &str, context: usize) -> Result<i64, NTSTATUS> {
    type Callback = unsafe extern "system" fn(*mut c_void, *mut c_void, *mut c_void) -> NTSTATUS;
    let callback: Callback = callback;
    // SAFETY: the bindings leave the arguments out.
    let callback = unsafe {
        std::mem::transmute::<Callback, unsafe extern "system" fn() -> NTSTATUS>(callback)
    };
    let mut cookie = 0;
    let driver = OBJECT.load(Ordering::SeqCst) as *const c_void;
    // SAFETY: a callback, a string, the driver's object and memory for the cookie.
    let status = unsafe {
        CmRegisterCallbackEx(
            Some(callback),
            string(altitude),
            driver,
            context as *const c_void,
            &raw mut cookie,
            null(),
        )
    };
    if status == STATUS_SUCCESS {
        Ok(cookie)
    } else {
        Err(status)
    }
}

fn unregister(cookie: i64) -> NTSTATUS {
    // SAFETY: a cookie, unless that is the test's intent, and found.
    unsafe { CmUnRegisterCallback(cookie) }
}

unsafe extern "system" fn entry(
    object: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    OBJECT.store(object as usize, Ordering::SeqCst);
    let altitudes = *ALTITUDES.lock().unwrap();
    let cookies = altitudes.iter().enumerate();
    let cookies = cookies.map(|(context, altitude)| register(altitude, context).unwrap());
    *COOKIES.lock().unwrap() = cookies.collect();
    STATUS_SUCCESS
}

unsafe extern "system" fn unload(_object: *const DRIVER_OBJECT) {
    for cookie in std::mem::take(&mut *COOKIES.lock().unwrap()) {
        if !LEAVES.load(Ordering::SeqCst) {
            unregister(cookie);
        }
    }
}

/// A kernel with a key and the driver, which registers at these altitudes and answers so.
fn start(altitudes: &'static [&'static str], answer: Answer) -> Kernel {
    let kernel = Kernel::boot(Config::default());
    // What hangs is found out soon.
    nt_host::flt::configure(nt_host::flt::Decisions::default(), clock::SECOND / 20);
    kernel.registry().create_path(KEY);
    *ANSWER.lock().unwrap() = answer;
    *ALTITUDES.lock().unwrap() = altitudes;
    LEAVES.store(false, Ordering::SeqCst);
    drop(noted());
    let image = DriverImage {
        name: NAME,
        entry,
        force_integrity: false,
    };
    kernel.load(&image).unwrap();
    kernel
}

fn user(kernel: &Kernel) -> Arc<Process> {
    kernel.peer(PID as u32, 1000)
}

fn cookie() -> i64 {
    COOKIES.lock().unwrap()[0]
}

/// A member of the structure that goes with a class.
fn read<T>(information: *mut c_void) -> &'static mut T {
    // SAFETY: the tests ask for the structure of the class; it lives as long as the callback.
    unsafe { &mut *information.cast::<T>() }
}

fn text(string: *const UNICODE_STRING) -> String {
    // SAFETY: null or a string of the kernel's.
    let units = unsafe { fltport_nt::rtl::units_of(string) };
    String::from_utf16_lossy(units.unwrap_or_default())
}

/// A key's path and number, as the kernel gives them.
fn path_of(object: *mut c_void) -> Result<(String, usize), NTSTATUS> {
    let (cookie, mut id, mut name) = (cookie(), 0, null_mut());
    // SAFETY: a cookie, an object, unless that is the test's intent, and memory for the results.
    let status = unsafe {
        CmCallbackGetKeyObjectIDEx(&raw const cookie, object, &raw mut id, &raw mut name, 0)
    };
    if status != STATUS_SUCCESS {
        return Err(status);
    }
    let path = text(name);
    // SAFETY: given above.
    unsafe { CmCallbackReleaseKeyObjectIDEx(name) };
    Ok((path, id))
}

/// The key object of a structure that begins with one.
fn object(information: *mut c_void) -> *mut c_void {
    read::<REG_DELETE_KEY_INFORMATION>(information).Object
}

fn describe(class: REG_NOTIFY_CLASS, information: *mut c_void) -> String {
    match class {
        RegNtPreCreateKeyEx | RegNtPreOpenKeyEx => {
            let told = read::<REG_CREATE_KEY_INFORMATION_V1>(information);
            let verb = if class == RegNtPreOpenKeyEx {
                "open"
            } else {
                "create"
            };
            let (root, _) = path_of(told.RootObject).unwrap();
            format!(
                "{verb} {} | {root} {}",
                text(told.CompleteName),
                text(told.RemainingName)
            )
        }
        RegNtPreSetValueKey => {
            let told = read::<REG_SET_VALUE_KEY_INFORMATION>(information);
            let (path, _) = path_of(told.Object).unwrap();
            // SAFETY: the kernel's copy of the data.
            let data = unsafe {
                std::slice::from_raw_parts(told.Data.cast::<u8>(), told.DataSize as usize)
            };
            format!("set {path} {} {} {data:?}", text(told.ValueName), told.Type)
        }
        RegNtPreDeleteValueKey => {
            let told = read::<REG_DELETE_VALUE_KEY_INFORMATION>(information);
            format!(
                "delete {} {}",
                path_of(told.Object).unwrap().0,
                text(told.ValueName)
            )
        }
        RegNtPreRenameKey => {
            let told = read::<REG_RENAME_KEY_INFORMATION>(information);
            format!(
                "rename {} {}",
                path_of(told.Object).unwrap().0,
                text(told.NewName)
            )
        }
        RegNtPreDeleteKey => format!("delete {}", path_of(object(information)).unwrap().0),
        _ => {
            let told = read::<REG_POST_OPERATION_INFORMATION>(information);
            format!("after {class}: {:#x}", told.Status)
        }
    }
}

#[test]
fn a_callback_is_told_of_every_change() {
    let kernel = start(&["370000"], |_, class, information| {
        // SAFETY: takes nothing.
        let (pid, level) = (unsafe { PsGetCurrentProcessId() } as u64, irql::current());
        assert_eq!((pid, level), (PID, irql::PASSIVE_LEVEL));
        note(describe(class, information));
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    let registry = kernel.registry_of(&user);
    let value = Value {
        kind: REG_BINARY,
        data: vec![1, 2, 3],
    };
    let new = format!("{KEY}\\New");
    assert_eq!(registry.create_key(&new), Ok(Disposition::Created));
    assert_eq!(registry.create_key(&new), Ok(Disposition::Opened));
    registry.set_value(KEY, "Name", &value).unwrap();
    registry.delete_value(KEY, "Name").unwrap();
    registry.rename_key(&new, "Newer").unwrap();
    registry.delete_key(&format!("{KEY}\\Newer")).unwrap();
    assert_eq!(registry.delete_key(&new), Err(STATUS_OBJECT_NAME_NOT_FOUND));
    let relative = "Machine\\Software\\Vendor";
    let opened = |verb, path: &str| {
        vec![
            format!("{verb} \\Registry\\{relative}{path} | \\Registry {relative}{path}"),
            format!("after {}: 0x0", if verb == "open" { 29 } else { 27 }),
        ]
    };
    let mut expected = [opened("create", "\\New"), opened("create", "\\New")].concat();
    expected.extend(opened("open", ""));
    expected.extend([
        format!("set {KEY} Name 3 [1, 2, 3]"),
        "after 16: 0x0".into(),
    ]);
    expected.extend(opened("open", ""));
    expected.extend([format!("delete {KEY} Name"), "after 17: 0x0".into()]);
    expected.extend(opened("open", "\\New"));
    expected.extend([format!("rename {new} Newer"), "after 19: 0x0".into()]);
    expected.extend(opened("open", "\\Newer"));
    expected.extend([format!("delete {KEY}\\Newer"), "after 15: 0x0".into()]);
    let [before, _] = opened("open", "\\New").try_into().unwrap();
    expected.extend([before, "after 29: 0xc0000034".into()]);
    assert_eq!(noted(), expected);
    kernel.shutdown_clean();
}

#[test]
fn the_highest_altitude_is_told_first_before_and_last_after() {
    let kernel = start(&["370000", "380000.5", "9"], |context, class, _| {
        note(format!("{context} {class}"));
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel.registry_of(&user).create_key(KEY).unwrap();
    assert_eq!(noted(), ["1 26", "0 26", "2 26", "2 27", "0 27", "1 27"]);
    kernel.shutdown_clean();
}

#[test]
fn an_altitude_is_taken_once_and_is_a_number() {
    let kernel = start(&["370000"], |_, _, _| STATUS_SUCCESS);
    assert_eq!(
        register("0370000.0", 1),
        Err(STATUS_FLT_INSTANCE_ALTITUDE_COLLISION)
    );
    assert_eq!(register("high", 1), Err(STATUS_INVALID_PARAMETER));
    let second = register("370000.1", 1).unwrap();
    assert_eq!(unregister(second), STATUS_SUCCESS);
    let again = register("370000.1", 1).unwrap();
    assert_eq!(unregister(again), STATUS_SUCCESS);
    kernel.shutdown_clean();
}

#[test]
fn a_refusal_ends_the_operation_and_the_telling() {
    let kernel = start(&["3", "2", "1"], |context, class, _| {
        note(format!("{context} {class}"));
        match (context, class) {
            (1, RegNtPreSetValueKey) => STATUS_ACCESS_DENIED,
            _ => STATUS_SUCCESS,
        }
    });
    let user = user(&kernel);
    let set = kernel
        .registry_of(&user)
        .set_value(KEY, "Name", &Value::dword(1));
    assert_eq!(set, Err(STATUS_ACCESS_DENIED));
    assert_eq!(
        kernel.registry().value(KEY, "Name"),
        Err(STATUS_OBJECT_NAME_NOT_FOUND)
    );
    assert_eq!(noted()[6..], ["0 1", "1 1"]);
    kernel.shutdown_clean();
}

#[test]
fn a_callback_may_do_the_operation_itself_or_change_its_outcome() {
    let kernel = start(&["3"], |_, class, information| match class {
        RegNtPreSetValueKey => STATUS_CALLBACK_BYPASS,
        RegNtPostDeleteValueKey => {
            let over = read::<REG_POST_OPERATION_INFORMATION>(information);
            assert_eq!(over.Status, STATUS_OBJECT_NAME_NOT_FOUND);
            over.ReturnStatus = STATUS_SUCCESS;
            STATUS_CALLBACK_BYPASS
        }
        _ => STATUS_SUCCESS,
    });
    let user = user(&kernel);
    let registry = kernel.registry_of(&user);
    assert_eq!(registry.set_value(KEY, "Name", &Value::dword(1)), Ok(()));
    assert!(
        kernel.registry().value(KEY, "Name").is_err(),
        "nobody has set it"
    );
    assert_eq!(registry.delete_value(KEY, "Name"), Ok(()));
    kernel.shutdown_clean();
}

#[test]
fn a_key_keeps_its_number_when_its_name_changes() {
    let kernel = start(&["3"], |_, class, information| {
        if matches!(class, RegNtPreRenameKey | RegNtPostRenameKey) {
            let (path, id) = path_of(object(information)).unwrap();
            note(path);
            note(id.to_string());
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel.registry_of(&user).rename_key(KEY, "Other").unwrap();
    let [before, first, after, second] = noted().try_into().unwrap();
    assert_eq!([before, after], [KEY.into(), format!("{SOFTWARE}\\Other")]);
    assert_eq!(first, second);
    kernel.shutdown_clean();
}

#[test]
fn a_deleted_key_has_no_path() {
    let kernel = start(&["3"], |_, class, information| {
        if class == RegNtPostDeleteKey {
            note(format!("{:?}", path_of(object(information))));
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel.registry_of(&user).delete_key(KEY).unwrap();
    assert_eq!(noted(), [format!("Err({STATUS_KEY_DELETED})")]);
    kernel.shutdown_clean();
}

#[test]
fn what_is_kept_before_is_there_after() {
    let kernel = start(&["3", "4"], |context, class, information| {
        match class {
            RegNtPreSetValueKey => {
                let told = read::<REG_SET_VALUE_KEY_INFORMATION>(information);
                assert!(told.CallContext.is_null());
                told.CallContext = (context + 1) as *mut c_void;
            }
            RegNtPostSetValueKey => {
                let over = read::<REG_POST_OPERATION_INFORMATION>(information);
                let told = read::<REG_SET_VALUE_KEY_INFORMATION>(over.PreInformation);
                assert_eq!(over.CallContext as usize, context + 1);
                assert_eq!(told.CallContext as usize, context + 1);
                note(context.to_string());
            }
            _ => {}
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel
        .registry_of(&user)
        .set_value(KEY, "Name", &Value::dword(1))
        .unwrap();
    assert_eq!(noted(), ["0", "1"]);
    kernel.shutdown_clean();
}

/// What a driver finds where it stands whether a key is new.
fn disposition(information: *mut c_void) -> UserDisposition {
    let over = read::<REG_POST_OPERATION_INFORMATION>(information);
    UserDisposition(read::<REG_CREATE_KEY_INFORMATION_V1>(over.PreInformation).Disposition)
}

struct UserDisposition(*mut u32);

impl UserDisposition {
    fn copied(&self) -> u32 {
        let mut bytes = [0; 4];
        let buffer = fltport_nt::user_memory::UserBuffer::new(self.0.cast(), 4);
        assert_eq!(buffer.copy_in(&mut bytes), Ok(4));
        u32::from_le_bytes(bytes)
    }
}

#[test]
fn the_disposition_is_the_users_memory() {
    let kernel = start(&["3"], |_, class, information| {
        if class == RegNtPostCreateKeyEx {
            note(disposition(information).copied().to_string());
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    for _ in 0..2 {
        kernel
            .registry_of(&user)
            .create_key(&format!("{KEY}\\New"))
            .unwrap();
    }
    assert_eq!(
        noted(),
        [
            REG_CREATED_NEW_KEY.to_string(),
            REG_OPENED_EXISTING_KEY.to_string()
        ]
    );
    kernel.shutdown_clean();
}

#[test]
fn a_touched_disposition_is_reported() {
    let kernel = start(&["3"], |_, class, information| {
        if class == RegNtPostCreateKeyEx {
            // SAFETY: the kernel opens the page for the rest of the callback.
            note(unsafe { disposition(information).0.read_volatile() }.to_string());
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel
        .registry_of(&user)
        .create_key(&format!("{KEY}\\New"))
        .unwrap();
    assert_eq!(noted().len(), 1);
    expect(kernel, &[Rule::UserMemoryTouched]);
}

#[test]
fn drivers_own_operations_are_told_of_too() {
    let kernel = start(&["3"], |_, class, information| {
        note(describe(class, information));
        STATUS_SUCCESS
    });
    let attributes = attributes(KEY, null_mut(), OBJ_KERNEL_HANDLE);
    let mut key = null_mut();
    // SAFETY: valid attributes and memory for the handle.
    let opened = unsafe { ZwOpenKey(&raw mut key, KEY_ALL_ACCESS, &raw const attributes) };
    assert_eq!(opened, STATUS_SUCCESS);
    let (name, data) = (string("Name"), [7_u8]);
    // SAFETY: an open key, a string and a byte.
    let set = unsafe { ZwSetValueKey(key, name, 0, REG_BINARY, data.as_ptr().cast(), 1) };
    // SAFETY: an open key and a string.
    let deleted = unsafe { ZwDeleteValueKey(key, name) };
    // SAFETY: as above.
    let again = unsafe { ZwDeleteValueKey(key, name) };
    assert_eq!((set, deleted), (STATUS_SUCCESS, STATUS_SUCCESS));
    assert_eq!(again, STATUS_OBJECT_NAME_NOT_FOUND);
    // SAFETY: an open key.
    let deleted = unsafe { ZwDeleteKey(key) };
    assert_eq!(deleted, STATUS_SUCCESS);
    // SAFETY: opened above.
    unsafe { ZwClose(key) };
    let told = noted();
    let before: Vec<&str> = told.iter().map(String::as_str).step_by(2).skip(1).collect();
    let set = format!("set {KEY} Name 3 [7]");
    let value = format!("delete {KEY} Name");
    let key = format!("delete {KEY}");
    assert_eq!(before, [&set, &value, &value, &key]);
    kernel.shutdown_clean();
}

#[test]
fn the_end_of_a_registration_waits_for_its_callback() {
    static ENTERED: Barrier = Barrier::new(2);
    static LET_GO: Barrier = Barrier::new(2);
    static RETURNED: AtomicBool = AtomicBool::new(false);
    let kernel = start(&["3"], |_, class, _| {
        if class == RegNtPreSetValueKey {
            ENTERED.wait();
            LET_GO.wait();
            RETURNED.store(true, Ordering::SeqCst);
        }
        STATUS_SUCCESS
    });
    // Nothing counts as hanging here: the unload waits as long as it takes.
    nt_host::flt::configure(nt_host::flt::Decisions::default(), 100 * clock::SECOND);
    let user = user(&kernel);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            kernel
                .registry_of(&user)
                .set_value(KEY, "Name", &Value::dword(1))
        });
        ENTERED.wait();
        let unload = scope.spawn(|| {
            let unloaded = kernel.unload(NAME, Unload::Stop);
            (unloaded, RETURNED.load(Ordering::SeqCst))
        });
        LET_GO.wait();
        assert_eq!(unload.join().unwrap(), (Ok(()), true));
    });
    assert!(kernel.registry().value(KEY, "Name").is_ok());
    kernel.shutdown_clean();
}

#[test]
fn a_callback_left_behind_is_reported_and_not_called() {
    let kernel = start(&["3"], |_, class, _| {
        note(class.to_string());
        STATUS_SUCCESS
    });
    LEAVES.store(true, Ordering::SeqCst);
    kernel.unload(NAME, Unload::Stop).unwrap();
    assert_rules(&kernel.reports(), &[Rule::NotifyRoutineLeft]);
    let user = user(&kernel);
    kernel.registry_of(&user).create_key(KEY).unwrap();
    assert_eq!(noted().len(), 0);
    expect(
        kernel,
        &[Rule::NotifyRoutineLeft, Rule::CallIntoUnloadedDriver],
    );
}

#[test]
fn a_registration_ends_once() {
    let kernel = start(&["3"], |_, _, _| STATUS_SUCCESS);
    let second = register("4", 1).unwrap();
    assert_eq!(unregister(second), STATUS_SUCCESS);
    assert_eq!(unregister(second), STATUS_INVALID_PARAMETER);
    expect(kernel, &[Rule::RegistryCallbackUnknown]);
}

#[test]
fn a_callback_that_ends_its_own_registration_would_hang() {
    let kernel = start(&["3"], |_, class, _| {
        if class == RegNtPreSetValueKey {
            let own = COOKIES.lock().unwrap().pop();
            unregister(own.unwrap());
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel
        .registry_of(&user)
        .set_value(KEY, "Name", &Value::dword(1))
        .unwrap();
    expect(kernel, &[Rule::NotifyRemovedInside]);
}

#[test]
fn a_path_is_given_back_and_once() {
    let kernel = start(&["3"], |_, class, information| {
        if class == RegNtPreSetValueKey {
            let (cookie, mut kept, mut twice) = (cookie(), null_mut(), null_mut());
            for name in [&raw mut kept, &raw mut twice] {
                let object = object(information);
                // SAFETY: a cookie, the object of the callback, and memory for the pointer.
                let status = unsafe {
                    CmCallbackGetKeyObjectIDEx(&raw const cookie, object, null_mut(), name, 0)
                };
                assert_eq!(status, STATUS_SUCCESS);
            }
            for _ in 0..2 {
                // SAFETY: given once; the second time is the test's intent, and found.
                unsafe { CmCallbackReleaseKeyObjectIDEx(twice) };
            }
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel
        .registry_of(&user)
        .set_value(KEY, "Name", &Value::dword(1))
        .unwrap();
    expect(kernel, &[Rule::KeyPathUnknown, Rule::KeyPathLeft]);
}

#[test]
fn the_object_behind_a_failed_operation_is_none() {
    let kernel = start(&["3"], |_, class, information| {
        if class == RegNtPostOpenKeyEx {
            note(format!("{:?}", path_of(object(information))));
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    let missing = format!("{KEY}\\Missing");
    assert!(kernel.registry_of(&user).delete_key(&missing).is_err());
    assert_eq!(noted(), [format!("Err({STATUS_INVALID_PARAMETER})")]);
    expect(kernel, &[Rule::ObjectUnknown]);
}

#[test]
fn a_key_object_is_valid_in_its_callback_only() {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    let kernel = start(&["3"], |_, class, information| {
        if class == RegNtPreSetValueKey {
            KEPT.store(object(information) as usize, Ordering::SeqCst);
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel
        .registry_of(&user)
        .set_value(KEY, "Name", &Value::dword(1))
        .unwrap();
    let kept = KEPT.load(Ordering::SeqCst) as *mut c_void;
    assert_eq!(path_of(kept), Err(STATUS_INVALID_PARAMETER));
    expect(kernel, &[Rule::ObjectUnknown]);
}

#[test]
fn wrong_arguments_are_refused() {
    static UNKNOWN: AtomicI64 = AtomicI64::new(99);
    let kernel = start(&["3"], |_, class, information| {
        if class == RegNtPreSetValueKey {
            let (own, object) = (cookie(), object(information));
            let unknown = UNKNOWN.as_ptr().cast_const();
            for (cookie, flags) in [(null(), 0), (&raw const own, 1), (unknown, 0)] {
                // SAFETY: what is wrong is refused before anything is written.
                let status = unsafe {
                    CmCallbackGetKeyObjectIDEx(cookie, object, null_mut(), null_mut(), flags)
                };
                assert_eq!(status, STATUS_INVALID_PARAMETER);
            }
        }
        STATUS_SUCCESS
    });
    let user = user(&kernel);
    kernel
        .registry_of(&user)
        .set_value(KEY, "Name", &Value::dword(1))
        .unwrap();
    OBJECT.store(0x1000, Ordering::SeqCst);
    let second = register("4", 1).unwrap();
    unregister(second);
    expect(
        kernel,
        &[Rule::RegistryCallbackUnknown, Rule::ObjectUnknown],
    );
}

#[test]
fn renaming_and_deleting_have_their_own_errors() {
    let kernel = Kernel::boot(Config::default());
    kernel.registry().create_path(&format!("{KEY}\\One"));
    kernel.registry().create_path(&format!("{KEY}\\Two"));
    let user = user(&kernel);
    let registry = kernel.registry_of(&user);
    let one = format!("{KEY}\\One");
    assert_eq!(
        registry.rename_key(&one, "TWO"),
        Err(STATUS_OBJECT_NAME_COLLISION)
    );
    assert_eq!(
        registry.rename_key(&one, "a\\b"),
        Err(STATUS_OBJECT_NAME_INVALID)
    );
    assert_eq!(registry.rename_key(&one, "ONE"), Ok(()));
    assert_eq!(
        registry.delete_value(&one, "None"),
        Err(STATUS_OBJECT_NAME_NOT_FOUND)
    );
    assert!(registry.delete_key(KEY).is_err(), "it has subkeys");
    kernel.shutdown_clean();
}
