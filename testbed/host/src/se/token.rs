// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens: on whose behalf a process acts.

use std::ffi::c_void;
use std::sync::Arc;

pub use super::sid::Sid;
use crate::abi::{NTSTATUS, TOKEN_INFORMATION_CLASS};
use crate::entry::nt;
use crate::ex::pool;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel;
use crate::object::Object;
use crate::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use crate::verifier::{Report, Rule};

const TOKEN_USER: TOKEN_INFORMATION_CLASS = 1;
const TOKEN_SESSION_ID: TOKEN_INFORMATION_CLASS = 12;
const TOKEN_ELEVATION: TOKEN_INFORMATION_CLASS = 20;

/// A token. Its address is the PACCESS_TOKEN that drivers see.
#[derive(Debug)]
pub struct Token {
    user: Sid,
    groups: Vec<Sid>,
    elevated: bool,
}

impl Token {
    /// The token of System.
    #[must_use]
    pub fn system() -> Token {
        Token {
            user: Sid::local_system(),
            groups: vec![Sid::administrators(), Sid::everyone()],
            elevated: true,
        }
    }

    /// The token of a user of the host system. Root is LocalSystem. Who runs the hosted kernel is
    /// an administrator of it; everybody else is an ordinary user.
    #[must_use]
    pub fn of_user(uid: u32) -> Token {
        // SAFETY: has no preconditions and cannot fail.
        let owner = unsafe { libc::geteuid() };
        let elevated = uid == owner;
        match uid {
            0 => Token::system(),
            _ => Token {
                user: Sid::unix_user(uid),
                groups: if elevated {
                    vec![Sid::administrators(), Sid::everyone()]
                } else {
                    vec![Sid::everyone()]
                },
                elevated,
            },
        }
    }

    /// A token of its own with the same rights.
    #[must_use]
    pub fn duplicate(&self) -> Token {
        Token {
            user: self.user.clone(),
            groups: self.groups.clone(),
            elevated: self.elevated,
        }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &Sid {
        &self.user
    }

    /// Whether the user has the administrators' rights.
    #[must_use]
    pub fn is_elevated(&self) -> bool {
        self.elevated
    }

    /// Whether a SID is the user or one of the groups.
    #[must_use]
    pub fn has(&self, sid: &Sid) -> bool {
        self.user == *sid || self.groups.contains(sid)
    }

    pub(crate) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }
}

/// The token behind a pointer that a driver passed; a report if there is none.
pub(super) fn at(address: *const c_void) -> Option<Arc<Token>> {
    match kernel::state().objects.find(address as usize) {
        Some(Object::Token(token)) => Some(token),
        _ => {
            Report::new(Rule::ObjectUnknown)
                .expected("a token from PsReferencePrimaryToken or a captured subject context")
                .found(format!("{address:p}"))
                .file();
            None
        }
    }
}

/// Copies `bytes` into paged pool that the caller will free.
fn give(bytes: &[u8], information: *mut *mut c_void) -> NTSTATUS {
    let Some(memory) = pool::allocate_paged(bytes.len(), b"SeTi") else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the memory was just allocated with this length.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_ptr(), bytes.len()) };
    // SAFETY: the caller of the exported function passes memory for a pointer.
    unsafe { information.write(memory.as_ptr().cast()) };
    STATUS_SUCCESS
}

/// TOKEN_USER: a pointer to the SID, which follows, and attributes.
fn give_user(sid: &Sid, information: *mut *mut c_void) -> NTSTATUS {
    const HEAD: usize = 16;
    let mut bytes = vec![0; HEAD];
    bytes.extend(sid.as_bytes());
    let status = give(&bytes, information);
    if status == STATUS_SUCCESS {
        // SAFETY: written by `give`.
        let start = unsafe { information.read() };
        let place = start.wrapping_byte_add(HEAD);
        // SAFETY: the pool's memory is aligned for pointers, and the head holds one.
        unsafe { start.cast::<*mut c_void>().write(place) };
    }
    status
}

nt! {
    /// Asks for the user, the elevation or the session of a token. The first two come in paged
    /// pool that the caller frees with ExFreePool, the last one in place of the pointer.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "TokenUser, TokenElevation and TokenSessionId (always 0)";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeQueryInformationToken(
        token: *const c_void,
        class: TOKEN_INFORMATION_CLASS,
        information: *mut *mut c_void,
    ) -> NTSTATUS {
        let Some(token) = at(token) else {
            return STATUS_INVALID_PARAMETER;
        };
        match class {
            TOKEN_USER => give_user(&token.user, information),
            TOKEN_ELEVATION => give(&u32::from(token.elevated).to_le_bytes(), information),
            TOKEN_SESSION_ID => {
                // SAFETY: the caller passes memory for a pointer, which holds a number as well.
                unsafe { information.cast::<u32>().write(0) };
                STATUS_SUCCESS
            }
            _ => STATUS_INVALID_INFO_CLASS,
        }
    }

    /// Whether a token has the administrators' rights.
    simplified = "elevation decides, groups are not looked at";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeTokenIsAdmin(token: *const c_void) -> bool {
        at(token).is_some_and(|token| token.elevated)
    }
}
