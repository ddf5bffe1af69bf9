// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock that says whose a socket's place is.
//!
//! A file beside the socket, locked by the host that lives there. The host's end, whatever it is,
//! releases the lock; a host that ends in order also removes the file.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A locked place. Dropping it removes the file, and then releases the lock.
#[derive(Debug)]
pub(super) struct PlaceLock {
    /// Closed, and so unlocked, after `drop` has removed it.
    _file: File,
    path: PathBuf,
}

impl PlaceLock {
    /// Locks the place beside this socket; `None` if another host has it.
    pub(super) fn take(socket: &Path) -> io::Result<Option<PlaceLock>> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // Its former owner may have removed it between the opening and the locking; then the
            // next host makes another file, and this lock would guard nothing.
            if lies_at(&file, &path)? {
                return Ok(Some(PlaceLock { _file: file, path }));
            }
        }
    }
}

/// Whether this is the file that is found at the path now.
fn lies_at(file: &File, path: &Path) -> io::Result<bool> {
    let file = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (file.dev(), file.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

impl Drop for PlaceLock {
    fn drop(&mut self) {
        // Still locked, so the file is this host's to remove. Nobody is left to tell of a failure,
        // and the next host can do with a file that stayed.
        let _removed = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        // Whoever else may write to the directory does not choose which file this is.
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}
