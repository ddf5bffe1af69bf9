// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments as one line, in the form in which programs on Windows get them.

#![forbid(unsafe_code)]

/// Joins arguments with blanks. One that is empty or contains a blank, a tab or a quotation mark is
/// put in quotation marks, with backslashes as programs on Windows read them: before a quotation
/// mark inside, and doubled where they stand before one.
pub(super) fn join<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut line = Vec::new();
    for (index, argument) in arguments.enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        let special = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'"');
        if argument.is_empty() || argument.iter().any(special) {
            quote(argument, &mut line);
        } else {
            line.extend_from_slice(argument);
        }
    }
    line
}

fn quote(argument: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    let mut backslashes = 0;
    for byte in argument {
        match byte {
            b'\\' => backslashes += 1,
            b'"' => {
                line.extend(std::iter::repeat_n(b'\\', backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        line.push(*byte);
    }
    line.extend(std::iter::repeat_n(b'\\', backslashes));
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(arguments: &[&str]) -> String {
        String::from_utf8(join(arguments.iter().map(|text| text.as_bytes()))).unwrap()
    }

    #[test]
    fn arguments_are_quoted_where_they_must_be() {
        assert_eq!(joined(&["sh", "-c", "exit 3"]), r#"sh -c "exit 3""#);
        assert_eq!(joined(&["a", "", "b"]), r#"a "" b"#);
        assert_eq!(joined(&[r"c:\x\", "y"]), r"c:\x\ y");
        assert_eq!(joined(&[r"c:\x y\"]), r#""c:\x y\\""#);
        assert_eq!(joined(&[r#"say "hi""#]), r#""say \"hi\"""#);
        assert_eq!(joined(&[r#"\""#]), r#""\\\"""#);
        assert_eq!(joined(&[]), "");
    }
}
