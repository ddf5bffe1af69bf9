// SPDX-License-Identifier: MIT OR Apache-2.0

//! iceoryx2, a well-known crate for messages between processes: publish and subscribe in shared
//! memory, loan, write, send. Its subscribers poll; with an event service beside it a consumer can
//! sleep, and is notified for each record, as the crate's own examples do.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::{LoanError, SendError};
use iceoryx2::prelude::*;

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};

pub(crate) struct Iceoryx2;

/// The name that both sides open.
pub(crate) struct Name {
    name: String,
    sleeps: bool,
    producers: usize,
}

pub(crate) struct Producer<const N: usize> {
    publisher: Publisher<ipc::Service, [u8; N], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    wakes: u64,
    _node: Node<ipc::Service>,
}

pub(crate) struct Consumer<const N: usize> {
    subscriber: Subscriber<ipc::Service, [u8; N], ()>,
    listener: Option<Listener<ipc::Service>>,
    _node: Node<ipc::Service>,
}

/// As many records as the ring of others holds.
const fn records(len: usize) -> usize {
    RING / len
}

impl Name {
    fn node(&self) -> Result<Node<ipc::Service>> {
        set_log_level(LogLevel::Error);
        Ok(NodeBuilder::new().create::<ipc::Service>()?)
    }

    fn service<const N: usize>(
        &self,
        node: &Node<ipc::Service>,
    ) -> Result<
        iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8; N], ()>,
    > {
        let name: ServiceName = self.name.as_str().try_into()?;
        let service = node.service_builder(&name).publish_subscribe::<[u8; N]>();
        Ok(service
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(records(N))
            .max_publishers(self.producers)
            .max_subscribers(1)
            .open_or_create()?)
    }
}

impl Contestant for Iceoryx2 {
    const ABOUT: About = About {
        name: "iceoryx2",
        what: "the crate iceoryx2: publish and subscribe, loan, write, send; an event for each record if it sleeps",
        idle: &[Idle::Sleeps, Idle::Lazy],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Name;
    type Sender<const N: usize> = Producer<N>;
    type Receiver<const N: usize> = Consumer<N>;

    fn set_up<const N: usize>(setting: &Setting) -> Result<Name> {
        let now = crate::clock::nanoseconds();
        let name = format!("bench/{}/{now}", std::process::id());
        let sleeps = setting.idle != Idle::Lazy;
        Ok(Name {
            name,
            sleeps,
            producers: setting.producers,
        })
    }

    fn sender<const N: usize>(name: Name, _: usize) -> Result<Producer<N>> {
        let node = name.node()?;
        let publisher = name
            .service::<N>(&node)?
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::DiscardData)
            .create()?;
        let notifier = match name.sleeps {
            true => {
                let name: ServiceName = name.name.as_str().try_into()?;
                let event = node.service_builder(&name).event().open_or_create()?;
                Some(event.notifier_builder().create()?)
            }
            false => None,
        };
        Ok(Producer {
            publisher,
            notifier,
            wakes: 0,
            _node: node,
        })
    }

    fn receiver<const N: usize>(name: Name) -> Result<Consumer<N>> {
        let node = name.node()?;
        let subscriber = name.service::<N>(&node)?.subscriber_builder().create()?;
        let listener = match name.sleeps {
            true => {
                let name: ServiceName = name.name.as_str().try_into()?;
                let event = node.service_builder(&name).event().open_or_create()?;
                Some(event.listener_builder().create()?)
            }
            false => None,
        };
        Ok(Consumer {
            subscriber,
            listener,
            _node: node,
        })
    }
}

impl<const N: usize> Sender<N> for Producer<N> {
    fn send(&mut self, message: Message) -> Result<bool> {
        let sample = match self.publisher.loan_uninit() {
            Ok(sample) => sample,
            Err(LoanError::OutOfMemory) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match sample.write_payload(message.bytes::<N>()).send() {
            Ok(1) => {}
            Ok(_) | Err(SendError::UnableToDeliver) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
            self.wakes += 1;
        }
        Ok(true)
    }

    fn wakes(&self) -> Option<u64> {
        Some(self.wakes)
    }
}

impl<const N: usize> Receiver<N> for Consumer<N> {
    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64> {
        let mut taken = 0;
        while taken < records(N) as u64
            && let Some(sample) = self.subscriber.receive()?
        {
            sink.record(sample.payload());
            taken += 1;
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, patience: Duration) -> Result<Woken> {
        let Some(listener) = &self.listener else {
            bail!("there is no event");
        };
        let began = Instant::now();
        let notified = listener.timed_wait(|_| (), patience)?;
        // It also returns early, and with nothing.
        match notified == 0 && began.elapsed() >= patience {
            true => Ok(Woken::TimedOut),
            false => Ok(Woken::Called),
        }
    }
}
