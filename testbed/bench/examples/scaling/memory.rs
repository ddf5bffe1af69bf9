// SPDX-License-Identifier: MIT OR Apache-2.0

//! What rings take.

use fltport_abi::limits::{DEFAULT_RING, DEFAULT_RINGS, MAX_CONNECTIONS, MAX_QUEUES, MIN_RING};
use fltport_ring::{LogEntry, Shape};

const MIB: f64 = 1024.0 * 1024.0;

/// Bytes of a ring, if the service does not say how many.
pub(crate) fn ring(processors: u32) -> u32 {
    (DEFAULT_RINGS / processors).clamp(MIN_RING, DEFAULT_RING)
}

/// Prints it for some numbers of processors.
pub(crate) fn print() {
    println!(
        "\n| processors | a ring | data, mapped | consumer's page(s) | log, pool | connections of {MAX_CONNECTIONS} | all of them |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for processors in [2_u32, 8, 64, 256, 2048] {
        let ring = ring(processors);
        let Some(shape) = Shape::new(processors, ring) else {
            continue;
        };
        let log = shape.rings() * shape.records() * size_of::<LogEntry>();
        let possible = (MAX_QUEUES / (shape.rings() * shape.capacity())).min(MAX_CONNECTIONS);
        let each = shape.data_size() + shape.consumer_size() + log;
        println!(
            "| {processors} | {} KiB | {:.1} MiB | {} KiB | {:.2} MiB | {possible} | {:.0} MiB |",
            ring / 1024,
            shape.data_size() as f64 / MIB,
            shape.consumer_size() / 1024,
            log as f64 / MIB,
            (possible * each) as f64 / MIB,
        );
    }
}
