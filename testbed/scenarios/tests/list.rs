// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list, played on this system's floor; and that a scenario can fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command.args(arguments);
    command
}

fn scenarios(arguments: &[&str]) -> Output {
    command(arguments).output().expect("it can be started")
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

/// A scenario in a file of its own, played; its exit code and what was said.
fn play(name: &str, steps: &str) -> (Option<i32>, String) {
    let path = std::env::temp_dir().join(format!("{name}-{}.scenario", std::process::id()));
    std::fs::write(&path, format!("about a test\n{steps}")).expect("a file can be written");
    let output = scenarios(&["--file", path.to_str().expect("a path in UTF-8")]);
    std::fs::remove_file(&path).expect("it was written");
    (output.status.code(), text(&output))
}

#[test]
fn all_scenarios_of_the_list_go_well() {
    let output = scenarios(&[]);
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}

/// Quotas, bookings, backlogs, snapshots, mutes and gaps, without rings.
#[test]
fn what_holds_of_rings_holds_of_the_port() {
    let list = [
        "blobs",
        "early",
        "gap",
        "muted",
        "observed",
        "overrun",
        "pairs-under-flood",
        "registry",
        "slow",
    ];
    let mut command = command(&list);
    command.env("SCENARIOS_WITHOUT_RINGS", "yes");
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{}", text(&output));
}

/// The scenarios in which somebody does nothing but watch the load generator, but for those of minutes.
const WATCHED: [&str; 18] = [
    "absent",
    "blobs",
    "dpc",
    "dpc-level",
    "dpc-queued",
    "early",
    "early-filter-manager",
    "flood",
    "forced",
    "gap",
    "killed",
    "overrun",
    "pairs-under-flood",
    "refilled",
    "refused",
    "slow",
    "snapshot-under-flood",
    "survivor",
];

/// The watcher in C, compiled with these flags.
fn watcher(name: &str, flags: &[&str]) -> PathBuf {
    ring_watcher::build("cc", flags, Path::new(env!("CARGO_TARGET_TMPDIR")), name)
}

/// Plays scenarios with this program in place of those who do nothing but watch.
#[track_caller]
fn play_with(watcher: &Path, scenarios: &[&str], without_rings: bool) {
    let mut command = command(scenarios);
    command.env("SCENARIOS_WATCHER", watcher);
    if without_rings {
        command.env("SCENARIOS_WITHOUT_RINGS", "yes");
    }
    let output = command.output().expect("it can be started");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let in_c = said.matches("in C: services ").count();
    assert_eq!(in_c, scenarios.len(), "{said}");
    let by_the_port = said.contains("records come by the port");
    assert_eq!(by_the_port, without_rings, "{said}");
}

#[test]
fn a_service_in_c_sees_the_same_by_rings() {
    play_with(&watcher("watcher-rings", &[]), &WATCHED, false);
}

#[test]
fn a_service_in_c_sees_the_same_by_the_port() {
    play_with(&watcher("watcher-port", &[]), &WATCHED, true);
}

#[test]
fn a_service_in_c_reads_nothing_that_is_not_its_own() {
    let sanitized = watcher(
        "watcher-sanitized",
        &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    );
    let some = ["blobs", "early", "flood", "gap", "refilled", "survivor"];
    play_with(&sanitized, &some, false);
    play_with(&sanitized, &some, true);
}

#[test]
fn an_expectation_that_does_not_hold_fails_and_says_what_there_is() {
    let steps = "start fltport\nstart loadgen\nservice a\na starts flood count=5\n\
                 a finishes expect done=6 refused<=0";
    let (code, said) = play("expects-too-much", steps);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(
            "`a finishes expect done=6 refused<=0`: it is not so that done=6. What there is: done 5"
        ),
        "{said}"
    );
    let (code, said) = play("no-error", "start fltport expect error=not-found");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("not refused, though it must be: not-found"),
        "{said}"
    );
    let (code, said) = play("error", "service a");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("refused: not-running"), "{said}");
    let (code, said) = play("wrong-error", "service a expect error=too-late");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("refused with not-running"), "{said}");
}

#[test]
fn what_is_not_there_is_said() {
    let unknown = scenarios(&["no-such"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown).contains("there is no scenario no-such. `scenarios --list` names them"));
    let (code, said) = play("no-service", "start fltport\nnobody echoes bytes=1");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("Write `service nobody` before this line"),
        "{said}"
    );
    let (code, said) = play("unreadable", "start fltport\n\nnobody dances");
    assert_eq!(code, Some(2));
    assert!(
        said.contains(".scenario:4: nobody can do \"dances\""),
        "{said}"
    );
    assert!(text(&scenarios(&["--list"])).contains("flood"));
}
