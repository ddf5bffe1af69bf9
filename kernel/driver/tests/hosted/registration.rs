// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registration with the Filter Manager: the keys that it wants, and whether it attaches.

use crate::machine::{FLTPORT, Machine};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use nt_host::registry::Value;

const SERVICE: &str = "\\Registry\\Machine\\System\\CurrentControlSet\\Services\\fltport";

fn text(machine: &Machine, key: &str, name: &str) -> Option<String> {
    let path = format!("{SERVICE}\\{key}");
    machine
        .kernel
        .registry()
        .value(&path, name)
        .ok()?
        .as_string()
}

fn set(machine: &Machine, key: &str, name: &str, value: Value) {
    let path = format!("{SERVICE}\\{key}");
    machine
        .kernel
        .registry()
        .set_value(&path, name, value)
        .unwrap();
}

#[test]
fn both_layouts_are_written_so_that_a_bare_service_is_enough() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    for root in ["Instances", "Parameters\\Instances"] {
        let name = text(&machine, root, "DefaultInstance").expect(root);
        let altitude = text(&machine, &format!("{root}\\{name}"), "Altitude").expect(root);
        let altitude: u32 = altitude.parse().unwrap();
        assert!(
            (360_000..=389_999).contains(&altitude),
            "an activity monitor's: {altitude}"
        );
        let path = format!("{SERVICE}\\{root}\\{name}");
        let flags = machine
            .kernel
            .registry()
            .value(&path, "Flags")
            .unwrap()
            .as_dword();
        assert_eq!(flags, Some(3), "neither automatic nor manual attachment");
    }
    assert!(!nt_host::flt::attached("fltport"), "it stands on no volume");
    machine.check();
}

#[test]
fn what_an_installer_has_written_stays() {
    let machine = Machine::bare();
    for root in ["Instances", "Parameters\\Instances"] {
        set(&machine, root, "DefaultInstance", Value::string("theirs"));
        set(
            &machine,
            &format!("{root}\\theirs"),
            "Altitude",
            Value::string("370123.5"),
        );
    }
    machine.load(&FLTPORT);
    for root in ["Instances", "Parameters\\Instances"] {
        assert_eq!(
            text(&machine, root, "DefaultInstance").as_deref(),
            Some("theirs")
        );
        let altitude = text(&machine, &format!("{root}\\theirs"), "Altitude");
        assert_eq!(altitude.as_deref(), Some("370123.5"));
    }
    machine.check();
}

#[test]
fn it_attaches_only_if_it_is_told_to() {
    let machine = Machine::bare();
    set(&machine, "Parameters", "AttachToVolumes", Value::dword(1));
    machine.load(&FLTPORT);
    assert!(nt_host::flt::attached("fltport"));
    machine.check();
}

#[test]
fn a_bad_key_fails_the_load_and_leaves_nothing_behind() {
    let machine = Machine::bare();
    set(&machine, "Instances", "DefaultInstance", Value::dword(7));
    set(
        &machine,
        "Parameters\\Instances",
        "DefaultInstance",
        Value::dword(7),
    );
    assert_eq!(machine.kernel.load(&FLTPORT), Err(STATUS_INVALID_PARAMETER));
    assert!(machine.kernel.pool_usage().is_empty());
    machine.check();
}
