// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the client does when its connection ends, against a fake hosted kernel.

use crate::fake_host::{FakeHost, notification, provider_change};
use fltport::process_monitor::ProcessExit;
use fltport::{Client, Error, Event, MessageSet, Options, Pid, Status};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn exit(n: u32) -> ProcessExit {
    ProcessExit {
        pid: Pid(n),
        exit_status: Status(0),
    }
}

fn connected(host: &FakeHost) -> Client {
    let options = Options::new("test")
        .socket(&host.path)
        .backoff(Duration::from_millis(5), Duration::from_millis(50));
    let client = Client::connect(options).unwrap();
    client
        .subscribe("process-monitor", [1, 2], MessageSet::from(5))
        .unwrap();
    client
}

fn disconnected(client: &Client) -> Error {
    match client.next(SOON) {
        Some(Event::Disconnected { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

fn reconnected(client: &Client) -> u32 {
    match client.next(SOON) {
        Some(Event::Reconnected { generation }) => generation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connects_again_subscribes_again_and_goes_on() {
    let host = FakeHost::new();
    let client = connected(&host);
    for generation in 1..4 {
        host.connection(generation - 1).disconnect();
        assert!(matches!(disconnected(&client), Error::Disconnected(_)));
        assert_eq!(reconnected(&client), generation as u32);
        let connection = host.connection(generation);
        assert_eq!(connection.hello.generation, generation as u32);
        connection.wait_for_subscription();
        let subscription = connection.subscriptions()[0];
        assert_eq!(
            (subscription.observe, subscription.decide),
            (0b110, 0b10_0000)
        );
        connection.stream(&[notification(1, &exit(generation as u32))]);
        let Some(Event::Notification(record)) = client.next(SOON) else {
            panic!()
        };
        assert_eq!(record.decode(), Ok(exit(generation as u32)));
    }
    assert_eq!(client.statistics().reconnects, 3);
}

#[test]
fn outlives_the_host_itself() {
    let host = FakeHost::new();
    let path = host.path.clone();
    let client = connected(&host);
    drop(host);
    assert!(matches!(disconnected(&client), Error::Disconnected(_)));
    assert!(client.info().is_err());
    let host = FakeHost::at(&path);
    assert_eq!(reconnected(&client), 1);
    host.connection(0).wait_for_subscription();
    assert_eq!(client.info().unwrap().generation, 1);
}

#[test]
fn a_subscription_that_cannot_be_had_is_told_and_tried_again() {
    let host = FakeHost::new();
    let client = connected(&host);
    host.subscribe_status(fltport_abi::status::SHARING_VIOLATION);
    host.connection(0).hang_up();
    disconnected(&client);
    reconnected(&client);
    let event = client.next(SOON);
    let Some(Event::SubscriptionFailed { provider, reason }) = event else {
        panic!("{event:?}")
    };
    assert_eq!(provider, "process-monitor");
    assert!(matches!(reason, Error::DeciderTaken(_)), "{reason:?}");
    host.subscribe_status(0);
    host.connection(1).wait_for_subscription();
}

#[test]
fn a_request_of_the_former_connection_cannot_be_answered() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    let payload = crate::fake_host::encode(&exit(1));
    let kind = fltport_abi::frame::RecordKind::Request;
    let request = crate::fake_host::record(9, kind, 5, &payload, 8);
    let frame = connection.frame(fltport_abi::frame::FRAME_REQUEST, 60_000, &[request]);
    connection.deliver(1, 100, &frame);
    let Some(Event::Request(request)) = client.next(SOON) else {
        panic!()
    };
    connection.hang_up();
    disconnected(&client);
    reconnected(&client);
    let late = request.reply_bytes(&[0; 4]);
    assert!(matches!(late, Err(Error::Disconnected(_))), "{late:?}");
    assert!(host.connection(1).replies().is_empty());
}

#[test]
fn a_provider_that_comes_back_is_subscribed_to_again() {
    let host = FakeHost::new();
    // So seldom that only the provider's registration can be the cause.
    let options = Options::new("test")
        .socket(&host.path)
        .backoff(Duration::from_secs(600), Duration::from_secs(600));
    let client = Client::connect(options).unwrap();
    client
        .subscribe("process-monitor", [1], MessageSet::NONE)
        .unwrap();
    let connection = host.connection(0);
    connection.stream(&[
        provider_change(1, "process-monitor", false),
        provider_change(2, "another", true),
    ]);
    assert!(matches!(client.next(SOON), Some(Event::CommonDriver(_))));
    let Some(Event::CommonDriver(record)) = client.next(SOON) else {
        panic!()
    };
    let change: fltport::common_driver::ProviderChange<'_> = record.decode().unwrap();
    assert_eq!(change.name, fltport::Text::Utf8("another"));
    assert_eq!(record.schema().unwrap().provider, "fltport");
    assert_eq!(connection.subscriptions().len(), 1);
    connection.stream(&[provider_change(3, "process-monitor", true)]);
    connection.wait_for_subscriptions(2);
    assert_eq!(connection.subscriptions()[1].observe, 0b10);
}

#[test]
fn closing_does_not_wait_for_the_next_attempt() {
    let host = FakeHost::new();
    let options = Options::new("test")
        .socket(&host.path)
        .backoff(Duration::from_secs(600), Duration::from_secs(600));
    let client = Client::connect(options).unwrap();
    drop(host);
    disconnected(&client);
    client.close();
    assert!(client.next(SOON).is_none());
}

#[cfg(feature = "tokio")]
mod tokio_client {
    use super::*;
    use fltport::AsyncClient;
    use fltport::process_monitor::GetExclusions;

    #[tokio::test]
    async fn events_are_awaited_and_a_dropped_wait_loses_nothing() {
        let host = FakeHost::new();
        let options = Options::new("test").socket(&host.path).reconnect(false);
        let client = AsyncClient::connect(options).await.unwrap();
        let subscribed = client.subscribe("process-monitor", [2], MessageSet::NONE);
        subscribed.await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(20), client.next()).await;
        assert!(nothing.is_err());
        host.connection(0).stream(&[notification(1, &exit(4))]);
        let event = client.next().await;
        assert!(matches!(event, Some(Event::Notification(_))), "{event:?}");
        let listed = client.command("process-monitor", &GetExclusions {}).await;
        assert!(listed.is_ok());
        let rows = client.with(|c| c.ledger()).await.unwrap();
        assert_eq!(rows.len(), crate::fake_host::LEDGER_ROWS);
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.next().await.is_none() }
        });
        client.close().await;
        assert!(waiting.await.unwrap());
    }
}
