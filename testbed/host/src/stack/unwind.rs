// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walks up the calling thread's stack, quickly: every allocation and every lock keeps its stack.
//!
//! The unwind tables that the compiler leaves in the executable are read by framehop, which
//! remembers what it has found for an address. That takes about a twentieth of the time that the
//! C library's unwinder takes, needs no frame pointers, and works on any stack. Where it does not
//! get on (another processor, a library loaded later), [`backtrace`] does it.

/// One frame: where it goes on, and where its part of the stack begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The return address.
    pub address: usize,
    /// The stack pointer after the return, by which two visits to a frame are recognised.
    pub stack: usize,
}

/// Calls `visit` for each frame of the calling thread, innermost first, until it answers false.
#[inline(never)]
pub(crate) fn walk(mut visit: impl FnMut(Frame) -> bool) {
    #[cfg(target_arch = "x86_64")]
    if tables::walk(&mut visit) {
        return;
    }
    backtrace::trace(|frame| {
        visit(Frame {
            address: frame.ip() as usize,
            stack: frame.sp() as usize,
        })
    });
}

#[cfg(target_arch = "x86_64")]
mod tables {
    use std::ffi::c_void;
    use std::ops::Range;
    use std::sync::LazyLock;

    use framehop::{
        CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Module,
        UnwindRegsNative, Unwinder, UnwinderNative,
    };
    use parking_lot::Mutex;

    use super::Frame;
    use crate::stack::bounds;

    type Bytes = &'static [u8];

    /// The unwind tables of the executable and the libraries loaded at the first call.
    static TABLES: LazyLock<Tables> = LazyLock::new(Tables::read);

    /// Walkers that nobody uses now. A walk takes one, so that two threads do not wait for each
    /// other and a fault during a walk leaves nothing locked.
    static IDLE: Mutex<Vec<Walker>> = Mutex::new(Vec::new());

    struct Tables {
        unwinder: UnwinderNative<Bytes, MayAllocateDuringUnwind>,
        code: Vec<Range<usize>>,
    }

    /// What a walk remembers for later ones.
    #[derive(Default)]
    struct Walker {
        rules: CacheNative<MayAllocateDuringUnwind>,
    }

    /// As [`super::walk`]; false, and nothing was visited, if it cannot be done here.
    pub(super) fn walk(visit: &mut dyn FnMut(Frame) -> bool) -> bool {
        let registers = registers();
        let mut walker = IDLE.lock().pop().unwrap_or_default();
        let walked = walker.walk(registers, visit);
        IDLE.lock().push(walker);
        walked
    }

    /// The registers of the caller.
    #[inline(always)]
    fn registers() -> UnwindRegsNative {
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: reads three registers.
        unsafe {
            std::arch::asm!(
                "lea {}, [rip]",
                "mov {}, rsp",
                "mov {}, rbp",
                out(reg) ip,
                out(reg) sp,
                out(reg) bp,
                options(nomem, nostack, preserves_flags)
            );
        }
        UnwindRegsNative::new(ip, sp, bp)
    }

    impl Walker {
        fn walk(
            &mut self,
            mut registers: UnwindRegsNative,
            visit: &mut dyn FnMut(Frame) -> bool,
        ) -> bool {
            let pointer = registers.sp() as usize;
            // Another stack than the thread's own, such as that of a signal, is seldom walked.
            let stack = bounds::around(pointer).or_else(|| mapping_around(pointer));
            let Some(stack) = stack else {
                return false;
            };
            // Where eight bytes can be read.
            let readable = pointer..stack.end.saturating_sub(7);
            let mut read = |address: u64| {
                let address = address as usize;
                // SAFETY: between the stack pointer and the end of the stack, all of which is
                // mapped for as long as the thread runs on it.
                readable
                    .contains(&address)
                    .then(|| unsafe { (address as *const u64).read_unaligned() })
                    .ok_or(())
            };
            let tables = &*TABLES;
            let mut at = FrameAddress::from_instruction_pointer(registers.ip());
            let mut is_first = true;
            loop {
                let known = tables
                    .code
                    .iter()
                    .any(|code| code.contains(&(at.address() as usize)));
                let next = known
                    .then(|| {
                        let unwinder = &tables.unwinder;
                        unwinder.unwind_frame(at, &mut registers, &mut self.rules, &mut read)
                    })
                    .and_then(Result::ok)
                    .flatten();
                let Some(address) = next else {
                    return !is_first;
                };
                is_first = false;
                let frame = Frame {
                    address: address as usize,
                    stack: registers.sp() as usize,
                };
                let Some(return_address) = FrameAddress::from_return_address(address) else {
                    return true;
                };
                if !visit(frame) {
                    return true;
                }
                at = return_address;
            }
        }
    }

    /// The mapping of this process that contains an address.
    fn mapping_around(address: usize) -> Option<Range<usize>> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        maps.lines().find_map(|line| {
            let (range, _) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            let range = number(from)?..number(to)?;
            range.contains(&address).then_some(range)
        })
    }

    impl Tables {
        fn read() -> Tables {
            let mut tables = Tables {
                unwinder: UnwinderNative::new(),
                code: Vec::new(),
            };
            // SAFETY: `add` expects the pointer to Tables given here, which outlives the call.
            unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut tables).cast()) };
            tables
        }

        /// Adds an object whose program headers are `headers`, loaded at `base`.
        fn add(&mut self, base: u64, headers: &[libc::Elf64_Phdr]) -> Option<()> {
            let range_of = |header: &libc::Elf64_Phdr| {
                let start = base + header.p_vaddr;
                start..start + header.p_memsz
            };
            let of_type = move |kind| headers.iter().filter(move |it| it.p_type == kind);
            let table = of_type(libc::PT_GNU_EH_FRAME).map(range_of).next()?;
            let loaded = || of_type(libc::PT_LOAD).map(range_of);
            let frames_start = frames_of(table.start);
            let frames_end = loaded().find(|it| it.contains(&frames_start))?.end;
            let whole = loaded().map(|it| it.start).min()?..loaded().map(|it| it.end).max()?;
            let sections = ExplicitModuleSectionInfo {
                base_svma: whole.start,
                eh_frame_hdr_svma: Some(table.clone()),
                eh_frame_hdr: Some(bytes(&table)),
                eh_frame_svma: Some(frames_start..frames_end),
                eh_frame: Some(bytes(&(frames_start..frames_end))),
                ..Default::default()
            };
            let start = whole.start;
            self.code.push(whole.start as usize..whole.end as usize);
            let module = Module::new(String::new(), whole, start, sections);
            self.unwinder.add_module(module);
            Some(())
        }
    }

    /// The address of .eh_frame, as .eh_frame_hdr says it: behind four bytes of encodings comes the
    /// distance from here, 32 bits long, which is what every linker writes.
    fn frames_of(header: u64) -> u64 {
        let place = header + 4;
        // SAFETY: the section is loaded, and longer than its fixed part of 12 bytes.
        let distance = unsafe { (place as *const i32).read_unaligned() };
        place.wrapping_add_signed(distance.into())
    }

    fn bytes(range: &Range<u64>) -> Bytes {
        let length = (range.end - range.start) as usize;
        // SAFETY: a part of a loaded object, read-only, as long as the object stays loaded; the
        // executable and what it was linked with stay until the end.
        unsafe { std::slice::from_raw_parts(range.start as *const u8, length) }
    }

    unsafe extern "C" fn add(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        tables: *mut c_void,
    ) -> i32 {
        // SAFETY: the loader passes an object's description.
        let info = unsafe { &*info };
        // SAFETY: what `Tables::read` passed.
        let tables = unsafe { &mut *tables.cast::<Tables>() };
        if !info.dlpi_phdr.is_null() {
            // SAFETY: the loader gives the address and number of the program headers.
            let headers =
                unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
            tables.add(info.dlpi_addr, headers);
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `then` at the end of `depth` frames that the compiler keeps.
    #[inline(never)]
    fn deep(depth: u32, then: &mut dyn FnMut()) {
        if depth == 0 {
            then();
        } else {
            deep(std::hint::black_box(depth - 1), then);
        }
        std::hint::black_box(depth);
    }

    fn slowly() -> Vec<usize> {
        let mut addresses = Vec::new();
        backtrace::trace(|frame| {
            addresses.push(frame.ip() as usize);
            true
        });
        addresses
    }

    fn quickly() -> Vec<Frame> {
        let mut frames = Vec::new();
        walk(|frame| {
            frames.push(frame);
            true
        });
        frames
    }

    #[test]
    fn both_walks_find_the_same_frames() {
        deep(20, &mut || {
            let slow: Vec<usize> = slowly().into_iter().filter(|it| *it != 0).collect();
            let quick: Vec<usize> = quickly().iter().map(|frame| frame.address).collect();
            // They begin in different functions; the frames above the closure are the same.
            let common = slow.iter().rev().zip(quick.iter().rev());
            let same = common.take_while(|(slow, quick)| slow == quick).count();
            assert!(same >= 21, "{same} of {} and {}", slow.len(), quick.len());
        });
    }

    #[test]
    fn a_frame_is_recognised_and_each_lies_above_the_one_that_it_called() {
        deep(5, &mut || {
            let first = quickly();
            let second = quickly();
            assert!(first.is_sorted_by(|inner, outer| inner.stack < outer.stack));
            let same = first.iter().filter(|frame| second.contains(frame)).count();
            // All but the frame of this closure, which has gone on.
            assert!(same >= 6 && same < first.len(), "{same} of {}", first.len());
        });
    }
}
