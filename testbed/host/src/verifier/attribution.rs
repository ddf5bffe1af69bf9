// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose doing something is: the driver that must give back what is made now.
//!
//! On NT a return address tells the driver. Here all drivers are in one executable, and drivers
//! call each other directly, so the context of a thread is not enough. The functions on the stack
//! tell: the innermost one of the package that a loaded driver's entry point is in.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::driver::{Driver, DriverEntry};
use crate::kernel;
use crate::stack::{self, Function, Stack};
use crate::thread;

/// The packages of the functions at an address, the innermost inlined one first.
type Packages = Arc<[Box<str>]>;

/// Resolving an address is slow, and the same addresses come again and again.
static KNOWN: LazyLock<Mutex<HashMap<usize, Packages>>> = LazyLock::new(Mutex::default);

/// The driver responsible for what the calling thread does now.
pub(crate) fn responsible() -> Option<Arc<Driver>> {
    if kernel::state().drivers.count() < 2 {
        return thread::current_driver();
    }
    responsible_for(&Stack::capture())
}

/// The driver responsible for what happens at the end of a stack of the calling thread.
pub(crate) fn responsible_for(stack: &Stack) -> Option<Arc<Driver>> {
    let context = thread::current_driver();
    let drivers = kernel::state().drivers.all();
    if drivers.len() < 2 {
        return context;
    }
    for address in stack.addresses() {
        for package in packages_at(*address).iter() {
            let mut of_package = drivers
                .iter()
                .filter(|driver| driver.package() == Some(&**package));
            match (of_package.next(), of_package.next()) {
                (Some(only), None) => return Some(only.clone()),
                // Several drivers of one package, as tests have them: the context decides.
                (Some(_), Some(_)) => return context,
                (None, _) => {}
            }
        }
    }
    context
}

/// Whether two optional drivers are the same one.
pub(crate) fn is(driver: Option<&Arc<Driver>>, other: &Arc<Driver>) -> bool {
    driver.is_some_and(|driver| Arc::ptr_eq(driver, other))
}

/// The package of a driver's entry point; none where the executable has no symbols.
pub(crate) fn package_of_entry(entry: DriverEntry) -> Option<Box<str>> {
    // The first byte of the function, as if a call of one byte returned behind it.
    let return_address = entry as *const () as usize + 1;
    packages_at(return_address).first().cloned()
}

fn packages_at(address: usize) -> Packages {
    if let Some(known) = KNOWN.lock().get(&address) {
        return known.clone();
    }
    let functions = stack::functions_at(address);
    let packages: Packages = functions.iter().map(|it| package_of(it).into()).collect();
    KNOWN.lock().insert(address, packages.clone());
    packages
}

/// What tells one package from another: the folder above its sources, or without a line table the
/// crate that the function's path begins with.
pub(crate) fn package_of(function: &Function) -> String {
    let file = function
        .place
        .as_ref()
        .map(|(file, _)| file.to_string_lossy());
    match file {
        Some(file) => match file.rfind("/src/").or_else(|| file.rfind("/tests/")) {
            Some(end) => file.get(..end).unwrap_or(&file).to_owned(),
            None => file.into_owned(),
        },
        None => crate_of(&function.name).to_owned(),
    }
}

/// The crate that a function's path begins with; of a method of a trait, that of the type.
fn crate_of(function: &str) -> &str {
    let path = function.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_');
    let path = path
        .strip_prefix("mut ")
        .or_else(|| path.strip_prefix("dyn "))
        .unwrap_or(path);
    path.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_crate() {
        assert_eq!(
            crate_of("process_monitor::entry::unload"),
            "process_monitor"
        );
        assert_eq!(
            crate_of("<fltport_nt::ex::PoolBox<T> as Drop>::drop"),
            "fltport_nt"
        );
        assert_eq!(
            crate_of("<&mut a_driver::Thing as Trait>::method"),
            "a_driver"
        );
    }

    #[test]
    fn a_source_file_names_its_package() {
        let function = |file: &str| Function {
            name: "unload".to_owned(),
            place: Some((file.into(), 1)),
        };
        assert_eq!(
            package_of(&function("/w/kernel/driver/src/io/a.rs")),
            "/w/kernel/driver"
        );
        assert_eq!(package_of(&function("/w/host/tests/ps.rs")), "/w/host");
        let plain = Function {
            name: "a_driver::unload".to_owned(),
            place: None,
        };
        assert_eq!(package_of(&plain), "a_driver");
    }
}
