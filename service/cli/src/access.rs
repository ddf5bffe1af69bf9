// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport access`: who may connect to the common driver, and what he may do at which provider. It
//! is in the driver's service key, below `Parameters\Access`; what it means, docs/security.md says.

use crate::driver::COMMON;
use crate::failure::Failure;
use crate::json::Json;
use crate::machine::{Machine, Trouble, Value};
use crate::rights::{OTHERS, Rights, WORDS};
use crate::setup::Tell;
use fltport::rights;
use fltport::sid::Sid;

/// Who has all rights without configuration.
const ADMINISTRATORS: [(&str, Sid); 2] = [
    ("S-1-5-18", Sid::LOCAL_SYSTEM),
    ("S-1-5-32-544", Sid::ADMINISTRATORS),
];

/// A value of a provider's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The SID and the rights, if the value is what it should be.
    pub(crate) grant: Option<(Sid, Rights)>,
}

impl Entry {
    fn new(name: String, value: &Value) -> Entry {
        let sid = Sid::parse(name.chars());
        let grant = match (sid, value) {
            (Some(sid), Value::Number(number)) => Some((sid, Rights(number & rights::ALL))),
            _ => None,
        };
        Entry { name, grant }
    }
}

/// A provider's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProviderAccess {
    pub(crate) provider: String,
    pub(crate) entries: Vec<Entry>,
}

impl ProviderAccess {
    /// Whether administrators have any right.
    pub(crate) fn has_administrators(&self) -> bool {
        let grants = self.entries.iter().filter_map(|entry| entry.grant);
        grants.into_iter().any(|(sid, rights)| {
            rights.0 != 0 && ADMINISTRATORS.iter().any(|(_, known)| *known == sid)
        })
    }
}

/// The configuration as it is in the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// None if there is no key, and so the default holds.
    pub(crate) providers: Option<Vec<ProviderAccess>>,
    /// The programs that may connect.
    pub(crate) images: Option<Value>,
}

fn root() -> String {
    format!(r"{COMMON}\Parameters\Access")
}

fn key(provider: &str) -> String {
    format!(r"{}\{provider}", root())
}

impl Access {
    /// Looks at it.
    pub(crate) fn look(machine: &Machine) -> Result<Access, Trouble> {
        let images = machine.value(&format!(r"{COMMON}\Parameters"), "Images")?;
        let Some(names) = machine.keys(&root())? else {
            return Ok(Access {
                providers: None,
                images,
            });
        };
        let mut providers = Vec::new();
        for provider in names {
            let mut entries = Vec::new();
            for name in machine.value_names(&key(&provider))? {
                // Gone meanwhile if there is none.
                if let Some(value) = machine.value(&key(&provider), &name)? {
                    entries.push(Entry::new(name, &value));
                }
            }
            providers.push(ProviderAccess { provider, entries });
        }
        Ok(Access {
            providers: Some(providers),
            images,
        })
    }

    /// Whether what providers without a key of their own have is the default.
    fn is_default_for_others(&self) -> bool {
        let mut providers = self.providers.iter().flatten();
        !providers.any(|p| p.provider == OTHERS)
    }

    fn to_text(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for provider in self.providers.iter().flatten() {
            lines.push(heading(&provider.provider));
            for entry in &provider.entries {
                lines.push(match entry.grant {
                    Some((_, rights)) => format!("  {}: {rights}", entry.name),
                    None => format!(
                        "  \"{}\" is no SID with rights, and gives nobody anything",
                        entry.name
                    ),
                });
            }
            if provider.entries.is_empty() {
                lines.push("  nobody may do anything".into());
            }
        }
        if self.is_default_for_others() {
            lines.push(heading(OTHERS));
            let all = Rights(rights::ALL);
            lines.extend(ADMINISTRATORS.map(|(name, _)| format!("  {name}: {all} (the default)")));
        }
        lines.push(match &self.images {
            None => "programs: any".into(),
            Some(Value::Texts(texts)) if texts.is_empty() => {
                "programs: none, so nobody may connect".into()
            }
            Some(value @ Value::Texts(_)) => format!("programs: {value}"),
            Some(value) => format!(
                "programs: Images is {}, and no list of texts, so nobody may connect",
                value.type_name()
            ),
        });
        lines
    }

    fn to_json(&self) -> String {
        let mut json = Json::default();
        json.object(|json| {
            json.key("providers").list(|json| {
                for provider in self.providers.iter().flatten() {
                    provider_json(json, &provider.provider, false, &provider.entries);
                }
                if self.is_default_for_others() {
                    let entries = ADMINISTRATORS.map(|(name, sid)| Entry {
                        name: name.into(),
                        grant: Some((sid, Rights(rights::ALL))),
                    });
                    provider_json(json, OTHERS, true, &entries);
                }
            });
            let patterns: Option<&[String]> = match &self.images {
                None => None,
                Some(Value::Texts(patterns)) => Some(patterns),
                Some(_) => Some(&[]),
            };
            let programs = json.key("programs");
            match patterns {
                None => programs.null(),
                Some(patterns) => programs.list(|json| patterns.iter().for_each(|p| json.text(p))),
            }
        });
        json.take()
    }
}

fn provider_json(json: &mut Json, provider: &str, is_default: bool, entries: &[Entry]) {
    json.object(|json| {
        json.key("provider").text(provider);
        json.key("default").bool(is_default);
        json.key("entries").list(|json| {
            for entry in entries {
                json.object(|json| entry_json(json, entry));
            }
        });
    });
}

fn entry_json(json: &mut Json, entry: &Entry) {
    json.key("sid").text(&entry.name);
    json.key("valid").bool(entry.grant.is_some());
    json.key("rights").list(|json| {
        let granted = entry.grant.map_or(0, |(_, rights)| rights.0);
        for (bit, word) in WORDS {
            if granted & bit != 0 {
                json.text(word);
            }
        }
    });
}

fn heading(provider: &str) -> String {
    match provider {
        OTHERS => "all providers without a key of their own".into(),
        name => name.to_owned(),
    }
}

/// Prints the configuration.
pub(crate) fn list(machine: &Machine, json: bool, tell: Tell<'_>) -> Result<(), Failure> {
    let access = Access::look(machine)?;
    if json {
        return tell(access.to_json());
    }
    access.to_text().into_iter().try_for_each(tell)
}

/// Gives a SID rights at a provider, besides those that it has. A provider's first key gives
/// administrators what they had without it.
pub(crate) fn grant(
    machine: &Machine,
    provider: &str,
    sid: &str,
    rights: Rights,
    tell: Tell<'_>,
) -> Result<(), Failure> {
    require_driver(machine)?;
    let key = key(provider);
    if machine.keys(&key)?.is_none() {
        machine.make_key(&root())?;
        machine.make_key(&key)?;
        for (name, _) in ADMINISTRATORS {
            machine.set(&key, name, &Value::Number(rights::ALL))?;
        }
    }
    let had = rights_of(machine, &key, sid)?;
    let has = Rights(had.0 | rights.0);
    machine.set(&key, sid, &Value::Number(has.0))?;
    tell(format!("{}: {sid} may {has}", heading(provider)))?;
    tell("This holds for whoever connects from now on; a SID that is new to the driver is let in when the driver is started again".into())
}

/// Takes rights from a SID, or all of them.
pub(crate) fn revoke(
    machine: &Machine,
    provider: &str,
    sid: &str,
    rights: Option<Rights>,
    tell: Tell<'_>,
) -> Result<(), Failure> {
    require_driver(machine)?;
    let key = key(provider);
    if machine.value(&key, sid)?.is_none() {
        return Err(Failure::new(format!(
            "{sid} has no rights of its own at {}. `fltport access` lists who has",
            heading(provider)
        )));
    }
    let left = match rights {
        Some(rights) => rights_of(machine, &key, sid)?.0 & !rights.0,
        None => 0,
    };
    if left == 0 {
        machine.remove_value(&key, sid)?;
    } else {
        machine.set(&key, sid, &Value::Number(left))?;
    }
    tell(format!("{}: {sid} may {}", heading(provider), Rights(left)))?;
    if machine.value_names(&key)?.is_empty() {
        tell(format!(
            "Nobody may do anything there now; `fltport access reset --provider {provider}` brings the default back"
        ))?;
    }
    tell("Who is connected keeps what it was granted until it connects again".into())
}

/// Removes a provider's key, so that the others' or the default holds for it.
pub(crate) fn reset(machine: &Machine, provider: &str, tell: Tell<'_>) -> Result<(), Failure> {
    require_driver(machine)?;
    if machine.keys(&key(provider))?.is_some() {
        machine.remove_key(&key(provider))?;
    }
    tell(format!("{}: as by default", heading(provider)))
}

fn rights_of(machine: &Machine, key: &str, sid: &str) -> Result<Rights, Trouble> {
    match machine.value(key, sid)? {
        Some(Value::Number(number)) => Ok(Rights(number & rights::ALL)),
        _ => Ok(Rights(0)),
    }
}

fn require_driver(machine: &Machine) -> Result<(), Failure> {
    match machine.entry(COMMON)? {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            "the common driver is not installed, so there is no service key to configure it in. Install it: fltport install",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::tests::{install_all, machine};

    const USERS: &str = "S-1-5-32-545";

    fn told(call: impl FnOnce(Tell<'_>) -> Result<(), Failure>) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        let mut tell = |line| {
            lines.push(line);
            Ok(())
        };
        call(&mut tell).map_err(|failure| failure.to_string())?;
        Ok(lines)
    }

    fn listed(machine: &Machine) -> Vec<String> {
        told(|tell| list(machine, false, tell)).unwrap()
    }

    #[test]
    fn what_is_granted_is_listed_and_taken_back() {
        let machine = machine();
        install_all(&machine);
        let default = listed(&machine);
        assert_eq!(default.len(), 4, "{default:#?}");
        assert!(default[2].contains("S-1-5-32-544: observe, decide, command (the default)"));
        let by =
            |rights| told(|tell| grant(&machine, OTHERS, USERS, Rights(rights), tell)).unwrap();
        assert!(by(1)[0].ends_with("S-1-5-32-545 may observe"));
        assert!(by(4)[0].ends_with("may observe, command"), "besides");
        let lines = listed(&machine);
        assert!(
            lines.contains(&"  s-1-5-18: observe, decide, command".into()),
            "{lines:#?}"
        );
        assert!(lines.contains(&"  s-1-5-32-545: observe, command".into()));
        let take = |rights| told(|tell| revoke(&machine, OTHERS, USERS, rights, tell));
        assert!(take(Some(Rights(1))).unwrap()[0].ends_with("may command"));
        assert!(take(None).unwrap()[0].ends_with("may nothing"));
        assert!(take(None).unwrap_err().contains("no rights of its own"));
        let json = told(|tell| list(&machine, true, tell)).unwrap();
        assert!(json[0].contains(r#""provider":"*""#), "{json:?}");
        told(|tell| reset(&machine, OTHERS, tell)).unwrap();
        told(|tell| reset(&machine, OTHERS, tell)).unwrap();
        let after = listed(&machine);
        assert_eq!(after, default);
    }

    #[test]
    fn json_has_the_default_and_the_programs() {
        let machine = machine();
        install_all(&machine);
        let json = || told(|tell| list(&machine, true, tell)).unwrap().remove(0);
        let all = r#""valid":true,"rights":["observe","decide","command"]"#;
        assert_eq!(
            json(),
            format!(
                r#"{{"providers":[{{"provider":"*","default":true,"entries":[{{"sid":"S-1-5-18",{all}}},{{"sid":"S-1-5-32-544",{all}}}]}}],"programs":null}}"#
            )
        );
        told(|tell| grant(&machine, OTHERS, USERS, Rights(1), tell)).unwrap();
        assert!(!json().contains(r#""default":true"#));
        let parameters = format!(r"{COMMON}\Parameters");
        for (value, programs, line) in [
            (
                Value::Texts(vec![r"*\a.exe".into()]),
                r#"["*\\a.exe"]"#,
                r#"programs: "*\a.exe""#,
            ),
            (
                Value::Texts(vec![]),
                "[]",
                "programs: none, so nobody may connect",
            ),
            (
                Value::text(r"*\a.exe"),
                "[]",
                "programs: Images is REG_SZ, and no list of texts, so nobody may connect",
            ),
        ] {
            machine.set(&parameters, "Images", &value).unwrap();
            let said = json();
            assert!(
                said.ends_with(&format!(r#""programs":{programs}}}"#)),
                "{said}"
            );
            assert_eq!(listed(&machine).last().map(String::as_str), Some(line));
        }
    }

    #[test]
    fn the_last_one_is_told_of() {
        let machine = machine();
        install_all(&machine);
        told(|tell| grant(&machine, "x", USERS, Rights(1), tell)).unwrap();
        for sid in ["S-1-5-18", "S-1-5-32-544"] {
            let lines = told(|tell| revoke(&machine, "x", sid, None, tell)).unwrap();
            assert_eq!(lines.len(), 2);
        }
        let lines = told(|tell| revoke(&machine, "x", USERS, None, tell)).unwrap();
        assert!(lines[1].contains("access reset"), "{lines:?}");
        assert!(listed(&machine).contains(&"  nobody may do anything".into()));
    }

    #[test]
    fn nothing_is_written_for_a_driver_that_is_not_there() {
        let machine = Machine::new();
        let granted = told(|tell| grant(&machine, OTHERS, USERS, Rights(1), tell));
        assert!(granted.unwrap_err().contains("fltport install"));
        assert!(machine.contents.borrow().keys.is_empty());
    }
}
