// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was left in the pool: one report for each tag, with the place where most of it was made.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Allocation, Pool, check_guards, tag_text};
use crate::driver::Driver;
use crate::stack::Stack;
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

/// How many places beside the largest one a report shows.
const PLACES_SHOWN: usize = 2;

/// What was allocated at one place.
#[derive(Default)]
struct Group {
    count: usize,
    bytes: usize,
    /// The number of the first allocation.
    first: u64,
    stack: Stack,
}

impl Pool {
    /// Reports what `driver` left in the pool, one report for each tag. What leaked may still be
    /// in use: it is never reused, on purpose.
    pub(crate) fn report_leaks(&self, driver: &Arc<Driver>) {
        let left: Vec<Allocation> = {
            let mut tables = self.0.lock();
            let is_left =
                |_: &usize, it: &mut Allocation| attribution::is(it.driver.as_ref(), driver);
            tables.live.extract_if(.., is_left).map(|it| it.1).collect()
        };
        left.iter().for_each(check_guards);
        for (tag, groups) in by_tag_and_place(&left) {
            report(driver, tag, groups);
        }
        left.into_iter().for_each(|it| it.block.leave());
    }
}

fn by_tag_and_place(left: &[Allocation]) -> BTreeMap<u32, Vec<Group>> {
    let mut tags: BTreeMap<u32, BTreeMap<&[usize], Group>> = BTreeMap::new();
    for allocation in left {
        let places = tags.entry(allocation.tag).or_default();
        let group = places
            .entry(allocation.stack.addresses())
            .or_insert_with(|| Group {
                first: allocation.number,
                stack: allocation.stack.clone(),
                ..Group::default()
            });
        group.count += 1;
        group.bytes += allocation.block.size();
        group.first = group.first.min(allocation.number);
    }
    let sorted = |places: BTreeMap<&[usize], Group>| {
        let mut groups: Vec<Group> = places.into_values().collect();
        groups.sort_by_key(|group| (Reverse(group.bytes), group.first));
        groups
    };
    tags.into_iter()
        .map(|(tag, places)| (tag, sorted(places)))
        .collect()
}

/// So many allocations of so many bytes in all, in words.
fn amount(count: usize, bytes: usize) -> String {
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    let (allocations, units) = (plural(count), plural(bytes));
    format!("{count} allocation{allocations}, {bytes} byte{units}")
}

fn report(driver: &Driver, tag: u32, groups: Vec<Group>) {
    let count: usize = groups.iter().map(|group| group.count).sum();
    let bytes: usize = groups.iter().map(|group| group.bytes).sum();
    let places = groups.len();
    let mut report = Report::new(Rule::PoolLeak)
        .driver(Some(driver.name()))
        .function("ExAllocatePool2")
        .expected("all memory is freed")
        .found(format!("{}, tag '{}'", amount(count, bytes), tag_text(tag)));
    let mut groups = groups.into_iter();
    if let Some(largest) = groups.next() {
        if places > 1 {
            report = report.detail(format!(
                "allocated at {places} places; {} at the first one below",
                amount(largest.count, largest.bytes)
            ));
        }
        report = report.at("it was allocated here", largest.stack);
    }
    for group in groups.take(PLACES_SHOWN) {
        let what = format!("{}, made here", amount(group.count, group.bytes));
        report = report.related(what, group.stack);
    }
    report.file();
}
