// SPDX-License-Identifier: MIT OR Apache-2.0

//! The system call bpf(2), as far as it is needed. The numbers are those of linux/bpf.h.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::param::page_size;

use super::program::Instruction;

const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_RINGBUF: u32 = 27;
const MAP_MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// The beginning of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C, align(8))]
#[derive(Default)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The same for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// The same for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// A ring buffer for `len` bytes.
pub(super) fn create_ring(len: usize) -> Result<OwnedFd> {
    create(CreateMap {
        map_type: MAP_TYPE_RINGBUF,
        max_entries: u32::try_from(len)?,
        ..CreateMap::default()
    })
}

/// An array with one element, at least `len` bytes long, that can be mapped.
pub(super) fn create_array(len: usize) -> Result<OwnedFd> {
    create(CreateMap {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: u32::try_from(len.next_multiple_of(page_size()))?,
        max_entries: 1,
        map_flags: MAP_MMAPABLE,
    })
}

fn create(mut request: CreateMap) -> Result<OwnedFd> {
    descriptor(bpf(MAP_CREATE, &mut request))
}

/// Has a program verified and compiled.
///
/// # Errors
/// The kernel refuses it; its verifier says why.
pub(super) fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let mut request = LoadProgram {
        prog_type: PROG_TYPE_SOCKET_FILTER,
        insn_cnt: u32::try_from(program.len())?,
        insns: program.as_ptr().addr() as u64,
        license: c"Dual MIT/GPL".as_ptr().addr() as u64,
        ..LoadProgram::default()
    };
    let refused = match descriptor(bpf(PROG_LOAD, &mut request)) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    // Once more, for the reason.
    let mut log = vec![0u8; 1 << 16];
    request.log_level = 1;
    request.log_size = log.len() as u32;
    request.log_buf = log.as_mut_ptr().addr() as u64;
    if let Ok(loaded) = descriptor(bpf(PROG_LOAD, &mut request)) {
        return Ok(loaded);
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]);
    let last: Vec<&str> = log.lines().rev().take(3).collect();
    Err(refused).context(format!("the verifier: {}", last.join(" | ")))
}

/// Runs a program that many times.
pub(super) fn run(program: &OwnedFd, repeat: u32) -> Result<()> {
    // A packet is asked for, and not looked at.
    let packet = [0u8; 64];
    let mut request = TestRun {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr().addr() as u64,
        repeat,
        ..TestRun::default()
    };
    match bpf(PROG_TEST_RUN, &mut request) {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error().into()),
    }
}

fn descriptor(answer: libc::c_long) -> Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let Ok(number) = i32::try_from(answer) else {
        bail!("the kernel answered {answer}");
    };
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn bpf<T>(command: libc::c_long, request: &mut T) -> libc::c_long {
    let len = size_of::<T>();
    // SAFETY: the request is the beginning of `union bpf_attr` for this command, of the length that
    // is given; the buffers it names are there until the call returns, and as long as it says.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), len) }
}
