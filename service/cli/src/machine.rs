// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that drivers are installed on: its service control manager, the part of its registry
//! below the services, and its files. On Windows the real one; in tests one in memory that fails
//! where it is told to.
//!
//! Paths are texts and not `Path`s, so that the logic above is tested on other systems, too.

#[cfg(test)]
mod fake;
#[cfg(all(windows, not(test)))]
#[allow(unsafe_code, reason = "the edge to the service control manager")]
mod windows;

#[cfg(test)]
pub(crate) use fake::Machine;
#[cfg(all(windows, not(test)))]
pub(crate) use windows::Machine;

use crate::explain;
use crate::failure::Failure;
use clap::ValueEnum;
use std::fmt;

/// What kind of driver a service is: `SERVICE_KERNEL_DRIVER`, `SERVICE_FILE_SYSTEM_DRIVER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kernel,
    FileSystem,
    /// No driver, or one of another kind.
    Other(u32),
}

impl Kind {
    /// As the service control manager numbers it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Kind::Kernel => 1,
            Kind::FileSystem => 2,
            Kind::Other(number) => number,
        }
    }

    fn from_number(number: u32) -> Kind {
        match number {
            1 => Kind::Kernel,
            2 => Kind::FileSystem,
            other => Kind::Other(other),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Kernel => f.write_str("kernel driver"),
            Kind::FileSystem => f.write_str("file system driver"),
            Kind::Other(number) => write!(f, "service type {number:#x}"),
        }
    }
}

/// When a driver is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Start {
    /// By the boot loader, before any process
    Boot,
    /// When the kernel initialises
    System,
    /// By the service control manager when the machine starts
    Auto,
    /// When somebody asks: `fltport start`
    Demand,
    #[value(skip)]
    Disabled,
}

impl Start {
    /// As the service control manager numbers it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Start::Boot => 0,
            Start::System => 1,
            Start::Auto => 2,
            Start::Demand => 3,
            Start::Disabled => 4,
        }
    }

    fn from_number(number: u32) -> Start {
        match number {
            0 => Start::Boot,
            1 => Start::System,
            2 => Start::Auto,
            3 => Start::Demand,
            _ => Start::Disabled,
        }
    }

    /// The word of the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Start::Boot => "boot",
            Start::System => "system",
            Start::Auto => "auto",
            Start::Demand => "demand",
            Start::Disabled => "disabled",
        }
    }
}

/// `SERVICE_ERROR_NORMAL`: a failed start is logged, and the system goes on.
pub(crate) const ERROR_NORMAL: u32 = 1;

/// A driver's entry with the service control manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) start: Start,
    pub(crate) error_control: u32,
    pub(crate) group: String,
    pub(crate) dependencies: Vec<String>,
    /// As it is stored; [`Machine::image_file`] is the file that it means.
    pub(crate) image: String,
}

/// How a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Stopped,
    Starting,
    Stopping,
    Running,
    Other(u32),
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Stopping => "stopping",
            State::Running => "running",
            State::Other(_) => "in an unknown state",
        }
    }
}

/// The state, and with which error the last start ended (0: with none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) state: State,
    pub(crate) exit_code: u32,
}

/// A value of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `REG_SZ`
    Text(String),
    /// `REG_EXPAND_SZ`
    Expand(String),
    /// `REG_MULTI_SZ`
    Texts(Vec<String>),
    /// `REG_DWORD`
    Number(u32),
    /// Another type, or one of these that is malformed; kept so that it can be put back.
    Other(u32, Vec<u8>),
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// The name of its type.
    pub(crate) fn type_name(&self) -> String {
        match self {
            Value::Text(_) => "REG_SZ".into(),
            Value::Expand(_) => "REG_EXPAND_SZ".into(),
            Value::Texts(_) => "REG_MULTI_SZ".into(),
            Value::Number(_) => "REG_DWORD".into(),
            Value::Other(kind, _) => format!("type {kind}"),
        }
    }

    fn into_text(self) -> String {
        match self {
            Value::Text(text) | Value::Expand(text) => text,
            _ => String::new(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) | Value::Expand(text) => write!(f, "\"{text}\""),
            Value::Texts(texts) => write!(f, "\"{}\"", texts.join("\", \"")),
            Value::Number(number) => write!(f, "{number}"),
            Value::Other(_, bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// What the machine refused, and its error code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// "the service fltport cannot be created"
    pub(crate) what: String,
    pub(crate) code: u32,
}

impl Trouble {
    pub(crate) fn new(what: impl Into<String>, code: u32) -> Trouble {
        let what = what.into();
        Trouble { what, code }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, explain::call(self.code))
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Failure::new(trouble.to_string())
    }
}

impl Machine {
    /// The entry of a service; `None` if there is none. Read from the registry, which is what NT
    /// itself reads when it starts a driver.
    pub(crate) fn entry(&self, name: &str) -> Result<Option<Entry>, Trouble> {
        let Some(Value::Number(kind)) = self.value(name, "Type")? else {
            return Ok(None);
        };
        let number = |value| -> Result<Option<u32>, Trouble> {
            match self.value(name, value)? {
                Some(Value::Number(number)) => Ok(Some(number)),
                _ => Ok(None),
            }
        };
        let text = |value| -> Result<String, Trouble> {
            Ok(self
                .value(name, value)?
                .map_or_else(String::new, Value::into_text))
        };
        let dependencies = match self.value(name, "DependOnService")? {
            Some(Value::Texts(texts)) => texts,
            _ => Vec::new(),
        };
        Ok(Some(Entry {
            kind: Kind::from_number(kind),
            start: Start::from_number(number("Start")?.unwrap_or(u32::MAX)),
            error_control: number("ErrorControl")?.unwrap_or(0),
            group: text("Group")?,
            dependencies,
            image: text("ImagePath")?,
        }))
    }

    /// The file that an entry's image path means, as NT reads it: relative to the system's folder,
    /// an object manager's name, or a plain path; without any, the driver of that name.
    pub(crate) fn image_file(&self, name: &str, image: &str) -> String {
        let root = self.system_root();
        let image = image.trim().trim_matches('"');
        let rest = |prefix: &str| {
            let head = image.get(..prefix.len())?;
            head.eq_ignore_ascii_case(prefix)
                .then(|| image.get(prefix.len()..))?
        };
        if image.is_empty() {
            self.drivers_file(name)
        } else if let Some(path) = rest(r"\??\") {
            path.to_owned()
        } else if let Some(path) = rest(r"\SystemRoot\").or_else(|| rest(r"%SystemRoot%\")) {
            format!(r"{root}\{path}")
        } else if image.get(1..2) == Some(":") || image.starts_with('\\') {
            image.to_owned()
        } else {
            format!(r"{root}\{image}")
        }
    }

    /// Where a driver's file lies that has been copied.
    pub(crate) fn drivers_file(&self, name: &str) -> String {
        format!(r"{}\System32\drivers\{name}.sys", self.system_root())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_paths_mean_files() {
        let machine = Machine::new();
        for (image, file) in [
            ("", r"C:\Windows\System32\drivers\x.sys"),
            (
                r"System32\drivers\a.sys",
                r"C:\Windows\System32\drivers\a.sys",
            ),
            (
                r"\systemroot\System32\drivers\a.sys",
                r"C:\Windows\System32\drivers\a.sys",
            ),
            (r"%SystemRoot%\a.sys", r"C:\Windows\a.sys"),
            (r"\??\D:\b c\a.sys", r"D:\b c\a.sys"),
            ("\"D:\\b c\\a.sys\"", r"D:\b c\a.sys"),
            (r"\Device\Harddisk0\a.sys", r"\Device\Harddisk0\a.sys"),
        ] {
            assert_eq!(machine.image_file("x", image), file, "{image}");
        }
    }
}
