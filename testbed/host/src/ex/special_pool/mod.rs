// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pool memory on pages of its own, so that a wrong access is found at the very instruction.
//!
//! Each allocation has closed pages on both sides, and lies at the end or at the beginning of its
//! own. What is left of its pages is filled and looked at when it is freed. Freed pages are closed,
//! and their addresses are used again as late as possible.
//!
//! It costs two calls of the host system and a page or more for each allocation. Beyond 16,384
//! allocations at one time, the ordinary pool takes over.

mod faults;
mod table;

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

use parking_lot::Mutex;

use crate::pages::fault_handler;
use crate::pages::{self, Opened, PAGE_SIZE, Reservation};
use crate::stack::Stack;
pub(crate) use faults::resolve;
use table::Table;

/// Which pool allocations lie on pages of their own, where a wrong access is reported with the
/// stack of the very instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecialPool {
    /// None: overruns are found when the memory is freed, reads of freed memory are not found.
    #[default]
    Off,
    /// All, at the end of their pages: accesses behind them and after the free are found at once,
    /// up to the alignment: of 16 bytes, of 64 where cache alignment was asked for, and of a page,
    /// 4096, for allocations of a page or more, which NT aligns so. Between the end of the
    /// allocation and the next aligned address a write is found at the free, a read never.
    Overruns,
    /// All, at the beginning of their pages: accesses in front of them and after the free are
    /// found at once.
    Underruns,
}

/// Whether paged pool is there at DISPATCH_LEVEL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PagedPool {
    /// It is, and a driver that touches it there goes unnoticed.
    #[default]
    Resident,
    /// Whenever a thread raises its IRQL to DISPATCH_LEVEL, all paged pool is paged out; it lies on
    /// pages of its own for that. An access below DISPATCH_LEVEL brings it back, one at
    /// DISPATCH_LEVEL is a report.
    ///
    /// Pages are in or out for all threads. While one thread is raised, another one may bring back
    /// what the first then touches unnoticed; with threads that take turns, or with one thread, no
    /// access goes unnoticed but the later ones to what was reported or brought back since the
    /// IRQL was raised. It costs a call of the host system for each allocation in use whenever a
    /// thread raises.
    OutAtDispatch,
}

/// Whether any allocation was ever to be paged out.
static PAGES_OUT: AtomicBool = AtomicBool::new(false);

/// The calling thread has raised its IRQL to DISPATCH_LEVEL.
pub(crate) fn page_out() {
    if PAGES_OUT.load(Ordering::Relaxed)
        && let Some(space) = space()
    {
        TABLE.lock().page_out(space);
    }
}

/// Where the addresses begin, if that place is free: above those that stand for user memory.
const WISH: usize = 0x2800_0000_0000;
/// How much there is.
const SIZE: usize = 256 << 30;

/// The fill of what is left of an allocation's pages.
const SLACK: u8 = 0xA5;
/// What freed memory reads as, once it was reported.
const FREED: u8 = 0xDD;

static SPACE: OnceLock<Option<Reservation>> = OnceLock::new();

/// Locked for moments, in which nothing is called but the host system. Pages are closed and opened
/// under it, so that a fault finds the table as the pages are.
static TABLE: Mutex<Table> = Mutex::new(Table::new());

fn space() -> Option<&'static Reservation> {
    let space = SPACE.get_or_init(|| {
        fault_handler::install();
        let space = Reservation::new(WISH, SIZE);
        if space.is_none() {
            eprintln!(
                "nt-host: the host system has no address space for the special pool, so the \
                 ordinary pool is used: raise the limit of virtual memory (ulimit -v)"
            );
        }
        space
    });
    space.as_ref()
}

/// Whether an address is or was special pool.
pub(crate) fn covers(address: usize) -> bool {
    let space = SPACE.get().and_then(Option::as_ref);
    space.is_some_and(|space| space.contains(address))
}

/// What is known of an allocation beside where it lies.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// The tag.
    pub tag: u32,
    /// Whether it is paged out when a thread raises its IRQL.
    pub pageable: bool,
    /// The driver that asked for it.
    pub driver: Option<String>,
    /// Where it was allocated.
    pub stack: Stack,
}

/// Memory for one allocation, on pages of its own. Dropping it gives the addresses back, not the
/// right to use them.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Where the addresses taken for it begin.
    span: usize,
    /// Its pages.
    pages: Range<usize>,
    /// The driver's bytes.
    bytes: Range<usize>,
}

impl Extent {
    /// Pages for `size` bytes, filled with `fill`. None without memory or with the special pool
    /// off.
    pub(crate) fn new(
        special: SpecialPool,
        size: usize,
        alignment: usize,
        fill: u8,
    ) -> Option<Extent> {
        if special == SpecialPool::Off {
            return None;
        }
        let space = space()?;
        let whole = pages::whole_pages(size)?;
        // A closed page on each side.
        let Some(span) = TABLE.lock().room(space, whole.checked_add(2 * PAGE_SIZE)?) else {
            explain_shortage("there are too many allocations");
            return None;
        };
        let pages = span + PAGE_SIZE..span + PAGE_SIZE + whole;
        let begin = match special {
            SpecialPool::Underruns => pages.start,
            _ => (pages.end - size) & !(alignment - 1),
        };
        let extent = Extent {
            span,
            pages,
            bytes: begin..begin + size,
        };
        if let Err(error) = space.open(extent.pages.clone(), Opened::ReadWrite) {
            // Dropping the extent gives the addresses back.
            explain_shortage(&error.to_string());
            return None;
        }
        for slack in extent.slack() {
            write(slack, SLACK);
        }
        if fill != 0 {
            // Pages that are opened anew are zero, and cost nothing until they are touched.
            write(extent.bytes.clone(), fill);
        }
        Some(extent)
    }

    /// Where the driver's bytes begin.
    pub(crate) fn start(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.bytes.start as *mut u8)
    }

    /// The parts of its pages in front of the driver's bytes and behind them.
    fn slack(&self) -> [Range<usize>; 2] {
        [
            self.pages.start..self.bytes.start,
            self.bytes.end..self.pages.end,
        ]
    }

    /// Says whose it is, for the reports.
    pub(crate) fn describe(&self, about: About) {
        if about.pageable {
            PAGES_OUT.store(true, Ordering::Relaxed);
        }
        TABLE.lock().describe(self.span, &self.bytes, about);
    }

    /// The offset of the first byte that was written outside the driver's bytes, on its pages.
    pub(crate) fn written_outside(&self) -> Option<isize> {
        if let Some(space) = space() {
            // Not the driver's access. If it stays out, the look at it faults.
            let _ = TABLE.lock().page_in(space, self.pages.start);
        }
        let written = self.slack().into_iter().flatten().find(|address| {
            // SAFETY: a byte of an open page that was filled when the page was opened.
            unsafe { (*address as *const u8).read() != SLACK }
        })?;
        Some(written.wrapping_sub(self.bytes.start).cast_signed())
    }

    /// Brings the memory back, and never pages it out again.
    pub(crate) fn leave(&self) {
        if let Some(space) = space() {
            // If it stays out, it is brought back when it is touched.
            let _ = TABLE.lock().keep_in(space, self.span);
        }
    }

    /// Closes the pages for good: the memory was freed at `stack`.
    pub(crate) fn retire(&self, stack: Stack) {
        if let Some(space) = space() {
            TABLE.lock().retire(space, self.span, stack);
        }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        if let Some(space) = space() {
            TABLE.lock().give_back(space, self.span);
        }
    }
}

fn explain_shortage(reason: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        eprintln!(
            "nt-host: no more pages for the special pool ({reason}): some memory comes from the \
             ordinary pool, where mistakes are found when it is freed"
        );
    });
}

/// Fills bytes of open pages.
fn write(range: Range<usize>, byte: u8) {
    // SAFETY: the callers pass bytes of pages that they have opened and that hold nothing of a
    // driver's: new ones, or closed ones that were touched.
    unsafe { (range.start as *mut u8).write_bytes(byte, range.len()) };
}
