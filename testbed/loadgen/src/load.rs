// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's state: the provider, and the jobs that run.

use crate::job::{Job, Progress};
use crate::messages::{
    DECLARED, DECLARING, EARLY, Early, PROVIDERS, QUOTA, Question, Register, RegisterWrong,
};
use crate::objects::Objects;
use crate::wrong;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use fltport_client::{BacklogPolicy, DefaultReply, Options, Provider};
use fltport_nt::bindings::{
    STATUS_DELETE_PENDING, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND, STATUS_OBJECT_NAME_COLLISION,
};
use fltport_nt::ex::{Global, PoolArc, Rundown, RundownGuard, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::ke::SpinLock;
use fltport_nt::{NtError, Result};

/// The tag of all this driver's pool memory.
pub(crate) const TAG: Tag = Tag::new(b"Load");

/// Bytes of notifications that the common driver keeps while no service is connected.
const BACKLOG: u32 = 256 * 1024;

/// Bytes of notifications that are kept while there is no common driver.
const STAGING: u32 = 64 * 1024;

/// The miss policy of the provider that has one.
const DEFAULTS: &[DefaultReply] = &[DefaultReply::to::<Question>(&DECLARED)];

/// So many jobs run at a time, or have ended and not been replaced.
const MAX_JOBS: usize = 4;

/// The providers of this driver: two while it is loaded, the others when they are wanted.
static REGISTERED: [Global<Provider<Load>>; PROVIDERS.len()] =
    [const { Global::empty() }; PROVIDERS.len()];

/// One provider as its commands see it.
pub(crate) struct Load {
    /// Its place among [`PROVIDERS`].
    pub(crate) place: usize,
    jobs: SpinLock<[Option<Job>; MAX_JOBS]>,
    /// Held while a job is started, so that none is when the driver goes; and by a command that uses the
    /// provider.
    starting: Rundown,
    /// Jobs come to their end early.
    stopping: AtomicBool,
    started: AtomicU32,
    pub(crate) early: AtomicU64,
    pub(crate) objects: Objects,
    pub(crate) commands: AtomicU64,
}

/// What the driver object is for: that a command can register another provider.
static DRIVER: Global<DriverObject> = Global::empty();

/// IRQL: PASSIVE_LEVEL. Registers the first provider and [`DECLARING`] and sends the early
/// notifications; [`stop`] is its mirror.
pub(crate) fn start(driver: DriverObject) -> Result<()> {
    let options = Options::new(TAG)
        .backlog(BACKLOG, BacklogPolicy::KeepNewest)
        .staging(STAGING);
    DRIVER.replace(Some(PoolArc::new(TAG, driver)?));
    let registered = register_at(driver, 0, options);
    let provider = registered.inspect_err(|_| drop(DRIVER.replace(None)))?;
    for number in 0..EARLY {
        // Never refused, for it is one of the provider's own; a loss is in the ledger.
        if provider.notify(&Early { number, of: EARLY }).is_ok() {
            provider.handler().early.fetch_add(1, Ordering::Relaxed);
        }
    }
    let declaring = options.quota(QUOTA).default_replies(DEFAULTS);
    let declaring = register_at(driver, DECLARING, declaring).inspect_err(|_| stop())?;
    declaring.handler().objects.change_all(&declaring);
    Ok(())
}

fn register_at(
    driver: DriverObject,
    place: usize,
    options: Options,
) -> Result<PoolArc<Provider<Load>>> {
    let wrong = NtError(STATUS_INVALID_PARAMETER);
    let schema = PROVIDERS.get(place).ok_or(wrong)?;
    let registered = REGISTERED.get(place).ok_or(wrong)?;
    let provider = Provider::register(driver, schema, Load::new(place)?, options)?;
    let provider = PoolArc::new(TAG, provider)?;
    registered.replace(Some(provider.clone()));
    Ok(provider)
}

/// IRQL: PASSIVE_LEVEL. Registers one of the other providers. `STATUS_OBJECT_NAME_COLLISION` if it
/// is registered; `STATUS_INVALID_PARAMETER` if `asked`, which was asked to, is not the first one:
/// that one's handlers are waited for when the driver goes, before the others are looked at.
pub(crate) fn register(asked: &Load, wanted: &Register) -> Result<()> {
    if asked.place != 0 || wanted.place == 0 {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let driver = DRIVER.get().ok_or(NtError(STATUS_DELETE_PENDING))?;
    let place = wanted.place as usize;
    if provider(place).is_ok() {
        return Err(NtError(STATUS_OBJECT_NAME_COLLISION));
    }
    let options = Options::new(TAG)
        .staging(STAGING)
        .quota(wanted.quota)
        .rate(wanted.rate, wanted.burst);
    register_at(*driver, place, options).map(drop)
}

/// IRQL: PASSIVE_LEVEL. Tries to register what is wrong.
pub(crate) fn register_wrong(wanted: &RegisterWrong) -> Result<()> {
    let driver = DRIVER.get().ok_or(NtError(STATUS_DELETE_PENDING))?;
    wrong::register(*driver, wanted.how)
}

/// IRQL: PASSIVE_LEVEL. Ends the jobs, waits for their threads, and gives everything back.
pub(crate) fn stop() {
    // The first one first: once it has gone, no command can register another one.
    for registered in &REGISTERED {
        if let Some(provider) = registered.get() {
            provider.handler().close();
        }
        // Nobody else has it or takes it any more: the jobs have ended, and none starts.
        drop(registered.replace(None));
    }
    drop(DRIVER.replace(None));
}

/// IRQL: <= DISPATCH_LEVEL. A provider, while it is registered.
pub(crate) fn provider(place: usize) -> Result<PoolArc<Provider<Load>>> {
    let registered = REGISTERED.get(place).and_then(Global::get);
    registered.ok_or(NtError(STATUS_DELETE_PENDING))
}

impl Load {
    pub(crate) fn new(place: usize) -> Result<Self> {
        Ok(Load {
            place,
            jobs: SpinLock::new([const { None }; MAX_JOBS]),
            starting: Rundown::new(TAG)?,
            stopping: AtomicBool::new(false),
            started: AtomicU32::new(0),
            early: AtomicU64::new(0),
            objects: Objects::new()?,
            commands: AtomicU64::new(0),
        })
    }

    /// IRQL: PASSIVE_LEVEL. To be held while a job is started, and while a command has a reference to the
    /// provider. `STATUS_DELETE_PENDING` if the driver goes.
    pub(crate) fn begin(&self) -> Result<RundownGuard<'_>> {
        self.starting
            .acquire()
            .ok_or(NtError(STATUS_DELETE_PENDING))
    }

    /// IRQL: any. Whether jobs are to come to their end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// IRQL: any. The number of the next job.
    pub(crate) fn number(&self) -> u32 {
        self.started.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// IRQL: any. How many jobs have been started.
    pub(crate) fn started(&self) -> u32 {
        self.started.load(Ordering::Relaxed)
    }

    /// IRQL: PASSIVE_LEVEL. Keeps a job that runs, in a free place or that of one that has ended.
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES` if too many run; the job is told to end then, and waited for.
    pub(crate) fn keep(&self, job: Job) -> Result<()> {
        let mut job = Some(job);
        let is_free = |place: &&mut Option<Job>| place.as_ref().is_none_or(Job::has_ended);
        let kept = match self.jobs.lock().iter_mut().find(is_free) {
            None => Err(NtError(STATUS_INSUFFICIENT_RESOURCES)),
            Some(place) => {
                core::mem::swap(place, &mut job);
                Ok(())
            }
        };
        // What was in the place, or the job itself: dropped without the lock, because that waits.
        drop(job);
        kept
    }

    /// IRQL: <= DISPATCH_LEVEL. How far a job has come.
    pub(crate) fn progress(&self, number: u32) -> Result<PoolArc<Progress>> {
        let jobs = self.jobs.lock();
        let mut all = jobs.iter().flatten();
        let found = all.find(|job| job.progress().number == number);
        found
            .map(|job| job.progress().clone())
            .ok_or(NtError(STATUS_NOT_FOUND))
    }

    /// IRQL: PASSIVE_LEVEL. Forgets a job, once it has ended; waits for its threads.
    pub(crate) fn forget(&self, number: u32) {
        let has_number = |job: &mut Job| job.progress().number == number;
        let forgotten = {
            let mut jobs = self.jobs.lock();
            let mut places = jobs.iter_mut();
            places.find_map(|place| place.take_if(has_number))
        };
        // Without the lock, because it waits.
        drop(forgotten);
    }

    /// IRQL: PASSIVE_LEVEL. Lets no new job start, ends those that run and waits for them.
    fn close(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.starting.wait();
        let ending = core::mem::replace(&mut *self.jobs.lock(), [const { None }; MAX_JOBS]);
        // Without the lock, because it waits.
        drop(ending);
    }
}
