// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same client for programs that run on tokio. Nothing of it blocks the runtime's threads:
//! events wake the task, and calls that wait for the driver go to the runtime's blocking threads.

use crate::client::Client;
use crate::command::CommandResult;
use crate::error::Error;
use crate::event::Event;
use crate::message_set::MessageSet;
use crate::options::Options;
use crate::request::Request;
use crate::subscription::Subscription;
use fltport_abi::Message;
use std::future::poll_fn;
use std::sync::Arc;

/// [`Client`] for tokio. Await [`AsyncClient::close`] at the end: the drop of the last clone
/// closes, too, but in the thread where it happens.
#[derive(Clone, Debug)]
pub struct AsyncClient(Arc<Client>);

/// Runs what waits for the driver.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // It fails only if the runtime is shutting down, or if `call` panicked.
    let joined = tokio::task::spawn_blocking(call).await;
    joined.unwrap_or(Err(Error::Closed))
}

impl AsyncClient {
    /// Connects. See [`Client::connect`].
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(options: Options) -> Result<AsyncClient, Error> {
        let client = blocking(|| Client::connect(options)).await?;
        Ok(AsyncClient(Arc::new(client)))
    }

    /// The next event; `None` when no more will come. Dropping the future loses nothing. One task
    /// at a time: a second one that waits takes the first one's place.
    pub async fn next(&self) -> Option<Event> {
        if let Some(sequence) = self.0.due() {
            let client = self.0.clone();
            let acknowledge = move || {
                client.acknowledge_taken(sequence);
                Ok(())
            };
            // What fails is due again.
            let _told = blocking(acknowledge).await;
        }
        let event = poll_fn(|context| self.0.shared.queue.poll(context)).await;
        if let Some(event) = &event {
            self.0.taken(event);
        }
        event
    }

    /// See [`Client::subscribe`].
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe(
        &self,
        provider: &str,
        observe: impl Into<MessageSet>,
        decide: impl Into<MessageSet>,
    ) -> Result<(), Error> {
        let (observe, decide) = (observe.into(), decide.into());
        let (client, provider) = (self.0.clone(), provider.to_owned());
        blocking(move || client.subscribe(&provider, observe, decide)).await
    }

    /// See [`Client::subscribe_with`].
    ///
    /// # Errors
    /// As [`Client::subscribe_with`].
    pub async fn subscribe_with(&self, subscription: Subscription) -> Result<(), Error> {
        let client = self.0.clone();
        blocking(move || client.subscribe_with(subscription)).await
    }

    /// See [`Client::command`]. If the future is dropped the command is carried out all the same.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn command<'m, C: Message<'m>>(
        &self,
        provider: &str,
        command: &C,
    ) -> Result<CommandResult, Error> {
        let mut payload = vec![0; command.encoded_len()];
        let length = command.encode(&mut payload)?;
        payload.truncate(length);
        let (client, provider) = (self.0.clone(), provider.to_owned());
        blocking(move || client.command_bytes(&provider, C::NUMBER, &payload)).await
    }

    /// Any other call of the blocking client, without blocking the runtime: `client.with(|c|
    /// c.ledger()).await`.
    ///
    /// # Errors
    /// As the call.
    pub async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Client) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let client = self.0.clone();
        blocking(move || call(&client)).await
    }

    /// Closes the connection. See [`Client::close`].
    pub async fn close(&self) {
        // Closing cannot fail; the result is there for the runtime's end.
        let _closed = self
            .with(|client| {
                client.close();
                Ok(())
            })
            .await;
    }
}

impl Request {
    /// [`Request::reply`] without blocking the runtime. If the future is dropped after its first
    /// poll the answer is sent all the same.
    ///
    /// # Errors
    /// As [`Request::reply`].
    pub async fn reply_async<'m, M: Message<'m>>(self, reply: &M) -> Result<(), Error> {
        let mut payload = vec![0; reply.encoded_len()];
        let length = reply.encode(&mut payload)?;
        payload.truncate(length);
        blocking(move || self.reply_bytes(&payload)).await
    }
}
