// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider from its owner's point of view.

use crate::default_reply;
use crate::message::{cause, with_encoded};
use crate::options::Options;
use crate::snapshot::Snapshot;
use fltport_abi::interface::{CommandCaller, ProviderStatistics};
use fltport_abi::limits::MAX_SCHEMA;
use fltport_abi::message::Message;
use fltport_abi::schema;
use fltport_nt::bindings::{STATUS_INTERNAL_ERROR, STATUS_NOT_SUPPORTED};
use fltport_nt::ex::{PoolBytes, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::{NtError, Result};
use fltport_stub::{Routines, Stub};

/// Handles a provider's commands.
pub trait Handler: Send + Sync + 'static {
    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread of the service that sends. It
    /// should be brief: unregistering waits for it. `payload` is a kernel copy that fits the
    /// schema; writes the result to `out` and returns its length. The status of an error reaches
    /// the service.
    fn command(
        &self,
        caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize>;

    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread of the service that subscribes.
    /// Reports the present state: [`Snapshot::add`] for each object and last, holding whatever lock
    /// orders the notifications about them, [`Snapshot::live`]. Unregistering waits for it. The status
    /// of an error reaches the service, which is not subscribed then. By default there are no
    /// snapshots: `STATUS_NOT_SUPPORTED`.
    fn snapshot(&self, _snapshot: &Snapshot<'_>) -> Result<()> {
        Err(NtError(STATUS_NOT_SUPPORTED))
    }
}

/// A registered provider. Dropping it (IRQL: PASSIVE_LEVEL, not from its own handler) unregisters it
/// and waits until the handler does not run.
///
/// So the handler holds no reference to it, as of a [`Global`](fltport_nt::ex::Global): if the driver lets
/// go of the provider meanwhile, that is the last one, and waits for itself. What it has to tell or ask, a
/// thread of the driver's does, as in `examples/hello-rs`.
pub struct Provider<H: Handler> {
    pub(crate) stub: Stub<Handling<H>>,
    pub(crate) options: Options,
}

/// The handler as the stub calls it.
pub(crate) struct Handling<H> {
    handler: H,
    tag: Tag,
}

impl<H: Handler> Routines for Handling<H> {
    fn command(
        &self,
        caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        self.handler.command(caller, message, payload, out)
    }

    fn snapshot(&self, snapshot: &fltport_stub::Snapshot) -> Result<()> {
        let tag = self.tag;
        self.handler.snapshot(&Snapshot { snapshot, tag })
    }
}

impl<H: Handler> Provider<H> {
    /// IRQL: PASSIVE_LEVEL. Registers with the common driver, now or whenever it comes up.
    ///
    /// Errors: `STATUS_OBJECT_NAME_COLLISION` if the common driver is there and has a provider of
    /// this name, `STATUS_INVALID_PARAMETER` if a default reply is not for one of its requests or the
    /// second for one, `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn register(
        driver: DriverObject,
        provider: &schema::Provider,
        handler: H,
        options: Options,
    ) -> Result<Self> {
        let (terms, replies) = (options.terms, options.default_replies);
        let defaults = default_reply::declared(terms.tag, provider, replies)?;
        let schema = encoded_schema(terms.tag, provider)?;
        let tag = terms.tag;
        let stub = Stub::register(driver, schema, terms, defaults, Handling { handler, tag })?;
        Ok(Provider { stub, options })
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers a notification, or keeps it until there is a common driver.
    /// Never blocks.
    ///
    /// Success means that it is accounted for: delivered, queued, or lost with a cause that the
    /// ledger shows. Fails with `STATUS_INVALID_PARAMETER` if the message is not one of this
    /// provider's notifications.
    #[inline]
    pub fn notify<'m, M: Message<'m>>(&self, message: &M) -> Result<()> {
        if self.stub.passes_over(M::NUMBER, message.encoded_len()) {
            return Ok(());
        }
        self.offer(message)
    }

    /// As [`Provider::notify`], to who listens.
    // Not with the few instructions of a notification that nobody hears.
    #[inline(never)]
    fn offer<'m, M: Message<'m>>(&self, message: &M) -> Result<()> {
        let offer = |payload: &[u8]| self.stub.notify(M::NUMBER, M::FIXED as u16, payload);
        match with_encoded(self.options.terms.tag, message, offer) {
            Ok(offered) => offered,
            Err(error) => {
                self.stub.lose(M::NUMBER, cause(error));
                Ok(())
            }
        }
    }

    /// IRQL: any. Whether a message with this number would reach anybody: a load of one word, to be
    /// asked before a message is built. Without a common driver the staging buffer listens. (A
    /// common driver of the first revision has to be called for it, at IRQL <= DISPATCH_LEVEL.)
    pub fn is_listening(&self, message: u16) -> bool {
        self.stub.is_listening(message)
    }

    /// IRQL: <= DISPATCH_LEVEL. What became of this provider's messages with this number, of all for
    /// 0, since it registered with the present common driver.
    ///
    /// Errors: `STATUS_DEVICE_NOT_READY` without a common driver, `STATUS_NOT_SUPPORTED` with one of
    /// the first revision, `STATUS_INVALID_PARAMETER` for a number that is not of a message.
    pub fn statistics(&self, message: u16) -> Result<ProviderStatistics> {
        self.stub.statistics(message)
    }

    /// IRQL: any. The handler.
    pub fn handler(&self) -> &H {
        &self.stub.routines().handler
    }
}

#[inline(never)]
fn encoded_schema(tag: Tag, provider: &schema::Provider) -> Result<PoolBytes> {
    let mut bytes = PoolBytes::zeroed(tag, MAX_SCHEMA)?;
    let length = provider
        .encode(&mut bytes)
        .map_err(|_| NtError(STATUS_INTERNAL_ERROR))?;
    PoolBytes::copy_of(tag, bytes.get(..length).unwrap_or(&[]))
}
