// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an INF file of a driver without a device must say: Microsoft's rules for primitive drivers
//! and for filters' INF files ("Creating a primitive driver", "Creating an INF file for a minifilter
//! driver"), and what this project's drivers need of them.

use std::fs;

use anyhow::{Context, Result};

use super::Inf;
use crate::workspace::Workspace;

const CLASS: &str = "ActivityMonitor";
const CLASS_GUID: &str = "{b86dff51-a31e-4bac-b3cf-e8cfe75c9fc2}";
const GROUP: &str = "FSFilter Activity Monitor";
/// What Microsoft gives to activity monitors.
const ALTITUDES: std::ops::RangeInclusive<u32> = 360_000..=389_999;
const UNINSTALL: &str = "DefaultUninstall.NTamd64";
/// SPSVCINST_STOPSERVICE
const STOP_FIRST: &str = "0x200";
const REG_SZ: &str = "0x00000000";
const REG_DWORD: &str = "0x00010001";

/// One of the two ways to install, by the version of Windows.
struct Layout {
    install: &'static str,
    /// DIRID of the folder that the image is run from.
    folder: &'static str,
    /// Where instances lie in the service key.
    instances: &'static str,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        // Windows 11 24H2 and later: the driver store.
        install: "DefaultInstall.NTamd64.10.0...25952",
        folder: "13",
        instances: "Parameters\\Instances",
    },
    Layout {
        // System32\drivers.
        install: "DefaultInstall.NTamd64",
        folder: "12",
        instances: "Instances",
    },
];

/// The instance of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) altitude: String,
    pub(crate) flags: String,
}

impl Instance {
    /// The one that the common driver writes where nothing is written yet, from its source.
    ///
    /// # Errors
    /// Its constants are not there, or named otherwise.
    pub(crate) fn of_common_driver(workspace: &Workspace) -> Result<Instance> {
        const SOURCE: &str = "kernel/driver/src/instances.rs";
        let path = workspace.path(SOURCE);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let constant = |declaration: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(declaration)?.strip_suffix(';'))
                .map(|value| value.trim_matches('"').to_string())
                .with_context(|| format!("{SOURCE} has no `{declaration}…`"))
        };
        Ok(Instance {
            name: constant("const INSTANCE: &str = ")?,
            altitude: constant("const ALTITUDE_NUL: &str = ")?.replace("\\0", ""),
            flags: constant("const FLAGS_NEVER: u32 = ")?,
        })
    }
}

/// What an INF file is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The driver's file; without its extension, the service.
    pub(crate) image: &'a str,
    /// The value of DriverVer.
    pub(crate) driver_version: &'a str,
    /// What a filter registers with; nothing for a driver that is none.
    pub(crate) instance: Option<&'a Instance>,
}

impl Subject<'_> {
    fn service(&self) -> &str {
        self.image.split('.').next().unwrap_or(self.image)
    }
}

/// Everything that is wrong with an INF file.
pub(crate) fn faults(inf: &Inf, subject: &Subject) -> Vec<String> {
    let mut faults = Faults(Vec::new());
    version(inf, subject, &mut faults);
    installs(inf, &mut faults);
    uninstall(inf, subject, &mut faults);
    nothing_else(inf, &mut faults);
    files(inf, subject, &mut faults);
    for layout in &LAYOUTS {
        let section = format!("{}.Services", layout.install);
        let added = inf.values(&section, "AddService");
        let [name, flags, service] = &added[..] else {
            faults.push(format!("[{section}] has no AddService of three values"));
            continue;
        };
        if name != subject.service() {
            faults.push(format!("the service is {name}, not {}", subject.service()));
        }
        // SPSVCINST_ASSOCSERVICE is for drivers of a device.
        faults.check(flags.is_empty(), || {
            format!("AddService has the flags {flags}")
        });
        entry(inf, subject, layout, service, &mut faults);
        instances(inf, subject, layout, service, &mut faults);
    }
    references(inf, &mut faults);
    faults.0
}

struct Faults(Vec<String>);

impl Faults {
    fn push(&mut self, fault: String) {
        self.0.push(fault);
    }

    fn check(&mut self, right: bool, fault: impl FnOnce() -> String) {
        if !right {
            self.0.push(fault());
        }
    }

    /// Wants one value of a key.
    fn want(&mut self, inf: &Inf, section: &str, key: &str, wanted: &str) {
        let found = inf.values(section, key).join(",");
        self.check(found.eq_ignore_ascii_case(wanted), || {
            format!("[{section}] {key} is `{found}`, not `{wanted}`")
        });
    }
}

fn version(inf: &Inf, subject: &Subject, faults: &mut Faults) {
    let catalog = format!("{}.cat", subject.service());
    for (key, wanted) in [
        ("Signature", "$WINDOWS NT$"),
        ("Class", CLASS),
        ("ClassGuid", CLASS_GUID),
        ("DriverVer", subject.driver_version),
        ("CatalogFile", &catalog),
        ("PnpLockdown", "1"),
    ] {
        faults.want(inf, "Version", key, wanted);
    }
    let provider = inf.value("Version", "Provider").unwrap_or_default();
    let is_ours = !provider.trim().is_empty() && !provider.to_lowercase().contains("microsoft");
    faults.check(is_ours, || format!("[Version] Provider is `{provider}`"));
}

fn installs(inf: &Inf, faults: &mut Faults) {
    for name in inf.names() {
        let lower = name.to_lowercase();
        let lower = lower.trim_end_matches(".services");
        let is_install = lower.starts_with("defaultinstall");
        let is_known = LAYOUTS
            .iter()
            .any(|each| each.install.to_lowercase() == lower);
        faults.check(!is_install || is_known, || {
            format!("[{name}] is for another processor or version of Windows than this is made for")
        });
        faults.check(lower != "manufacturer", || {
            "[Manufacturer] is for drivers of devices".to_string()
        });
    }
    for layout in &LAYOUTS {
        faults.check(inf.has(layout.install), || {
            format!("[{}] is missing", layout.install)
        });
    }
}

fn uninstall(inf: &Inf, subject: &Subject, faults: &mut Faults) {
    for name in inf.names() {
        let lower = name.to_lowercase();
        let is_uninstall = lower.starts_with("defaultuninstall");
        let is_legacy = lower.trim_end_matches(".services") == UNINSTALL.to_lowercase();
        faults.check(!is_uninstall || is_legacy, || {
            format!("[{name}] is prohibited since version 1903 of Windows 10")
        });
    }
    faults.want(inf, UNINSTALL, "LegacyUninstall", "1");
    let deleted = format!("{},{STOP_FIRST}", subject.service());
    faults.want(
        inf,
        &format!("{UNINSTALL}.Services"),
        "DelService",
        &deleted,
    );
}

/// What the sections that Windows begins with may say: anything else, such as values outside of the
/// service key, nobody would take away.
fn nothing_else(inf: &Inf, faults: &mut Faults) {
    for name in inf.names() {
        let lower = name.to_lowercase();
        let is_services = lower.ends_with(".services");
        let allowed: &[&str] = match (lower.starts_with("defaultinstall"), is_services) {
            (true, false) => &["OptionDesc", "CopyFiles"],
            (true, true) => &["AddService"],
            (false, false) => &["LegacyUninstall", "DelFiles"],
            (false, true) => &["DelService"],
        };
        if !lower.starts_with("default") {
            continue;
        }
        for line in inf.lines(name) {
            let values = || line.values.join(",");
            let key = line.key.clone().unwrap_or_else(values);
            let is_allowed = allowed.iter().any(|each| each.eq_ignore_ascii_case(&key));
            faults.check(is_allowed, || {
                format!("[{name}] has {key}, which a driver without a device does not need")
            });
        }
    }
}

fn files(inf: &Inf, subject: &Subject, faults: &mut Faults) {
    for layout in &LAYOUTS {
        let Some(list) = inf.value(layout.install, "CopyFiles") else {
            faults.push(format!(
                "[{}] has no CopyFiles of one section",
                layout.install
            ));
            continue;
        };
        let copied: Vec<&str> = inf
            .lines(&list)
            .iter()
            .filter_map(|line| line.values.first())
            .map(String::as_str)
            .collect();
        faults.check(copied == [subject.image], || {
            format!("[{list}] copies {copied:?}; that is the image alone, not INF or catalog")
        });
        faults.want(inf, "DestinationDirs", &list, layout.folder);
    }
    let removed = inf.value(UNINSTALL, "DelFiles");
    let installed = inf.value(LAYOUTS[1].install, "CopyFiles");
    faults.check(removed == installed, || {
        format!("{UNINSTALL} removes {removed:?}, and {installed:?} was copied")
    });
    let sources: Vec<&str> = inf
        .lines("SourceDisksFiles")
        .iter()
        .filter_map(|line| line.key.as_deref())
        .collect();
    faults.check(sources == [subject.image], || {
        format!(
            "[SourceDisksFiles] lists {sources:?}, not {}",
            subject.image
        )
    });
    let disk = inf
        .value("SourceDisksFiles", subject.image)
        .unwrap_or_default();
    let disks = inf.values("SourceDisksNames", &disk);
    faults.check(!disks.is_empty(), || {
        format!("[SourceDisksNames] has no disk {disk}")
    });
}

/// The service entry.
fn entry(inf: &Inf, subject: &Subject, layout: &Layout, service: &str, faults: &mut Faults) {
    let is_filter = subject.instance.is_some();
    let binary = format!("%{}%\\{}", layout.folder, subject.image);
    let (kind, dependencies) = if is_filter {
        ("2", "FltMgr")
    } else {
        ("1", "")
    };
    for (key, wanted) in [
        ("ServiceType", kind),
        ("StartType", "3"),
        ("ErrorControl", "1"),
        ("LoadOrderGroup", GROUP),
        ("Dependencies", dependencies),
        ("ServiceBinary", &binary),
    ] {
        faults.want(inf, service, key, wanted);
    }
}

fn instances(inf: &Inf, subject: &Subject, layout: &Layout, service: &str, faults: &mut Faults) {
    let lists = inf.values(service, "AddReg");
    let Some(instance) = subject.instance else {
        faults.check(lists.is_empty(), || {
            format!("[{service}] adds {lists:?} to the registry; this driver is no filter")
        });
        return;
    };
    let mut found: Vec<Vec<String>> = lists
        .iter()
        .flat_map(|list| inf.lines(list))
        .map(|line| line.values.iter().map(|value| inf.expand(value)).collect())
        .collect();
    found.sort();
    let root = layout.instances;
    let below = format!("{root}\\{}", instance.name);
    let mut wanted: Vec<Vec<String>> = [
        [root, "DefaultInstance", REG_SZ, &instance.name],
        [&below, "Altitude", REG_SZ, &instance.altitude],
        [&below, "Flags", REG_DWORD, &instance.flags],
    ]
    .iter()
    .map(|values| {
        ["HKR"]
            .iter()
            .chain(values)
            .map(ToString::to_string)
            .collect()
    })
    .collect();
    wanted.sort();
    faults.check(found == wanted, || {
        format!("[{service}] adds {found:?} to the registry, and the driver has {wanted:?}")
    });
    // It may have a fraction.
    let whole = instance
        .altitude
        .split('.')
        .next()
        .unwrap_or_default()
        .parse();
    faults.check(whole.is_ok_and(|whole| ALTITUDES.contains(&whole)), || {
        format!(
            "the altitude {} is none of activity monitors",
            instance.altitude
        )
    });
}

/// Keys whose values name sections.
const REFERRING: [&str; 4] = ["CopyFiles", "DelFiles", "AddReg", "AddService"];
/// Sections that Windows looks for by their names.
const KNOWN: [&str; 5] = [
    "Version",
    "SourceDisksNames",
    "SourceDisksFiles",
    "DestinationDirs",
    "Strings",
];

fn references(inf: &Inf, faults: &mut Faults) {
    let mut named: Vec<String> = KNOWN.iter().map(|name| name.to_lowercase()).collect();
    let mut used = Vec::new();
    for section in inf.names().map(str::to_string).collect::<Vec<_>>() {
        for line in inf.lines(&section) {
            let key = line.key.as_deref().unwrap_or_default();
            used.extend(line.values.iter().flat_map(|value| Inf::strings_in(value)));
            if !REFERRING.iter().any(|each| each.eq_ignore_ascii_case(key)) {
                continue;
            }
            // The third value of AddService, any of the others.
            let first = if key.eq_ignore_ascii_case("AddService") {
                2
            } else {
                0
            };
            for target in line.values.iter().skip(first) {
                faults.check(inf.has(target), || {
                    format!("[{section}] {key} names [{target}], which does not exist")
                });
                named.push(target.to_lowercase());
            }
        }
    }
    for name in inf.names() {
        let lower = name.to_lowercase();
        let is_root = lower.starts_with("defaultinstall") || lower.starts_with("defaultuninstall");
        faults.check(is_root || named.contains(&lower), || {
            format!("nothing refers to [{name}]")
        });
    }
    let used: Vec<String> = used.iter().map(|name| name.to_lowercase()).collect();
    for name in &used {
        faults.check(inf.defined_strings().any(|each| each == name), || {
            format!("%{name}% is not in [Strings]")
        });
    }
    for name in inf.defined_strings() {
        faults.check(used.iter().any(|each| each == name), || {
            format!("nothing uses %{name}%")
        });
    }
}
