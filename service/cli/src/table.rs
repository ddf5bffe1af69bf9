// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table that `watch` prints: fitted to the terminal, or in full where there is none.

use anstyle::{AnsiColor, Style};
use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const TIME: usize = 12;
const EVENT: usize = 6;
const PID: usize = 7;
const EXIT: usize = 6;

/// Columns of all but image and command line, with the blanks between.
const REST: usize = TIME + EVENT + PID + PID + EXIT + 6;

/// Below this width there is one column for image, command line and exit code together.
const NARROW: usize = REST + 16;

/// What a row is about; decides the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Start,
    Exit,
    Bad,
    Loss,
    Other,
}

/// One row, as text.
#[derive(Clone, Debug)]
pub(crate) struct Row<'r> {
    pub(crate) tone: Tone,
    pub(crate) time: String,
    pub(crate) event: Cow<'r, str>,
    pub(crate) pid: String,
    pub(crate) parent: String,
    pub(crate) image: Cow<'r, str>,
    pub(crate) command_line: Cow<'r, str>,
    pub(crate) exit: String,
}

/// The header.
pub(crate) fn header(width: Option<usize>, colour: bool) -> String {
    let row = Row {
        tone: Tone::Other,
        time: "time".into(),
        event: "event".into(),
        pid: "pid".into(),
        parent: "parent".into(),
        image: "image".into(),
        command_line: "command line".into(),
        exit: "exit".into(),
    };
    let text = format_row(&row, width);
    if colour {
        let style = Style::new().bold();
        format!("{style}{text}{style:#}")
    } else {
        text
    }
}

/// A row.
pub(crate) fn line(row: &Row<'_>, width: Option<usize>, colour: bool) -> String {
    let text = format_row(row, width);
    let style = match row.tone {
        Tone::Start => AnsiColor::Green.on_default(),
        Tone::Exit => Style::new().dimmed(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
        Tone::Loss => AnsiColor::Yellow.on_default().bold(),
        Tone::Other => Style::new(),
    };
    if colour {
        format!("{style}{text}{style:#}")
    } else {
        text
    }
}

fn format_row(row: &Row<'_>, width: Option<usize>) -> String {
    let text = match width {
        Some(width) if width < NARROW => format_narrow(row, width),
        _ => format_wide(row, width),
    };
    match width {
        // Names and numbers may be wider than their columns.
        Some(width) => cut_end(text.trim_end(), width),
        None => text.trim_end().to_owned(),
    }
}

/// The end of the path says most; of what has no path, the beginning.
fn format_narrow(row: &Row<'_>, width: usize) -> String {
    let event = printable(&row.event);
    let head = format!("{:8.8} {event:EVENT$} {:>PID$}", row.time, row.pid);
    let exit = match row.exit.as_str() {
        "" => String::new(),
        exit => format!(" {exit}"),
    };
    let left = width.saturating_sub(head.width() + exit.width() + 1);
    let what = match printable(&row.image) {
        image if image.is_empty() => cut_end(&printable(&row.command_line), left),
        image => cut_front(&image, left),
    };
    format!("{head}{exit} {what}")
}

fn format_wide(row: &Row<'_>, width: Option<usize>) -> String {
    let event = printable(&row.event);
    let image = printable(&row.image);
    let command_line = printable(&row.command_line);
    let others = [&row.pid, &row.parent, &row.exit];
    if width.is_some() && image.is_empty() && others.iter().all(|cell| cell.is_empty()) {
        // What is about no process has all columns: the end of a loss says why it is one.
        return format!("{:TIME$} {event:EVENT$} {command_line}", row.time);
    }
    let (image, command_line) = match width.map(columns) {
        Some((for_image, for_line)) => (
            pad(&cut_front(&image, for_image), for_image),
            pad(&cut_end(&command_line, for_line), for_line),
        ),
        None => (pad(&image, 40), pad(&command_line, 40)),
    };
    format!(
        "{:TIME$} {event:EVENT$} {:>PID$} {:>PID$} {image} {command_line} {:>EXIT$}",
        row.time, row.pid, row.parent, row.exit
    )
}

/// The widths of image and command line in a terminal of `width` columns.
fn columns(width: usize) -> (usize, usize) {
    let left = width.saturating_sub(REST);
    let image = (left * 2 / 5).max(8);
    (image, left.saturating_sub(image).max(8))
}

/// Control characters, which a process may have in its command line, must not reach the terminal;
/// nor characters that turn the direction of what follows, or end the line.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || misleads(c) {
                '·'
            } else {
                c
            }
        })
        .collect()
}

fn misleads(character: char) -> bool {
    matches!(character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// Keeps the end, which tells more of a path.
fn cut_front(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept: String = fitting(text.chars().rev(), width).chars().rev().collect();
    // Some characters are wider together than each by itself.
    while kept.width() >= width && !kept.is_empty() {
        kept.remove(0);
    }
    format!("…{kept}")
}

/// Keeps the beginning.
fn cut_end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = fitting(text.chars(), width);
    while kept.width() >= width && !kept.is_empty() {
        kept.pop();
    }
    format!("{kept}…")
}

/// The characters that fit into one column less than `width`.
fn fitting(characters: impl Iterator<Item = char>, width: usize) -> String {
    let mut left = width.saturating_sub(1);
    characters
        .take_while(|c| {
            let columns = c.width().unwrap_or(0);
            let fits = columns <= left;
            left = left.saturating_sub(columns);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row<'r>(image: &'r str, command_line: &'r str) -> Row<'r> {
        Row {
            tone: Tone::Start,
            time: "12:34:56.789".into(),
            event: "start".into(),
            pid: "1234567".into(),
            parent: "1".into(),
            image: image.into(),
            command_line: command_line.into(),
            exit: String::new(),
        }
    }

    #[test]
    fn paths_are_cut_at_the_front_and_command_lines_at_the_end() {
        assert_eq!(cut_front("/usr/lib/thing", 8), "…b/thing");
        assert_eq!(cut_end("thing --with-much", 8), "thing -…");
        assert_eq!(cut_front("/bin/sh", 8), "/bin/sh");
        assert_eq!(cut_end("日本語", 4), "日…");
    }

    #[test]
    fn a_pipe_gets_everything_and_no_colour() {
        let image = format!("/opt/{}", "x".repeat(200));
        let line = line(&row(&image, "a \u{1b}[31m b"), None, false);
        assert!(line.contains(&image), "{line}");
        assert!(!line.contains('\u{1b}'));
        assert!(line.contains("a ·[31m b"));
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters_most() {
        let mut exit = row("/usr/lib/very/long/path/thing", "");
        (exit.event, exit.exit) = ("exit".into(), "-9".into());
        let text = line(&exit, Some(40), false);
        assert_eq!(text, "12:34:56 exit   1234567 -9 …g/path/thing");
        let lost = Row {
            pid: String::new(),
            ..row("", "7 process-monitor/start: ring full")
        };
        assert_eq!(
            line(&lost, Some(40), false),
            "12:34:56 start          7 process-monit…"
        );
        assert!(header(Some(40), false).ends_with("exit image"));
    }

    #[test]
    fn what_is_about_no_process_has_all_columns() {
        let lost = Row {
            event: "lost".into(),
            pid: String::new(),
            parent: String::new(),
            ..row(
                "",
                "34767 process-monitor/start: ring full; loud took too much",
            )
        };
        assert_eq!(
            line(&lost, Some(80), false),
            "12:34:56.789 lost   34767 process-monitor/start: ring full; loud took too much"
        );
    }

    #[test]
    fn nothing_turns_the_line_around() {
        assert_eq!(
            printable("a\u{202e}exe.txt\u{2066}\u{2028}\u{85}b"),
            "a·exe.txt···b"
        );
        assert_eq!(printable("naïve 日本 عربي"), "naïve 日本 عربي");
    }

    #[test]
    fn a_terminal_gets_colours_around_the_row() {
        let line = line(&row("/bin/a", "a"), Some(80), true);
        assert!(line.starts_with("\u{1b}[32m") && line.ends_with("\u{1b}[0m"));
    }

    proptest! {
        #[test]
        fn no_row_is_wider_than_the_terminal(image in ".{0,300}", command_line in ".{0,300}", width in 1_usize..300) {
            let line = line(&row(&image, &command_line), Some(width), false);
            prop_assert!(line.width() <= width, "{} > {width}: {line}", line.width());
            prop_assert!(header(Some(width), false).width() <= width);
        }
    }
}
