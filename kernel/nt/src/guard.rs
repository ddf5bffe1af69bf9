// SPDX-License-Identifier: MIT OR Apache-2.0
//! What control flow guard needs in an image: the load configuration, and the two pointers through
//! which the compiler's checks go.
//!
//! With `-Ccontrol-flow-guard` each call through a pointer is a call through
//! `__guard_dispatch_icall_fptr`, with the target in rax; on other targets than x64, and around
//! what cannot be called so, `__guard_check_icall_fptr` is asked with the target in rcx. A kernel
//! that enforces the guard replaces both pointers when it loads the image; it finds them, and the
//! list of the functions that may be called, in the load configuration directory. Where nobody does
//! so, the defaults below call the target as it is.
//!
//! Source: Microsoft's documentation of `IMAGE_LOAD_CONFIG_DIRECTORY64` and of control flow guard
//! (`/guard:cf`). In C, all this comes with the compiler's runtime library.

use core::ffi::c_void;

// In assembly, and not as Rust's statics, because the pointers change after the link: what the
// optimiser knows to be constant it would call directly, and there would be no guard. `.00cfg` is
// where Microsoft's runtime has them; it is read-only, as a pointer that everything goes through
// must be.
core::arch::global_asm!(
    ".section .00cfg,\"dr\"",
    ".p2align 3",
    ".globl __guard_check_icall_fptr",
    "__guard_check_icall_fptr:",
    ".quad fltport_unguarded_check",
    ".globl __guard_dispatch_icall_fptr",
    "__guard_dispatch_icall_fptr:",
    ".quad fltport_unguarded_dispatch",
    ".text",
    ".p2align 4, 0xCC",
    "fltport_unguarded_check:",
    "ret",
    ".p2align 4, 0xCC",
    "fltport_unguarded_dispatch:",
    "jmp rax",
);

unsafe extern "C" {
    #[link_name = "__guard_check_icall_fptr"]
    static CHECK: *const c_void;
    #[link_name = "__guard_dispatch_icall_fptr"]
    static DISPATCH: *const c_void;
    // These the linker makes; of the counts and flags the address is the value.
    #[link_name = "__guard_fids_table"]
    static FUNCTIONS: c_void;
    #[link_name = "__guard_fids_count"]
    static FUNCTION_COUNT: c_void;
    #[link_name = "__guard_flags"]
    static FLAGS: c_void;
    #[link_name = "__guard_iat_table"]
    static IMPORTS: c_void;
    #[link_name = "__guard_iat_count"]
    static IMPORT_COUNT: c_void;
    #[link_name = "__guard_longjmp_table"]
    static LONG_JUMPS: c_void;
    #[link_name = "__guard_longjmp_count"]
    static LONG_JUMP_COUNT: c_void;
}

/// `IMAGE_LOAD_CONFIG_DIRECTORY64` up to its last field that control flow guard has; `size` says
/// where it ends.
#[repr(C)]
struct LoadConfiguration {
    size: u32,
    /// Time stamp, version, the heap's and the loader's settings, lock prefixes, the edit list, the
    /// security cookie, the exception handlers of x86: nothing of it is used, or is of drivers.
    unused: [u32; 27],
    check: *const *const c_void,
    dispatch: *const *const c_void,
    functions: *const c_void,
    function_count: *const c_void,
    /// 32 bits; the other half begins the next field, which is all zeros. (The linker's symbol can
    /// only be stored as a pointer, and its value is below 2^32.)
    flags: *const c_void,
    code_integrity: [u32; 2],
    imports: *const c_void,
    import_count: *const c_void,
    long_jumps: *const c_void,
    long_jump_count: *const c_void,
}

// SAFETY: it is never written, and what it points to is the image's, for as long as it is loaded.
unsafe impl Sync for LoadConfiguration {}

const _: () = assert!(core::mem::offset_of!(LoadConfiguration, check) == 0x70);
const _: () = assert!(core::mem::offset_of!(LoadConfiguration, flags) == 0x90);
const _: () = assert!(core::mem::offset_of!(LoadConfiguration, imports) == 0xA0);
const _: () = assert!(size_of::<LoadConfiguration>() == 0xC0);

/// The linker makes the image's load configuration directory of what has this name.
#[used]
#[unsafe(no_mangle)]
static _load_config_used: LoadConfiguration = LoadConfiguration {
    size: size_of::<LoadConfiguration>() as u32,
    unused: [0; 27],
    check: &raw const CHECK,
    dispatch: &raw const DISPATCH,
    functions: &raw const FUNCTIONS,
    function_count: &raw const FUNCTION_COUNT,
    flags: &raw const FLAGS,
    code_integrity: [0; 2],
    imports: &raw const IMPORTS,
    import_count: &raw const IMPORT_COUNT,
    long_jumps: &raw const LONG_JUMPS,
    long_jump_count: &raw const LONG_JUMP_COUNT,
};
