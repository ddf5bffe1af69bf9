// SPDX-License-Identifier: MIT OR Apache-2.0
//! User memory, special pool and paged pool in the deterministic mode, whose threads have small
//! stacks of their own. A program of its own, because the test driver's variables are.

#[path = "user_memory/driver.rs"]
#[allow(dead_code, reason = "the live tests use the rest")]
mod driver;
mod support;

use driver::{Call, Machine};
use fltport_nt::bindings::*;
use nt_host::{Config, Kernel, PagedPool, Rule, SpecialPool, irql, sched, sim};
use std::sync::Arc;

fn touches_and_copies(call: Call) -> NTSTATUS {
    let first = call.peek(0);
    let (status, bytes) = call.fetch(0, 4);
    assert_eq!(status, STATUS_SUCCESS);
    assert_eq!(bytes[0], first);
    call.store(0, &bytes)
}

#[test]
fn touches_are_reported_on_coroutines() {
    let scenario = |_| {
        let machine = Arc::new(Machine::with(touches_and_copies));
        let senders = [1_u8, 2, 3].map(|number| {
            let machine = machine.clone();
            sched::spawn(format!("sender {number}"), move || {
                let mut output = [0; 4];
                assert_eq!(machine.send(&[number; 4], &mut output), STATUS_SUCCESS);
                assert_eq!(output, [number; 4]);
            })
            .unwrap()
        });
        senders.iter().for_each(sched::Thread::join);
        let machine = Arc::into_inner(machine).unwrap();
        let reports = machine.expect(&[Rule::UserMemoryTouched; 3]);
        assert!(reports[0].stack.to_string().contains("touches_and_copies"));
    };
    let first = sim::explore(0..30, scenario).unwrap_or_else(|failure| panic!("{failure}"));
    let again = sim::explore(0..30, scenario).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(first, again, "the same seeds are the same runs");
}

#[test]
fn closed_pool_pages_are_reported_on_coroutines() {
    let scenario = |_| {
        let kernel = Kernel::boot(Config {
            special_pool: SpecialPool::Overruns,
            paged_pool: PagedPool::OutAtDispatch,
            ..Config::default()
        });
        // SAFETY: any size may be asked for.
        let memory = unsafe { ExAllocatePool2(support::PAGED, 64, support::TAG) }.cast::<u8>();
        // SAFETY: raises only.
        let former = unsafe { KfRaiseIrql(irql::DISPATCH_LEVEL) };
        // SAFETY: allocated; the mistake itself.
        let _ = unsafe { memory.read_volatile() };
        // SAFETY: the level from before.
        unsafe { fltport_nt::linked::KeLowerIrql(former) };
        // SAFETY: allocated above.
        unsafe { ExFreePoolWithTag(memory.cast(), support::TAG) };
        // SAFETY: the mistake itself.
        let _ = unsafe { memory.read_volatile() };
        support::expect(
            kernel,
            &[Rule::PagedPoolAtDispatch, Rule::PoolAccessAfterFree],
        );
    };
    sim::explore(0..10, scenario).unwrap_or_else(|failure| panic!("{failure}"));
}
