// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service says when it connects: the connection context of
//! `FilterConnectCommunicationPort`.

use crate::fixed::{Fixed, name_from_bytes, name_to_bytes};
use crate::limits::{MAX_SERVICE_NAME, PROTOCOL_VERSION};

/// The first four bytes of a hello: `FPHI`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FPHI");

crate::fixed! {
    /// The connection context. The driver refuses anything that is not exactly this.
    pub struct Hello: 72 {
        /// [`MAGIC`].
        pub magic: u32,
        /// The oldest protocol version that the service speaks.
        pub min_version: u16,
        /// The newest protocol version that the service speaks.
        pub max_version: u16,
        /// How many times this service has connected before: 0 at first, one more at each
        /// reconnect.
        pub generation: u32,
        /// The rights that the service wants: [`rights`] bits. Those that it may not have are
        /// refused at connect.
        pub rights: u32,
        /// 0.
        pub reserved: u64,
        /// The service's own name for itself, UTF-8 padded with zero bytes. Shown to operators,
        /// trusted for nothing.
        pub name: [u8; 48],
    }
}

crate::fixed! {
    /// Behind a [`Hello`]: a stream that outlives its connections. Since protocol version 2; what a
    /// later version puts behind it is ignored.
    pub struct StreamHello: 48 {
        /// The stream's key: 16 bytes that no other service chooses, not all zero.
        pub key: [u8; 16],
        /// The connection that this service had the stream with; 0 at first. One whose stream has
        /// been taken over is refused.
        pub former: u32,
        /// [`stream`] bits.
        pub flags: u32,
        /// The last record that this service has dealt with; 0 to go on behind the last one that
        /// was acknowledged.
        pub acknowledged: u64,
        /// How long the stream is kept without a connection, in milliseconds; at most
        /// [`MAX_RETENTION_MS`](crate::limits::MAX_RETENTION_MS).
        pub retention_ms: u32,
        /// Bytes of records that may wait to be acknowledged; at most
        /// [`MAX_WINDOW`](crate::limits::MAX_WINDOW).
        pub window: u32,
        /// 0.
        pub reserved: u64,
    }
}

/// [`StreamHello::flags`].
pub mod stream {
    /// Go on with the stream of this key if there is one; else a new one begins.
    pub const RESUME: u32 = 1;
    /// Even if a connection has it: that one ends.
    pub const TAKE_OVER: u32 = 2;
    /// Refuse the connection if there is no stream of this key.
    pub const MUST_EXIST: u32 = 4;
    /// All of them.
    pub const ALL: u32 = RESUME | TAKE_OVER | MUST_EXIST;
}

/// What a connection may do.
pub mod rights {
    /// Receive notifications and outcomes.
    pub const OBSERVE: u32 = 1;
    /// Take the decider's role for requests.
    pub const DECIDE: u32 = 2;
    /// Send commands to providers.
    pub const COMMAND: u32 = 4;
    /// All of them.
    pub const ALL: u32 = OBSERVE | DECIDE | COMMAND;
}

impl Hello {
    /// A hello of this version; the name is cut to what fits.
    pub fn new(name: &str, rights: u32, generation: u32) -> Self {
        let mut end = name.len().min(MAX_SERVICE_NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = name.get(..end).and_then(name_to_bytes).unwrap_or([0; 48]);
        Hello {
            magic: MAGIC,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            generation,
            rights,
            reserved: 0,
            name,
        }
    }

    /// Reads a connection context. `None` if it is not a hello at all; a version that is not spoken
    /// here is for the caller to judge.
    pub fn parse(context: &[u8]) -> Option<Self> {
        let hello = (context.len() == Self::SIZE).then(|| Self::read(context))??;
        let sane = hello.magic == MAGIC
            && hello.min_version <= hello.max_version
            && hello.rights & !rights::ALL == 0
            && hello.reserved == 0
            && name_from_bytes(&hello.name).is_some();
        sane.then_some(hello)
    }

    /// The version that both sides speak; `None` if there is none.
    pub fn common_version(&self) -> Option<u16> {
        (self.min_version..=self.max_version)
            .contains(&PROTOCOL_VERSION)
            .then_some(PROTOCOL_VERSION)
    }

    /// The bytes to connect with.
    pub fn to_bytes(&self) -> [u8; 72] {
        let mut bytes = [0; 72];
        // The size is the struct's own; the definition above does not compile otherwise.
        let _fits = self.write(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_survives_and_everything_else_is_refused() {
        let hello = Hello::new("watch", rights::OBSERVE, 3);
        let bytes = hello.to_bytes();
        assert_eq!(Hello::parse(&bytes), Some(hello));
        assert_eq!(&bytes[..8], b"FPHI\x01\0\x01\0");
        for n in 0..72 {
            assert_eq!(Hello::parse(&bytes[..n]), None);
        }
        for at in [0, 12 + 1, 16, 24] {
            let mut bad = bytes;
            bad[at] = 0xff;
            assert_eq!(Hello::parse(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn versions_are_negotiated() {
        let hello = |min, max| Hello {
            min_version: min,
            max_version: max,
            ..Hello::new("x", 0, 0)
        };
        assert_eq!(hello(1, 9).common_version(), Some(1));
        assert_eq!(hello(2, 9).common_version(), None);
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = std::format!("{}ä", "x".repeat(47));
        assert_eq!(
            name_from_bytes(&Hello::new(&name, 0, 0).name),
            Some("x".repeat(47).as_str())
        );
    }
}
