// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading our own C headers, which keep to one form: comments between `/*` and `*/`, one
//! declaration up to a semicolon, annotations without parentheses, typedefs for every pointer to
//! a function.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What the headers declare.
#[derive(Default)]
pub(crate) struct Header {
    /// The types of the result and of the arguments, as C writes them.
    pub(crate) functions: BTreeMap<String, Vec<String>>,
    /// The fields, without those in unnamed unions.
    pub(crate) structs: BTreeMap<String, Vec<String>>,
    /// Macros without arguments, and enumerators.
    pub(crate) constants: BTreeSet<String>,
}

impl Header {
    /// Takes in one header.
    pub(crate) fn read(&mut self, text: &str) {
        let text = without_comments(text).replace("\\\n", " ");
        let mut code = String::new();
        for line in text.lines() {
            match line.trim_start().strip_prefix("#define ") {
                Some(definition) => self.read_macro(definition),
                None if line.trim_start().starts_with('#') => {}
                None => code.push_str(&format!("{line}\n")),
            }
        }
        let code = code.replace("NT_HOST_BEGIN", "").replace("NT_HOST_END", "");
        for declaration in declarations(&code) {
            self.read_declaration(&declaration);
        }
    }

    fn read_macro(&mut self, definition: &str) {
        let name = definition.split_whitespace().next().unwrap_or_default();
        if !name.contains('(') && definition.len() > name.len() {
            self.constants.insert(name.to_owned());
        }
    }

    fn read_declaration(&mut self, text: &str) {
        let plain = text.strip_prefix("typedef ").unwrap_or(text);
        if let Some((head, body, tail)) = braces(plain) {
            let tag = head.split_whitespace().last().unwrap_or_default();
            let name = tail.split([',', ' ']).find(|word| !word.is_empty());
            let name = name.unwrap_or(tag).trim_start_matches('_').to_owned();
            if head.starts_with("struct") {
                self.structs.insert(name, fields(body));
            } else if head.starts_with("enum") {
                let each = body
                    .split(',')
                    .filter_map(|one| one.split_whitespace().next());
                self.constants.extend(each.map(str::to_owned));
            }
        } else if plain.len() == text.len() && !text.starts_with("extern ") {
            self.read_function(text);
        }
    }

    fn read_function(&mut self, text: &str) {
        let Some((head, arguments)) = text.split_once('(') else {
            return;
        };
        let Some(arguments) = arguments.strip_suffix(')') else {
            return;
        };
        let Some((result, name)) = head
            .trim_end()
            .rsplit_once(|c: char| c.is_whitespace() || c == '*')
        else {
            return;
        };
        if !result.chars().next().is_some_and(char::is_uppercase) {
            return;
        }
        let result = result.replace("DECLSPEC_NORETURN", "");
        let mut types = vec![result.trim().to_owned()];
        types.extend(arguments.split(',').filter_map(argument_type));
        self.functions.insert(name.to_owned(), types);
    }

    /// A program that prints a line `kind name = numbers` for everything that was read.
    pub(crate) fn program(&self, constants: &BTreeSet<&str>) -> String {
        let mut text = "#include <fltKernel.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
        let mut print = |name: String, values: Vec<String>| {
            let _ = write!(text, "printf(\"{name} =\");");
            for value in values {
                let _ = write!(text, " printf(\" %lld\", (long long)({value}));");
            }
            text.push_str(" printf(\"\\n\");\n");
        };
        for (name, types) in &self.functions {
            print(
                format!("function {name}"),
                types.iter().map(|it| size_of(it)).collect(),
            );
        }
        for (name, fields) in &self.structs {
            print(format!("struct {name}"), vec![size_of(name)]);
            for field in fields {
                let offset = format!("offsetof({name}, {field})");
                let size = format!("sizeof((({name} *)0)->{field})");
                print(format!("field {name}.{field}"), vec![offset, size]);
            }
        }
        for name in constants {
            print(format!("constant {name}"), vec![(*name).to_owned()]);
        }
        text.push_str("return 0;\n}\n");
        text
    }
}

fn size_of(c_type: &str) -> String {
    match c_type {
        "VOID" => "0".to_owned(),
        other => format!("sizeof({other})"),
    }
}

fn without_comments(text: &str) -> String {
    let mut parts = text.split("/*");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once("*/").map_or("", |(_, behind)| behind));
    }
    plain
}

/// Splits at the semicolons outside of braces; the body of a function ends one, too.
fn declarations(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut depth = 0;
    for character in code.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if character == ';' && depth == 0 {
            found.push(std::mem::take(&mut current));
        } else {
            current.push(character);
        }
        if character == '}' && depth == 0 && current.trim_start().starts_with("static FORCEINLINE")
        {
            current.clear();
        }
    }
    let words = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    found.iter().map(words).collect()
}

/// What stands before, in and behind the outer braces.
fn braces(text: &str) -> Option<(&str, &str, &str)> {
    let (head, rest) = text.split_once('{')?;
    let (body, tail) = rest.rsplit_once('}')?;
    Some((head.trim(), body, tail.trim()))
}

fn fields(body: &str) -> Vec<String> {
    let name = |field: &String| {
        let field = field.split('[').next()?.trim();
        let nameless = field.contains('{') || field.contains(':') || field.is_empty();
        let name = field.rsplit([' ', '*']).next()?;
        (!nameless).then(|| name.to_owned())
    };
    declarations(body).iter().filter_map(name).collect()
}

/// The type of an argument: without annotations and without its name.
fn argument_type(argument: &str) -> Option<String> {
    if argument.contains("...") || argument.trim() == "VOID" {
        return None;
    }
    if argument.contains('[') {
        return Some("PVOID".to_owned());
    }
    let is_annotation = |word: &&str| word.starts_with('_') && word.ends_with('_');
    let words: Vec<&str> = argument
        .split_whitespace()
        .filter(|word| !is_annotation(word))
        .collect();
    let text = words.join(" ");
    let name = text.rsplit([' ', '*']).next()?.len();
    Some(text[..text.len() - name].trim().to_owned())
}
