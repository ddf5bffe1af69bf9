// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address space that belongs to the hosted kernel and that nobody can reach until it is opened,
//! page by page.

pub(crate) mod fault_handler;

use std::io;
use std::ops::Range;

/// The size of a page in bytes, NT's and the host system's on x86-64.
pub(crate) const PAGE_SIZE: usize = 4096;

/// The least address space that is worth having.
const SMALLEST: usize = 1 << 30;

/// What the processor may do with open pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// A piece of address space without memory behind it. It is never given back.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: usize,
    size: usize,
}

impl Reservation {
    /// Reserves `size` bytes, or a half, a quarter and so on where the host system has limits, at
    /// the address `wish` if that is free. None if it refuses even a small piece, or has pages of
    /// another size.
    pub(crate) fn new(wish: usize, size: usize) -> Option<Reservation> {
        // SAFETY: asks a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        if usize::try_from(page) != Ok(PAGE_SIZE) {
            return None;
        }
        let mut size = size;
        while size >= SMALLEST {
            // Without MAP_FIXED the address is no more than a wish.
            if let Ok(start) = map(wish as *mut _, size, 0) {
                return Some(Reservation { start, size });
            }
            size /= 2;
        }
        None
    }

    /// All of it.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.size
    }

    /// Whether an address lies in it.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.range().contains(&address)
    }

    /// Gives whole pages memory and lets everybody use them. They hold what they held since they
    /// were last closed, at first zeros. Fails when the host system has no memory or too many
    /// mappings.
    pub(crate) fn open(&self, pages: Range<usize>, opened: Opened) -> io::Result<()> {
        let protection = match opened {
            Opened::Read => libc::PROT_READ,
            Opened::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        self.protect(pages, protection)
    }

    /// Keeps everybody out of whole pages. Their contents stay.
    pub(crate) fn hide(&self, pages: Range<usize>) -> io::Result<()> {
        self.protect(pages, libc::PROT_NONE)
    }

    fn protect(&self, pages: Range<usize>, protection: libc::c_int) -> io::Result<()> {
        self.check(&pages)?;
        // SAFETY: whole pages of this reservation, which nothing but its owner hands out.
        let result = unsafe { libc::mprotect(pages.start as *mut _, pages.len(), protection) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Keeps everybody out of whole pages and gives their memory back. A new mapping, so that it
    /// becomes one with its closed neighbours: the host system counts mappings.
    pub(crate) fn close(&self, pages: Range<usize>) -> io::Result<()> {
        self.check(&pages)?;
        map(pages.start as *mut _, pages.len(), libc::MAP_FIXED).map(|_| ())
    }

    fn check(&self, pages: &Range<usize>) -> io::Result<()> {
        let own = self.range();
        let whole = pages.start.is_multiple_of(PAGE_SIZE) && pages.end.is_multiple_of(PAGE_SIZE);
        if whole && own.start <= pages.start && pages.end <= own.end {
            return Ok(());
        }
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Hands out the addresses of a reservation in a circle, so that those that were given back are
/// used again as late as possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circle {
    /// Where the next range begins; zero before the first.
    next: usize,
}

impl Circle {
    pub(crate) const fn new() -> Circle {
        Circle { next: 0 }
    }

    /// The beginning of `size` bytes, which are whole pages, that nobody uses. `taken` lets go of
    /// what is not used any more in a range, and gives the end of something that is, if there is
    /// any. None when there is no room.
    pub(crate) fn take(
        &mut self,
        space: &Reservation,
        size: usize,
        mut taken: impl FnMut(&Range<usize>) -> Option<usize>,
    ) -> Option<usize> {
        let own = space.range();
        if !own.contains(&self.next) {
            self.next = own.start;
        }
        let mut wrapped = false;
        loop {
            let wanted = self.next..self.next.checked_add(size)?;
            if wanted.end > own.end {
                if std::mem::replace(&mut wrapped, true) {
                    return None;
                }
                self.next = own.start;
            } else if let Some(end) = taken(&wanted) {
                self.next = end;
            } else {
                self.next = wanted.end;
                return Some(wanted.start);
            }
        }
    }
}

/// Maps pages that nobody can reach; where they lie.
fn map(at: *mut libc::c_void, size: usize, flags: libc::c_int) -> io::Result<usize> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: either the host system chooses free addresses, or the range is the caller's own
    // reservation, which `check` has seen to.
    let place = unsafe { libc::mmap(at, size, libc::PROT_NONE, flags, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(place as usize)
}

/// The page that an address lies in.
pub(crate) fn page_of(address: usize) -> Range<usize> {
    let start = address & !(PAGE_SIZE - 1);
    start..start + PAGE_SIZE
}

/// Where an address lies, seen from the beginning of a range: as a part of a sentence.
pub(crate) fn place_in(range: &Range<usize>, address: usize) -> String {
    match address.checked_sub(range.start) {
        Some(offset) => format!("offset {offset}"),
        None => format!("{} bytes in front", range.start - address),
    }
}

/// `size` as a number of whole pages, in bytes; none if there is no such number.
pub(crate) fn whole_pages(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(PAGE_SIZE)
}

/// The part that two ranges have in common.
pub(crate) fn common(one: &Range<usize>, other: &Range<usize>) -> Option<Range<usize>> {
    let range = one.start.max(other.start)..one.end.min(other.end);
    (!range.is_empty()).then_some(range)
}
