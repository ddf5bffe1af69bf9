// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registration with the Filter Manager: `Dormant -> Waiting -> Listening -> Closing -> Gone`.
//!
//! The Filter Manager may come up after this driver, if this one is loaded early. Then a thread
//! tries again, when NT says that the boot drivers have been initialised and every second besides.
//! Providers register and notifications are kept meanwhile.

use crate::driver::{DRIVER, Driver};
use crate::instances;
use crate::port::Callbacks;
use crate::tag;
use fltport_abi::limits::{MAX_CONNECTIONS, PORT_NAME};
use fltport_nt::bindings::{
    STATUS_DELETE_PENDING, STATUS_FLT_DO_NOT_DETACH, STATUS_FLT_NOT_INITIALIZED,
    STATUS_INSUFFICIENT_RESOURCES,
};
use fltport_nt::ex::PoolArc;
use fltport_nt::flt::{Filter, FilterCallbacks, ServerPort};
use fltport_nt::io::{DriverObject, Reinitialize};
use fltport_nt::ke::{Event, EventKind, Timeout, wait_any};
use fltport_nt::ps::SystemThread;
use fltport_nt::{NtError, Result, utf16};

/// How often the Filter Manager is asked again.
const RETRY: Timeout = Timeout::from_millis(1000);

/// Where the registration stands.
pub(crate) enum Registration {
    /// Nothing has been tried.
    Dormant,
    /// The Filter Manager is not up; a [`Retry`] asks again.
    Waiting,
    /// Services can connect.
    Listening { _port: ServerPort<Callbacks> },
    /// The driver is being unloaded.
    Closing,
    /// Everything has been given back.
    Gone,
}

/// IRQL: PASSIVE_LEVEL, from DriverEntry. Starts listening, or waits for the Filter Manager if it
/// is not up.
pub(crate) fn begin(driver: &PoolArc<Driver>, object: DriverObject) -> Result<()> {
    match listen(driver, object) {
        Ok(listening) => {
            *driver.registration().lock() = listening;
            Ok(())
        }
        Err(NtError(STATUS_FLT_NOT_INITIALIZED)) => {
            *driver.registration().lock() = Registration::Waiting;
            let retry = Retry::start(driver, object)?;
            *driver.retry().lock() = Some(retry);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// IRQL: PASSIVE_LEVEL, from DriverEntry when nothing can fail any more: NT allows it to a driver
/// only that will be loaded. A driver that waits for the Filter Manager asks again when all boot
/// drivers are up.
pub(crate) fn remind(driver: &Driver, object: DriverObject) {
    let waits = matches!(*driver.registration().lock(), Registration::Waiting);
    if waits {
        object.on_boot_drivers_initialized::<BootDriversInitialized>();
    }
}

/// Registers the filter, opens the port, starts filtering. Services may connect before it returns.
///
/// A filter whose port fails stays registered, for the next attempt or for [`Driver::shut_down`]: an
/// unload may begin at any moment, and what becomes of one that comes while this thread unregisters
/// the filter is not documented.
fn listen(driver: &Driver, object: DriverObject) -> Result<Registration> {
    let filter = match driver.filter() {
        Some(filter) => filter,
        None => {
            let filter = Filter::register::<Unload>(object, tag::DRIVER, instances::wanted())?;
            driver.set_filter(Some(filter.clone()));
            filter
        }
    };
    let security = driver.service_key().admitted()?;
    let port = ServerPort::listen(
        &filter,
        utf16!(PORT_NAME),
        security.as_ref(),
        MAX_CONNECTIONS as i32,
    )?;
    filter.start()?;
    Ok(Registration::Listening { _port: port })
}

/// The thread that asks the Filter Manager again. Dropping it ends the thread and waits for it.
pub(crate) struct Retry {
    // Dropped after `drop` has told it to stop.
    _thread: SystemThread,
    signals: PoolArc<Signals>,
}

struct Signals {
    driver: PoolArc<Driver>,
    object: DriverObject,
    now: Event,
    stop: Event,
}

impl Retry {
    #[inline(never)]
    fn start(driver: &PoolArc<Driver>, object: DriverObject) -> Result<Self> {
        let now = Event::new(tag::DRIVER, EventKind::Synchronization)?;
        let stop = Event::new(tag::DRIVER, EventKind::Notification)?;
        let signals = PoolArc::new(
            tag::DRIVER,
            Signals {
                driver: driver.clone(),
                object,
                now,
                stop,
            },
        )?;
        let thread = SystemThread::spawn(tag::DRIVER, signals.clone(), Signals::run)?;
        Ok(Retry {
            _thread: thread,
            signals,
        })
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        self.signals.stop.set();
    }
}

impl Signals {
    fn run(&self) {
        while wait_any([&self.stop, &self.now], RETRY) != Some(0) {
            match listen(&self.driver, self.object) {
                // The unload joins this thread before it looks at the registration, so nobody else
                // changes it meanwhile.
                Ok(listening) => {
                    *self.driver.registration().lock() = listening;
                    return;
                }
                Err(NtError(STATUS_FLT_NOT_INITIALIZED | STATUS_INSUFFICIENT_RESOURCES)) => {}
                // Nothing that time would mend. Client drivers can go on; nobody will ever connect,
                // which their ledger shows.
                Err(_) => return,
            }
        }
    }
}

struct BootDriversInitialized;

impl Reinitialize for BootDriversInitialized {
    fn reinitialize() {
        if let Some(driver) = DRIVER.get()
            && let Some(retry) = &*driver.retry().lock()
        {
            retry.signals.now.set();
        }
    }
}

/// What the Filter Manager calls to unload the driver.
struct Unload;

impl FilterCallbacks for Unload {
    fn unload(mandatory: bool) -> Result<()> {
        let driver = DRIVER.get().ok_or(NtError(STATUS_DELETE_PENDING))?;
        if !mandatory && driver.is_in_use() {
            return Err(NtError(STATUS_FLT_DO_NOT_DETACH));
        }
        crate::entry::shut_down();
        Ok(())
    }
}
