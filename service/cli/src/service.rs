// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the driver is: on Windows in the kernel; on Linux in a hosted kernel that runs, or in one
//! of this command's own.

use crate::arguments::Verifier;
use crate::failure::Failure;
use fltport::{Client, Options};
use std::path::Path;

/// How long a hosted kernel may take to say what it is.
#[cfg(unix)]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// `E_NOTIMPL`, which Wine's own fltlib.dll answers to everything.
const NO_PORTS: i32 = 0x8000_4001_u32.cast_signed();

/// The driver's place, and what ends with this command.
#[derive(Debug)]
pub(crate) struct Service {
    #[cfg(unix)]
    socket: std::path::PathBuf,
    #[cfg(unix)]
    description: fltport::HostDescription,
    #[cfg(target_os = "linux")]
    own: Option<crate::private_host::PrivateHost>,
}

#[cfg(not(unix))]
impl Service {
    /// The driver of this machine.
    pub(crate) fn find(socket: Option<&Path>, _: Verifier) -> Result<Service, Failure> {
        match socket {
            Some(_) => Err(Failure::new(
                "there are no sockets to a driver on this system. Leave --socket out",
            )),
            None => Ok(Service {}),
        }
    }

    fn options(&self, name: &str) -> Options {
        Options::new(name)
    }

    /// Whether a process creation can be denied.
    pub(crate) fn require_denial(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Nothing is missing where there is a real kernel.
    pub(crate) fn missing(&self) -> &[String] {
        &[]
    }

    /// Ends what was started for this command.
    pub(crate) fn end(self) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(unix)]
impl Service {
    /// The hosted kernel at `socket`, or the one that runs, or one of its own with this verifier.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(unused_variables, reason = "no hosted kernel is started there")
    )]
    pub(crate) fn find(socket: Option<&Path>, verifier: Verifier) -> Result<Service, Failure> {
        let place = socket.map_or_else(fltport::socket_path, Path::to_owned);
        match fltport::describe_host(&place, PATIENCE) {
            Ok(description) => Ok(Service {
                socket: place,
                description,
                #[cfg(target_os = "linux")]
                own: None,
            }),
            #[cfg(target_os = "linux")]
            Err(fltport::Error::NotRunning { .. }) if socket.is_none() => {
                Service::start_own(verifier)
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(target_os = "linux")]
    fn start_own(verifier: Verifier) -> Result<Service, Failure> {
        let own = crate::private_host::PrivateHost::start(verifier)?;
        let description = fltport::describe_host(own.socket(), PATIENCE)?;
        Ok(Service {
            socket: own.socket().to_owned(),
            description,
            own: Some(own),
        })
    }

    fn options(&self, name: &str) -> Options {
        Options::new(name).socket(&self.socket)
    }

    /// Whether a process creation can be denied; if not, why.
    pub(crate) fn require_denial(&self) -> Result<(), Failure> {
        if self.description.holds_process_creation {
            return Ok(());
        }
        let why = match self.description.missing.join("; ") {
            why if why.is_empty() => "the host does not hold them. Start one as root".to_owned(),
            why => why,
        };
        Err(Failure::new(format!(
            "process creations cannot be denied here: {why}"
        )))
    }

    /// What this host cannot do.
    pub(crate) fn missing(&self) -> &[String] {
        &self.description.missing
    }

    /// Ends what was started for this command.
    pub(crate) fn end(self) -> Result<(), Failure> {
        #[cfg(target_os = "linux")]
        if let Some(own) = self.own {
            return own.stop();
        }
        Ok(())
    }
}

impl Service {
    /// Says in one line what cannot be done here.
    pub(crate) fn tell_what_is_missing(&self) {
        self.tell_what_is_so(&[]);
    }

    /// The same, with more that is worth a word.
    pub(crate) fn tell_what_is_so(&self, more: &[String]) {
        let all: Vec<&str> = self.missing().iter().chain(more).map(|s| &**s).collect();
        if !all.is_empty() {
            crate::failure::complain(&all.join("; "));
        }
    }

    /// Connects with these rights, to ask or to answer: without rings, which cost the driver memory. The
    /// connection is not made again when it ends.
    pub(crate) fn connect(&self, name: &str, rights: u32) -> Result<Client, Failure> {
        let options = self.options(name).rights(rights).reconnect(false);
        Client::connect(options.rings(false)).map_err(not_connected)
    }

    /// Connects with what these options ask for beside the name and the place.
    pub(crate) fn connect_with(
        &self,
        name: &str,
        options: impl FnOnce(Options) -> Options,
    ) -> Result<Client, Failure> {
        Client::connect(options(self.options(name))).map_err(not_connected)
    }
}

/// Why there is no connection, with the cures that this command has.
fn not_connected(error: fltport::Error) -> Failure {
    match &error {
        fltport::Error::NotRunning { place, .. } if cfg!(windows) => Failure::new(format!(
            "no driver listens on the port {place}. Start it: fltport start; `fltport doctor` says what keeps it from running"
        )),
        other if other.code() == fltport::Code::Hresult(NO_PORTS) => Failure::new(
            "this system has no Filter Manager ports: its fltlib.dll is the stub of Wine. Put the fltlib.dll of this project's testbed beside this program, and the override fltlib=n into WINEDLLOVERRIDES",
        ),
        _ => error.into(),
    }
}

/// Whether the driver's port can be reached: what the driver has refused; if not, why.
#[cfg(windows)]
pub(crate) fn try_port() -> Result<Vec<fltport::RefusalRow>, String> {
    let service = Service {};
    let connected = service.connect("fltport doctor", fltport::rights::OBSERVE);
    let client = connected.map_err(|failure| failure.to_string())?;
    client.refusals().map_err(|error| error.to_string())
}
