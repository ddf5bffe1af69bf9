// SPDX-License-Identifier: MIT OR Apache-2.0

//! A unix socket that keeps messages apart: one send and one receive for each record.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};

pub(crate) struct SeqPacket;

pub(crate) struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

pub(crate) struct Into {
    /// Closed when nothing more comes.
    end: Option<OwnedFd>,
}

pub(crate) struct Out {
    end: OwnedFd,
}

impl Contestant for SeqPacket {
    const ABOUT: About = About {
        name: "seqpacket",
        what: "a unix seqpacket socket; one system call a record on each side",
        idle: &[Idle::Sleeps],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Ends;
    type Sender<const N: usize> = Into;
    type Receiver<const N: usize> = Out;

    fn set_up<const N: usize>(_: &Setting) -> Result<Ends> {
        let flags = SocketFlags::CLOEXEC;
        let (out, into) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .context("cannot make a pair of sockets")?;
        // As much as the machine allows.
        sockopt::set_socket_send_buffer_size(&into, RING).context("cannot enlarge a socket")?;
        Ok(Ends { out, into })
    }

    fn sender<const N: usize>(shared: Ends, _: usize) -> Result<Into> {
        Ok(Into {
            end: Some(shared.into),
        })
    }

    fn receiver<const N: usize>(shared: Ends) -> Result<Out> {
        Ok(Out { end: shared.out })
    }
}

impl<const N: usize> Sender<N> for Into {
    fn send(&mut self, message: Message) -> Result<bool> {
        let end = self.end.as_ref().context("closed already")?;
        let sent = send(end, &message.bytes::<N>(), SendFlags::NOSIGNAL);
        match sent.context("cannot send to a socket")? {
            len if len == N => Ok(true),
            len => bail!("a socket took {len} bytes of {N}"),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.end = None;
        Ok(())
    }
}

impl<const N: usize> Receiver<N> for Out {
    const TAKES_BY_WAITING: bool = true;

    fn drain(&mut self, _: &mut impl Sink<N>) -> Result<u64> {
        bail!("a socket is read by waiting for it")
    }

    fn wait(&mut self, sink: &mut impl Sink<N>, _: Duration) -> Result<Woken> {
        let mut record = [0; N];
        let received = recv(&self.end, &mut record, RecvFlags::empty());
        match received.context("cannot receive from a socket")?.1 {
            0 => Ok(Woken::Closed),
            len if len == N => {
                sink.record(&record);
                Ok(Woken::Called)
            }
            len => bail!("a record of {N} bytes came as {len}"),
        }
    }
}
