// SPDX-License-Identifier: MIT OR Apache-2.0
//! One change of the machine, and its reverse.

use crate::failure::Failure;
use crate::machine::{Entry, Machine, Trouble, Value};

/// See the module. `before` is what the reverse puts back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    WriteFile {
        path: String,
        from: String,
        content: Vec<u8>,
        before: Option<Vec<u8>>,
    },
    RemoveFile {
        path: String,
        before: Vec<u8>,
    },
    Create {
        name: String,
        entry: Entry,
    },
    Change {
        name: String,
        entry: Entry,
        before: Entry,
    },
    MakeKey {
        key: String,
    },
    Set {
        key: String,
        name: &'static str,
        value: Value,
        before: Option<Value>,
    },
    RemoveValue {
        key: String,
        name: &'static str,
        before: Value,
    },
}

impl Step {
    fn perform(&self, machine: &Machine) -> Result<(), Trouble> {
        match self {
            Step::WriteFile { path, content, .. } => machine.write_file(path, content),
            Step::RemoveFile { path, .. } => machine.remove_file(path),
            Step::Create { name, entry } => machine.create(name, entry),
            Step::Change { name, entry, .. } => machine.change(name, entry),
            Step::MakeKey { key } => machine.make_key(key),
            Step::Set {
                key, name, value, ..
            } => machine.set(key, name, value),
            Step::RemoveValue { key, name, .. } => machine.remove_value(key, name),
        }
    }

    fn undo(&self, machine: &Machine) -> Result<(), Trouble> {
        match self {
            Step::WriteFile {
                path,
                before: Some(content),
                ..
            }
            | Step::RemoveFile {
                path,
                before: content,
            } => machine.write_file(path, content),
            Step::WriteFile { path, .. } => machine.remove_file(path),
            Step::Create { name, .. } => machine.delete(name),
            Step::Change { name, before, .. } => machine.change(name, before),
            Step::MakeKey { key } => machine.remove_key(key),
            Step::Set {
                key,
                name,
                before: Some(value),
                ..
            }
            | Step::RemoveValue {
                key,
                name,
                before: value,
            } => machine.set(key, name, value),
            Step::Set { key, name, .. } => machine.remove_value(key, name),
        }
    }

    /// What was done, for people; `None` for what is told by what goes with it.
    pub(crate) fn tell(&self) -> Option<String> {
        Some(match self {
            Step::WriteFile {
                path, from, before, ..
            } => {
                let how = if before.is_some() {
                    ", replacing the one there"
                } else {
                    ""
                };
                format!("copied {from} to {path}{how}")
            }
            Step::RemoveFile { path, .. } => format!("removed {path}"),
            Step::Create { entry, .. } => format!("created the service: {}", describe(entry)),
            Step::Change { entry, before, .. } => {
                format!(
                    "changed the service: {}",
                    differences(before, entry).join(", ")
                )
            }
            Step::MakeKey { .. } => return None,
            Step::Set { name, .. } | Step::RemoveValue { name, .. } if is_mark(name) => {
                return None;
            }
            Step::Set {
                key,
                name,
                value,
                before,
            } => match before {
                Some(before) => format!("set {}\\{name} from {before} to {value}", below(key)),
                None => format!("set {}\\{name} to {value}", below(key)),
            },
            Step::RemoveValue { key, name, .. } => format!("removed {}\\{name}", below(key)),
        })
    }

    /// What is there as long as it has not been undone.
    fn left(&self) -> String {
        match self {
            Step::WriteFile {
                path,
                before: Some(_),
                ..
            } => format!("the new content of {path}"),
            Step::WriteFile { path, .. } => format!("the file {path}"),
            Step::RemoveFile { path, .. } => format!("the absence of {path}"),
            Step::Create { name, .. } => format!("the service {name}"),
            Step::Change { name, .. } => format!("the new configuration of the service {name}"),
            Step::MakeKey { key } => format!("the registry key Services\\{key}"),
            Step::Set { key, name, .. } => format!("the new value of Services\\{key}\\{name}"),
            Step::RemoveValue { key, name, .. } => {
                format!("the absence of Services\\{key}\\{name}")
            }
        }
    }
}

/// Without the name of the service, which stands above.
fn below(key: &str) -> &str {
    key.split_once('\\').map_or(key, |(_, below)| below)
}

fn is_mark(name: &str) -> bool {
    use crate::driver::{INSTALLED_BY, INSTALLED_FILE};
    name == INSTALLED_BY || name == INSTALLED_FILE
}

fn needs(entry: &Entry) -> String {
    if entry.dependencies.is_empty() {
        "nothing".into()
    } else {
        entry.dependencies.join(", ")
    }
}

fn describe(entry: &Entry) -> String {
    format!(
        "{}, start {}, group {}, depends on {}, image {}",
        entry.kind,
        entry.start.name(),
        entry.group,
        needs(entry),
        entry.image
    )
}

/// What is different between two entries, for people.
pub(crate) fn differences(before: &Entry, after: &Entry) -> Vec<String> {
    let rows = [
        ("type", before.kind.to_string(), after.kind.to_string()),
        (
            "start",
            before.start.name().into(),
            after.start.name().into(),
        ),
        (
            "error control",
            before.error_control.to_string(),
            after.error_control.to_string(),
        ),
        ("group", before.group.clone(), after.group.clone()),
        ("dependencies", needs(before), needs(after)),
        ("image", before.image.clone(), after.image.clone()),
    ];
    let different = rows
        .into_iter()
        .filter(|(_, before, after)| before != after);
    different
        .map(|(what, before, after)| format!("{what} from {before} to {after}"))
        .collect()
}

/// Performs all, in order. If one fails, those before it are undone in reverse, whatever happens.
pub(crate) fn perform_all(machine: &Machine, steps: &[&Step]) -> Result<(), Failure> {
    for (index, step) in steps.iter().enumerate() {
        if let Err(trouble) = step.perform(machine) {
            let done = steps.get(..index).unwrap_or_default();
            return Err(undone(machine, done, &trouble));
        }
    }
    Ok(())
}

fn undone(machine: &Machine, done: &[&Step], trouble: &Trouble) -> Failure {
    let mut left = Vec::new();
    for step in done.iter().rev() {
        if let Err(error) = step.undo(machine) {
            left.push(format!("  {}, because {error}", step.left()));
        }
    }
    if done.is_empty() {
        Failure::new(format!("{trouble}. Nothing has been changed"))
    } else if left.is_empty() {
        Failure::new(format!(
            "{trouble}. All that had been changed before has been undone"
        ))
    } else {
        Failure::new(format!(
            "{trouble}.\nWhat had been changed before has been undone, except for:\n{}\nMend the cause and run the command again, or `fltport uninstall`",
            left.join("\n")
        ))
    }
}
