// SPDX-License-Identifier: MIT OR Apache-2.0
//! Security identifiers, as the service key names them: `S-1-5-32-544`.
//!
//! Text and bytes are those of Microsoft's documentation (SID Components, `SID` structure): a
//! revision, which is 1, an authority of 48 bits, and up to fifteen sub-authorities of 32 bits. An
//! authority of more than 32 bits is written in hexadecimal digits behind `0x`.

use core::fmt;

/// As many sub-authorities as a SID may have.
const MOST_SUB_AUTHORITIES: usize = 15;
/// The bytes before the sub-authorities.
const HEAD: usize = 8;

/// The most bytes that a SID has.
pub const MAX_SID: usize = HEAD + 4 * MOST_SUB_AUTHORITIES;
/// The most characters that a SID has as text.
pub const MAX_SID_TEXT: usize = "S-1-0x".len() + 12 + 11 * MOST_SUB_AUTHORITIES;

/// A security identifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid {
    bytes: [u8; MAX_SID],
    length: u8,
}

impl Sid {
    /// S-1-5-18: the account of services that are part of the system.
    pub const LOCAL_SYSTEM: Sid = Sid::of_nt(&[18]);
    /// S-1-5-32-544: the administrators.
    pub const ADMINISTRATORS: Sid = Sid::of_nt(&[32, 544]);
    /// S-1-5-11: whoever has logged on.
    pub const AUTHENTICATED_USERS: Sid = Sid::of_nt(&[11]);
    /// S-1-5-32-545: the users.
    pub const USERS: Sid = Sid::of_nt(&[32, 545]);
    /// S-1-5-4: whoever has logged on at the machine.
    pub const INTERACTIVE: Sid = Sid::of_nt(&[4]);
    /// S-1-5-7: whoever has not logged on.
    pub const ANONYMOUS: Sid = Sid::of_nt(&[7]);
    /// S-1-1-0: everyone.
    pub const EVERYONE: Sid = Sid::of(1, &[0]);

    const fn of_nt(subs: &[u32]) -> Sid {
        Sid::of(5, subs)
    }

    /// Only for constants: what does not fit does not compile.
    #[allow(clippy::indexing_slicing, reason = "runs in the compiler")]
    const fn of(authority: u8, subs: &[u32]) -> Sid {
        let mut bytes = [0; MAX_SID];
        bytes[0] = 1;
        bytes[1] = subs.len() as u8;
        bytes[HEAD - 1] = authority;
        let mut n = 0;
        while n < subs.len() {
            let sub = subs[n].to_le_bytes();
            let mut i = 0;
            while i < 4 {
                bytes[HEAD + 4 * n + i] = sub[i];
                i += 1;
            }
            n += 1;
        }
        Sid {
            bytes,
            length: (HEAD + 4 * subs.len()) as u8,
        }
    }

    /// Reads a SID in text; `None` if the text is anything else, or goes on behind it.
    pub fn parse(text: impl Iterator<Item = char>) -> Option<Sid> {
        let mut text = text.peekable();
        let prefix = [text.next()?, text.next()?, text.next()?, text.next()?];
        if !matches!(prefix, ['S' | 's', '-', '1', '-']) {
            return None;
        }
        let mut sid = Sid {
            bytes: [0; MAX_SID],
            length: HEAD as u8,
        };
        let authority = number(&mut text, (1 << 48) - 1)?;
        let place = sid.bytes.get_mut(2..HEAD)?;
        for (to, from) in place.iter_mut().zip(authority.to_be_bytes().iter().skip(2)) {
            *to = *from;
        }
        let mut count = 0;
        while text.peek() == Some(&'-') {
            text.next();
            let sub = number(&mut text, u32::MAX.into())? as u32;
            let place = sid.bytes.get_mut(HEAD + 4 * count..)?.get_mut(..4)?;
            for (to, from) in place.iter_mut().zip(sub.to_le_bytes()) {
                *to = from;
            }
            count += 1;
        }
        if count == 0 || text.next().is_some() {
            return None;
        }
        let [revision, counted, ..] = &mut sid.bytes;
        (*revision, *counted) = (1, count as u8);
        sid.length = (HEAD + 4 * count) as u8;
        Some(sid)
    }

    /// The bytes, as NT lays a `SID` out. Copied to where they are used, they must be aligned to 4.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&[])
    }

    /// Whether this is so wide a group that to let it in is to let in about everybody.
    pub fn is_world(&self) -> bool {
        let wide = [
            Sid::EVERYONE,
            Sid::AUTHENTICATED_USERS,
            Sid::USERS,
            Sid::INTERACTIVE,
            Sid::ANONYMOUS,
        ];
        wide.contains(self)
    }
}

/// A number up to `most`, decimal or behind `0x`; leaves what comes behind it.
fn number(text: &mut core::iter::Peekable<impl Iterator<Item = char>>, most: u64) -> Option<u64> {
    let mut value: u64 = text.next()?.to_digit(10)?.into();
    let mut base = 10;
    let mut digits = 1;
    // Not `next_if`, which asserts.
    if value == 0 && matches!(text.peek(), Some('x' | 'X')) {
        text.next();
        (base, digits) = (16, 0);
    }
    while let Some(digit) = text.peek().and_then(|c| c.to_digit(base)) {
        value = value.checked_mul(base.into())?.checked_add(digit.into())?;
        if value > most {
            return None;
        }
        digits += 1;
        text.next();
    }
    (digits > 0).then_some(value)
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, subs) = self.as_bytes().split_at_checked(HEAD).unwrap_or_default();
        let authority = head
            .iter()
            .skip(2)
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        if authority > u32::MAX.into() {
            write!(f, "S-1-{authority:#014x}")?;
        } else {
            write!(f, "S-1-{authority}")?;
        }
        subs.as_chunks()
            .0
            .iter()
            .try_for_each(|sub| write!(f, "-{}", u32::from_le_bytes(*sub)))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn parse(text: &str) -> Option<Sid> {
        Sid::parse(text.chars())
    }

    #[test]
    fn golden_bytes() {
        let bytes = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
        assert_eq!(parse("S-1-5-32-544").unwrap().as_bytes(), bytes);
        assert_eq!(parse("s-1-5-32-544"), Some(Sid::ADMINISTRATORS));
        assert_eq!(
            parse("S-1-0x123456789ABC-1").unwrap().as_bytes()[..8],
            [1, 1, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]
        );
        assert_eq!(parse("S-1-5-18"), Some(Sid::LOCAL_SYSTEM));
        assert_eq!(parse("S-1-1-0"), Some(Sid::EVERYONE));
    }

    #[test]
    fn text_comes_back() {
        let service = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
        let longest = std::format!("S-1-0xffffffffffff{}", "-4294967295".repeat(15));
        assert_eq!(longest.len(), MAX_SID_TEXT);
        for text in ["S-1-5-18", "S-1-22-1-1000", service, &longest] {
            let sid = parse(text).unwrap();
            assert_eq!(sid.to_string(), text);
            assert!(sid.as_bytes().len() <= MAX_SID);
        }
    }

    #[test]
    fn everything_else_is_none() {
        let many = std::format!("S-1-5{}", "-1".repeat(16));
        for text in [
            "",
            "S",
            "S-1-",
            "S-1-5",
            "S-1-5-",
            "S-2-5-18",
            "S-1--18",
            "S-1-5-18 ",
            " S-1-5-18",
            "S-1-5-18-",
            "S-1-5-+1",
            "S-1-5-4294967296",
            "S-1-0x-1",
            "S-1-0x1000000000000-1",
            "S-1-99999999999999999999-1",
            "S-1-5-1\u{0}",
            "S-1-5-\u{0661}",
            "Administrators",
            &many,
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn wide_groups_are_known() {
        assert!(parse("S-1-1-0").unwrap().is_world());
        assert!(!Sid::ADMINISTRATORS.is_world());
    }
}
