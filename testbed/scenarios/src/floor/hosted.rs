// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosted kernel, in this process, with a socket for the services.

use super::Outcome;
use crate::orders::Order;
use crate::registry::{BASE, Change};
use anyhow::{Context, Result, anyhow, bail};
use nt_host::registry::Value;
use nt_host::transport::{Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{
    Config, DebugPrint, DriverImage, FilterManagerStart, Kernel, Process, ProcessCreated, Unload,
};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IMAGES: [DriverImage; 5] = [
    DriverImage {
        name: fltport_driver::IMAGE_NAME,
        entry: fltport_driver::driver_entry,
        force_integrity: false,
    },
    DriverImage {
        name: loadgen::IMAGE_NAME,
        entry: loadgen::driver_entry,
        force_integrity: false,
    },
    DriverImage {
        name: process_monitor::IMAGE_NAME,
        entry: process_monitor::driver_entry,
        // PsSetCreateProcessNotifyRoutineEx asks for it.
        force_integrity: true,
    },
    DriverImage {
        name: registry_monitor::IMAGE_NAME,
        entry: registry_monitor::driver_entry,
        force_integrity: false,
    },
    DriverImage {
        name: "hello-1-0",
        ..compat::OLD_CLIENT
    },
];

/// The type of a value that is bytes.
const REG_BINARY: u32 = 3;

/// A hosted kernel. Closed without [`Floor::close`] it panics if a rule was broken.
pub(crate) struct Floor {
    server: Server,
    kernel: Kernel,
    socket: Socket,
}

/// A socket's path in a directory of its own.
struct Socket {
    directory: PathBuf,
    path: PathBuf,
}

impl Floor {
    pub(crate) fn open(late: bool) -> Result<Floor> {
        let socket = Socket::choose()?;
        let kernel = Kernel::boot(Config {
            debug_print: DebugPrint::Sink(Arc::new(|text| eprintln!("  {}", text.trim_end()))),
            filter_manager: match late {
                true => FilterManagerStart::Late,
                false => FilterManagerStart::default(),
            },
            ..Config::default()
        });
        let endpoint = Endpoint::bind(&socket.path).map_err(|error| anyhow!("{error}"))?;
        let capabilities = Capabilities {
            holds_process_creation: false,
            sees_every_process: false,
            missing: Vec::new(),
        };
        let log = Arc::new(|line: &str| eprintln!("  {line}"));
        let server = Server::start(endpoint, MessageDevice, &capabilities, log);
        let server = server.map_err(|error| anyhow!("{error}"))?;
        Ok(Floor {
            server,
            kernel,
            socket,
        })
    }

    pub(crate) fn name() -> &'static str {
        "the hosted kernel"
    }

    pub(crate) fn socket(&self) -> Option<&Path> {
        Some(&self.socket.path)
    }

    pub(crate) fn late_filter_manager_lacks() -> Option<&'static str> {
        None
    }

    pub(crate) fn start_filter_manager(&self) {
        self.kernel.filter_manager_ready();
    }

    /// Why this floor cannot carry an order.
    pub(crate) fn lacks(_order: &Order) -> Option<&'static str> {
        None
    }

    pub(crate) fn registry_lacks() -> Option<&'static str> {
        None
    }

    pub(crate) fn children_lack() -> Option<&'static str> {
        None
    }

    pub(crate) fn process_began(&self, process: u32, parent: u32) {
        let user = rustix::process::getuid().as_raw();
        let image = std::env::current_exe().unwrap_or_default();
        let image = image.to_string_lossy();
        self.kernel.process_created(&ProcessCreated {
            pid: process.into(),
            parent_pid: parent.into(),
            creator_pid: parent.into(),
            creator_tid: parent.into(),
            image: Some(image.encode_utf16().collect()),
            command_line: None,
            uid: Some(user),
        });
    }

    pub(crate) fn process_ended(&self, process: u32) {
        self.kernel.process_exited(process.into(), 0);
    }

    pub(crate) fn program(&self) -> Result<Program> {
        let key = format!("\\Registry\\Machine\\Software\\{BASE}");
        self.kernel.registry().create_path(&key);
        Ok(Program {
            kernel: self.kernel.clone(),
            process: self.kernel.peer(std::process::id(), 0),
        })
    }

    pub(crate) fn start(&mut self, driver: &str) -> Result<Outcome> {
        let image = IMAGES.iter().find(|image| image.name == driver);
        let image = image.with_context(|| format!("no driver is called {driver}"))?;
        Ok(Outcome::from_status(self.kernel.load(image)))
    }

    pub(crate) fn stop(&mut self, driver: &str) -> Result<Outcome> {
        let stopped = self.kernel.unload(driver, Unload::Stop);
        Ok(Outcome::from_status(stopped))
    }

    pub(crate) fn unload(&mut self, driver: &str) -> Result<Outcome> {
        let unloaded = self.kernel.unload(driver, Unload::Filter);
        Ok(Outcome::from_status(unloaded))
    }

    /// Ends the kernel; fails if a driver has broken a rule or left something behind.
    pub(crate) fn close(self) -> Result<()> {
        // First, for it closes the handles of services that were ended late, which calls the kernel.
        self.server.stop();
        let reports = self.kernel.shutdown();
        if reports.is_empty() {
            return Ok(());
        }
        let reports: Vec<String> = reports.iter().map(ToString::to_string).collect();
        bail!("drivers broke rules of the kernel:\n{}", reports.join("\n"))
    }
}

/// A program that works on the registry: this one, as the hosted kernel sees it.
#[derive(Clone)]
pub(crate) struct Program {
    kernel: Kernel,
    process: Arc<Process>,
}

impl Program {
    pub(crate) fn change(&self, change: &Change) -> Result<Outcome> {
        let path = |key: &str| format!("\\Registry\\Machine\\Software\\{BASE}\\{key}");
        let registry = self.kernel.registry_of(&self.process);
        let done = match change {
            Change::Create { key } => registry.create_key(&path(key)).map(drop),
            Change::Set { key, name, bytes } => {
                let value = Value {
                    kind: REG_BINARY,
                    data: vec![0xA5; *bytes],
                };
                registry.set_value(&path(key), name, &value)
            }
            Change::Unset { key, name } => registry.delete_value(&path(key), name),
            Change::Rename { key, name } => registry.rename_key(&path(key), name),
            Change::Delete { key } => registry.delete_key(&path(key)),
        };
        Ok(Outcome::from_status(done))
    }
}

impl Socket {
    fn choose() -> Result<Socket> {
        let name = format!("fltport-scenarios-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&directory)
            .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
        let path = directory.join("host.sock");
        Ok(Socket { directory, path })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What is left is of no use to anybody, and of no harm.
        let _left = std::fs::remove_dir_all(&self.directory);
    }
}
