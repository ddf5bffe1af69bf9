// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading and unloading drivers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::State;
use crate::abi::NTSTATUS;
use crate::driver::{self, Driver, DriverImage};
use crate::frame;
use crate::io::reinitialize;
use crate::object::Object;
use crate::ps;
use crate::registry::Value;
use crate::sched::{self, Waiter};
use crate::status::{
    STATUS_DELETE_PENDING, STATUS_IMAGE_ALREADY_LOADED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_UNSUCCESSFUL, is_success,
};
use crate::verifier::{Report, Rule};

/// Who asks for an unload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unload {
    /// The service control manager stops the service: mandatory for a filter.
    Stop,
    /// FilterUnload: voluntary, the filter may refuse.
    Filter,
}

/// What the Filter Manager's part of the hosted kernel does for the rest of it.
pub(crate) trait FilterManagerSide: Send + Sync {
    /// Unloads voluntarily: calls the filter's unload routine and, if it agrees, what
    /// FltRegisterFilter found in DriverObject->DriverUnload.
    fn unload(&self, driver: &Arc<Driver>) -> Result<(), NTSTATUS>;
    /// Reports a DriverUnload that the driver set after it had registered a filter.
    fn check_unload_routine(&self, driver: &Arc<Driver>);
    /// Reports what `driver` left registered or open, and takes it apart.
    fn report_left_by(&self, driver: &Arc<Driver>);
    /// The Filter Manager is up from now on.
    fn ready(&self);
    /// The kernel shuts down: whoever waits must go on.
    fn shut_down(&self);
}

/// The loaded drivers of one kernel, in the order of their loading.
#[derive(Default)]
pub(crate) struct Drivers(Mutex<Vec<Arc<Driver>>>);

impl Drivers {
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Driver>> {
        self.0
            .lock()
            .iter()
            .find(|driver| driver.name() == name)
            .cloned()
    }

    pub(crate) fn by_object(&self, object: usize) -> Option<Arc<Driver>> {
        self.0
            .lock()
            .iter()
            .find(|driver| driver.object() as usize == object)
            .cloned()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Driver>> {
        self.0.lock().clone()
    }

    fn add(&self, driver: &Arc<Driver>) -> Result<(), NTSTATUS> {
        let mut drivers = self.0.lock();
        if drivers.iter().any(|other| other.name() == driver.name()) {
            return Err(STATUS_IMAGE_ALREADY_LOADED);
        }
        drivers.push(driver.clone());
        Ok(())
    }

    fn remove(&self, driver: &Arc<Driver>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, driver));
    }
}

/// How far a closure has come that runs in a system thread.
enum Progress<R> {
    Runs,
    Returned(R),
    Panicked,
}

/// Wakes whoever waits for the closure when it ends, however it does.
struct Call<R> {
    progress: Arc<Mutex<Progress<R>>>,
    done: Arc<Waiter>,
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        let mut progress = self.progress.lock();
        if matches!(*progress, Progress::Runs) {
            *progress = Progress::Panicked;
        }
        drop(progress);
        sched::wake(&self.done);
    }
}

/// Runs a closure in a system thread and waits for it. STATUS_UNSUCCESSFUL if the driver stops
/// the system meanwhile. A panic there is one here, too.
pub(crate) fn in_system_thread<R: Send + 'static>(
    state: &Arc<State>,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R, NTSTATUS> {
    let done = Arc::new(Waiter::new());
    let progress = Arc::new(Mutex::new(Progress::Runs));
    state.watchers.lock().push(done.clone());
    let call = Call {
        progress: progress.clone(),
        done: done.clone(),
    };
    let body = move || {
        let result = f();
        *call.progress.lock() = Progress::Returned(result);
    };
    let started = ps::thread::start(state, state.processes.system(), None, body);
    let outcome = match started {
        Err(_) => Err(STATUS_INSUFFICIENT_RESOURCES),
        Ok(_) => loop {
            sched::block(&done, None);
            let now = std::mem::replace(&mut *progress.lock(), Progress::Runs);
            match now {
                Progress::Returned(result) => break Ok(result),
                Progress::Panicked => panic!("a system thread has panicked; see its message"),
                Progress::Runs if state.is_stopped() => break Err(STATUS_UNSUCCESSFUL),
                Progress::Runs => {}
            }
        },
    };
    state
        .watchers
        .lock()
        .retain(|other| !Arc::ptr_eq(other, &done));
    outcome
}

fn write_service_key(state: &State, name: &str) {
    const DEMAND_START: u32 = 3;
    const KERNEL_DRIVER: u32 = 1;
    let path = driver::registry_path(name);
    for (value, number) in [("Type", KERNEL_DRIVER), ("Start", DEMAND_START)] {
        if state.registry.value(&path, value).is_err() {
            // The key is stable and was just made: nothing here can fail.
            let _ = state.registry.set_value(&path, value, Value::dword(number));
        }
    }
}

/// Loads a driver: its service key, its driver object, its entry point, its reinitialisation.
pub(crate) fn load(state: &Arc<State>, image: &DriverImage) -> Result<(), NTSTATUS> {
    write_service_key(state, image.name);
    let driver = Driver::new(*image);
    state.drivers.add(&driver)?;
    state.objects.insert(Object::Driver(driver.clone()));
    let inner = driver.clone();
    let status = in_system_thread(state, move || enter(&inner));
    match status {
        Ok(status) if is_success(status) => {
            let inner = driver.clone();
            in_system_thread(state, move || reinitialize::run(&inner, false))
        }
        Ok(status) | Err(status) => {
            reinitialize::report_failed_entry(&driver);
            clean_up(state, &driver);
            Err(status)
        }
    }
}

fn enter(driver: &Arc<Driver>) -> NTSTATUS {
    driver.set_in_entry(true);
    let entry = driver.image().entry;
    let status = frame::call("DriverEntry", Some(driver), || {
        // SAFETY: the image says that this is its entry point; object and path live as long as
        // the driver.
        unsafe { entry(driver.object(), driver.registry_path()) }
    });
    driver.set_in_entry(false);
    status
}

/// Unloads a driver and reports what it left behind.
pub(crate) fn unload(state: &Arc<State>, name: &str, how: Unload) -> Result<(), NTSTATUS> {
    let driver = state
        .drivers
        .by_name(name)
        .ok_or(STATUS_OBJECT_NAME_NOT_FOUND)?;
    driver.begin_unload()?;
    let agreed = match how {
        Unload::Stop => stop(state, &driver),
        Unload::Filter => unload_filter(state, &driver),
    };
    if agreed.is_ok() {
        clean_up(state, &driver);
    }
    driver.end_unload(agreed.is_ok());
    agreed
}

fn unload_filter(state: &Arc<State>, driver: &Arc<Driver>) -> Result<(), NTSTATUS> {
    let filter_manager = state
        .filter_manager()
        .ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    let inner = driver.clone();
    in_system_thread(state, move || filter_manager.unload(&inner))?
}

fn stop(state: &Arc<State>, driver: &Arc<Driver>) -> Result<(), NTSTATUS> {
    let routine = driver.unload_routine();
    let routine = routine.ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    if let Some(filter_manager) = state.filter_manager() {
        filter_manager.check_unload_routine(driver);
    }
    let inner = driver.clone();
    in_system_thread(state, move || {
        frame::call("DriverUnload", Some(&inner), || {
            // SAFETY: the driver, or the Filter Manager in its place, put the routine there.
            unsafe { routine(inner.object()) }
        });
    })
}

/// Waits for what NT itself waits for, reports the rest, and forgets the driver.
fn clean_up(state: &Arc<State>, driver: &Arc<Driver>) {
    // A work item references its driver object: NT unmaps the image only after the last one.
    let limit = state.hang_limit.load(Ordering::Relaxed);
    let drained = state.work_queue.drain(driver, limit);
    if drained {
        driver.set_unloaded();
    }
    if let Some(filter_manager) = state.filter_manager() {
        filter_manager.report_left_by(driver);
    }
    state.notify.report_left_by(driver);
    state.callbacks.report_left_by(driver);
    state.registry_callbacks.report_left_by(driver);
    state.timers.report_left_by(driver);
    state.system_threads.report_left_by(driver);
    state.work_items.report_left_by(driver);
    if !drained {
        Report::new(Rule::WorkItemLeft)
            .driver(Some(driver.name()))
            .expected("work items come to an end")
            .found("one still runs")
            .file();
    }
    state.lists.report_left_by(driver);
    state.views.report_left_by(driver);
    report_objects(state, driver);
    state.pool.report_leaks(driver);
    state.objects.retire(driver.object() as usize);
    state.drivers.remove(driver);
}

fn report_objects(state: &State, driver: &Arc<Driver>) {
    for left in state.objects.handles_left_by(driver) {
        Report::new(Rule::HandleLeft)
            .driver(Some(driver.name()))
            .function(left.function)
            .expected("all handles are closed")
            .found(left.what)
            .made_at(left.stack)
            .file();
    }
    for left in state.objects.references_left_by(driver) {
        Report::new(Rule::ReferenceLeft)
            .driver(Some(driver.name()))
            .function(left.function)
            .expected("all references are given back")
            .found(left.what)
            .made_at(left.stack)
            .file();
    }
}

/// Unloads all drivers that can be stopped, the last one first.
pub(crate) fn unload_all(state: &Arc<State>) {
    for driver in state.drivers.all().iter().rev() {
        while driver.unload_routine().is_some()
            && !state.is_stopped()
            && unload(state, driver.name(), Unload::Stop) == Err(STATUS_DELETE_PENDING)
        {
            driver.wait_for_unload();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::in_system_thread;
    use crate::kernel::{self, Config, Kernel};

    #[test]
    #[should_panic(expected = "a system thread has panicked")]
    fn a_panic_in_a_system_thread_is_the_callers() {
        let _kernel = Kernel::boot(Config::default());
        let _never = in_system_thread(&kernel::state(), || panic!("for the test"));
    }
}
