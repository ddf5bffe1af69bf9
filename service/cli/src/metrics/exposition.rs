// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accounts as Prometheus reads them (OpenMetrics text).
//!
//! Counters of a connection go, when it has ended, to the label `connection="ended"`, so sums over
//! all connections only ever grow.

use crate::latency::Latency;
use crate::state::{State, receiver};
use fltport::{Cause, Outcome, Refusal, RequestAccountRow};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt::Error;
use std::time::Duration;

/// The text; without a state that there is no driver to ask.
pub(crate) fn write(state: Option<State>) -> String {
    let mut registry = Registry::with_prefix("fltport");
    registry.register_collector(Box::new(Accounts(state)));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _written = text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Accounts(Option<State>);

/// Names and values of a line.
type Labels = Vec<(&'static str, String)>;

/// Writes metrics: name, what it means, and its lines.
struct Metric<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Metric<'_> {
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Result<(), Error> {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in lines {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Result<(), Error> {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in lines {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Accounts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut metric = Metric { encoder };
        let help = "1 if the driver answered";
        let up = metric
            .encoder
            .encode_descriptor("up", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(self.0.is_some())).encode(up)?;
        let Some(state) = &self.0 else {
            return Ok(());
        };
        providers(state, &mut metric)?;
        connections(state, &mut metric)?;
        notifications(state, &mut metric)?;
        usage(state, &mut metric)?;
        rings(state, &mut metric)?;
        requests(state, &mut metric)?;
        waits(state, &mut metric)?;
        let refusals = state.refusals.iter().map(|row| {
            let reason = u16::try_from(row.reason).ok().and_then(Refusal::from_wire);
            let reason = reason.map_or_else(|| row.reason.to_string(), |r| r.name().to_owned());
            (vec![("reason", reason)], row.count)
        });
        let help = "Connections, calls and registrations that were refused";
        metric.counters("refusals", help, refusals)
    }
}

fn providers(state: &State, metric: &mut Metric<'_>) -> Result<(), Error> {
    let each = |value: fn(&fltport::ProviderInfo) -> u64| {
        let lines = state.providers.iter();
        lines.map(move |p| (vec![("provider", p.name.clone())], value(p)))
    };
    metric.gauges(
        "provider_backlog_bytes",
        "Bytes of notifications that are kept while nobody is subscribed",
        each(|p| p.backlog_used.into()),
    )?;
    metric.gauges(
        "provider_backlog_limit_bytes",
        "Bytes of notifications that can be kept",
        each(|p| p.backlog.into()),
    )
}

fn connections(state: &State, metric: &mut Metric<'_>) -> Result<(), Error> {
    let each = |value: fn(&fltport::ConnectionInfo) -> u64| {
        let lines = state.connections.iter();
        lines.map(move |c| {
            let labels = vec![
                ("connection", c.number.to_string()),
                ("service", c.name.clone()),
                ("pid", c.pid.to_string()),
            ];
            (labels, value(c))
        })
    };
    metric.gauges(
        "connection_queue_bytes",
        "Bytes in the connection's queue",
        each(|c| c.queued.into()),
    )?;
    metric.gauges(
        "connection_queue_peak_bytes",
        "The most bytes that ever were in the connection's queue",
        each(|c| c.queued_peak.into()),
    )?;
    metric.gauges(
        "connection_queue_limit_bytes",
        "Bytes that the connection's queue can hold",
        each(|c| c.capacity.into()),
    )?;
    metric.counters(
        "connection_records",
        "Sequence numbers of the connection's stream that have been given out",
        each(|c| c.next_sequence.saturating_sub(1)),
    )
}

/// The labels of one message type with one receiver.
fn labels(state: &State, connection: u32, provider: u16, message: u16) -> Labels {
    vec![
        ("connection", receiver(connection)),
        ("service", state.service(connection).to_owned()),
        ("provider", state.names.provider(provider)),
        ("message", state.names.message(provider, message)),
    ]
}

fn notifications(state: &State, metric: &mut Metric<'_>) -> Result<(), Error> {
    let each = |value: fn(&fltport::LedgerRow) -> u64| {
        let lines = state.ledger.iter();
        lines.map(move |row| {
            let labels = labels(state, row.connection, row.provider, row.message);
            (labels, value(row))
        })
    };
    metric.counters(
        "notifications_offered",
        "Notifications and outcomes offered to the receiver",
        each(|row| row.offered),
    )?;
    metric.counters(
        "notifications_delivered",
        "Notifications and outcomes that the receiver got",
        each(|row| row.delivered),
    )?;
    metric.gauges(
        "notifications_in_flight",
        "Notifications and outcomes on their way to the receiver",
        each(|row| row.in_flight),
    )?;
    metric.gauges(
        "notifications_in_flight_peak",
        "The most that ever were on their way to the receiver",
        each(|row| row.in_flight_peak),
    )?;
    let lost = state.ledger.iter().flat_map(|row| {
        let causes = Cause::ALL.iter().zip(row.lost).filter(|(_, n)| *n > 0);
        causes.map(move |(cause, count)| {
            let mut labels = labels(state, row.connection, row.provider, row.message);
            labels.push(("cause", cause.name().to_owned()));
            (labels, count)
        })
    });
    let help = "Notifications and outcomes that were lost to the receiver";
    metric.counters("notifications_lost", help, lost)
}

fn usage(state: &State, metric: &mut Metric<'_>) -> Result<(), Error> {
    let each = |value: fn(&fltport::UsageRow) -> u64| {
        let lines = state.usage.iter();
        lines.map(move |row| {
            let provider = u16::try_from(row.provider).unwrap_or(u16::MAX);
            let labels = vec![
                ("connection", receiver(row.connection)),
                ("service", state.service(row.connection).to_owned()),
                ("provider", state.names.provider(provider)),
            ];
            (labels, value(row))
        })
    };
    metric.gauges(
        "provider_queue_bytes",
        "Bytes of the provider's records in the connection's queue",
        each(|row| row.bytes.into()),
    )?;
    metric.gauges(
        "provider_queue_allowed_bytes",
        "Bytes that the provider may have there: its quota, or its fair share",
        each(|row| row.bytes_allowed.into()),
    )?;
    metric.counters(
        "provider_blamed",
        "Records lost at the connection because this provider took too much",
        each(|row| row.blamed),
    )?;
    metric.counters(
        "provider_filtered",
        "Records that the subscription's filters left out",
        each(|row| row.filtered),
    )?;
    metric.counters(
        "provider_muted",
        "Records left out because the service caused them itself",
        each(|row| row.muted),
    )?;
    metric.counters(
        "provider_unjudged",
        "Records that filters let pass because judging them took too long, or they are corrupt",
        each(|row| row.unjudged),
    )?;
    metric.counters(
        "provider_not_muted",
        "Processes of the service's that were too many to be muted",
        each(|row| row.not_muted),
    )
}

fn rings(state: &State, metric: &mut Metric<'_>) -> Result<(), Error> {
    let each = |value: fn(&fltport::RingUsageRow) -> u64| {
        let lines = state.rings.iter();
        lines.map(move |row| {
            let labels = vec![
                ("connection", receiver(row.connection)),
                ("service", state.service(row.connection).to_owned()),
                ("processor", row.processor.to_string()),
            ];
            (labels, value(row))
        })
    };
    metric.gauges(
        "ring_bytes",
        "Bytes of the connection's ring that hold what has not been read",
        each(|row| row.used.into()),
    )?;
    metric.gauges(
        "ring_peak_bytes",
        "The most bytes that ever were in the connection's ring",
        each(|row| row.peak.into()),
    )?;
    metric.gauges(
        "ring_limit_bytes",
        "Bytes that the connection's ring can hold",
        each(|row| row.capacity.into()),
    )?;
    metric.counters(
        "ring_records",
        "Records that went through the connection's ring",
        each(|row| row.records),
    )?;
    metric.counters(
        "ring_nonsense",
        "How often the service claimed to have read what it cannot have",
        each(|row| row.nonsense),
    )
}

fn requests(state: &State, metric: &mut Metric<'_>) -> Result<(), Error> {
    let ended = state.requests.iter().flat_map(|row| {
        Outcome::ALL.iter().zip(row.outcomes).map(|(outcome, n)| {
            let labels = vec![
                ("provider", state.names.provider(row.provider)),
                ("message", state.names.message(row.provider, row.message)),
                ("outcome", outcome.name().to_owned()),
            ];
            (labels, n)
        })
    });
    metric.counters("requests", "Requests that have ended, by outcome", ended)?;
    let open = state.requests.iter().map(|row| {
        let labels = vec![
            ("provider", state.names.provider(row.provider)),
            ("message", state.names.message(row.provider, row.message)),
        ];
        (labels, row.circuit_open)
    });
    metric.gauges(
        "request_circuit_open",
        "1 while the decider is left alone because it missed repeatedly",
        open,
    )
}

/// How long requesters waited.
fn waits(state: &State, metric: &mut Metric<'_>) -> Result<(), Error> {
    let in_flight = state.accounts.iter().map(|row| {
        let labels = labels(state, row.connection, row.provider, row.message);
        (labels, row.in_flight)
    });
    let help = "Requests that have not ended yet";
    metric.gauges("requests_in_flight", help, in_flight)?;
    let mut histogram = metric.encoder.encode_descriptor(
        "request_wait_seconds",
        "How long requesters waited",
        None,
        MetricType::Histogram,
    )?;
    for row in &state.accounts {
        let labels = labels(state, row.connection, row.provider, row.message);
        wait(row, histogram.encode_family(&labels)?)?;
    }
    Ok(())
}

fn wait(row: &RequestAccountRow, mut metric: MetricEncoder<'_>) -> Result<(), Error> {
    let latency = Latency(&row.latency);
    let seconds = |bound: Option<Duration>| bound.map_or(f64::INFINITY, |b| b.as_secs_f64());
    let buckets = latency.bounds().map(|(bound, n)| (seconds(bound), n));
    let buckets: Vec<(f64, u64)> = buckets.collect();
    let sum = row.waited_us as f64 / 1e6;
    metric.encode_histogram::<NoLabelSet>(sum, latency.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Names;
    use fltport::{LedgerRow, RequestRow, RingUsageRow};

    fn state() -> State {
        let mut lost = [0; 10];
        lost[Cause::RingFull.index()] = 3;
        let mut latency = [0; 32];
        (latency[3], latency[31]) = (2, 1);
        State {
            providers: Vec::new(),
            connections: Vec::new(),
            ledger: vec![LedgerRow {
                connection: 7,
                provider: 1,
                message: 2,
                offered: 10,
                delivered: 6,
                in_flight: 1,
                lost,
                in_flight_peak: 4,
            }],
            requests: vec![RequestRow {
                provider: 1,
                message: 5,
                decider: 7,
                asked: 3,
                outcomes: [3, 0, 0, 0, 0, 0, 0, 0],
                circuit_open: 1,
            }],
            accounts: vec![RequestAccountRow {
                connection: 7,
                provider: 1,
                message: 5,
                asked: 3,
                outcomes: [3, 0, 0, 0, 0, 0, 0, 0],
                in_flight: 0,
                in_flight_peak: 2,
                waited_us: 2_500_000,
                latency,
            }],
            usage: Vec::new(),
            rings: vec![RingUsageRow {
                connection: 7,
                processor: 3,
                capacity: 65536,
                used: 96,
                peak: 960,
                reserved: 0,
                records: 70,
                nonsense: 0,
            }],
            refusals: Vec::new(),
            names: Names::default(),
        }
    }

    #[test]
    fn every_account_has_its_line() {
        let text = write(Some(state()));
        let of = "connection=\"7\",service=\"\",provider=\"1\"";
        for line in [
            "fltport_up 1".to_owned(),
            format!("fltport_notifications_offered_total{{{of},message=\"2\"}} 10"),
            format!("fltport_notifications_lost_total{{{of},message=\"2\",cause=\"ring full\"}} 3"),
            "fltport_requests_total{provider=\"1\",message=\"5\",outcome=\"answered\"} 3".into(),
            "fltport_ring_bytes{connection=\"7\",service=\"\",processor=\"3\"} 96".into(),
            "fltport_ring_peak_bytes{connection=\"7\",service=\"\",processor=\"3\"} 960".into(),
            "fltport_ring_records_total{connection=\"7\",service=\"\",processor=\"3\"} 70".into(),
            "fltport_ring_nonsense_total{connection=\"7\",service=\"\",processor=\"3\"} 0".into(),
            "fltport_request_circuit_open{provider=\"1\",message=\"5\"} 1".into(),
            format!("fltport_request_wait_seconds_sum{{{of},message=\"5\"}} 2.5"),
            format!("fltport_request_wait_seconds_count{{{of},message=\"5\"}} 3"),
            format!("fltport_request_wait_seconds_bucket{{le=\"0.000008\",{of},message=\"5\"}} 2"),
            format!("fltport_request_wait_seconds_bucket{{le=\"+Inf\",{of},message=\"5\"}} 3"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn no_driver_is_told() {
        let text = write(None);
        assert!(text.contains("fltport_up 0\n"), "{text}");
        assert!(!text.contains("notifications"), "{text}");
    }
}
