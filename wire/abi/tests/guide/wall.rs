// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages that `docs/schema.md` shows: what follows is its first block.

use core::net::IpAddr;
use fltport_abi::message::List;
use fltport_abi::text::Text;

fltport_abi::messages! {
    /// A firewall.
    provider PROVIDER = "wall";

    types {
        /// What becomes of a packet.
        enum Verdict {
            /// It passes.
            0 "pass" Pass,
            /// It is dropped.
            1 "drop" Drop,
        }

        /// A rule that was asked.
        record Rule<'a> {
            /// Its name.
            name: Text<'a>,
        }
    }

    /// A packet was judged.
    notification 1 "packet" Packet<'a> {
        /// Where it goes.
        remote: IpAddr,
        /// What became of it.
        verdict: Verdict,
        /// The rules that were asked.
        rules: List<'a, Rule<'a>>,
        /// Since the second version: its port.
        port: Option<u16>,
    }
}
