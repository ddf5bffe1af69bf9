// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service says when it connects: the connection context of
//! `FilterConnectCommunicationPort`.

use crate::fixed::{Fixed, name_from_bytes, name_to_bytes};
use crate::limits::{
    MAX_HELLO, MAX_RETENTION_MS, MAX_SERVICE_NAME, MAX_WINDOW, MIN_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
};

/// The first four bytes of a hello: `FPHI`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FPHI");

crate::fixed! {
    /// The connection context, alone or with a [`StreamHello`] behind it.
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
        /// been taken over is refused. The process that has the stream goes on with it by this number
        /// before its former connection has ended; from any other it makes no owner.
        pub former: u32,
        /// [`stream`] bits.
        pub flags: u32,
        /// The last record that this service has dealt with; 0 to go on behind the last one that
        /// was acknowledged. Of no meaning if a new stream begins.
        pub acknowledged: u64,
        /// How long the stream is kept without a connection, in milliseconds; at most
        /// [`MAX_RETENTION_MS`].
        pub retention_ms: u32,
        /// Bytes of records that may wait to be acknowledged: at most
        /// [`MAX_WINDOW`], rounded up to a power of two and at least
        /// [`MIN_WINDOW`](crate::limits::MIN_WINDOW). A stream that goes on keeps what it has.
        pub window: u32,
        /// 0.
        pub reserved: u64,
    }
}

/// [`StreamHello::flags`].
pub mod stream {
    /// Go on with the stream of this key if there is one; else a new one begins.
    pub const RESUME: u32 = 1;
    /// Even if a connection has it: that one ends. Only with [`RESUME`].
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
            min_version: MIN_PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            generation,
            rights,
            reserved: 0,
            name,
        }
    }

    /// Reads a connection context. `None` if it is not a hello at all; a version that is not spoken
    /// here is for the caller to judge, and what lies behind it for [`StreamHello::parse`].
    pub fn parse(context: &[u8]) -> Option<Self> {
        let whole = context.len() == Self::SIZE
            || (Self::SIZE + StreamHello::SIZE..=MAX_HELLO).contains(&context.len());
        let hello = whole.then(|| Self::read(context))??;
        let sane = hello.magic == MAGIC
            && hello.min_version <= hello.max_version
            && hello.rights & !rights::ALL == 0
            && hello.reserved == 0
            && name_from_bytes(&hello.name).is_some();
        sane.then_some(hello)
    }

    /// The newest version that both sides speak; `None` if there is none.
    pub fn common_version(&self) -> Option<u16> {
        let newest = self.max_version.min(PROTOCOL_VERSION);
        (newest >= self.min_version.max(MIN_PROTOCOL_VERSION)).then_some(newest)
    }

    /// The bytes to connect with.
    pub fn to_bytes(&self) -> [u8; 72] {
        let mut bytes = [0; 72];
        // The size is the struct's own; the definition above does not compile otherwise.
        let _fits = self.write(&mut bytes);
        bytes
    }
}

/// The connection context of a stream is not one: a field is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStreamHello;

impl StreamHello {
    /// What lies behind the [`Hello`] in a connection context; `None` if nothing does.
    ///
    /// # Errors
    /// If a field is out of range.
    pub fn parse(context: &[u8]) -> Result<Option<Self>, BadStreamHello> {
        let behind = context.get(Hello::SIZE..).unwrap_or(&[]);
        if behind.is_empty() {
            return Ok(None);
        }
        let hello = Self::read(behind).ok_or(BadStreamHello)?;
        let resumes = hello.flags & stream::RESUME != 0;
        let needs_resume = hello.flags & (stream::TAKE_OVER | stream::MUST_EXIST) != 0;
        let sane = hello.key != [0; 16]
            && hello.flags & !stream::ALL == 0
            && (resumes || !needs_resume)
            && hello.retention_ms <= MAX_RETENTION_MS
            && hello.window <= MAX_WINDOW
            && hello.reserved == 0;
        sane.then_some(Some(hello)).ok_or(BadStreamHello)
    }

    /// The bytes to connect with, behind this hello.
    pub fn to_bytes(&self, hello: &Hello) -> [u8; 120] {
        let mut bytes = [0; 120];
        // The sizes are the structs' own; the definitions above do not compile otherwise.
        let _fits = hello.write(&mut bytes);
        let _fits = bytes
            .get_mut(Hello::SIZE..)
            .and_then(|behind| self.write(behind));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_hello_survives_and_everything_else_is_refused() {
        let hello = Hello::new("watch", rights::OBSERVE, 3);
        let bytes = hello.to_bytes();
        assert_eq!(Hello::parse(&bytes), Some(hello));
        assert_eq!(&bytes[..8], b"FPHI\x01\0\x02\0");
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
        assert_eq!(hello(1, 9).common_version(), Some(PROTOCOL_VERSION));
        assert_eq!(hello(1, 1).common_version(), Some(1), "an older service");
        assert_eq!(hello(0, 1).common_version(), Some(1));
        assert_eq!(hello(PROTOCOL_VERSION + 1, 9).common_version(), None);
        assert_eq!(hello(0, 0).common_version(), None);
    }

    fn stream_hello() -> StreamHello {
        StreamHello {
            key: *b"0123456789abcdef",
            former: 7,
            flags: stream::RESUME,
            acknowledged: 9,
            retention_ms: 30_000,
            window: 1 << 20,
            reserved: 0,
        }
    }

    #[test]
    fn a_stream_hello_lies_behind_a_hello_and_newer_tails_are_ignored() {
        let hello = Hello::new("watch", rights::OBSERVE, 3);
        let bytes = stream_hello().to_bytes(&hello);
        for tail in [0, 1, 100, MAX_HELLO - 120] {
            let longer = [&bytes[..], &std::vec![7; tail]].concat();
            assert_eq!(Hello::parse(&longer), Some(hello), "{tail}");
            assert_eq!(StreamHello::parse(&longer), Ok(Some(stream_hello())));
        }
        for length in (0..72).chain(73..120) {
            assert_eq!(Hello::parse(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(Hello::parse(&[&bytes[..], &[0; 4096]].concat()), None);
        assert_eq!(StreamHello::parse(&hello.to_bytes()), Ok(None));
    }

    #[test]
    fn a_stream_hello_whose_fields_are_out_of_range_is_refused() {
        type Spoil = fn(&mut StreamHello);
        let spoilt: [Spoil; 7] = [
            |h| h.key = [0; 16],
            |h| h.flags = 8,
            |h| h.flags = stream::TAKE_OVER,
            |h| h.flags = stream::MUST_EXIST,
            |h| h.retention_ms = MAX_RETENTION_MS + 1,
            |h| h.window = MAX_WINDOW + 1,
            |h| h.reserved = 1,
        ];
        let hello = Hello::new("x", 0, 0);
        let refused: Vec<_> = spoilt
            .iter()
            .map(|spoil| {
                let mut bad = stream_hello();
                spoil(&mut bad);
                StreamHello::parse(&bad.to_bytes(&hello))
            })
            .collect();
        assert_eq!(refused, [Err(BadStreamHello); 7]);
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
