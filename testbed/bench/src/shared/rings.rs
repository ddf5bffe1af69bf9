// SPDX-License-Identifier: MIT OR Apache-2.0

//! The memory of fltport's rings, as the common driver and a service have it.

use std::ptr::NonNull;

use anyhow::{Context, Result};
use fltport_abi::fixed::Fixed;
use fltport_ring::{Order, Shape, ShapeHeader, Shared as Both};

use super::memory::{Data, Mapping, Shareable, Shared};

// SAFETY: an atomic, and padding that nobody reads; as zeroes it is an order that begins with 0.
unsafe impl Shareable for Order {}

/// What all processes of a connection have. What is made of it is dropped before it.
#[derive(Debug)]
pub(crate) struct RingMemory {
    pub(crate) shape: Shape,
    pub(crate) data: Both,
    pub(crate) consumer: Both,
    /// Where all producers take their numbers.
    pub(crate) order: Shared<Order>,
    _mapped: [Data; 2],
}

impl RingMemory {
    /// So many empty rings of so many bytes.
    pub(crate) fn new(rings: usize, capacity: usize) -> Result<RingMemory> {
        let shape = Shape::new(rings as u32, capacity as u32).context("no shape of rings")?;
        let (data, in_data) = mapped(shape.data_size())?;
        let (consumer, in_consumer) = mapped(shape.consumer_size())?;
        let mut header = [0; ShapeHeader::SIZE];
        shape.header().write(&mut header).context("a header")?;
        // SAFETY: nobody else knows of this memory yet.
        unsafe { data.copy_in(0, &header) };
        let order = Shared::<Order>::new()?;
        // Records are counted from 1.
        order.take(1);
        Ok(RingMemory {
            shape,
            data: in_data,
            consumer: in_consumer,
            order,
            _mapped: [data, consumer],
        })
    }
}

fn mapped(len: usize) -> Result<(Data, Both)> {
    let data = Data::of(Mapping::new(len)?);
    let base = NonNull::new(data.start(len)).context("a mapping at address 0")?;
    // SAFETY: a mapping at a page; it is kept beside what is made of it, and whoever uses that has both.
    let both = unsafe { Both::new(base, len) };
    Ok((data, both))
}
