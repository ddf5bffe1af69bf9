// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of the processes that run, on the hosted kernel.

use fltport_nt::bindings::STATUS_INVALID_CID;
use fltport_nt::ex::Tag;
use fltport_nt::ps::Process;
use fltport_nt::zw::ProcessList;
use fltport_nt::{NtError, Result};
use nt_host::faults::{FaultPlan, sweep};
use nt_host::{Config, Kernel, ProcessCreated};

const TAG: Tag = Tag::new(b"Test");

fn runs(kernel: &Kernel, pid: u64, image: &str) {
    kernel.process_running(&ProcessCreated {
        pid,
        parent_pid: 1,
        image: Some(image.encode_utf16().collect()),
        uid: Some(1000),
        ..ProcessCreated::default()
    });
}

/// Number, parent, threads and name of all.
fn listed() -> Result<Vec<(u32, u32, u32, String)>> {
    let list = ProcessList::take(TAG)?;
    let all = list.iter();
    Ok(all
        .map(|p| (p.pid, p.parent, p.threads, String::from_utf16_lossy(p.name)))
        .collect())
}

#[test]
fn the_list_has_what_runs_by_number_and_name() {
    let kernel = Kernel::boot(Config::default());
    runs(&kernel, 2000, "/usr/bin/odd");
    runs(&kernel, 2004, r"\Device\HarddiskVolume1\even.exe");
    runs(&kernel, 2008, "");
    runs(&kernel, 2012, "/bin/gone");
    kernel.process_exited(2012, 0);
    let entry = |pid, parent, name: &str| (pid, parent, 1, name.to_owned());
    let wanted = [
        entry(0, 0, ""),
        entry(4, 0, "System"),
        entry(2000, 1, "odd"),
        entry(2004, 1, "even.exe"),
        entry(2008, 1, ""),
    ];
    assert_eq!(listed().unwrap(), wanted);
    let found = Process::find(2000).unwrap();
    let image = found.image().unwrap();
    assert_eq!(String::from_utf16_lossy(image.units()), "/usr/bin/odd");
    let gone = Process::find(2012).map(drop);
    assert_eq!(gone, Err(NtError(STATUS_INVALID_CID)));
    drop((image, found));
    kernel.shutdown_clean();
}

#[test]
fn a_list_that_is_longer_than_expected_is_whole() {
    let kernel = Kernel::boot(Config::default());
    let name = "x".repeat(200);
    for pid in 0..3000 {
        runs(&kernel, 10_000 + 4 * pid, &name);
    }
    let all = listed().unwrap();
    assert_eq!(all.len(), 3002);
    let last = (10_000 + 4 * 2999, 1, 1, name);
    assert_eq!(all.last(), Some(&last));
    kernel.shutdown_clean();
}

#[test]
fn without_memory_there_is_no_list_and_nothing_is_left() {
    let swept = sweep(|config| {
        let kernel = Kernel::boot(config);
        runs(&kernel, 2000, "/bin/x");
        if let Ok(all) = listed() {
            assert_eq!(all.len(), 3);
        }
        drop(Process::find(2000));
        kernel.shutdown_clean();
    });
    assert!(swept.injected().len() >= 3, "{swept}");
    let kernel = Kernel::boot(Config::default());
    kernel.set_faults(FaultPlan::nth(0).of("ZwQuerySystemInformation"));
    assert!(listed().is_err());
    assert!(listed().is_ok());
    kernel.shutdown_clean();
}
