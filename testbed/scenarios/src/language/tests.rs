// SPDX-License-Identifier: MIT OR Apache-2.0

use super::{Action, read};
use crate::orders::{Job, Order, Relation};

fn error(text: &str) -> String {
    let text = format!("about something\n{text}");
    read("x", "x.scenario", &text).unwrap_err().to_string()
}

#[test]
fn lines_become_steps() {
    let text = "about it # not this\n\nrepeat 3 # thrice\n  a starts flood count=100,000 threads=2 within=500\n\
                end\na finishes expect done=0x10 refused<=1\nb replies expect error=too-late\n";
    let scenario = read("x", "x.scenario", text).unwrap();
    assert_eq!(scenario.about, "it");
    let parts: Vec<_> = scenario
        .parts
        .iter()
        .map(|p| (p.times, p.steps.len()))
        .collect();
    assert_eq!(parts, [(3, 1), (1, 2)]);
    let flood = &scenario.parts[0].steps[0];
    assert_eq!((flood.line, flood.within), (4, 500));
    let Action::Order(who, Order::Start { provider, job }) = &flood.action else {
        panic!("{:?}", flood.action);
    };
    let (count, threads, bytes) = (100_000, 2, 0);
    let expected = Job::Flood {
        count,
        threads,
        bytes,
    };
    assert_eq!((who.as_str(), *job), ("a", expected));
    assert_eq!(provider, "loadgen");
    let finish = &scenario.parts[1].steps[0];
    assert_eq!(finish.expected[0].number, 16);
    assert_eq!(finish.expected[1].relation, Relation::AtMost);
    assert_eq!(finish.refusal, None);
    let reply = &scenario.parts[1].steps[1];
    assert_eq!(reply.refusal.as_deref(), Some("too-late"));
}

#[test]
fn errors_name_the_place_and_the_cure() {
    for (text, place, cure) in [
        ("\n\na dances", "x.scenario:4:", "nobody can do \"dances\""),
        ("start", "x.scenario:2:", "a word is missing: the driver"),
        ("a starts flood", ":2:", "Write count=100"),
        ("a starts flood count=many", ":2:", "not a number that fits"),
        (
            "a starts flood count=1 threads=99999999999",
            ":2:",
            "threads=",
        ),
        (
            "a starts dpc count=1 by=magic",
            ":2:",
            "by=timer or by=queue",
        ),
        (
            "a starts rain count=1",
            ":2:",
            "There are flood, dpc, ask, change and pairs",
        ),
        ("a sees", ":2:", "sees expect ticks=100"),
        ("a sees expect ticks", ":2:", "name>=100"),
        ("a sees expect ticks=x", ":2:", "no number behind ="),
        (
            "a echoes bytes=1 size=2",
            ":2:",
            "there is no option size=2",
        ),
        ("a echoes now bytes=1", ":2:", "one word too many"),
        ("a echoes bytes=1 now", ":2:", "Words come first"),
        (
            "a echoes bytes=1 expect error=nonsense",
            ":2:",
            "There are: access-violation",
        ),
        ("a subscribes observe=tock", ":2:", "There are tick, blob"),
        ("service a of=b stream=c", ":2:", "Leave out of= or stream="),
        ("a passes input=here", ":2:", "There are good, null"),
        (
            "a faults address=1 write=perhaps",
            ":2:",
            "write=yes or write=no",
        ),
        ("repeat 2\nstop x", ":2:", "Write a line `end`"),
        ("repeat 2\nrepeat 2", ":3:", "Write `end` before it"),
        ("repeat often", ":2:", "\"often\" is not a number"),
        ("end", ":2:", "Write `repeat N`"),
        ("repeat 2 expect a=1", ":2:", "Leave `expect` out"),
        ("repeat 0\nstop x\nend", ":2:", "Write how often"),
        ("stop x expect", ":2:", "`expect` of nothing"),
        (
            "a sees expect ticks=1 error=too-late",
            ":2:",
            "Write either",
        ),
        (
            "stop x expect error=too-late error=too-many",
            ":2:",
            "Write one",
        ),
        ("repeat 2\nend", "x.scenario:", "it has no steps"),
        ("", "x.scenario:", "it has no steps"),
    ] {
        let found = error(text);
        assert!(
            found.contains(place) && found.contains(cure),
            "{text}: {found}"
        );
    }
    let untitled = read("x", "x.scenario", "start fltport").unwrap_err();
    assert!(untitled.to_string().contains("`about ...`"));
}
