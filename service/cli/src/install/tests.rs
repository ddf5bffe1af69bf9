// SPDX-License-Identifier: MIT OR Apache-2.0

mod sequences;

use super::*;
use crate::driver::{self, LAYOUTS};
use crate::image::tests::{Sample, driver as sample};
use crate::machine::{Kind, State, Value};
use crate::uninstall::{self, uninstall};
use crate::{control, survey};

const FOLDER: &str = r"C:\kit";

/// A machine with the files to install in a folder, and a filter of somebody else.
pub(crate) fn machine() -> Machine {
    let machine = Machine::new();
    for name in ["fltport", "process-monitor", "other"] {
        machine
            .write_file(&format!(r"{FOLDER}\{name}.sys"), &sample(name))
            .unwrap();
    }
    let imports = vec![("fltmgr.sys", "FltRegisterFilter")];
    let filter = Sample {
        imports,
        ..Sample::default()
    }
    .bytes("");
    machine
        .write_file(&format!(r"{FOLDER}\filter.sys"), &filter)
        .unwrap();
    machine.make_key(r"luafv\Instances\luafv").unwrap();
    machine.make_key(r"luafv\Instances").unwrap();
    machine.make_key("luafv").unwrap();
    machine
        .set(r"luafv\Instances\luafv", "Altitude", &Value::text("388000"))
        .unwrap();
    machine
}

fn wish() -> Wish {
    Wish {
        from: FOLDER.into(),
        ..Wish::default()
    }
}

fn named(drivers: &[&str]) -> Wish {
    let drivers = drivers
        .iter()
        .map(|driver| driver.parse().unwrap())
        .collect();
    Wish { drivers, ..wish() }
}

/// This project's drivers and one of somebody else.
pub(crate) fn install_all(machine: &Machine) {
    install(machine, &wish()).unwrap();
    install(machine, &named(&["other"])).unwrap();
}

fn refused(machine: &Machine, wish: &Wish) -> String {
    let before = machine.contents.borrow().clone();
    let error = install(machine, wish).unwrap_err().to_string();
    assert_eq!(*machine.contents.borrow(), before);
    error
}

#[test]
fn the_entries_are_as_the_reference_says() {
    let machine = machine();
    let lines = install(&machine, &wish()).unwrap();
    let entry = machine.entry("fltport").unwrap().unwrap();
    assert_eq!(entry.kind, Kind::FileSystem);
    assert_eq!((entry.start, entry.error_control), (Start::Demand, 1));
    assert_eq!(entry.group, "FSFilter Activity Monitor");
    assert_eq!(entry.dependencies, ["FltMgr"]);
    assert_eq!(entry.image, r"\SystemRoot\System32\drivers\fltport.sys");
    let client = machine.entry("process-monitor").unwrap().unwrap();
    assert_eq!((client.kind, client.dependencies.len()), (Kind::Kernel, 0));
    assert_eq!(client.group, entry.group);
    for layout in LAYOUTS {
        let value = |key: &str, name| {
            machine
                .value(&format!(r"fltport\{layout}{key}"), name)
                .unwrap()
        };
        assert_eq!(value("", "DefaultInstance"), Some(Value::text("fltport")));
        assert_eq!(value(r"\fltport", "Altitude"), Some(Value::text("385999")));
        assert_eq!(value(r"\fltport", "Flags"), Some(Value::Number(3)));
    }
    assert_eq!(machine.keys(r"process-monitor\Instances").unwrap(), None);
    let copy = machine
        .read_file(r"C:\Windows\System32\drivers\fltport.sys")
        .unwrap();
    assert_eq!(copy, Some(sample("fltport")));
    let text = lines.join("\n");
    for part in [
        "fltport: installed",
        "fsfcomm@microsoft.com",
        "Next: fltport start",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_second_run_changes_nothing() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    let before = machine.contents.borrow().clone();
    let lines = install(&machine, &wish()).unwrap();
    assert_eq!(*machine.contents.borrow(), before);
    assert_eq!(
        lines,
        [
            "fltport: installed already, nothing changed",
            "process-monitor: installed already, nothing changed"
        ]
    );
}

#[test]
fn other_options_change_what_they_name_and_no_more() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    let altitude = Some("385210.5".parse().unwrap());
    let lines = install(
        &machine,
        &Wish {
            start: Some(Start::Boot),
            altitude,
            ..wish()
        },
    )
    .unwrap();
    let text = lines.join("\n");
    assert!(text.contains("start from demand to boot"), "{text}");
    assert!(text.contains("from \"385999\" to \"385210.5\""), "{text}");
    // What is not named stays.
    let lines = install(&machine, &wish()).unwrap();
    assert!(lines[0].ends_with("nothing changed"), "{lines:?}");
    assert_eq!(
        machine.entry("fltport").unwrap().unwrap().start,
        Start::Boot
    );
}

#[test]
fn another_way_to_write_the_same_is_no_change() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    let mut entry = machine.entry("fltport").unwrap().unwrap();
    entry.image = r"system32\DRIVERS\fltport.sys".into();
    entry.dependencies = vec!["fltmgr".into()];
    entry.group = "fsfilter activity monitor".into();
    machine.change("fltport", &entry).unwrap();
    let lines = install(&machine, &wish()).unwrap();
    assert!(lines[0].ends_with("nothing changed"), "{lines:?}");
}

#[test]
fn a_damaged_installation_is_repaired() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    let good = machine.contents.borrow().clone();
    machine
        .set(r"fltport\Instances\fltport", "Altitude", &Value::Number(1))
        .unwrap();
    machine.remove_key(r"fltport\Parameters\Instances").unwrap();
    let mut entry = machine.entry("fltport").unwrap().unwrap();
    (entry.kind, entry.start) = (Kind::Kernel, Start::Disabled);
    machine.change("fltport", &entry).unwrap();
    machine
        .remove_file(&machine.drivers_file("process-monitor"))
        .unwrap();
    install(&machine, &wish()).unwrap();
    assert_eq!(*machine.contents.borrow(), good);
}

#[test]
fn attachment_is_a_matter_of_configuration() {
    let machine = machine();
    machine.make_key(r"fltport\Parameters").unwrap();
    machine
        .set(r"fltport\Parameters", "AttachToVolumes", &Value::Number(1))
        .unwrap();
    machine.make_key("fltport").unwrap();
    // The fake machine takes a key for a service; the entry is what is missing.
    let entry = driver::entry(true, Start::Demand, String::new());
    machine.change("fltport", &entry).unwrap();
    install(&machine, &wish()).unwrap();
    let flags = machine
        .value(r"fltport\Instances\fltport", "Flags")
        .unwrap();
    assert_eq!(flags, Some(Value::Number(0)));
}

#[test]
fn files_may_stay_in_their_place() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    let in_place = Wish {
        in_place: true,
        ..wish()
    };
    install(&machine, &in_place).unwrap();
    let entry = machine.entry("fltport").unwrap().unwrap();
    assert_eq!(entry.image, r"\??\C:\kit\fltport.sys");
    assert_eq!(
        machine.read_file(&machine.drivers_file("fltport")).unwrap(),
        None
    );
    assert_eq!(driver::copied_file(&machine, "fltport").unwrap(), None);
    let lines = install(&machine, &in_place).unwrap();
    assert!(lines[0].ends_with("nothing changed"), "{lines:?}");
    let boot = Wish {
        start: Some(Start::Boot),
        ..in_place
    };
    assert!(refused(&machine, &boot).contains("--in-place"));
    let network = r"\\server\share\other.sys";
    machine.write_file(network, &sample("other")).unwrap();
    let network = Wish {
        in_place: true,
        ..named(&[&format!("other={network}")])
    };
    assert!(refused(&machine, &network).contains("network"));
    uninstall(&machine, &uninstall::Wish::default(), &mut |_| Ok(())).unwrap();
    assert!(machine.read_file(r"C:\kit\fltport.sys").unwrap().is_some());
}

#[test]
fn files_may_be_installed_from_where_they_go() {
    let machine = machine();
    let drivers = r"C:\Windows\system32\drivers";
    let from = Wish {
        from: drivers.into(),
        ..named(&["other"])
    };
    machine
        .write_file(&format!(r"{drivers}\other.sys"), &sample("other"))
        .unwrap();
    install(&machine, &from).unwrap();
    assert_eq!(driver::copied_file(&machine, "other").unwrap(), None);
    uninstall(&machine, &uninstall::Wish::default(), &mut |_| Ok(())).unwrap();
    assert!(machine.has_file(&machine.drivers_file("other")).unwrap());
    machine.remove_file(&machine.drivers_file("other")).unwrap();
    // What was copied stays this command's.
    install(&machine, &named(&["other"])).unwrap();
    let lines = install(&machine, &from).unwrap();
    assert!(lines[0].ends_with("nothing changed"), "{lines:?}");
}

#[test]
fn a_file_in_use_is_not_replaced() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    machine.set_state("fltport", State::Running);
    machine
        .write_file(r"C:\kit\fltport.sys", &sample("a newer one"))
        .unwrap();
    assert!(refused(&machine, &wish()).contains("fltport stop"));
    let start = Wish {
        start: Some(Start::Auto),
        drivers: named(&["process-monitor"]).drivers,
        ..wish()
    };
    machine.set_state("process-monitor", State::Running);
    let lines = install(&machine, &start).unwrap();
    assert!(lines[0].contains("next start"), "{lines:?}");
}

#[test]
fn filters_of_others_need_an_altitude_of_their_own() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    assert!(refused(&machine, &named(&["filter"])).contains("--altitude"));
    let taken = Wish {
        altitude: Some("385999".parse().unwrap()),
        ..named(&["filter"])
    };
    assert!(refused(&machine, &taken).contains("that of the service fltport"));
    let system = Wish {
        altitude: Some("388000.00".parse().unwrap()),
        ..wish()
    };
    assert!(refused(&machine, &system).contains("luafv"));
    let both = Wish {
        altitude: Some("385001".parse().unwrap()),
        ..named(&["fltport", "filter"])
    };
    assert!(refused(&machine, &both).contains("the same altitude"));
    let own = Wish {
        altitude: Some("385001".parse().unwrap()),
        ..named(&["filter"])
    };
    install(&machine, &own).unwrap();
    assert_eq!(
        machine.entry("filter").unwrap().unwrap().kind,
        Kind::FileSystem
    );
    let value = machine
        .value(r"filter\Parameters\Instances\filter", "Altitude")
        .unwrap();
    assert_eq!(value, Some(Value::text("385001")));
    // It is kept.
    let lines = install(&machine, &named(&["filter"])).unwrap();
    assert!(lines[0].ends_with("nothing changed"), "{lines:?}");
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    let machine = machine();
    let entry = driver::entry(false, Start::Boot, r"System32\drivers\other.sys".into());
    machine.create("other", &entry).unwrap();
    assert!(refused(&machine, &named(&["other"])).contains("has not installed"));
    machine.delete("other").unwrap();
    machine
        .write_file(&machine.drivers_file("other"), b"of somebody")
        .unwrap();
    assert!(refused(&machine, &named(&["other"])).contains("has not copied"));
    let entry = driver::entry(
        true,
        Start::Demand,
        r"\SystemRoot\System32\DriverStore\FileRepository\fltport.inf_amd64_1\fltport.sys".into(),
    );
    machine.create("fltport", &entry).unwrap();
    assert!(refused(&machine, &wish()).contains("pnputil"));
    machine.delete("fltport").unwrap();
    let mut entry = driver::entry(false, Start::Demand, String::new());
    entry.kind = Kind::Other(0x10);
    machine.create("fltport", &entry).unwrap();
    assert!(refused(&machine, &wish()).contains("no driver"));
}

#[test]
fn keys_of_others_that_cannot_be_read_are_no_obstacle() {
    let machine = machine();
    for key in [
        "guard",
        r"guard\Parameters",
        r"guard\Instances",
        r"luafv\Instances\luafv",
    ] {
        machine.make_key(key).unwrap();
        machine.unreadable.borrow_mut().insert(key.to_lowercase());
    }
    install_all(&machine);
    control::start(&machine, &[], &mut |_| Ok(())).unwrap();
    survey::drivers(&machine).unwrap();
    uninstall(&machine, &uninstall::Wish::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(machine.entry("fltport").unwrap(), None);
    // One's own is another matter.
    install_all(&machine);
    let mut unreadable = machine.unreadable.borrow_mut();
    unreadable.insert(r"fltport\instances\fltport".into());
    drop(unreadable);
    assert!(refused(&machine, &wish()).contains("access was denied"));
}

#[test]
fn a_key_that_is_no_service_is_refused_until_it_is_removed() {
    let machine = machine();
    install_all(&machine);
    for name in ["fltport", "other"] {
        machine.unknown.borrow_mut().insert(name.into());
        let error = refused(&machine, &named(&[name]));
        let cure = format!("fltport uninstall {name}");
        assert!(error.contains(&cure), "{error}");
        let one = uninstall::Wish {
            drivers: vec![name.into()],
            ..uninstall::Wish::default()
        };
        uninstall(&machine, &one, &mut |_| Ok(())).unwrap();
        assert_eq!(machine.keys(name).unwrap(), None);
        assert!(!machine.has_file(&machine.drivers_file(name)).unwrap());
        machine.unknown.borrow_mut().clear();
        install(&machine, &named(&[name])).unwrap();
    }
}

#[test]
fn what_cannot_be_installed_is_refused() {
    let machine = machine();
    assert!(refused(&machine, &named(&["absent"])).contains("--from"));
    machine.write_file(r"C:\kit\text.sys", b"hello").unwrap();
    assert!(refused(&machine, &named(&["fltport", "text"])).contains("cannot be installed"));
    assert!(refused(&machine, &named(&["other", "Other"])).contains("twice"));
    let altitude = Some("385001".parse().unwrap());
    let client = Wish {
        altitude,
        ..named(&["process-monitor"])
    };
    assert!(refused(&machine, &client).contains("only filters"));
    machine.not_elevated.set(true);
    assert!(refused(&machine, &wish()).contains("administrator"));
}

#[test]
fn a_service_that_is_marked_for_deletion_is_refused() {
    let machine = machine();
    install(&machine, &wish()).unwrap();
    machine
        .set("fltport", "DeleteFlag", &Value::Number(1))
        .unwrap();
    assert!(refused(&machine, &wish()).contains("marked for deletion"));
}

#[test]
fn a_service_made_by_hand_is_taken_over() {
    let machine = machine();
    let entry = driver::entry(false, Start::Demand, r"\??\C:\old\fltport.sys".into());
    machine.create("fltport", &entry).unwrap();
    let lines = install(&machine, &wish()).unwrap();
    assert_eq!(lines[0], "fltport: changed");
    assert_eq!(
        machine.entry("fltport").unwrap().unwrap().kind,
        Kind::FileSystem
    );
}

/// Every call that `wish` makes on a machine from `prepare` fails once: nothing may be left.
fn sweep(prepare: impl Fn() -> Machine, wish: &Wish) {
    for call in 0.. {
        let machine = prepare();
        let before = machine.contents.borrow().clone();
        machine.fail_at(&[call]);
        let result = install(&machine, wish);
        if result.is_ok() {
            assert!(
                call >= machine.calls(),
                "call {call} failed and nobody noticed"
            );
            assert!(call > 10, "there was little to fail: {call}");
            return;
        }
        let error = result.unwrap_err().to_string();
        assert!(error.contains("disk is full"), "{error}");
        assert!(!error.contains("except for"), "{error}");
        assert_eq!(*machine.contents.borrow(), before, "call {call}: {error}");
    }
}

#[test]
fn whatever_fails_the_first_installation_is_undone() {
    sweep(machine, &wish());
    sweep(
        machine,
        &Wish {
            altitude: Some("385001".parse().unwrap()),
            ..named(&["other", "filter"])
        },
    );
}

#[test]
fn whatever_fails_a_change_is_undone() {
    let installed = || {
        let machine = machine();
        install(&machine, &wish()).unwrap();
        machine
            .write_file(r"C:\kit\fltport.sys", &sample("a newer one"))
            .unwrap();
        machine
    };
    let altitude = Some("385001".parse().unwrap());
    let start = Some(Start::Auto);
    sweep(
        installed,
        &Wish {
            altitude: altitude.clone(),
            start,
            ..wish()
        },
    );
    sweep(
        installed,
        &Wish {
            altitude,
            start,
            in_place: true,
            ..wish()
        },
    );
}

#[test]
fn an_undo_that_fails_goes_on_and_says_what_is_left() {
    let count = {
        let machine = machine();
        machine.fail_at(&[]);
        install(&machine, &wish()).unwrap();
        machine.calls()
    };
    let mut seen = 0;
    for call in 0..count {
        for later in 1..40 {
            let machine = machine();
            let before = machine.contents.borrow().clone();
            machine.fail_at(&[call, call + later]);
            let error = install(&machine, &wish()).unwrap_err().to_string();
            let undone = *machine.contents.borrow() == before;
            // A key takes what is in it along, so that more may be undone than the calls say.
            assert!(
                undone || error.contains("except for"),
                "{call}+{later}: {error}"
            );
            if error.contains("except for") {
                seen += 1;
                assert!(error.contains("\n  the "), "{error}");
                assert!(error.contains("fltport uninstall"), "{error}");
            }
            // Either command mends it.
            machine.fail_at(&[]);
            install(&machine, &wish()).unwrap();
            uninstall(&machine, &uninstall::Wish::default(), &mut |_| Ok(())).unwrap();
            assert_eq!(*machine.contents.borrow(), before, "{call}+{later}");
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn the_registry_monitor_is_there_if_it_is_named_and_goes_along_then() {
    let machine = machine();
    let path = format!(r"{FOLDER}\registry-monitor.sys");
    machine
        .write_file(&path, &sample("registry-monitor"))
        .unwrap();
    install(&machine, &wish()).unwrap();
    assert!(machine.entry("registry-monitor").unwrap().is_none());
    install(&machine, &named(&["registry-monitor"])).unwrap();
    let entry = machine.entry("registry-monitor").unwrap().unwrap();
    assert_eq!((entry.kind, entry.dependencies.len()), (Kind::Kernel, 0));
    let mut told = Vec::new();
    let mut tell = |line| {
        told.push(line);
        Ok(())
    };
    control::start(&machine, &[], &mut tell).unwrap();
    let order = ["fltport", "process-monitor", "registry-monitor"];
    for (line, name) in told.iter().zip(order) {
        assert!(line.starts_with(name), "{told:?}");
    }
    assert_eq!(told.len(), order.len());
    uninstall(&machine, &uninstall::Wish::default(), &mut |_| Ok(())).unwrap();
    assert!(machine.entry("registry-monitor").unwrap().is_none());
}
