// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool, accounted by tag and by driver, guarded against the usual mistakes.
//!
//! Before and behind every allocation lie guard bytes that are looked at when it is freed. Freed
//! memory is filled and kept for a while, so that a second free and a write after the free are
//! found.

mod block;
mod leaks;
mod quick;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::driver::Driver;
use crate::entry::nt;
use crate::ex::special_pool::{About, PagedPool, SpecialPool};
use crate::irql::{self, APC_LEVEL, DISPATCH_LEVEL};
use crate::kernel::{self, Config, State};
use crate::pages::PAGE_SIZE;
use crate::stack::Stack;
use crate::verifier::attribution;
use crate::verifier::{self, Report, Rule};
use block::Block;

const POOL_FLAG_UNINITIALIZED: u64 = 0x02;
pub(super) const POOL_FLAG_CACHE_ALIGNED: u64 = 0x08;
pub(super) const POOL_FLAG_NON_PAGED: u64 = 0x40;
pub(super) const POOL_FLAG_NON_PAGED_EXECUTE: u64 = 0x80;
pub(super) const POOL_FLAG_PAGED: u64 = 0x100;
/// The flags that must be understood; those in the upper half are optional.
const REQUIRED_FLAGS: u64 = 0x1EB | 0x04 | 0x10;
const POOL_KINDS: u64 = POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED;

const CACHE_LINE: usize = 64;
const GRANULE: usize = 16;
const UNINITIALIZED: u8 = 0xCD;

/// Freed allocations are kept up to this many, and this many bytes.
const QUARANTINE_BLOCKS: usize = 512;
const QUARANTINE_BYTES: usize = 4 << 20;

/// What a driver asks of the pool.
#[derive(Clone, Copy)]
struct AllocationRequest {
    tag: u32,
    size: usize,
    /// The POOL_FLAGS.
    flags: u64,
}

impl AllocationRequest {
    fn alignment(&self) -> usize {
        match self {
            _ if self.size >= PAGE_SIZE => PAGE_SIZE,
            _ if self.flags & POOL_FLAG_CACHE_ALIGNED != 0 => CACHE_LINE,
            _ => GRANULE,
        }
    }
}

struct Allocation {
    block: Block,
    tag: u32,
    paged: bool,
    driver: Option<Arc<Driver>>,
    stack: Stack,
    /// The how-manieth allocation it is.
    number: u64,
}

struct Freed {
    block: Block,
    tag: u32,
    driver: Option<Arc<Driver>>,
    stack: Stack,
}

#[derive(Default)]
struct Tables {
    live: BTreeMap<usize, Allocation>,
    quarantine: VecDeque<Freed>,
    quarantined: usize,
    /// How many allocations there have been.
    allocations: u64,
}

/// The pool of one kernel.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Tables>);

/// Allocations of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagUsage {
    /// The tag as text.
    pub tag: String,
    /// Allocations not freed yet.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// The four characters of a tag, in the order in which tools show them.
#[must_use]
pub fn tag_text(tag: u32) -> String {
    tag.to_le_bytes()
        .iter()
        .map(|byte| {
            if byte.is_ascii_graphic() || *byte == b' ' {
                char::from(*byte)
            } else {
                '.'
            }
        })
        .collect()
}

impl Pool {
    /// Allocates, without looking at the request's sanity.
    fn allocate(&self, config: &Config, request: &AllocationRequest) -> Option<NonNull<u8>> {
        let alignment = request.alignment();
        let fill = if request.flags & POOL_FLAG_UNINITIALIZED != 0 {
            UNINITIALIZED
        } else {
            0
        };
        let paged = request.flags & POOL_FLAG_PAGED != 0;
        let pageable = paged && config.paged_pool == PagedPool::OutAtDispatch;
        let special = match config.special_pool {
            SpecialPool::Off if pageable => SpecialPool::Overruns,
            special => special,
        };
        let block = Block::new(special, request.size, alignment, fill)?;
        let start = block.start();
        let stack = Stack::capture();
        let allocation = Allocation {
            block,
            tag: request.tag,
            paged,
            driver: attribution::responsible_for(&stack),
            stack,
            number: 0,
        };
        allocation.describe(pageable);
        let mut tables = self.0.lock();
        tables.allocations += 1;
        let number = tables.allocations;
        let allocation = Allocation {
            number,
            ..allocation
        };
        tables.live.insert(allocation.block.address(), allocation);
        Some(start)
    }

    /// Frees an allocation; reports what is wrong with it.
    fn free(&self, state: &State, address: usize, tag: u32) {
        let mut tables = self.0.lock();
        let Some(found) = tables.live.get(&address) else {
            let report = tables.unknown(address);
            drop(tables);
            report.file();
            return;
        };
        if tag != 0 && tag != found.tag {
            let report = Report::new(Rule::PoolTagMismatch)
                .expected(format!("tag '{}', as allocated", tag_text(found.tag)))
                .found(format!("tag '{}'", tag_text(tag)))
                .detail("the memory was not freed");
            drop(tables);
            report.file();
            return;
        }
        let Some(allocation) = tables.live.remove(&address) else {
            return;
        };
        drop(tables);
        check_before_free(state, &allocation);
        self.quarantine(allocation);
    }

    fn quarantine(&self, allocation: Allocation) {
        let Allocation {
            block, tag, driver, ..
        } = allocation;
        let stack = Stack::capture();
        block.retire(&stack);
        let freed = Freed {
            block,
            tag,
            driver,
            stack,
        };
        let mut evicted = Vec::new();
        let mut tables = self.0.lock();
        tables.quarantined += freed.block.kept_bytes();
        tables.quarantine.push_back(freed);
        while tables.quarantine.len() > QUARANTINE_BLOCKS || tables.quarantined > QUARANTINE_BYTES {
            let Some(oldest) = tables.quarantine.pop_front() else {
                break;
            };
            tables.quarantined -= oldest.block.kept_bytes();
            evicted.push(oldest);
        }
        drop(tables);
        evicted.iter().for_each(Freed::check);
    }

    /// Looks at all freed memory that is still kept, and lets go of it.
    pub(crate) fn check_freed(&self) {
        let mut tables = self.0.lock();
        let quarantine = std::mem::take(&mut tables.quarantine);
        tables.quarantined = 0;
        drop(tables);
        quarantine.iter().for_each(Freed::check);
    }

    /// Which allocation an address lies in, as a part of a sentence.
    pub(crate) fn place_of(&self, address: usize) -> Option<String> {
        let tables = self.0.lock();
        let (_, allocation) = tables.live.range(..=address).next_back()?;
        let block = &allocation.block;
        block.range().contains(&address).then(|| {
            format!(
                " (offset {} of {} bytes of pool with tag '{}')",
                address - block.address(),
                block.size(),
                tag_text(allocation.tag)
            )
        })
    }

    /// What is allocated now, by tag, largest first.
    pub(crate) fn usage(&self) -> Vec<TagUsage> {
        let mut tags: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        for allocation in self.0.lock().live.values() {
            let (count, bytes) = tags.entry(allocation.tag).or_default();
            *count += 1;
            *bytes += allocation.block.size();
        }
        let mut usage: Vec<TagUsage> = tags
            .into_iter()
            .map(|(tag, (count, bytes))| TagUsage {
                tag: tag_text(tag),
                count,
                bytes,
            })
            .collect();
        usage.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.tag.cmp(&b.tag)));
        usage
    }
}

impl Tables {
    /// A report about an address that is no live allocation.
    fn unknown(&self, address: usize) -> Report {
        let freed = self
            .quarantine
            .iter()
            .rev()
            .find(|freed| freed.block.address() == address);
        match freed {
            Some(freed) => Report::new(Rule::PoolDoubleFree)
                .expected("memory is freed once")
                .found(format!(
                    "{} bytes with tag '{}' at {address:#x} were freed before",
                    freed.block.size(),
                    tag_text(freed.tag)
                ))
                .related("it was freed first here", freed.stack.clone()),
            None => Report::new(Rule::PoolAddressUnknown)
                .expected("an address that ExAllocatePool2 returned")
                .found(format!("{address:#x}")),
        }
    }
}

impl Allocation {
    /// Lets the special pool know whose memory it is.
    fn describe(&self, pageable: bool) {
        self.block.describe(|| About {
            tag: self.tag,
            pageable,
            driver: self.driver.as_ref().map(|it| it.name().to_owned()),
            stack: self.stack.clone(),
        });
    }
}

impl Freed {
    fn check(&self) {
        if let Some(offset) = self.block.written_after_free() {
            Report::new(Rule::PoolWriteAfterFree)
                .driver(self.driver.as_ref().map(|driver| driver.name()))
                .expected("freed memory is left alone")
                .found(format!(
                    "offset {offset} of {} bytes with tag '{}' was written",
                    self.block.size(),
                    tag_text(self.tag)
                ))
                .at("it was freed here", self.stack.clone())
                .file();
        }
    }
}

/// Whether the driver wrote beside its memory.
fn check_guards(allocation: &Allocation) {
    let Allocation {
        block, tag, stack, ..
    } = allocation;
    let found = [
        (Rule::PoolOverrun, block.overrun(), "beyond its end"),
        (Rule::PoolUnderrun, block.underrun(), "in front of it"),
    ];
    for (rule, written, place) in found {
        let Some(written) = written else {
            continue;
        };
        let distance = match rule {
            Rule::PoolOverrun => format!("offset {} was written", block.size() + written),
            _ => format!("{written} bytes in front of it was written"),
        };
        Report::new(rule)
            .expected(format!("writes within {} bytes", block.size()))
            .found(distance)
            .detail(format!(
                "tag '{}'; somebody wrote {place} at an earlier time",
                tag_text(*tag)
            ))
            .related("it was allocated here", stack.clone())
            .file();
    }
}

/// What must hold when memory is freed.
fn check_before_free(state: &State, allocation: &Allocation) {
    if allocation.paged && irql::current() > APC_LEVEL {
        Report::new(Rule::IrqlTooHigh)
            .expected("IRQL <= APC_LEVEL to free paged pool")
            .found(irql::name(irql::current()))
            .file();
    }
    check_guards(allocation);
    let range = allocation.block.range();
    if let Some((lock, holder)) = state.locks.held_within(range.clone()) {
        Report::new(Rule::PoolFreedInUse)
            .expected("nothing in the kernel refers to memory that is freed")
            .found(format!(
                "a {} in it is held by thread {}",
                lock.kind, holder.id
            ))
            .related("the lock was taken here", holder.stack)
            .file();
    }
    let uses = [
        (
            state.dispatcher.has_waits_within(range.clone()),
            "a thread waits for an object in it",
        ),
        (
            state.timers.is_set_within(range.clone()),
            "a timer in it is set, or a DPC in it queued",
        ),
        (
            state.work_items.is_queued_within(range.clone()),
            "a work item in it is queued",
        ),
    ];
    state.locks.forget(range.clone());
    state.dispatcher.disown_mutants(range.clone());
    state.rundowns.forget_within(range.clone());
    state.timers.forget_within(&range);
    let found: Vec<&str> = uses.iter().filter(|it| it.0).map(|it| it.1).collect();
    if !found.is_empty() {
        Report::new(Rule::PoolFreedInUse)
            .expected("nothing in the kernel refers to memory that is freed")
            .found(found.join("; "))
            .file();
    }
    state.work_items.forget_within(range);
}

/// What must hold when memory is asked for; false if the request cannot be served.
fn check_request(request: &AllocationRequest) -> bool {
    let AllocationRequest { tag, size, flags } = *request;
    if tag == 0 {
        Report::new(Rule::PoolTagMissing)
            .expected("a tag of four characters")
            .found("zero")
            .detail("the tag is how tools show whose memory it is")
            .file();
        return false;
    }
    if size == 0 {
        Report::new(Rule::PoolSizeZero)
            .expected("at least one byte")
            .found("zero")
            .file();
        return false;
    }
    let required = flags & 0xFFFF_FFFF;
    if (flags & POOL_KINDS).count_ones() != 1 || required & !REQUIRED_FLAGS != 0 {
        Report::new(Rule::PoolFlagsInvalid)
            .expected("exactly one of POOL_FLAG_NON_PAGED, NON_PAGED_EXECUTE and PAGED")
            .found(format!("{flags:#x}"))
            .file();
        return false;
    }
    if flags & POOL_FLAG_PAGED != 0 && irql::current() > APC_LEVEL {
        Report::new(Rule::IrqlTooHigh)
            .expected("IRQL <= APC_LEVEL to allocate paged pool")
            .found(irql::name(irql::current()))
            .file();
    }
    true
}

/// Allocates as ExAllocatePool2 does, for the hosted kernel's own functions that hand memory to
/// a driver.
pub(crate) fn allocate(flags: u64, size: usize, tag: u32) -> Option<NonNull<u8>> {
    let request = AllocationRequest { tag, size, flags };
    if verifier::is_off() {
        return quick::allocate(&request);
    }
    let state = kernel::state();
    state.pool.allocate(&state.config, &request)
}

/// As ExAllocatePool2, where a driver says what it wants.
#[inline]
pub(super) fn allocate_checked(flags: u64, size: usize, tag: u32) -> Option<NonNull<u8>> {
    let request = AllocationRequest { tag, size, flags };
    if verifier::is_off() {
        return quick::allocate(&request);
    }
    check_request(&request)
        .then(|| allocate(flags, size, tag))
        .flatten()
}

/// Frees memory of the pool; tag zero fits all of it.
///
/// # Safety
/// It was allocated here, which the verifier checks, and nobody uses it any more.
#[inline]
pub(super) unsafe fn free(memory: *mut c_void, tag: u32) {
    if verifier::is_off() {
        // SAFETY: by the function's contract.
        return unsafe { quick::free(memory) };
    }
    let state = kernel::state();
    state.pool.free(&state, memory as usize, tag);
}

/// Memory for `size` bytes of paged pool, zeroed.
pub(crate) fn allocate_paged(size: usize, tag: &[u8; 4]) -> Option<NonNull<u8>> {
    allocate(POOL_FLAG_PAGED, size, u32::from_le_bytes(*tag))
}

nt! {
    /// Allocates memory, zeroed unless POOL_FLAG_UNINITIALIZED is given; null without memory.
    /// Paged pool only at IRQL <= APC_LEVEL.
    fails = null;
    simplified = "memory is the host's: no quota and no limit, and paged pool is paged out only if \
        Config::paged_pool asks for it";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExAllocatePool2(flags: u64, size: usize, tag: u32) -> *mut c_void {
        let memory = allocate_checked(flags, size, tag);
        memory.map_or(std::ptr::null_mut(), |start| start.as_ptr().cast())
    }

    /// Frees memory, whatever its tag is. Paged pool only at IRQL <= APC_LEVEL.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExFreePool(memory: *mut c_void) {
        // SAFETY: the caller passes memory that was allocated here.
        unsafe { free(memory, 0) };
    }

    /// Frees memory. Tag zero fits every allocation. Paged pool only at IRQL <= APC_LEVEL.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExFreePoolWithTag(memory: *mut c_void, tag: u32) {
        // SAFETY: the caller passes memory that was allocated here.
        unsafe { free(memory, tag) };
    }
}
