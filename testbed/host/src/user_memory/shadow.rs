// SPDX-License-Identifier: MIT OR Apache-2.0
//! The addresses that a driver sees instead of a user's buffers.
//!
//! For each buffer of a call there is a range of closed pages, with the same place in its page and
//! the same length. The fault-safe copies translate; any other access faults. When the call is over
//! the range stays closed, and is used again as late as possible.
//!
//! The addresses lie where no program of Linux has its own by default, so that a pointer that a
//! service puts into a message is never taken for one of them.

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::UserSlice;
use super::opened::{Behind, OpenPages};
use super::remote::{self, Direction};
use super::table::{Buffer, Call, Role, Table, Used};
use super::wording;
use crate::abi::NTSTATUS;
use crate::driver::Driver;
use crate::ex::special_pool;
use crate::pages::fault_handler::{self, Access, Fault};
use crate::pages::{Opened, Reservation};
use crate::stack::Stack;
use crate::status::{STATUS_ACCESS_VIOLATION, STATUS_INSUFFICIENT_RESOURCES, is_success};
use crate::thread;
use crate::verifier::{Report, Rule};

/// Where the addresses begin, if the host system has that place free: below all libraries and
/// stacks, above programs, heaps and the arenas of other runtimes.
const WISH: usize = 0x2400_0000_0000;
/// How much there is: room for both buffers of many calls that claim to have 4 GiB.
const SIZE: usize = 256 << 30;

/// The address space; none where the host system refuses it.
static SPACE: OnceLock<Option<Reservation>> = OnceLock::new();

/// Locked for moments, in which the host system is called and reports are worded, but none filed.
static TABLE: Mutex<Table> = Mutex::new(Table::new());

fn space() -> Option<&'static Reservation> {
    let space = SPACE.get_or_init(|| {
        let space = Reservation::new(WISH, SIZE);
        if space.is_none() {
            eprintln!(
                "nt-host: the host system has no address space to stand for user memory, so a \
                 driver that touches it is not found out: raise the limit of virtual memory \
                 (ulimit -v)"
            );
        }
        fault_handler::install();
        space
    });
    space.as_ref()
}

/// Whether an address stands for user memory, or once did.
pub(crate) fn covers(address: usize) -> bool {
    let space = SPACE.get().and_then(Option::as_ref);
    space.is_some_and(|space| space.contains(address))
}

/// A callback's user buffers, as the driver sees them. Dropping it ends the call.
pub(crate) struct UserCall {
    number: u64,
    /// The number of the call that this one is nested in.
    former: u64,
    /// The address of the input buffer.
    pub(crate) input: usize,
    /// The address of the output buffer.
    pub(crate) output: usize,
}

impl UserCall {
    /// Begins a call of the process that the thread is attached to. A null pointer stays one.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES when all addresses stand for buffers of running calls.
    pub(crate) fn begin(
        driver: &Driver,
        input: &UserSlice,
        output: &UserSlice,
    ) -> Result<UserCall, NTSTATUS> {
        let Some(space) = space() else {
            return Ok(UserCall {
                number: 0,
                former: thread::with_context(|context| context.user_call.get()),
                input: input.address as usize,
                output: output.address as usize,
            });
        };
        let owner = remote::owner(&thread::current_process());
        UserCall::of_owner(space, driver, owner, input, output)
    }

    /// As [`UserCall::begin`], with an output buffer that lies in this process of the host system,
    /// whatever process the thread is attached to: one whose calls the hosted kernel itself makes.
    ///
    /// # Errors
    /// As for [`UserCall::begin`].
    pub(crate) fn begin_here(driver: &Driver, output: &UserSlice) -> Result<UserCall, NTSTATUS> {
        let nothing = UserSlice::default();
        match space() {
            Some(space) => {
                let owner = std::process::id().cast_signed();
                UserCall::of_owner(space, driver, owner, &nothing, output)
            }
            None => UserCall::begin(driver, &nothing, output),
        }
    }

    fn of_owner(
        space: &Reservation,
        driver: &Driver,
        owner: libc::pid_t,
        input: &UserSlice,
        output: &UserSlice,
    ) -> Result<UserCall, NTSTATUS> {
        let process = thread::current_process();
        let mut table = TABLE.lock();
        let number = table.begin(driver.name(), process.pid(), owner);
        let mut add = |role, slice: &UserSlice| match slice.address {
            0 => Some(0),
            _ => table.add(space, number, role, slice),
        };
        let buffers = (add(Role::Input, input), add(Role::Output, output));
        let (Some(input), Some(output)) = buffers else {
            table.end(space, number);
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        };
        drop(table);
        Ok(UserCall {
            number,
            former: thread::with_context(|context| context.user_call.replace(number)),
            input,
            output,
        })
    }
}

impl Drop for UserCall {
    fn drop(&mut self) {
        thread::with_context(|context| context.user_call.set(self.former));
        if let Some(space) = space() {
            TABLE.lock().end(space, self.number);
        }
    }
}

/// What is to be done for a copy.
struct Plan {
    /// The host system's process, the address there and the number of bytes; none if nothing may be
    /// copied.
    copy: Option<(libc::pid_t, u64, usize)>,
    /// The call that the memory was given with.
    call: u64,
    report: Option<Report>,
}

impl Plan {
    fn refused(report: Option<Report>) -> Plan {
        Plan {
            copy: None,
            call: 0,
            report,
        }
    }
}

/// Copies between kernel memory and an address that a driver uses for user memory.
///
/// # Safety
/// `kernel` holds `length` bytes, readable, and writable too if the copy comes from the user.
pub(super) unsafe fn copy(
    direction: Direction,
    kernel: *mut c_void,
    user: usize,
    length: usize,
) -> NTSTATUS {
    let plan = if covers(user) {
        plan_shadow(direction, user, length)
    } else {
        plan_plain(user, length)
    };
    if let Some(report) = plan.report {
        report.file();
    }
    let Some((pid, real, allowed)) = plan.copy else {
        return STATUS_ACCESS_VIOLATION;
    };
    let copy = if special_pool::covers(kernel as usize) {
        // What is closed there is a mistake, or paged out.
        remote::copy_by_instructions
    } else {
        remote::copy
    };
    // SAFETY: `kernel` holds `length` bytes by contract, and `allowed` is not more.
    let status = unsafe { copy(direction, pid, kernel, real, allowed) };
    if !is_success(status) {
        return status;
    }
    if direction == Direction::FromUser && plan.call != 0 && allowed > 0 {
        note_fetch(plan.call, real..real.wrapping_add(allowed as u64));
    }
    if allowed < length {
        return STATUS_ACCESS_VIOLATION;
    }
    status
}

/// An address that the service itself has named, inside a message: one of its own.
fn plan_plain(user: usize, length: usize) -> Plan {
    let process = thread::current_process();
    let call = thread::with_context(|context| context.user_call.get());
    let mut table = TABLE.lock();
    let running = table.calls.get(&call);
    let of_caller = running.is_some_and(|running| running.process == process.pid());
    if let Some(space) = space().filter(|_| of_caller) {
        table.settle(space, call);
    }
    Plan {
        copy: Some((remote::owner(&process), user as u64, length)),
        call: if of_caller { call } else { 0 },
        report: None,
    }
}

fn plan_shadow(direction: Direction, user: usize, length: usize) -> Plan {
    let Some(space) = space().filter(|_| length > 0) else {
        // Nothing is touched, so nothing can be wrong.
        return Plan {
            copy: Some((0, 0, 0)),
            call: 0,
            report: None,
        };
    };
    let process = thread::current_process();
    let used = match direction {
        Direction::FromUser => Used::CopiedFrom,
        Direction::ToUser => Used::CopiedTo,
    };
    let mut table = TABLE.lock();
    let Some((buffer, call)) = table.at(user) else {
        return Plan::refused(Some(wording::long_over(used)));
    };
    if call.over {
        let report = wording::report(Rule::UserMemoryUsedAfterCall, used, user, buffer, call);
        return Plan::refused(report);
    }
    if call.process != process.pid() {
        let report = wording::report(Rule::UserMemoryWrongProcess, used, user, buffer, call);
        return Plan::refused(report);
    }
    let within = within(&buffer.behind.shadow, user, length);
    let report = if within < length {
        wording::report(Rule::UserMemoryOutOfRange, used, user, buffer, call)
    } else {
        None
    };
    let offset = user.wrapping_sub(buffer.behind.shadow.start) as u64;
    let (real, number) = (buffer.behind.real.wrapping_add(offset), buffer.call);
    let copy = Some((call.pid, real, within));
    table.settle(space, number);
    Plan {
        copy,
        call: number,
        report,
    }
}

/// How many of `length` bytes from `address` on lie in a range that must contain the first.
fn within(range: &Range<usize>, address: usize, length: usize) -> usize {
    if range.contains(&address) {
        length.min(range.end - address)
    } else {
        0
    }
}

/// Reports bytes that are copied a second time.
fn note_fetch(number: u64, bytes: Range<u64>) {
    let stack = Stack::capture();
    let mut table = TABLE.lock();
    let Some(call) = table.calls.get_mut(&number).filter(|call| !call.over) else {
        return;
    };
    let again = call.fetch(bytes, stack);
    let report = again.map(|(twice, first)| wording::fetched_twice(&twice, first));
    drop(table);
    if let Some(report) = report {
        report.file();
    }
}

/// Reports that a driver touched what stands for user memory, and opens the page.
pub(crate) fn resolve(fault: &Fault) -> bool {
    let (report, repeat) = touched(fault);
    if let Some(report) = report {
        if !repeat {
            eprintln!("{report}");
        }
        report.file();
    }
    repeat
}

fn touched(fault: &Fault) -> (Option<Report>, bool) {
    let Some(space) = space() else {
        return (None, false);
    };
    let (wanted, used) = match fault.access {
        Access::Read => (Opened::Read, Used::Read),
        Access::Write => (Opened::ReadWrite, Used::Written),
        Access::Execute => (Opened::Read, Used::Called),
    };
    let address = fault.address;
    let mut locked = TABLE.lock();
    let table = &mut *locked;
    let (report, opened) = match table.at(address) {
        Some((buffer, call)) => touched_buffer(space, buffer, call, address, (wanted, used)),
        None => touched_stray(space, &mut table.strays, address, (wanted, used)),
    };
    drop(locked);
    if let Err(error) = &opened {
        eprintln!("nt-host: a page of user memory cannot be opened: {error}");
    }
    let repeat = opened.is_ok() && fault.access != Access::Execute;
    let report = report.map(|it| it.at("it was touched here", fault.stack()));
    (report, repeat)
}

fn touched_buffer(
    space: &Reservation,
    buffer: &mut Buffer,
    call: &Call,
    address: usize,
    (wanted, used): (Opened, Used),
) -> (Option<Report>, io::Result<()>) {
    if buffer.opened.admits(address, wanted) {
        // Another thread was here a moment before.
        return (None, Ok(()));
    }
    let rule = if call.over {
        Rule::UserMemoryUsedAfterCall
    } else if buffer.behind.shadow.contains(&address) {
        Rule::UserMemoryTouched
    } else {
        Rule::UserMemoryOutOfRange
    };
    let report = wording::report(rule, used, address, buffer, call);
    let opened = buffer.opened.open(space, &buffer.behind, address, wanted);
    (report, opened)
}

fn touched_stray(
    space: &Reservation,
    strays: &mut OpenPages,
    address: usize,
    (wanted, used): (Opened, Used),
) -> (Option<Report>, io::Result<()>) {
    if strays.admits(address, wanted) {
        return (None, Ok(()));
    }
    let opened = strays.open(space, &Behind::nothing(), address, wanted);
    (Some(wording::long_over(used)), opened)
}
