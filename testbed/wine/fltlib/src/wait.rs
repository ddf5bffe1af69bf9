// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a synchronous call ends with, given what the system call and the status block say.

use fltmgr::Status;

/// What to do after the system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is over, with this status.
    Done(Status),
    /// It goes on: wait, then look at the status block.
    Wait,
}

/// After a device control returned `returned`.
///
/// A failure is final, and the status block is not written for it. A success or a warning is what
/// the status block has, which is the same unless a driver says something else there.
pub(crate) fn after_call(returned: Status) -> Next {
    if returned == Status::PENDING {
        Next::Wait
    } else {
        Next::Done(returned)
    }
}

/// What FilterGetMessage without an OVERLAPPED ends with once its handle is signalled; `block` is
/// the status block's status, [`Status::PENDING`] if it has not been written.
///
/// Every operation on an asynchronous handle signals it, so the one that was waited for need not be
/// over. Windows' fltlib returns success nevertheless, with whatever the buffer holds: the race that
/// its documentation leaves out, and that a program must see here, too.
pub(crate) fn after_shared_wait(block: Status) -> Status {
    if block == Status::PENDING {
        Status::SUCCESS
    } else {
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pending_is_waited_for() {
        assert_eq!(after_call(Status::PENDING), Next::Wait);
        for over in [
            Status::SUCCESS,
            Status::FLT_BUFFER_TOO_SMALL,
            Status::PORT_DISCONNECTED,
        ] {
            assert_eq!(after_call(over), Next::Done(over));
        }
    }

    #[test]
    fn a_shared_wait_that_ends_early_passes_for_success() {
        assert_eq!(after_shared_wait(Status::PENDING), Status::SUCCESS);
        assert_eq!(after_shared_wait(Status::CANCELLED), Status::CANCELLED);
        assert_eq!(after_shared_wait(Status::SUCCESS), Status::SUCCESS);
    }
}
