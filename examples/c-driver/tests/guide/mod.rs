// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the blocks of the guides true that are copies of something else.
//!
//! A block of a guide stands behind a line `<!-- block: NAME -->`. With UPDATE_GUIDE=1 the tests
//! write it instead of comparing.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How drivers are tested.
pub(crate) const TESTING: &str = "docs/testing-your-driver.md";

/// How client drivers are written.
pub(crate) const WRITING: &str = "docs/writing-a-driver.md";

/// Tests run at the same time, and each rewrites the whole file.
static GUIDE: Mutex<()> = Mutex::new(());

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares the guide's block of this name with `actual`, apart from what differs between machines.
#[track_caller]
pub(crate) fn compare(guide: &str, name: &str, actual: &str) {
    let _one_at_a_time = GUIDE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let path = root().join(guide);
    let text = fs::read_to_string(&path).expect("the guide is there");
    let block = block(&text, name).unwrap_or_else(|| panic!("{guide} has no block {name}"));
    let actual = normalized(actual);
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        let updated = format!("{}{actual}{}", &text[..block.start], &text[block.end..]);
        fs::write(&path, updated).expect("the guide can be written");
    } else {
        assert_eq!(
            text[block], actual,
            "the block {name} of {guide} is out of date: run the tests of c-driver with \
             UPDATE_GUIDE=1"
        );
    }
}

/// Where the content of a fenced block lies.
fn block(text: &str, name: &str) -> Option<Range<usize>> {
    let mark = text.find(&format!("<!-- block: {name} -->\n"))?;
    let fence = mark + text[mark..].find("\n```")? + 1;
    let start = fence + text[fence..].find('\n')? + 1;
    let end = start + text[start..].find("```\n")?;
    Some(start..end)
}

/// Without the checkout's place and without what is not the driver's: numbers of threads and
/// addresses, lines of the hosted kernel and of the test.
fn normalized(text: &str) -> String {
    let root = root().canonicalize().expect("the checkout");
    let text = text.replace(&format!("{}/", env!("CARGO_MANIFEST_DIR")), "");
    let text = text.replace(&format!("{}/", root.display()), "");
    let lines = text
        .lines()
        .filter(|line| frame(line).is_none_or(|frame| frame.contains("src/driver.c")));
    let mut normalized: String = lines
        .map(|line| format!("{}\n", without_numbers(line)))
        .collect();
    normalized.truncate(normalized.trim_end().len());
    normalized.push('\n');
    normalized
}

/// The function and the place of a line of a stack.
fn frame(line: &str) -> Option<&str> {
    let (number, frame) = line.trim_start().split_once(": ")?;
    number.parse::<u32>().is_ok().then_some(frame)
}

/// Without numbers of frames, threads and addresses.
fn without_numbers(line: &str) -> String {
    if let Some(frame) = frame(line) {
        return format!("      {frame}");
    }
    let line = without_digits(line, "thread ", 10);
    without_digits(&line, "0x", 16)
}

/// Replaces the digits behind each `mark`.
fn without_digits(line: &str, mark: &str, radix: u32) -> String {
    let mut parts = line.split(mark);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_digit(radix));
        text.push_str(mark);
        text.push_str(if rest.len() < part.len() { "…" } else { "" });
        text.push_str(rest);
    }
    text
}
