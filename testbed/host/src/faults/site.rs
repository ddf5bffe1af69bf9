// SPDX-License-Identifier: MIT OR Apache-2.0
//! From where a driver calls: what tells one call in its sources from another.

use crate::stack::unwind;
use crate::thread;

/// So many return addresses tell a call. More would count the same call again for every way to
/// it.
const DEPTH: usize = 16;

/// The function that is called, and the return addresses behind it, the innermost first, down to
/// where the hosted kernel called the driver.
///
/// Addresses are relative to the executable, so a site is the same in every run of it.
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
            if frame.stack > inner {
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
