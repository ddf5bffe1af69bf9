// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command with hostile buffers, past the service library: a handle of its own on the port, and
//! addresses as the scenario wants them.

mod wrong;

#[cfg(unix)]
mod hosted;
#[cfg(windows)]
#[allow(unsafe_code, reason = "calls fltlib.dll with addresses that are none")]
mod windows;

use crate::arguments::Seat;
use crate::orders::{Answer, Pass, Place, Refusal};
use fltport_abi::command::{CommandHeader, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::hello::{Hello, rights};

pub(crate) use wrong::{attempt, names};

#[cfg(unix)]
use hosted::send;
#[cfg(windows)]
use windows::send;

/// On the first page, where no system maps anything.
const NOWHERE: u64 = 0x10;

/// In the kernel's half, and canonical.
const KERNEL: u64 = 0xFFFF_8000_0000_0000;

/// Where one can only read: a constant of this program.
static READ_ONLY: [u8; 8192] = [0; 8192];

/// Sends the common driver's harmless question "who am I", from and to these places.
pub(crate) fn pass(seat: &Seat, pass: &Pass) -> Answer {
    let header = CommandHeader::new(0, own::INFO, 0);
    let mut command = vec![0; CommandHeader::SIZE];
    // It fits: the vector was made for it.
    let _fits = header.write(&mut command);
    let mut result = vec![0_u8; 64 * 1024];
    let hello = Hello::new(&seat.name, rights::ALL, 0).to_bytes();
    let own_length = command.len() as u32;
    let buffers = Buffers {
        input: address(pass.input, command.as_ptr()),
        output: address(pass.output, result.as_mut_ptr()),
        input_length: pass.input_length.unwrap_or(own_length),
        output_length: pass.output_length,
    };
    if pass.input == Place::Good && buffers.input_length > own_length
        || pass.output == Place::Good && buffers.output_length as usize > result.len()
        || pass.output == Place::ReadOnly && buffers.output_length as usize > READ_ONLY.len()
    {
        let text = "a buffer at a good address cannot be longer than it is. Write a smaller length";
        return Answer::Refused(Refusal::new(text));
    }
    send(seat, &hello, buffers)
}

/// Addresses and lengths, as they are passed on.
#[derive(Clone, Copy, Debug)]
struct Buffers {
    input: u64,
    output: u64,
    input_length: u32,
    output_length: u32,
}

fn address(place: Place, good: *const u8) -> u64 {
    match place {
        Place::Good => good.expose_provenance() as u64,
        Place::Null => 0,
        Place::Nowhere => NOWHERE,
        Place::Kernel => KERNEL,
        Place::ReadOnly => READ_ONLY.as_ptr().expose_provenance() as u64,
    }
}
