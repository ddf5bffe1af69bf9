// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an image says of itself in its headers.

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

use super::{Fault, checksum, is_code};

/// Memory integrity protects whole pages. Source: Microsoft's "Implement memory integrity
/// compatible code".
const PAGE: u32 = 0x1000;

pub(super) fn driver(file: &PeFile64<'_>, bytes: &[u8]) -> Vec<Fault> {
    let header = &file.nt_headers().optional_header;
    let flags = header.dll_characteristics.get(LE);
    let alignment = header.section_alignment.get(LE);
    let is_aligned = alignment != 0 && alignment.is_multiple_of(PAGE);
    let mut faults = both(file, pe::IMAGE_SUBSYSTEM_NATIVE);
    faults.extend(checksum_fault(file, bytes));
    faults.extend(chosen([
        (
            !flags.contains(pe::IMAGE_DLLCHARACTERISTICS_GUARD_CF),
            Fault::Unguarded,
        ),
        (!is_aligned, Fault::Alignment(alignment)),
    ]));
    faults
}

pub(super) fn program(file: &PeFile64<'_>, bytes: &[u8]) -> Vec<Fault> {
    let mut faults = both(file, pe::IMAGE_SUBSYSTEM_WINDOWS_CUI);
    // Nobody asks for it in programs, and some linkers leave it out; one that is there says whether
    // the file has changed.
    faults.extend(
        checksum_fault(file, bytes)
            .filter(|fault| !matches!(fault, Fault::Checksum { found: 0, .. })),
    );
    faults
}

fn both(file: &PeFile64<'_>, subsystem: pe::Subsystem) -> Vec<Fault> {
    let headers = file.nt_headers();
    let machine = headers.file_header.machine.get(LE);
    let marks = headers.file_header.characteristics.get(LE);
    let header = &headers.optional_header;
    let found = header.subsystem.get(LE);
    let flags = header.dll_characteristics.get(LE);
    let relocatable = !marks.contains(pe::IMAGE_FILE_RELOCS_STRIPPED)
        && flags.contains(pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE);
    chosen([
        (
            machine != pe::IMAGE_FILE_MACHINE_AMD64,
            Fault::Machine(machine.0),
        ),
        (
            found != subsystem,
            Fault::Subsystem {
                found: found.0,
                wanted: subsystem.0,
            },
        ),
        (marks.contains(pe::IMAGE_FILE_DLL), Fault::Dll),
        (!relocatable, Fault::NotRelocatable),
        (
            !flags.contains(pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA),
            Fault::LowEntropy,
        ),
        (
            !flags.contains(pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT),
            Fault::ExecutableData,
        ),
        (
            !is_code(file, header.address_of_entry_point.get(LE)),
            Fault::NoEntry,
        ),
    ])
}

fn checksum_fault(file: &PeFile64<'_>, bytes: &[u8]) -> Option<Fault> {
    // After the signature and the file header; `parse` has found them there.
    let optional_header = file.dos_header().nt_headers_offset() as usize + 4 + 20;
    let found = file.nt_headers().optional_header.check_sum.get(LE);
    let right = checksum::of(bytes, optional_header);
    (found != right).then_some(Fault::Checksum { found, right })
}

fn chosen<const N: usize>(faults: [(bool, Fault); N]) -> Vec<Fault> {
    faults
        .into_iter()
        .filter_map(|(wrong, fault)| wrong.then_some(fault))
        .collect()
}
