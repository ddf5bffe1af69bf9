// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an operator is told: `fltport status --json`, in numbers.

use crate::orders::Numbers;
use crate::watching;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Asks; `NAME-of-PROVIDER` are sums over all connections.
pub(crate) fn status(socket: Option<&Path>) -> Result<Numbers> {
    let program = watching::command().context("there is no fltport beside this program")?;
    let mut command = Command::new(program);
    command.args(["status", "--json"]).stdin(Stdio::null());
    if let Some(socket) = socket {
        command.arg("--socket").arg(socket);
    }
    let told = command.output().context("fltport cannot be started")?;
    let errors = String::from_utf8_lossy(&told.stderr);
    ensure!(
        told.status.success(),
        "`fltport status --json` has ended with {}, and said: {errors}",
        told.status
    );
    let json = serde_json::from_slice(&told.stdout).context("`fltport status --json`: no JSON")?;
    Ok(numbers(&json))
}

fn numbers(json: &Value) -> Numbers {
    let mut numbers = Numbers::new();
    let rows = |list: &str| json.get(list).and_then(Value::as_array).cloned();
    for list in ["providers", "connections", "usage", "ledger"] {
        let count = rows(list).map_or(0, |rows| rows.len() as u64);
        numbers.insert(list.to_owned(), count);
    }
    for row in rows("usage").unwrap_or_default() {
        let provider = row.get("provider").and_then(Value::as_str);
        for name in ["blamed", "filtered", "muted"] {
            let count = row.get(name).and_then(Value::as_u64).unwrap_or(0);
            let name = format!("{name}-of-{}", provider.unwrap_or("nobody"));
            *numbers.entry(name).or_default() += count;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_summed_over_connections() {
        let json = serde_json::json!({
            "providers": [{}, {}],
            "usage": [
                {"provider": "a", "blamed": 3, "filtered": 1},
                {"provider": "a", "blamed": 4, "filtered": 0},
                {"provider": "b", "blamed": 0, "filtered": 2},
            ],
        });
        let numbers = numbers(&json);
        assert_eq!((numbers["providers"], numbers["connections"]), (2, 0));
        assert_eq!((numbers["blamed-of-a"], numbers["blamed-of-b"]), (7, 0));
        assert_eq!(numbers["filtered-of-b"], 2);
    }
}
