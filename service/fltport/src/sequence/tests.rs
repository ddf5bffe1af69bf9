// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use proptest::prelude::*;

fn numbers(steps: &[Step<u64>]) -> Vec<u64> {
    steps
        .iter()
        .filter_map(|s| match s {
            Step::Item(n) => Some(*n),
            _ => None,
        })
        .collect()
}

#[test]
fn in_order_items_pass_at_once() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    r.push(1, 1, 1, &mut out);
    r.push(2, 5, 2, &mut out);
    r.push(6, 6, 6, &mut out);
    r.completed(0, 0b10, now, &mut out);
    assert_eq!(out, [Step::Item(1), Step::Item(2), Step::Item(6)]);
    assert_eq!(r.patience(now), None);
}

#[test]
fn a_hole_stays_open_while_a_get_could_fill_it() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    r.push(2, 2, 2, &mut out);
    r.completed(0, 0b110, now, &mut out);
    assert_eq!(out, []);
    assert_eq!(r.patience(now), Some(PATIENCE));
    r.push(3, 3, 3, &mut out);
    r.completed(1, 0b101, now, &mut out);
    assert_eq!(out, [], "slot 2 may still bring it");
    r.push(1, 1, 1, &mut out);
    r.completed(2, 0b11, now, &mut out);
    assert_eq!(out, [Step::Item(1), Step::Item(2), Step::Item(3)]);
    assert_eq!(r.patience(now), None);
}

#[test]
fn a_hole_is_declared_when_no_get_can_fill_it() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    r.push(3, 3, 3, &mut out);
    r.completed(0, 0b10, now, &mut out);
    // Slot 0 was posted again after the hole showed: it cannot bring what was handed out before.
    r.push(4, 4, 4, &mut out);
    r.completed(1, 0b01, now, &mut out);
    let missing = Step::Missing { first: 1, last: 2 };
    assert_eq!(out, [missing, Step::Item(3), Step::Item(4)]);
}

#[test]
fn a_hole_is_declared_when_nothing_comes() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    r.push(2, 2, 2, &mut out);
    r.completed(0, 0b10, now, &mut out);
    r.judge(0b11, now + PATIENCE - Duration::from_millis(1), &mut out);
    assert_eq!(out, []);
    r.judge(0b11, now + PATIENCE, &mut out);
    assert_eq!(out, [Step::Missing { first: 1, last: 1 }, Step::Item(2)]);
}

#[test]
fn with_a_single_get_a_hole_is_declared_at_once() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    r.push(2, 2, 2, &mut out);
    r.completed(0, 0, now, &mut out);
    assert_eq!(out, [Step::Missing { first: 1, last: 1 }, Step::Item(2)]);
}

#[test]
fn what_was_there_before_is_not_told_twice() {
    let (mut r, mut out) = (Resequencer::new(1), Vec::new());
    r.push(1, 4, 1, &mut out);
    r.push(2, 2, 2, &mut out);
    r.push(9, 8, 9, &mut out);
    r.push(0, 0, 0, &mut out);
    assert_eq!(
        out,
        [
            Step::Item(1),
            Step::Repeated,
            Step::Repeated,
            Step::Repeated
        ]
    );
}

#[test]
fn a_hole_does_not_stay_open_for_more_than_so_many_completions() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    for n in 2..=u64::from(COMPLETIONS) {
        r.push(n, n, n, &mut out);
        r.completed(0, 0b10, now, &mut out);
    }
    assert!(out.is_empty(), "the get in slot 1 may bring it yet");
    for n in 1..=2 + u64::from(COMPLETIONS) {
        r.push(
            n + u64::from(COMPLETIONS),
            n + u64::from(COMPLETIONS),
            n,
            &mut out,
        );
        r.completed(0, 0b10, now, &mut out);
    }
    assert_eq!(out[0], Step::Missing { first: 1, last: 1 });
}

#[test]
fn with_rings_a_hole_waits_for_both_ways_and_only_time_declares_it() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    let late = now + PATIENCE;
    // Number 1 was read from a ring, 3 has come by a frame, and 5 is in a ring.
    r.advance(2, &mut out);
    r.push(3, 3, 3, &mut out);
    assert!(!r.judge_with_rings(Some(5), now, &mut out));
    assert_eq!((r.next(), r.is_holding(), out.len()), (2, true, 0));
    assert_eq!(r.patience(now), Some(PATIENCE));
    // A processor publishes number 2.
    r.advance(3, &mut out);
    assert_eq!(out, [Step::Item(3)]);
    assert!(!r.judge_with_rings(Some(5), late, &mut out), "a new hole");
    assert_eq!(r.next(), 4);
    assert!(r.judge_with_rings(Some(5), late + PATIENCE, &mut out));
    assert_eq!(out[1], Step::Missing { first: 4, last: 4 });
    assert!(!r.judge_with_rings(Some(5), late + PATIENCE, &mut out));
    assert_eq!((r.next(), r.patience(now)), (5, None));
}

#[test]
fn with_rings_no_hole_is_judged_while_nobody_looked() {
    let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
    r.push(2, 2, 2, &mut out);
    assert!(!r.judge_with_rings(None, now, &mut out));
    r.forgive();
    assert!(!r.judge_with_rings(None, now + PATIENCE, &mut out));
    for _ in 0..COMPLETIONS {
        r.note_frame();
    }
    assert!(
        r.judge_with_rings(None, now + PATIENCE, &mut out),
        "enough is held"
    );
    assert_eq!(out, [Step::Missing { first: 1, last: 1 }, Step::Item(2)]);
}

proptest! {
    /// Frames are cut from the stream, handed to gets in order and completed in any order: the
    /// stream comes out as it went in.
    #[test]
    fn any_completion_order_gives_the_stream(
        lengths in prop::collection::vec(1_u64..5, 1..40), picks in prop::collection::vec(0_usize..4, 80)
    ) {
        let total: u64 = lengths.iter().sum();
        let mut next = 1;
        let mut frames: Vec<Vec<u64>> = lengths.iter().map(|n| { let f = (next..next + n).collect(); next += n; f }).collect();
        frames.reverse();
        let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
        let mut slots: [Option<Vec<u64>>; 4] = [const { None }; 4];
        let mut picks = picks.into_iter();
        loop {
            for slot in &mut slots { if slot.is_none() { *slot = frames.pop(); } }
            let full: Vec<usize> = (0..4).filter(|i| slots[*i].is_some()).collect();
            if full.is_empty() { break; }
            let slot = full[picks.next().unwrap_or(0) % full.len()];
            for n in slots[slot].take().unwrap() { r.push(n, n, n, &mut out); }
            r.completed(slot as u32, 0b1111 & !(1 << slot), now, &mut out);
        }
        prop_assert_eq!(numbers(&out), (1..=total).collect::<Vec<_>>());
        prop_assert_eq!(out.len() as u64, total);
    }

    /// With frames lost on the way, every number comes out exactly once: as an item or as missing,
    /// in order.
    #[test]
    fn every_number_is_told_once(lost in prop::collection::vec(any::<bool>(), 1..60), swap in prop::collection::vec(any::<bool>(), 60)) {
        let (mut r, mut out, now) = (Resequencer::new(1), Vec::new(), Instant::now());
        let mut kept: Vec<u64> = lost.iter().zip(1..).filter(|(l, _)| !**l).map(|(_, n)| n).collect();
        for (i, _) in swap.iter().enumerate().filter(|(_, s)| **s) { if i + 1 < kept.len() { kept.swap(i, i + 1); } }
        for (i, n) in kept.iter().enumerate() {
            r.push(*n, *n, *n, &mut out);
            r.completed(i as u32 % 2, 1 << ((i as u32 + 1) % 2), now, &mut out);
        }
        r.judge(0, now + PATIENCE, &mut out);
        let mut next = 1;
        for step in &out {
            match step {
                Step::Item(n) => { prop_assert_eq!(*n, next); next += 1; }
                Step::Missing { first, last } => { prop_assert_eq!(*first, next); prop_assert!(last >= first); next = last + 1; }
                Step::Repeated => {}
            }
        }
        prop_assert_eq!(next, kept.iter().max().map_or(1, |n| n + 1));
    }
}
