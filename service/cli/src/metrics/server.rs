// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTTP server: one page for Prometheus, and one that points to it.

use super::Source;
use crate::failure::{Failure, complain};
use crate::output::Output;
use crate::stop::Stop;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::http::{self, Method, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

/// So many are served at one time; more wait.
const MAX_CONNECTIONS: usize = 16;

/// How long a client may take to send its request's head.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one connection may last in all, so that idle ones do not keep the others out.
const LIFE: Duration = Duration::from_secs(300);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const INDEX: &str =
    "<!doctype html><title>fltport</title><p>fltport: <a href=\"/metrics\">metrics</a></p>\n";

/// Serves at `address` until Ctrl-C. The address is printed, for port 0 is any that is free.
pub(super) fn serve(address: SocketAddr, source: Arc<Source>) -> Result<(), Failure> {
    let stop = Arc::new(Notify::new());
    let wake = Arc::clone(&stop);
    let _asked = Stop::on_signal(move || wake.notify_one())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the server cannot start: {e}")))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Failure::new(format!(
                "nothing can be served at {address}: {e}. Name another address with --listen"
            ))
        })?;
        let mut output = Output::new();
        output.line(&format!(
            "metrics at http://{}/metrics, until Ctrl-C",
            listener.local_addr()?
        ))?;
        output.flush()?;
        let stopped = stop.notified();
        tokio::select! {
            never = accept(&listener, &source) => match never {},
            () = stopped => Ok(()),
        }
    })
}

async fn accept(listener: &TcpListener, source: &Arc<Source>) -> std::convert::Infallible {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(source);
                tokio::spawn(async move {
                    let _place = place;
                    // Of a client that breaks off, or stays too long, nobody needs to hear.
                    let _ended = tokio::time::timeout(LIFE, converse(stream, source)).await;
                });
            }
            Err(error) => {
                // Too many open files, most likely: they become fewer.
                complain(&format!("a connection could not be taken: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, source: Arc<Source>) -> Result<(), hyper::Error> {
    let service = service_fn(|request| answer(request, Arc::clone(&source)));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: Request<Incoming>,
    source: Arc<Source>,
) -> Result<Response<Full<Bytes>>, http::Error> {
    let response = Response::builder();
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let response = response.status(StatusCode::METHOD_NOT_ALLOWED);
        return response.header(ALLOW, "GET, HEAD").body(Full::default());
    }
    match request.uri().path() {
        "/metrics" => match tokio::task::spawn_blocking(move || source.expose()).await {
            Ok(text) => response
                .header(CONTENT_TYPE, OPEN_METRICS)
                .body(text.into()),
            Err(_) => response
                .status(StatusCode::INTERNAL_SERVER_ERROR)
                .body(Full::default()),
        },
        "/" => response
            .header(CONTENT_TYPE, "text/html; charset=utf-8")
            .body(INDEX.into()),
        _ => response
            .status(StatusCode::NOT_FOUND)
            .body("not here; see /metrics\n".into()),
    }
}
