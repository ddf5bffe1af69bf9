// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages of the special pool are whose, and whose they were a short while ago.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;

use super::About;
use crate::pages::fault_handler::Access;
use crate::pages::{Circle, Opened, PAGE_SIZE, Reservation};
use crate::stack::Stack;

/// Allocations that are gone are remembered up to this many.
const REMEMBERED: usize = 4096;

/// Allocations at one time: each takes two mappings of the host system, which gives a process
/// 65,530 of them by default, and the rest of the process needs some.
const MOST: usize = 16 << 10;

/// One allocation, or what was one.
pub(super) struct Entry {
    /// Its pages and a closed one on each side.
    pub(super) span: Range<usize>,
    /// Whether it is paged out now, with its contents kept.
    out: bool,
    /// The driver's bytes; empty until it is described.
    pub(super) bytes: Range<usize>,
    pub(super) about: Option<About>,
    /// Where it was freed.
    pub(super) freed: Option<Stack>,
    /// Nobody holds it any more.
    given_back: bool,
    /// Closed pages that were opened after a report.
    opened: Vec<Range<usize>>,
    /// What was reported of it.
    pub(super) reported: Vec<(crate::verifier::Rule, Access)>,
}

pub(super) struct Table {
    /// By the beginning of their spans.
    entries: BTreeMap<usize, Entry>,
    gone: VecDeque<usize>,
    circle: Circle,
    /// How many are held.
    held: usize,
    /// Pages of forgotten allocations that were opened after a report.
    strays: Vec<Range<usize>>,
    /// Those that can be paged out and are not.
    resident: BTreeSet<usize>,
}

impl Entry {
    /// Its pages.
    pub(super) fn pages(&self) -> Range<usize> {
        self.span.start + PAGE_SIZE..self.span.end - PAGE_SIZE
    }

    /// Whether an address is in memory that is paged out.
    pub(super) fn is_out(&self, address: usize) -> bool {
        self.out && self.pages().contains(&address)
    }
}

impl Table {
    pub(super) const fn new() -> Table {
        Table {
            entries: BTreeMap::new(),
            gone: VecDeque::new(),
            circle: Circle::new(),
            held: 0,
            strays: Vec::new(),
            resident: BTreeSet::new(),
        }
    }

    /// Takes addresses for an allocation, the closed pages included; where they begin. None when
    /// there are as many as there may be.
    pub(super) fn room(&mut self, space: &Reservation, size: usize) -> Option<usize> {
        if self.held >= MOST {
            return None;
        }
        let mut circle = self.circle;
        let start = circle.take(space, size, |wanted| self.evict(space, wanted))?;
        self.circle = circle;
        let entry = Entry {
            span: start..start + size,
            out: false,
            bytes: start..start,
            about: None,
            freed: None,
            given_back: false,
            opened: Vec::new(),
            reported: Vec::new(),
        };
        self.entries.insert(start, entry);
        self.held += 1;
        Some(start)
    }

    /// Forgets what nobody holds in a range. The end of something that is held, if there is any.
    fn evict(&mut self, space: &Reservation, range: &Range<usize>) -> Option<usize> {
        close_all(space, std::mem::take(&mut self.strays));
        while let Some((start, entry)) = self.entries.range(..range.end).next_back() {
            if entry.span.end <= range.start {
                return None;
            }
            if !entry.given_back {
                return Some(entry.span.end);
            }
            let start = *start;
            self.forget(space, start);
        }
        None
    }

    fn forget(&mut self, space: &Reservation, start: usize) {
        if let Some(entry) = self.entries.remove(&start) {
            close_all(space, entry.opened);
        }
    }

    /// Notes that a closed page stands open after a report.
    pub(super) fn opened(&mut self, page: Range<usize>) {
        match self.at(page.start) {
            Some(entry) => entry.opened.push(page),
            None => self.strays.push(page),
        }
    }

    pub(super) fn describe(&mut self, start: usize, bytes: &Range<usize>, about: About) {
        if let Some(entry) = self.entries.get_mut(&start) {
            entry.bytes = bytes.clone();
            if about.pageable {
                self.resident.insert(start);
            }
            entry.about = Some(about);
        }
    }

    pub(super) fn retire(&mut self, start: usize, stack: Stack) {
        if let Some(entry) = self.entries.get_mut(&start) {
            entry.freed = Some(stack);
            entry.out = false;
            self.resident.remove(&start);
            entry.reported.clear();
        }
    }

    /// Nobody holds the allocation any more; it is remembered for a while.
    pub(super) fn give_back(&mut self, start: usize) {
        let Some(entry) = self.entries.get_mut(&start) else {
            return;
        };
        entry.given_back = true;
        self.held -= 1;
        self.resident.remove(&start);
        self.gone.push_back(start);
        if self.gone.len() > REMEMBERED
            && let Some(oldest) = self.gone.pop_front()
            && self.entries.get(&oldest).is_some_and(|it| it.given_back)
            && let Some(space) = super::space()
        {
            self.forget(space, oldest);
        }
    }

    /// Pages everything out that can be.
    pub(super) fn page_out(&mut self, space: &Reservation) {
        for start in std::mem::take(&mut self.resident) {
            if let Some(entry) = self.entries.get_mut(&start) {
                // Without mappings for it, it stays: a mistake is not found then.
                entry.out = space.hide(entry.pages()).is_ok();
            }
        }
    }

    /// Brings back what is paged out at an address; false if nothing is.
    pub(super) fn page_in(&mut self, space: &Reservation, address: usize) -> io::Result<bool> {
        let Some(entry) = self.at(address).filter(|it| it.is_out(address)) else {
            return Ok(false);
        };
        space.open(entry.pages(), Opened::ReadWrite)?;
        entry.out = false;
        let start = entry.span.start;
        self.resident.insert(start);
        Ok(true)
    }

    /// The allocation that an address belongs to.
    pub(super) fn at(&mut self, address: usize) -> Option<&mut Entry> {
        let (_, entry) = self.entries.range_mut(..=address).next_back()?;
        entry.span.contains(&address).then_some(entry)
    }
}

fn close_all(space: &Reservation, pages: Vec<Range<usize>>) {
    for page in pages {
        // Fails only for want of mappings. What stays open then hides a mistake.
        if let Err(error) = space.close(page) {
            eprintln!("nt-host: a page of pool memory stays open: {error}");
        }
    }
}
