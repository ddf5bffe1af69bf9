// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words in which scenarios name a refusal, and what each floor says for them: the hosted kernel
//! the driver's NTSTATUS, Windows the HRESULT that fltlib.dll makes of it.
//!
//! The HRESULTs: facility 0x1C becomes 0x1F (fltWinError.h), the rest goes through the Win32 error
//! that `RtlNtStatusToDosError` is documented to give.

use crate::orders::{Code, Refusal};
use fltport_abi::status;

struct Word {
    word: &'static str,
    status: i32,
    hresult: u32,
}

impl Word {
    fn stands_for(&self, code: Code) -> bool {
        match code {
            Code::Status(status) => self.status == status,
            Code::Hresult(hresult) => self.hresult == hresult as u32,
        }
    }
}

const WORDS: [Word; 20] = [
    word("access-violation", status::ACCESS_VIOLATION, 0x8007_03E6),
    word("invalid-parameter", status::INVALID_PARAMETER, 0x8007_0057),
    word(
        "unknown-command",
        status::INVALID_DEVICE_REQUEST,
        0x8007_0001,
    ),
    word("access-denied", status::ACCESS_DENIED, 0x8007_0005),
    word("buffer-too-small", status::BUFFER_TOO_SMALL, 0x8007_007A),
    word("not-found", status::NOT_FOUND, 0x8007_0490),
    word("disconnected", status::PORT_DISCONNECTED, 0x8007_0006),
    word("decider-taken", status::SHARING_VIOLATION, 0x8007_0020),
    word("no-resources", status::INSUFFICIENT_RESOURCES, 0x8007_05AA),
    word("too-many", 0xC000_0246_u32 as i32, 0x8007_04D6),
    word("not-running", 0xC000_0034_u32 as i32, 0x8007_0002),
    word("no-common-version", status::REVISION_MISMATCH, 0x8007_051A),
    word("stream-in-use", status::CONNECTION_ACTIVE, 0x8007_04CE),
    word("taken-over", status::CONNECTION_ABORTED, 0x8007_04D4),
    word("no-stream", status::CONNECTION_INVALID, 0x8007_04CD),
    word("no-such-record", status::END_OF_FILE, 0x8007_0026),
    word("collision", status::OBJECT_NAME_COLLISION, 0x8007_00B7),
    // What Wine makes of it; Windows has not been asked.
    word("other-schema", status::INVALID_MESSAGE, 0x8007_0057),
    word("too-late", 0xC01C_0020_u32 as i32, 0x801F_0020),
    word("do-not-detach", 0xC01C_0010_u32 as i32, 0x801F_0010),
];

/// Both things that can be said of a bad address: the driver's STATUS_ACCESS_VIOLATION, and
/// STATUS_INVALID_USER_BUFFER of an I/O manager that looks at buffers before it asks the driver.
const BAD_POINTER: &str = "bad-pointer";
const INVALID_USER_BUFFER: [Code; 2] = [
    Code::Status(0xC000_00E8_u32 as i32),
    Code::Hresult(0x8007_06F8_u32 as i32),
];

/// Refusals by the service library itself, which have no code.
pub(crate) const TOO_LARGE: &str = "too-large";
pub(crate) const NO_PROVIDER: &str = "no-provider";

const fn word(word: &'static str, status: i32, hresult: u32) -> Word {
    Word {
        word,
        status,
        hresult,
    }
}

/// All words.
pub(crate) fn words() -> Vec<&'static str> {
    let own = [TOO_LARGE, NO_PROVIDER, BAD_POINTER];
    WORDS.iter().map(|word| word.word).chain(own).collect()
}

/// Whether a refusal is the one that this word names.
pub(crate) fn is(refusal: &Refusal, word: &str) -> bool {
    match refusal.code {
        None => refusal.text == word,
        Some(code) if word == BAD_POINTER => {
            INVALID_USER_BUFFER.contains(&code) || name(code) == Some("access-violation")
        }
        // Not by its name: one HRESULT stands for several statuses.
        Some(code) => WORDS
            .iter()
            .any(|it| it.word == word && it.stands_for(code)),
    }
}

/// The NTSTATUS that this number is, as a word.
pub(crate) fn name(code: Code) -> Option<&'static str> {
    let found = WORDS.iter().find(|word| word.stands_for(code));
    found.map(|word| word.word)
}

/// In words.
pub(crate) fn describe(refusal: &Refusal) -> String {
    match refusal.code.and_then(name) {
        Some(word) => format!("{word} ({})", refusal.text),
        None => refusal.text.clone(),
    }
}
