// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rings on machines that are not here: what this machine can tell is measured, and the rest is simulated.
//! `cargo run --release -p bench --example scaling`; docs/scaling.md says what came of it.

mod anchors;
mod memory;
mod model;
mod rings;

use anyhow::Result;

use crate::anchors::Anchors;
use crate::model::{Load, Machine, Told, Way};

/// Records of a simulation.
const RECORDS: u64 = 4_000_000;

/// Machines that others have measured: nanoseconds from one processor to another, medians of
/// <https://github.com/nviennot/core-to-core-latency>.
const PUBLISHED: [Machine; 3] = [
    Machine {
        name: "64: 2 sockets of 32 (Xeon 8375C)",
        processors: 64,
        group: 32,
        socket: 32,
        in_group: 51.0,
        in_socket: 51.0,
        across: 108.0,
        fetch: None,
    },
    Machine {
        name: "64: 1 socket, groups of 8 (EPYC 7R13)",
        processors: 64,
        group: 8,
        socket: 64,
        in_group: 23.0,
        in_socket: 107.0,
        across: 197.0,
        fetch: None,
    },
    Machine {
        name: "256: 2 sockets, groups of 8 (EPYC 7R13)",
        processors: 256,
        group: 8,
        socket: 128,
        in_group: 23.0,
        in_socket: 107.0,
        across: 197.0,
        fetch: None,
    },
];

fn main() -> Result<()> {
    let anchors = Anchors::measure()?;
    anchors.print();
    let here = anchors.this_machine();
    let both = |machine: &Machine| {
        let costs = anchors.costs(machine.processors);
        model::run(machine, &costs, Way::AsItIs, Load::Nobody, RECORDS).delivered
    };
    println!(
        "\nTwo producers at once, nobody draining, million a second: measured {:.0}; in the model {:.0} if each number takes \
         the line to the other processor, {:.0} if it takes what it takes those who do nothing else.\n",
        2e3 / anchors.both,
        both(&here),
        both(&anchors.at_best())
    );
    println!("| machine | offered | delivered | lost | notify, mean | 99 % | counter | consumer |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for machine in std::iter::once(&here).chain(&PUBLISHED) {
        for load in [
            Load::Rate(1.0),
            Load::Rate(5.0),
            Load::Rate(10.0),
            Load::Rate(20.0),
            Load::AsFastAsCan,
        ] {
            let costs = anchors.costs(machine.processors);
            let told = model::run(machine, &costs, Way::AsItIs, load, RECORDS);
            row(machine.name, load, &told);
        }
    }
    println!(
        "\n| 256 processors, and | offered | delivered | lost | notify, mean | 99 % | counter | consumer |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let ways = [
        ("one connection", Way::AsItIs),
        ("no word in common", Way::NoCounter),
        ("a consumer that fetches ahead", Way::FetchesAhead),
        ("2 connections", Way::Connections(2)),
        ("4 connections", Way::Connections(4)),
        ("8 connections", Way::Connections(8)),
    ];
    for load in [Load::Rate(20.0), Load::AsFastAsCan] {
        for (name, way) in ways {
            let [.., machine] = &PUBLISHED;
            let costs = anchors.costs(machine.processors);
            row(name, load, &model::run(machine, &costs, way, load, RECORDS));
        }
    }
    handlers(&anchors);
    memory::print();
    Ok(())
}

fn row(name: &str, load: Load, told: &Told) {
    println!(
        "| {name} | {load} | {:.1} | {:.1} % | {:.0} ns | {:.0} ns | {:.0} % | {:.0} % |",
        told.delivered,
        told.lost * 100.0,
        told.mean,
        told.late,
        told.counter * 100.0,
        told.consumer * 100.0
    );
}

/// What a service gets through by itself, if its handler takes so long.
fn handlers(anchors: &Anchors) {
    println!(
        "\n| handler | rings | one thread | one reads, one handles | 2 connections | 4 connections |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for handler in [20.0, 100.0, 500.0] {
        for processors in [64, 256] {
            let machine = PUBLISHED.iter().rfind(|it| it.processors == processors);
            let read = anchors.costs(processors).consume + machine.map_or(0.0, Machine::mean_fetch);
            let millions = |nanoseconds: f64| 1e3 / nanoseconds;
            println!(
                "| {handler:.0} ns | {processors} | {:.1} | {:.1} | {:.1} | {:.1} |",
                millions(read + handler),
                millions(f64::max(read, handler)),
                2.0 * millions(read + handler),
                4.0 * millions(read + handler),
            );
        }
    }
}
