// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a consumer sleeps and is woken, in memory that both processes have.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::Timespec;

use super::memory::Shareable;
use crate::contestant::Woken;

/// Sleeps until the word is woken, while it has this value, or the time is up.
pub(crate) fn sleep(word: &AtomicU32, value: u32, patience: Duration) -> Result<Woken> {
    let patience = Timespec::try_from(patience).context("too long a patience")?;
    match futex::wait(word, futex::Flags::empty(), value, Some(&patience)) {
        // EAGAIN: it has another value by now. EINTR: as good as any wake-up, callers look again.
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(Woken::Called),
        Err(Errno::TIMEDOUT) => Ok(Woken::TimedOut),
        Err(error) => Err(error).context("cannot wait for a futex"),
    }
}

/// Wakes who sleeps there.
pub(crate) fn wake(word: &AtomicU32) -> Result<()> {
    futex::wake(word, futex::Flags::empty(), 1).context("cannot wake a futex")?;
    Ok(())
}

/// Rung once a sleep: the consumer arms it before it sleeps, the first producer that finds it armed
/// takes the arm off and wakes.
///
/// No wake-up is lost: the consumer stores *armed*, then looks for records; the producer publishes a
/// record, then looks whether it is armed; with a full fence between the two on both sides, one of
/// them sees what the other one has done.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Bell {
    armed: AtomicU32,
}

// SAFETY: an atomic.
unsafe impl Shareable for Bell {}

impl Bell {
    /// For producers, after they have published. Whether somebody was woken.
    #[inline]
    pub(crate) fn ring(&self) -> Result<bool> {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) == 0 || self.armed.swap(0, Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        wake(&self.armed)?;
        Ok(true)
    }

    /// For the consumer: sleeps until somebody rings, unless there is something already.
    pub(crate) fn wait(&self, patience: Duration, is_ready: impl Fn() -> bool) -> Result<Woken> {
        self.armed.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let woken = match is_ready() {
            true => Woken::NotAsleep,
            false => sleep(&self.armed, 1, patience)?,
        };
        self.armed.store(0, Ordering::Relaxed);
        Ok(woken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn nobody_is_woken_who_does_not_sleep() {
        let bell = Bell::default();
        assert!(!bell.ring().unwrap());
        let woken = bell.wait(Duration::from_secs(60), || true).unwrap();
        assert_eq!(woken, Woken::NotAsleep);
        assert!(!bell.ring().unwrap());
    }

    #[test]
    fn patience_ends() {
        let bell = Bell::default();
        let woken = bell.wait(Duration::from_millis(1), || false).unwrap();
        assert_eq!(woken, Woken::TimedOut);
    }

    #[test]
    fn who_sleeps_is_woken_once() {
        let bell = Bell::default();
        let came = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let patience = Duration::from_secs(60);
                bell.wait(patience, || came.load(Ordering::Relaxed))
                    .unwrap()
            });
            while bell.armed.load(Ordering::Relaxed) == 0 && !sleeper.is_finished() {
                std::thread::yield_now();
            }
            came.store(true, Ordering::Relaxed);
            let rung = bell.ring().unwrap();
            let woken = sleeper.join().unwrap();
            assert_ne!(woken, Woken::TimedOut);
            assert!(rung || woken == Woken::NotAsleep);
        });
    }
}
