// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages of a shadow that a driver has touched, and that stand open so that it can go on.
//!
//! An open page holds what the user memory held when it was opened. What the driver writes there
//! reaches the user when the page is closed: at the next fault-safe copy of that buffer, and at the
//! end of the call. On NT it would have been there at once, had the memory been there at all.
//!
//! A page is opened and then filled. A second thread that touches it in between sees zeros, and its
//! touch is not reported. With threads that take turns there is no such moment.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::remote::{self, Direction};
use crate::pages::{self, Opened, PAGE_SIZE, Reservation};

/// What the pages of a shadow stand for.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    /// The addresses that the driver sees.
    pub(super) shadow: Range<usize>,
    /// Where they begin in the user's process.
    pub(super) real: u64,
    /// The host system's process that holds them; none when the call is over.
    pub(super) pid: Option<libc::pid_t>,
}

impl Behind {
    /// What pages stand for that have no buffer any more.
    pub(super) fn nothing() -> Behind {
        Behind {
            shadow: 0..0,
            real: 0,
            pid: None,
        }
    }

    /// The part of a page that stands for user memory, with its address there.
    fn part(&self, page: usize) -> Option<(Range<usize>, u64, libc::pid_t)> {
        let pid = self.pid?;
        let part = pages::common(&pages::page_of(page), &self.shadow)?;
        let offset = part.start - self.shadow.start;
        Some((part, self.real.wrapping_add(offset as u64), pid))
    }
}

/// An open page.
struct OpenPage {
    opened: Opened,
    /// What it held when it was opened for writing.
    before: Vec<u8>,
}

/// The open pages of one buffer, by address.
pub(super) struct OpenPages(BTreeMap<usize, OpenPage>);

impl OpenPages {
    /// None.
    pub(super) const fn new() -> OpenPages {
        OpenPages(BTreeMap::new())
    }

    /// Whether the page of an address is open for such an access.
    pub(super) fn admits(&self, address: usize, wanted: Opened) -> bool {
        let page = self.0.get(&pages::page_of(address).start);
        page.is_some_and(|page| page.opened == Opened::ReadWrite || wanted == Opened::Read)
    }

    /// Opens the page of an address. What stands for no user memory, or for some that cannot be
    /// read, holds zeros.
    pub(super) fn open(
        &mut self,
        space: &Reservation,
        behind: &Behind,
        address: usize,
        wanted: Opened,
    ) -> io::Result<()> {
        let page = pages::page_of(address);
        space.open(page.clone(), Opened::ReadWrite)?;
        if let Some((part, real, pid)) = behind.part(page.start)
            && !self.0.contains_key(&page.start)
        {
            let local = part.start as *mut _;
            // SAFETY: a part of a page that was opened above and that is closed by this table only.
            // A failure leaves zeros, which is all that can be had.
            let _ = unsafe { remote::copy(Direction::FromUser, pid, local, real, part.len()) };
        }
        let before = bytes_of(page.start);
        if wanted == Opened::Read {
            space.open(page.clone(), Opened::Read)?;
        }
        let opened = OpenPage {
            opened: wanted,
            before,
        };
        self.0.insert(page.start, opened);
        Ok(())
    }

    /// Closes all pages, and lets the user have what was written to them.
    pub(super) fn close(&mut self, space: &Reservation, behind: &Behind) {
        for (page, open) in std::mem::take(&mut self.0) {
            if open.opened == Opened::ReadWrite {
                write_back(behind, page, &open.before);
            }
            // Fails only for want of mappings, and a page that stays open hides a mistake.
            if let Err(error) = space.close(pages::page_of(page)) {
                eprintln!("nt-host: a page of user memory stays open: {error}");
            }
        }
    }
}

/// The contents of an open page.
fn bytes_of(page: usize) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_SIZE];
    // SAFETY: an open page of the reservation. The driver may write to it meanwhile; then the copy
    // has some of both.
    unsafe { std::ptr::copy_nonoverlapping(page as *const u8, bytes.as_mut_ptr(), PAGE_SIZE) };
    bytes
}

/// Writes the bytes that differ from `before`, and no others: their neighbours may have changed in
/// the user's process.
fn write_back(behind: &Behind, page: usize, before: &[u8]) {
    let Some((part, real, pid)) = behind.part(page) else {
        return;
    };
    let now = bytes_of(page);
    let differs = |offset: usize| now.get(offset) != before.get(offset);
    let mut offset = part.start - page;
    let end = part.end - page;
    while offset < end {
        let from = offset;
        while offset < end && differs(offset) {
            offset += 1;
        }
        if offset > from {
            let there = real.wrapping_add((from - (part.start - page)) as u64);
            let local = now.as_ptr().wrapping_add(from).cast_mut().cast();
            // SAFETY: bytes of `now`, which are only read. A failure means that the memory is
            // gone or was never there; the touch itself has been reported.
            let _ = unsafe { remote::copy(Direction::ToUser, pid, local, there, offset - from) };
        }
        offset += 1;
    }
}
