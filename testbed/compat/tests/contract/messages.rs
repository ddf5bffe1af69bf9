// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of `contract.c`.

use fltport_abi::text::Text;

fltport_abi::messages! {
    /// As in `contract.c`.
    provider PROVIDER = "contract";

    /// A number.
    notification 1 "number" Number {
        /// Which.
        number: u64,
    }

    /// Another one.
    notification 2 "other" Other {
        /// Which.
        number: u64,
    }

    /// A question.
    request 3 "question" Question {
        /// Which.
        number: u64,
    } -> /// Its answer.
    Yes {
        /// Yes or no.
        yes: bool,
        /// Since the second version: for how long.
        days: u32 = 0,
    }

    /// An order.
    command 4 "lock" Lock<'a> {
        /// Which door.
        door: u32,
        /// Why.
        note: Text<'a>,
        /// Since the second version: how long.
        seconds: u32 = 30,
        /// Since the second version: who locks it.
        by: Option<u32>,
    } -> /// It is done.
    Locked {
        /// Which door.
        door: u32,
        /// Bytes of the note.
        note: u32,
        /// How long.
        seconds: u32,
        /// Who locks it.
        by: Option<u32>,
    }
}

fltport_abi::messages! {
    /// The first version of it.
    provider FIRST = "contract";

    /// A question.
    request 3 "question" FirstQuestion {
        /// Which.
        number: u64,
    } -> /// Its answer.
    FirstYes {
        /// Yes or no.
        yes: bool,
    }
}
