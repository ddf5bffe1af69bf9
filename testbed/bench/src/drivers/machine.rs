// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine: kernel, drivers, and whoever sends.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow, ensure};
use fltport_client::Provider;
use hdrhistogram::Histogram;
use nt_host::transport::{Capabilities, Endpoint, MessageDevice, Server};
use nt_host::{Config, DriverImage, Kernel, Unload, Verifier};

use super::generator::first::{Question, Reply, Tick};
use super::generator::{self, Silent};
use super::{Figures, Page, Stage, Work, wait};
use crate::clock;
use crate::measure::{Delay, PAUSE};
use crate::process::Processors;
use crate::statistics::median;

/// Fits into the smaller of two rings of 1 MiB with its header several times.
const AHEAD: u64 = 8000;
/// Records of a burst, and how many bursts.
const BURST: u64 = 256;
const BURSTS: u64 = 2000;
const SINGLE: u64 = 2000;

const FLTPORT: DriverImage = DriverImage {
    name: fltport_driver::IMAGE_NAME,
    entry: fltport_driver::driver_entry,
    force_integrity: false,
};

pub(super) fn run(
    stage: &Stage,
    page: &Page,
    socket: &Path,
    processors: Processors,
) -> Result<Figures> {
    let folder = socket.parent().context("a socket without a folder")?;
    let mut made = std::fs::DirBuilder::new();
    made.mode(0o700).recursive(true).create(folder)?;
    let verifier = match stage.work {
        Work::Memory => Verifier::Full,
        _ => Verifier::Off,
    };
    let kernel = Kernel::boot(Config {
        verifier,
        ..Config::default()
    });
    let images = [FLTPORT, generator::image(stage.providers)];
    for image in &images {
        let loaded = kernel.load(image);
        loaded.map_err(|status| anyhow!("{}: {status:#010x}", image.name))?;
    }
    let endpoint = Endpoint::bind(socket).map_err(|error| anyhow!("{error}"))?;
    let capabilities = Capabilities {
        holds_process_creation: false,
        sees_every_process: false,
        missing: Vec::new(),
    };
    let log = Arc::new(|line: &str| eprintln!("  {line}"));
    let server = Server::start(endpoint, MessageDevice, &capabilities, log);
    let server = server.map_err(|error| anyhow!("{error}"))?;
    page.up.store(1, Ordering::Release);
    let all = (stage.subscribed + stage.others) as u32;
    wait("services", || page.connected.load(Ordering::Acquire) == all)?;
    let figures = send(stage, page, processors, &kernel);
    page.stop.store(1, Ordering::Release);
    wait("services to go", || page.gone.load(Ordering::Acquire) == 1)?;
    server.stop();
    for image in images.iter().rev() {
        // The figure has been taken; that it can be unloaded is for tests to show.
        let _unloaded = kernel.unload(image.name, Unload::Stop);
    }
    let reports = kernel.shutdown();
    ensure!(reports.is_empty(), "drivers broke rules: {}", reports[0]);
    figures
}

/// In a thread of its own, which is bound to a processor. Nothing of the driver is left to hold when it returns.
fn send(stage: &Stage, page: &Page, processors: Processors, kernel: &Kernel) -> Result<Figures> {
    let provider = generator::provider().context("no provider")?;
    let sender = Sender {
        provider: &provider,
        page,
        stage,
    };
    std::thread::scope(|scope| {
        let works = scope.spawn(|| {
            Processors::pin(&[processors.first])?;
            sender.work(kernel)
        });
        works.join().map_err(|_| anyhow!("it panicked"))?
    })
}

struct Sender<'a> {
    provider: &'a Provider<Silent>,
    page: &'a Page,
    stage: &'a Stage,
}

impl Sender<'_> {
    fn work(&self, kernel: &Kernel) -> Result<Figures> {
        match self.stage.work {
            Work::Flow(milliseconds) => self.flow(milliseconds * 1_000_000),
            Work::Cost => self.cost(),
            Work::Full => self.full(),
            Work::Delay => self.delay(),
            Work::Ask => self.ask(),
            Work::Memory => {
                let all: usize = kernel.pool_usage().iter().map(|usage| usage.bytes).sum();
                Ok(figure(all as f64 / 1024.0))
            }
        }
    }

    #[inline]
    fn tick(&self, number: u64, sent: u64) -> Result<()> {
        let [a, b, c, d, e, f] = [number; 6];
        let told = self.provider.notify(&Tick {
            number,
            sent,
            a,
            b,
            c,
            d,
            e,
            f,
        });
        told.map_err(|error| anyhow!("refused: {error:?}"))
    }

    /// The least that any subscriber has received.
    fn received(&self) -> u64 {
        let received = &self.page.received[..self.stage.subscribed];
        let all = received.iter().map(|it| it.load(Ordering::Acquire));
        all.min().unwrap_or(u64::MAX)
    }

    fn flow(&self, nanoseconds: u64) -> Result<Figures> {
        let mut sent = 0;
        let mut began = (clock::nanoseconds(), 0);
        let warm = began.0 + nanoseconds / 10;
        let mut is_warm = false;
        loop {
            for _ in 0..64 {
                self.tick(sent, 0)?;
                sent += 1;
            }
            while sent - self.received() > AHEAD {
                std::hint::spin_loop();
            }
            let now = clock::nanoseconds();
            if !is_warm && now > warm {
                (is_warm, began) = (true, (now, self.received()));
            }
            if now > warm + nanoseconds {
                let received = self.received() - began.1;
                return Ok(figure(received as f64 * 1000.0 / (now - began.0) as f64));
            }
        }
    }

    fn cost(&self) -> Result<Figures> {
        let mut costs = Vec::new();
        let mut sent = 0;
        for _ in 0..BURSTS {
            let began = clock::nanoseconds();
            for _ in 0..BURST {
                self.tick(sent, 0)?;
                sent += 1;
            }
            costs.push((clock::nanoseconds() - began) as f64 / BURST as f64);
            wait("a burst", || self.received() >= sent)?;
        }
        Ok(figure(median(&costs).unwrap_or(0.0)))
    }

    fn full(&self) -> Result<Figures> {
        // More than the service's batch and the ring hold; it reads none of it.
        (0..40_000).try_for_each(|number| self.tick(number, 0))?;
        let mut costs = Vec::new();
        for _ in 0..BURSTS {
            let began = clock::nanoseconds();
            (0..BURST).try_for_each(|number| self.tick(number, 0))?;
            costs.push((clock::nanoseconds() - began) as f64 / BURST as f64);
        }
        Ok(figure(median(&costs).unwrap_or(0.0)))
    }

    fn delay(&self) -> Result<Figures> {
        for number in 0..SINGLE {
            wait("a record", || self.received() >= number)?;
            clock::spin(PAUSE);
            self.tick(number, clock::nanoseconds())?;
        }
        wait("the last record", || self.received() >= SINGLE)?;
        Ok(Figures::default())
    }

    fn ask(&self) -> Result<Figures> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for number in 0..SINGLE {
            let began = clock::nanoseconds();
            let question = Question { number };
            let answer = self.provider.ask(&question, 10_000, Reply { number: 0 });
            histogram.record(clock::nanoseconds() - began)?;
            let answer = answer.map_err(|error| anyhow!("refused: {error:?}"))?;
            ensure!(answer.reply.number == number, "no answer came");
        }
        Ok(Figures {
            figure: 0.0,
            delay: Some(Delay::of(&histogram)),
        })
    }
}

fn figure(figure: f64) -> Figures {
    Figures {
        figure,
        delay: None,
    }
}
