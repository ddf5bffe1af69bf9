// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots.

use std::sync::{Mutex, PoisonError};

use compat::contract::Contract;
use fltport::{Error, Event, Subscription};
use fltport_abi::interface::SnapshotHandle;
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_abi::message::Message;
use fltport_nt::bindings::{
    NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};

use crate::messages::{Number, Other, PROVIDER};
use crate::scene::{Scene, at_dispatch_level, both, refused_with};

type Steps = Box<dyn FnMut(&Contract, SnapshotHandle, u64) -> NTSTATUS + Send>;
static STEPS: Mutex<Option<(&Contract, Steps)>> = Mutex::new(None);

unsafe extern "system" fn report(snapshot: SnapshotHandle, types: u64) -> NTSTATUS {
    let mut steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
    let (contract, steps) = steps.as_mut().expect("what to report");
    steps(contract, snapshot, types)
}

/// Subscribes to numbers, with a snapshot that is reported like this.
fn subscribe_behind(
    scene: &Scene,
    steps: impl FnMut(&Contract, SnapshotHandle, u64) -> NTSTATUS + Send + 'static,
) -> Result<(), Error> {
    let former = STEPS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace((scene.contract, Box::new(steps)));
    drop(former);
    scene.contract.report_with(Some(report));
    let wanted = Subscription::to(PROVIDER.name).observe(Number::NUMBER);
    scene.client.subscribe_with(wanted.snapshot())
}

/// The objects of the snapshot that comes next.
fn objects(scene: &Scene) -> Vec<u64> {
    let mut objects = Vec::new();
    loop {
        match scene.next() {
            Event::Snapshot(record) => {
                objects.push(record.decode::<Number>().expect("a number").number);
            }
            Event::SnapshotEnd { .. } => return objects,
            other => panic!("no object: {other:?}"),
        }
    }
}

#[test]
fn a_snapshot_comes_before_what_happens_and_misuse_does_not_harm_it() {
    both(|scene| {
        let contract = scene.contract;
        let subscribed = subscribe_behind(scene, |it, snapshot, types| {
            assert_eq!(types, 1 << Number::NUMBER);
            let add = |message, number| it.add(snapshot, message, 8, number, 8);
            assert_eq!(add(Number::NUMBER, 11), STATUS_SUCCESS);
            // Not wanted, and passed over.
            assert_eq!(add(Other::NUMBER, 12), STATUS_SUCCESS);
            assert_eq!(it.add_nothing(snapshot), STATUS_INVALID_PARAMETER);
            let raised = at_dispatch_level(|| it.add(snapshot, Number::NUMBER, 8, 13, 8));
            assert_eq!(raised, STATUS_SUCCESS);
            it.notify(Number::NUMBER, 8, 1, 8);
            assert_eq!(it.live(snapshot), STATUS_SUCCESS);
            it.notify(Number::NUMBER, 8, 2, 8);
            assert_eq!(add(Number::NUMBER, 14), STATUS_INVALID_PARAMETER);
            assert_eq!(it.live(snapshot), STATUS_INVALID_PARAMETER);
            STATUS_SUCCESS
        });
        subscribed.expect("it is reported");
        contract.notify(Number::NUMBER, 8, 3, 8);
        assert_eq!(objects(scene), [11, 13]);
        assert_eq!(scene.numbers(2), [2, 3]);
    });
}

#[test]
fn a_snapshot_that_is_not_ended_ends_with_the_routine() {
    both(|scene| {
        let subscribed = subscribe_behind(scene, |it, snapshot, _| {
            it.add(snapshot, Number::NUMBER, 8, 21, 8)
        });
        subscribed.expect("it is reported");
        assert_eq!(objects(scene), [21]);
    });
}

#[test]
fn half_a_snapshot_is_none() {
    both(|scene| {
        let too_large = MAX_PAYLOAD as u32 + 1;
        for (fixed, length) in [(9, 8), (8, too_large)] {
            let refused = subscribe_behind(scene, move |it, snapshot, _| {
                let added = it.add(snapshot, Number::NUMBER, fixed, 31, length);
                assert_eq!(added, STATUS_BUFFER_OVERFLOW);
                // The first error stays.
                let next = it.add(snapshot, Number::NUMBER, 8, 32, 8);
                assert_eq!((next, it.live(snapshot)), (added, added));
                STATUS_SUCCESS
            });
            let refused = refused.expect_err("half a state is none");
            assert_eq!(refused_with(&refused), STATUS_BUFFER_OVERFLOW);
        }
        let refused = subscribe_behind(scene, |it, snapshot, _| {
            loop {
                match it.add(snapshot, Number::NUMBER, 8, 33, MAX_PAYLOAD as u32) {
                    STATUS_SUCCESS => {}
                    status => return status,
                }
            }
        });
        let refused = refused.expect_err("it is too large");
        assert_eq!(refused_with(&refused), STATUS_INSUFFICIENT_RESOURCES);
        let refused = subscribe_behind(scene, |_, _, _| STATUS_UNSUCCESSFUL);
        let refused = refused.expect_err("the routine says no");
        assert_eq!(refused_with(&refused), STATUS_UNSUCCESSFUL);
        assert!(!scene.contract.listening(Number::NUMBER));
    });
}
