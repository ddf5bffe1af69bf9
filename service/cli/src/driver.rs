// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drivers that can be installed: those of this project, and any other that is named.

use crate::altitude::GROUP;
use crate::failure::Failure;
use crate::machine::{ERROR_NORMAL, Entry, Kind, Machine, Start, Trouble, Value};

/// The common driver.
pub(crate) const COMMON: &str = "fltport";

/// The client driver that tells of processes.
pub(crate) const MONITOR: &str = "process-monitor";

/// The client driver that tells of the registry. It is installed if it is named.
pub(crate) const REGISTRY_MONITOR: &str = "registry-monitor";

/// This project's own, in the order of loading.
pub(crate) const OWN: [&str; 3] = [COMMON, MONITOR, REGISTRY_MONITOR];

/// The service that every filter needs.
pub(crate) const FILTER_MANAGER: &str = "FltMgr";

/// The Filter Manager looks for instances below the service key, in the second place from Windows
/// 11 24H2 on, in the first before that.
pub(crate) const LAYOUTS: [&str; 2] = ["Instances", r"Parameters\Instances"];

/// `Flags` of an instance: no automatic and no manual attachment.
pub(crate) const NEVER_ATTACH: u32 = 3;

/// In `Parameters`: that this command has installed the driver, and which file it has copied. What
/// has no such mark is somebody else's, and is not touched.
pub(crate) const INSTALLED_BY: &str = "InstalledBy";
pub(crate) const INSTALLED_FILE: &str = "InstalledFile";

/// The mark of a service that is to vanish.
pub(crate) const DELETE_FLAG: &str = "DeleteFlag";

/// The key of a service's parameters.
pub(crate) fn parameters(name: &str) -> String {
    format!(r"{name}\Parameters")
}

/// Whether it is one of those that are installed without being named.
pub(crate) fn is_preset(name: &str) -> bool {
    name.eq_ignore_ascii_case(COMMON) || name.eq_ignore_ascii_case(MONITOR)
}

/// Whether it is one of this project's own.
pub(crate) fn is_own(name: &str) -> bool {
    OWN.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The entry that a driver should have. Clients have the group, too: it decides about the order of
/// boot and system starts only (where clients may come first), and Wine loads drivers of one group
/// and start type into one process.
pub(crate) fn entry(filter: bool, start: Start, image: String) -> Entry {
    Entry {
        kind: if filter {
            Kind::FileSystem
        } else {
            Kind::Kernel
        },
        start,
        error_control: ERROR_NORMAL,
        group: GROUP.into(),
        dependencies: if filter {
            vec![FILTER_MANAGER.into()]
        } else {
            Vec::new()
        },
        image,
    }
}

/// Whether this command has installed it.
pub(crate) fn is_marked(machine: &Machine, name: &str) -> Result<bool, Trouble> {
    let mark = of_anybody(machine.value(&parameters(name), INSTALLED_BY))?;
    Ok(mark == Some(Value::text(COMMON)))
}

/// What was read of a key that may be anybody's. One that is kept from us, as by security software,
/// or that was deleted meanwhile, says nothing, and is no reason to say nothing of our own.
pub(crate) fn of_anybody<T>(read: Result<Option<T>, Trouble>) -> Result<Option<T>, Trouble> {
    const ACCESS_DENIED: u32 = 5;
    const KEY_DELETED: u32 = 1018;
    match read {
        Err(trouble) if matches!(trouble.code, ACCESS_DENIED | KEY_DELETED) => Ok(None),
        other => other,
    }
}

/// Whether it has the name of a driver and is something else, which this command has not installed:
/// a program, most likely.
pub(crate) fn is_namesake(machine: &Machine, name: &str) -> Result<bool, Trouble> {
    let kind = machine.entry(name)?.map(|entry| entry.kind);
    Ok(matches!(kind, Some(Kind::Other(_))) && !is_marked(machine, name)?)
}

/// Why nothing can be done with a service that has been deleted and is still there; `None` if it has
/// not been. The service control manager keeps the mark in the registry.
pub(crate) fn deleted(machine: &Machine, name: &str) -> Result<Option<Failure>, Trouble> {
    let mark = machine.value(name, DELETE_FLAG)?;
    Ok((mark == Some(Value::Number(1))).then(|| {
        Failure::new(format!(
            "the service {name} is marked for deletion, and vanishes when the last program that has it open closes it. Close the Services window, Process Explorer and the like, or restart the machine; then run the command again"
        ))
    }))
}

/// The file that this command has copied for it.
pub(crate) fn copied_file(machine: &Machine, name: &str) -> Result<Option<String>, Trouble> {
    match machine.value(&parameters(name), INSTALLED_FILE)? {
        Some(Value::Text(path)) => Ok(Some(path)),
        _ => Ok(None),
    }
}

/// The drivers to deal with where none is named: the common driver, the process monitor, and what
/// else this command has installed, by name. The first two whether they are installed or not.
pub(crate) fn all(machine: &Machine) -> Result<Vec<String>, Trouble> {
    let mut names = vec![COMMON.to_owned(), MONITOR.to_owned()];
    let mut others = Vec::new();
    for name in machine.keys("")?.unwrap_or_default() {
        if !is_preset(&name) && is_marked(machine, &name)? {
            others.push(name);
        }
    }
    others.sort();
    names.extend(others);
    Ok(names)
}

/// A name that can be a service's and a file's.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) || text.starts_with('.') {
        return Err(
            "the name of a driver has 1 to 64 letters, digits, '-', '_' and '.', and does not begin with '.'"
                .into(),
        );
    }
    // Names of services are the same in any case; those of our instances are texts.
    let own = OWN.into_iter().find(|own| own.eq_ignore_ascii_case(text));
    Ok(own.unwrap_or(text).to_owned())
}

/// A driver to install, as the command line names it: `NAME` or `NAME=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// Its file; without it, NAME.sys in the folder that is installed from.
    pub(crate) path: Option<String>,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let (driver, path) = match text.split_once('=') {
            Some((_, "")) => return Err("a path must follow the =".into()),
            Some((driver, path)) => (driver, Some(path.to_owned())),
            None => (text, None),
        };
        let name = name(driver)?;
        Ok(Named { name, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_path() {
        let named: Named = r"loadgen=C:\a=b\x.sys".parse().unwrap();
        assert_eq!(
            (named.name.as_str(), named.path.as_deref()),
            ("loadgen", Some(r"C:\a=b\x.sys"))
        );
        let named: Named = "fltport".parse().unwrap();
        assert_eq!(named.path, None);
        assert_eq!(name("FltPort").unwrap(), "fltport");
        for bad in ["", "=x", "a b", r"a\b", "a/b", "..", "x=", "ü"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }
}
