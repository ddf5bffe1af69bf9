// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications from system threads.

use crate::job::Progress;
use crate::load::{Load, TAG};
use crate::messages::{Blob, Flood, Tick};
use crate::share::{self, Share};
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_client::Provider;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::PoolBytes;
use fltport_nt::ke::current_irql;
use fltport_nt::{NtError, Result};

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, flood: &Flood) -> Result<u32> {
    let bytes = flood.bytes as usize;
    if bytes > MAX_PAYLOAD {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    share::start(load, flood.threads, flood.count, bytes, send)
}

fn send(share: &Share<usize>, provider: &Provider<Load>) {
    let Ok(mut data) = PoolBytes::zeroed(TAG, share.what) else {
        return;
    };
    for number in 0..share.count {
        if share.is_over(provider) {
            return;
        }
        let told = if data.is_empty() {
            provider.notify(&tick(&share.progress, share.thread, number))
        } else {
            data.fill(number as u8);
            provider.notify(&Blob {
                number,
                job: share.progress.number,
                thread: share.thread,
                data: &data,
            })
        };
        share.progress.offered(told);
    }
}

/// IRQL: any. A tick, sent here and now.
pub(crate) fn tick(progress: &Progress, thread: u32, number: u64) -> Tick {
    Tick {
        number,
        job: progress.number,
        thread,
        irql: current_irql().into(),
        reserved: 0,
    }
}
