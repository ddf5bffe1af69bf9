// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small filter driver. What its MessageNotify does is what the test says.

use fltport_nt::bindings::*;
use nt_host::flt::UserPort;
use nt_host::{Config, DriverImage, Kernel, Process, Report, Rule, Unload, UserSlice};
use nt_host::{fltport_copy_from_user, fltport_copy_to_user};
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use crate::support::{self, filter, one_port};

const SERVICE: &str = "usertest";
const PORT: &str = "\\UserTest";

/// What MessageNotify is given.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) input: *mut u8,
    pub(crate) input_length: usize,
    pub(crate) output: *mut u8,
}

impl Call {
    /// Reads an input byte without the fault-safe copy.
    pub(crate) fn peek(&self, offset: isize) -> u8 {
        // SAFETY: the mistake that the tests are about; the hosted kernel makes it succeed.
        unsafe { self.input.wrapping_offset(offset).read_volatile() }
    }

    /// Copies input bytes.
    pub(crate) fn fetch(&self, offset: usize, length: usize) -> (NTSTATUS, Vec<u8>) {
        fetch(self.input as usize + offset, length)
    }

    /// Copies output bytes.
    pub(crate) fn store(&self, offset: usize, bytes: &[u8]) -> NTSTATUS {
        let to = self.output as usize + offset;
        // SAFETY: the bytes are readable; the destination may be anything.
        unsafe { fltport_copy_to_user(to, bytes.as_ptr().cast(), bytes.len()) }
    }
}

/// Copies bytes from a user address.
pub(crate) fn fetch(address: usize, length: usize) -> (NTSTATUS, Vec<u8>) {
    let mut bytes = vec![0; length];
    // SAFETY: `bytes` is writable; the source may be anything.
    let status = unsafe { fltport_copy_from_user(bytes.as_mut_ptr().cast(), address, length) };
    (status, bytes)
}

type Message = Arc<dyn Fn(Call) -> NTSTATUS + Send + Sync>;

static MESSAGE: Mutex<Option<Message>> = Mutex::new(None);

unsafe extern "system" fn entry(
    object: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    one_port::start(object, Some(unload), Some(setup), PORT, Some(message))
}

unsafe extern "system" fn unload(_flags: u32) -> NTSTATUS {
    one_port::stop();
    STATUS_SUCCESS
}

unsafe extern "system" fn setup(
    _objects: *const FLT_RELATED_OBJECTS,
    _flags: u32,
    _device: u32,
    _file_system: FLT_FILESYSTEM_TYPE,
) -> NTSTATUS {
    STATUS_FLT_DO_NOT_ATTACH
}

unsafe extern "system" fn message(
    _cookie: *const c_void,
    input: *const c_void,
    input_length: u32,
    output: *mut c_void,
    output_length: u32,
    returned: *mut u32,
) -> NTSTATUS {
    let does = MESSAGE.lock().unwrap().clone().expect("a test says what");
    // SAFETY: the Filter Manager passes a variable.
    unsafe { returned.write(output_length) };
    does(Call {
        input: input.cast_mut().cast(),
        input_length: input_length as usize,
        output: output.cast(),
    })
}

/// A kernel with the driver, and a service of this process.
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
    service: Arc<UserPort>,
}

impl Machine {
    /// Boots and loads the driver with what its MessageNotify does.
    pub(crate) fn with(message: impl Fn(Call) -> NTSTATUS + Send + Sync + 'static) -> Machine {
        let kernel = Kernel::boot(Config::default());
        filter::install(&kernel, SERVICE, "365000.7");
        *MESSAGE.lock().unwrap() = Some(Arc::new(message));
        let image = DriverImage {
            name: SERVICE,
            entry,
            force_integrity: false,
        };
        kernel.load(&image).unwrap();
        let this = kernel.peer(std::process::id(), 0);
        let service = UserPort::connect(&this, &support::wide(PORT), &[]).unwrap();
        Machine { kernel, service }
    }

    /// Sends from another process.
    pub(crate) fn send_from(
        &self,
        caller: &Arc<Process>,
        input: UserSlice,
        output: UserSlice,
    ) -> NTSTATUS {
        self.service.send(caller, input, output).0
    }

    /// Sends from this process.
    pub(crate) fn send(&self, input: &[u8], output: &mut [u8]) -> NTSTATUS {
        let slice = |address: *const u8, length: usize| UserSlice {
            address: address as u64,
            length: length as u32,
        };
        let input = slice(input.as_ptr(), input.len());
        let length = output.len();
        // The kernel writes to it behind the compiler's back.
        let output = slice(std::hint::black_box(output.as_mut_ptr()), length);
        let this = self.kernel.peer(std::process::id(), 0);
        self.send_from(&this, input, output)
    }

    /// Unloads the driver and gives the reports.
    pub(crate) fn end(self) -> Vec<Report> {
        self.service.close();
        self.kernel.unload(SERVICE, Unload::Stop).unwrap();
        self.kernel.shutdown()
    }

    /// Unloads the driver and compares the broken rules.
    #[track_caller]
    pub(crate) fn expect(self, expected: &[Rule]) -> Vec<Report> {
        let reports = self.end();
        support::assert_rules(&reports, expected);
        reports
    }
}
