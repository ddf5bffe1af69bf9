// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a user of Windows gets: the folder, and the same as a zip file.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::inf::{self, Date, Inf, Instance, Subject};
use super::{Shipped, sign};
use crate::workspace::Workspace;

const README: &str = include_str!("operator-readme.txt");
const LICENSES: [(&str, &str); 2] = [
    ("LICENSE-MIT", "LICENSE-MIT.txt"),
    ("LICENSE-APACHE", "LICENSE-APACHE.txt"),
];
/// The linker's and the debugger's files, the drivers, what installs them, what is read.
const EXTENSIONS: [&str; 6] = ["sys", "exe", "pdb", "inf", "txt", "cer"];

/// The version of everything that is shipped: the workspace's.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes the INF files with the sources' date and version, and checks what was written.
///
/// # Errors
/// A rule is broken.
pub(super) fn infs(workspace: &Workspace, drivers: &[Shipped], folder: &Path) -> Result<()> {
    let date = Date::of_sources(workspace)?;
    let driver_version = format!("{},{VERSION}.0", date.american());
    let instance = Instance::of_common_driver(workspace)?;
    for shipped in drivers {
        let source = workspace.path(shipped.inf);
        let text = fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        let text = inf::stamp(&text, &driver_version).with_context(|| shipped.inf.to_string())?;
        let subject = Subject {
            image: shipped.driver.image,
            driver_version: &driver_version,
            instance: shipped.is_filter.then_some(&instance),
        };
        let parsed = Inf::parse(&text).with_context(|| shipped.inf.to_string())?;
        let faults = inf::faults(&parsed, &subject);
        if !faults.is_empty() {
            bail!("{}:\n  {}", shipped.inf, faults.join("\n  "));
        }
        let path = folder.join(shipped.driver.image).with_extension("inf");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: DriverVer {driver_version}", path.display());
    }
    Ok(())
}

/// Writes the README and the licences, with the line ends of Windows.
pub(super) fn texts(workspace: &Workspace, signer: Option<&str>, folder: &Path) -> Result<()> {
    for (from, to) in LICENSES {
        let path = workspace.path(from);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        write_text(&folder.join(to), &text)?;
    }
    write_text(&folder.join("README.txt"), &readme(signer))
}

fn readme(signer: Option<&str>) -> String {
    let title_length = README.lines().next().unwrap_or_default().len();
    let title_length = title_length - "{version}".len() + VERSION.len();
    README
        .replace("{version}", VERSION)
        .replace("{line}", &"=".repeat(title_length))
        .replace("{signature}", &sign::instructions(signer))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    let text: String = text.lines().flat_map(|line| [line, "\r\n"]).collect();
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Puts all that is in the folder into a zip file beside it. Equal files give equal zip files: in
/// the order of their names, with the sources' date.
pub(super) fn archive(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let date = Date::of_sources(workspace)?;
    let time = DateTime::from_date_and_time(date.year, date.month, date.day, 0, 0, 0)
        .context("a zip file has no such date; set SOURCE_DATE_EPOCH to after 1980")?;
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(time)
        .unix_permissions(0o644);
    let name = format!("fltport-{VERSION}-x64.zip");
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut writer = ZipWriter::new(file);
    for name in shipped_names(folder)? {
        writer.start_file(&name, options)?;
        let content = fs::read(folder.join(&name)).with_context(|| name.clone())?;
        for here in [workspace.root(), workspace.target()] {
            if names(&content, here) {
                bail!(
                    "{name} names {}, a folder of this machine; it would be another file in another \
                     one (see without_paths in windows/toolchain.rs)",
                    here.display()
                );
            }
        }
        writer.write_all(&content).with_context(|| name.clone())?;
    }
    writer.finish()?;
    Ok(path)
}

/// Whether a file's contents have this path in them, and not only as the end of another.
fn names(content: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    let is_end = |at: usize| {
        at.checked_sub(1)
            .and_then(|before| content.get(before))
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-./\\".contains(byte))
    };
    content
        .windows(path.len().max(1))
        .enumerate()
        .any(|(at, part)| part == path && !is_end(at))
}

fn shipped_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        if let Some(name) = path.file_name()
            && EXTENSIONS.contains(&extension.as_ref())
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_readme_has_nothing_left_to_fill_in_and_fits_a_console() {
        for signer in [None, Some("fltport-test.cer")] {
            let text = readme(signer);
            assert!(!text.contains(['{', '}']), "{text}");
            assert!(text.lines().all(|line| line.len() < 80), "{text}");
            let lines: Vec<&str> = text.lines().take(2).collect();
            assert_eq!(lines[0].len(), lines[1].len());
        }
        assert!(readme(Some("x.cer")).contains("x.cer"));
    }

    #[test]
    fn a_file_that_names_the_checkout_is_not_shipped() {
        let workspace = Workspace::locate();
        let folder = std::env::temp_dir().join(format!("xtask-names-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let content = format!("\0{}\0", workspace.root().display());
        fs::write(folder.join("a.pdb"), content).unwrap();
        let error = archive(&workspace, &folder).unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert!(error.starts_with("a.pdb names "), "{error}");

        assert!(names(b"/src", Path::new("/src")));
        assert!(!names(b"core/src/lib.rs", Path::new("/src")));
    }

    #[test]
    fn a_zip_file_depends_on_the_contents_alone() {
        let workspace = Workspace::locate();
        let folder = std::env::temp_dir().join(format!("xtask-zip-{}", std::process::id()));
        let make = |order: &[&str]| {
            fs::create_dir_all(&folder).unwrap();
            for name in order {
                fs::write(folder.join(name), name.repeat(100)).unwrap();
            }
            let bytes = fs::read(archive(&workspace, &folder).unwrap()).unwrap();
            fs::remove_dir_all(&folder).unwrap();
            bytes
        };
        let one = make(&["b.sys", "a.exe", "scratch.tmp"]);
        assert_eq!(one, make(&["a.exe", "b.sys"]));

        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(one)).unwrap();
        let mut name = |index| {
            archive
                .by_index(index)
                .unwrap()
                .name()
                .unwrap()
                .into_owned()
        };
        assert_eq!([name(0), name(1)], ["a.exe", "b.sys"]);
        assert_eq!(archive.len(), 2);
        let mut text = String::new();
        archive
            .by_index(1)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "b.sys".repeat(100));
    }
}
