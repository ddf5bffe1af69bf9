// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pipe: one write for each record, reads of as much as there is.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};

pub(crate) struct Pipe;

/// How much is read at once.
const PART: usize = 1 << 16;

pub(crate) struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

pub(crate) struct Writer {
    /// Closed when nothing more comes.
    into: Option<OwnedFd>,
}

pub(crate) struct Reader {
    out: OwnedFd,
    buffer: Vec<u8>,
    /// Of a record whose rest is still in the pipe.
    filled: usize,
}

impl Contestant for Pipe {
    const ABOUT: About = About {
        name: "pipe",
        what: "a pipe; one write for each record, read as much as there is",
        idle: &[Idle::Sleeps],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Ends;
    type Sender<const N: usize> = Writer;
    type Receiver<const N: usize> = Reader;

    fn set_up<const N: usize>(_: &Setting) -> Result<Ends> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        fcntl_setpipe_size(&into, RING).context("cannot make a pipe larger")?;
        Ok(Ends { out, into })
    }

    fn sender<const N: usize>(shared: Ends, _: usize) -> Result<Writer> {
        Ok(Writer {
            into: Some(shared.into),
        })
    }

    fn receiver<const N: usize>(shared: Ends) -> Result<Reader> {
        Ok(Reader {
            out: shared.out,
            buffer: vec![0; PART],
            filled: 0,
        })
    }
}

impl<const N: usize> Sender<N> for Writer {
    fn send(&mut self, message: Message) -> Result<bool> {
        let into = self.into.as_ref().context("closed already")?;
        // Up to 4096 bytes are written as a whole.
        match write(into, &message.bytes::<N>()).context("cannot write to a pipe")? {
            len if len == N => Ok(true),
            len => bail!("a pipe took {len} bytes of {N}"),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.into = None;
        Ok(())
    }
}

impl<const N: usize> Receiver<N> for Reader {
    const TAKES_BY_WAITING: bool = true;

    fn drain(&mut self, _: &mut impl Sink<N>) -> Result<u64> {
        bail!("a pipe is read by waiting for it")
    }

    fn wait(&mut self, sink: &mut impl Sink<N>, _: Duration) -> Result<Woken> {
        let room = &mut self.buffer[self.filled..];
        let len = read(&self.out, room).context("cannot read from a pipe")?;
        if len == 0 {
            return Ok(Woken::Closed);
        }
        let filled = self.filled + len;
        let (records, rest) = self.buffer[..filled].as_chunks::<N>();
        records.iter().for_each(|record| sink.record(record));
        self.filled = rest.len();
        self.buffer.copy_within(filled - self.filled..filled, 0);
        Ok(Woken::Called)
    }
}
