// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rights, SIDs and providers, as they stand on the command line.

use fltport::rights;
use fltport::sid::Sid;
use std::fmt;

/// Stands for the providers that have no key of their own.
#[cfg(any(windows, test))]
pub(crate) const OTHERS: &str = "*";

/// The rights by their words.
pub(crate) const WORDS: [(u32, &str); 3] = [
    (rights::OBSERVE, "observe"),
    (rights::DECIDE, "decide"),
    (rights::COMMAND, "command"),
];

/// Rights, as they stand on the command line: `observe,decide,command`, or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights(pub(crate) u32);

impl std::str::FromStr for Rights {
    type Err = String;

    fn from_str(text: &str) -> Result<Rights, String> {
        if text == "all" {
            return Ok(Rights(rights::ALL));
        }
        let mut all = 0;
        for word in text.split(',') {
            let known = WORDS.iter().find(|(_, name)| *name == word);
            let known = known.ok_or_else(|| {
                format!("\"{word}\" is no right; use observe, decide, command, or all")
            })?;
            all |= known.0;
        }
        Ok(Rights(all))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = WORDS.iter().filter(|(bit, _)| self.0 & bit != 0);
        let words: Vec<_> = words.map(|(_, name)| *name).collect();
        f.write_str(
            if words.is_empty() {
                "nothing".into()
            } else {
                words.join(", ")
            }
            .as_str(),
        )
    }
}

/// Reads a SID of the command line, to be written as Windows does.
pub(crate) fn sid(text: &str) -> Result<String, String> {
    let sid = Sid::parse(text.chars()).ok_or_else(|| {
        format!(
            "\"{text}\" is no SID, as S-1-5-32-545 is; `whoami /user` shows a user's, `sc showsid NAME` a service's"
        )
    })?;
    Ok(sid.to_string())
}

/// Reads a provider's name of the command line.
pub(crate) fn provider(text: &str) -> Result<String, String> {
    let most = fltport::MAX_PROVIDER_NAME;
    match text {
        "" => Err(
            "the name is empty; * stands for the providers that have no key of their own".into(),
        ),
        _ if text.contains('\\') => Err("a registry key cannot have a name with \\ in it".into()),
        _ if text.len() > most => Err(format!("a provider's name has at most {most} bytes")),
        name => Ok(name.to_owned()),
    }
}

/// A right to be granted by the hosted kernel: PROVIDER=SID:RIGHTS.
#[cfg(any(target_os = "linux", test))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) provider: String,
    pub(crate) sid: String,
    pub(crate) rights: Rights,
}

#[cfg(any(target_os = "linux", test))]
impl std::str::FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Grant, String> {
        let parts = text.split_once('=').and_then(|(name, rest)| {
            let (sid, rights) = rest.split_once(':')?;
            Some((name, sid, rights))
        });
        let Some((name, who, rights)) = parts else {
            return Err("not PROVIDER=SID:RIGHTS, as *=S-1-22-1-1000:observe".into());
        };
        Ok(Grant {
            provider: provider(name)?,
            sid: sid(who)?,
            rights: rights.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        assert_eq!("observe,command".parse(), Ok(Rights(5)));
        assert_eq!("all".parse(), Ok(Rights(7)));
        assert!("observe,".parse::<Rights>().is_err());
        assert_eq!(Rights(7).to_string(), "observe, decide, command");
        assert_eq!(Rights(0).to_string(), "nothing");
        assert_eq!(sid("s-1-5-018"), Ok("S-1-5-18".into()));
        assert!(sid("Users").unwrap_err().contains("whoami"));
        assert!(provider(r"a\b").is_err() && provider("").is_err());
        assert!(provider(&"x".repeat(33)).is_err() && provider(OTHERS).is_ok());
    }

    #[test]
    fn grants_of_the_command_line() {
        let grant: Grant = "*=s-1-22-1-1000:observe,decide".parse().unwrap();
        assert_eq!((grant.provider.as_str(), grant.rights), (OTHERS, Rights(3)));
        assert_eq!(grant.sid, "S-1-22-1-1000");
        for bad in [
            "",
            "x",
            "x=S-1-5-18",
            "=S-1-5-18:all",
            "x=y:all",
            "x=S-1-5-18:no",
        ] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }
}
