// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosted kernel as tests and programs hold it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::config::FilterManagerStart;
use super::drivers::{self, Unload};
use super::{CURRENT, Config, State, Turn};
use crate::abi::NTSTATUS;
use crate::cm::UserRegistry;
use crate::driver::DriverImage;
use crate::ex::pool::TagUsage;
use crate::faults::{FaultPlan, InjectedFault};
use crate::io::reinitialize;
use crate::process::Process;
use crate::processor;
use crate::ps::events::{self, ImageLoaded, ProcessCreated};
use crate::registry::Registry;
use crate::sched;
use crate::sim;
use crate::verifier::{self, Report, Verifier};

/// A booted kernel. Clones stand for the same one. Shut it down with [`Kernel::shutdown`] and look
/// at the reports; when the last clone is dropped without that, the kernel is shut down and any
/// report is a panic.
#[derive(Clone)]
pub struct Kernel {
    owner: Arc<Owner>,
}

struct Owner {
    state: Arc<State>,
    /// Given back at the end; a simulation has one for all its kernels.
    turn: Mutex<Option<Turn>>,
}

impl Kernel {
    /// Boots a kernel. Waits until an earlier kernel of this process has been shut down.
    ///
    /// # Panics
    /// In a simulation that has a kernel, which nobody else would shut down meanwhile.
    #[must_use]
    pub fn boot(config: Config) -> Kernel {
        let turn = (!sim::is_simulated()).then(Turn::take);
        // Naming every export here makes any linker keep them for the drivers.
        std::hint::black_box((
            crate::EXPORTS,
            crate::dbg::DbgPrintEx as *const (),
            crate::nt_host_paged_code as *const (),
        ));
        let late = config.filter_manager == FilterManagerStart::Late;
        processor::install(config.processors);
        verifier::switch(config.verifier);
        let state = State::new(config);
        if !sim::boot(Some(state.clone())) {
            *CURRENT.write() = Some(state.clone());
        }
        crate::install_filter_manager(&state);
        let kernel = Kernel {
            owner: Arc::new(Owner {
                state,
                turn: Mutex::new(turn),
            }),
        };
        if !late {
            kernel.filter_manager_ready();
        }
        kernel
    }

    fn state(&self) -> &Arc<State> {
        &self.owner.state
    }

    /// Loads a driver and calls its entry point in a system thread. The error is DriverEntry's
    /// status, or STATUS_IMAGE_ALREADY_LOADED.
    pub fn load(&self, image: &DriverImage) -> Result<(), NTSTATUS> {
        sched::point("a load");
        drivers::load(self.state(), image)
    }

    /// Unloads a driver, and reports what it left behind. STATUS_INVALID_DEVICE_REQUEST if it
    /// cannot be unloaded this way, because it has no DriverUnload or no FilterUnloadCallback;
    /// STATUS_DELETE_PENDING while another unload of it is under way; a filter's own status if it
    /// refuses.
    pub fn unload(&self, name: &str, how: Unload) -> Result<(), NTSTATUS> {
        sched::point("an unload");
        drivers::unload(self.state(), name, how)
    }

    /// A process is made: calls the process notify routines in this thread, attached to the
    /// creator. The status is an error if a driver refuses the process; the routines have then
    /// been told of its end, too.
    pub fn process_created(&self, event: &ProcessCreated) -> NTSTATUS {
        sched::point("a process's creation");
        events::process_created(self.state(), event)
    }

    /// A process ran before anybody looked: drivers find it from now on, and are told of its end. No
    /// notify routine is called.
    pub fn process_running(&self, event: &ProcessCreated) {
        sched::point("a process that ran before");
        events::process_running(self.state(), event);
    }

    /// A process has ended. Ignored for a process that is not known.
    pub fn process_exited(&self, pid: u64, exit_status: i32) {
        sched::point("a process's end");
        events::process_exited(self.state(), pid, exit_status);
    }

    /// A thread is made in a process.
    pub fn thread_created(&self, pid: u64, tid: u64) {
        sched::point("a thread's creation");
        events::thread_event(self.state(), pid, tid, true);
    }

    /// A thread has ended.
    pub fn thread_exited(&self, pid: u64, tid: u64) {
        sched::point("a thread's end");
        events::thread_event(self.state(), pid, tid, false);
    }

    /// An image is mapped.
    pub fn image_loaded(&self, event: &ImageLoaded) {
        sched::point("an image's load");
        events::image_loaded(self.state(), event);
    }

    /// A process that is known: made by [`Kernel::process_created`], a peer, or System (4).
    #[must_use]
    pub fn process(&self, pid: u64) -> Option<Arc<Process>> {
        self.state().processes.find(pid)
    }

    /// The process of a peer outside, made when it is not known; `uid` is its user.
    #[must_use]
    pub fn peer(&self, pid: u32, uid: u32) -> Arc<Process> {
        self.state()
            .processes
            .open(self.state(), u64::from(pid), uid)
    }

    /// The Filter Manager is up from now on; see [`FilterManagerStart::Late`].
    pub fn filter_manager_ready(&self) {
        sched::point("the Filter Manager's start");
        if let Some(filter_manager) = self.state().filter_manager() {
            filter_manager.ready();
        }
    }

    /// All boot drivers and their devices have started: boot reinitialisation routines run.
    pub fn boot_drivers_initialized(&self) {
        let state = self.state();
        for driver in state.drivers.all() {
            // The only failure is a stop of the system, which is a report already.
            let _ = drivers::in_system_thread(state, move || reinitialize::run(&driver, true));
        }
    }

    /// The registry, to prepare keys and to look at what drivers wrote. No callback is told.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.state().registry
    }

    /// The registry, as a thread of a process works on it: with the registry callbacks.
    #[must_use]
    pub fn registry_of(&self, process: &Arc<Process>) -> UserRegistry<'_> {
        UserRegistry::new(self.state(), process.clone())
    }

    /// What is allocated from the pool now, by tag, largest first.
    #[must_use]
    pub fn pool_usage(&self) -> Vec<TagUsage> {
        self.state().pool.usage()
    }

    /// From now on calls of drivers fail by this plan; it takes the place of the one before,
    /// also of [`Config::faults`].
    pub fn set_faults(&self, plan: FaultPlan) {
        self.state().faults.set(plan);
    }

    /// The calls that the present plan has let fail, in order.
    #[must_use]
    pub fn injected_faults(&self) -> Vec<InjectedFault> {
        self.state().faults.injected()
    }

    /// The broken rules so far.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.state().reports.lock().clone()
    }

    /// Stops every driver that can be stopped, the last one first, ends the kernel, and returns
    /// all reports. Waits for an unload that is under way in another thread.
    #[must_use = "a report is a broken rule; `shutdown_clean` panics if there is one"]
    pub fn shutdown(self) -> Vec<Report> {
        self.owner.shut_down();
        std::mem::take(&mut *self.state().reports.lock())
    }

    /// Shuts down, and panics with all reports if there are any.
    pub fn shutdown_clean(self) {
        let state = self.state().clone();
        let reports = self.shutdown();
        if !reports.is_empty() {
            state.faults.print();
            panic!("{}", listed(&reports));
        }
    }
}

fn listed(reports: &[Report]) -> String {
    let mut text = format!("{} broken rules\n", reports.len());
    for report in reports {
        text.push_str(&format!("\n{report}"));
    }
    text
}

impl Owner {
    fn shut_down(&self) {
        let state = &self.state;
        if state.shut_down.swap(true, Ordering::AcqRel) {
            return;
        }
        drivers::unload_all(state);
        if let Some(filter_manager) = state.filter_manager() {
            filter_manager.shut_down();
        }
        state.timers.close();
        state.work_queue.close();
        state.pool.check_freed();
        if !sim::boot(None) {
            *CURRENT.write() = None;
        }
        verifier::switch(Verifier::Full);
        self.turn.lock().take();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if std::thread::panicking() && sim::is_simulated() {
            // The seed has failed, and no other thread gets a turn any more.
            return;
        }
        self.shut_down();
        let reports = std::mem::take(&mut *self.state.reports.lock());
        if std::thread::panicking() || !reports.is_empty() {
            self.state.faults.print();
        }
        if !reports.is_empty() {
            if std::thread::panicking() {
                eprintln!("{}", listed(&reports));
            } else {
                panic!("{}", listed(&reports));
            }
        }
    }
}
