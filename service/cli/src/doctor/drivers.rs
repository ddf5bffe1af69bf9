// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with one driver: its entry, its instances, its file, its last start.

use super::checks::finding;
use super::{Examination, Finding, Severity};
use crate::altitude::{self, ASK, Altitude, GROUP};
use crate::driver::{COMMON, FILTER_MANAGER, LAYOUTS, is_own, is_preset};
use crate::explain;
use crate::image::{Image, Signature};
use crate::machine::{ERROR_NORMAL, Kind, Start, State, Value};
use crate::survey::{Driver, File, Installed, Layout};

/// `CODEINTEGRITY_OPTION_ENABLED`
const ENABLED: u32 = 1;
/// `CODEINTEGRITY_OPTION_TESTSIGN`
const TESTSIGN: u32 = 2;

/// `ERROR_INVALID_NAME`
const INVALID_NAME: u32 = 123;

/// The cure of most.
const INSTALL: &str = "fltport install";

/// Findings of one driver, being gathered.
struct Gather<'d> {
    driver: &'d Driver,
    filter: bool,
    running: bool,
    findings: Vec<Finding>,
}

impl Gather<'_> {
    fn add(&mut self, severity: Severity, id: &'static str, text: [&str; 3]) {
        let name = Some(self.driver.name.as_str());
        self.findings.push(finding(severity, id, name, text));
    }

    /// The command that installs this driver again.
    fn reinstall(&self) -> String {
        if is_preset(&self.driver.name) {
            INSTALL.into()
        } else if is_own(&self.driver.name) {
            format!("{INSTALL} --driver {}", self.driver.name)
        } else {
            format!("{INSTALL} --driver {}=PATH", self.driver.name)
        }
    }
}

/// All that is wrong with a driver.
pub(super) fn driver(examination: &Examination, driver: &Driver) -> Vec<Finding> {
    let condition = driver
        .installed
        .as_ref()
        .and_then(|installed| installed.condition);
    let mut gather = Gather {
        driver,
        filter: driver.is_filter(),
        running: condition.is_some_and(|c| c.state == State::Running),
        findings: Vec::new(),
    };
    match &driver.installed {
        None => missing(&mut gather),
        Some(installed) if matches!(installed.entry.kind, Kind::Other(_)) => {
            existence(&mut gather, installed);
            no_driver(&mut gather, installed);
        }
        Some(installed) => {
            existence(&mut gather, installed);
            start(&mut gather, installed);
            entry(&mut gather, installed);
            dependencies(&mut gather, installed);
            if gather.filter {
                instances(&mut gather, installed);
                altitudes(&mut gather, installed);
            }
            file(&mut gather, installed);
            if examination.different.contains(&driver.name) {
                different(&mut gather, &installed.path);
            }
            if !gather.running
                && !examination.wine
                && let File::Good(image) = &installed.file
            {
                signature(&mut gather, image, examination.code_integrity);
            }
            last_start(&mut gather, installed);
        }
    }
    gather.findings
}

fn missing(gather: &mut Gather<'_>) {
    let (severity, why) = if gather.driver.name == COMMON {
        (Severity::Error, "without it no driver can reach a service")
    } else {
        (
            Severity::Note,
            "it is what tells of processes; drivers of your own do not need it",
        )
    };
    gather.add(
        severity,
        "service-missing",
        ["it is not installed", why, INSTALL],
    );
}

/// Whether there is a service to be started at all.
fn existence(gather: &mut Gather<'_>, installed: &Installed) {
    if installed.marked_for_deletion {
        gather.add(Severity::Error, "marked-for-deletion", [
            "its service is marked for deletion",
            "it cannot be started or installed until it is gone, when the last program that has it open closes it",
            "Close the Services window, Process Explorer and the like, or restart the machine",
        ]);
    }
    if installed.condition.is_none() {
        gather.add(Severity::Error, "unknown-service", [
            "the registry has it, but the service control manager does not know it",
            "somebody has written into the registry past the service control manager, which reads it when the machine starts",
            &format!("fltport uninstall {}, and install it again; or restart the machine", gather.driver.name),
        ]);
    }
}

/// A program's service, most likely: nothing else about it is this command's business.
fn no_driver(gather: &mut Gather<'_>, installed: &Installed) {
    let name = &gather.driver.name;
    let what = format!("its service is no driver, but a {}", installed.entry.kind);
    let why =
        "what has the name of a driver and is none is not taken over, and keeps the driver out";
    let cure = format!(
        "If somebody needs it, name the driver otherwise: {INSTALL} --driver NAME=PATH; if not: sc delete {name}, then {}",
        gather.reinstall()
    );
    gather.add(Severity::Error, "wrong-type", [&what, why, &cure]);
}

fn start(gather: &mut Gather<'_>, installed: &Installed) {
    let entry = &installed.entry;
    if entry.start == Start::Disabled {
        let cure = format!("{} --start demand", gather.reinstall());
        gather.add(
            Severity::Error,
            "disabled",
            [
                "its service is disabled",
                "a disabled driver cannot be started",
                &cure,
            ],
        );
    }
    if entry.start == Start::Boot && !installed.in_system_folder {
        let what = format!("it is started by the boot loader from {}", installed.path);
        gather.add(
            Severity::Error,
            "boot-image-out-of-reach",
            [
                &what,
                "the boot loader reads drivers from the system's folder only",
                "`fltport install` without --in-place, or with another --start",
            ],
        );
    }
}

fn entry(gather: &mut Gather<'_>, installed: &Installed) {
    let entry = &installed.entry;
    let reinstall = gather.reinstall();
    let wanted = if gather.filter {
        Kind::FileSystem
    } else {
        Kind::Kernel
    };
    if entry.kind != wanted {
        let what = format!("its service is a {} and not a {wanted}", entry.kind);
        let why = "filters are file system drivers to Windows, and other drivers kernel drivers";
        gather.add(Severity::Warning, "wrong-type", [&what, why, &reinstall]);
    }
    if entry.error_control != ERROR_NORMAL {
        let what = format!(
            "its error control is {} and not 1 (normal)",
            entry.error_control
        );
        let why = "a failed start may be silent, or may stop the machine from starting";
        gather.add(
            Severity::Warning,
            "wrong-error-control",
            [&what, why, &reinstall],
        );
    }
    if !entry.group.eq_ignore_ascii_case(GROUP) {
        let what = match entry.group.as_str() {
            "" => format!("it is in no load order group, and not in {GROUP}"),
            group => format!("its load order group is {group} and not {GROUP}"),
        };
        let why = "the group decides when it is loaded, if the start is boot or system; without one it comes after all that have one";
        gather.add(Severity::Warning, "wrong-group", [&what, why, &reinstall]);
    }
}

fn dependencies(gather: &mut Gather<'_>, installed: &Installed) {
    let reinstall = gather.reinstall();
    let dependencies = &installed.entry.dependencies;
    let names = |name: &String| name.eq_ignore_ascii_case(FILTER_MANAGER);
    if gather.filter && !dependencies.iter().any(names) {
        gather.add(Severity::Warning, "dependency-not-set", [
            "it does not depend on FltMgr",
            "started by the service control manager, it may come before the Filter Manager is up",
            &reinstall,
        ]);
    }
    for missing in installed
        .missing_dependencies
        .iter()
        .filter(|name| !names(name))
    {
        let what = format!("it depends on the service {missing}, which does not exist");
        let why = "its start fails with error 1075 then";
        gather.add(
            Severity::Error,
            "dependency-missing",
            [&what, why, &reinstall],
        );
    }
}

fn instances(gather: &mut Gather<'_>, installed: &Installed) {
    let reinstall = gather.reinstall();
    let present = |layout: &Layout| layout.default.is_some();
    if !installed.layouts.iter().any(present) {
        // The common driver writes them itself before it registers.
        let severity = if gather.driver.name == COMMON {
            Severity::Warning
        } else {
            Severity::Error
        };
        gather.add(
            severity,
            "instances-missing",
            [
                "its service key has no Instances, neither there nor below Parameters",
                "the Filter Manager refuses a filter without them with 0xc0000034 (error 2)",
                &reinstall,
            ],
        );
        return;
    }
    for (layout, place) in installed.layouts.iter().zip(LAYOUTS) {
        if !present(layout) {
            let what = format!("its instance is missing below {place}");
            let why = "Windows 11 looks below Parameters\\Instances from 24H2 on, and below Instances before; what is in one place only fails on the other Windows with 0xc0000034 (error 2)";
            gather.add(
                Severity::Warning,
                "instances-in-one-place",
                [&what, why, &reinstall],
            );
            continue;
        }
        values(gather, layout, place, &reinstall);
    }
}

/// The values of one layout that is there.
fn values(gather: &mut Gather<'_>, layout: &Layout, place: &str, reinstall: &str) {
    let rows = [
        ("DefaultInstance", &layout.default, true),
        ("Altitude", &layout.altitude, true),
        ("Flags", &layout.flags, false),
    ];
    for (name, value, text) in rows {
        let wanted = if text { "REG_SZ" } else { "REG_DWORD" };
        let what = match value {
            Some(Value::Text(_)) if text => continue,
            Some(Value::Number(_)) if !text => continue,
            Some(other) => {
                format!(
                    "{place}: {name} is a {} and not a {wanted}",
                    other.type_name()
                )
            }
            None => format!("{place}: {name} is missing, a {wanted}"),
        };
        let why = "the Filter Manager does not take the filter: 0xc0000034 (error 2) for what is missing, 0xc000000d (error 87) for another type";
        gather.add(
            Severity::Error,
            "instance-malformed",
            [&what, why, reinstall],
        );
        if name == "DefaultInstance" {
            // What it names cannot be looked at.
            return;
        }
    }
}

fn altitudes(gather: &mut Gather<'_>, installed: &Installed) {
    let reinstall = gather.reinstall();
    let all: Vec<&str> = installed
        .layouts
        .iter()
        .filter_map(Layout::altitude_text)
        .collect();
    if let [one, other] = all[..]
        && one != other
        && !altitude::same(one, other)
    {
        let what = format!(
            "its altitude is {one} below Instances and {other} below Parameters\\Instances"
        );
        let why = "which of them counts depends on the version of Windows";
        gather.add(
            Severity::Error,
            "altitudes-differ",
            [&what, why, &reinstall],
        );
    }
    let Some(altitude) = all.first() else {
        return;
    };
    let cure = format!("{reinstall} --altitude NUMBER");
    match altitude.parse::<Altitude>() {
        Err(why) => {
            let what = format!("its altitude is \"{altitude}\"");
            gather.add(
                Severity::Error,
                "altitude-out-of-range",
                [&what, &why, &cure],
            );
        }
        Ok(altitude) if altitude == Altitude::preset() => {
            let what = format!("its altitude is the preset one, {altitude}");
            let cure = format!("Before a release, request one: {ASK}; then {cure}");
            let why = "that is good for development; a release needs one that Microsoft has allotted to it";
            gather.add(Severity::Note, "altitude-preset", [&what, why, &cure]);
        }
        Ok(_) => {}
    }
    if let Some(other) = &installed.altitude_holder {
        let what = format!("the service {other} has the same altitude, {altitude}");
        let why = "altitudes must be unique; where both attach, the second fails with 0xc01c0011";
        gather.add(Severity::Error, "altitude-collision", [&what, why, &cure]);
    }
}

fn file(gather: &mut Gather<'_>, installed: &Installed) {
    let reinstall = gather.reinstall();
    let path = &installed.path;
    let image = match &installed.file {
        File::Missing => {
            let what = format!("its file {path} is missing");
            let why = "its start fails with error 2 then, or 3";
            gather.add(Severity::Error, "file-missing", [&what, why, &reinstall]);
            return;
        }
        File::Unreadable(trouble) => {
            let explained = explain::call(trouble.code);
            let cure = match trouble.code {
                // A path that cannot be: it is written again.
                INVALID_NAME => reinstall,
                _ => format!("{reinstall}; if that says the same: {}", explained.cure()),
            };
            let texts = [trouble.what.as_str(), &explained.cause(), &cure];
            gather.add(Severity::Error, "file-unreadable", texts);
            return;
        }
        File::Bad(reason) => {
            let what = format!("its file {path} is no driver: {reason}");
            let why = "Windows loads 64-bit images of the native subsystem only";
            gather.add(Severity::Error, "file-no-driver", [&what, why, &reinstall]);
            return;
        }
        File::Good(image) => image,
    };
    for module in &installed.missing_imports {
        let what = format!("its file imports from {module}, which is not there");
        let why = "its start fails with 0xc0000135 or 0xc0000034 (error 126 or 2)";
        let cure = format!(
            "Put {module} into System32\\drivers, or install the driver that it belongs to"
        );
        gather.add(Severity::Error, "import-missing", [&what, why, &cure]);
    }
    if image.needs_force_integrity() && !image.force_integrity {
        gather.add(Severity::Error, "no-force-integrity", [
            "its file is not marked FORCE_INTEGRITY",
            "Windows lets only drivers with that mark register for process and handle notifications; its start fails with 0xc0000022 (error 5)",
            "Link it with /INTEGRITYCHECK, and sign it again",
        ]);
    }
}

fn different(gather: &mut Gather<'_>, path: &str) {
    let what = format!("its file {path} is not the one beside this program");
    let why = "after an update the command and the driver may be of different versions; if it was installed from another folder, it is as it should be";
    let cure = "fltport stop, fltport install, fltport start";
    gather.add(Severity::Note, "file-differs", [&what, why, cure]);
}

/// The signature of a driver that does not run; one that does has been accepted.
fn signature(gather: &mut Gather<'_>, image: &Image, code_integrity: Option<u32>) {
    let (severity, unknown) = match code_integrity {
        Some(options) if options & ENABLED == 0 => return,
        None => (
            Severity::Note,
            " Whether this system asks for one cannot be known here",
        ),
        Some(_) => (Severity::Error, ""),
    };
    let testsign = code_integrity.is_some_and(|options| options & TESTSIGN != 0);
    match image.signature {
        Signature::DevCenter => {}
        Signature::Other if testsign => {}
        Signature::None => {
            let why = format!(
                "64-bit Windows loads signed drivers only, and refuses others with 0xc0000428 (error 577), unless a catalog has their signature.{unknown}"
            );
            gather.add(severity, "unsigned", [
                "its file has no signature",
                why.trim(),
                "Use a signed release, or sign it with a test certificate and turn test signing on: `bcdedit /set testsigning on`, and restart",
            ]);
        }
        Signature::Other => {
            let what = match code_integrity {
                None => "its file is signed, but not by Microsoft's Hardware Dev Center",
                Some(_) => {
                    "its file is signed, but not by Microsoft's Hardware Dev Center, and test signing is off"
                }
            };
            let why = format!(
                "Windows 10 and later take new drivers from there only, and refuse others with 0xc0000428 (error 577) unless test signing is on.{unknown}"
            );
            gather.add(severity, "test-signed", [
                what,
                why.trim(),
                "`bcdedit /set testsigning on`, with Secure Boot off, and restart; or use a release",
            ]);
        }
    }
}

fn last_start(gather: &mut Gather<'_>, installed: &Installed) {
    let Some(condition) = installed.condition else {
        return;
    };
    match (condition.state, condition.exit_code) {
        (State::Stopped, 0 | 1077) => gather.add(
            Severity::Note,
            "not-running",
            [
                "it is not running",
                "it has not been started since the machine was, or was stopped",
                &format!("fltport start {}", gather.driver.name),
            ],
        ),
        (State::Stopped, code) => {
            let explained = explain::start(code);
            let what = format!("its last start failed with {}", explained.number());
            let (why, cure) = match explained.explanation {
                Some(row) => (row.cause.to_owned(), row.cure.to_owned()),
                None => (
                    "the driver's documentation may say what that means".into(),
                    explained.cure(),
                ),
            };
            gather.add(Severity::Error, "start-failed", [&what, &why, &cure]);
        }
        (State::Starting, _) => gather.add(
            Severity::Warning,
            "starting",
            [
                "it is still starting",
                "if it stays so, it hangs in its initialisation",
                "Look again; if it stays so, restart the machine",
            ],
        ),
        (State::Stopping, _) => gather.add(
            Severity::Warning,
            "stopping",
            [
                "it is still stopping",
                "a program has its device or port open, or another driver holds it",
                "End what uses it; `fltport status` lists the connections",
            ],
        ),
        _ => {}
    }
}
