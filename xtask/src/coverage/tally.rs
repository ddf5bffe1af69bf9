// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counting covered lines from what `llvm-cov export --format lcov` writes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// How often each line of a file ran.
type Lines = BTreeMap<usize, u64>;

/// What is known of one folder.
#[derive(Debug, PartialEq)]
pub(super) struct Tally {
    folder: String,
    /// The least percentage of its lines that must be covered.
    floor: f64,
    /// By path from the folder on.
    files: BTreeMap<String, Lines>,
}

/// Where the table of docs/coverage.md begins and ends.
const MARKS: [&str; 2] = ["<!-- table -->\n", "<!-- end of table -->\n"];

impl Tally {
    /// Takes the lines of one folder out of the export; test modules do not count.
    ///
    /// # Errors
    /// The export names no file of the folder, or one that cannot be read.
    pub(super) fn of(
        workspace: &Workspace,
        folder: &str,
        floor: f64,
        export: &str,
    ) -> Result<Tally> {
        let root = workspace.path(folder);
        let mut files = BTreeMap::new();
        for (path, mut lines) in parse(export) {
            let Ok(relative) = Path::new(path).strip_prefix(&root) else {
                continue;
            };
            let relative = relative.to_string_lossy().into_owned();
            if is_test_file(&relative) {
                continue;
            }
            let source = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
            lines.retain(|line, _| *line < first_line_of_tests(&source));
            files.insert(relative, lines);
        }
        if files.is_empty() {
            bail!("no line of {folder} was measured");
        }
        Ok(Tally {
            folder: folder.to_owned(),
            floor,
            files,
        })
    }

    fn covered(&self) -> usize {
        self.files.values().map(covered).sum()
    }

    fn total(&self) -> usize {
        self.files.values().map(BTreeMap::len).sum()
    }

    fn percentage(&self) -> f64 {
        percentage(self.covered(), self.total())
    }
}

fn covered(lines: &Lines) -> usize {
    lines.values().filter(|count| **count > 0).count()
}

#[expect(clippy::cast_precision_loss, reason = "no program has 2^52 lines")]
fn percentage(covered: usize, total: usize) -> f64 {
    100.0 * covered as f64 / total as f64
}

/// The files of the export and the counts of their lines. `SF:` begins a file, `DA:line,count` is
/// a line; a file may come more than once, and the highest count holds.
fn parse(export: &str) -> BTreeMap<&str, Lines> {
    let mut files: BTreeMap<&str, Lines> = BTreeMap::new();
    let mut file = "";
    for record in export.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            file = path;
        } else if let Some((line, count)) = line_count(record) {
            let known = files.entry(file).or_default().entry(line).or_default();
            *known = count.max(*known);
        }
    }
    files
}

fn line_count(record: &str) -> Option<(usize, u64)> {
    let mut numbers = record.strip_prefix("DA:")?.split(',');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn is_test_file(relative: &str) -> bool {
    Path::new(relative)
        .with_extension("")
        .iter()
        .any(|part| part == "tests")
}

/// The test module stands at the end of a file.
fn first_line_of_tests(source: &str) -> usize {
    source
        .lines()
        .position(|line| line == "#[cfg(test)]")
        .map_or(usize::MAX, |index| index + 1)
}

/// The tables of all folders, in Markdown.
pub(super) fn table(tallies: &[Tally]) -> String {
    let mut text = String::new();
    for tally in tallies {
        let _ = write!(
            text,
            "| {} | lines | covered | |\n| --- | ---: | ---: | ---: |\n",
            tally.folder
        );
        for (file, lines) in &tally.files {
            row(&mut text, file, covered(lines), lines.len());
        }
        row(&mut text, "**all**", tally.covered(), tally.total());
        text.push('\n');
    }
    text
}

fn row(text: &mut String, name: &str, covered: usize, total: usize) {
    let percentage = percentage(covered, total);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| {name} | {total} | {covered} | {percentage:.1} % |");
}

/// The lines that no test runs, with their text.
///
/// # Errors
/// A source cannot be read.
pub(super) fn uncovered(workspace: &Workspace, tallies: &[Tally]) -> Result<String> {
    let mut text = String::new();
    for tally in tallies {
        for (file, lines) in &tally.files {
            let path = workspace.path(&tally.folder).join(file);
            let source = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let source: Vec<&str> = source.lines().collect();
            for (line, _) in lines.iter().filter(|(_, count)| **count == 0) {
                let code = source.get(line - 1).map_or("", |code| code.trim());
                let _ = writeln!(text, "{}/{file}:{line}: {code}", tally.folder);
            }
        }
    }
    Ok(text)
}

/// The document with the table in it.
///
/// # Errors
/// The document lacks one of the two marks.
pub(super) fn with_table(document: &str, tallies: &[Tally]) -> Result<String> {
    let [begin, end] = MARKS;
    let parts = document
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let Some((before, after)) = parts else {
        bail!("the document needs the lines {begin:?} and {end:?} around its table");
    };
    Ok(format!("{before}{begin}\n{}{end}{after}", table(tallies)))
}

/// Compares with the floors.
///
/// # Errors
/// A folder is covered less than its floor asks.
pub(super) fn check(tallies: &[Tally]) -> Result<()> {
    for tally in tallies {
        if tally.percentage() < tally.floor {
            bail!(
                "{:.1} % of {} are covered, the floor is {} %; `cargo xtask coverage --uncovered` \
                 lists what no test runs",
                tally.percentage(),
                tally.folder,
                tally.floor
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORT: &str = "SF:/w/a/src/one.rs\nFN:1,f\nDA:1,3\nDA:2,0\nend_of_record\n\
                          SF:/w/a/src/one.rs\nDA:2,1\nDA:3,0\nend_of_record\n";

    fn tally(floor: f64) -> Tally {
        let lines = parse(EXPORT)["/w/a/src/one.rs"].clone();
        Tally {
            folder: "a/src".to_owned(),
            floor,
            files: BTreeMap::from([("one.rs".to_owned(), lines)]),
        }
    }

    #[test]
    fn a_line_that_ran_in_one_program_is_covered() {
        assert_eq!(
            parse(EXPORT)["/w/a/src/one.rs"],
            BTreeMap::from([(1, 3), (2, 1), (3, 0)])
        );
        assert_eq!((tally(0.0).covered(), tally(0.0).total()), (2, 3));
    }

    #[test]
    fn tests_do_not_count() {
        assert!(is_test_file("frame/tests.rs") && is_test_file("tests/one.rs"));
        assert!(!is_test_file("attests.rs"));
        assert_eq!(
            first_line_of_tests("fn a() {}\n\n#[cfg(test)]\nmod tests {}\n"),
            3
        );
        assert_eq!(first_line_of_tests("    #[cfg(test)]\n"), usize::MAX);
    }

    #[test]
    fn less_than_the_floor_is_an_error_that_names_the_folder() {
        assert!(check(&[tally(66.0)]).is_ok());
        let error = check(&[tally(67.0)]).unwrap_err().to_string();
        assert!(
            error.starts_with("66.7 % of a/src are covered, the floor is 67 %"),
            "{error}"
        );
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_marks() {
        let document = format!("before\n{}old\n{}after\n", MARKS[0], MARKS[1]);
        let written = with_table(&document, &[tally(0.0)]).unwrap();
        assert!(written.contains("| one.rs | 3 | 2 | 66.7 % |"), "{written}");
        assert!(
            !written.contains("old") && written.ends_with("after\n"),
            "{written}"
        );
        assert_eq!(with_table(&written, &[tally(0.0)]).unwrap(), written);
        assert!(with_table("no marks", &[]).is_err());
    }
}
