// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service control manager.

use super::system::{last_error, wide};
use anyhow::{Context, Result, bail};
use std::io;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};
use windows_sys::Win32::Foundation::{
    ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_NOT_ACTIVE,
};
use windows_sys::Win32::System::Services::{
    CloseServiceHandle, ControlService, CreateServiceW, OpenSCManagerW, OpenServiceW,
    QueryServiceStatus, SC_HANDLE, SC_MANAGER_CONNECT, SC_MANAGER_CREATE_SERVICE,
    SERVICE_ALL_ACCESS, SERVICE_CONTROL_STOP, SERVICE_DEMAND_START, SERVICE_ERROR_NORMAL,
    SERVICE_FILE_SYSTEM_DRIVER, SERVICE_KERNEL_DRIVER, SERVICE_RUNNING, SERVICE_STATUS,
    SERVICE_STATUS_CURRENT_STATE, SERVICE_STOPPED, StartServiceW,
};

/// The group of all drivers of a scenario: under Wine those of one group and one start type share a
/// process, and so the common driver's callback object.
const GROUP: &str = "FSFilter Activity Monitor";

/// How long a driver may take to come and to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// A driver as it is entered.
pub(super) struct Driver {
    pub(super) name: &'static str,
    pub(super) is_filter: bool,
}

/// What became of a start.
pub(super) enum Started {
    Yes,
    /// With this error of Windows.
    Refused(i32),
}

/// A connection to it.
pub(super) struct Manager(Handle);

/// A handle of it.
struct Handle(SC_HANDLE);

impl Handle {
    /// What a function returned, or its error.
    fn check(handle: SC_HANDLE) -> io::Result<Handle> {
        if handle.is_null() {
            Err(last_error())
        } else {
            Ok(Handle(handle))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: an open handle that nobody else has.
        unsafe { CloseServiceHandle(self.0) };
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code as i32)
}

impl Manager {
    pub(super) fn open() -> Result<Manager> {
        let access = SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE;
        // SAFETY: this machine and its active database are named by null.
        let handle = unsafe { OpenSCManagerW(null(), null(), access) };
        let handle = Handle::check(handle).context(
            "the service control manager cannot be opened. Run this as an administrator",
        )?;
        Ok(Manager(handle))
    }

    fn service(&self, name: &str) -> io::Result<Handle> {
        let name = wide(name);
        // SAFETY: an open handle and a terminated name.
        let handle = unsafe { OpenServiceW(self.0.0, name.as_ptr(), SERVICE_ALL_ACCESS) };
        Handle::check(handle)
    }

    /// Enters a driver, unless it is entered already.
    pub(super) fn enter(&self, driver: &Driver) -> Result<()> {
        match self.service(driver.name) {
            Ok(_) => return Ok(()),
            Err(error) if is(&error, ERROR_SERVICE_DOES_NOT_EXIST) => {}
            Err(error) => {
                return Err(error).context(format!("the service {} cannot be opened", driver.name));
            }
        }
        let root = std::env::var("SystemRoot").context("there is no variable SystemRoot")?;
        let path = wide(&format!("{root}\\System32\\drivers\\{}.sys", driver.name));
        let (name, group) = (wide(driver.name), wide(GROUP));
        let kind = if driver.is_filter {
            SERVICE_FILE_SYSTEM_DRIVER
        } else {
            SERVICE_KERNEL_DRIVER
        };
        // SAFETY: an open handle and terminated strings; what is null has a default.
        let handle = unsafe {
            CreateServiceW(
                self.0.0,
                name.as_ptr(),
                name.as_ptr(),
                SERVICE_ALL_ACCESS,
                kind,
                SERVICE_DEMAND_START,
                SERVICE_ERROR_NORMAL,
                path.as_ptr(),
                group.as_ptr(),
                null_mut(),
                null(),
                null(),
                null(),
            )
        };
        Handle::check(handle)
            .map(drop)
            .with_context(|| format!("the service {} cannot be made", driver.name))
    }

    /// Starts a driver and waits until it runs. One that runs is well.
    pub(super) fn start(&self, name: &str) -> Result<Started> {
        let service = self
            .service(name)
            .with_context(|| format!("the service {name} cannot be opened"))?;
        // SAFETY: an open handle, and no arguments.
        if unsafe { StartServiceW(service.0, 0, null()) } == 0 {
            let error = last_error();
            if !is(&error, ERROR_SERVICE_ALREADY_RUNNING) {
                return Ok(Started::Refused(error.raw_os_error().unwrap_or(0)));
            }
        }
        wait_until(&service, SERVICE_RUNNING).with_context(|| format!("{name} does not run"))?;
        Ok(Started::Yes)
    }

    /// Stops a driver and waits until it is gone. One that is not there is well.
    pub(super) fn stop(&self, name: &str) -> Result<()> {
        let service = match self.service(name) {
            Ok(service) => service,
            Err(error) if is(&error, ERROR_SERVICE_DOES_NOT_EXIST) => return Ok(()),
            Err(error) => {
                return Err(error).context(format!("the service {name} cannot be opened"));
            }
        };
        let mut status = SERVICE_STATUS::default();
        // SAFETY: an open handle and a place for the status.
        if unsafe { ControlService(service.0, SERVICE_CONTROL_STOP, &mut status) } == 0 {
            let error = last_error();
            if !is(&error, ERROR_SERVICE_NOT_ACTIVE) {
                return Err(error).context(format!("{name} cannot be stopped"));
            }
        }
        wait_until(&service, SERVICE_STOPPED).with_context(|| format!("{name} does not stop"))
    }

    /// Waits until a driver is gone that somebody else has unloaded.
    pub(super) fn wait_until_stopped(&self, name: &str) -> Result<()> {
        let service = self
            .service(name)
            .with_context(|| format!("the service {name} cannot be opened"))?;
        wait_until(&service, SERVICE_STOPPED).with_context(|| format!("{name} does not stop"))
    }
}

/// Starting and stopping a driver returns when that is done; what remains is the moment until the
/// service control manager has noted it.
fn wait_until(service: &Handle, wanted: SERVICE_STATUS_CURRENT_STATE) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut status = SERVICE_STATUS::default();
        // SAFETY: an open handle and a place for the status.
        if unsafe { QueryServiceStatus(service.0, &mut status) } == 0 {
            return Err(last_error()).context("its state cannot be asked for");
        }
        if status.dwCurrentState == wanted {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let state = status.dwCurrentState;
            bail!("after {PATIENCE:?} its state is {state} instead of {wanted}");
        }
        std::thread::yield_now();
    }
}
