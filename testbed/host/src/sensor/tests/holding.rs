// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holding an exec means to the process, to others and to the sensor's end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::*;

/// Blocks the callback of one program until the test lets it go.
struct Blocker {
    entered: Receiver<()>,
    release: Sender<Verdict>,
}

fn blocking(
    program: &Path,
) -> (
    Blocker,
    impl Fn(&ProcessStart) -> Verdict + Send + Sync + use<>,
) {
    let (enter, entered) = channel();
    let (release, released) = channel();
    let program = program.to_owned();
    let ends = Mutex::new((enter, released));
    let decide = move |start: &ProcessStart| {
        if !runs(start, &program) {
            return Verdict::Allow;
        }
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        ends.1.recv_timeout(LIMIT).unwrap()
    };
    (Blocker { entered, release }, decide)
}

fn status_of(program: &Path) -> JoinHandle<io::Result<bool>> {
    let program = program.to_owned();
    thread::spawn(move || {
        Command::new(program)
            .status()
            .map(|status| status.success())
    })
}

#[test]
fn a_refused_exec_fails_and_others_run() {
    needs_root!();
    let directory = Directory::new("deny");
    let (refused, other) = (
        directory.copy_of_true("refused"),
        directory.copy_of_true("other"),
    );
    let refuse = refused.clone();
    let scene = Scene::new(Options::default(), move |start| {
        if runs(start, &refuse) {
            Verdict::Deny
        } else {
            Verdict::Allow
        }
    });
    assert!(
        scene.sensor.capabilities().can_hold,
        "{}",
        scene.sensor.capabilities()
    );
    let error = Command::new(&refused).spawn().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(Command::new(&other).status().unwrap().success());
    assert_eq!(scene.sensor.statistics().denied, 1);
    let start = scene
        .recorder
        .start_with("the refused start", |start| runs(start, &refused));
    assert!(start.held);
    let life = scene.recorder.life_of(start.pid, 1);
    assert_eq!(life.len(), 2, "{life:#?}");
    assert!(life[0].start().is_some() && life[1].is_exit());
}

#[test]
fn a_refused_replacement_leaves_the_process_running() {
    needs_root!();
    let directory = Directory::new("deny-again");
    let refused = directory.copy_of_true("refused");
    let refuse = refused.clone();
    let scene = Scene::new(Options::default(), move |start| {
        if runs(start, &refuse) {
            Verdict::Deny
        } else {
            Verdict::Allow
        }
    });
    let line = format!("exec {}", refused.display());
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(line)
        .stderr(Stdio::null())
        .spawn();
    let child = child.as_mut().unwrap();
    let status = child.wait().unwrap().code().unwrap();
    assert_ne!(status, 0);
    let life = scene.recorder.life_of(child.id(), 2);
    assert_eq!(life.len(), 4, "{life:#?}");
    let replacement = life[2].start().unwrap();
    assert!(runs(replacement, &refused));
    assert_eq!(replacement.creating_pid, child.id());
    let last = ProcessExit {
        pid: child.id(),
        exit_status: status,
    };
    assert_eq!(life[3], Seen::Exit(last));
}

#[test]
fn a_slow_verdict_delays_nobody_else() {
    needs_root!();
    let directory = Directory::new("slow");
    let slow = directory.copy_of_true("slow");
    let (blocker, decide) = blocking(&slow);
    let scene = Scene::new(
        Options {
            hold_cap: LIMIT,
            ..Options::default()
        },
        decide,
    );
    let running = status_of(&slow);
    blocker.entered.recv_timeout(LIMIT).unwrap();
    for _ in 0..30 {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(scene.recorder.life_of(child.id(), 1).len(), 2);
    }
    assert!(!running.is_finished());
    blocker.release.send(Verdict::Allow).unwrap();
    assert!(running.join().unwrap().unwrap());
    assert_eq!(scene.sensor.statistics().watchdog_releases, 0);
}

#[test]
fn the_watchdog_ends_a_hold_and_the_late_verdict_is_counted() {
    needs_root!();
    let directory = Directory::new("cap");
    let slow = directory.copy_of_true("slow");
    let (blocker, decide) = blocking(&slow);
    let hold_cap = Duration::from_millis(200);
    let scene = Scene::new(
        Options {
            hold_cap,
            ..Options::default()
        },
        decide,
    );
    let began = Instant::now();
    let running = status_of(&slow);
    blocker.entered.recv_timeout(LIMIT).unwrap();
    assert!(running.join().unwrap().unwrap());
    assert!(began.elapsed() >= hold_cap);
    assert!(scene.sensor.statistics().watchdog_releases >= 1);
    blocker.release.send(Verdict::Deny).unwrap();
    let pid = scene
        .recorder
        .start_with("the slow start", |start| runs(start, &slow))
        .pid;
    assert_eq!(scene.recorder.life_of(pid, 1).len(), 2);
    assert_eq!(scene.sensor.statistics().late_denials, 1);
    assert_eq!(scene.sensor.statistics().denied, 0);
}

#[test]
fn stopping_lets_a_held_exec_through_before_its_callback_returns() {
    needs_root!();
    let directory = Directory::new("stop");
    let slow = directory.copy_of_true("slow");
    let (blocker, decide) = blocking(&slow);
    let scene = Scene::new(
        Options {
            hold_cap: LIMIT,
            ..Options::default()
        },
        decide,
    );
    let running = status_of(&slow);
    blocker.entered.recv_timeout(LIMIT).unwrap();
    let Scene {
        sensor,
        recorder,
        _turn,
    } = scene;
    let stopping = thread::spawn(move || sensor.stop());
    assert!(running.join().unwrap().unwrap());
    assert!(!stopping.is_finished());
    blocker.release.send(Verdict::Deny).unwrap();
    stopping.join().unwrap();
    let seen = recorder.seen.lock().unwrap().len();
    assert!(Command::new("/bin/true").status().unwrap().success());
    assert_eq!(recorder.seen.lock().unwrap().len(), seen);
    // The sensor and its workers let go of the recorder: the last worker does so in the moment
    // after it has said that it ends.
    let began = Instant::now();
    while Arc::strong_count(&recorder) > 1 {
        assert!(began.elapsed() < LIMIT, "somebody keeps the recorder");
        thread::yield_now();
    }
}

#[test]
fn a_panic_in_the_callback_lets_the_exec_through() {
    needs_root!();
    let directory = Directory::new("panic");
    let cursed = directory.copy_of_true("cursed");
    let panics_for = cursed.clone();
    let scene = Scene::new(
        Options {
            hold_cap: LIMIT,
            ..Options::default()
        },
        move |start| {
            assert!(!runs(start, &panics_for), "this panic is part of the test");
            Verdict::Allow
        },
    );
    let began = Instant::now();
    assert!(Command::new(&cursed).status().unwrap().success());
    assert!(began.elapsed() < LIMIT);
    assert_eq!(scene.sensor.statistics().callback_panics, 1);
    assert!(Command::new("/bin/true").status().unwrap().success());
}

/// A shell that waits for a line before it executes a program in its place.
fn shell_that_will_execute(program: &Path) -> Child {
    let line = format!("read line; exec {}", program.display());
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(line)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn an_exempt_process_is_reported_but_not_held() {
    needs_root!();
    let directory = Directory::new("exempt");
    let program = directory.copy_of_true("program");
    let mut shells = [
        shell_that_will_execute(&program),
        shell_that_will_execute(&program),
    ];
    let exempt = vec![shells[0].id()];
    let refuse = program.clone();
    let scene = Scene::new(
        Options {
            exempt,
            ..Options::default()
        },
        move |start| {
            if runs(start, &refuse) {
                Verdict::Deny
            } else {
                Verdict::Allow
            }
        },
    );
    let codes = shells.each_mut().map(|shell| {
        shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
        shell.wait().unwrap().code().unwrap()
    });
    assert_eq!(codes[0], 0);
    assert_ne!(codes[1], 0);
    let [exempt, held] = shells.map(|shell| scene.recorder.life_of(shell.id(), 2));
    // The shells ran before the sensor did: the first thing seen is the end of that image.
    assert!(exempt[0].is_exit() && held[0].is_exit());
    assert!(!exempt[1].start().unwrap().held);
    assert!(held[1].start().unwrap().held);
}

#[test]
fn what_is_mounted_later_is_held_too() {
    needs_root!();
    let directory = Directory::new("mount");
    let refuse = directory.0.join("on-a-new-mount");
    let scene = Scene::new(Options::default(), move |start| {
        if runs(start, &refuse) {
            Verdict::Deny
        } else {
            Verdict::Allow
        }
    });
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "sensor-test"]).arg(&directory.0);
    assert!(mount.status().unwrap().success());
    let program = directory.copy_of_true("on-a-new-mount");
    let limit = Instant::now() + LIMIT;
    // The mount is noticed on another thread: until then the program runs.
    while Command::new(&program).status().is_ok() && Instant::now() < limit {
        thread::yield_now();
    }
    let refused = Command::new(&program).status();
    let mut unmount = Command::new("umount");
    assert!(
        unmount
            .arg("-l")
            .arg(&directory.0)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(scene.sensor.statistics().denied >= 1);
}

fn catches_the_stop_key() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    caught & (1 << (libc::SIGTSTP - 1)) != 0
}

#[test]
fn the_process_is_guarded_while_it_holds() {
    needs_root!();
    let scene = Scene::allowing();
    assert!(!ffi::dumpable());
    assert!(catches_the_stop_key());
    drop(scene.sensor);
    assert!(ffi::dumpable());
    assert!(!catches_the_stop_key());
}

const HOST: &str = "SENSOR_TEST_HOST";

/// Not a test by itself: a program that holds its own child until it is killed. The test below runs
/// it.
#[test]
fn holding_program() {
    let Some(program) = std::env::var_os(HOST) else {
        return;
    };
    let program = PathBuf::from(program);
    let held = program.clone();
    let options = Options {
        hold_cap: LIMIT * 10,
        ..Options::default()
    };
    let scene = Scene::new(options, move |start| {
        if runs(start, &held) {
            println!("\nholding {}", start.pid);
            thread::park();
        }
        Verdict::Allow
    });
    Command::new(program).status().unwrap();
    drop(scene);
}

#[test]
fn a_killed_host_releases_its_own_child_and_everybody_else() {
    needs_root!();
    let directory = Directory::new("killed");
    let program = directory.copy_of_true("held");
    let (_, module) = module_path!().split_once("::").unwrap();
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut host = Command::new(std::env::current_exe().unwrap());
    host.args([
        "--exact",
        &format!("{module}::holding_program"),
        "--nocapture",
    ]);
    let mut host = host
        .env(HOST, &program)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let mut pids = lines.map(Result::unwrap).filter_map(|line| {
        line.strip_prefix("holding ")
            .map(|pid| pid.parse::<u32>().unwrap())
    });
    let held = pids.next().unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    // The held child must be let go by its host's death, not by us; if it is not, no program of
    // this machine starts any more until it is killed.
    let limit = Instant::now() + Duration::from_secs(3);
    while Path::new(&format!("/proc/{held}/exe")).exists() && Instant::now() < limit {
        thread::yield_now();
    }
    let frozen = fs::read_link(format!("/proc/{held}/exe")).is_ok();
    if frozen {
        ffi::kill(held);
    }
    assert!(!frozen, "the child kept its host's hold on the machine");
    assert!(Command::new("/bin/true").status().unwrap().success());
}
