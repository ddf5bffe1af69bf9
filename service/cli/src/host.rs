// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport host`: the hosted kernel with the common driver and the process monitor in it, fed with
//! this machine's real processes.
//!
//! The one place where product code meets the hosted kernel. Up: kernel, sensor, drivers, socket.
//! Down: the sensor, then the drivers, and the socket last, so that services see the port end and not the
//! socket.

use crate::arguments::{Host, Verifier};
use crate::failure::{Failure, complain};
use crate::private_host::{self, READY};
use crate::rights::Grant;
use crate::stop::Stop;
use nt_host::registry::Value;
use nt_host::sensor::{self, ProcessEvents, ProcessExit, ProcessStart, Sensor, Verdict};
use nt_host::transport::{BindError, Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{Config, DebugPrint, DriverImage, Kernel, OnReport, ProcessCreated, Unload};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Both drivers, in the order of loading.
const IMAGES: [DriverImage; 2] = [
    DriverImage {
        name: fltport_driver::IMAGE_NAME,
        entry: fltport_driver::driver_entry,
        force_integrity: false,
    },
    DriverImage {
        name: process_monitor::IMAGE_NAME,
        entry: process_monitor::driver_entry,
        // PsSetCreateProcessNotifyRoutineEx asks for it.
        force_integrity: true,
    },
];

/// Runs the host until it is told to stop.
pub(crate) fn run(socket: Option<&Path>, arguments: &Host) -> Result<ExitCode, Failure> {
    let place = Place::choose(socket, arguments.private)?;
    // First of all: a second host must not get as far as holding this machine's processes.
    let endpoint = Endpoint::bind(&place.socket).map_err(refused)?;
    let stop = stop_signal(arguments.private)?;
    let kernel = Kernel::boot(Config {
        verifier: match arguments.verifier {
            Verifier::Report | Verifier::Bugcheck => nt_host::Verifier::Full,
            Verifier::Off => nt_host::Verifier::Off,
        },
        on_report: match arguments.verifier {
            Verifier::Report | Verifier::Off => OnReport::Report,
            Verifier::Bugcheck => OnReport::BugCheck,
        },
        debug_print: DebugPrint::Sink(Arc::new(|text| complain(text.trim_end()))),
        ..Config::default()
    });
    configure(&kernel, &arguments.grants)?;
    let served = serve(&kernel, endpoint, arguments.private, &stop);
    let reports = kernel.shutdown();
    drop(place);
    served?;
    if reports.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!(
        "drivers broke rules of the kernel, {} in all. Each report above says what and where, and how \
         to mend it",
        reports.len()
    )))
}

/// Writes into the service key what the common driver reads there.
fn configure(kernel: &Kernel, grants: &[Grant]) -> Result<(), Failure> {
    let services = r"\Registry\Machine\System\CurrentControlSet\Services";
    for grant in grants {
        let driver = fltport_driver::IMAGE_NAME;
        let key = format!(r"{services}\{driver}\Parameters\Access\{}", grant.provider);
        let value = Value::dword(grant.rights.0);
        let written = kernel.registry().set_value(&key, &grant.sid, value);
        written.map_err(|status| {
            Failure::new(format!(
                "the key {key} cannot be written: NTSTATUS {status:#010x}. Give the provider another name"
            ))
        })?;
    }
    Ok(())
}

/// Sensor up, drivers, socket, wait, and all of it down again.
fn serve(
    kernel: &Kernel,
    endpoint: Endpoint,
    private: bool,
    stop: &Receiver<()>,
) -> Result<(), Failure> {
    let mut loaded = Vec::new();
    let served = (|| {
        // First, so that the drivers find the processes that run already.
        let sensor = watch_processes(kernel)?;
        for image in &IMAGES {
            load(kernel, image)?;
            loaded.push(image.name);
        }
        let server = listen(endpoint, &sensor)?;
        tell_ready(&server, private)?;
        // An error means that nobody is left to tell; then it is time to stop, too.
        let _told = stop.recv();
        sensor.stop();
        Ok(server)
    })();
    for name in loaded.iter().rev() {
        if let Err(status) = kernel.unload(name, Unload::Stop) {
            complain(&format!(
                "{name} refuses to be unloaded with NTSTATUS {status:#010x}. What it left behind follows"
            ));
        }
    }
    served.map(Server::stop)
}

fn load(kernel: &Kernel, image: &DriverImage) -> Result<(), Failure> {
    kernel.load(image).map_err(|status| {
        Failure::new(format!(
            "the driver {} cannot be loaded: its entry point returned NTSTATUS {status:#010x}. What it printed is above",
            image.name
        ))
    })
}

fn watch_processes(kernel: &Kernel) -> Result<Sensor, Failure> {
    let events = Arc::new(Feeder(kernel.clone()));
    Sensor::start(sensor::Options::default(), events).map_err(|error| {
        Failure::new(format!(
            "this machine's processes cannot be watched: {error}"
        ))
    })
}

fn refused(error: BindError) -> Failure {
    Failure::new(error.to_string())
}

fn listen(endpoint: Endpoint, sensor: &Sensor) -> Result<Server, Failure> {
    let found = sensor.capabilities();
    let is_missing = |line: &String| !line.contains(": yes");
    let capabilities = Capabilities {
        holds_process_creation: found.can_hold,
        sees_every_process: found.source == sensor::Source::Connector,
        missing: found.lines.into_iter().filter(is_missing).collect(),
    };
    let log = Arc::new(complain);
    Server::start(endpoint, MessageDevice, &capabilities, log).map_err(refused)
}

fn tell_ready(server: &Server, private: bool) -> Result<(), Failure> {
    let path = server.path().display();
    let mut stdout = std::io::stdout();
    if private {
        writeln!(stdout, "{READY}{path}")?;
    } else {
        writeln!(
            stdout,
            "the hosted kernel listens at {path}; Ctrl-C stops it"
        )?;
    }
    Ok(stdout.flush()?)
}

/// Feeds NT's process callbacks with the processes of this machine.
struct Feeder(Kernel);

fn utf16(text: Option<&OsStr>) -> Option<Vec<u16>> {
    Some(text?.to_string_lossy().encode_utf16().collect())
}

fn creation(start: &ProcessStart) -> ProcessCreated {
    ProcessCreated {
        pid: start.pid.into(),
        parent_pid: start.parent_pid.into(),
        creator_pid: start.creating_pid.into(),
        creator_tid: start.creating_tid.into(),
        image: utf16(start.image.as_deref()),
        command_line: utf16(start.command_line.as_deref()),
        uid: start.uid,
    }
}

impl ProcessEvents for Feeder {
    fn running(&self, process: ProcessStart) {
        self.0.process_running(&creation(&process));
    }

    fn start(&self, start: ProcessStart) -> Verdict {
        let status = self.0.process_created(&creation(&start));
        if status < 0 {
            Verdict::Deny
        } else {
            Verdict::Allow
        }
    }

    fn exit(&self, exit: ProcessExit) {
        self.0.process_exited(exit.pid.into(), exit.exit_status);
    }
}

/// What tells this process to stop: Ctrl-C, SIGTERM, SIGHUP, and for a private host the end of
/// standard input.
fn stop_signal(private: bool) -> Result<Receiver<()>, Failure> {
    let (sender, stop) = sync_channel(1);
    let on_signal = sender.clone();
    Stop::on_signal(move || {
        // If the channel is full, the host is stopping.
        let _stopping = on_signal.try_send(());
    })?;
    if private {
        std::thread::Builder::new()
            .name("standard-input".into())
            .spawn(move || {
                let mut stdin = std::io::stdin().lock();
                let mut bytes = [0; 64];
                while stdin.read(&mut bytes).is_ok_and(|n| n > 0) {}
                let _stopping = sender.try_send(());
            })
            .map_err(|e| {
                Failure::new(format!(
                    "no thread can be started: {e}. Raise the limit on threads"
                ))
            })?;
    }
    Ok(stop)
}

/// Where the socket is, and the directory that goes with a private one.
struct Place {
    socket: PathBuf,
    directory: Option<PathBuf>,
}

impl Place {
    fn choose(socket: Option<&Path>, private: bool) -> Result<Place, Failure> {
        let socket = socket.map_or_else(fltport::socket_path, Path::to_owned);
        if !private {
            return Ok(Place {
                socket,
                directory: None,
            });
        }
        let directory = private_host::directory(&socket, std::process::id());
        let failed = |error: std::io::Error| {
            let directory = directory.display();
            Failure::new(format!(
                "the directory {directory} cannot be made: {error}. Set FLTPORT_SOCKET to a path in one that this user may write to"
            ))
        };
        if std::fs::exists(&directory).map_err(failed)? {
            // Of an earlier process with this id.
            std::fs::remove_dir_all(&directory).map_err(failed)?;
        }
        if let Some(parent) = directory.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(failed)?;
        }
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(failed)?;
        Ok(Place {
            socket: private_host::socket(&directory),
            directory: Some(directory),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // What is left is of no use to anybody, and of no harm.
            let _left = std::fs::remove_dir_all(directory);
        }
    }
}
