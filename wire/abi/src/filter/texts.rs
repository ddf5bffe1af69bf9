// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts and bytes held against an operand, step by step.

use super::program::Op;

/// The steps that an evaluation has left.
#[derive(Debug)]
pub(super) struct Steps(pub(super) u32);

impl Steps {
    /// Takes so many; `None` when there are not so many left.
    pub(super) fn take(&mut self, count: usize) -> Option<()> {
        let left = u32::try_from(count)
            .ok()
            .and_then(|n| self.0.checked_sub(n));
        // Without enough for this there is nothing left for anything else.
        self.0 = left.unwrap_or(0);
        left.map(drop)
    }
}

type Unit = [u8; 2];

/// One UTF-16 unit as it is compared.
fn fold(unit: Unit, upcase: Option<&impl Fn(u16) -> u16>) -> u16 {
    let unit = u16::from_le_bytes(unit);
    upcase.map_or(unit, |upcase| upcase(unit))
}

fn same(first: &[Unit], second: &[Unit], upcase: Option<&impl Fn(u16) -> u16>) -> bool {
    let units = first.iter().zip(second);
    first.len() == second.len()
        && units
            .into_iter()
            .all(|(a, b)| a == b || fold(*a, upcase) == fold(*b, upcase))
}

/// Whether `text` is to `operand` as `op` says; `None` when the steps are used up. Both are UTF-16
/// as it lies in a record; an odd last byte is ignored.
pub(super) fn matches(
    op: Op,
    operand: &[u8],
    text: &[u8],
    upcase: Option<&impl Fn(u16) -> u16>,
    steps: &mut Steps,
) -> Option<bool> {
    let (operand, text) = (operand.as_chunks().0, text.as_chunks().0);
    // A part of another length than the operand's is compared with nothing.
    let part = match op {
        Op::Equal => Some(text),
        Op::Prefix => text.get(..operand.len()),
        Op::Suffix => text
            .len()
            .checked_sub(operand.len())
            .and_then(|at| text.get(at..)),
        Op::Contains => return contains(operand, text, upcase, steps),
        Op::Glob => return glob(operand, text, upcase, steps),
        _ => return Some(false),
    };
    match part.filter(|part| part.len() == operand.len()) {
        Some(part) => {
            steps.take(part.len())?;
            Some(same(operand, part, upcase))
        }
        None => Some(false),
    }
}

fn contains(
    operand: &[Unit],
    mut text: &[Unit],
    upcase: Option<&impl Fn(u16) -> u16>,
    steps: &mut Steps,
) -> Option<bool> {
    let Some((first, others)) = operand.split_first() else {
        return Some(true);
    };
    let first = fold(*first, upcase);
    // Where it could begin, one unit after the other; mostly that is all the work.
    while let Some(candidates) = text.len().checked_sub(others.len()).filter(|n| *n > 0) {
        let mut beginnings = text.iter().take(candidates);
        let Some(before) = beginnings.position(|unit| fold(*unit, upcase) == first) else {
            steps.take(candidates)?;
            return Some(false);
        };
        text = text.get(before + 1..)?;
        let fitting = others
            .iter()
            .zip(text)
            .take_while(|(a, b)| a == b || fold(**a, upcase) == fold(**b, upcase))
            .count();
        steps.take(before + 1 + fitting)?;
        if fitting == others.len() {
            return Some(true);
        }
    }
    Some(false)
}

const STAR: Unit = [b'*', 0];
const ANY_ONE: Unit = [b'?', 0];

fn glob(
    mut pattern: &[Unit],
    mut text: &[Unit],
    upcase: Option<&impl Fn(u16) -> u16>,
    steps: &mut Steps,
) -> Option<bool> {
    // Where to go on if what follows the last star does not fit: behind the star, one unit further.
    let mut retry: Option<(&[Unit], &[Unit])> = None;
    loop {
        steps.take(1)?;
        let fits = match (pattern.split_first(), text.split_first()) {
            (Some((&STAR, [])), _) => return Some(true),
            (Some((&STAR, behind)), _) => {
                (pattern, retry) = (behind, Some((behind, text)));
                continue;
            }
            (None, None) => return Some(true),
            // Wherever the last star went on, less text would be left than now.
            (Some(_), None) => return Some(false),
            (None, Some(_)) => false,
            (Some((wanted, behind)), Some((found, rest))) => {
                let fits = *wanted == ANY_ONE
                    || wanted == found
                    || fold(*wanted, upcase) == fold(*found, upcase);
                if fits {
                    (pattern, text) = (behind, rest);
                }
                fits
            }
        };
        if fits {
            continue;
        }
        let Some((behind_star, from)) = retry else {
            return Some(false);
        };
        let Some((_, from)) = from.split_first() else {
            return Some(false);
        };
        (pattern, text, retry) = (behind_star, from, Some((behind_star, from)));
    }
}

/// Whether `bytes` are to `operand` as `op` says; `None` when the steps are used up.
pub(super) fn bytes_match(op: Op, operand: &[u8], bytes: &[u8], steps: &mut Steps) -> Option<bool> {
    let part = match op {
        Op::BytesEqual => Some(bytes),
        _ => bytes.get(..operand.len()),
    };
    match part.filter(|part| part.len() == operand.len()) {
        Some(part) => {
            steps.take(part.len())?;
            Some(part == operand)
        }
        None => Some(false),
    }
}
