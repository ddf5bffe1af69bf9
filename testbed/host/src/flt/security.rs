// SPDX-License-Identifier: MIT OR Apache-2.0
//! The default descriptor of ports: SYSTEM and administrators, nobody else.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fltmgr::Status;

use super::table::{FilterTable, report};
use crate::abi::{ACL, SECURITY_DESCRIPTOR};
use crate::driver::Driver;
use crate::ex::pool;
use crate::se::descriptor::allowed_entry;
use crate::se::sid::Sid;
use crate::se::token::Token;
use crate::stack::Stack;
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

const REVISION: u8 = 1;
const ACL_REVISION: u8 = 2;
const SE_DACL_PRESENT: u16 = 4;
const TAG: &[u8; 4] = b"FMsd";

/// Whether the default descriptor lets a token in.
pub(super) fn default_admits(token: &Token) -> bool {
    admitted().iter().any(|sid| token.has(sid))
}

fn admitted() -> [Sid; 2] {
    [Sid::local_system(), Sid::administrators()]
}

/// Builds the default descriptor in paged pool: an absolute one, with its access list behind it.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES without memory.
pub(super) fn build_default(access: u32) -> Result<*mut c_void, Status> {
    let entries: Vec<u8> = admitted()
        .iter()
        .flat_map(|sid| allowed_entry(access, sid))
        .collect();
    let size = size_of::<ACL>() + entries.len();
    let head = ACL {
        AclRevision: ACL_REVISION,
        AclSize: u16::try_from(size).unwrap_or(u16::MAX),
        AceCount: u16::try_from(admitted().len()).unwrap_or(u16::MAX),
        ..Default::default()
    };
    let memory = pool::allocate_paged(size_of::<SECURITY_DESCRIPTOR>() + size, TAG)
        .ok_or(Status::INSUFFICIENT_RESOURCES)?;
    let acl = place(memory, size_of::<SECURITY_DESCRIPTOR>()).cast::<ACL>();
    let descriptor = SECURITY_DESCRIPTOR {
        Revision: REVISION,
        Control: SE_DACL_PRESENT,
        Dacl: acl,
        ..Default::default()
    };
    // SAFETY: pool memory is aligned for every structure, and there is room for this one.
    unsafe { memory.cast::<SECURITY_DESCRIPTOR>().write(descriptor) };
    // SAFETY: the descriptor's size keeps the alignment, and the room was added for it.
    unsafe { acl.write(head) };
    let first = place(memory, size_of::<SECURITY_DESCRIPTOR>() + size_of::<ACL>());
    // SAFETY: the room behind the head was added for exactly these bytes.
    unsafe { first.copy_from_nonoverlapping(entries.as_ptr(), entries.len()) };
    Ok(memory.as_ptr().cast())
}

fn place(memory: NonNull<u8>, offset: usize) -> *mut u8 {
    memory.as_ptr().wrapping_add(offset)
}

/// A descriptor that was built and is not freed yet.
pub(super) struct BuiltDescriptor {
    driver: Option<Arc<Driver>>,
    /// Its place in the order of all descriptors.
    number: u64,
    stack: Stack,
}

/// Remembers a descriptor that a driver gets, until it frees it.
pub(super) fn remember(filters: &FilterTable, descriptor: *mut c_void) {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let built = BuiltDescriptor {
        driver: attribution::responsible(),
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        stack: Stack::capture(),
    };
    filters.lock().built.insert(descriptor as usize, built);
}

/// Frees a descriptor that [`build_default`] built, and reports one that it did not.
pub(super) fn free(filters: &FilterTable, descriptor: *mut c_void) {
    if filters
        .lock()
        .built
        .remove(&(descriptor as usize))
        .is_some()
    {
        free_memory(descriptor);
        return;
    }
    report(
        Rule::SecurityDescriptorUnknown,
        "a descriptor from FltBuildDefaultSecurityDescriptor that is not freed",
        format!("{descriptor:p}"),
        "free it once; a descriptor of another origin is freed as that origin says",
    );
}

/// Reports the descriptors that `driver` did not free, and frees them.
pub(super) fn report_left(filters: &FilterTable, driver: &Arc<Driver>) {
    let mut tables = filters.lock();
    let (left, kept) = std::mem::take(&mut tables.built)
        .into_iter()
        .partition::<BTreeMap<_, _>, _>(|(_, it)| attribution::is(it.driver.as_ref(), driver));
    tables.built = kept;
    drop(tables);
    let mut left: Vec<(usize, BuiltDescriptor)> = left.into_iter().collect();
    left.sort_by_key(|(_, built)| built.number);
    for (address, built) in left {
        Report::new(Rule::SecurityDescriptorLeft)
            .driver(Some(driver.name()))
            .function("FltBuildDefaultSecurityDescriptor")
            .expected("FltFreeSecurityDescriptor after the port is created, or was not")
            .found(format!("the descriptor at {address:#x}"))
            .made_at(built.stack)
            .file();
        free_memory(address as *mut c_void);
    }
}

fn free_memory(descriptor: *mut c_void) {
    // SAFETY: the pool looks the address up and frees nothing that it did not allocate.
    unsafe { pool::ExFreePoolWithTag(descriptor, u32::from_le_bytes(*TAG)) };
}
