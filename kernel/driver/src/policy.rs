// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may connect, and what he may do, by the service key:
//!
//! * `Parameters\Access\NAME`, for the provider of that name, and `Parameters\Access\*`, for those
//!   that have no key of their own. In it a value for each SID that may do something: the value's
//!   name is the SID in text, `S-1-5-32-544`, and its number the [rights](fltport_abi::hello::rights).
//!   A subject has what all of his SIDs are given. Without a key SYSTEM and Administrators have
//!   every right, and nobody else has any.
//! * `Parameters\Images`, a list of patterns: only programs whose path matches one of them may
//!   connect. Without it, all.
//!
//! It is read anew at each connect, so that a change needs no restart; but for whom the port's
//! security descriptor lets in, which is made when the port is. What cannot be understood gives
//! nobody anything.

use crate::tag;
use fltport_abi::glob;
use fltport_abi::hello::rights;
use fltport_abi::limits::MAX_PROVIDER_NAME;
use fltport_abi::sid::Sid;
use fltport_abi::status;
use fltport_abi::text::Text;
use fltport_nt::bindings::{
    FLT_PORT_CONNECT, STATUS_BUFFER_OVERFLOW, STATUS_NOT_FOUND, STATUS_OBJECT_TYPE_MISMATCH,
};
use fltport_nt::ex::{PoolArc, PoolSlice};
use fltport_nt::linked::FLT_PORT_ALL_ACCESS;
use fltport_nt::ps::Process;
use fltport_nt::se::{Mapping, SecurityDescriptor, Subject};
use fltport_nt::zw::{Entries, Entry, Key};
use fltport_nt::{NtError, Result, rtl, utf16};

/// Keys that there may be: of more, one that was not read would leave its provider to those who may
/// what the others give them, so nobody gets anything.
const MAX_KEYS: usize = 64;
/// SIDs that may be named in one. More are not read, so they give nobody anything.
const MAX_ENTRIES: usize = 64;
/// As many SIDs as the port's security descriptor has room for.
const MAX_ADMITTED: usize = 512;
/// The longest list of images, in UTF-16 units.
const MAX_IMAGES: usize = 16 * 1024;

/// Processes below medium integrity may look, and no more.
const MAPPING: Mapping = Mapping {
    read: rights::OBSERVE,
    write: rights::DECIDE | rights::COMMAND,
};

/// Who the default lets do everything.
const ADMINISTRATORS: [Sid; 2] = [Sid::LOCAL_SYSTEM, Sid::ADMINISTRATORS];
/// Descriptors must have an owner. What that adds to his access is none of the rights here.
const OWNER: Sid = Sid::LOCAL_SYSTEM;

/// Where the driver's service key is.
#[derive(Clone)]
pub(crate) struct ServiceKey(PoolArc<PoolSlice<u16>>);

/// The rights that a connecting process has, by provider.
pub(crate) struct Grants {
    named: PoolSlice<Named>,
    count: usize,
    others: u32,
    /// By the default, whatever the configuration says: an administrator sees every account.
    administrator: bool,
}

/// The rights at one provider.
#[derive(Clone, Copy)]
struct Named {
    provider: KeyName,
    rights: u32,
}

/// A provider's name as that of its key: in upper case, for the registry does not tell names apart by
/// case either, in whatever script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyName([u16; MAX_PROVIDER_NAME]);

impl KeyName {
    const EMPTY: Self = KeyName([0; MAX_PROVIDER_NAME]);

    /// IRQL: PASSIVE_LEVEL. `None` for a longer one than a provider can have.
    pub(crate) fn new(mut units: impl Iterator<Item = u16>) -> Option<Self> {
        let mut name = Self::EMPTY;
        let places = name.0.iter_mut();
        places
            .zip(&mut units)
            .for_each(|(place, unit)| *place = rtl::upcase(unit));
        units.next().is_none().then_some(name)
    }
}

/// The process that connects, by its own token and by that of whom it impersonates. Only what both
/// may is granted: impersonating an administrator does not make one.
struct Subjects([Subject; 2]);

impl Subjects {
    fn capture() -> Self {
        Subjects([Subject::of_process(), Subject::of_thread()])
    }

    fn granted(&self, descriptor: &SecurityDescriptor) -> u32 {
        let both = self
            .0
            .iter()
            .map(|subject| subject.granted(descriptor, MAPPING));
        both.fold(rights::ALL, |all, granted| all & granted)
    }
}

impl ServiceKey {
    /// IRQL: <= DISPATCH_LEVEL. The key at this path.
    pub(crate) fn new(path: &[u16]) -> Result<Self> {
        let path = PoolSlice::copy_of(tag::DRIVER, path)?;
        Ok(ServiceKey(PoolArc::new(tag::DRIVER, path)?))
    }

    /// IRQL: PASSIVE_LEVEL. Whether services may have rings: unless `Parameters\Rings` is 0. What cannot be read
    /// forbids nothing: without rings a service gets the same records.
    pub(crate) fn allows_rings(&self) -> bool {
        let parameters = self.parameters().ok().flatten();
        !parameters.is_some_and(|key| key.get_u32(utf16!("Rings")) == Ok(0))
    }

    fn parameters(&self) -> Result<Option<Key>> {
        Key::open_to_read(&self.0)?.below(utf16!("Parameters"))
    }

    /// The key of who has which rights; `None` if there is none.
    fn access(&self) -> Result<Option<Key>> {
        match self.parameters()? {
            Some(parameters) => parameters.below(utf16!("Access")),
            None => Ok(None),
        }
    }

    /// IRQL: PASSIVE_LEVEL. The rights of the process whose thread runs. Fails only if the
    /// configuration could not be read; with `CONFIGURATION_UNREADABLE` if there are too many keys.
    #[inline(never)]
    pub(crate) fn grants(&self) -> Result<Grants> {
        let subjects = Subjects::capture();
        let default = subjects.granted(&default_list()?);
        let empty = Named {
            provider: KeyName::EMPTY,
            rights: 0,
        };
        let mut grants = Grants {
            named: PoolSlice::filled(tag::CONNECTION, MAX_KEYS, empty)?,
            count: 0,
            others: default,
            administrator: default != 0,
        };
        if let Some(access) = self.access()? {
            let mut keys = Entries::new(tag::CONNECTION)?;
            for index in 0..=MAX_KEYS as u32 {
                match keys.subkey(&access, index)? {
                    Entry::End => break,
                    _ if index == MAX_KEYS as u32 => {
                        return Err(NtError(status::CONFIGURATION_UNREADABLE));
                    }
                    Entry::Named(name, _) => grants.read(&access, name, &subjects)?,
                    Entry::TooLong => {}
                }
            }
        }
        Ok(grants)
    }

    /// IRQL: PASSIVE_LEVEL. Who the port is to let in, if that is anybody besides SYSTEM and
    /// Administrators. What he may do there is judged when he connects.
    #[inline(never)]
    pub(crate) fn admitted(&self) -> Result<Option<SecurityDescriptor>> {
        let Some(access) = self.access()? else {
            return Ok(None);
        };
        let mut keys = Entries::new(tag::DRIVER)?;
        let room = MAX_ADMITTED + ADMINISTRATORS.len();
        let mut list = SecurityDescriptor::new(tag::DRIVER, OWNER.as_bytes(), room)?;
        for sid in &ADMINISTRATORS {
            list.allow(tag::DRIVER, sid.as_bytes(), FLT_PORT_ALL_ACCESS)?;
        }
        let mut admitted = 0;
        for index in 0..MAX_KEYS as u32 {
            let key = match keys.subkey(&access, index)? {
                Entry::Named(name, _) => access.below(name)?,
                Entry::TooLong => None,
                Entry::End => break,
            };
            let Some(key) = key else {
                continue;
            };
            each(&key, &mut |sid, _| {
                if ADMINISTRATORS.contains(&sid) || admitted == MAX_ADMITTED {
                    return Ok(());
                }
                admitted += 1;
                list.allow(tag::DRIVER, sid.as_bytes(), FLT_PORT_CONNECT)
            })?;
        }
        Ok((admitted != 0).then_some(list))
    }

    /// IRQL: PASSIVE_LEVEL. What the configuration says of the program that a process runs. Fails only
    /// if that could not be found out.
    #[inline(never)]
    pub(crate) fn judge_image(&self, process: &Process) -> Result<ImageVerdict> {
        let Some(parameters) = self.parameters()? else {
            return Ok(ImageVerdict::Allowed);
        };
        let patterns = match parameters.get_texts(tag::BUFFER, utf16!("Images"), MAX_IMAGES) {
            Ok(Some(patterns)) => patterns,
            Ok(None) => return Ok(ImageVerdict::Allowed),
            Err(NtError(STATUS_OBJECT_TYPE_MISMATCH | STATUS_BUFFER_OVERFLOW)) => {
                return Ok(ImageVerdict::Unreadable);
            }
            Err(error) => return Err(error),
        };
        let path = match process.image() {
            Ok(path) => path,
            Err(NtError(STATUS_NOT_FOUND)) => return Ok(ImageVerdict::NotAllowed),
            Err(error) => return Err(error),
        };
        let path = Text::Units(path.units());
        let mut patterns = patterns.split(|unit| *unit == 0).filter(|p| !p.is_empty());
        let allowed = patterns.any(|pattern| {
            pattern.len() <= glob::MAX_PATTERN
                && glob::matches(Text::Units(pattern), path, rtl::upcase)
        });
        Ok(if allowed {
            ImageVerdict::Allowed
        } else {
            ImageVerdict::NotAllowed
        })
    }
}

/// What the configuration says of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageVerdict {
    /// It may connect.
    Allowed,
    /// It matches none of the patterns.
    NotAllowed,
    /// The list of patterns is none, or too long.
    Unreadable,
}

impl Grants {
    /// Reads a provider's key.
    fn read(&mut self, access: &Key, name: &[u16], subjects: &Subjects) -> Result<()> {
        // It may be gone again, or have a name that no provider can have.
        let provider = KeyName::new(name.iter().copied());
        let (Some(key), Some(provider)) = (access.below(name)?, provider) else {
            return Ok(());
        };
        let mut list = SecurityDescriptor::new(tag::BUFFER, OWNER.as_bytes(), MAX_ENTRIES)?;
        each(&key, &mut |sid, rights| {
            list.allow(tag::BUFFER, sid.as_bytes(), rights)
        })?;
        let rights = subjects.granted(&list);
        if name == utf16!("*") {
            self.others = rights;
        } else if let Some(place) = self.named.get_mut(self.count) {
            *place = Named { provider, rights };
            self.count += 1;
        }
        Ok(())
    }

    /// IRQL: any. The rights at the provider of this name.
    pub(crate) fn at(&self, provider: &KeyName) -> u32 {
        let own = self.named().find(|it| it.provider == *provider);
        own.map_or(self.others, |it| it.rights)
    }

    fn named(&self) -> impl Iterator<Item = &Named> {
        self.named.iter().take(self.count)
    }

    /// IRQL: any. Whether of these rights `other` has none that this one has not, at any provider.
    pub(crate) fn covers(&self, other: &Grants, rights: u32) -> bool {
        let more = |other: u32, own: u32| other & rights & !own != 0;
        let mut named = self.named().chain(other.named());
        !more(other.others, self.others)
            && !named.any(|it| more(other.at(&it.provider), self.at(&it.provider)))
    }

    /// IRQL: any. The rights that there are at any provider.
    pub(crate) fn anywhere(&self) -> u32 {
        self.named().fold(self.others, |sum, it| sum | it.rights)
    }

    /// IRQL: any. Whether this is an administrator, who sees what everybody does.
    pub(crate) fn is_administrator(&self) -> bool {
        self.administrator
    }
}

/// What holds without configuration.
fn default_list() -> Result<SecurityDescriptor> {
    let mut list = SecurityDescriptor::new(tag::BUFFER, OWNER.as_bytes(), ADMINISTRATORS.len())?;
    for sid in &ADMINISTRATORS {
        list.allow(tag::BUFFER, sid.as_bytes(), rights::ALL)?;
    }
    Ok(list)
}

/// The SIDs of a key with their rights. What is neither SID nor number gives nobody anything.
fn each(key: &Key, give: &mut dyn FnMut(Sid, u32) -> Result<()>) -> Result<()> {
    let mut values = Entries::new(tag::BUFFER)?;
    for index in 0..MAX_ENTRIES as u32 {
        match values.value(key, index)? {
            Entry::Named(name, Some(number)) => {
                let sid = Sid::parse(Text::Units(name).chars());
                let rights = number & rights::ALL;
                if let Some(sid) = sid.filter(|_| rights != 0) {
                    give(sid, rights)?;
                }
            }
            Entry::Named(_, None) | Entry::TooLong => {}
            Entry::End => break,
        }
    }
    Ok(())
}
