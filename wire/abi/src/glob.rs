// SPDX-License-Identifier: MIT OR Apache-2.0
//! File name patterns, matched alike in the driver and in the service.
//!
//! `*` stands for any characters (separators too), `?` for one. A pattern without a separator (`/`
//! or `\`) is held against the last part of the path only, so `nc` means any program of that name.
//! As NT does, case is ignored: the caller passes the upper-case mapping, which in the kernel is
//! NT's own table.

use crate::text::Text;

/// The longest pattern that is accepted, in UTF-16 units.
pub const MAX_PATTERN: usize = 1024;

fn is_separator(unit: u16) -> bool {
    unit == u16::from(b'/') || unit == u16::from(b'\\')
}

/// Whether `path` matches `pattern`.
///
/// `upcase` maps one UTF-16 unit to upper case. Time is bounded by the product of the lengths;
/// nothing is allocated.
pub fn matches(pattern: Text<'_>, path: Text<'_>, upcase: impl Fn(u16) -> u16) -> bool {
    let mut path = path.units();
    if !pattern.units().any(is_separator) {
        let mut rest = path.clone();
        while let Some(unit) = rest.next() {
            if is_separator(unit) {
                path = rest.clone();
            }
        }
    }
    let mut pattern = pattern.units();
    // Where to go on if what follows the last star does not fit: the pattern behind the star, and
    // the path one unit further.
    let mut retry: Option<(crate::text::Units<'_>, crate::text::Units<'_>)> = None;
    loop {
        let fits = match pattern.next() {
            Some(unit) if unit == u16::from(b'*') => {
                retry = Some((pattern.clone(), path.clone()));
                continue;
            }
            None if path.clone().next().is_none() => return true,
            None => false,
            Some(unit) => match path.next() {
                None => return false,
                Some(_) if unit == u16::from(b'?') => true,
                Some(found) => upcase(found) == upcase(unit),
            },
        };
        if fits {
            continue;
        }
        let Some((behind_star, from)) = retry.as_mut() else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        pattern = behind_star.clone();
        path = from.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str, path: &str) -> bool {
        matches(Text::Utf8(pattern), Text::Utf8(path), |u| {
            u8::try_from(u).map_or(u, |b| b.to_ascii_uppercase().into())
        })
    }

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("*/nc", "/usr/bin/nc", true),
            ("nc", "/usr/bin/nc", true),
            ("NC", "C:\\tools\\nc", true),
            ("nc", "/usr/bin/ncat", false),
            ("n?", "/usr/bin/nc", true),
            ("/usr/*", "/usr/bin/nc", true),
            ("/usr/*/x", "/usr/bin/nc", false),
            ("*a*b*c", "/aXbXbc", true),
            ("*a*b*c", "/aXcXcb", false),
            ("", "/bin/x", false),
            ("", "", true),
            ("*", "/bin/x", true),
            ("***", "", true),
            ("/bin/x", "/bin/xy", false),
            ("/bin/xy", "/bin/x", false),
        ] {
            assert_eq!(glob(pattern, path), expected, "{pattern} against {path}");
        }
    }
}
