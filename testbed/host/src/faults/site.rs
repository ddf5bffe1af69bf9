// SPDX-License-Identifier: MIT OR Apache-2.0
//! From where a driver calls: what tells one call in its sources from another.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::LazyLock;

use crate::stack::unwind;
use crate::thread;

/// So many return addresses tell a call. More would count the same call again for every way to
/// it.
const DEPTH: usize = 16;

/// Where the executable lies, of which the hosted kernel and its drivers are parts.
static EXECUTABLE: LazyLock<Range<usize>> = LazyLock::new(|| {
    let mut range = 0..0;
    // SAFETY: `find_own` expects the pointer to a range given here, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(find_own), (&raw mut range).cast()) };
    range
});

/// Stores the addresses of the object that this function is a part of, and ends the search there.
unsafe extern "C" fn find_own(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    found: *mut c_void,
) -> i32 {
    // SAFETY: the loader passes an object's description.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader gives the address and number of the program headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let loaded = headers.iter().filter(|it| it.p_type == libc::PT_LOAD);
    let ends = loaded.map(|it| {
        let start = info.dlpi_addr as usize + it.p_vaddr as usize;
        (start, start + it.p_memsz as usize)
    });
    let range = ends
        .reduce(|all, it| (all.0.min(it.0), all.1.max(it.1)))
        .map_or(0..0, |(start, end)| start..end);
    let is_own = range.contains(&(find_own as *const () as usize));
    if is_own {
        // SAFETY: what `EXECUTABLE` passed.
        unsafe { found.cast::<Range<usize>>().write(range) };
    }
    i32::from(is_own)
}

/// The function that is called, and the return addresses behind it, the innermost first, down to
/// where the hosted kernel called the driver, if it did.
///
/// Addresses are relative to the executable, and those in libraries do not count, as they lie
/// somewhere else in each process: so a site is the same in every run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) function: &'static str,
    pub(super) frames: Vec<usize>,
}

impl Site {
    /// The site of the call that the calling thread is in.
    #[inline(never)]
    pub(super) fn of(function: &'static str) -> Site {
        let here = std::hint::black_box(0_u8);
        let inner = (&raw const here).addr();
        let outer = thread::with_context(|context| context.driver_entered_at.get());
        let anchor = Site::of as *const () as usize;
        let mut frames = Vec::with_capacity(DEPTH);
        unwind::walk(|frame| {
            if outer != 0 && frame.stack > outer {
                return false;
            }
            if frame.stack > inner && EXECUTABLE.contains(&frame.address) {
                frames.push(frame.address.wrapping_sub(anchor));
            }
            frames.len() < DEPTH
        });
        Site { function, frames }
    }

    /// A number that stands for this site and a seed: the same in every run, and evenly spread.
    pub(super) fn hash(&self, seed: u64) -> u64 {
        let name = self.function.bytes().map(u64::from);
        let frames = self.frames.iter().map(|frame| *frame as u64);
        name.chain(frames)
            .fold(mix(seed), |hash, next| mix(hash ^ next))
    }
}

/// One step of SplitMix64.
pub(super) fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an address lies in a mapping of this test's executable.
    fn is_ours(address: usize) -> bool {
        let executable = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        maps.lines()
            .filter(|line| line.ends_with(executable.to_str().unwrap()))
            .filter_map(|line| line.split(' ').next()?.split_once('-'))
            .any(|(from, to)| (number(from)..number(to)).contains(&address))
    }

    /// The C library, which starts the thread, lies at another distance in each process.
    #[test]
    fn a_site_outside_of_drivers_has_the_executables_frames_only() {
        let site = std::thread::spawn(|| Site::of("a function"))
            .join()
            .unwrap();
        let anchor = Site::of as *const () as usize;
        assert!((2..DEPTH).contains(&site.frames.len()), "{site:?}");
        let mut addresses = site.frames.iter().map(|frame| anchor.wrapping_add(*frame));
        assert!(addresses.all(is_ours), "{site:?}");
    }
}
