// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that a driver shares with a service, and a service's events, on the hosted kernel.

use fltport_nt::bindings::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER,
    STATUS_PROCESS_IS_TERMINATING,
};
use fltport_nt::ke::{SpinLock, UserEvent};
use fltport_nt::mm::{SharedMemory, UserView};
use fltport_nt::{NtError, Result};
use nt_host::faults::{FaultPlan, sweep};
use nt_host::{Config, Kernel, Process};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(20);

fn boot() -> (Kernel, Arc<Process>) {
    let kernel = Kernel::boot(Config::default());
    let service = kernel.peer(100, 1000);
    (kernel, service)
}

/// The words of some memory that a test knows to be mapped.
struct Words(*mut u32);

impl Words {
    fn of(view: &UserView) -> Words {
        Words(view.address() as *mut u32)
    }

    fn read(&self, index: usize) -> u32 {
        // SAFETY: within the memory, as each test sees to.
        unsafe { self.0.wrapping_add(index).read_volatile() }
    }

    fn write(&self, index: usize, value: u32) {
        // SAFETY: within the memory, which is writable, as each test sees to.
        unsafe { self.0.wrapping_add(index).write_volatile(value) };
    }
}

fn words(memory: &SharedMemory) -> Words {
    Words(memory.base().as_ptr().cast())
}

/// Whether the addresses are mapped in this process, and may be written to: as Linux says.
fn protection(address: u64) -> Option<bool> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let within = (number(start)..number(end)).contains(&address);
        within.then(|| rest.as_bytes()[1] == b'w')
    })
}

#[test]
fn what_the_driver_writes_the_service_reads_and_the_other_way() {
    let (kernel, service) = boot();
    let memory = SharedMemory::new(5000).unwrap();
    assert_eq!((memory.len(), memory.is_empty()), (8192, false));
    let driver = words(&memory);
    assert!((0..2048).all(|index| driver.read(index) == 0));
    let (data, consumer) = service.attach(|| {
        let data = memory.map_into_current_process(false).unwrap();
        (data, memory.map_into_current_process(true).unwrap())
    });
    assert_eq!((data.len(), data.is_empty()), (8192, false));
    let lock = SpinLock::new(());
    let held = lock.lock();
    driver.write(2047, 7);
    drop(held);
    assert_eq!(Words::of(&data).read(2047), 7);
    Words::of(&consumer).write(0, 9);
    assert_eq!(driver.read(0), 9);
    let protections = [&data, &consumer].map(|view| protection(view.address()));
    assert_eq!(protections, [Some(false), Some(true)]);
    // From another thread than it was mapped in.
    let at = data.address();
    thread::scope(|scope| scope.spawn(|| drop(data)).join()).unwrap();
    assert_eq!(protection(at), None);
    drop(consumer);
    drop(memory);
    kernel.shutdown_clean();
}

#[test]
fn a_view_outlives_the_memory_and_a_process_its_views() {
    let (kernel, service) = boot();
    let memory = SharedMemory::new(4096).unwrap();
    let map = || memory.map_into_current_process(true);
    let view = service.attach(map).unwrap();
    words(&memory).write(3, 3);
    drop(memory);
    assert_eq!(Words::of(&view).read(3), 3, "it is the process's memory");
    kernel.process_exited(100, 0);
    drop(view);
    kernel.shutdown_clean();
}

#[test]
fn what_is_left_to_the_process_is_its_own() {
    let (kernel, service) = boot();
    let memory = SharedMemory::new(4096).unwrap();
    let map = || memory.map_into_current_process(false);
    let view = service.attach(map).unwrap();
    let address = view.address();
    words(&memory).write(0, 5);
    view.leave();
    drop(memory);
    assert_eq!(Words(address as *mut u32).read(0), 5);
    assert_eq!(service.views(), [(address, 4096)]);
    assert!(service.unmap_view(address));
    assert!(!service.unmap_view(address));
    assert_eq!(protection(address), None);
    kernel.shutdown_clean();
}

#[test]
fn a_process_that_has_ended_gets_no_view() {
    let (kernel, service) = boot();
    let memory = SharedMemory::new(4096).unwrap();
    kernel.process_exited(100, 0);
    let map = || memory.map_into_current_process(true).map(drop);
    let mapped = service.attach(map);
    assert_eq!(mapped, Err(NtError(STATUS_PROCESS_IS_TERMINATING)));
    drop(memory);
    kernel.shutdown_clean();
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let (kernel, _) = boot();
    for bytes in [0, (1 << 30) + 1, usize::MAX] {
        let made = SharedMemory::new(bytes).map(drop);
        assert_eq!(made, Err(NtError(STATUS_INVALID_PARAMETER)), "{bytes}");
    }
    kernel.shutdown_clean();
}

fn everything(service: &Arc<Process>, handle: u64) -> Result<()> {
    let memory = SharedMemory::new(4096)?;
    service.attach(|| {
        let data = memory.map_into_current_process(false)?;
        let event = UserEvent::from_handle(handle)?;
        words(&memory).write(0, 1);
        assert_eq!(Words::of(&data).read(0), 1);
        event.set();
        Ok(())
    })
}

#[test]
fn whatever_fails_nothing_is_left() {
    let swept = sweep(|config| {
        let kernel = Kernel::boot(config);
        let service = kernel.peer(100, 1000);
        let event = nt_host::UserEvent::new(&service);
        let done = everything(&service, event.handle());
        assert_eq!(event.wait(NOW), done.is_ok());
        drop(event);
        assert_eq!(service.views(), []);
        kernel.shutdown_clean();
    });
    // ZwCreateSection, two references, the view, the list, the lock, the mapping, the process's
    // handle, its view twice.
    assert!(swept.injected().len() >= 8, "{swept}");
    let (kernel, _) = boot();
    for function in [
        "fltport_probe_and_lock_pages",
        "MmMapLockedPagesSpecifyCache",
    ] {
        kernel.set_faults(FaultPlan::nth(0).of(function));
        let made = SharedMemory::new(4096).map(drop);
        assert_eq!(made, Err(NtError(STATUS_INSUFFICIENT_RESOURCES)));
    }
    kernel.shutdown_clean();
}

#[test]
fn an_event_of_the_service_is_set_once_for_each_wait() {
    let (kernel, service) = boot();
    let event = nt_host::UserEvent::new(&service);
    let take = || UserEvent::from_handle(event.handle());
    let signal = service.attach(take).unwrap();
    assert!(!event.wait(NOW));
    signal.set();
    signal.set();
    assert!(event.wait(NOW));
    assert!(!event.wait(NOW), "a wait takes the signal");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| event.wait(LONG));
        let lock = SpinLock::new(());
        let held = lock.lock();
        signal.set();
        drop(held);
        assert!(waiting.join().unwrap());
    });
    drop(event);
    signal.set();
    drop(signal);
    kernel.shutdown_clean();
}

#[test]
fn a_handle_is_good_in_its_own_process_only() {
    let (kernel, service) = boot();
    let other = kernel.peer(200, 1000);
    let event = nt_host::UserEvent::new(&service);
    let handle = event.handle();
    let take = |process: &Arc<Process>, handle| {
        process.attach(|| UserEvent::from_handle(handle).map(drop))
    };
    let invalid = Err(NtError(STATUS_INVALID_HANDLE));
    assert_eq!(take(&service, handle), Ok(()));
    assert_eq!(take(&other, handle), invalid);
    assert_eq!(take(&service, handle + 4), invalid);
    for odd in [0, u64::MAX - 10, 0xFFFF_FFFF_8000_0004, u64::MAX] {
        assert!(take(&service, odd).is_err(), "{odd:#x}");
    }
    drop(event);
    assert_eq!(take(&service, handle), invalid);
    kernel.shutdown_clean();
}
