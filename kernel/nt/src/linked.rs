// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the Windows metadata lacks, declared by hand from the documentation and the WDK's headers:
//! functions that x64's ntoskrnl.exe exports under other names than the documented macros, variables,
//! and constants.

use crate::bindings::{NTSTATUS, OBJECT_ATTRIBUTES, POBJECT_TYPE, UNICODE_STRING};
use core::ffi::c_void;

#[cfg_attr(
    windows,
    link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")
)]
unsafe extern "system" {
    /// `KeAcquireSpinLock` on x64. IRQL: <= DISPATCH_LEVEL; returns the former IRQL.
    pub fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8;
    /// IRQL: DISPATCH_LEVEL; goes back to `irql`.
    pub fn KeReleaseSpinLock(lock: *mut usize, irql: u8);
    /// IRQL: DISPATCH_LEVEL.
    pub fn KeAcquireSpinLockAtDpcLevel(lock: *mut usize);
    /// IRQL: DISPATCH_LEVEL.
    pub fn KeReleaseSpinLockFromDpcLevel(lock: *mut usize);
    /// IRQL: any; `irql` must not be above the present one.
    pub fn KeLowerIrql(irql: u8);
    /// IRQL: PASSIVE_LEVEL. What Microsoft documents as ZwQuerySystemInformation; the metadata has the
    /// name of user mode only.
    pub fn ZwQuerySystemInformation(
        class: u32,
        information: *mut c_void,
        length: u32,
        returned: *mut u32,
    ) -> NTSTATUS;
    /// The type of event objects, for `ObReferenceObjectByHandle`, whose documentation names it; the
    /// metadata has no variables. This is NT's own variable. (In C `ExEventObjectType` is the entry of the import table that
    /// points to it; a static of a raw-dylib goes through that entry by itself.)
    #[cfg(windows)]
    pub static ExEventObjectType: POBJECT_TYPE;
    /// As a driver in C sees it, for whom it points to the type.
    #[cfg(not(windows))]
    pub static ExEventObjectType: *const POBJECT_TYPE;
}

/// The lowest IRQL: a thread that can do anything.
pub const PASSIVE_LEVEL: u8 = 0;
/// No normal kernel APCs; fast mutexes raise to it.
pub const APC_LEVEL: u8 = 1;
/// No waiting, no paged memory; spin locks raise to it.
pub const DISPATCH_LEVEL: u8 = 2;

/// All processors of the system, for the functions that count those of a group.
pub const ALL_PROCESSOR_GROUPS: u16 = 0xFFFF;

/// Non-paged pool that is not executable, for `ExAllocatePool2`.
pub const POOL_FLAG_NON_PAGED: u64 = 0x40;
/// Do not zero the memory.
pub const POOL_FLAG_UNINITIALIZED: u64 = 0x02;

/// The call is not possible at this IRQL.
pub const STATUS_INVALID_LEVEL: NTSTATUS = 0xC000_0148_u32 as NTSTATUS;
/// A message is not what was agreed on.
pub const STATUS_INVALID_MESSAGE: NTSTATUS = 0xC000_0702_u32 as NTSTATUS;
/// Somebody else has it, and it cannot be shared.
pub const STATUS_SHARING_VIOLATION: NTSTATUS = 0xC000_0043_u32 as NTSTATUS;

/// `SystemProcessInformation`: all processes, for `ZwQuerySystemInformation`.
pub const SYSTEM_PROCESS_INFORMATION: u32 = 5;

/// All access to a port: `FLT_PORT_CONNECT | STANDARD_RIGHTS_ALL`.
pub const FLT_PORT_ALL_ACCESS: u32 = 0x001F_0001;

/// Pages that can be read.
pub const PAGE_READONLY: u32 = 0x02;
/// Pages that can be read and written.
pub const PAGE_READWRITE: u32 = 0x04;
/// `MdlMappingNoExecute`: a flag of the priority for `MmMapLockedPagesSpecifyCache`.
pub const MDL_MAPPING_NO_EXECUTE: u32 = 0x4000_0000;

/// The process-wide right to wait for an object.
pub const SYNCHRONIZE: u32 = 0x0010_0000;

/// `DbgPrintEx`: the component for drivers that have none of their own, and the level that is an
/// error.
pub const DPFLTR_IHVDRIVER_ID: u32 = 77;
/// `DbgPrintEx`: shown by default.
pub const DPFLTR_ERROR_LEVEL: u32 = 0;

/// What the macro `InitializeObjectAttributes` does.
pub fn object_attributes(
    name: Option<&UNICODE_STRING>,
    attributes: u32,
    security: *const c_void,
) -> OBJECT_ATTRIBUTES {
    OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: core::ptr::null_mut(),
        ObjectName: name.map_or(core::ptr::null(), core::ptr::from_ref),
        Attributes: attributes,
        SecurityDescriptor: security.cast(),
        SecurityQualityOfService: core::ptr::null(),
    }
}

/// What the macro `NT_SUCCESS` does. Beware: `STATUS_TIMEOUT` passes.
pub const fn nt_success(status: NTSTATUS) -> bool {
    status >= 0
}
