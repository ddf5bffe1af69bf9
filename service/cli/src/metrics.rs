// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport metrics`: the accounts for Prometheus, once or over HTTP.

mod exposition;
mod server;

use crate::arguments::{self, Verifier};
use crate::failure::{Failure, complain};
use crate::output::Output;
use crate::service::Service;
use crate::state::State;
use fltport::{Client, rights};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Prints them, or serves them until Ctrl-C.
pub(crate) fn run(
    socket: Option<&Path>,
    arguments: &arguments::Metrics,
) -> Result<ExitCode, Failure> {
    let service = Service::find(socket, Verifier::default())?;
    service.tell_what_is_missing();
    let source = Source::new(service);
    match arguments.listen {
        None => {
            let state = source.ask()?;
            let mut output = Output::new();
            for line in exposition::write(Some(state)).lines() {
                output.line(line)?;
            }
            output.flush()?;
        }
        Some(address) => {
            if !address.ip().is_loopback() {
                complain(&format!(
                    "whoever reaches {address} can read which providers and services there are, and how much they say"
                ));
            }
            server::serve(address, Arc::clone(&source))?;
        }
    }
    source.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Where the accounts come from: a connection that is made when somebody asks, and again when it
/// has ended.
#[derive(Debug)]
struct Source {
    service: Mutex<Option<Service>>,
    client: Mutex<Option<Client>>,
}

impl Source {
    fn new(service: Service) -> Arc<Source> {
        Arc::new(Source {
            service: Mutex::new(Some(service)),
            client: Mutex::default(),
        })
    }

    /// The accounts of this moment. One asks at a time.
    fn ask(&self) -> Result<State, Failure> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.as_ref().is_none_or(Client::is_over) {
            let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
            let service = service
                .as_ref()
                .ok_or_else(|| Failure::new("the command is ending"))?;
            *client = Some(service.connect("fltport metrics", rights::OBSERVE)?);
        }
        let Some(connected) = client.as_ref() else {
            return Err(Failure::new("there is no connection"));
        };
        // What comes by itself, providers that register, is of no interest here.
        while connected.next(std::time::Duration::ZERO).is_some() {}
        let state = State::ask(connected);
        if state.is_err() {
            *client = None;
        }
        Ok(state?)
    }

    /// The text for Prometheus; if the driver cannot be asked, that it is not up.
    fn expose(&self) -> String {
        match self.ask() {
            Ok(state) => exposition::write(Some(state)),
            Err(failure) => {
                complain(&failure.to_string());
                exposition::write(None)
            }
        }
    }

    fn end(&self) -> Result<(), Failure> {
        let client = self
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(client);
        let service = self
            .service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        service.map_or(Ok(()), Service::end)
    }
}
