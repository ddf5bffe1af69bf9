// SPDX-License-Identifier: MIT OR Apache-2.0
//! What NT tells of, and what becomes of it.

use crate::paths::Paths;
use crate::watched::{Concern, WatchedKeys};
use fltport_abi::message::{Message, Pid, Status};
use fltport_abi::registry_monitor::{
    ChangeVerdict, Intention, KeyChange, KeyCreated, KeyDeleted, KeyRenamed, MAX_DATA, PROVIDER,
    ValueDeleted, ValueSet, ValueType,
};
use fltport_abi::text::Text;
use fltport_client::{BacklogPolicy, DefaultReply, Options, Provider};
use fltport_nt::bindings::{NTSTATUS, STATUS_ACCESS_DENIED};
use fltport_nt::cm::{Change, Completed, KeyPath, Operation, RegistryCallback, RegistryObserver};
use fltport_nt::ex::{Global, PoolArc, Tag, is_called_by_user_mode};
use fltport_nt::io::DriverObject;
use fltport_nt::ps::{current_process_id, current_thread_id};
use fltport_nt::zw::Key;
use fltport_nt::{NtError, Result, utf16};

/// The tag of all this driver's pool memory.
pub(crate) const TAG: Tag = Tag::new(b"FpRm");

/// Bytes of notifications that the common driver keeps while no service is connected.
const BACKLOG: u32 = 256 * 1024;

/// Bytes of notifications that are kept while there is no common driver.
const STAGING: u32 = 64 * 1024;

/// How long a change may wait for a verdict, in milliseconds. Without one it is allowed.
const DEADLINE_MS: u32 = 500;
/// What nobody forbids happens.
const DEFAULTS: &[DefaultReply] = &[DefaultReply::to::<KeyChange>(&ChangeVerdict {
    deny: false,
})];

/// Longer paths and names are cut, in UTF-16 units; together they fit into a request.
const MAX_PATH: usize = 8 * 1024;
const MAX_NAME: usize = 8 * 1024;

/// From the range of activity monitors (360000-389999). It orders registry callbacks; a release
/// needs one that Microsoft has allotted, as the text `Altitude` in the service's `Parameters`.
const ALTITUDE: &str = "385998";

/// The registration, and with it all of this driver. Nothing takes it but the end.
static CALLBACK: Global<RegistryCallback<Monitor>> = Global::empty();

/// IRQL: PASSIVE_LEVEL. Registers the provider, then the callback; [`stop`] is its mirror, and what
/// was done is undone if this fails on the way.
pub(crate) fn start(driver: DriverObject, service: &Key) -> Result<()> {
    let options = Options::new(TAG)
        .backlog(BACKLOG, BacklogPolicy::KeepNewest)
        .staging(STAGING)
        .default_replies(DEFAULTS);
    let paths = Paths::new()?;
    let provider = Provider::register(driver, &PROVIDER, WatchedKeys::new(), options)?;
    let monitor = Monitor { provider, paths };
    let parameters = service.create(utf16!("Parameters"))?;
    let altitude = parameters.get_text(utf16!("Altitude"));
    let altitude = match &altitude {
        Ok(allotted) => allotted,
        Err(_) => &utf16!(ALTITUDE)[..],
    };
    let callback = RegistryCallback::register(driver, TAG, altitude, monitor)?;
    CALLBACK.replace(Some(PoolArc::new(TAG, callback)?));
    Ok(())
}

/// IRQL: PASSIVE_LEVEL. Gives everything back: the registration, which waits for callbacks in flight,
/// then the provider that they use. A verdict that is being waited for delays it by its deadline at
/// most.
pub(crate) fn stop() {
    drop(CALLBACK.replace(None));
}

/// The observer.
struct Monitor {
    provider: Provider<WatchedKeys>,
    /// Of keys that are about to be deleted or renamed.
    paths: Paths,
}

/// Who does it.
struct Actor {
    pid: Pid,
    tid: Pid,
}

impl Actor {
    /// IRQL: <= DISPATCH_LEVEL. Registry callbacks run in the thread that does it.
    fn current() -> Self {
        Actor {
            pid: Pid(current_process_id()),
            tid: Pid(current_thread_id()),
        }
    }
}

/// The text, cut to what is allowed, and whether it was cut.
fn cut(text: &[u16], limit: usize) -> (Text<'_>, bool) {
    let kept = text.get(..limit).unwrap_or(text);
    (Text::Units(kept), text.len() > limit)
}

fn first(data: &[u8]) -> &[u8] {
    data.get(..MAX_DATA).unwrap_or(data)
}

impl RegistryObserver for Monitor {
    fn before(&self, operation: &Operation<'_>) -> Result<usize> {
        let keeps = match operation.change {
            Change::CreateKey { .. } => return Ok(0),
            Change::DeleteKey => self.provider.is_listening(KeyDeleted::NUMBER),
            Change::RenameKey { .. } => self.provider.is_listening(KeyRenamed::NUMBER),
            Change::SetValue { .. } | Change::DeleteValue { .. } => false,
        };
        // What drivers do is not asked about: they may hold what the decider needs to answer.
        let asks = is_called_by_user_mode() && self.provider.is_listening(KeyChange::NUMBER);
        if !keeps && !asks {
            return Ok(0);
        }
        let Ok(path) = operation.key.path() else {
            return Ok(0);
        };
        let concern = self.provider.handler().concern(&path);
        if asks && concern == Concern::Asked && self.is_denied(operation, &path) {
            return Err(NtError(STATUS_ACCESS_DENIED));
        }
        if keeps && concern != Concern::None {
            return Ok(self.paths.keep(path));
        }
        Ok(0)
    }

    fn after(&self, completed: &Completed<'_>) {
        let status = completed.status;
        match completed.operation.change {
            Change::CreateKey { .. } => self.after_create(completed),
            Change::DeleteKey => self.after_delete(status, completed.kept),
            Change::RenameKey { new_name } => self.after_rename(status, completed.kept, new_name),
            Change::SetValue { name, kind, data } => {
                if let Some(path) = self.told_path(ValueSet::NUMBER, &completed.operation) {
                    self.value_set(status, path.as_deref(), name, kind, data);
                }
            }
            Change::DeleteValue { name } => {
                if let Some(path) = self.told_path(ValueDeleted::NUMBER, &completed.operation) {
                    self.value_deleted(status, path.as_deref(), name);
                }
            }
        }
    }
}

impl Monitor {
    /// Asks whether a change must not be done. A question that could not be asked is answered by the
    /// default, too.
    fn is_denied(&self, told: &Operation<'_>, path: &[u16]) -> bool {
        type Said<'a> = (Intention, Option<&'a [u16]>, u32, &'a [u8]);
        let (operation, name, kind, data): Said<'_> = match told.change {
            Change::SetValue { name, kind, data } => (Intention::SetValue, Some(name), kind, data),
            Change::DeleteValue { name } => (Intention::DeleteValue, Some(name), 0, &[]),
            Change::RenameKey { new_name } => (Intention::RenameKey, Some(new_name), 0, &[]),
            Change::DeleteKey => (Intention::DeleteKey, None, 0, &[]),
            Change::CreateKey { .. } => return false,
        };
        let Actor { pid, tid } = Actor::current();
        let (key, key_cut) = cut(path, MAX_PATH);
        let name = name.map(|name| cut(name, MAX_NAME));
        let question = KeyChange {
            pid,
            tid,
            operation,
            kind: ValueType::from_number(kind),
            size: data.len() as u32,
            key,
            name: name.map(|(name, _)| name),
            data: first(data),
            truncated: key_cut || name.is_some_and(|(_, name_cut)| name_cut),
        };
        let answer = self.provider.ask(&question, DEADLINE_MS, None);
        answer.is_ok_and(|answer| answer.reply.deny)
    }

    /// The path of the operation's key, if somebody wants to be told of it. NT may not give it; then
    /// the operation is told of without, watched or not.
    fn told_path(&self, message: u16, operation: &Operation<'_>) -> Option<Option<KeyPath>> {
        if !self.provider.is_listening(message) {
            return None;
        }
        let path = operation.key.path().ok();
        let concern = |path: &KeyPath| self.provider.handler().concern(path);
        let told = path.as_ref().map(concern) != Some(Concern::None);
        told.then_some(path)
    }

    fn after_create(&self, completed: &Completed<'_>) {
        if !self.provider.is_listening(KeyCreated::NUMBER) {
            return;
        }
        let Some(created) = completed.created() else {
            return;
        };
        let path = created.path().ok();
        let concern = |path: &KeyPath| self.provider.handler().concern(path);
        if path.as_ref().map(concern) == Some(Concern::None) {
            return;
        }
        let key = path.as_deref().map(|path| cut(path, MAX_PATH));
        let Actor { pid, tid } = Actor::current();
        // Always one of the provider's own notifications, so never refused; a loss is in the
        // ledger.
        let _accounted = self.provider.notify(&KeyCreated {
            pid,
            tid,
            key: key.map(|(key, _)| key),
            truncated: key.is_some_and(|(_, key_cut)| key_cut),
        });
    }

    fn after_delete(&self, status: NTSTATUS, kept: usize) {
        if kept == 0 {
            return;
        }
        let path = self.paths.take(kept);
        let key = path.as_deref().map(|path| cut(path, MAX_PATH));
        let Actor { pid, tid } = Actor::current();
        let _accounted = self.provider.notify(&KeyDeleted {
            pid,
            tid,
            status: Status(status),
            key: key.map(|(key, _)| key),
            truncated: key.is_some_and(|(_, key_cut)| key_cut),
        });
    }

    fn after_rename(&self, status: NTSTATUS, kept: usize, new_name: &[u16]) {
        if kept == 0 {
            return;
        }
        let path = self.paths.take(kept);
        let key = path.as_deref().map(|path| cut(path, MAX_PATH));
        let (new_name, name_cut) = cut(new_name, MAX_NAME);
        let Actor { pid, tid } = Actor::current();
        let _accounted = self.provider.notify(&KeyRenamed {
            pid,
            tid,
            status: Status(status),
            key: key.map(|(key, _)| key),
            new_name,
            truncated: name_cut || key.is_some_and(|(_, key_cut)| key_cut),
        });
    }

    fn value_set(
        &self,
        status: NTSTATUS,
        path: Option<&[u16]>,
        name: &[u16],
        kind: u32,
        data: &[u8],
    ) {
        let key = path.map(|path| cut(path, MAX_PATH));
        let (name, name_cut) = cut(name, MAX_NAME);
        let Actor { pid, tid } = Actor::current();
        let _accounted = self.provider.notify(&ValueSet {
            pid,
            tid,
            status: Status(status),
            kind: ValueType::from_number(kind),
            size: data.len() as u32,
            key: key.map(|(key, _)| key),
            name,
            data: first(data),
            truncated: name_cut || key.is_some_and(|(_, key_cut)| key_cut),
        });
    }

    fn value_deleted(&self, status: NTSTATUS, path: Option<&[u16]>, name: &[u16]) {
        let key = path.map(|path| cut(path, MAX_PATH));
        let (name, name_cut) = cut(name, MAX_NAME);
        let Actor { pid, tid } = Actor::current();
        let _accounted = self.provider.notify(&ValueDeleted {
            pid,
            tid,
            status: Status(status),
            key: key.map(|(key, _)| key),
            name,
            truncated: name_cut || key.is_some_and(|(_, key_cut)| key_cut),
        });
    }
}
