// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::driver;
use crate::image::tests::{Sample, driver as sample};
use crate::install::tests::{install_all, machine};
use crate::machine::{Kind, Start, Value};

const TESTSIGNING: u32 = 3;

/// Where the program is.
const FOLDER: &str = r"C:\kit";

/// A machine on which everything is as it should be.
fn healthy() -> Machine {
    let machine = machine();
    install_all(&machine);
    let mut manager = driver::entry(true, Start::Boot, r"System32\drivers\fltmgr.sys".into());
    manager.dependencies.clear();
    machine.create("FltMgr", &manager).unwrap();
    for name in ["FltMgr", "fltport", "process-monitor", "other"] {
        machine.set_state(name, State::Running);
    }
    machine.code_integrity.set(Some(TESTSIGNING));
    machine
}

/// All that is found; each is documented.
fn findings(machine: &Machine) -> Vec<Finding> {
    let findings = Examination::of(machine, FOLDER, || Ok(Vec::new()))
        .unwrap()
        .findings();
    let documented = include_str!("../../../../docs/install.md");
    for finding in &findings {
        let id = format!("`{}`", finding.id);
        assert!(
            documented.contains(&id),
            "docs/install.md does not have {id}"
        );
    }
    findings
}

/// The one finding that there is but for notes.
#[track_caller]
fn only(machine: &Machine, id: &str) -> Finding {
    let mut findings = findings(machine);
    findings.retain(|finding| finding.severity != Severity::Note);
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), 1, "{text:#?}");
    assert_eq!(findings[0].id, id);
    findings.remove(0)
}

fn set_image(machine: &Machine, image: &[u8]) {
    machine
        .write_file(&machine.drivers_file("fltport"), image)
        .unwrap();
}

fn change(machine: &Machine, by: impl FnOnce(&mut Entry)) {
    let mut entry = machine.entry("fltport").unwrap().unwrap();
    by(&mut entry);
    machine.change("fltport", &entry).unwrap();
}

#[test]
fn a_healthy_machine() {
    let machine = healthy();
    let findings = findings(&machine);
    assert!(is_healthy(&findings));
    let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["altitude-preset"]);
    assert_eq!(
        to_text(&findings).last().unwrap(),
        "healthy: no errors, no warnings"
    );
}

#[test]
fn an_empty_machine() {
    let machine = Machine::new();
    let findings = findings(&machine);
    let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(
        ids,
        [
            "filter-manager-missing",
            "service-missing",
            "service-missing"
        ]
    );
    assert_eq!(to_text(&findings).last().unwrap(), "not healthy: 2 errors");
}

#[test]
fn the_machine_itself() {
    let machine = healthy();
    machine.not_elevated.set(true);
    assert_eq!(only(&machine, "not-elevated").severity, Severity::Warning);
    let machine = healthy();
    machine.set_state("FltMgr", State::Stopped);
    only(&machine, "filter-manager-stopped");
    let mut entry = machine.entry("FltMgr").unwrap().unwrap();
    entry.start = Start::Disabled;
    machine.change("FltMgr", &entry).unwrap();
    only(&machine, "filter-manager-disabled");
}

#[test]
fn drivers_that_wine_keeps_apart() {
    let machine = healthy();
    change(&machine, |e| e.start = Start::Auto);
    assert!(is_healthy(&findings(&machine)));
    machine.wine.set(true);
    let mut findings = findings(&machine);
    findings.retain(|finding| finding.id == "apart-under-wine");
    let drivers: Vec<&str> = findings
        .iter()
        .filter_map(|f| f.driver.as_deref())
        .collect();
    assert_eq!(drivers, ["process-monitor", "other", "FltMgr"]);
    let cure = &findings[2].cure;
    assert!(cure.contains("/v Start /t REG_DWORD /d 2`"), "{cure}");
}

#[test]
fn entries_that_are_wrong() {
    type Change = fn(&mut Entry);
    let rows: [(&str, Severity, Change); 8] = [
        ("wrong-type", Severity::Warning, |e| e.kind = Kind::Kernel),
        ("wrong-type", Severity::Error, |e| e.kind = Kind::Other(16)),
        ("disabled", Severity::Error, |e| e.start = Start::Disabled),
        ("wrong-error-control", Severity::Warning, |e| {
            e.error_control = 3
        }),
        ("wrong-group", Severity::Warning, |e| e.group.clear()),
        ("wrong-group", Severity::Warning, |e| {
            e.group = "Filter".into()
        }),
        ("dependency-not-set", Severity::Warning, |e| {
            e.dependencies.clear()
        }),
        ("dependency-missing", Severity::Error, |e| {
            e.dependencies.push("nobody".into())
        }),
    ];
    for (id, severity, by) in rows {
        let machine = healthy();
        change(&machine, by);
        let found = only(&machine, id);
        assert_eq!(
            (found.severity, found.driver.as_deref()),
            (severity, Some("fltport"))
        );
        assert!(
            found.cure.ends_with("fltport install") || id == "disabled",
            "{found}"
        );
    }
    let machine = healthy();
    change(&machine, |e| {
        (e.start, e.image) = (Start::Boot, r"\??\C:\kit\fltport.sys".into())
    });
    only(&machine, "boot-image-out-of-reach");
    let elsewhere = r"C:\kit\System32\drivers\fltport.sys";
    machine.write_file(elsewhere, &sample("fltport")).unwrap();
    change(&machine, |e| e.image = format!(r"\??\{elsewhere}"));
    only(&machine, "boot-image-out-of-reach");
    let machine = healthy();
    machine.unknown.borrow_mut().insert("fltport".into());
    let found = only(&machine, "unknown-service");
    assert!(found.cure.contains("fltport uninstall fltport"), "{found}");
    let machine = healthy();
    machine
        .set("fltport", "DeleteFlag", &Value::Number(1))
        .unwrap();
    only(&machine, "marked-for-deletion");
}

#[test]
fn instances_that_are_wrong() {
    let machine = healthy();
    machine.remove_key(r"fltport\Parameters\Instances").unwrap();
    assert!(
        only(&machine, "instances-in-one-place")
            .what
            .contains(r"Parameters\Instances")
    );
    machine.remove_key(r"fltport\Instances").unwrap();
    assert_eq!(
        only(&machine, "instances-missing").severity,
        Severity::Warning
    );
    for (key, name, value) in [
        ("", "DefaultInstance", Value::Number(1)),
        (r"\fltport", "Altitude", Value::Number(385_999)),
        (r"\fltport", "Flags", Value::text("3")),
        (r"\fltport", "Flags", Value::Other(3, vec![3])),
    ] {
        let machine = healthy();
        let key = format!(r"fltport\Instances{key}");
        machine.set(&key, name, &value).unwrap();
        let found = only(&machine, "instance-malformed");
        assert!(
            found.what.contains(name) && found.what.contains("and not a REG_"),
            "{found}"
        );
        if name != "DefaultInstance" {
            machine.remove_value(&key, name).unwrap();
            assert!(
                only(&machine, "instance-malformed")
                    .what
                    .contains("is missing")
            );
        }
    }
}

#[test]
fn altitudes_that_are_wrong() {
    let set = |machine: &Machine, layout: &str, altitude: &str| {
        let key = format!(r"fltport\{layout}\fltport");
        machine
            .set(&key, "Altitude", &Value::text(altitude))
            .unwrap();
    };
    let machine = healthy();
    set(&machine, "Instances", "385000");
    assert!(only(&machine, "altitudes-differ").what.contains("385000"));
    set(&machine, r"Parameters\Instances", "385000.0");
    assert!(is_healthy(&findings(&machine)));
    for layout in driver::LAYOUTS {
        set(&machine, layout, "328000");
    }
    only(&machine, "altitude-out-of-range");
    for layout in driver::LAYOUTS {
        set(&machine, layout, "388000");
    }
    assert!(only(&machine, "altitude-collision").what.contains("luafv"));
}

#[test]
fn files_that_are_wrong() {
    let machine = healthy();
    set_image(&machine, b"text");
    only(&machine, "file-no-driver");
    let imports = vec![("gone.sys", "Function")];
    set_image(
        &machine,
        &Sample {
            imports,
            ..Sample::default()
        }
        .bytes(""),
    );
    assert!(only(&machine, "import-missing").what.contains("gone.sys"));
    machine
        .write_file(r"C:\Windows\System32\ntoskrnl.exe", b"")
        .unwrap();
    let imports = vec![("ntoskrnl.exe", "PsSetCreateProcessNotifyRoutineEx")];
    set_image(
        &machine,
        &Sample {
            imports,
            ..Sample::default()
        }
        .bytes(""),
    );
    assert!(
        only(&machine, "no-force-integrity")
            .why
            .contains("0xc0000022")
    );
    machine
        .remove_file(&machine.drivers_file("fltport"))
        .unwrap();
    only(&machine, "file-missing");
    machine
        .unreadable
        .borrow_mut()
        .insert(machine.drivers_file("fltport").to_lowercase());
    assert!(only(&machine, "file-unreadable").why.contains("denied"));
}

#[test]
fn a_file_that_is_not_the_one_beside_the_program() {
    let machine = healthy();
    machine
        .write_file(r"C:\kit\fltport.sys", &sample("a newer one"))
        .unwrap();
    let findings = findings(&machine);
    let found = findings
        .iter()
        .find(|finding| finding.id == "file-differs")
        .unwrap();
    assert_eq!(found.driver.as_deref(), Some("fltport"));
    assert!(is_healthy(&findings));
}

#[test]
fn signatures() {
    let machine = healthy();
    machine.set_state("fltport", State::Stopped);
    let unsigned = Sample {
        certificate: Vec::new(),
        ..Sample::default()
    };
    set_image(&machine, &unsigned.bytes(""));
    assert_eq!(only(&machine, "unsigned").severity, Severity::Error);
    // Where it runs, it has been accepted: by a catalog, or by nobody who asks.
    machine.set_state("fltport", State::Running);
    assert!(is_healthy(&findings(&machine)));
    machine.set_state("fltport", State::Stopped);
    set_image(&machine, &sample(""));
    assert!(is_healthy(&findings(&machine)));
    machine.code_integrity.set(Some(1));
    assert!(only(&machine, "test-signed").cure.contains("testsigning"));
    machine.code_integrity.set(Some(0));
    assert!(is_healthy(&findings(&machine)));
    machine.code_integrity.set(None);
    let findings = findings(&machine);
    let found = findings
        .iter()
        .find(|finding| finding.id == "test-signed")
        .unwrap();
    assert_eq!(found.severity, Severity::Note);
    assert!(found.why.contains("cannot be known here"), "{found}");
    machine.wine.set(true);
    let ids: Vec<&str> = self::findings(&machine).iter().map(|f| f.id).collect();
    assert!(
        ids.contains(&"signatures-not-judged") && !ids.contains(&"test-signed"),
        "{ids:?}"
    );
}

#[test]
fn the_last_start() {
    let machine = healthy();
    let fail = |code| {
        let failed = Condition {
            state: State::Stopped,
            exit_code: code,
        };
        machine
            .conditions
            .borrow_mut()
            .insert("fltport".into(), failed);
    };
    fail(2);
    let found = only(&machine, "start-failed");
    assert!(found.why.contains("Instances"), "{found}");
    fail(0x801F_0011);
    assert!(only(&machine, "start-failed").cure.contains("--altitude"));
    fail(4711);
    assert!(
        only(&machine, "start-failed")
            .cure
            .contains("net helpmsg 4711")
    );
    fail(1077);
    assert!(is_healthy(&findings(&machine)));
    machine.set_state("fltport", State::Stopping);
    only(&machine, "stopping");
}

#[test]
fn the_port() {
    let machine = healthy();
    let error = || Err("access denied. Run as Administrator".to_owned());
    let findings = Examination::of(&machine, FOLDER, error).unwrap().findings();
    let found = &findings[0];
    assert_eq!(
        (found.id, found.cure.as_str()),
        ("port-unreachable", "Run as Administrator")
    );
    machine.set_state("fltport", State::Stopped);
    let not_tried = Examination::of(&machine, FOLDER, || unreachable!()).unwrap();
    assert!(not_tried.port.is_none());
}

#[test]
fn json_says_the_same() {
    let machine = Machine::new();
    let examination = Examination::of(&machine, FOLDER, || Ok(Vec::new())).unwrap();
    let findings = examination.findings();
    let json: serde_json::Value =
        serde_json::from_str(&to_json(&findings, &examination.drivers)).unwrap();
    assert_eq!(json["healthy"], false);
    assert_eq!(json["findings"][0]["id"], "filter-manager-missing");
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["findings"][1]["driver"], "fltport");
    assert_eq!(json["drivers"][0]["installed"], false);
}

/// What is configured below the service key, and what is found then.
fn configured(machine: &Machine, provider: &str, values: &[(&str, Value)]) {
    let key = format!(r"fltport\Parameters\Access\{provider}");
    machine.make_key(r"fltport\Parameters\Access").unwrap();
    machine.make_key(&key).unwrap();
    for (name, value) in values {
        machine.set(&key, name, value).unwrap();
    }
}

#[test]
fn who_may_what() {
    let all = Value::Number(7);
    let administrators = ("S-1-5-32-544", all.clone());
    for (values, id) in [
        (vec![], "access-empty"),
        (vec![("S-1-5-18", Value::Number(0))], "access-empty"),
        (
            vec![administrators.clone(), ("Users", all.clone())],
            "access-malformed",
        ),
        (
            vec![administrators.clone(), ("S-1-5-32-545", Value::text("7"))],
            "access-malformed",
        ),
        (
            vec![administrators.clone(), ("S-1-1-0", Value::Number(1))],
            "access-world",
        ),
    ] {
        let machine = healthy();
        configured(&machine, "x", &values);
        assert_eq!(only(&machine, id).severity, Severity::Warning, "{values:?}");
    }
    let machine = healthy();
    configured(&machine, "*", &[("S-1-5-80-1-2", all.clone())]);
    let found = findings(&machine);
    assert!(found.iter().any(|f| f.id == "access-no-administrator"));
    let machine = healthy();
    let names: Vec<String> = (0..65).map(|n| format!("S-1-5-21-{n}")).collect();
    let mut many: Vec<_> = names.iter().map(|n| (n.as_str(), all.clone())).collect();
    many.push(administrators);
    configured(&machine, "x", &many);
    only(&machine, "access-too-many");
}

#[test]
fn which_programs() {
    let machine = healthy();
    let set = |value: &Value| machine.set(r"fltport\Parameters", "Images", value).unwrap();
    set(&Value::Texts(vec!["*".into()]));
    assert!(is_healthy(&findings(&machine)));
    set(&Value::Texts(Vec::new()));
    assert_eq!(only(&machine, "images-empty").severity, Severity::Error);
    set(&Value::text("*"));
    only(&machine, "images-malformed");
}

#[test]
fn what_was_refused() {
    let machine = healthy();
    let row = |reason, count| RefusalRow {
        reason,
        pid: 42,
        count,
        last: 1,
        reserved: 0,
    };
    let every: Vec<_> = (0..fltport::Refusal::ALL.len() as u32)
        .map(|reason| row(reason, 1))
        .chain([row(999, 5), row(0, 0)])
        .collect();
    let told = Examination::of(&machine, FOLDER, || Ok(every))
        .unwrap()
        .findings();
    let documented = include_str!("../../../../docs/install.md");
    let refused: Vec<_> = told
        .iter()
        .filter(|f| f.id.starts_with("refused-"))
        .collect();
    assert_eq!(refused.len(), fltport::Refusal::ALL.len());
    for finding in refused {
        assert!(
            documented.contains(&format!("`{}`", finding.id)),
            "{}",
            finding.id
        );
        assert!(finding.what.ends_with("once, the last time to process 42"));
    }
}
