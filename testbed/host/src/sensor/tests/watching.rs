// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is seen of real processes.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[test]
fn what_ran_before_is_told_of_once_and_its_end_too() {
    needs_root!();
    let mut before = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let scene = Scene::allowing();
    let running = std::mem::take(&mut *scene.recorder.running.lock().unwrap());
    let of = |pid| {
        let mut found = running.iter().filter(|process| process.pid == pid);
        let one = found.next().expect("a process that runs").clone();
        assert!(found.next().is_none(), "{pid} was told of twice");
        one
    };
    let this = of(std::process::id());
    assert_eq!(this.image, Some(std::env::current_exe().unwrap().into()));
    assert_eq!((this.uid, this.how), (Some(0), StartCause::RanBefore));
    assert_eq!(of(before.id()).parent_pid, std::process::id());
    before.kill().unwrap();
    before.wait().unwrap();
    let life = scene.recorder.life_of(before.id(), 1);
    assert!(matches!(life.as_slice(), [Seen::Exit(_)]), "{life:?}");
}

#[test]
fn five_hundred_processes_start_and_end_exactly_once() {
    needs_root!();
    let scene = Scene::allowing();
    let spawners = [(); 5].map(|()| {
        thread::spawn(|| {
            let spawn = |_| {
                let mut child = Command::new("/bin/true")
                    .arg("an argument")
                    .spawn()
                    .unwrap();
                assert!(child.wait().unwrap().success());
                child.id()
            };
            (this_thread(), (0..100).map(spawn).collect::<Vec<u32>>())
        })
    });
    let spawned: HashMap<u32, u32> = spawners
        .into_iter()
        .flat_map(|spawner| {
            let (tid, pids) = spawner.join().unwrap();
            pids.into_iter().map(move |pid| (pid, tid))
        })
        .collect();
    assert_eq!(spawned.len(), 500);
    for (pid, tid) in spawned {
        let life = scene.recorder.life_of(pid, 1);
        let [Seen::Start(start), Seen::Exit(exit)] = life.as_slice() else {
            panic!("{pid} did not start and end once: {life:#?}");
        };
        assert!(ends_with(start.image.as_ref(), "/true"), "{start:?}");
        let line = start.command_line.as_ref().unwrap();
        assert_eq!(line, r#"/bin/true "an argument""#);
        assert_eq!(
            (start.creating_pid, start.creating_tid),
            (std::process::id(), tid)
        );
        assert_eq!(start.parent_pid, std::process::id());
        assert_eq!(
            (start.uid, start.held, start.how),
            (Some(0), true, StartCause::Exec)
        );
        assert_eq!(exit.exit_status, 0);
    }
    let statistics = scene.sensor.statistics();
    assert_eq!(
        (statistics.overruns, statistics.lost_holds),
        (0, 0),
        "{statistics:?}"
    );
    assert_eq!(statistics.watchdog_releases, 0, "{statistics:?}");
}

#[test]
fn exit_codes_and_signals() {
    needs_root!();
    let scene = Scene::allowing();
    for (line, wanted) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill $$", 143),
    ] {
        let mut child = Command::new("/bin/sh").arg("-c").arg(line).spawn().unwrap();
        child.wait().unwrap();
        let life = scene.recorder.life_of(child.id(), 1);
        let exit = ProcessExit {
            pid: child.id(),
            exit_status: wanted,
        };
        assert_eq!(life.last(), Some(&Seen::Exit(exit)), "{line}");
        assert_eq!(life.len(), 2, "{line}: {life:#?}");
    }
}

#[test]
fn a_script_is_one_start_whatever_interprets_it() {
    needs_root!();
    let directory = Directory::new("script");
    let inner = directory.script("inner", "#!/bin/sh\nexit 4\n");
    let outer = directory.script("outer", &format!("#! {} word\n", inner.display()));
    let scene = Scene::allowing();
    for script in [&inner, &outer] {
        let mut child = Command::new(script).arg("x y").spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(4));
        let life = scene.recorder.life_of(child.id(), 1);
        assert_eq!(life.len(), 2, "{life:#?}");
        let start = life[0].start().unwrap();
        assert!(runs(start, script), "{start:?}");
        let line = format!("{} \"x y\"", script.display());
        assert_eq!(start.command_line, Some(line.into()));
        assert!(start.held);
    }
}

#[test]
fn a_program_on_no_marked_file_system_is_held_at_its_loader() {
    needs_root!();
    let mut file = ffi::unmounted_file().unwrap();
    file.write_all(&fs::read("/bin/true").unwrap()).unwrap();
    let scene = Scene::allowing();
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let mut child = Command::new(&path).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let life = scene.recorder.life_of(child.id(), 1);
    assert_eq!(life.len(), 2, "{life:#?}");
    let start = life[0].start().unwrap();
    assert_eq!(start.image, Some("/memfd:unmounted".into()));
    assert_eq!(start.command_line, Some(path.into()));
    assert!(start.held);
}

#[test]
fn a_failed_exec_is_followed_by_the_one_that_succeeds() {
    needs_root!();
    let directory = Directory::new("noexec");
    // No format the kernel knows: the shell executes a shell on it after the kernel's refusal.
    let text = directory.script("text", "exit 5\n");
    let scene = Scene::allowing();
    let line = format!("{}; exec /bin/true", text.display());
    let mut child = Command::new("/bin/sh").arg("-c").arg(line).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    scene.recorder.life_of(child.id(), 2);
    let failed = scene
        .recorder
        .start_with("the text's start", |start| runs(start, &text));
    assert_eq!(failed.creating_pid, child.id());
    let life = scene.recorder.life_of(failed.pid, 2);
    assert_eq!(life.len(), 4, "{life:#?}");
    assert_eq!(
        life[1],
        Seen::Exit(ProcessExit {
            pid: failed.pid,
            exit_status: 0
        })
    );
    let second = life[2].start().unwrap();
    assert_eq!(second.creating_pid, failed.pid);
    assert_eq!(
        second.command_line,
        Some(format!("/bin/sh {}", text.display()).into())
    );
    assert_eq!(
        life[3],
        Seen::Exit(ProcessExit {
            pid: failed.pid,
            exit_status: 5
        })
    );
}

#[test]
fn a_program_may_be_named_in_any_way() {
    needs_root!();
    let directory = Directory::new("names");
    let program = directory.copy_of_true("program");
    let link = directory.0.join("link");
    std::os::unix::fs::symlink(&program, &link).unwrap();
    let script = directory.script("script", "#!program\n");
    let scene = Scene::allowing();
    let names = [
        (Path::new("./program"), &program),
        (Path::new("/proc/self/cwd/program"), &program),
        (&link, &program),
        // An interpreter is looked for in the working directory, too.
        (&script, &script),
    ];
    for (name, image) in names {
        let mut child = Command::new(name)
            .current_dir(&directory.0)
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
        let life = scene.recorder.life_of(child.id(), 1);
        assert_eq!(life.len(), 2, "{life:#?}");
        assert!(runs(life[0].start().unwrap(), image), "{name:?}: {life:#?}");
    }
}

#[test]
fn an_image_that_is_replaced_ends() {
    needs_root!();
    let scene = Scene::allowing();
    let line = "exec /bin/true";
    let mut child = Command::new("/bin/sh").arg("-c").arg(line).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let pid = child.id();
    let life = scene.recorder.life_of(pid, 2);
    assert_eq!(life.len(), 4, "{life:#?}");
    let (first, second) = (life[0].start().unwrap(), life[2].start().unwrap());
    assert_eq!(first.creating_pid, std::process::id());
    assert_eq!(
        first.command_line,
        Some(r#"/bin/sh -c "exec /bin/true""#.into())
    );
    assert_eq!(
        life[1],
        Seen::Exit(ProcessExit {
            pid,
            exit_status: 0
        })
    );
    assert_eq!((second.creating_pid, second.creating_tid), (pid, pid));
    assert_eq!(second.parent_pid, std::process::id());
    assert!(ends_with(second.image.as_ref(), "/true"));
    assert!(life[3].is_exit());
}

#[test]
fn a_fork_is_reported_with_its_creators_image() {
    needs_root!();
    let scene = Scene::allowing();
    let line = "( : ) ; :";
    let mut child = Command::new("/bin/sh").arg("-c").arg(line).spawn().unwrap();
    child.wait().unwrap();
    let shell = scene.recorder.life_of(child.id(), 1)[0]
        .start()
        .unwrap()
        .clone();
    let of_shell = |start: &ProcessStart| start.creating_pid == child.id();
    let fork = scene.recorder.start_with("the subshell", of_shell);
    assert_eq!((fork.how, fork.held), (StartCause::ForkWithoutExec, false));
    assert_eq!(
        (&fork.image, &fork.command_line),
        (&shell.image, &shell.command_line)
    );
    assert_eq!(scene.recorder.life_of(fork.pid, 1).len(), 2);
}

#[test]
fn a_fork_that_lives_on_is_reported_while_it_lives() {
    needs_root!();
    let scene = Scene::allowing();
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg("( read line ; exec /bin/true ) ; :")
        .stdin(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let of_shell = |start: &ProcessStart| start.creating_pid == child.id();
    let fork = scene.recorder.start_with("the subshell", of_shell);
    assert_eq!(fork.how, StartCause::ForkWithoutExec);
    assert_eq!(fork.parent_pid, child.id());
    assert_eq!(fork.uid, Some(0));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child.wait().unwrap();
    let life = scene.recorder.life_of(fork.pid, 2);
    assert_eq!(life.len(), 4, "{life:#?}");
    assert_eq!(life[2].start().unwrap().creating_pid, fork.pid);
}

const THREADED: &str = "SENSOR_TEST_THREADED";

/// Not a test by itself: the program that the test below runs.
#[test]
fn threaded_program() {
    if std::env::var_os(THREADED).is_some() {
        let failed = thread::spawn(|| Command::new("/bin/true").exec()).join();
        panic!("exec came back: {failed:?}");
    }
}

#[test]
fn a_thread_that_executes_takes_the_process_over() {
    needs_root!();
    let scene = Scene::allowing();
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", &format!("{module}::threaded_program")]);
    program.env(THREADED, "1").stdout(Stdio::null());
    let mut child = program.spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let pid = child.id();
    let life = scene.recorder.life_of(pid, 2);
    assert_eq!(life.len(), 4, "{life:#?}");
    let taken_over = life[2].start().unwrap();
    assert_eq!(taken_over.creating_pid, pid);
    assert_ne!(taken_over.creating_tid, pid);
    assert_eq!(taken_over.command_line, Some("/bin/true".into()));
    assert_eq!(
        life[3],
        Seen::Exit(ProcessExit {
            pid,
            exit_status: 0
        })
    );
}

#[test]
fn what_runs_already_is_only_seen_to_end() {
    needs_root!();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let scene = Scene::allowing();
    child.kill().unwrap();
    child.wait().unwrap();
    let life = scene.recorder.life_of(child.id(), 1);
    assert_eq!(
        life,
        [Seen::Exit(ProcessExit {
            pid: child.id(),
            exit_status: 137
        })]
    );
}

#[test]
fn the_connector_alone_holds_nothing() {
    needs_root!();
    let options = Options {
        source: SourceChoice::ConnectorOnly,
        ..Options::default()
    };
    let scene = Scene::new(options, |_| Verdict::Deny);
    let capabilities = scene.sensor.capabilities();
    assert_eq!(
        (capabilities.source, capabilities.can_hold),
        (Source::Connector, false)
    );
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let of_child = |start: &ProcessStart| start.pid == child.id();
    let start = scene.recorder.start_with("the sleeper", of_child);
    assert!(!start.held);
    assert!(ends_with(start.image.as_ref(), "/sleep"), "{start:?}");
    assert_eq!(start.command_line, Some("sleep 60".into()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.recorder.life_of(child.id(), 1).len(), 2);
    assert!(scene.sensor.statistics().late_denials >= 1);
}

#[test]
fn a_subscription_survives_that_its_answer_is_dropped() {
    needs_root!();
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let over = AtomicBool::new(false);
    // Somebody who listens makes the kernel tell, also into buffers of those who have yet to ask.
    let _listener = Connector::subscribe(1 << 20).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    Command::new("/bin/true").status().unwrap();
                }
            });
        }
        let refused = (0..5_000).find_map(|_| Connector::subscribe(1).err());
        over.store(true, Ordering::Relaxed);
        assert!(refused.is_none(), "{refused:?}");
    });
}

#[test]
fn lost_events_are_made_up_and_counted() {
    needs_root!();
    let source = SourceChoice::ConnectorOnly;
    let options = Options {
        source,
        buffer_bytes: 1,
        ..Options::default()
    };
    let scene = Scene::new(options, |_| Verdict::Allow);
    let spawners = [(); 4].map(|()| {
        thread::spawn(|| {
            let limit = Instant::now() + Duration::from_secs(1);
            let mut pids = Vec::new();
            while Instant::now() < limit {
                let mut child = Command::new("/bin/true").spawn().unwrap();
                child.wait().unwrap();
                pids.push(child.id());
            }
            pids
        })
    });
    let spawned: Vec<u32> = spawners
        .into_iter()
        .flat_map(|one| one.join().unwrap())
        .collect();
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let of_sleeper = |start: &ProcessStart| start.pid == sleeper.id();
    scene.recorder.start_with("the sleeper", of_sleeper);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    scene.recorder.life_of(sleeper.id(), 1);
    assert!(
        scene.sensor.statistics().overruns > 0,
        "{:?}",
        scene.sensor.statistics()
    );
    scene.recorder.wait_for("the end of every start", |seen| {
        let balance_of = |pid| {
            let of_pid = seen.iter().filter(|seen| seen.pid() == pid);
            of_pid.fold(
                0,
                |sum, seen| if seen.is_exit() { sum - 1 } else { sum + 1 },
            )
        };
        spawned
            .iter()
            .all(|pid| balance_of(*pid) == 0)
            .then_some(())
    });
}

#[test]
fn walks_alone_find_what_lives_long_enough() {
    let options = Options {
        source: SourceChoice::Procfs,
        ..Options::default()
    };
    let scene = Scene::new(options, |_| Verdict::Deny);
    let capabilities = scene.sensor.capabilities();
    assert_eq!(
        (capabilities.source, capabilities.can_hold),
        (Source::Procfs, false)
    );
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let of_child = |start: &ProcessStart| start.pid == child.id();
    let start = scene.recorder.start_with("the sleeper", of_child);
    assert!(ends_with(start.image.as_ref(), "/sleep"), "{start:?}");
    assert_eq!(
        (start.creating_pid, start.held),
        (std::process::id(), false)
    );
    child.kill().unwrap();
    // Seen as a zombie, with its status, because nobody has waited for it yet.
    let exit = Seen::Exit(ProcessExit {
        pid: child.id(),
        exit_status: 137,
    });
    assert_eq!(scene.recorder.life_of(child.id(), 1).last(), Some(&exit));
    child.wait().unwrap();
}
