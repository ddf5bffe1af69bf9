// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the instances of a stream have dealt with: each writes a file before it acknowledges, and
//! together they must be one stream, whoever was killed in the middle of it.
//!
//! A line each: `begun N`, the number behind which the instance went on; `record N`, or with what a
//! job's thread counts; `gap FIRST LAST COUNT`; `answered`.

use crate::orders::Numbers;
use anyhow::{Context, Result, bail};
use fltport::{Event, Record};
use loadgen::messages::{PROVIDERS, Tick};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What one instance writes.
pub(crate) struct Journal {
    file: BufWriter<File>,
    /// The last number that stands in it.
    pub(crate) last: u64,
}

impl Journal {
    /// Of an instance that goes on behind this number.
    pub(crate) fn begin(path: &Path, behind: u64) -> io::Result<Journal> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "begun {behind}")?;
        file.flush()?;
        let last = behind;
        Ok(Journal { file, last })
    }

    /// An event has been dealt with.
    pub(crate) fn add(&mut self, event: &Event) -> io::Result<()> {
        let Some(last) = event.last_sequence() else {
            return Ok(());
        };
        self.last = last;
        match event {
            Event::Gap(gap) => {
                let count: u64 = gap.losses.iter().map(|loss| loss.count).sum();
                writeln!(self.file, "gap {} {} {count}", gap.first, gap.last)
            }
            Event::Notification(record) => match tick_of(record) {
                Some(tick) => writeln!(
                    self.file,
                    "record {last} {} {} {} {}",
                    record.provider(),
                    tick.job,
                    tick.thread,
                    tick.number
                ),
                None => writeln!(self.file, "record {last}"),
            },
            _ => writeln!(self.file, "record {last}"),
        }
    }

    /// A request was answered, and the driver has taken the answer.
    pub(crate) fn answered(&mut self) -> io::Result<()> {
        writeln!(self.file, "answered")?;
        self.file.flush()
    }

    /// What is in it now survives this process.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn tick_of(record: &Record) -> Option<Tick> {
    let provider = record.schema()?.provider.as_str();
    let known = PROVIDERS.iter().any(|known| known.name == provider);
    known.then(|| record.decode::<Tick>().ok()).flatten()
}

/// The files of all instances of all streams, in a directory of their own.
#[derive(Default)]
pub(crate) struct Journals(BTreeMap<String, Vec<PathBuf>>);

impl Journals {
    /// Where the next instance writes.
    pub(crate) fn next(&self, stream: &str) -> Result<PathBuf> {
        let directory = directory();
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
        let number = self.0.get(stream).map_or(0, Vec::len);
        Ok(directory.join(format!("{stream}-{number}.journal")))
    }

    /// It has connected.
    pub(crate) fn add(&mut self, stream: &str, file: PathBuf) {
        self.0.entry(stream.to_owned()).or_default().push(file);
    }

    /// What they have dealt with.
    pub(crate) fn sums(&self, stream: &str) -> Result<Numbers> {
        let Some(files) = self.0.get(stream) else {
            bail!("no service has a stream {stream}. Write `service NAME stream={stream}` before");
        };
        let texts: Result<Vec<String>> = files.iter().map(|file| read(file)).collect();
        sums(&texts?)
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            // What is left is of no use to anybody, and of no harm.
            let _left = std::fs::remove_dir_all(directory());
        }
    }
}

fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("fltport-journals-{}", std::process::id()))
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// What one instance has dealt with.
struct Part<'t> {
    behind: u64,
    lines: Vec<(&'t str, Vec<u64>)>,
}

impl<'t> Part<'t> {
    fn read(text: &'t str) -> Result<Part<'t>> {
        // The last line may be half of one: that instance was killed.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _half)| whole);
        let mut lines = whole.lines().map(|line| {
            let mut words = line.split(' ');
            let word = words.next().unwrap_or_default();
            let numbers: Vec<u64> = words.map_while(|number| number.parse().ok()).collect();
            (word, numbers)
        });
        match lines.next() {
            Some(("begun", numbers)) if numbers.len() == 1 => Ok(Part {
                behind: numbers.first().copied().unwrap_or(0),
                lines: lines.collect(),
            }),
            _ => bail!("a journal without a beginning"),
        }
    }
}

/// The parts are one stream: of each counts what was acknowledged when the next one began, and then
/// no number may be missing, nor come twice.
fn sums(texts: &[String]) -> Result<Numbers> {
    let parts: Result<Vec<Part<'_>>> = texts.iter().map(|text| Part::read(text)).collect();
    let parts = parts?;
    let mut sums = Sums::default();
    let ends = parts
        .iter()
        .skip(1)
        .map(|next| next.behind)
        .chain([u64::MAX]);
    for (part, end) in parts.iter().zip(ends) {
        sums.add(part, end);
    }
    sums.count("instances", parts.len() as u64);
    Ok(sums.numbers)
}

#[derive(Default)]
struct Sums {
    numbers: Numbers,
    before: u64,
    /// The next number of each provider's job's thread.
    threads: BTreeMap<(u64, u64, u64), u64>,
}

impl Sums {
    fn count(&mut self, name: &str, count: u64) {
        *self.numbers.entry(name.to_owned()).or_default() += count;
    }

    fn add(&mut self, part: &Part<'_>, end: u64) {
        for name in ["ticks", "lost", "holes", "twice", "again", "answered"] {
            self.count(name, 0);
        }
        self.count("holes", u64::from(part.behind != self.before));
        for (word, numbers) in &part.lines {
            match (*word, numbers.as_slice()) {
                ("answered", []) => self.count("answered", 1),
                ("record", [at, ..]) | ("gap", [_, at, ..]) if *at > end => {
                    // It was sent again to the next instance.
                    self.count("again", 1);
                }
                ("record", [at, rest @ ..]) => {
                    self.follows(*at, *at);
                    self.tick(rest);
                }
                ("gap", [first, last, count]) => {
                    self.follows(*first, *last);
                    self.count("lost", *count);
                }
                _ => self.count("holes", 1),
            }
        }
        if end != u64::MAX {
            self.count("holes", u64::from(self.before != end));
        }
        self.before = self.before.max(part.behind);
        let known = |name: &str| self.numbers.get(name).copied().unwrap_or(0);
        let accounted = known("ticks") + known("lost");
        self.numbers.insert("accounted".to_owned(), accounted);
    }

    fn follows(&mut self, first: u64, last: u64) {
        self.count("twice", u64::from(first <= self.before));
        self.count("holes", u64::from(first > self.before + 1));
        self.before = self.before.max(last);
    }

    fn tick(&mut self, numbers: &[u64]) {
        if let [provider, job, thread, number] = numbers {
            let place = (*provider, *job, *thread);
            let next = self.threads.insert(place, number + 1).unwrap_or(0);
            self.count("twice", u64::from(*number < next));
            self.count("ticks", 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums_of(texts: &[&str]) -> Numbers {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        sums(&texts).unwrap()
    }

    #[test]
    fn what_was_not_acknowledged_is_the_next_ones() {
        let sums = sums_of(&[
            "begun 0\nrecord 1 7 1 0 0\ngap 2 4 3\nrecord 5 7 1 0 4\nrec",
            "begun 4\nrecord 5 7 1 0 4\nanswered\n",
        ]);
        let of = |name: &str| sums[name];
        assert_eq!((of("ticks"), of("lost"), of("again")), (2, 3, 1));
        assert_eq!((of("holes"), of("twice"), of("answered")), (0, 0, 1));
        assert_eq!((of("accounted"), of("instances")), (5, 2));
    }

    #[test]
    fn holes_and_repetitions_are_counted() {
        let hole = sums_of(&["begun 0\nrecord 1\nrecord 3\n"]);
        assert_eq!((hole["holes"], hole["twice"]), (1, 0));
        let between = sums_of(&["begun 0\nrecord 1\n", "begun 2\nrecord 3\n"]);
        assert!(between["holes"] >= 1);
        let twice = sums_of(&["begun 0\nrecord 1\nrecord 1\n"]);
        assert_eq!((twice["holes"], twice["twice"]), (0, 1));
        let tick = sums_of(&["begun 0\nrecord 1 7 1 0 5\nrecord 2 7 1 0 5\n"]);
        assert_eq!(tick["twice"], 1);
    }

    #[test]
    fn a_journal_has_a_beginning() {
        assert!(sums(&[String::new()]).is_err());
        assert!(sums(&["record 1\n".to_owned()]).is_err());
    }
}
