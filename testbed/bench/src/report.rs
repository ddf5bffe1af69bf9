// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is said about the results: a table for people, JSON for programs, a chart.

mod chart;
mod goals;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::series::Results;

/// The contestants that the others are compared with: the least a ring can be, and the two kinds
/// that kernels and drivers ship.
const REFERENCES: [&str; 3] = ["bare-ring", "lock-ring", "bpf"];

/// For people.
pub(crate) fn text(results: &Results) -> String {
    let mut text = table::render(results);
    text.push_str(&goals::render(&goals::judge(results)));
    text
}

/// results.json: everything measured, and what the goals came to.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    results: &'a Results,
    goals: Vec<goals::Verdict>,
}

/// Writes the files, and says which.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<Vec<PathBuf>> {
    let document = Document {
        results,
        goals: goals::judge(results),
    };
    let json = serde_json::to_string_pretty(&document)? + "\n";
    let files = [("results.json", json), ("chart.svg", chart::draw(results))];
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut written = Vec::new();
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestant::Idle;
    use crate::series::Row;
    use crate::series::tests::made_up;

    #[test]
    fn the_files_hold_what_was_measured() {
        let row = Row::flow(64, 1, Idle::Sleeps);
        let results = made_up(&[("lock-ring", row, &[9.0, 10.0, 11.0])]);
        let folder = std::env::temp_dir().join(format!("bench-report-{}", std::process::id()));
        let written = write(&results, &folder).unwrap();
        let json = fs::read_to_string(&written[0]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["cells"][0]["contestant"], "lock-ring");
        assert_eq!(json["cells"][0]["row"]["idle"], "sleeps");
        assert_eq!(json["cells"][0]["outcomes"][1]["rate"], 10.0);
        assert_eq!(json["skipped"][0]["reason"], "a cause");
        assert!(json["goals"].is_array());
        assert!(fs::read_to_string(&written[1]).unwrap().starts_with("<svg"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
