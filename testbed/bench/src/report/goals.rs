// SPDX-License-Identifier: MIT OR Apache-2.0

//! What fltport's own ring, and all of fltport, is to reach: ratios within one run, or nanoseconds. A
//! goal of which one side was not measured is open, and says so.

use serde::Serialize;

use super::table::{number, one_way, round_trip};
use crate::contestant::Idle;
use crate::drivers::names;
use crate::series::{Results, Row};

/// The contestant whose goals these are.
const OURS: &str = "fltport-ring";
const SLEEPING: [&str; 4] = ["bpf", "bpf-64k", "lock-ring", "wintun-ring"];
const POLLED: [&str; 2] = ["bpf", "lock-ring"];

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
enum Against {
    /// The best of these, in the same row.
    Best(&'static [&'static str]),
    /// Our own figure in another row.
    Ours(Row),
}

#[derive(Debug, Clone, Copy)]
struct Goal {
    what: &'static str,
    row: Row,
    against: Against,
    at_least: f64,
}

/// What carries as much as ours does.
const EQUAL: [&str; 1] = ["lock-ring-full"];

const ONE: Row = Row::flow(64, 1, Idle::Sleeps);
const TWO: Row = Row::flow(64, 2, Idle::Sleeps);

const GOALS: [Goal; 10] = [
    Goal {
        what: "one producer, consumer sleeps, to the best that kernels and drivers ship",
        row: ONE,
        against: Against::Best(&SLEEPING),
        at_least: 2.0,
    },
    Goal {
        what: "one producer, consumer sleeps, to the bare ring",
        row: ONE,
        against: Against::Best(&["bare-ring"]),
        at_least: 0.5,
    },
    Goal {
        what: "one producer, polled lazily, to the best of BPF and the lock-based ring",
        row: Row::flow(64, 1, Idle::Lazy),
        against: Against::Best(&POLLED),
        at_least: 1.5,
    },
    Goal {
        what: "two producers, to one",
        row: TWO,
        against: Against::Ours(ONE),
        at_least: 0.9,
    },
    Goal {
        what: "two producers, to the best that kernels and drivers ship",
        row: TWO,
        against: Against::Best(&SLEEPING),
        at_least: 3.0,
    },
    Goal {
        what: "two producers, nobody draining, to one",
        row: Row::flow(64, 2, Idle::Nobody),
        against: Against::Ours(Row::flow(64, 1, Idle::Nobody)),
        at_least: 1.7,
    },
    Goal {
        what: "4 KiB, to the tuned ring",
        row: Row::flow(4096, 1, Idle::Sleeps),
        against: Against::Best(&["tuned-ring"]),
        at_least: 0.9,
    },
    Goal {
        what: "one producer, consumer sleeps, to a peer with number and time",
        row: ONE,
        against: Against::Best(&EQUAL),
        at_least: 2.0,
    },
    Goal {
        what: "one producer, polled lazily, to a peer with number and time",
        row: Row::flow(64, 1, Idle::Lazy),
        against: Against::Best(&EQUAL),
        at_least: 1.5,
    },
    Goal {
        what: "two producers, to a peer with number and time",
        row: TWO,
        against: Against::Best(&EQUAL),
        at_least: 3.0,
    },
];

/// Wake-ups for a million records, at most.
const WAKES: f64 = 2000.0;
/// One way after a pause, to the bare futex, at most.
const DELAY: f64 = 1.2;

/// What a goal came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Verdict {
    goal: String,
    /// Whom or what it was held against.
    against: String,
    figure: Option<f64>,
    reached: Option<bool>,
}

/// The whole stack, to the ring alone, at least.
const STACK: f64 = 0.6;
/// A request and its answer, to a socket's, at most.
const ASK: f64 = 1.5;
/// Nanoseconds.
const UNHEARD: f64 = 5.0;
const FULL: f64 = 40.0;
/// KiB.
const POOL: f64 = 256.0;
/// What makes no difference on a shared machine.
const FLAT: f64 = 1.33;

/// All goals, of what took part.
pub(super) fn judge(results: &Results) -> Vec<Verdict> {
    let mut verdicts = ring_alone(results);
    verdicts.extend(whole_stack(results));
    verdicts
}

/// Empty if our ring did not take part.
fn ring_alone(results: &Results) -> Vec<Verdict> {
    if !results.cells.iter().any(|cell| cell.contestant == OURS) {
        return Vec::new();
    }
    let mut verdicts: Vec<Verdict> = GOALS.iter().map(|goal| compare(results, goal)).collect();
    let cell = results.cell(OURS, &ONE);
    let wakes = cell.and_then(|cell| cell.spread(None, |outcome| outcome.wakes));
    let wakes = wakes.map(|spread| spread.median);
    verdicts.push(at_most(
        "wake-ups for a million records",
        "a number",
        wakes,
        WAKES,
    ));
    let delay = results.cell(OURS, &Row::delay(Idle::Sleeps));
    let delay = delay.and_then(|cell| cell.spread(None, |outcome| outcome.delay.map(|it| it.p50)));
    let ratio = delay
        .zip(one_way(results, "futex"))
        .map(|(ours, futex)| ours.median / futex);
    verdicts.push(at_most(
        "one way after a pause",
        "the bare futex",
        ratio,
        DELAY,
    ));
    verdicts
}

/// What notifications and requests cost with drivers, service library and all. Empty if that was not measured.
fn whole_stack(results: &Results) -> Vec<Verdict> {
    if results.drivers.is_empty() {
        return Vec::new();
    }
    let stack = |row| results.stack(row);
    let ratio = |row, to: Option<f64>| stack(row).zip(to).map(|(figure, to)| figure / to);
    let flow = ratio(names::FLOW, results.rate(OURS, &ONE));
    let others = ratio(names::OTHERS, stack(names::ONE));
    let providers = ratio(names::EIGHT_PROVIDERS, stack(names::ONE));
    let each = stack(names::EIGHT).zip(stack(names::ONE));
    let each = each.map(|(eight, one)| (eight - one) / 7.0);
    vec![
        Verdict {
            goal: format!("notify() to typed handler: at least {}", number(STACK)),
            against: format!("{OURS}, {}", ONE.title()),
            figure: flow,
            reached: flow.map(|flow| flow >= STACK),
        },
        at_most(
            "notify() after a pause, to the handler",
            "the bare futex, one way",
            ratio(names::DELAY, one_way(results, "futex")),
            DELAY,
        ),
        at_most(
            "request and answer",
            "seqpacket, there and back",
            ratio(names::ASK, round_trip(results, "seqpacket")),
            ASK,
        ),
        at_most("nobody subscribed", "ns", stack(names::UNHEARD), UNHEARD),
        at_most("ring full, loss counted", "ns", stack(names::FULL), FULL),
        at_most("pool without connections", "KiB", stack(names::POOL), POOL),
        at_most("8 providers", "one provider", providers, FLAT),
        at_most("31 connections that do not subscribe", "none", others, FLAT),
        Verdict {
            goal: "each further connection that subscribes costs".into(),
            against: "ns".into(),
            figure: each,
            reached: None,
        },
    ]
}

fn compare(results: &Results, goal: &Goal) -> Verdict {
    let ours = results.rate(OURS, &goal.row);
    let (against, theirs) = match goal.against {
        Against::Ours(row) => (format!("itself, {}", row.title()), results.rate(OURS, &row)),
        Against::Best(names) => {
            let rates = names
                .iter()
                .filter_map(|name| Some((*name, results.rate(name, &goal.row)?)));
            let best = rates.max_by(|one, other| one.1.total_cmp(&other.1));
            let name = best.map_or_else(|| names.join(", "), |(name, _)| name.to_string());
            (name, best.map(|(_, rate)| rate))
        }
    };
    let figure = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
    Verdict {
        goal: format!("{}: at least {}", goal.what, number(goal.at_least)),
        against,
        figure,
        reached: figure.map(|figure| figure >= goal.at_least),
    }
}

fn at_most(what: &str, against: &str, figure: Option<f64>, limit: f64) -> Verdict {
    Verdict {
        goal: format!("{what}: at most {}", number(limit)),
        against: against.to_string(),
        figure,
        reached: figure.map(|figure| figure <= limit),
    }
}

pub(super) fn render(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let outcome = match verdict.reached {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None if verdict.figure.is_some() => "measured",
            None => "not measured",
        };
        let figure = verdict.figure.map_or("-".to_string(), number);
        let Verdict { goal, against, .. } = verdict;
        text.push_str(&format!("{outcome:<12} {figure:>6}  {goal} ({against})\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Stack;
    use crate::series::tests::made_up;

    #[test]
    fn without_our_ring_there_is_nothing_to_reach() {
        assert_eq!(judge(&made_up(&[("bpf", ONE, &[5.0])])), []);
    }

    #[test]
    fn the_best_peer_counts() {
        let results = made_up(&[
            (OURS, ONE, &[30.0]),
            ("bpf", ONE, &[5.0]),
            ("wintun-ring", ONE, &[16.0]),
            ("bare-ring", ONE, &[50.0]),
        ]);
        let verdicts = judge(&results);
        assert_eq!(verdicts[0].against, "wintun-ring");
        assert_eq!(
            (verdicts[0].figure, verdicts[0].reached),
            (Some(1.875), Some(false))
        );
        assert_eq!(
            (verdicts[1].figure, verdicts[1].reached),
            (Some(0.6), Some(true))
        );
        // Nobody was measured with two producers.
        assert_eq!(verdicts[4].reached, None);
        let text = render(&verdicts);
        assert!(text.contains("MISSED"), "{text}");
        assert!(text.contains("not measured"), "{text}");
    }

    #[test]
    fn wake_ups_and_delays_have_a_limit() {
        let results = made_up(&[
            (OURS, ONE, &[30.0]),
            (OURS, Row::delay(Idle::Sleeps), &[5.5]),
        ]);
        let verdicts = judge(&results);
        let [.., wakes, delay] = verdicts.as_slice() else {
            panic!("no verdicts");
        };
        assert_eq!((wakes.figure, wakes.reached), (Some(1500.0), Some(true)));
        assert_eq!((delay.figure, delay.reached), (Some(1.1), Some(true)));
    }

    #[test]
    fn the_whole_stack_is_held_against_the_ring_alone() {
        let mut results = made_up(&[(OURS, ONE, &[20.0])]);
        let rows = [
            (names::FLOW, 10.0),
            (names::ONE, 100.0),
            (names::EIGHT, 800.0),
            (names::UNHEARD, 3.0),
        ];
        results.drivers = Vec::from(rows.map(|(row, figure)| Stack {
            row: row.into(),
            unit: "any".into(),
            figures: vec![figure],
            errors: Vec::new(),
        }));
        let verdicts = whole_stack(&results);
        assert_eq!(
            (verdicts[0].figure, verdicts[0].reached),
            (Some(0.5), Some(false))
        );
        assert_eq!(
            (verdicts[3].figure, verdicts[3].reached),
            (Some(3.0), Some(true))
        );
        let text = render(&verdicts);
        assert!(text.contains("measured        100"), "{text}");
    }
}
