// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints the list of the functions of NT that the hosted kernel has, as Markdown. `cargo xtask
//! functions` writes it to docs/nt-functions.md.

use nt_host::entry::{self, Function};
use nt_host::irql;
use std::collections::BTreeMap;

const HEAD: &str = "\
# Functions of NT in the hosted kernel

Generated from the code by `cargo xtask functions`; do not edit.

Drivers link to these by NT's names. Each checks the IRQL that is given here, and most check much
more (see `nt_host::Rule`). It is that of the function's page in Microsoft's documentation or of its
annotation in the WDK's header, whichever allows more: what is reported breaks both. A function that
*can be made to fail* fails in fault tests, by a plan (see `nt_host::faults`), in the ways that are
named; what goes wrong for a reason of the caller's fails as documented and is not listed. *Simpler
than NT* says in what a driver may see a difference; where it says nothing, none is known.

Variables: ExEventObjectType, PsProcessType, PsThreadType, SeTokenObjectType.
";

/// What a prefix stands for, in the order of the list.
const PREFIXES: [(&str, &str); 13] = [
    ("Cm", "registry callbacks"),
    ("Dbg", "the debugger's log"),
    (
        "Ex",
        "pool, fast mutexes, rundown protection, callback objects",
    ),
    ("Flt", "the Filter Manager, fltmgr.sys"),
    ("Io", "drivers, memory descriptor lists and work items"),
    ("Ke", "waiting, locks, time, IRQL"),
    ("Mm", "memory"),
    ("Ob", "objects"),
    ("Ps", "processes and threads"),
    ("Rtl", "strings, security descriptors, SIDs"),
    ("Se", "tokens and privileges"),
    ("Zw", "handles, sections and the registry"),
    ("fltport_", "user memory and locked pages, not NT's"),
];

/// The prefix of a function. KfRaiseIrql is one of Ke's.
fn prefix(name: &str) -> &'static str {
    let name = if name.starts_with("Kf") { "Ke" } else { name };
    let found = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
    found.map_or("", |(prefix, _)| prefix)
}

fn levels(function: &Function) -> String {
    let highest = irql::name(function.max_irql);
    match (function.min_irql, function.max_irql) {
        (irql::PASSIVE_LEVEL, irql::HIGH_LEVEL) => "any".to_owned(),
        (lowest, most) if lowest == most => highest.to_owned(),
        (irql::PASSIVE_LEVEL, _) => format!("<= {highest}"),
        (lowest, irql::HIGH_LEVEL) => format!(">= {}", irql::name(lowest)),
        (lowest, _) => format!("{} to {highest}", irql::name(lowest)),
    }
}

fn row(function: &Function) -> String {
    let fails: Vec<_> = function.fails.iter().map(|it| it.name).collect();
    format!(
        "| {} | {} | {} | {} |",
        function.name,
        levels(function),
        fails.join(", "),
        function.simplified.unwrap_or_default()
    )
}

fn main() {
    let mut by_prefix: BTreeMap<&str, BTreeMap<&str, &Function>> = BTreeMap::new();
    let mut fallible = 0;
    for function in entry::functions() {
        let group = by_prefix.entry(prefix(function.name)).or_default();
        group.insert(function.name, function);
        fallible += usize::from(!function.fails.is_empty());
    }
    assert!(!by_prefix.contains_key(""), "a prefix is missing above");
    let count: usize = by_prefix.values().map(BTreeMap::len).sum();
    println!("{HEAD}\n{count} functions, of which {fallible} can be made to fail.");
    for (prefix, what) in PREFIXES {
        println!("\n## {}: {what}\n", prefix.trim_end_matches('_'));
        println!("| function | IRQL | can be made to fail | simpler than NT |");
        println!("| --- | --- | --- | --- |");
        for function in by_prefix.get(prefix).into_iter().flat_map(BTreeMap::values) {
            println!("{}", row(function));
        }
    }
}
