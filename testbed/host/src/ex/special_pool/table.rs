// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages of the special pool are whose, and whose they were a short while ago.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;

use super::About;
use crate::pages::fault_handler::Access;
use crate::pages::{self, Circle, Opened, PAGE_SIZE, Reservation};
use crate::stack::Stack;

/// Allocations that are gone are remembered up to this many.
const REMEMBERED: usize = 4096;

/// Allocations at one time: each takes two mappings of the host system, which gives a process
/// 65,530 of them by default, and the rest of the process needs some.
const MOST: usize = 16 << 10;

/// What an access to a page finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is open, so there is nothing to say.
    Open,
    /// It is paged out.
    Out,
    /// It is closed, so that whoever touches it is found out.
    Closed,
}

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

    /// Whether it is an allocation no more.
    pub(super) fn is_gone(&self) -> bool {
        self.freed.is_some() || self.given_back
    }

    fn standing(&self, address: usize) -> Standing {
        if self.is_out(address) {
            Standing::Out
        } else if self.pages().contains(&address) && !self.is_gone() {
            Standing::Open
        } else {
            standing_among(&self.opened, address)
        }
    }

    /// Closes its pages for good.
    fn close(&mut self, space: &Reservation) {
        let pages = self.pages();
        self.out = false;
        self.opened.retain(|page| !pages.contains(&page.start));
        close_all(space, vec![pages]);
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

    /// What an access to an address finds.
    pub(super) fn standing(&mut self, address: usize) -> Standing {
        match self.at(address) {
            Some(entry) => entry.standing(address),
            None => standing_among(&self.strays, address),
        }
    }

    /// Opens a closed page after a report, so that the access can be repeated, and fills it. A second
    /// thread that touches it in between sees zeros instead of the fill.
    pub(super) fn open(&mut self, space: &Reservation, address: usize) -> io::Result<()> {
        let page = pages::page_of(address);
        let is_gone = self.at(address).is_none_or(|entry| entry.is_gone());
        space.open(page.clone(), Opened::ReadWrite)?;
        super::write(
            page.clone(),
            if is_gone { super::FREED } else { super::SLACK },
        );
        match self.at(address) {
            Some(entry) => entry.opened.push(page),
            None => self.strays.push(page),
        }
        Ok(())
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

    /// Brings an allocation back, and never pages it out again.
    pub(super) fn keep_in(&mut self, space: &Reservation, start: usize) -> io::Result<()> {
        let pages = self.entries.get(&start).map(Entry::pages);
        let back = pages.map_or(Ok(()), |pages| self.page_in(space, pages.start));
        self.resident.remove(&start);
        back
    }

    /// Closes the pages for good: the memory was freed at `stack`.
    pub(super) fn retire(&mut self, space: &Reservation, start: usize, stack: Stack) {
        if let Some(entry) = self.entries.get_mut(&start) {
            entry.freed = Some(stack);
            entry.close(space);
            self.resident.remove(&start);
            entry.reported.clear();
        }
    }

    /// Nobody holds the allocation any more; it is remembered for a while.
    pub(super) fn give_back(&mut self, space: &Reservation, start: usize) {
        let Some(entry) = self.entries.get_mut(&start) else {
            return;
        };
        if entry.freed.is_none() {
            entry.close(space);
        }
        entry.given_back = true;
        self.held -= 1;
        self.resident.remove(&start);
        self.gone.push_back(start);
        if self.gone.len() > REMEMBERED
            && let Some(oldest) = self.gone.pop_front()
            && self.entries.get(&oldest).is_some_and(|it| it.given_back)
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

    /// Brings back what is paged out at an address, if anything is.
    pub(super) fn page_in(&mut self, space: &Reservation, address: usize) -> io::Result<()> {
        let Some(entry) = self.at(address).filter(|it| it.is_out(address)) else {
            return Ok(());
        };
        space.open(entry.pages(), Opened::ReadWrite)?;
        entry.out = false;
        let start = entry.span.start;
        self.resident.insert(start);
        Ok(())
    }

    /// The allocation that an address belongs to.
    pub(super) fn at(&mut self, address: usize) -> Option<&mut Entry> {
        let (_, entry) = self.entries.range_mut(..=address).next_back()?;
        entry.span.contains(&address).then_some(entry)
    }
}

/// Whether an address is in one of the pages that were opened after a report.
fn standing_among(opened: &[Range<usize>], address: usize) -> Standing {
    if opened.iter().any(|page| page.contains(&address)) {
        Standing::Open
    } else {
        Standing::Closed
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
