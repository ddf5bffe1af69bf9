// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instances: the hosted kernel has one volume, to which every filter that starts may attach.

use std::sync::atomic::Ordering;

use fltmgr::FilterId;

use super::handle;
use super::inside;
use super::table::{FilterRecord, FilterTable};
use crate::abi::{FLT_FILESYSTEM_TYPE, FLT_RELATED_OBJECTS, PFLT_INSTANCE_TEARDOWN_CALLBACK};
use crate::frame;
use crate::status::is_success;

/// FLTFL_INSTANCE_SETUP_AUTOMATIC_ATTACHMENT.
const AUTOMATIC_ATTACHMENT: u32 = 1;
/// FLTFL_INSTANCE_TEARDOWN_FILTER_UNLOAD.
const FILTER_UNLOAD: u32 = 2;
/// FILE_DEVICE_DISK_FILE_SYSTEM.
const DISK_FILE_SYSTEM: u32 = 8;
/// FLT_FSTYPE_NTFS.
const NTFS: FLT_FILESYSTEM_TYPE = 2;

/// Offers the volume to a filter that has just started.
pub(super) fn attach(filters: &FilterTable, id: FilterId) {
    let mut tables = filters.lock();
    let asks = tables.machine.attach(id);
    let record = tables.filters.get(&id).cloned();
    drop(tables);
    let (Ok(asks), Some(record)) = (asks, record) else {
        return;
    };
    let accepted = !asks || call_setup(&record, id);
    record.attached.store(accepted, Ordering::Release);
}

fn call_setup(record: &FilterRecord, id: FilterId) -> bool {
    let Some(setup) = record.instance_setup else {
        return true;
    };
    let objects = related_objects(id);
    let status = inside::instance_setup(id, || {
        frame::call("InstanceSetupCallback", Some(&record.driver), || {
            // SAFETY: the driver registered this routine; the objects live across the call.
            unsafe {
                setup(
                    &raw const objects,
                    AUTOMATIC_ATTACHMENT,
                    DISK_FILE_SYSTEM,
                    NTFS,
                )
            }
        })
    });
    is_success(status)
}

/// Tears down the filter's instance, if it has one.
pub(super) fn detach(record: &FilterRecord, id: FilterId) {
    if record.attached.swap(false, Ordering::AcqRel) {
        call_teardown(
            "InstanceTeardownStartCallback",
            record,
            record.teardown_start,
            id,
        );
        call_teardown(
            "InstanceTeardownCompleteCallback",
            record,
            record.teardown_complete,
            id,
        );
    }
}

fn call_teardown(
    what: &'static str,
    record: &FilterRecord,
    callback: PFLT_INSTANCE_TEARDOWN_CALLBACK,
    id: FilterId,
) {
    let Some(callback) = callback else { return };
    let objects = related_objects(id);
    inside::callback(id, || {
        frame::call(what, Some(&record.driver), || {
            // SAFETY: the driver registered this routine; the objects live across the call.
            unsafe { callback(&raw const objects, FILTER_UNLOAD) };
        });
    });
}

fn related_objects(id: FilterId) -> FLT_RELATED_OBJECTS {
    FLT_RELATED_OBJECTS {
        Size: u16::try_from(size_of::<FLT_RELATED_OBJECTS>()).unwrap_or(u16::MAX),
        Filter: handle::of_filter(id),
        Volume: handle::VOLUME,
        Instance: handle::of_instance(id),
        ..Default::default()
    }
}
