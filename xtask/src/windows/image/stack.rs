// SPDX-License-Identifier: MIT OR Apache-2.0

//! How much of the stack each function of a driver takes.
//!
//! A kernel stack has 24 KiB on x64, for everything on the way from the system call down, and nobody
//! grows it: who takes too much stops the machine. The compiler writes down what each function
//! takes, for exceptions to be unwound; that is read here, and so it holds for the code as it was
//! optimised and inlined in the end.
//!
//! Source: Microsoft's documentation of x64 exception handling (`RUNTIME_FUNCTION`, `UNWIND_INFO`,
//! the unwind codes). A function that is not in the table takes nothing: it is a leaf.

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

use super::{Expectation, Fault};
use crate::windows::map::Map;

/// Bytes of a `RUNTIME_FUNCTION`: begin, end, unwind information.
const ENTRY: usize = 12;
/// `UNW_FLAG_CHAININFO`: what is said of another part of the function holds here as well.
const CHAINED: u8 = 4;
/// Parts that one chain may have.
const LONGEST_CHAIN: usize = 32;

/// A function and the bytes of stack that it takes, its return address apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where it begins, with the image's preferred base.
    pub(crate) function: u64,
    pub(crate) bytes: u32,
}

/// The frames of an image, in the order of their functions.
///
/// # Errors
/// The table is missing, or not whole.
pub(super) fn frames(file: &PeFile64<'_>) -> Result<Vec<Frame>, Fault> {
    let header = &file.nt_headers().optional_header;
    let base = header.image_base.get(LE);
    let table = file
        .data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION)
        .and_then(|place| {
            bytes_at(file, place.virtual_address.get(LE))?.get(..place.size.get(LE) as usize)
        })
        .ok_or(Fault::Unwind("there is no table of functions"))?;
    let mut frames = Vec::new();
    let mut knows_entry = false;
    for entry in table.chunks_exact(ENTRY) {
        let [begin, end, unwind] = words(entry).ok_or(CUT_OFF)?;
        knows_entry |= (begin..end).contains(&header.address_of_entry_point.get(LE));
        frames.push(Frame {
            function: base + u64::from(begin),
            bytes: taken(file, unwind)?,
        });
    }
    // It calls others, so it is no leaf: without it the table would be another image's.
    match knows_entry {
        true => Ok(frames),
        false => Err(Fault::Unwind(
            "the table of functions lacks the entry point",
        )),
    }
}

/// The functions that take more than they may, by their names if there is a map.
pub(super) fn faults(frames: &[Frame], expectation: &Expectation) -> Vec<Fault> {
    let too_deep = frames
        .iter()
        .filter(|frame| frame.bytes > expectation.frame_limit);
    let fault = |frame: &Frame| Fault::Frame {
        function: name(expectation.map, frame.function),
        bytes: frame.bytes,
        limit: expectation.frame_limit,
    };
    too_deep.map(fault).collect()
}

fn name(map: Option<&Map>, address: u64) -> String {
    let of_map = |map: &Map| Some(map.readable(map.function_of(address)?));
    map.and_then(of_map)
        .unwrap_or_else(|| format!("the function at {address:#x}"))
}

const CUT_OFF: Fault = Fault::Unwind("it is cut off");

/// What a function takes by its unwind information, with all that this is chained to.
fn taken(file: &PeFile64<'_>, unwind: u32) -> Result<u32, Fault> {
    let mut sum = 0_u32;
    let mut next = unwind;
    for _ in 0..LONGEST_CHAIN {
        let information = bytes_at(file, next).ok_or(CUT_OFF)?;
        let [kind, _prolog, count, _frame] = *information.first_chunk().ok_or(CUT_OFF)?;
        let (version, flags) = (kind & 7, kind >> 3);
        if !(1..=2).contains(&version) {
            return Err(Fault::Unwind("its version is not known"));
        }
        // The codes are followed by one that means nothing if their number is odd.
        let codes = information.get(4..4 + 2 * usize::from(count));
        sum = sum.saturating_add(allocated(codes.ok_or(CUT_OFF)?)?);
        if flags & CHAINED == 0 {
            return Ok(sum);
        }
        let chained = information.get(4 + 2 * usize::from(count.next_multiple_of(2))..);
        [_, _, next] = chained.and_then(words).ok_or(CUT_OFF)?;
    }
    Err(Fault::Unwind("a chain has no end"))
}

/// The bytes that unwind codes take off the stack.
fn allocated(codes: &[u8]) -> Result<u32, Fault> {
    let mut sum = 0_u32;
    let mut rest = codes;
    while let [_at, code, behind @ ..] = rest {
        let (operation, detail) = (code & 0xF, u32::from(code >> 4));
        let (bytes, slots) = match (operation, detail) {
            // UWOP_PUSH_NONVOL
            (0, _) => (8, 0),
            // UWOP_ALLOC_LARGE: in units of 8 bytes, or up to 4 GB.
            (1, 0) => (8 * u32::from(word(behind).ok_or(CUT_OFF)?), 1),
            (1, 1) => (long(behind).ok_or(CUT_OFF)?, 2),
            // UWOP_ALLOC_SMALL
            (2, _) => (8 * detail + 8, 0),
            // UWOP_SET_FPREG; UWOP_EPILOG of version 2
            (3 | 6, _) => (0, 0),
            // UWOP_SAVE_NONVOL, UWOP_SAVE_XMM128: into what has been allocated.
            (4 | 8, _) => (0, 1),
            // The same, _FAR
            (5 | 9, _) => (0, 2),
            // UWOP_PUSH_MACHFRAME: without an error code, or with one.
            (10, 0) => (40, 0),
            (10, 1) => (48, 0),
            _ => return Err(Fault::Unwind("it has a code that is not known")),
        };
        sum = sum.saturating_add(bytes);
        rest = behind.get(2 * slots..).ok_or(CUT_OFF)?;
    }
    Ok(sum)
}

fn bytes_at<'data>(file: &PeFile64<'data>, address: u32) -> Option<&'data [u8]> {
    file.section_table().pe_data_at(file.data(), address)
}

fn word(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.first_chunk()?))
}

fn long(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

/// A `RUNTIME_FUNCTION`.
fn words(bytes: &[u8]) -> Option<[u32; 3]> {
    Some([long(bytes)?, long(bytes.get(4..)?)?, long(bytes.get(8..)?)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_counts_what_it_takes() {
        for (codes, bytes) in [
            // push rbx; sub rsp, 32
            (&[5, 0x32, 1, 0x30][..], 40),
            // sub rsp, 0x1000; a frame register
            (&[9, 3, 7, 0x01, 0x00, 0x02], 0x1000),
            // sub rsp, 0x12345678
            (&[7, 0x11, 0x78, 0x56, 0x34, 0x12], 0x1234_5678),
            // Saved registers lie in what was allocated.
            (&[9, 0x34, 4, 0, 8, 0x68, 1, 0, 4, 0xF2], 128),
            (&[9, 0x35, 0, 0, 1, 0, 8, 0x69, 0, 0, 1, 0], 0),
            // An interrupt, and what came with it.
            (&[0, 0x0A], 40),
            (&[0, 0x1A, 0, 0x06], 48),
        ] {
            assert_eq!(allocated(codes), Ok(bytes), "{codes:x?}");
        }
    }

    #[test]
    fn codes_that_are_cut_off_or_unknown_are_faults() {
        assert_eq!(allocated(&[4, 0x01, 1]), Err(CUT_OFF));
        assert_eq!(allocated(&[4, 0x11, 1, 0]), Err(CUT_OFF));
        assert_eq!(allocated(&[4, 0x04]), Err(CUT_OFF));
        assert!(matches!(allocated(&[4, 0x0B]), Err(Fault::Unwind(_))));
        assert!(matches!(allocated(&[4, 0x21]), Err(Fault::Unwind(_))));
    }
}
