// SPDX-License-Identifier: MIT OR Apache-2.0
//! The asynchronous requests of a provider that have not ended yet.
//!
//! Whoever takes a request out of its table completes it, and nobody else can: that is why each is
//! completed once. The table changes under the lock of the routes; what it needs is allocated before.

use crate::ffi::{Completer, Owed};
use crate::tag;
use fltport_abi::account::Outcome;
use fltport_abi::limits::MAX_PENDING;
use fltport_nt::Result;
use fltport_nt::ex::{PoolBox, PoolBytes, PoolSlice};

/// Bits of a request's id that say where it lies.
const PLACE_BITS: u32 = MAX_PENDING.trailing_zeros();

/// The id of the request with this number, which is never used twice, in this place. Synchronous
/// requests have their numbers as ids, which never get as large.
pub(crate) const fn id(number: u64, place: usize) -> u64 {
    1 << 63 | number << PLACE_BITS | place as u64
}

/// Places of one piece of the table.
const PLACES: usize = 64;

const CHUNKS: usize = MAX_PENDING / PLACES;

const _: () = assert!(MAX_PENDING.is_power_of_two() && MAX_PENDING.is_multiple_of(PLACES));

/// What was asked, and who is to be told.
pub(crate) struct Question {
    pub(crate) message: u16,
    pub(crate) fixed: u16,
    /// The process that asked, where that says anything.
    pub(crate) process: Option<u32>,
    /// When it was asked, and when nobody waits any more: interrupt time.
    pub(crate) asked: u64,
    pub(crate) deadline: u64,
    pub(crate) payload: PoolBytes,
    /// The default; the decider's answer in place of it.
    pub(crate) reply: PoolBytes,
    pub(crate) completer: Completer,
    /// Dropped last: then the provider may go.
    pub(crate) _owed: Owed,
}

/// A request that waits.
pub(crate) struct Waiting {
    pub(crate) id: u64,
    /// When it is over: its deadline, or 0 if it is already.
    pub(crate) due: u64,
    /// The connection that was asked; 0 if none was.
    pub(crate) connection: u32,
    /// When that was asked: interrupt time.
    pub(crate) since: u64,
    /// Its place in that connection's stream; 0 as long as it is queued.
    pub(crate) sequence: u64,
    /// How it ended, if that is known before the deadline.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) question: PoolBox<Question>,
}

/// A piece of the table.
pub(crate) struct Chunk(PoolSlice<Option<Waiting>>);

impl Chunk {
    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn new() -> Result<Self> {
        PoolSlice::filled_with(tag::PENDING, PLACES, || None).map(Chunk)
    }
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// The table can have another piece, which the caller has to bring.
    NeedsChunk,
    /// So many are pending as may be.
    Full,
}

/// The table.
pub(crate) struct Pending {
    /// Those that are there come first.
    chunks: PoolSlice<Option<Chunk>>,
    /// Those before it have no free place.
    first_free: usize,
    count: usize,
}

/// How far a walk over a table has come.
pub(crate) enum Walk {
    /// This one was over, and has been taken out.
    Over(Waiting),
    /// There is more.
    More,
    /// The end.
    End,
}

impl Pending {
    /// IRQL: <= DISPATCH_LEVEL. An empty one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Pending {
            chunks: PoolSlice::filled_with(tag::PENDING, CHUNKS, || None)?,
            first_free: 0,
            count: 0,
        })
    }

    /// The table, to be put back; one that has no places is left there.
    pub(crate) fn take_out(&mut self) -> Self {
        let none = Pending {
            chunks: PoolSlice::empty(tag::PENDING),
            first_free: 0,
            count: 0,
        };
        core::mem::replace(self, none)
    }

    /// A place that is free; takes a piece for the table out of `fresh` if it needs one.
    pub(crate) fn free_place(
        &mut self,
        fresh: &mut Option<Chunk>,
    ) -> core::result::Result<usize, NoPlace> {
        if self.count < MAX_PENDING {
            let chunks = self.chunks.iter_mut().enumerate();
            for (n, place) in chunks.skip(self.first_free) {
                self.first_free = n;
                if place.is_none() {
                    *place = Some(fresh.take().ok_or(NoPlace::NeedsChunk)?);
                }
                let free = place
                    .as_ref()
                    .and_then(|chunk| chunk.0.iter().position(Option::is_none));
                if let Some(free) = free {
                    return Ok(n * PLACES + free);
                }
            }
        }
        Err(NoPlace::Full)
    }

    fn place(&mut self, place: usize) -> Option<&mut Option<Waiting>> {
        let chunk = self.chunks.get_mut(place / PLACES)?.as_mut()?;
        chunk.0.get_mut(place % PLACES)
    }

    /// Puts a request into a place that is free.
    pub(crate) fn put(&mut self, place: usize, waiting: Waiting) {
        if let Some(free) = self.place(place) {
            *free = Some(waiting);
            self.count += 1;
        }
    }

    /// The request with this id.
    pub(crate) fn find(&mut self, id: u64) -> Option<&mut Waiting> {
        let place = id as usize & (MAX_PENDING - 1);
        self.place(place)?.as_mut().filter(|w| w.id == id)
    }

    /// Takes out the request with this id.
    pub(crate) fn take(&mut self, id: u64) -> Option<Waiting> {
        let place = id as usize & (MAX_PENDING - 1);
        let taken = self.place(place)?.take_if(|w| w.id == id)?;
        self.count -= 1;
        self.first_free = self.first_free.min(place / PLACES);
        Some(taken)
    }

    /// Takes out any request.
    pub(crate) fn take_any(&mut self) -> Option<Waiting> {
        let id = self.iter_mut().next()?.id;
        self.take(id)
    }

    /// All of them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiting> {
        let is_empty = self.count == 0;
        self.chunks
            .iter_mut()
            .filter(move |_| !is_empty)
            .map_while(Option::as_mut)
            .flat_map(|chunk| chunk.0.iter_mut().flatten())
    }

    /// Looks at one piece: takes out a request that is over, or goes on to the next one, and puts into
    /// `next` when the first of those that it has seen will be over.
    pub(crate) fn walk(&mut self, chunk: &mut usize, now: u64, next: &mut u64) -> Walk {
        let Some(Some(places)) = self.chunks.get_mut(*chunk).filter(|_| self.count != 0) else {
            return Walk::End;
        };
        let mut first = u64::MAX;
        for place in places.0.iter_mut() {
            if let Some(over) = place.take_if(|w| w.due <= now) {
                self.count -= 1;
                self.first_free = self.first_free.min(*chunk);
                return Walk::Over(over);
            }
            first = place.as_ref().map_or(first, |w| first.min(w.due));
        }
        *next = first.min(*next);
        *chunk += 1;
        Walk::More
    }
}
