// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list, played on this system's floor; and that a scenario can fail.

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
