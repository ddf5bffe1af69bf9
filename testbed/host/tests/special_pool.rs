// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pool memory on pages of its own: mistakes are found at the very instruction.

mod support;

use fltport_nt::bindings::*;
use nt_host::{Config, Kernel, Rule, SpecialPool};
use nt_host::{fltport_copy_from_user, fltport_copy_to_user};
use support::*;

fn boot_with(special_pool: SpecialPool) -> Kernel {
    Kernel::boot(Config {
        special_pool,
        ..Config::default()
    })
}

fn allocate(size: usize) -> *mut u8 {
    // SAFETY: any size may be asked for.
    let memory = unsafe { ExAllocatePool2(NON_PAGED, size, TAG) };
    assert!(!memory.is_null());
    memory.cast()
}

fn free(memory: *mut u8) {
    // SAFETY: the tests free what they allocated, or make a mistake of it.
    unsafe { ExFreePoolWithTag(memory.cast(), TAG) };
}

#[inline(never)]
fn read(memory: *mut u8, offset: isize) -> u8 {
    // SAFETY: the mistake itself, or memory that is allocated.
    unsafe { memory.wrapping_offset(offset).read_volatile() }
}

#[inline(never)]
fn write(memory: *mut u8, offset: isize) {
    // SAFETY: the mistake itself, or memory that is allocated.
    unsafe { memory.wrapping_offset(offset).write_volatile(1) };
}

#[test]
fn good_use_is_silent() {
    for special in [SpecialPool::Overruns, SpecialPool::Underruns] {
        let kernel = boot_with(special);
        for size in [1, 15, 16, 17, 100, 4095, 4096, 4097, 70_000] {
            let memory = allocate(size);
            let alignment = if size >= 4096 { 4096 } else { 16 };
            assert_eq!(memory as usize % alignment, 0, "{size}");
            for offset in 0..size as isize {
                assert_eq!(read(memory, offset), 0, "zeroed");
                write(memory, offset);
            }
            assert_eq!(kernel.pool_usage()[0].bytes, size);
            free(memory);
        }
        kernel.shutdown_clean();
    }
}

#[test]
fn an_overrun_is_found_at_once() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(64);
    write(memory, 63);
    assert!(kernel.reports().is_empty());
    write(memory, 64);
    let reports = kernel.reports();
    assert_eq!(rules(&reports), [Rule::PoolOverrun]);
    let text = reports[0].to_string();
    assert!(reports[0].found.contains("offset 64 of 64 bytes"), "{text}");
    assert!(reports[0].found.contains("'Test' was written"), "{text}");
    assert!(reports[0].stack.to_string().contains("write"), "{text}");
    assert!(text.contains("was allocated"), "{text}");
    free(memory);
    expect(kernel, &[Rule::PoolOverrun]);
}

#[test]
fn a_read_behind_the_end_is_found_too() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(4096);
    read(memory, 4096);
    read(memory, 4097);
    free(memory);
    let reports = kernel.shutdown();
    assert_eq!(rules(&reports), [Rule::PoolOverrun]);
    assert!(reports[0].found.ends_with("was read"), "{}", reports[0]);
}

#[test]
fn an_overrun_within_the_alignment_is_found_at_the_free() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(60);
    write(memory, 60);
    assert!(kernel.reports().is_empty());
    free(memory);
    expect(kernel, &[Rule::PoolOverrun]);
}

#[test]
fn an_underrun_is_found_at_once() {
    let kernel = boot_with(SpecialPool::Underruns);
    let memory = allocate(60);
    write(memory, -1);
    let reports = kernel.reports();
    assert_eq!(rules(&reports), [Rule::PoolUnderrun]);
    assert!(
        reports[0].found.contains("1 bytes in front"),
        "{}",
        reports[0]
    );
    write(memory, 60);
    free(memory);
    expect(kernel, &[Rule::PoolUnderrun, Rule::PoolOverrun]);
}

#[test]
fn an_underrun_within_the_page_is_found_at_the_free() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(60);
    write(memory, -1);
    free(memory);
    expect(kernel, &[Rule::PoolUnderrun]);
}

#[inline(never)]
fn frees_it(memory: *mut u8) -> u8 {
    free(memory);
    // So that this function stays on the stack.
    std::hint::black_box(7)
}

#[test]
fn a_read_after_the_free_is_found_at_once() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(64);
    write(memory, 3);
    assert_eq!(frees_it(memory), 7);
    assert_eq!(read(memory, 3), 0xDD, "and goes on with the pool's fill");
    assert_eq!(read(memory, 4), 0xDD);
    let reports = kernel.shutdown();
    assert_eq!(rules(&reports), [Rule::PoolAccessAfterFree]);
    let text = reports[0].to_string();
    assert!(reports[0].found.contains("offset 3 of 64"), "{text}");
    assert!(text.contains("frees_it"), "{text}");
    assert!(text.contains("was allocated"), "{text}");
    assert!(reports[0].stack.to_string().contains("read"), "{text}");
}

#[test]
fn a_write_after_the_free_is_found_long_after() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(64);
    free(memory);
    for _ in 0..10_000 {
        let other = allocate(64);
        assert_ne!(other, memory, "its address is not used again soon");
        free(other);
    }
    write(memory, 0);
    expect(kernel, &[Rule::PoolAccessAfterFree]);
}

#[test]
fn the_rules_of_the_ordinary_pool_hold() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(64);
    free(memory);
    free(memory);
    let other = allocate(32);
    // SAFETY: allocated, and freed with another tag: the mistake itself.
    unsafe { ExFreePoolWithTag(other.cast(), 1) };
    free(other);
    expect(kernel, &[Rule::PoolDoubleFree, Rule::PoolTagMismatch]);
}

#[test]
fn many_threads_allocate_and_free() {
    let kernel = boot_with(SpecialPool::Underruns);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for size in 1..500 {
                    let memory = allocate(size);
                    write(memory, size as isize - 1);
                    free(memory);
                }
            });
        }
    });
    kernel.shutdown_clean();
}

#[test]
fn what_finds_no_room_comes_from_the_ordinary_pool() {
    let kernel = boot_with(SpecialPool::Overruns);
    let all: Vec<*mut u8> = (0..(16 << 10) + 1).map(|_| allocate(16)).collect();
    all.iter().for_each(|memory| write(*memory, 15));
    let (first, last) = (all[0], all[all.len() - 1]);
    write(last, 16);
    assert!(kernel.reports().is_empty(), "found at the free");
    write(first, 16);
    assert_eq!(rules(&kernel.reports()), [Rule::PoolOverrun]);
    all.into_iter().for_each(free);
    expect(kernel, &[Rule::PoolOverrun, Rule::PoolOverrun]);
}

#[test]
fn memory_freed_long_ago_is_still_closed_and_closes_again() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(64);
    free(memory);
    // More than the quarantine keeps and than the special pool remembers.
    for _ in 0..6000 {
        free(allocate(64));
    }
    assert_eq!(read(memory, 0), 0xDD);
    free(allocate(64));
    assert_eq!(read(memory, 0), 0xDD);
    let reports = kernel.shutdown();
    assert_eq!(rules(&reports), [Rule::PoolAccessAfterFree; 2]);
    assert!(reports[0].found.contains("long ago"), "{}", reports[0]);
}

#[test]
fn a_fault_safe_copy_beyond_the_drivers_memory_is_found() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(64);
    let source = [7_u8; 128];
    let from = source.as_ptr() as usize;
    // SAFETY: the mistake itself: 64 bytes were allocated.
    let status = unsafe { fltport_copy_from_user(memory.cast(), from, 128) };
    assert_eq!(status, STATUS_SUCCESS, "the user's memory is there");
    assert_eq!((read(memory, 0), read(memory, 63)), (7, 7));
    let reports = kernel.reports();
    assert_eq!(rules(&reports), [Rule::PoolOverrun], "{reports:?}");
    let text = reports[0].to_string();
    assert_eq!(reports[0].function, "fltport_copy_from_user", "{text}");
    assert!(reports[0].found.contains("was written"), "{text}");
    free(memory);
    expect(kernel, &[Rule::PoolOverrun]);
}

#[test]
fn a_fault_safe_copy_with_freed_memory_is_found() {
    let kernel = boot_with(SpecialPool::Overruns);
    let mut user = [7_u8; 64];
    let user = std::hint::black_box(user.as_mut_ptr()) as usize;
    for to_user in [false, true] {
        let memory = allocate(64);
        free(memory);
        let status = if to_user {
            // SAFETY: the mistake itself: the memory was freed.
            unsafe { fltport_copy_to_user(user, memory.cast(), 64) }
        } else {
            // SAFETY: as above.
            unsafe { fltport_copy_from_user(memory.cast(), user, 64) }
        };
        assert_eq!(status, STATUS_SUCCESS);
    }
    let reports = kernel.shutdown();
    assert_eq!(rules(&reports), [Rule::PoolAccessAfterFree; 2]);
    assert!(reports[0].found.contains("was written"), "{}", reports[0]);
    assert!(reports[1].found.contains("was read"), "{}", reports[1]);
}

#[test]
fn a_fault_safe_copy_stops_where_the_user_has_nothing() {
    let kernel = boot_with(SpecialPool::Overruns);
    let memory = allocate(200_000);
    let length = 150_000;
    // The end of a mapping of its own, with nothing behind it.
    // SAFETY: a new mapping.
    let user = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            200_704,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(user, libc::MAP_FAILED);
    // SAFETY: within the mapping made above.
    unsafe { user.cast::<u8>().write_bytes(7, 200_704) };
    let hole = user.wrapping_byte_add(200_704 - 4096);
    // SAFETY: a page of that mapping, used by nobody.
    assert_eq!(unsafe { libc::munmap(hole, 4096) }, 0);
    let from = hole as usize - length;
    // SAFETY: enough memory was allocated.
    let whole = unsafe { fltport_copy_from_user(memory.cast(), from, length) };
    assert_eq!(whole, STATUS_SUCCESS);
    assert_eq!((read(memory, 0), read(memory, length as isize - 1)), (7, 7));
    assert_eq!(read(memory, length as isize), 0);
    // SAFETY: as above.
    let beyond = unsafe { fltport_copy_from_user(memory.cast(), from, length + 1) };
    assert_eq!(beyond, STATUS_ACCESS_VIOLATION);
    // SAFETY: as above.
    let back = unsafe { fltport_copy_to_user(from, memory.cast(), length + 1) };
    assert_eq!(back, STATUS_ACCESS_VIOLATION);
    // SAFETY: mapped above.
    unsafe { libc::munmap(user, 200_704 - 4096) };
    free(memory);
    kernel.shutdown_clean();
}
