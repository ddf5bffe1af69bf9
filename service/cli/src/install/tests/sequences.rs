// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever is installed, changed, upgraded and uninstalled in whatever order: the machine ends as
//! the last one asked.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Install {
        start: Option<Start>,
        altitude: Option<u32>,
        in_place: bool,
        drivers: usize,
    },
    Uninstall {
        keep_files: bool,
        all: bool,
    },
    Upgrade,
}

fn act() -> impl Strategy<Value = Act> {
    let starts = prop::sample::select(vec![Start::Boot, Start::System, Start::Auto, Start::Demand]);
    prop_oneof![
        4 => (prop::option::of(starts), prop::option::of(385_000_u32..385_003), any::<bool>(), 0..4_usize)
            .prop_map(|(start, altitude, in_place, drivers)| Act::Install { start, altitude, in_place, drivers }),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(keep_files, all)| Act::Uninstall { keep_files, all }),
        1 => Just(Act::Upgrade),
    ]
}

/// What is installed after all: name, start, altitude, whether in place.
type Model = std::collections::BTreeMap<&'static str, (Start, Option<String>, bool)>;

fn apply(machine: &Machine, model: &mut Model, act: &Act, version: &mut usize) {
    const CHOICES: [&[&str]; 4] = [
        &["fltport", "process-monitor"],
        &["fltport"],
        &["process-monitor"],
        &["other"],
    ];
    match act {
        Act::Install {
            start,
            altitude,
            in_place,
            drivers,
        } => {
            let names = CHOICES[*drivers];
            let wish = Wish {
                start: *start,
                altitude: altitude.map(|a| a.to_string().parse().unwrap()),
                in_place: *in_place,
                ..named(names)
            };
            let effective = |model: &Model, name: &str| {
                start.unwrap_or_else(|| model.get(name).map_or(Start::Demand, |row| row.0))
            };
            let mut all = names.iter();
            let allowed = (!in_place || all.all(|name| effective(model, name) != Start::Boot))
                && (altitude.is_none() || names.contains(&"fltport"));
            assert_eq!(install(machine, &wish).is_ok(), allowed);
            if !allowed {
                return;
            }
            for name in names {
                let kept = model.get(name).and_then(|row| row.1.clone());
                let asked = altitude.map(|a| a.to_string());
                let altitude =
                    (*name == "fltport").then(|| asked.or(kept).unwrap_or_else(|| "385999".into()));
                let row = (effective(model, name), altitude, *in_place);
                model.insert(name, row);
            }
        }
        Act::Uninstall { keep_files, all } => {
            let drivers = if *all {
                Vec::new()
            } else {
                vec!["fltport".to_owned()]
            };
            let wish = uninstall::Wish {
                drivers,
                keep_files: *keep_files,
            };
            uninstall(machine, &wish, &mut |_| Ok(())).unwrap();
            model.retain(|name, _| !*all && *name != "fltport");
            if *keep_files {
                // What is nobody's would be refused for a driver that is not of this project.
                let _removed = machine.remove_file(&machine.drivers_file("other"));
                if model.get("other").is_some_and(|row| !row.2) {
                    install(machine, &named(&["other"])).unwrap();
                }
            }
        }
        Act::Upgrade => {
            *version += 1;
            let file = sample(&format!("version {version}"));
            machine.write_file(r"C:\kit\fltport.sys", &file).unwrap();
        }
    }
}

fn check(machine: &Machine, model: &Model) -> Result<(), TestCaseError> {
    for name in ["fltport", "process-monitor", "other"] {
        let entry = machine.entry(name).unwrap();
        let Some((start, altitude, in_place)) = model.get(name) else {
            prop_assert_eq!(machine.keys(name).unwrap(), None);
            prop_assert_eq!(entry, None);
            continue;
        };
        let entry = entry.unwrap();
        prop_assert_eq!(entry.start, *start);
        let source = format!(r"C:\kit\{name}.sys");
        let copy = machine.drivers_file(name);
        let file = if *in_place { &source } else { &copy };
        prop_assert_eq!(&machine.image_file(name, &entry.image), file);
        prop_assert!(machine.read_file(file).unwrap().is_some());
        let copied = driver::copied_file(machine, name).unwrap();
        prop_assert_eq!(copied.is_some(), !in_place);
        for layout in LAYOUTS {
            let key = format!(r"{name}\{layout}\{name}");
            let stored = machine.value(&key, "Altitude").unwrap();
            prop_assert_eq!(stored, altitude.as_ref().map(Value::text));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_ends_as_the_last_one_asked(acts in prop::collection::vec(act(), 1..12)) {
        let machine = machine();
        let before = machine.contents.borrow().clone();
        let (mut model, mut version) = (Model::new(), 0);
        for act in &acts {
            apply(&machine, &mut model, act, &mut version);
            check(&machine, &model)?;
        }
        // And nothing remains.
        let all = uninstall::Wish::default();
        install(&machine, &wish()).unwrap_or_default();
        uninstall(&machine, &all, &mut |_| Ok(())).unwrap();
        let after = machine.contents.borrow().clone();
        prop_assert_eq!(after.keys, before.keys);
        prop_assert!(!after.files.contains_key(r"c:\windows\system32\drivers\other.sys"));
    }
}
