// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket's file, and who is connected to it.
//!
//! Whether a socket's file is left over from a host that died, or belongs to one that lives, is
//! decided by a lock on a file beside it, which the kernel of this machine releases with its
//! holder.

use super::connection::{self, End};
use super::device::Device;
use super::lane::Lane;
use super::peer::Peer;
use super::place::PlaceLock;
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::{self, CompletionHeader, MAX_OUTSTANDING, MAX_TEXT};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Sockets at one time. The driver has its own, smaller limit on connections.
pub(super) const MAX_SOCKETS: usize = 96;

/// Of these, how many users other than root and this host's own may have, all together: they cannot
/// keep the service out.
pub(super) const MAX_FOREIGN: usize = 16;

/// Bytes that a socket's address holds, without the terminating zero.
const MAX_PATH: usize = 107;

/// What this host can do, for services to ask.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Process creations are held until the driver has answered.
    pub holds_process_creation: bool,
    /// No process start or end is overlooked.
    pub sees_every_process: bool,
    /// One line per thing that is missing: what, and the cure.
    pub missing: Vec<String>,
}

/// The same, as it is answered.
#[derive(Debug)]
pub(super) struct Description(Vec<u8>);

impl Description {
    fn new(capabilities: &Capabilities) -> Self {
        let bit = |has: bool, bit: u32| if has { bit } else { 0 };
        let header = hosted::Description {
            capabilities: bit(
                capabilities.holds_process_creation,
                hosted::capability::HOLDS_PROCESS_CREATION,
            ) | bit(
                capabilities.sees_every_process,
                hosted::capability::SEES_EVERY_PROCESS,
            ),
            pid: std::process::id(),
        };
        let mut bytes = vec![0; hosted::Description::SIZE];
        // It fits: the vector was made for it.
        let _fits = header.write(&mut bytes);
        for line in &capabilities.missing {
            if bytes.len() + line.len() < MAX_TEXT {
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
        }
        Description(bytes)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }
}

/// The socket could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// Another host listens there.
    InUse(PathBuf),
    /// Something that is not a socket is in the way.
    NotASocket(PathBuf),
    /// The path has more bytes than a socket's address holds.
    TooLong(PathBuf),
    /// Neither the socket's directory is there nor the one that it would be in.
    NoDirectory(PathBuf),
    /// The operating system refuses.
    Io(PathBuf, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::InUse(path) => write!(
                f,
                "a hosted kernel listens at {} already. Stop it, or choose another socket",
                path.display()
            ),
            BindError::NotASocket(path) => write!(
                f,
                "{} exists and is not a socket. Remove it, or choose another socket",
                path.display()
            ),
            BindError::TooLong(path) => write!(
                f,
                "the socket's path {} has {} bytes; a socket's may have {MAX_PATH}. Choose a shorter one",
                path.display(),
                path.as_os_str().len()
            ),
            BindError::NoDirectory(path) => write!(
                f,
                "there is no directory for the socket {}, nor one to make it in. Make it, or choose another socket",
                path.display()
            ),
            BindError::Io(path, error) => write!(
                f,
                "the socket {} cannot be made: {error}. Choose a directory that this user may write to",
                path.display()
            ),
        }
    }
}

impl std::error::Error for BindError {}

/// Where the server tells who came, who went and why.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

struct Shared<D> {
    device: D,
    description: Description,
    log: Log,
    stopping: AtomicBool,
    next: AtomicU64,
    /// The last peer was refused; so the next one that is has been told of.
    refusing: AtomicBool,
    sockets: Mutex<HashMap<u64, Served>>,
}

struct Served {
    socket: UnixStream,
    lane: Arc<Lane>,
    foreign: bool,
    /// Set once the thread runs.
    thread: Option<JoinHandle<()>>,
}

/// A socket that is this host's. Whoever connects waits until a [`Server`] serves it.
#[derive(Debug)]
pub struct Endpoint {
    path: PathBuf,
    listener: UnixListener,
    lock: PlaceLock,
}

impl Endpoint {
    /// Takes the socket at `path`. Its directory is made if it is missing, but not those above; the
    /// file of a host that died is replaced.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(path: impl Into<PathBuf>) -> Result<Endpoint, BindError> {
        let path = path.into();
        let (listener, lock) = listen(&path)?;
        Ok(Endpoint {
            path,
            listener,
            lock,
        })
    }
}

/// The listening socket. Dropping it is stopping it.
pub struct Server {
    path: PathBuf,
    stop: Box<dyn Fn() + Send + Sync>,
    listener: UnixListener,
    acceptor: Option<JoinHandle<()>>,
    /// Held as long as the socket is this host's.
    _lock: PlaceLock,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("path", &self.path).finish()
    }
}

impl Server {
    /// Takes the socket at `path` and serves it.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind<D: Device>(
        path: impl Into<PathBuf>,
        device: D,
        capabilities: &Capabilities,
        log: Log,
    ) -> Result<Server, BindError> {
        Server::start(Endpoint::bind(path)?, device, capabilities, log)
    }

    /// Serves a socket.
    ///
    /// # Errors
    /// [`BindError::Io`] if there is no descriptor or thread left.
    pub fn start<D: Device>(
        endpoint: Endpoint,
        device: D,
        capabilities: &Capabilities,
        log: Log,
    ) -> Result<Server, BindError> {
        let Endpoint {
            path,
            listener,
            lock,
        } = endpoint;
        let kept = listener
            .try_clone()
            .map_err(|e| BindError::Io(path.clone(), e))?;
        let shared = Arc::new(Shared {
            device,
            description: Description::new(capabilities),
            log,
            stopping: AtomicBool::new(false),
            next: AtomicU64::new(1),
            refusing: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let acceptor = std::thread::Builder::new()
            .name("transport-accept".into())
            .spawn({
                let shared = shared.clone();
                move || accept(&shared, &listener)
            })
            .map_err(|e| BindError::Io(path.clone(), e))?;
        Ok(Server {
            path,
            stop: Box::new(move || shared.stopping.store(true, Ordering::Release)),
            listener: kept,
            acceptor: Some(acceptor),
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts nobody any more, closes every handle, and waits until that is done.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        (self.stop)();
        // SAFETY: the descriptor is open as long as the listener lives. Wakes the acceptor, for
        // which the socket has then ended.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(thread) = self.acceptor.take() {
            // One that panicked has told its reason to standard error.
            let _panicked = thread.join();
        }
        let _removed = fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> Result<(UnixListener, PlaceLock), BindError> {
    let failed = |e| BindError::Io(path.to_owned(), e);
    if path.as_os_str().len() > MAX_PATH {
        return Err(BindError::TooLong(path.to_owned()));
    }
    make_directory(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BindError::NoDirectory(path.to_owned()),
        _ => failed(error),
    })?;
    let lock = PlaceLock::take(path).map_err(failed)?;
    let lock = lock.ok_or_else(|| BindError::InUse(path.to_owned()))?;
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Any user of this machine may connect to the socket; the port's security descriptor decides
    // who gets further.
    fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(failed)?;
    Ok((listener, lock))
}

/// Makes the socket's directory, unless it is there: root's can be entered by everybody, a user's own
/// only by that user. Not those above: where they are missing the path is wrong, most likely.
fn make_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mode = if own_uid() == 0 { 0o755 } else { 0o700 };
    match fs::DirBuilder::new().mode(mode).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

pub(super) fn own_uid() -> u32 {
    // SAFETY: it has no preconditions.
    unsafe { libc::geteuid() }
}

/// Whether one more socket may be served; `served` says of each whether it is a foreign user's.
pub(super) fn has_room(served: impl Iterator<Item = bool>, foreign: bool) -> bool {
    let (mut all, mut foreigners) = (0, 0);
    for is_foreign in served {
        all += 1;
        foreigners += usize::from(is_foreign);
    }
    all < MAX_SOCKETS && !(foreign && foreigners >= MAX_FOREIGN)
}

/// Tells a peer that it is not served, and why.
fn turn_away(mut socket: &UnixStream) {
    let header = CompletionHeader::new(hosted::NO_REQUEST, hosted::TOO_MANY_SOCKETS, 0, 0);
    let mut bytes = [0; CompletionHeader::SIZE];
    // It fits: the array was made for it.
    let _fits = header.write(&mut bytes);
    // Nothing has been written to this socket yet, so there is room; it fails if the peer is gone.
    let _gone = socket.write_all(&bytes);
}

fn accept<D: Device>(shared: &Arc<Shared<D>>, listener: &UnixListener) {
    let mut failing = false;
    for socket in listener.incoming() {
        if shared.stopping.load(Ordering::Acquire) {
            break;
        }
        match socket {
            Ok(socket) => {
                failing = false;
                admit(shared, socket);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    (shared.log)(&format!("transport: accepting failed: {error}"));
                }
                // Out of descriptors or memory, most likely: let somebody go first.
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
        }
    }
    let served: Vec<Served> = shared.sockets.lock().drain().map(|(_, s)| s).collect();
    for served in &served {
        // Both end the reader, wherever it is; the second fails if the peer has ended the socket
        // already.
        served.lane.close();
        let _gone = served.socket.shutdown(Shutdown::Read);
    }
    for thread in served.into_iter().filter_map(|s| s.thread) {
        // One that panicked has told its reason to standard error.
        let _panicked = thread.join();
    }
}

fn admit<D: Device>(shared: &Arc<Shared<D>>, socket: UnixStream) {
    let peer = Peer::of(&socket);
    let kept = socket.try_clone();
    let (Ok(peer), Ok(kept)) = (peer, kept) else {
        (shared.log)("transport: a peer went before it was known");
        return;
    };
    let id = shared.next.fetch_add(1, Ordering::Relaxed);
    let foreign = peer.uid != 0 && peer.uid != own_uid();
    let mut sockets = shared.sockets.lock();
    if !has_room(sockets.values().map(|s| s.foreign), foreign) {
        drop(sockets);
        turn_away(&socket);
        if !shared.refusing.swap(true, Ordering::Relaxed) {
            let pid = peer.pid;
            (shared.log)(&format!("transport: pid {pid} refused: too many sockets"));
        }
        return;
    }
    shared.refusing.store(false, Ordering::Relaxed);
    let lane = Arc::new(Lane::new(MAX_OUTSTANDING));
    // The lock is held until the thread is noted, so that the thread finds itself there when it
    // ends.
    let thread = std::thread::Builder::new()
        .name("transport-reader".into())
        .spawn({
            let (shared, lane) = (shared.clone(), lane.clone());
            move || shared.serve(id, &socket, peer, lane)
        });
    match thread {
        Ok(thread) => {
            let served = Served {
                socket: kept,
                lane,
                foreign,
                thread: Some(thread),
            };
            sockets.insert(id, served);
        }
        Err(error) => {
            drop(sockets);
            (shared.log)(&format!("transport: no thread for a socket: {error}"));
        }
    }
}

impl<D: Device> Shared<D> {
    fn serve(&self, id: u64, socket: &UnixStream, peer: Peer, lane: Arc<Lane>) {
        let end = connection::serve(&self.device, &self.description, socket, peer, lane);
        if !matches!(end, End::Closed) {
            (self.log)(&format!("transport: pid {} disconnected: {end}", peer.pid));
        }
        self.sockets.lock().remove(&id);
    }
}
