// SPDX-License-Identifier: MIT OR Apache-2.0

//! The version resource of an image: what Explorer, the event log and crash dumps show of it.
//!
//! Written as a compiled resource file (`.res`), which the linker takes; resource compilers are
//! part of a C toolchain for Windows. Read back from the finished image. Layouts: Microsoft's
//! documentation of `VS_VERSIONINFO`, `VS_FIXEDFILEINFO` and `RESOURCEHEADER`.

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

/// The type of a version resource.
pub(crate) const RT_VERSION: u16 = 16;
/// What `VS_FIXEDFILEINFO` begins with.
const SIGNATURE: u32 = 0xFEEF_04BD;
const STRUCTURE_VERSION: u32 = 0x0001_0000;
const VOS_NT_WINDOWS32: u32 = 0x0004_0004;
const VFT_DRV: u32 = 3;
const VFT2_DRV_SYSTEM: u32 = 7;
/// American English, UTF-16: as a key of strings, and as numbers.
const LANGUAGE_KEY: &str = "040904b0";
const LANGUAGE: u16 = 0x0409;
const UTF_16: u16 = 0x04B0;

/// The strings that must be there. Microsoft calls these five, and FileVersion and ProductVersion,
/// required.
const REQUIRED: [&str; 5] = [
    "CompanyName",
    "FileDescription",
    "InternalName",
    "OriginalFilename",
    "ProductName",
];

/// What a version resource says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// `1.2.3.0`, of the file and of the product.
    pub(crate) number: [u16; 4],
    /// Whether it says that it is a system driver.
    pub(crate) is_driver: bool,
    /// `FileDescription` and the like, with their values.
    pub(crate) strings: Vec<(String, String)>,
}

impl Version {
    /// That of a driver: version and description are those of its package.
    ///
    /// # Errors
    /// The workspace has no such package, or it has no version of three numbers.
    pub(crate) fn of_driver(workspace: &Workspace, package: &str, image: &str) -> Result<Version> {
        let (version, description) = package_facts(workspace, package)?;
        let number = numbers(&version)
            .with_context(|| format!("{package} has the version {version}, not three numbers"))?;
        let internal = image.split('.').next().unwrap_or(image);
        let strings = [
            ("CompanyName", "the fltport authors"),
            ("FileDescription", &description),
            ("FileVersion", &version),
            ("InternalName", internal),
            ("LegalCopyright", "MIT OR Apache-2.0, the fltport authors"),
            ("OriginalFilename", image),
            ("ProductName", "fltport"),
            ("ProductVersion", &version),
        ];
        Ok(Version {
            number,
            is_driver: true,
            strings: strings
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
        })
    }

    /// The value of a string.
    pub(crate) fn string(&self, name: &str) -> Option<&str> {
        self.strings
            .iter()
            .find(|(each, _)| each == name)
            .map(|(_, value)| value.as_str())
    }

    /// What is wrong with it for the driver of this file name.
    pub(crate) fn faults(&self, image: &str) -> Vec<String> {
        let mut faults: Vec<String> = REQUIRED
            .iter()
            .filter(|name| {
                self.string(name)
                    .is_none_or(|value| value.trim().is_empty())
            })
            .map(|name| format!("it has no {name}"))
            .collect();
        if !self.is_driver {
            faults.push("it does not say that the file is a system driver".to_string());
        }
        if self.number == [0; 4] {
            faults.push("the version is 0".to_string());
        }
        for name in ["FileVersion", "ProductVersion"] {
            let text = self.string(name).unwrap_or_default();
            if numbers(text) != Some(self.number) {
                faults.push(format!("{name} is `{text}`, the number {:?}", self.number));
            }
        }
        let original = self.string("OriginalFilename").unwrap_or_default();
        if !original.eq_ignore_ascii_case(image) {
            faults.push(format!(
                "OriginalFilename is `{original}`, the file {image}"
            ));
        }
        faults
    }

    /// A `.res` file with this as its only resource.
    pub(crate) fn resource_file(&self) -> Vec<u8> {
        // The empty resource that says "32 bits" comes first.
        let mut file = resource_header(0, 0, 0);
        let data = self.encode();
        file.extend(resource_header(data.len(), RT_VERSION, 1));
        file.extend(data);
        align(&mut file);
        file
    }

    fn encode(&self) -> Vec<u8> {
        let strings = self
            .strings
            .iter()
            .map(|(name, value)| Block::text(name, value))
            .collect();
        let table = Block::parent(LANGUAGE_KEY, strings);
        let translation = [LANGUAGE.to_le_bytes(), UTF_16.to_le_bytes()].concat();
        let root = Block {
            key: "VS_VERSION_INFO".to_string(),
            value: self.fixed(),
            is_text: false,
            children: vec![
                Block::parent("StringFileInfo", vec![table]),
                Block::parent(
                    "VarFileInfo",
                    vec![Block {
                        key: "Translation".to_string(),
                        value: translation,
                        is_text: false,
                        children: Vec::new(),
                    }],
                ),
            ],
        };
        root.encode()
    }

    fn fixed(&self) -> Vec<u8> {
        let [major, minor, patch, build] = self.number.map(u32::from);
        let (high, low) = (major << 16 | minor, patch << 16 | build);
        let (kind, subtype) = match self.is_driver {
            true => (VFT_DRV, VFT2_DRV_SYSTEM),
            false => (1, 0),
        };
        [
            SIGNATURE,
            STRUCTURE_VERSION,
            high,
            low,
            high,
            low,
            // Which flags are valid, and which are set: not a debug, patched or private build.
            0x3F,
            0,
            VOS_NT_WINDOWS32,
            kind,
            subtype,
            // No date.
            0,
            0,
        ]
        .map(u32::to_le_bytes)
        .concat()
    }

    /// Reads the data of a version resource.
    ///
    /// # Errors
    /// It is no version resource, or incomplete.
    pub(crate) fn decode(data: &[u8]) -> Result<Version> {
        let root = Block::decode(data).context("it is cut off")?.0;
        let fixed: Vec<u32> = root
            .value
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u32::from_le_bytes(*bytes))
            .collect();
        let [
            signature,
            _,
            high,
            low,
            product_high,
            product_low,
            _,
            _,
            _,
            kind,
            subtype,
            _,
            _,
        ] = fixed[..]
        else {
            bail!("its fixed part is {} bytes long, not 52", root.value.len());
        };
        if root.key != "VS_VERSION_INFO" || signature != SIGNATURE {
            bail!("it does not begin as one");
        }
        if (high, low) != (product_high, product_low) {
            bail!("file and product have different versions");
        }
        let strings = root
            .children
            .iter()
            .filter(|child| child.key == "StringFileInfo")
            .flat_map(|info| &info.children)
            .flat_map(|table| &table.children)
            .map(|string| (string.key.clone(), text(&string.value)))
            .collect();
        Ok(Version {
            number: [high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF].map(|each| each as u16),
            is_driver: (kind, subtype) == (VFT_DRV, VFT2_DRV_SYSTEM),
            strings,
        })
    }
}

/// The element that version resources are nested of: lengths, a key, a value, children.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    key: String,
    value: Vec<u8>,
    is_text: bool,
    children: Vec<Block>,
}

impl Block {
    fn parent(key: &str, children: Vec<Block>) -> Block {
        Block {
            key: key.to_string(),
            value: Vec::new(),
            is_text: true,
            children,
        }
    }

    fn text(key: &str, value: &str) -> Block {
        Block {
            key: key.to_string(),
            value: wide(value),
            is_text: true,
            children: Vec::new(),
        }
    }

    /// `wLength`, `wValueLength` (in characters for text), `wType`, the key, the value and the
    /// children, each at a multiple of four bytes.
    fn encode(&self) -> Vec<u8> {
        let value_length = if self.is_text {
            self.value.len() / 2
        } else {
            self.value.len()
        };
        let mut bytes = vec![0, 0];
        bytes.extend((value_length as u16).to_le_bytes());
        bytes.extend(u16::from(self.is_text).to_le_bytes());
        bytes.extend(wide(&self.key));
        align(&mut bytes);
        bytes.extend(&self.value);
        for child in &self.children {
            align(&mut bytes);
            bytes.extend(child.encode());
        }
        let length = (bytes.len() as u16).to_le_bytes();
        bytes[..2].copy_from_slice(&length);
        bytes
    }

    /// The block at the start of `bytes`, and its length.
    fn decode(bytes: &[u8]) -> Option<(Block, usize)> {
        let word = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let length = usize::from(word(0)?);
        let bytes = bytes.get(..length)?;
        let is_text = word(4)? == 1;
        let value_length = usize::from(word(2)?) * if is_text { 2 } else { 1 };
        let key_end = 6 + bytes
            .get(6..)?
            .as_chunks::<2>()
            .0
            .iter()
            .position(|c| *c == [0, 0])?
            * 2;
        let key = text(bytes.get(6..key_end)?);
        let value_at = (key_end + 2).next_multiple_of(4);
        let value = match value_length {
            0 => Vec::new(),
            _ => bytes.get(value_at..)?.get(..value_length)?.to_vec(),
        };
        let mut children = Vec::new();
        let mut at = (value_at + value_length).next_multiple_of(4);
        while at < length {
            let (child, length) = Block::decode(bytes.get(at..)?)?;
            // A length of 0 would never end.
            at = (at + length.max(6)).next_multiple_of(4);
            children.push(child);
        }
        let block = Block {
            key,
            value,
            is_text,
            children,
        };
        Some((block, length))
    }
}

/// `RESOURCEHEADER`, with type and name as numbers.
fn resource_header(data: usize, kind: u16, name: u16) -> Vec<u8> {
    const SIZE: u32 = 32;
    /// MOVEABLE and PURE, as resource compilers write; nobody has read them since 16 bits.
    const FLAGS: u16 = 0x0030;
    let (flags, language) = match kind {
        0 => (0, 0),
        _ => (FLAGS, LANGUAGE),
    };
    let mut header = Vec::new();
    header.extend((data as u32).to_le_bytes());
    header.extend(SIZE.to_le_bytes());
    for number in [0xFFFF, kind, 0xFFFF, name, 0, 0, flags, language] {
        header.extend(number.to_le_bytes());
    }
    // Version and characteristics.
    header.extend([0; 8]);
    header
}

/// UTF-16 with a terminating NUL.
fn wide(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

/// UTF-16, up to a NUL if there is one.
fn text(wide: &[u8]) -> String {
    let units: Vec<u16> = wide
        .as_chunks()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// `1.2.3` as four numbers.
fn numbers(version: &str) -> Option<[u16; 4]> {
    let parts: Vec<u16> = version
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    match parts[..] {
        [major, minor, patch] => Some([major, minor, patch, 0]),
        [major, minor, patch, build] => Some([major, minor, patch, build]),
        _ => None,
    }
}

/// The version and the description of a package, from its Cargo.toml.
fn package_facts(workspace: &Workspace, package: &str) -> Result<(String, String)> {
    let mut cargo = command::cargo(workspace);
    let text = command::text(cargo.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("cargo metadata wrote no JSON")?;
    let found = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|each| each["name"] == package)
        .with_context(|| format!("the workspace has no package {package}"))?;
    let fact = |key: &str| {
        found[key]
            .as_str()
            .map(str::to_string)
            .with_context(|| format!("{package} has no {key} in its Cargo.toml"))
    };
    Ok((fact("version")?, fact("description")?))
}
