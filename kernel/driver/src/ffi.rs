// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is a client driver's: its command handler and completion routines, its word for who listens, and
//! where it counts what nobody hears.

use crate::ledger::bit;
use crate::provider::Provider;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};
use fltport_abi::account::Outcome;
use fltport_abi::interface::{
    CommandCaller, CommandHandler, Completion, CompletionRoutine, MAX_UNHEARD_ROWS, SnapshotHandle,
    SnapshotRoutine, UNHEARD_ROW,
};
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::PoolArc;
use fltport_nt::{NtError, Result, status::check};

/// A client driver's command handler.
#[derive(Clone, Copy)]
pub(crate) struct Handler {
    routine: CommandHandler,
    context: *mut c_void,
}

// SAFETY: the context is the client driver's, which registered it for calls from any thread.
unsafe impl Send for Handler {}
// SAFETY: as above.
unsafe impl Sync for Handler {}

impl Handler {
    /// # Safety
    /// `routine` may be called with `context` from any thread at PASSIVE_LEVEL, until the provider
    /// that registers it has been drained.
    pub(crate) unsafe fn new(routine: CommandHandler, context: *mut c_void) -> Self {
        Handler { routine, context }
    }

    /// IRQL: PASSIVE_LEVEL. Calls it; the number of bytes that it wrote to `output`.
    pub(crate) fn call(
        &self,
        caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        output: &mut [u8],
    ) -> Result<usize> {
        let too_long = |_| NtError(STATUS_INVALID_PARAMETER);
        let length = u32::try_from(payload.len()).map_err(too_long)?;
        let capacity = u32::try_from(output.len()).map_err(too_long)?;
        let mut returned = 0;
        // SAFETY: as `new` was promised, and the provider calls this under its rundown protection;
        // the buffers are ours and valid for their lengths.
        check(unsafe {
            (self.routine)(
                self.context,
                caller,
                message,
                payload.as_ptr(),
                length,
                output.as_mut_ptr(),
                capacity,
                &raw mut returned,
            )
        })?;
        Ok(output.len().min(returned as usize))
    }
}

/// A client driver's snapshot routine.
#[derive(Clone, Copy)]
pub(crate) struct Reporter {
    routine: SnapshotRoutine,
    context: *mut c_void,
}

// SAFETY: as for the handler.
unsafe impl Send for Reporter {}
// SAFETY: as for the handler.
unsafe impl Sync for Reporter {}

impl Reporter {
    /// # Safety
    /// As [`Handler::new`].
    pub(crate) unsafe fn new(routine: SnapshotRoutine, context: *mut c_void) -> Self {
        Reporter { routine, context }
    }

    /// IRQL: PASSIVE_LEVEL. Calls it.
    pub(crate) fn call(&self, snapshot: SnapshotHandle, types: u64) -> Result<()> {
        // SAFETY: as `new` was promised, and the provider calls this under its rundown protection.
        check(unsafe { (self.routine)(self.context, snapshot, types) })
    }
}

/// A word of a client driver's: bit n is set if message n would reach anybody.
pub(crate) struct InterestWord(*const AtomicU64);

// SAFETY: a pointer to an atomic that is valid as long as this exists, as `new` demands.
unsafe impl Send for InterestWord {}
// SAFETY: as above.
unsafe impl Sync for InterestWord {}

impl InterestWord {
    /// `None` for a null pointer; `STATUS_INVALID_PARAMETER` for one that is not aligned.
    ///
    /// # Safety
    /// `word` is null or points to non-paged memory that stays valid until the provider which
    /// registers it has been taken out of the routes, and nobody else writes to it until then.
    pub(crate) unsafe fn new(word: *mut u64) -> Result<Option<Self>> {
        match (word.is_null(), word.is_aligned()) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(InterestWord(word.cast()))),
            (false, false) => Err(NtError(STATUS_INVALID_PARAMETER)),
        }
    }

    /// IRQL: any. Writes it.
    pub(crate) fn set(&self, types: u64) {
        // SAFETY: valid, as `new` was promised: this lies in the routes.
        let word = unsafe { &*self.0 };
        // Relaxed: a hint. Whoever reads an old one is as if he had asked a moment ago.
        word.store(types, Ordering::Relaxed);
    }
}

/// Where a client driver counts what nobody would hear, and its word for what that is.
#[derive(Clone, Copy)]
pub(crate) struct UnheardCounters {
    quiet: *const AtomicU64,
    first: *const AtomicU64,
    rows: usize,
}

// SAFETY: pointers to atomics that are valid as long as this exists, as `new` demands.
unsafe impl Send for UnheardCounters {}
// SAFETY: as above.
unsafe impl Sync for UnheardCounters {}

impl UnheardCounters {
    /// `None` without a word; `STATUS_INVALID_PARAMETER` for what is not aligned or cannot be.
    ///
    /// # Safety
    /// `quiet` and so many rows of counters at `first` are as [`InterestWord::new`] demands, but that others add to the
    /// counters atomically.
    pub(crate) unsafe fn new(quiet: *mut u64, first: *mut u64, rows: u32) -> Result<Option<Self>> {
        if quiet.is_null() {
            return Ok(None);
        }
        let has_rows = !first.is_null() && (1..=MAX_UNHEARD_ROWS).contains(&rows);
        if !has_rows || !quiet.is_aligned() || !first.is_aligned() {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        Ok(Some(UnheardCounters {
            quiet: quiet.cast(),
            first: first.cast(),
            rows: rows as usize,
        }))
    }

    /// IRQL: any. Says which types may be counted from now on.
    pub(crate) fn set_quiet(&self, types: u64) {
        // SAFETY: valid, as `new` was promised: this lies in the routes.
        let word = unsafe { &*self.quiet };
        // Relaxed: whoever reads an old one is as if he had offered, or counted, a moment ago.
        word.store(types, Ordering::Relaxed);
    }

    /// IRQL: any. Takes out what was counted of these types: calls `sink` with each message and how many.
    pub(crate) fn take(&self, types: u64, mut sink: impl FnMut(u16, u64)) {
        let count = self.rows * UNHEARD_ROW;
        // SAFETY: valid for so many, as `new` was promised, and atomics.
        let counters = unsafe { core::slice::from_raw_parts(self.first, count) };
        for message in (0..UNHEARD_ROW as u16).filter(|message| types & bit(*message) != 0) {
            let column = counters.iter().skip(message.into()).step_by(UNHEARD_ROW);
            // Relaxed: only numbers, and each is taken out once. Who was told that something had been counted finds it.
            let found = column.filter(|counter| counter.load(Ordering::Relaxed) != 0);
            let count = found.map(|it| it.swap(0, Ordering::Relaxed)).sum();
            if count != 0 {
                sink(message, count);
            }
        }
    }
}

/// What is to be called when an asynchronous request has ended.
#[derive(Clone, Copy)]
pub(crate) struct Completer {
    routine: CompletionRoutine,
    context: *mut c_void,
}

// SAFETY: the context is the client driver's, which gave it for a call from any thread.
unsafe impl Send for Completer {}
// SAFETY: as above.
unsafe impl Sync for Completer {}

impl Completer {
    /// # Safety
    /// `routine` may be called with `context` from any thread at PASSIVE_LEVEL, once, as long as an
    /// [`Owed`] of its provider is held.
    pub(crate) unsafe fn new(routine: CompletionRoutine, context: *mut c_void) -> Self {
        Completer { routine, context }
    }

    /// IRQL: PASSIVE_LEVEL, without locks. Calls it.
    pub(crate) fn call(&self, message: u16, outcome: Outcome, waited_us: u32, reply: &[u8]) {
        let completion = Completion {
            size: size_of::<Completion>() as u32,
            message,
            reserved: 0,
            outcome: outcome as u32,
            waited_us,
            reply: reply.as_ptr(),
            reply_length: reply.len() as u32,
            reserved2: 0,
        };
        // SAFETY: as `new` was promised; the caller holds the provider, and calls this once.
        unsafe { (self.routine)(self.context, &raw const completion) };
    }
}

/// A provider's routine is owed a call: the provider cannot go until this is dropped (IRQL: <=
/// DISPATCH_LEVEL).
pub(crate) struct Owed(PoolArc<Provider>);

impl Owed {
    /// IRQL: <= DISPATCH_LEVEL. `None` if the provider goes.
    pub(crate) fn new(provider: &PoolArc<Provider>) -> Option<Self> {
        if provider.calls().acquire_for_another_thread() {
            Some(Owed(provider.clone()))
        } else {
            None
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        // SAFETY: acquired by `new`, released once.
        unsafe { self.0.calls().release() };
    }
}
