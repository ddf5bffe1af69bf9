// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler that is called in the thread that reads, without a queue in between.

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Error;
use crate::event_ref::{EventRef, tell};
use crate::lock::lock;
use crate::reader::{Owner, Served};
use crate::rings::{LONG, Rings};
use crate::supervisor::Shared;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// While it lives, the program's thread reads, and not the connection's own.
struct Serving<'c>(&'c Shared);

impl<'c> Serving<'c> {
    fn begin(shared: &'c Shared) -> Result<Self, Error> {
        if shared.serving.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyServing);
        }
        let serving = Serving(shared);
        serving.with_rings(Rings::wake);
        Ok(serving)
    }

    fn with_rings(&self, tell: impl FnOnce(&Rings)) {
        let current = lock(&self.0.control).current.clone();
        if let Some(rings) = current.as_ref().and_then(|it| it.rings()) {
            tell(rings);
        }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.serving.store(false, Ordering::Release);
        self.with_rings(Rings::yield_to_others);
    }
}

impl Client {
    /// Calls `handler` with all that [`Client::next`] would bring, in the same order, in the calling thread, until it
    /// breaks or no more will come ([`Client::is_over`]); what it broke with. It can be called again, and
    /// goes on where it was.
    ///
    /// This is the fastest way: with rings, notifications are handed to the handler where they were copied to, with no other
    /// thread, queue or allocation in between. What the handler borrows is gone when it returns;
    /// [`RecordRef::to_record`](crate::RecordRef::to_record) keeps one. While it runs nothing else is read, so a slow one
    /// has the driver lose what its rings cannot hold, and delays requests.
    ///
    /// ```no_run
    /// use fltport::{Client, Event, EventRef, Options, process_monitor::ProcessStart};
    /// use std::ops::ControlFlow;
    ///
    /// # fn main() -> Result<(), fltport::Error> {
    /// let client = Client::connect(Options::new("my-service"))?;
    /// client.subscribe("process-monitor", 1, fltport::MessageSet::NONE)?;
    /// let mut starts = 0;
    /// let gap = client.serve(|event| match event {
    ///     EventRef::Notification(record) => {
    ///         starts += usize::from(record.decode::<ProcessStart>().is_ok());
    ///         ControlFlow::Continue(())
    ///     }
    ///     EventRef::Other(Event::Gap(gap)) => ControlFlow::Break(gap),
    ///     _ => ControlFlow::Continue(()),
    /// })?;
    /// println!("{starts} processes were started before {gap:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::AlreadyServing`] if another thread does, or this one already. What ends a connection is an
    /// [event](crate::Event::Disconnected), as always.
    pub fn serve<B>(
        &self,
        mut handler: impl FnMut(EventRef<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, Error> {
        let _serving = Serving::begin(&self.shared)?;
        let queue = &self.shared.queue;
        loop {
            // Requests overtake, and what came before this thread began to serve comes first.
            while queue.has_any() {
                let Some(event) = self.next(Duration::ZERO) else {
                    break;
                };
                if let ControlFlow::Break(with) = tell(event, &mut handler) {
                    return Ok(Some(with));
                }
            }
            if queue.is_over() {
                return Ok(None);
            }
            let flow = match self.to_be_read() {
                // What says that its rings are open came before.
                Some(_) if queue.has_any() => continue,
                Some(connection) => self.serve_rings(&connection, &mut handler),
                None => match self.next(LONG) {
                    Some(event) => tell(event, &mut handler),
                    None => continue,
                },
            };
            if let ControlFlow::Break(with) = flow {
                return Ok(Some(with));
            }
        }
    }

    /// The present connection, if it has rings that may bring something.
    fn to_be_read(&self) -> Option<Arc<Connection>> {
        let current = lock(&self.shared.control).current.clone()?;
        let rings = current.rings()?;
        rings.wait_until_open();
        (!rings.is_finished()).then_some(current)
    }

    /// Serves a batch, or waits for one.
    fn serve_rings<B>(
        &self,
        connection: &Arc<Connection>,
        handler: &mut impl FnMut(EventRef<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(rings) = connection.rings() else {
            return ControlFlow::Continue(());
        };
        let shared = &*self.shared;
        let owner = Owner {
            rings,
            connection,
            shared,
        };
        let mut reader = rings.reader();
        if shared.queue.has_any() {
            // What the connection's own thread has just put there comes before what is read now. It puts nothing more.
            return ControlFlow::Continue(());
        }
        // Before anything is read: what comes before the end is handed on.
        let ended = rings.has_ended();
        let failed = match reader.serve(&owner, ended, handler) {
            Ok(ControlFlow::Break(with)) => return ControlFlow::Break(with),
            Ok(ControlFlow::Continue(Served::Some)) => None,
            Ok(ControlFlow::Continue(Served::Nothing)) if ended => {
                rings.finish();
                None
            }
            Ok(ControlFlow::Continue(Served::Nothing)) => {
                shared.queue.listen(Some(&rings.signal));
                let slept = reader.sleep(&owner, || shared.queue.has_any());
                shared.queue.listen(None);
                slept.err().map(|failure| connection.error(failure))
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            shared.note_end(error);
            connection.shutdown();
            rings.finish();
        }
        ControlFlow::Continue(())
    }
}
