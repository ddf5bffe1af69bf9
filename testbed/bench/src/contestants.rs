// SPDX-License-Identifier: MIT OR Apache-2.0

//! All contestants. The peers are made anew from what is publicly known of its kind.

mod bare_ring;
mod bpf;
mod eventfd;
mod fltport_ring;
#[cfg(bench_iceoryx2)]
mod iceoryx2;
mod lock_ring;
mod pipe;
mod rtrb;
mod seqpacket;
mod tuned_ring;
mod wintun_ring;

use anyhow::Result;

use crate::contestant::{About, Contestant};
use crate::measure::{Outcome, Plan, measure};

/// A contestant in the table of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) about: About,
    pub(crate) is_possible: fn() -> Result<()>,
    pub(crate) measure: fn(&Plan, usize) -> Result<Outcome>,
}

impl Entry {
    const fn of<C: Contestant>() -> Entry {
        Entry {
            about: C::ABOUT,
            is_possible: C::is_possible,
            measure: measure::<C>,
        }
    }
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Entry> {
    vec![
        Entry::of::<pipe::Pipe>(),
        Entry::of::<seqpacket::SeqPacket>(),
        Entry::of::<eventfd::EventFd>(),
        #[cfg(bench_iceoryx2)]
        Entry::of::<iceoryx2::Iceoryx2>(),
        Entry::of::<bpf::EachCall>(),
        Entry::of::<bpf::Adaptive>(),
        Entry::of::<bpf::Batched>(),
        Entry::of::<lock_ring::LockRing<false>>(),
        Entry::of::<lock_ring::LockRing<true>>(),
        Entry::of::<wintun_ring::WintunRing>(),
        Entry::of::<fltport_ring::FltportRing>(),
        Entry::of::<rtrb::Rtrb>(),
        Entry::of::<bare_ring::BareRing>(),
        Entry::of::<tuned_ring::TunedRing>(),
    ]
}

/// Peers that this program was built without, with the reason.
pub(crate) fn left_out() -> Vec<(&'static str, &'static str)> {
    if cfg!(bench_iceoryx2) {
        return Vec::new();
    }
    vec![(
        "iceoryx2",
        "not built in; `cargo xtask bench` does, unless it is told --without-iceoryx2",
    )]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_one_contestant() {
        let names: BTreeSet<&str> = all().iter().map(|entry| entry.about.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn threads_are_for_one_producer() {
        for entry in all() {
            assert!(!entry.about.threads || entry.about.producers == 1);
            assert!(!entry.about.idle.is_empty());
        }
    }
}
