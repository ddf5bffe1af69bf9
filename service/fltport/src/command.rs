// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands over a connection: the common driver's own, and a provider's.

use crate::connection::Connection;
use crate::error::Error;
use crate::failure::Code;
use crate::options::NO_LIMITS;
use crate::rows::ProviderInfo;
use crate::schema::Schema;
use crate::stream::StreamInfo;
use fltport_abi::command::{
    ConnectionRow, FeaturesRow, Limits, Page, ProviderRow, StreamRow, Subscription, own,
};
use fltport_abi::fixed::Fixed;
use fltport_abi::limits::{MAX_COMMAND, MAX_SCHEMA};
use fltport_abi::{DecodeError, Message, status};
use std::sync::Arc;

/// No list is longer than this many pages; a driver that keeps answering is not believed.
const MAX_PAGES: u32 = 4096;

/// What a provider answered to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandResult(pub(crate) Vec<u8>);

impl From<Vec<u8>> for CommandResult {
    fn from(bytes: Vec<u8>) -> Self {
        CommandResult(bytes)
    }
}

impl CommandResult {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The result as the type `M`.
    ///
    /// # Errors
    /// If it is not one.
    pub fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, Error> {
        Ok(M::decode(&self.0)?)
    }
}

fn encode<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    // It fits: the vector was made for it.
    let _fits = value.write(&mut bytes);
    bytes
}

impl Connection {
    /// All rows of one of the common driver's lists. Those of one page are of one moment.
    pub(crate) fn list<R: Fixed>(&self, command: u16) -> Result<Vec<R>, Error> {
        let mut rows = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = Page {
                skip: u32::try_from(rows.len()).unwrap_or(u32::MAX),
                reserved: 0,
            };
            let bytes = self.command(0, command, &encode(&page), MAX_COMMAND)?;
            if bytes.is_empty() {
                return Ok(rows);
            }
            if !bytes.len().is_multiple_of(R::SIZE) {
                return Err(Error::Protocol("a list that ends within a row"));
            }
            rows.extend(bytes.chunks_exact(R::SIZE).filter_map(R::read));
            if bytes.len() + R::SIZE <= MAX_COMMAND {
                return Ok(rows);
            }
        }
        Err(Error::Protocol("a list without an end"))
    }

    /// What the driver knows. One of the first version does not know the question.
    pub(crate) fn features(&self) -> Result<FeaturesRow, Error> {
        match self.command(0, own::FEATURES, &[], FeaturesRow::SIZE) {
            Err(Error::Refused(_)) => Ok(FeaturesRow::read(&[0; FeaturesRow::SIZE])),
            answered => answered.map(|bytes| FeaturesRow::read(&bytes)),
        }?
        .ok_or(Error::Protocol(
            "a short answer about what the driver knows",
        ))
    }

    /// [`Connection::list`], of a driver that has this feature.
    pub(crate) fn list_if<R: Fixed>(&self, feature: u64, command: u16) -> Result<Vec<R>, Error> {
        if self.features()?.features & feature == 0 {
            return Ok(Vec::new());
        }
        self.list(command)
    }

    /// Sets this connection's limits.
    pub(crate) fn limit(&self, limits: &Limits) -> Result<(), Error> {
        self.command(0, own::LIMITS, &encode(limits), 0).map(drop)
    }

    /// [`Connection::limit`] as far as it can be had: a driver of the first version has no limits,
    /// and a stream that goes on has the queue that it has.
    pub(crate) fn limit_if_possible(&self, limits: &Limits) -> Result<(), Error> {
        if *limits == NO_LIMITS {
            return Ok(());
        }
        match self.limit(limits) {
            Err(Error::Refused(_)) => Ok(()),
            other => other,
        }
    }

    /// Who this connection is to the driver.
    pub(crate) fn info(&self) -> Result<ConnectionRow, Error> {
        let bytes = self.command(0, own::INFO, &[], ConnectionRow::SIZE)?;
        ConnectionRow::read(&bytes).ok_or(Error::Protocol("a short answer about this connection"))
    }

    /// This connection's stream; `None` if it has none.
    pub(crate) fn stream(&self) -> Result<Option<StreamInfo>, Error> {
        if !self.has_stream {
            return Ok(None);
        }
        let bytes = self.command(0, own::STREAM, &[], StreamRow::SIZE)?;
        let row =
            StreamRow::read(&bytes).ok_or(Error::Protocol("a short answer about a stream"))?;
        Ok(StreamInfo::new(&row))
    }

    /// Everything up to this number has been dealt with.
    pub(crate) fn acknowledge(&self, sequence: u64) -> Result<(), Error> {
        let payload = sequence.to_le_bytes();
        self.command(0, own::ACKNOWLEDGE, &payload, 0).map(drop)
    }

    /// Keeps the schemas of all providers, for a stream that goes on: its subscriptions were made on
    /// another connection.
    pub(crate) fn read_all_schemas(&self) {
        for provider in self.providers().unwrap_or_default() {
            // One that is gone by now has no messages to be read.
            if let Ok(schema) = self.schema(provider.number) {
                self.set_schema(provider.number, schema);
            }
        }
    }

    pub(crate) fn providers(&self) -> Result<Vec<ProviderInfo>, Error> {
        let rows = self.list::<ProviderRow>(own::PROVIDERS)?;
        Ok(rows.into_iter().map(ProviderInfo::from).collect())
    }

    /// The number of the provider with this name.
    pub(crate) fn find(&self, provider: &str) -> Result<u16, Error> {
        let providers = self.providers()?;
        let found = providers.iter().find(|p| p.name == provider);
        found
            .map(|p| p.number)
            .ok_or_else(|| Error::NoProvider(provider.to_owned()))
    }

    pub(crate) fn schema(&self, provider: u16) -> Result<Arc<Schema>, Error> {
        let payload = u32::from(provider).to_le_bytes();
        let bytes = self.command(0, own::SCHEMA, &payload, MAX_SCHEMA)?;
        Ok(Arc::new(Schema::decode(&bytes)?))
    }

    /// Subscribes, and keeps the schema for the records that will come.
    pub(crate) fn subscribe(&self, wanted: &crate::Subscription) -> Result<(), Error> {
        let number = self.find(&wanted.provider)?;
        let schema = self.schema(number)?;
        if schema.provider != wanted.provider {
            return Err(Error::Decode(DecodeError::BadValue));
        }
        let payload = match wanted.is_plain() {
            true => None,
            false => Some(wanted.payload(number, &schema)?),
        };
        self.set_schema(number, schema);
        if let Some(payload) = payload {
            let sent = self.command(0, own::SUBSCRIBE_FILTERED, &payload, 0);
            return sent.map(drop).map_err(|error| match error {
                Error::Refused(Code::Status(status::INVALID_DEVICE_REQUEST)) => {
                    Error::DriverTooOld("filters and muting")
                }
                error => error,
            });
        }
        let subscription = Subscription {
            provider: number.into(),
            reserved: 0,
            observe: wanted.observe.bits(),
            decide: wanted.decide.bits(),
        };
        self.command(0, own::SUBSCRIBE, &encode(&subscription), 0)
            .map(drop)
    }
}
