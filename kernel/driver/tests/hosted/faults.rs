// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every allocation fails once.

use crate::machine::{FLTPORT, MONITOR, Machine};
use crate::service::Service;
use fltport_abi::hello::{Hello, rights};
use nt_host::Unload;

/// What a machine does from boot to end, with every failure taken as it comes. Nothing may be
/// unwrapped here: that is the point.
fn life(machine: &Machine) {
    // An error of an unload is that there is nothing to unload.
    if machine.kernel.load(&FLTPORT).is_ok() {
        let monitor = machine.kernel.load(&MONITOR).is_ok();
        machine.start_process(2000, "/bin/unheard");
        if let Ok(mut service) =
            Service::connect_with(machine, &Hello::new("life", rights::ALL, 0).to_bytes())
        {
            if let Some(provider) = service.try_provider("process-monitor") {
                let _ = service.subscribe(provider, 0b110, 0);
                let list = [8, 0, 0, 0, 4, 0, 0, 0, 2, 0, b'x', 0];
                let _ = service.command(provider, 6, &list);
            }
            machine.start_process(2001, "/bin/heard");
            machine.end_process(2001, 0);
            service.drain_available();
            service.try_ledger();
        }
        if monitor {
            let _ = machine.kernel.unload("process-monitor", Unload::Stop);
        }
        let _ = machine.kernel.unload("fltport", Unload::Stop);
    }
}

#[test]
fn every_allocation_fails_once() {
    let machine = Machine::bare();
    let before = machine.kernel.allocations();
    life(&machine);
    let needed = machine.kernel.allocations() - before;
    assert!(needed > 50, "{needed} allocations");
    for n in 0..needed + 5 {
        machine.kernel.fail_allocation_after(n);
        life(&machine);
        // If this life needed fewer, the next must not fail for it.
        machine.kernel.fail_allocation_after(u64::MAX);
        let left = machine.kernel.pool_usage();
        assert!(
            left.is_empty(),
            "allocation {n} failed, and left behind was {left:?}"
        );
    }
    machine.check();
}
