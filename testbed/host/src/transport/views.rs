// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions for views: the service at the other end of a socket is asked to map memory, and answers.
//!
//! It may answer nonsense, late, or never; who asks waits for so long and no longer, and not at all
//! when the socket has ended.

use super::completions::Completions;
use crate::mm::MapViews;
use crate::status::{
    STATUS_CONFLICTING_ADDRESSES, STATUS_IO_TIMEOUT, STATUS_NO_MEMORY,
    STATUS_PROCESS_IS_TERMINATING, STATUS_SUCCESS,
};
use fltport_abi::hosted::{MapView, Mapped, Violation};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How long a service is given to map a view.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first address that no view of user mode reaches.
const USER_LIMIT: u64 = 0x0000_8000_0000_0000;
/// What views begin at a multiple of.
const PAGE: u64 = 4096;

/// The questions of one socket.
pub(super) struct Views {
    completions: Completions,
    patience: Duration,
    questions: Mutex<Questions>,
}

#[derive(Default)]
struct Questions {
    last: u64,
    waiting: HashMap<u64, SyncSender<Mapped>>,
    closed: bool,
}

impl Views {
    pub(super) fn new(completions: Completions) -> Views {
        Views {
            completions,
            patience: PATIENCE,
            questions: Mutex::default(),
        }
    }

    /// With another patience, for a test.
    #[cfg(test)]
    pub(super) fn patient(completions: Completions, patience: Duration) -> Views {
        Views {
            patience,
            ..Views::new(completions)
        }
    }

    /// The service has answered. An answer that comes late is nobody's any more; one to what was
    /// never asked breaks the protocol.
    pub(super) fn answered(&self, mapped: Mapped) -> Result<(), Violation> {
        let mut questions = self.questions.lock();
        if mapped.id == 0 || mapped.id > questions.last {
            return Err(Violation::Value);
        }
        if let Some(asker) = questions.waiting.remove(&mapped.id) {
            // It has room for the one answer; who asked may have gone this moment.
            let _given_up = asker.send(mapped);
        }
        Ok(())
    }

    /// The socket has ended: nobody waits for an answer any more.
    pub(super) fn close(&self) {
        let mut questions = self.questions.lock();
        questions.closed = true;
        questions.waiting.clear();
    }
}

impl MapViews for Views {
    fn map(&self, descriptor: OwnedFd, length: usize, writable: bool) -> Result<u64, i32> {
        let (asker, answer) = sync_channel(1);
        let mut questions = self.questions.lock();
        if questions.closed {
            return Err(STATUS_PROCESS_IS_TERMINATING);
        }
        questions.last += 1;
        let id = questions.last;
        questions.waiting.insert(id, asker);
        drop(questions);
        let question = MapView::new(id, length, writable);
        self.completions.ask(&question, descriptor);
        match answer.recv_timeout(self.patience) {
            Ok(mapped) => judge(&mapped, length),
            Err(RecvTimeoutError::Disconnected) => Err(STATUS_PROCESS_IS_TERMINATING),
            Err(RecvTimeoutError::Timeout) => {
                self.questions.lock().waiting.remove(&id);
                Err(STATUS_IO_TIMEOUT)
            }
        }
    }
}

/// What the service says it has done, as far as it can be. The address is its own affair otherwise:
/// the hosted kernel uses none of what is there.
fn judge(mapped: &Mapped, length: usize) -> Result<u64, i32> {
    if mapped.status != STATUS_SUCCESS {
        return Err(STATUS_NO_MEMORY);
    }
    let end = mapped.address.checked_add(length as u64);
    let within = end.is_some_and(|end| end <= USER_LIMIT);
    if mapped.address == 0 || !mapped.address.is_multiple_of(PAGE) || !within {
        return Err(STATUS_CONFLICTING_ADDRESSES);
    }
    Ok(mapped.address)
}
