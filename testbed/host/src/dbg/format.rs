// SPDX-License-Identifier: MIT OR Apache-2.0
//! The format strings of DbgPrint: those of Microsoft's printf without floating point, and with
//! `%wZ` and `%Z` for NT's counted strings.

use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use crate::abi::UNICODE_STRING;
use crate::irql::{self, PASSIVE_LEVEL};
use crate::unicode;
use crate::verifier::{Report, Rule};

/// As many characters as a field is padded to, and as many digits as a number has: more than any
/// line that somebody reads. Without a limit a width that is garbage could take all memory.
const MOST_PADDING: usize = 1024;

/// How wide the argument of a conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Char,
    Short,
    /// Also `l`: a long has 32 bits on Windows.
    Int,
    /// `ll`, `I64`, and what has a pointer's size: `I`, `z`, `t`.
    Long,
    /// `w`, and `l` before a character or string: UTF-16.
    Wide,
}

/// One conversion of a format string, between the percent sign and its letter.
#[derive(Debug, Default)]
struct Flags {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
}

/// The values behind the format string; those that were not passed are whatever lies there, as on
/// NT.
struct Arguments<'a>(std::slice::Iter<'a, usize>);

impl Arguments<'_> {
    fn next(&mut self) -> usize {
        self.0.next().copied().unwrap_or(0)
    }

    /// A width or a precision, an int.
    fn count(&mut self) -> i64 {
        i64::from(self.next().cast_signed() as i32)
    }
}

/// Formats as DbgPrint does.
///
/// # Safety
/// The arguments are what the format string asks for; strings are valid or null.
pub(super) unsafe fn format(format: &str, arguments: &[usize]) -> String {
    let mut arguments = Arguments(arguments.iter());
    let mut text = String::new();
    let mut rest = format.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        // SAFETY: by contract.
        unsafe { convert(&mut rest, &mut arguments, &mut text) };
    }
    text
}

/// # Safety
/// As for [`format`].
unsafe fn convert(
    rest: &mut Peekable<Chars<'_>>,
    arguments: &mut Arguments<'_>,
    text: &mut String,
) {
    let mut flags = flags(rest);
    let width = number(rest, arguments).unwrap_or(0);
    flags.left |= width < 0;
    // A negative precision is none.
    let precision = rest
        .next_if_eq(&'.')
        .map(|_| number(rest, arguments).unwrap_or(0))
        .and_then(|number| usize::try_from(number).ok());
    let size = size(rest);
    let Some(letter) = rest.next() else {
        return;
    };
    let field = match letter {
        '%' => "%".to_owned(),
        'd' | 'i' => signed(arguments.next(), size, &flags, precision),
        'u' | 'x' | 'X' | 'o' => unsigned(arguments.next(), size, letter, &flags, precision),
        'p' => format!("{:016X}", arguments.next()),
        'c' | 'C' => character(arguments.next(), size, letter),
        // SAFETY: by contract.
        's' | 'S' => unsafe { string(arguments.next(), size, letter, precision) },
        // SAFETY: by contract.
        'Z' => unsafe { counted(arguments.next(), size) },
        other => format!("%{other}"),
    };
    pad(text, &field, width, &flags, precision.is_some());
}

fn flags(rest: &mut Peekable<Chars<'_>>) -> Flags {
    let mut flags = Flags::default();
    while let Some(flag) = rest.next_if(|c| "-0+ #".contains(*c)) {
        match flag {
            '-' => flags.left = true,
            '0' => flags.zero = true,
            '+' => flags.plus = true,
            ' ' => flags.space = true,
            _ => flags.alternate = true,
        }
    }
    flags
}

/// A width or a precision; negative where an argument says so.
fn number(rest: &mut Peekable<Chars<'_>>, arguments: &mut Arguments<'_>) -> Option<i64> {
    if rest.next_if_eq(&'*').is_some() {
        return Some(arguments.count());
    }
    let mut number = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        rest.next();
        let value = number.unwrap_or(0_i64).saturating_mul(10);
        number = Some(value.saturating_add(i64::from(digit)));
    }
    number
}

fn size(rest: &mut Peekable<Chars<'_>>) -> Size {
    let Some(first) = rest.next_if(|c| "hlwIzt".contains(*c)) else {
        return Size::Int;
    };
    match first {
        'h' if rest.next_if_eq(&'h').is_some() => Size::Char,
        'h' => Size::Short,
        'l' if rest.next_if_eq(&'l').is_some() => Size::Long,
        // Before a number this is an int, see `integer`.
        'l' | 'w' => Size::Wide,
        'I' if rest.next_if_eq(&'3').is_some() => {
            rest.next_if_eq(&'2');
            Size::Int
        }
        'I' if rest.next_if_eq(&'6').is_some() => {
            rest.next_if_eq(&'4');
            Size::Long
        }
        _ => Size::Long,
    }
}

fn signed(value: usize, size: Size, flags: &Flags, precision: Option<usize>) -> String {
    let value = value.cast_signed();
    let value = match size {
        Size::Char => value as i8 as isize,
        Size::Short => value as i16 as isize,
        Size::Int | Size::Wide => value as i32 as isize,
        Size::Long => value,
    };
    let sign = match value {
        ..0 => "-",
        _ if flags.plus => "+",
        _ if flags.space => " ",
        _ => "",
    };
    let digits = precision.unwrap_or(1).min(MOST_PADDING);
    format!("{sign}{:0digits$}", value.unsigned_abs())
}

fn unsigned(
    value: usize,
    size: Size,
    letter: char,
    flags: &Flags,
    precision: Option<usize>,
) -> String {
    let value = match size {
        Size::Char => value & 0xFF,
        Size::Short => value & 0xFFFF,
        Size::Int | Size::Wide => value & 0xFFFF_FFFF,
        Size::Long => value,
    };
    let digits = precision.unwrap_or(1).min(MOST_PADDING);
    let prefix = match letter {
        'x' if flags.alternate => "0x",
        'X' if flags.alternate => "0X",
        _ => "",
    };
    match letter {
        'x' => format!("{prefix}{value:0digits$x}"),
        'X' => format!("{prefix}{value:0digits$X}"),
        'o' => format!("{value:0digits$o}"),
        _ => format!("{value:0digits$}"),
    }
}

fn character(value: usize, size: Size, letter: char) -> String {
    let mut unit = value as u16;
    if is_unicode(size, letter) {
        check_irql();
    } else {
        unit &= 0xFF;
    }
    unicode::decode(&[unit])
}

/// Whether `%c` and `%s` with this size, `%C` and `%S` mean UTF-16.
fn is_unicode(size: Size, letter: char) -> bool {
    size == Size::Wide || (letter.is_uppercase() && size != Size::Short)
}

/// # Safety
/// `address` is null or a string of this kind, which ends with a zero or has `precision` units.
unsafe fn string(address: usize, size: Size, letter: char, precision: Option<usize>) -> String {
    if address == 0 {
        return "(null)".to_owned();
    }
    let most = precision.unwrap_or(usize::MAX);
    if is_unicode(size, letter) {
        check_irql();
        // SAFETY: by contract.
        return unsafe { wide(address as *const u16, most) };
    }
    if precision.is_none() {
        // SAFETY: not null, and ends with a zero by contract.
        let text = unsafe { CStr::from_ptr(address as *const c_char) };
        return text.to_string_lossy().into_owned();
    }
    let start = address as *const u8;
    let bytes: Vec<u8> = (0..most)
        // SAFETY: in front of the end, by contract.
        .map(|index| unsafe { start.wrapping_add(index).read() })
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// # Safety
/// `start` is a string that ends with a zero or has `most` units.
unsafe fn wide(start: *const u16, most: usize) -> String {
    let units: Vec<u16> = (0..most)
        // SAFETY: in front of the end, by contract.
        .map(|index| unsafe { start.wrapping_add(index).read_unaligned() })
        .take_while(|unit| *unit != 0)
        .collect();
    unicode::decode(&units)
}

/// # Safety
/// `address` is null or a UNICODE_STRING (`%wZ`), else a STRING, which has the same shape.
unsafe fn counted(address: usize, size: Size) -> String {
    let string = address as *const UNICODE_STRING;
    if string.is_null() {
        return "(null)".to_owned();
    }
    // SAFETY: not null, and a string by contract.
    let UNICODE_STRING { Length, Buffer, .. } = unsafe { string.read_unaligned() };
    if Buffer.is_null() {
        return "(null)".to_owned();
    }
    if size == Size::Wide {
        check_irql();
        // SAFETY: by contract.
        return unicode::decode(&unsafe { unicode::read(string) });
    }
    // SAFETY: a string says where its bytes are and how many.
    let bytes = unsafe { std::slice::from_raw_parts(Buffer.cast::<u8>(), Length.into()) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// The page of DbgPrint allows the Unicode formats at PASSIVE_LEVEL only.
fn check_irql() {
    let irql = irql::current();
    if irql > PASSIVE_LEVEL {
        Report::new(Rule::IrqlTooHigh)
            .function("DbgPrintEx")
            .expected("IRQL <= PASSIVE_LEVEL for a Unicode string in a format")
            .found(irql::name(irql))
            .detail("print the string before the lock is taken, or not at all")
            .file();
    }
}

fn pad(text: &mut String, field: &str, width: i64, flags: &Flags, has_precision: bool) {
    let width = usize::try_from(width.unsigned_abs()).unwrap_or(MOST_PADDING);
    let width = width.min(MOST_PADDING);
    // Writing to a String cannot fail.
    let _ = if flags.left {
        write!(text, "{field:<width$}")
    } else if flags.zero && !has_precision {
        let digits = field.trim_start_matches(['-', '+', ' ']);
        let (sign, digits) = (&field[..field.len() - digits.len()], digits);
        let width = width.saturating_sub(sign.len());
        write!(text, "{sign}{digits:0>width$}")
    } else {
        write!(text, "{field:>width$}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str, arguments: &[usize]) -> String {
        // SAFETY: the tests pass what they ask for.
        unsafe { format(text, arguments) }
    }

    #[test]
    fn numbers_have_windows_widths() {
        let minus_one = u32::MAX as usize;
        assert_eq!(printed("%d %i", &[minus_one, 7]), "-1 7");
        assert_eq!(
            printed("%ld %lu", &[minus_one, usize::MAX]),
            "-1 4294967295"
        );
        assert_eq!(
            printed("%lld %I64u", &[usize::MAX, 1 << 40]),
            "-1 1099511627776"
        );
        assert_eq!(printed("%hd %hhu", &[0xFFFF, 0x1FF]), "-1 255");
        assert_eq!(
            printed("%zu %Ix", &[1 << 33, 1 << 36]),
            "8589934592 1000000000"
        );
    }

    #[test]
    fn fields_are_padded_as_asked() {
        assert_eq!(
            printed("[%5d|%-5d|%05d]", &[42, 42, 42]),
            "[   42|42   |00042]"
        );
        assert_eq!(
            printed("%+d % d %05d", &[1, 1, -3_isize as usize]),
            "+1  1 -0003"
        );
        assert_eq!(
            printed("%08X %#x %.4x", &[0xBEEF, 0xAB, 0xC]),
            "0000BEEF 0xab 000c"
        );
        assert_eq!(printed("[%*d]", &[4, 7]), "[   7]");
        assert_eq!(printed("%p", &[0x1234]), "0000000000001234");
    }

    #[test]
    fn strings_are_narrow_wide_or_counted() {
        let wide: Vec<u16> = "breit\0".encode_utf16().collect();
        let mut units: Vec<u16> = "gezählt!".encode_utf16().collect();
        let counted = UNICODE_STRING {
            Length: 14,
            MaximumLength: 16,
            Buffer: units.as_mut_ptr(),
        };
        let address = |pointer: *const u16| pointer as usize;
        assert_eq!(printed("%s|%.2s", &[c"eng".as_ptr() as usize; 2]), "eng|en");
        assert_eq!(
            printed("%ws|%S|%.3ls", &[address(wide.as_ptr()); 3]),
            "breit|breit|bre"
        );
        assert_eq!(printed("%wZ", &[(&raw const counted) as usize]), "gezählt");
        assert_eq!(printed("%s %wZ", &[0, 0]), "(null) (null)");
        assert_eq!(printed("%c%C 100%%", &[0x41, 0xE4]), "Aä 100%");
    }

    #[test]
    fn what_is_no_conversion_is_printed_as_it_is() {
        assert_eq!(printed("%y %", &[]), "%y ");
    }
}
