// SPDX-License-Identifier: MIT OR Apache-2.0
//! How drivers are installed and doing, as found on the machine: what `status` shows and `doctor`
//! judges.

use crate::driver::{self, COMMON, LAYOUTS};
use crate::failure::Failure;
use crate::image::Image;
use crate::install::altitude_holder;
use crate::json::Json;
use crate::machine::{Condition, Entry, Machine, State, Trouble, Value};

/// A driver's file.
#[derive(Clone, Debug)]
pub(crate) enum File {
    Missing,
    /// It may be there or not.
    Unreadable(Trouble),
    /// Why it is no driver.
    Bad(String),
    Good(Image),
}

/// The instances below one of the two places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) default: Option<Value>,
    /// Of the instance that `default` names.
    pub(crate) altitude: Option<Value>,
    pub(crate) flags: Option<Value>,
}

impl Layout {
    /// The altitude, if it is there as it should be.
    pub(crate) fn altitude_text(&self) -> Option<&str> {
        match &self.altitude {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// A service entry that is there.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) entry: Entry,
    /// `None` if the service control manager does not know it, though the registry does.
    pub(crate) condition: Option<Condition>,
    pub(crate) marked_for_deletion: bool,
    /// Where the file should be.
    pub(crate) path: String,
    pub(crate) file: File,
    /// Modules that the file imports from and that are nowhere.
    pub(crate) missing_imports: Vec<String>,
    /// It lies where the boot loader reads drivers.
    pub(crate) in_system_folder: bool,
    /// Services that it depends on and that do not exist.
    pub(crate) missing_dependencies: Vec<String>,
    /// In the order of [`LAYOUTS`].
    pub(crate) layouts: [Layout; 2],
    /// Another service with its altitude.
    pub(crate) altitude_holder: Option<String>,
}

impl Installed {
    /// The altitude that it has in the first place where it has one.
    pub(crate) fn altitude(&self) -> Option<&str> {
        self.layouts.iter().find_map(Layout::altitude_text)
    }
}

/// One driver.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) installed: Option<Installed>,
}

impl Driver {
    /// Looks at one driver.
    pub(crate) fn look(machine: &Machine, name: &str) -> Result<Driver, Trouble> {
        let installed = match machine.entry(name)? {
            Some(entry) => Some(installed(machine, name, entry)?),
            None => None,
        };
        let name = name.to_owned();
        Ok(Driver { name, installed })
    }

    /// Whether it registers with the Filter Manager.
    pub(crate) fn is_filter(&self) -> bool {
        let file = self.installed.as_ref().map(|installed| &installed.file);
        self.name.eq_ignore_ascii_case(COMMON)
            || matches!(file, Some(File::Good(image)) if image.is_filter())
    }
}

fn installed(machine: &Machine, name: &str, entry: Entry) -> Result<Installed, Trouble> {
    let path = machine.image_file(name, &entry.image);
    // Whatever is wrong with it is a finding, and no reason to find nothing else.
    let file = match machine.read_file(&path) {
        Ok(None) => File::Missing,
        Ok(Some(bytes)) => Image::read(&bytes).map_or_else(File::Bad, File::Good),
        Err(trouble) => File::Unreadable(trouble),
    };
    let missing_imports = match &file {
        File::Good(image) => missing_imports(machine, image, &path)?,
        _ => Vec::new(),
    };
    let mut missing_dependencies = Vec::new();
    for dependency in &entry.dependencies {
        // A group of services begins with a +.
        if !dependency.starts_with('+') && machine.entry(dependency)?.is_none() {
            missing_dependencies.push(dependency.clone());
        }
    }
    let layouts = [
        layout(machine, name, LAYOUTS[0])?,
        layout(machine, name, LAYOUTS[1])?,
    ];
    let altitude = layouts.iter().find_map(Layout::altitude_text);
    let altitude_holder = match altitude {
        Some(altitude) => altitude_holder(machine, name, altitude)?,
        None => None,
    };
    Ok(Installed {
        condition: machine.condition(name)?,
        marked_for_deletion: driver::deleted(machine, name)?.is_some(),
        entry,
        in_system_folder: is_in_system_folder(machine, &path),
        path,
        file,
        missing_imports,
        missing_dependencies,
        layouts,
        altitude_holder,
    })
}

/// Below the folder of the drivers, or of the driver store.
fn is_in_system_folder(machine: &Machine, path: &str) -> bool {
    let (root, path) = (machine.system_root().to_lowercase(), path.to_lowercase());
    ["drivers", "driverstore"]
        .into_iter()
        .any(|folder| path.starts_with(&format!(r"{root}\system32\{folder}\")))
}

/// NT looks for modules that drivers import from in the system's folder, in that of the drivers,
/// and where the importing file is.
fn missing_imports(machine: &Machine, image: &Image, path: &str) -> Result<Vec<String>, Trouble> {
    let root = machine.system_root();
    let own = path.rsplit_once('\\').map_or("", |(folder, _)| folder);
    let mut missing = Vec::new();
    for (module, _) in &image.imports {
        let places = [
            format!(r"{root}\System32\{module}"),
            format!(r"{root}\System32\drivers\{module}"),
            format!(r"{own}\{module}"),
        ];
        let mut found = false;
        for place in places {
            found = found || machine.has_file(&place)?;
        }
        if !found {
            missing.push(module.clone());
        }
    }
    Ok(missing)
}

fn layout(machine: &Machine, name: &str, layout: &str) -> Result<Layout, Trouble> {
    let instances = format!(r"{name}\{layout}");
    let default = machine.value(&instances, "DefaultInstance")?;
    let Some(Value::Text(instance)) = &default else {
        let default_only = Layout {
            default,
            ..Layout::default()
        };
        return Ok(default_only);
    };
    let key = format!(r"{instances}\{instance}");
    let altitude = machine.value(&key, "Altitude")?;
    let flags = machine.value(&key, "Flags")?;
    Ok(Layout {
        default,
        altitude,
        flags,
    })
}

/// All drivers that this command is concerned with.
pub(crate) fn drivers(machine: &Machine) -> Result<Vec<Driver>, Trouble> {
    let names = driver::all(machine)?;
    names
        .iter()
        .map(|name| Driver::look(machine, name))
        .collect()
}

/// Why nobody can be connected to, if the driver does not run.
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "there are no drivers to install")
)]
pub(crate) fn require_running(driver: &Driver) -> Result<(), Failure> {
    let name = &driver.name;
    let condition = match &driver.installed {
        None => {
            return Err(Failure::new(format!(
                "the driver {name} is not installed. Install it: fltport install"
            )));
        }
        Some(installed) => installed.condition,
    };
    match condition.map(|condition| condition.state) {
        Some(State::Stopped) | None => Err(Failure::new(format!(
            "the driver {name} is not running. Start it: fltport start; `fltport doctor` says what keeps it from running"
        ))),
        Some(_) => Ok(()),
    }
}

/// The state of a service as a word.
fn state(installed: &Installed) -> &'static str {
    match installed.condition {
        Some(condition) => condition.state.name(),
        None => "unknown to the service control manager",
    }
}

/// The first part of `status`.
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "there are no drivers to install")
)]
pub(crate) fn to_text(drivers: &[Driver]) -> Vec<String> {
    let mut lines = vec!["drivers".to_owned()];
    for driver in drivers {
        let Some(installed) = &driver.installed else {
            lines.push(format!("  {}: not installed", driver.name));
            continue;
        };
        let entry = &installed.entry;
        let mut parts = vec![
            state(installed).to_owned(),
            entry.kind.to_string(),
            format!("start {}", entry.start.name()),
            if entry.group.is_empty() {
                "no group".into()
            } else {
                format!("group {}", entry.group)
            },
        ];
        parts.extend(
            installed
                .altitude()
                .map(|altitude| format!("altitude {altitude}")),
        );
        let missing = match installed.file {
            File::Missing => " (missing)",
            File::Unreadable(_) => " (unreadable)",
            File::Bad(_) | File::Good(_) => "",
        };
        parts.push(format!("image {}{missing}", installed.path));
        if installed.marked_for_deletion {
            parts.push("marked for deletion".into());
        }
        lines.push(format!("  {}: {}", driver.name, parts.join(", ")));
    }
    lines
}

/// One driver in JSON. Keys of what is not installed are null.
pub(crate) fn to_json(json: &mut Json, driver: &Driver) {
    let installed = driver.installed.as_ref();
    let entry = installed.map(|installed| &installed.entry);
    json.key("name").text(&driver.name);
    json.key("installed").bool(installed.is_some());
    json.key("state").text_or_null(installed.map(state));
    json.key("type")
        .text_or_null(entry.map(|entry| entry.kind.to_string()).as_deref());
    json.key("start")
        .text_or_null(entry.map(|entry| entry.start.name()));
    json.key("group")
        .text_or_null(entry.map(|entry| entry.group.as_str()));
    json.key("dependencies").list(|json| {
        let dependencies = entry.into_iter().flat_map(|entry| &entry.dependencies);
        dependencies.for_each(|name| json.text(name));
    });
    json.key("image")
        .text_or_null(installed.map(|installed| installed.path.as_str()));
    json.key("altitude")
        .text_or_null(installed.and_then(Installed::altitude));
    let exit_code = json.key("exit_code");
    match installed.and_then(|installed| installed.condition) {
        Some(condition) => exit_code.number(condition.exit_code),
        None => exit_code.null(),
    }
}
