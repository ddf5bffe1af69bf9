// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one door through which every call of a driver enters the hosted kernel.

use crate::dbg;
use crate::faults::Failure;
use crate::mm;
use crate::sched;
use crate::thread;
use crate::user_memory;
use crate::verifier;
use crate::verifier::unloaded;

/// What is known about an exported function before it runs.
#[derive(Debug)]
pub struct Function {
    /// Its exported name.
    pub name: &'static str,
    /// The lowest IRQL at which it may be called.
    pub min_irql: u8,
    /// The highest IRQL at which it may be called.
    pub max_irql: u8,
    /// How it can be made to fail (see [`faults`](crate::faults)); empty if it cannot.
    pub fails: &'static [Failure],
    /// What it does more simply than NT, where that is known.
    pub simplified: Option<&'static str>,
}

/// One line of the export table.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    /// The function.
    pub function: &'static Function,
    /// Its address.
    pub address: fn() -> usize,
}

/// Checks what must hold for every call, if anybody wants to know.
#[inline]
pub(crate) fn enter(function: &'static Function) {
    if !verifier::is_off() {
        check(function);
    }
}

#[inline(never)]
fn check(function: &'static Function) {
    sched::point(function.name);
    let (irql, unloaded) = thread::with_context(|context| {
        context.function.set(function.name);
        (context.irql.get(), context.first_seen_unloaded())
    });
    if unloaded {
        unloaded::report_caller();
    }
    verifier::call::check(function, irql);
}

/// Every function that the hosted kernel exports.
pub fn exports() -> impl Iterator<Item = &'static Export> {
    crate::EXPORTS.iter().flat_map(|table| table.iter())
}

/// Every function that drivers can link to, with those that the export tables cannot hold: one
/// with a variable number of arguments, and three that are not NT's.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    let others = [
        &dbg::DBG_PRINT_EX,
        &user_memory::COPY_FROM_USER,
        &user_memory::COPY_TO_USER,
        &mm::mdl::PROBE_AND_LOCK,
    ];
    exports().map(|export| export.function).chain(others)
}

/// The address of an exported function.
#[must_use]
pub fn address_of(name: &str) -> Option<usize> {
    exports()
        .find(|export| export.function.name == name)
        .map(|export| (export.address)())
}

/// A way to fail, by the name of its status, or `null` or `false`.
macro_rules! failure {
    (null) => {
        $crate::faults::Failure {
            name: "null",
            status: None,
        }
    };
    (false) => {
        $crate::faults::Failure {
            name: "false",
            status: None,
        }
    };
    ($status:ident) => {
        $crate::faults::Failure {
            name: stringify!($status),
            status: Some($crate::status::$status),
        }
    };
}
pub(crate) use failure;

/// Defines functions of NT: exports each under its own name, checks its type against the
/// declaration that drivers are compiled with, passes each call through [`enter`], and makes the
/// module's export table `EXPORTS`.
///
/// In front of a function stand, in this order, what is known of it:
/// * `fails = STATUS_A | STATUS_B if condition;` how it can be made to fail, the statuses by their
///   names in [`status`](crate::status), or `null` or `false`; with a condition on its arguments
///   only where that holds. The body does not run then.
/// * `simplified = "...";` what it does more simply than NT.
/// * `min_irql = ...;` the lowest IRQL at which it may be called, if that is not PASSIVE_LEVEL.
/// * `max_irql = ...;` the highest.
macro_rules! nt {
    (@optional) => { None };
    (@optional $value:literal) => { Some($value) };
    (@condition) => { true };
    (@condition $condition:expr) => { $condition };
    ($(
        $(#[$attribute:meta])*
        $(fails = $($failure:ident)|+ $(if $condition:expr)?;)?
        $(simplified = $simplified:literal;)?
        $(min_irql = $min:expr;)?
        max_irql = $max:expr;
        pub unsafe fn $name:ident(
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    )*) => {
        $(
            $(#[$attribute])*
            ///
            /// # Safety
            /// As Microsoft's documentation of the function asks.
            #[allow(non_snake_case, unreachable_pub, reason = "an exported symbol of NT's name")]
            #[unsafe(no_mangle)]
            pub unsafe extern "system" fn $name($($argument: $type),*) $(-> $result)? {
                static FUNCTION: $crate::entry::Function = $crate::entry::Function {
                    name: stringify!($name),
                    min_irql: 0 $(+ $min)?,
                    max_irql: $max,
                    fails: &[$($($crate::entry::failure!($failure)),+)?],
                    simplified: $crate::entry::nt!(@optional $($simplified)?),
                };
                $crate::entry::enter(&FUNCTION);
                $(
                    let possible = $crate::entry::nt!(@condition $($condition)?);
                    if let Some(failure) = $crate::faults::asked(&FUNCTION, possible) {
                        return $crate::faults::FailsWith::failed(failure);
                    }
                )?
                $body
            }
            const _: unsafe extern "system" fn($($type),*) $(-> $result)? = $crate::abi::$name;
        )*

        /// The functions that this module exports.
        pub(crate) static EXPORTS: &[$crate::entry::Export] = &[$(
            $crate::entry::Export {
                function: {
                    static FUNCTION: $crate::entry::Function = $crate::entry::Function {
                        name: stringify!($name),
                        min_irql: 0 $(+ $min)?,
                        max_irql: $max,
                        fails: &[$($($crate::entry::failure!($failure)),+)?],
                        simplified: $crate::entry::nt!(@optional $($simplified)?),
                    };
                    &FUNCTION
                },
                address: || $name as *const () as usize,
            },
        )*];
    };
}
pub(crate) use nt;
