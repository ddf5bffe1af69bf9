// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust declarations that the hosted kernel's functions are checked against when it is
//! compiled, read as text: the bindings are generated in one form.

use std::collections::BTreeMap;

use super::layouts;

const SOURCES: [&str; 4] = [
    include_str!("../../../../kernel/nt/src/bindings.rs"),
    include_str!("../../../../kernel/nt/src/linked.rs"),
    include_str!("../../../../kernel/nt/src/mm/locked_pages.rs"),
    include_str!("../../../../kernel/nt/src/user_memory.rs"),
];

/// What `fltport-nt` declares.
pub(crate) struct Declarations {
    /// The result's and the arguments' types.
    functions: BTreeMap<String, Vec<String>>,
    aliases: BTreeMap<String, String>,
    pub(crate) constants: BTreeMap<String, i64>,
}

impl Declarations {
    pub(crate) fn read() -> Declarations {
        let mut all = Declarations {
            functions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            constants: BTreeMap::new(),
        };
        for source in SOURCES {
            let plain: Vec<&str> = source
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            for item in plain.join(" ").split(';') {
                all.read_item(item);
            }
        }
        all
    }

    fn read_item(&mut self, item: &str) {
        if let Some((_, function)) = item.rsplit_once("fn ")
            && let Some((name, rest)) = function.split_once('(')
            && let Some((arguments, result)) = rest.rsplit_once(')')
            && !item.contains("pub type ")
        {
            let mut types = vec![result.trim().trim_start_matches("->").trim().to_owned()];
            let types_of = arguments.split(',').filter_map(|one| one.split_once(':'));
            types.extend(types_of.map(|(_, type_name)| type_name.trim().to_owned()));
            self.functions.entry(name.to_owned()).or_insert(types);
        } else if let Some((_, alias)) = item.split_once("pub type ")
            && let Some((name, target)) = alias.split_once(" = ")
        {
            self.aliases
                .insert(name.to_owned(), target.trim().to_owned());
        } else if let Some((_, constant)) = item.split_once("pub const ")
            && let Some((name, rest)) = constant.split_once(": ")
            && let Some((_, value)) = rest.split_once(" = ")
            && let Some(value) = number(value)
        {
            self.constants.insert(name.to_owned(), value);
        }
    }

    /// The sizes of a function's result and arguments; no result has none.
    pub(crate) fn sizes_of(&self, function: &str) -> Option<Vec<i64>> {
        let types = self.functions.get(function)?;
        // What follows in a variable argument list has no type.
        let fixed = types.iter().filter(|type_name| *type_name != "...");
        Some(fixed.map(|type_name| self.size(type_name)).collect())
    }

    fn size(&self, type_name: &str) -> i64 {
        match type_name {
            "" => 0,
            "bool" | "u8" | "i8" => 1,
            "u16" | "i16" => 2,
            "u32" | "i32" => 4,
            "u64" | "i64" | "usize" | "isize" => 8,
            pointer if pointer.starts_with('*') || pointer.starts_with("Option<") => 8,
            named => match self.aliases.get(named) {
                Some(target) => self.size(target),
                None => layouts::all()[named].size,
            },
        }
    }
}

/// A literal with its suffix and cast: `0xC0000001_u32 as _`, `6i32`.
fn number(text: &str) -> Option<i64> {
    let text = text.split(" as ").next()?.trim();
    let text = ["u32", "i32", "u16", "u8", "u64", "_"]
        .iter()
        .fold(text, |text, suffix| text.trim_end_matches(suffix));
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}
