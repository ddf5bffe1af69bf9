// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hosted kernel with both drivers, and a service.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use compat::contract::{Contract, IMPORT, STUB};
use fltport::{Client, Error, Event, MessageSet, Options};
use fltport_abi::Cause;
use fltport_abi::interface::ProviderStatistics;
use fltport_abi::message::Message;
use fltport_nt::bindings::{KfRaiseIrql, NTSTATUS, STATUS_SUCCESS};
use fltport_nt::linked::{DISPATCH_LEVEL, KeLowerIrql};
use nt_host::transport::{Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{Config, DriverImage, Kernel, Unload};

use crate::messages::{Number, Other, PROVIDER};

pub(crate) const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};
/// Longer nothing takes, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) static SCENES: AtomicU32 = AtomicU32::new(0);

/// A hosted kernel with both drivers, and a service.
pub(crate) struct Scene {
    kernel: Kernel,
    pub(crate) contract: &'static Contract,
    server: Server,
    folder: PathBuf,
    pub(crate) client: Client,
}

impl Scene {
    pub(crate) fn new(contract: &'static Contract) -> Self {
        let kernel = Kernel::boot(Config::default());
        kernel.load(&FLTPORT).expect("the common driver");
        kernel.load(&contract.image).expect("it registers");
        // A kernel that ends does not wait for the next one with its folder.
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let folder = format!("contract-{number}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let endpoint = Endpoint::bind(folder.join("socket")).expect("a socket");
        let log = Arc::new(|line: &str| eprintln!("{line}"));
        let server = Server::start(endpoint, MessageDevice, &Capabilities::default(), log);
        let server = server.expect("it listens");
        let client = Client::connect(Options::new("contract").socket(server.path()));
        Scene {
            kernel,
            contract,
            folder,
            client: client.expect("it is accepted"),
            server,
        }
    }

    pub(crate) fn subscribe(&self, decide: impl Into<MessageSet>) {
        let told = [Number::NUMBER, Other::NUMBER];
        let subscribed = self.client.subscribe(PROVIDER.name, told, decide);
        subscribed.expect("it is there");
    }

    pub(crate) fn next(&self) -> Event {
        self.client.next(SOON).expect("something happens")
    }

    /// The number that comes next, and when it happened.
    pub(crate) fn number(&self) -> (u64, i64) {
        match self.next() {
            Event::Notification(record) => {
                let number: Number = record.decode().expect("a number");
                (number.number, record.time().0)
            }
            other => panic!("no number: {other:?}"),
        }
    }

    pub(crate) fn numbers(&self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.number().0).collect()
    }

    /// What is lost before the number that comes next, in one gap or several; and that number.
    pub(crate) fn losses(&self) -> (BTreeMap<(u16, Option<Cause>), u64>, u64) {
        let mut losses = BTreeMap::new();
        loop {
            match self.next() {
                Event::Gap(gap) => gap.losses.iter().for_each(|loss| {
                    *losses.entry((loss.message, loss.cause)).or_default() += loss.count;
                }),
                Event::Notification(record) => {
                    let number: Number = record.decode().expect("a number");
                    return (losses, number.number);
                }
                other => panic!("no gap: {other:?}"),
            }
        }
    }

    pub(crate) fn statistics(&self, message: u16) -> ProviderStatistics {
        let mut found = ProviderStatistics::EMPTY;
        let status = self.contract.statistics(0, message, &mut found);
        assert_eq!(status, STATUS_SUCCESS);
        found
    }

    pub(crate) fn end(self) {
        self.client.close();
        for name in [self.contract.image.name, FLTPORT.name] {
            let stopped = self.kernel.unload(name, Unload::Stop);
            stopped.expect("it can be stopped");
        }
        self.kernel.shutdown_clean();
        self.server.stop();
        std::fs::remove_dir_all(self.folder).expect("the folder is there");
    }
}

/// Does the same with the stub, and importing.
pub(crate) fn both(scene: impl Fn(&Scene)) {
    for contract in [&STUB, &IMPORT] {
        let it = Scene::new(contract);
        scene(&it);
        it.end();
    }
}

pub(crate) fn at_dispatch_level<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: lowered below.
    let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let result = f();
    // SAFETY: to where it was.
    unsafe { KeLowerIrql(former) };
    result
}

/// The status of a refusal.
pub(crate) fn refused_with(error: &Error) -> NTSTATUS {
    match error.code() {
        fltport::Code::Status(status) => status,
        other => panic!("{error}: {other}"),
    }
}
