// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the processor says when a driver touches memory that it must not touch.
//!
//! Pages that the hosted kernel keeps closed raise SIGSEGV at the very instruction. The owner of
//! the pages files a report, opens the page, and the instruction is repeated, so that one run
//! shows all mistakes. A fault anywhere else goes to whoever handled it before: Rust's own message
//! about a stack that overflows stays, and so does a plain crash.
//!
//! The handler is entered on the alternative signal stack, because only then an overflow of the
//! ordinary one can be reported at all. That stack is too small to walk and file on, so the work is
//! done on the stack that was interrupted, below what is in use there.

use std::ffi::{c_int, c_void};
use std::sync::{Once, OnceLock};

use crate::ex::special_pool;
use crate::sim;
use crate::stack::Stack;
use crate::thread;
use crate::user_memory::shadow;

/// How many frames the stack of a fault keeps.
const DEPTH: usize = 48;

/// What an instruction wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read data.
    Read,
    /// Write data.
    Write,
    /// Go on there.
    Execute,
}

/// An instruction that touched a closed page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// What was touched.
    pub address: usize,
    /// How.
    pub access: Access,
    /// Where the instruction lies.
    instruction: usize,
}

impl Fault {
    /// The stack of the thread when it touched the page.
    pub(crate) fn stack(&self) -> Stack {
        let mut addresses = Vec::with_capacity(DEPTH);
        backtrace::trace(|frame| {
            let address = frame.ip() as usize;
            if !addresses.is_empty() {
                addresses.push(address);
            } else if address.abs_diff(self.instruction) <= 1 {
                // The frames before this one are the handler's. As if a call of one byte returned
                // behind the instruction, because that is how return addresses are looked up.
                addresses.push(self.instruction + 1);
            }
            addresses.len() < DEPTH
        });
        if addresses.is_empty() {
            return Stack::capture();
        }
        Stack::of(addresses)
    }
}

/// Reports a fault and opens the page. False if the instruction cannot be repeated.
type Resolve = fn(&Fault) -> bool;

/// Who closed the page at an address. Called in the signal handler: reads statics only.
fn owner_of(address: usize) -> Option<Resolve> {
    if shadow::covers(address) {
        return Some(shadow::resolve);
    }
    special_pool::covers(address).then_some(special_pool::resolve as Resolve)
}

/// Whoever handled SIGSEGV before.
static FORMER: OnceLock<libc::sigaction> = OnceLock::new();

/// Makes faults known to this module, once for the process; later calls do nothing. Closed pages
/// are private memory without a file, which raises SIGSEGV and never SIGBUS.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(former) = former_action() {
            FORMER.get_or_init(|| former);
            set_action(&own_action());
        }
    });
}

fn default_action() -> libc::sigaction {
    // SAFETY: a sigaction of zeros is the default action with no flags.
    unsafe { std::mem::zeroed() }
}

fn former_action() -> Option<libc::sigaction> {
    let mut former = default_action();
    // SAFETY: asks only; `former` outlives the call.
    let result = unsafe { libc::sigaction(libc::SIGSEGV, std::ptr::null(), &raw mut former) };
    (result == 0).then_some(former)
}

fn own_action() -> libc::sigaction {
    let mut action = default_action();
    action.sa_sigaction = on_fault as *const () as usize;
    // Faults stay allowed meanwhile: one inside the handler is a mistake of this crate, and must
    // be seen as one. Everything else waits, because its handler would use the same stack.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | machine::STACK_FLAG;
    // SAFETY: the set is ours.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    for synchronous in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
        // SAFETY: the set is ours; the signal is valid.
        unsafe { libc::sigdelset(&raw mut action.sa_mask, synchronous) };
    }
    action
}

fn set_action(action: &libc::sigaction) {
    // SAFETY: a complete action, whose handler keeps to what a handler may do, see `on_fault`.
    let result = unsafe { libc::sigaction(libc::SIGSEGV, action, std::ptr::null_mut()) };
    debug_assert_eq!(result, 0);
}

/// One fault on its way to the owner of the page.
struct Job {
    fault: Fault,
    resolve: Resolve,
    resolved: bool,
}

/// The handler. Until it knows that the page is ours it reads statics and nothing else. Then the
/// thread was not inside an allocator or the C library's locks, but executed an access to a page
/// that only drivers are given: the same thread may file a report here as it may anywhere.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the host system passes the signal's description.
    let info_ref = unsafe { &*info };
    // SAFETY: SIGSEGV has an address.
    let address = unsafe { info_ref.si_addr() } as usize;
    // A positive code is the processor's own; others are sent by programs.
    let owner = if info_ref.si_code > 0 {
        owner_of(address)
    } else {
        None
    };
    // SAFETY: the host system passes the interrupted thread's context.
    let interrupted = unsafe { &*context.cast::<libc::ucontext_t>() };
    let Some(resolve) = owner else {
        tell_of_overflow(address, machine::stack_pointer(interrupted));
        return pass_on(signal, info, context);
    };
    let mut job = Job {
        fault: Fault {
            address,
            access: machine::access(interrupted),
            instruction: machine::instruction(interrupted),
        },
        resolve,
        resolved: false,
    };
    machine::run_on_interrupted_stack(interrupted, &mut job);
    if !job.resolved {
        pass_on(signal, info, context);
    }
}

/// Runs a job, on whatever stack.
///
/// # Safety
/// `job` points to a [`Job`] that nobody else uses.
unsafe extern "C" fn work(job: *mut c_void) {
    // SAFETY: by contract.
    let job = unsafe { &mut *job.cast::<Job>() };
    // SAFETY: the address of the calling thread's own variable.
    let error_number = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let former_error = unsafe { *error_number };
    if thread::with_context(|context| context.in_fault.replace(true)) {
        eprintln!(
            "nt-host: the hosted kernel itself touched closed memory at {:#x} while it reported \
             another access; this is a fault of nt-host, not of the driver\n{}",
            job.fault.address,
            job.fault.stack()
        );
        std::process::abort();
    }
    job.resolved = (job.resolve)(&job.fault);
    thread::with_context(|context| context.in_fault.set(false));
    // SAFETY: as above.
    unsafe { *error_number = former_error };
}

/// Says that the stack of a simulated thread is at its end, which Rust's own handler does not know.
fn tell_of_overflow(address: usize, stack_pointer: usize) {
    /// Functions with large frames touch each page of them, so an overflow is seen this near.
    const REACH: usize = 64 * 1024;
    const TEXT: &str = "nt-host: a thread of a simulation has overflowed its stack of 512 KiB\n";
    if sim::is_simulated() && address.abs_diff(stack_pointer) < REACH {
        // SAFETY: writes a static text, which a signal handler may do.
        unsafe { libc::write(libc::STDERR_FILENO, TEXT.as_ptr().cast(), TEXT.len()) };
    }
}

/// Hands the signal to whoever handled it before.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let former = FORMER.get().copied().unwrap_or_else(default_action);
    match former.sa_sigaction {
        // To return repeats the instruction, which then ends the process, with a core.
        libc::SIG_DFL | libc::SIG_IGN => set_action(&default_action()),
        handler if former.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
            // SAFETY: with SA_SIGINFO a handler has this type.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO a handler has this type.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}

/// What depends on the processor.
#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{Access, Job, work};
    use std::ffi::c_void;

    /// The handler runs on the alternative stack where there is one.
    pub(super) const STACK_FLAG: libc::c_int = libc::SA_ONSTACK;

    /// Bytes below the stack pointer that the interrupted function may use (System V ABI).
    const RED_ZONE: usize = 128;

    core::arch::global_asm!(
        ".pushsection .text.nt_host_call_on_stack,\"ax\",@progbits",
        ".hidden nt_host_call_on_stack",
        ".globl nt_host_call_on_stack",
        ".type nt_host_call_on_stack, @function",
        "nt_host_call_on_stack:",
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        // From here on the frame is found by rbp, whatever stack rsp is on.
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
        ".size nt_host_call_on_stack, . - nt_host_call_on_stack",
        ".popsection",
    );

    unsafe extern "C" {
        /// Calls `function(job)` with the stack pointer at `stack`, a multiple of 16.
        fn nt_host_call_on_stack(
            job: *mut c_void,
            function: unsafe extern "C" fn(*mut c_void),
            stack: usize,
        );
    }

    fn register(context: &libc::ucontext_t, number: libc::c_int) -> usize {
        let registers = &context.uc_mcontext.gregs;
        let value = usize::try_from(number).ok().and_then(|n| registers.get(n));
        // Bits, not a number: the sign means nothing.
        value.map_or(0, |value| *value as usize)
    }

    /// Bits of the page fault's error code: Intel SDM volume 3, "Page-Fault Exceptions".
    pub(super) fn access(context: &libc::ucontext_t) -> Access {
        const WRITE: usize = 1 << 1;
        const FETCH: usize = 1 << 4;
        match register(context, libc::REG_ERR) {
            error if error & FETCH != 0 => Access::Execute,
            error if error & WRITE != 0 => Access::Write,
            _ => Access::Read,
        }
    }

    pub(super) fn instruction(context: &libc::ucontext_t) -> usize {
        register(context, libc::REG_RIP)
    }

    pub(super) fn stack_pointer(context: &libc::ucontext_t) -> usize {
        register(context, libc::REG_RSP)
    }

    /// Runs the job below the part of the interrupted stack that is in use, unless the handler is
    /// there already because the thread has no alternative stack.
    pub(super) fn run_on_interrupted_stack(context: &libc::ucontext_t, job: &mut Job) {
        let alternative = &context.uc_stack;
        let start = alternative.ss_sp as usize;
        let job = std::ptr::from_mut(job).cast();
        if !(start..start + alternative.ss_size).contains(&(job as usize)) {
            // SAFETY: the caller's own job.
            return unsafe { work(job) };
        }
        let stack = (register(context, libc::REG_RSP) - RED_ZONE) & !15;
        // SAFETY: the job is the caller's own; the thread is interrupted and returns to exactly
        // this stack pointer; what lies below it and its red zone is free. `work` never unwinds,
        // being a C function.
        unsafe { nt_host_call_on_stack(job, work, stack) };
    }
}

/// What depends on the processor: elsewhere the handler keeps to the interrupted stack, and an
/// access counts as a write, which opens the page for every repetition.
#[cfg(not(target_arch = "x86_64"))]
mod machine {
    use super::{Access, Job, work};

    pub(super) const STACK_FLAG: libc::c_int = 0;

    pub(super) fn access(_context: &libc::ucontext_t) -> Access {
        Access::Write
    }

    pub(super) fn instruction(_context: &libc::ucontext_t) -> usize {
        0
    }

    pub(super) fn stack_pointer(_context: &libc::ucontext_t) -> usize {
        0
    }

    pub(super) fn run_on_interrupted_stack(_context: &libc::ucontext_t, job: &mut Job) {
        // SAFETY: the caller's own job.
        unsafe { work(std::ptr::from_mut(job).cast()) };
    }
}
