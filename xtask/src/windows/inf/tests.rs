// SPDX-License-Identifier: MIT OR Apache-2.0

//! The INF files are right; spoilt in one thing, they are not.

use std::fs;

use super::*;
use crate::workspace::Workspace;

const STAMP: &str = "01/01/2026,0.0.0.0";

fn source(path: &str) -> String {
    fs::read_to_string(Workspace::locate().path(path)).unwrap()
}

fn filter() -> String {
    source("kernel/driver/fltport.inf")
}

fn judge(text: &str, image: &str, instance: Option<&Instance>) -> Vec<String> {
    let subject = Subject {
        image,
        driver_version: STAMP,
        instance,
    };
    faults(&Inf::parse(text).unwrap(), &subject)
}

fn filter_faults(text: &str) -> Vec<String> {
    let instance = Instance::of_common_driver(&Workspace::locate()).unwrap();
    judge(text, "fltport.sys", Some(&instance))
}

#[test]
fn all_files_are_right() {
    assert_eq!(filter_faults(&filter()), [""; 0]);
    let monitor = source("kernel/process-monitor/process-monitor.inf");
    assert_eq!(judge(&monitor, "process-monitor.sys", None), [""; 0]);
    let registry = source("kernel/registry-monitor/registry-monitor.inf");
    assert_eq!(judge(&registry, "registry-monitor.sys", None), [""; 0]);
}

/// What is replaced in the filter's file by what, and what is said then.
const SPOILT: [(&str, &str, &str); 37] = [
    (
        "CopyFiles  = fltport.Files\n",
        "CopyFiles  = fltport.Files\nAddReg = fltport.Instances\n",
        "25952] has AddReg, which",
    ),
    (
        "DelService = %Service%,0x200",
        "DelReg = fltport.Instances\nDelService = %Service%,0x200",
        "[DefaultUninstall.NTamd64.Services] has DelReg, which",
    ),
    (
        "LegacyUninstall = 1",
        "LegacyUninstall = 1\nfltport.sys",
        "[DefaultUninstall.NTamd64] has fltport.sys, which",
    ),
    ("$WINDOWS NT$", "$CHICAGO$", "Signature is `$CHICAGO$`"),
    ("= \"ActivityMonitor\"", "= \"System\"", "Class is `System`"),
    ("{b86dff51", "{4d36e97d", "ClassGuid is"),
    (
        "= \"the fltport authors\"",
        "= \"Microsoft\"",
        "Provider is `Microsoft`",
    ),
    ("Provider    = %Provider%", "", "Provider is ``"),
    ("01/01/2026", "01/02/2026", "DriverVer is"),
    ("fltport.cat", "other.cat", "CatalogFile is"),
    ("PnpLockdown = 1", "PnpLockdown = 0", "PnpLockdown is `0`"),
    (
        "[DefaultInstall.NTamd64]",
        "[DefaultInstall]",
        "[DefaultInstall.NTamd64] is missing",
    ),
    (
        "[DefaultInstall.NTamd64]",
        "[DefaultInstall]",
        "[DefaultInstall] is for another processor",
    ),
    (
        "[DefaultInstall.NTamd64.10.0...25952]",
        "[DefaultInstall.NTamd64.10.0...19041]",
        "25952] is missing",
    ),
    (
        "[SourceDisksNames]",
        "[Manufacturer]\n[SourceDisksNames]",
        "[Manufacturer]",
    ),
    ("LegacyUninstall = 1", "", "LegacyUninstall is ``"),
    (
        "[DefaultUninstall.NTamd64]",
        "[DefaultUninstall]",
        "[DefaultUninstall] is prohibited",
    ),
    ("%Service%,0x200", "%Service%", "DelService is `fltport`"),
    (
        "DelFiles        = fltport.Files.Earlier",
        "",
        "removes None",
    ),
    (
        "[fltport.Files]\n",
        "[fltport.Files]\nfltport.inf\n",
        "not INF or catalog",
    ),
    ("fltport.sys = 1", "", "[SourceDisksFiles] lists []"),
    (
        "1 = %Disk%",
        "2 = %Disk%",
        "[SourceDisksNames] has no disk 1",
    ),
    (
        "fltport.Files          = 13",
        "fltport.Files          = 12",
        "fltport.Files is `12`, not `13`",
    ),
    (
        "AddService = %Service%,,fltport.Service\n",
        "AddService = %Service%,2,fltport.Service\n",
        "AddService has the flags 2",
    ),
    (
        "AddService = %Service%,,fltport.Service\n",
        "AddService = other,,fltport.Service\n",
        "the service is other",
    ),
    (
        "ServiceType    = 2 ;",
        "ServiceType    = 1 ;",
        "ServiceType is `1`",
    ),
    (
        "StartType      = 3 ;",
        "StartType      = 0 ;",
        "StartType is `0`",
    ),
    (
        "ErrorControl   = 1 ;",
        "ErrorControl   = 3 ;",
        "ErrorControl is `3`",
    ),
    (
        "\"FSFilter Activity Monitor\"\nDependencies   = \"FltMgr\"\nServiceBinary  = %13%",
        "\"Base\"\nServiceBinary  = %13%",
        "LoadOrderGroup is `Base`",
    ),
    (
        "Dependencies   = \"FltMgr\"\nServiceBinary  = %13%",
        "ServiceBinary  = %13%",
        "Dependencies is ``",
    ),
    ("%13%\\fltport.sys", "%12%\\fltport.sys", "ServiceBinary is"),
    (
        "AddReg         = fltport.Instances\n",
        "AddReg         = fltport.Instances.Earlier\n",
        "adds [[\"HKR\", \"Instances\"",
    ),
    (
        "= \"385999\"",
        "= \"385998\"",
        "to the registry, and the driver has",
    ),
    (
        "Flags       = \"3\"",
        "Flags       = \"0\"",
        "to the registry",
    ),
    (
        "AddReg         = fltport.Instances\n",
        "AddReg         = fltport.Typo\n",
        "names [fltport.Typo], which does not exist",
    ),
    (
        "[Strings]",
        "[Orphan]\na = b\n[Strings]",
        "nothing refers to [Orphan]",
    ),
    (
        "Disk        = ",
        "Disc        = ",
        "%disk% is not in [Strings]",
    ),
];

#[test]
fn every_rule_finds_the_file_that_breaks_it() {
    for (from, to, words) in SPOILT {
        let good = filter();
        assert!(good.contains(from), "{from}");
        let faults = filter_faults(&good.replacen(from, to, 1));
        assert!(
            faults.iter().any(|fault| fault.contains(words)),
            "{from} -> {to}: {faults:?}"
        );
    }
}

#[test]
fn an_altitude_of_other_filters_is_refused() {
    let mut instance = Instance::of_common_driver(&Workspace::locate()).unwrap();
    for (altitude, fits) in [("385999.5", true), ("320000", false), ("top", false)] {
        let text = filter().replace("\"385999\"", &format!("\"{altitude}\""));
        instance.altitude = altitude.to_string();
        let faults = judge(&text, "fltport.sys", Some(&instance));
        let found = faults
            .iter()
            .any(|fault| fault.contains("of activity monitors"));
        assert_eq!(found, !fits, "{altitude}: {faults:?}");
    }
}

#[test]
fn what_is_no_filter_has_no_instances() {
    let faults = judge(&filter(), "fltport.sys", None);
    assert!(
        faults.iter().any(|fault| fault.contains("is no filter")),
        "{faults:?}"
    );
}

#[test]
fn quotes_comments_and_continuations_are_read() {
    let text =
        "[A]\nkey = \"x;y\", \"say \"\"no\"\"\", z ; done\n\"S\\\"%N%,,\\\n last\n[Strings]\nN = n";
    let inf = Inf::parse(text).unwrap();
    let lines = inf.lines("a");
    assert_eq!(lines[0].key.as_deref(), Some("key"));
    assert_eq!(lines[0].values, ["x;y", "say \"no\"", "z"]);
    assert_eq!(lines[1].key, None);
    assert_eq!(lines[1].values, ["S\\%N%", "", "last"]);
    assert_eq!(inf.expand("%n% %12%"), "n %12%");
}

#[test]
fn what_is_no_inf_is_refused_with_its_line() {
    for (text, words) in [
        ("x = y", "line 1 is in no section"),
        ("[A", "line 1: the section's name"),
        ("[A]\nx = \"y", "line 2: a quotation"),
    ] {
        let error = Inf::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
