// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is played under Wine, in this order.

use std::ops::AddAssign;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::session::{Ended, Session};

/// For a command that should answer at once; a busy machine is slow.
const COMMAND: Duration = Duration::from_secs(60);
/// For a program with many checks.
const PROGRAM: Duration = Duration::from_secs(300);

/// One part of the floor.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Runs it.
    pub(super) run: fn(&Session<'_>) -> Result<Checks>,
}

/// What was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    pub(crate) passed: u64,
    /// Wine cannot carry them; the output says why.
    pub(crate) skipped: u64,
}

impl Checks {
    fn passed(passed: u64) -> Checks {
        Checks { passed, skipped: 0 }
    }
}

impl AddAssign for Checks {
    fn add_assign(&mut self, other: Checks) {
        self.passed += other.passed;
        self.skipped += other.skipped;
    }
}

pub(super) const STEPS: [Step; 7] = [
    Step {
        name: "manager",
        what: "the stand-in for the Filter Manager starts",
        run: manager,
    },
    Step {
        name: "example",
        what: "somebody else's driver and service, in C",
        run: example,
    },
    Step {
        name: "conformance",
        what: "fltlib.dll answers as documented",
        run: conformance,
    },
    Step {
        name: "hello",
        what: "client drivers in C, C++ and Rust, before and behind the common driver",
        run: hello,
    },
    Step {
        name: "operator",
        what: "fltport.exe installs, starts, watches, stops, uninstalls",
        run: operator,
    },
    Step {
        name: "scenarios",
        what: "the scenarios that run on the hosted kernel, too",
        run: scenarios,
    },
    Step {
        name: "service in C",
        what: "some of them, watched by a service in C",
        run: service_in_c,
    },
];

/// All drivers need the same one to share a process under Wine.
const GROUP: &str = "FSFilter Activity Monitor";

/// Makes a service of a driver by Wine's own `sc`, and starts it.
fn start(session: &Session<'_>, driver: &str) -> Result<()> {
    let image = format!("C:\\windows\\system32\\drivers\\{driver}.sys");
    // To `sc` a name, which ends in "=", and its value are two arguments.
    let kind = ["type=", "filesys", "start=", "demand", "group=", GROUP];
    let create = [&["create", driver], &kind[..], &["binPath=", &image]].concat();
    control(session, &create)?;
    let started = control(session, &["start", driver])?;
    ensure!(
        started.output.contains("RUNNING"),
        "{driver} does not run:\n{}",
        started.output
    );
    Ok(())
}

/// `sc`, which is refused for as long as Wine starts services of its own.
fn control(session: &Session<'_>, arguments: &[&str]) -> Result<Ended> {
    /// ERROR_SERVICE_DATABASE_LOCKED.
    const LOCKED: &str = " 1055";
    let deadline = Instant::now() + COMMAND;
    loop {
        let ended = session.run("sc.exe", arguments, COMMAND)?;
        let locked = ended.errors.contains(LOCKED) || ended.output.contains(LOCKED);
        if !locked || Instant::now() > deadline {
            return judge("sc.exe", arguments, ended);
        }
        // Nothing tells when it is over.
        thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a program that must succeed.
fn succeed(session: &Session<'_>, program: &str, arguments: &[&str]) -> Result<Ended> {
    judge(
        program,
        arguments,
        session.run(program, arguments, COMMAND)?,
    )
}

fn judge(program: &str, arguments: &[&str], ended: Ended) -> Result<Ended> {
    if ended.status.success() {
        return Ok(ended);
    }
    bail!(
        "`{program} {}` failed ({}):\n{}{}",
        arguments.join(" "),
        ended.status,
        ended.output,
        ended.errors
    )
}

fn manager(session: &Session<'_>) -> Result<Checks> {
    start(session, "fltmgr").map(|()| Checks::passed(1))
}

fn example(session: &Session<'_>) -> Result<Checks> {
    enter_instances(session, "example", "370000")?;
    start(session, "example")?;
    // And once more: it can be stopped and started.
    succeed(session, "sc.exe", &["stop", "example"])?;
    succeed(session, "sc.exe", &["start", "example"])?;
    let client = succeed(session, "client.exe", &[])?;
    let said = |line: &str| client.output.lines().filter(|each| *each == line).count();
    ensure!(
        said("question 'How are you?', answer: 0x00000000") == 3 && said("sent: 0x00000000") == 3,
        "the service in C has not answered three questions:\n{}",
        client.output
    );
    Ok(Checks::passed(1))
}

/// What a filter's service key must have, unless the driver writes it itself.
fn enter_instances(session: &Session<'_>, driver: &str, altitude: &str) -> Result<()> {
    let key = format!("HKLM\\System\\CurrentControlSet\\Services\\{driver}\\Instances");
    let instance = format!("{key}\\{driver}");
    for value in [
        [&key, "/v", "DefaultInstance", "/d", driver, "/f"],
        [&instance, "/v", "Altitude", "/d", altitude, "/f"],
    ] {
        let arguments: Vec<&str> = ["add"].into_iter().chain(value).collect();
        succeed(session, "reg.exe", &arguments)?;
    }
    Ok(())
}

fn conformance(session: &Session<'_>) -> Result<Checks> {
    enter_instances(session, "conformance", "370001")?;
    start(session, "conformance")?;
    let ended = session.run("port-conformance.exe", &[], PROGRAM)?;
    let checks = |prefix: &str| {
        let lines = ended.output.lines();
        lines.filter(|line| line.starts_with(prefix)).count() as u64
    };
    let (well, differ) = (checks("ok: "), checks("DIFFERS: "));
    if !ended.status.success() || differ > 0 || well == 0 {
        bail!(
            "fltlib.dll does not answer as documented ({}):\n{}{}",
            ended.status,
            ended.output,
            ended.errors
        );
    }
    Ok(Checks::passed(well))
}

/// The examples: one that is loaded before the common driver, and what it told then.
fn hello(session: &Session<'_>) -> Result<Checks> {
    start(session, "hello-c")?;
    for arguments in [
        &["install", "--from", "C:\\windows\\system32\\drivers"][..],
        &["start"],
    ] {
        succeed(session, "fltport.exe", arguments)?;
    }
    let early = succeed(session, "fltport.exe", &["watch", "--json", "--for", "2s"])?;
    ensure!(
        early.output.contains("Hello from C\""),
        "`fltport watch` does not show what was said before there was a common driver:\n{}{}",
        early.output,
        early.errors
    );
    // One that imports, and one with the stub.
    start(session, "hello-cpp")?;
    start(session, "hello-rs")?;
    let drivers = [("hello-c", "C"), ("hello-cpp", "C++"), ("hello-rs", "Rust")];
    let service = succeed(session, "hello-service.exe", &drivers.map(|(name, _)| name))?;
    for (_, language) in drivers {
        for line in [
            format!("1: Hello from {language}"),
            format!("2: Hello from {language}"),
        ] {
            ensure!(
                service.output.lines().any(|each| each == line),
                "the service was not told \"{line}\":\n{}",
                service.output
            );
        }
    }
    let answers = |line: &str| service.output.lines().filter(|each| *each == line).count();
    ensure!(
        answers("1: true") == 3 && answers("2: false") == 3,
        "the drivers were not answered as the service does:\n{}",
        service.output
    );
    for driver in ["hello-cpp", "hello-rs", "hello-c"] {
        succeed(session, "sc.exe", &["stop", driver])?;
    }
    succeed(session, "fltport.exe", &["stop"])?;
    succeed(session, "fltport.exe", &["uninstall"])?;
    Ok(Checks::passed(1 + 4 * 3))
}

/// The command as an operator uses it, from nothing to nothing.
fn operator(session: &Session<'_>) -> Result<Checks> {
    let fltport = |arguments: &[&str]| succeed(session, "fltport.exe", arguments);
    let drivers = "C:\\windows\\system32\\drivers";
    let expect = |arguments: &[&str], words: &[&str]| -> Result<u64> {
        let ended = fltport(arguments)?;
        for word in words {
            ensure!(
                ended.output.contains(word),
                "`fltport {}` does not say \"{word}\":\n{}{}",
                arguments.join(" "),
                ended.output,
                ended.errors
            );
        }
        Ok(words.len() as u64)
    };
    let install = ["install", "--from", drivers];
    let one_more = [&install[..], &["--driver", "registry-monitor"]].concat();
    let clients = ["process-monitor", "registry-monitor"];
    let mut checks = expect(&install, &["fltport: installed"])?;
    checks += expect(&install, &["nothing changed"])?;
    checks += expect(&one_more, &["registry-monitor: installed"])?;
    checks += expect(
        &["start"],
        &["process-monitor: started", "registry-monitor: started"],
    )?;
    checks += expect(&["doctor"], &["healthy"])?;
    checks += providers(&fltport(&["status", "--json"])?)?;
    checks += expect(&["status"], &clients)?;
    checks += expect(&["providers"], &clients)?;
    checks += fltport(&["watch", "--json", "--for", "1s"]).map(|_| 1)?;
    checks += expect(
        &["stop"],
        &["fltport: stopped", "registry-monitor: stopped"],
    )?;
    let not_running = session.run("fltport.exe", &["watch"], COMMAND)?;
    ensure!(
        !not_running.status.success() && not_running.errors.contains("start"),
        "`fltport watch` without a driver does not say what to start:\n{}",
        not_running.errors
    );
    checks += 1 + expect(
        &["uninstall"],
        &["fltport: removed", "registry-monitor: removed"],
    )?;
    checks += expect(&["uninstall"], &["nothing to remove"])?;
    Ok(Checks::passed(checks))
}

/// The same files as on the hosted kernel.
fn scenarios(session: &Session<'_>) -> Result<Checks> {
    play(session, &[], &[]).map(|(checks, _)| checks)
}

/// Who watches is `examples/ring-watcher`. Rings are refused here, so it must say that it reads the port.
fn service_in_c(session: &Session<'_>) -> Result<Checks> {
    /// Ways to connect and to be left alone, large messages, losses, and a snapshot.
    const WATCHED: [&str; 11] = [
        "absent",
        "blobs",
        "early",
        "flood",
        "forced",
        "gap",
        "killed",
        "overrun",
        "refused",
        "snapshot-under-flood",
        "survivor",
    ];
    let program = "C:\\windows\\system32\\ring-watcher.exe";
    let (checks, ended) = play(session, &[("SCENARIOS_WATCHER", program)], &WATCHED)?;
    reads_the_port(&ended.output, &ended.errors, WATCHED.len())?;
    Ok(checks)
}

/// That a service in C was in so many scenarios, and whenever it had connected said why it reads the port.
fn reads_the_port(output: &str, errors: &str, scenarios: usize) -> Result<()> {
    let said = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    let watched = said(output, "in C: services ");
    let connected = said(errors, "records come by ");
    let by_the_port = said(errors, "records come by the port, because ");
    ensure!(
        watched == scenarios && connected >= watched && by_the_port == connected,
        "the service in C has watched {watched} scenarios of {scenarios}, and connected {connected} times, \
         {by_the_port} of them saying why it reads the port:\n{errors}"
    );
    Ok(())
}

/// Plays scenarios; all if none is named. What they say is worth seeing.
fn play(
    session: &Session<'_>,
    environment: &[(&str, &str)],
    names: &[&str],
) -> Result<(Checks, Ended)> {
    let ended = session.run_with(environment, "scenarios.exe", names, PROGRAM)?;
    print!("{}", ended.output);
    let checks = played(&ended.output);
    ensure!(
        ended.status.success() && checks.passed > 0,
        "a scenario failed ({}):\n{}",
        ended.status,
        ended.errors
    );
    Ok((checks, ended))
}

/// Counts the lines `Wine: NAME: ok (…` and `Wine: NAME: not on this floor (…`.
fn played(output: &str) -> Checks {
    let count = |outcome: &str| {
        let lines = output
            .lines()
            .filter_map(|line| line.strip_prefix("Wine: "));
        let outcomes = lines.filter_map(|line| Some(line.split_once(": ")?.1));
        outcomes.filter(|rest| rest.starts_with(outcome)).count() as u64
    };
    Checks {
        passed: count("ok ("),
        skipped: count("not on this floor"),
    }
}

/// The drivers have found each other.
fn providers(status: &Ended) -> Result<u64> {
    let json: Value = serde_json::from_str(&status.output)
        .with_context(|| format!("`fltport status --json` wrote no JSON: {}", status.output))?;
    let providers = json.get("providers").and_then(Value::as_array);
    let names: Vec<&str> = providers
        .into_iter()
        .flatten()
        .filter_map(|provider| provider.get("name")?.as_str())
        .collect();
    ensure!(
        names == ["fltport", "process-monitor", "registry-monitor"],
        "the providers are {names:?}, not fltport, process-monitor and registry-monitor"
    );
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_counted_by_their_lines() {
        let output = "Wine: flood: ok (0.5 s): ticks 100\nWine: slow: FAILED (1 s): ok (it is not)\n\
            Wine: odd: not on this floor (0.1 s): Wine has none\n2 scenarios on Wine, ok (so far)\n";
        assert_eq!(
            played(output),
            Checks {
                passed: 1,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_service_in_c_says_why_it_reads_the_port() {
        let (in_c, port) = (
            "Wine: flood: ok (1 s): in C: services 1; jobs: done 5\n",
            "ring-watcher: records come by the port, because the driver refuses them\n",
        );
        let ring = "ring-watcher: records come by 2 rings of 65536 bytes\n";
        assert!(reads_the_port(in_c, port, 1).is_ok());
        let again = [port, port].concat();
        assert!(reads_the_port(in_c, &again, 1).is_ok());
        let both = [port, ring].concat();
        for (output, errors) in [
            ("Wine: flood: ok (1 s): jobs: done 5\n", port),
            (in_c, ""),
            (in_c, ring),
            (in_c, &both),
        ] {
            let judged = reads_the_port(output, errors, 1);
            assert!(judged.is_err(), "{output}{errors}");
        }
    }
}
