// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test signatures: 64-bit Windows runs a driver only if it is signed, and in test mode by anybody.
//!
//! osslsigncode signs and verifies; openssl makes the certificate where none is given. The key stays
//! in the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{command, provision};

/// Who the certificate that is made here speaks of.
const SUBJECT: &str = "/CN=fltport test signing";
/// The certificate for the user to import.
const CERTIFICATE: &str = "fltport-test.cer";
/// A signature of code, and nothing else; by a key that kernels verify.
const CERTIFICATE_OPTIONS: [&str; 13] = [
    "-x509",
    "-newkey",
    "rsa:3072",
    "-sha256",
    "-nodes",
    "-days",
    "3650",
    "-addext",
    "basicConstraints=critical,CA:FALSE",
    "-addext",
    "keyUsage=critical,digitalSignature",
    "-addext",
    "extendedKeyUsage=codeSigning",
];

/// How to sign, as said on the command line.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct Options {
    /// Sign the drivers and programs with osslsigncode, by default with a test certificate that is
    /// made once and kept in the target folder.
    #[arg(long)]
    pub(crate) sign: bool,

    /// Sign with this certificate: a .pfx or .p12 file, or a .pem file (then with --key).
    #[arg(long, value_name = "FILE", requires = "sign")]
    certificate: Option<PathBuf>,

    /// The certificate's private key, a .pem file.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,

    /// A file with the password of the certificate or the key.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    password_file: Option<PathBuf>,

    /// Verify the signatures up to the authorities in this .pem file. The default is the given
    /// certificate itself.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    authority: Option<PathBuf>,
}

impl Options {
    /// Looks for the files that were named, before anything is built.
    ///
    /// # Errors
    /// One is not there, or a certificate has no key.
    pub(super) fn check(&self) -> Result<()> {
        for (option, file) in [
            ("certificate", &self.certificate),
            ("key", &self.key),
            ("password-file", &self.password_file),
            ("authority", &self.authority),
        ] {
            if let Some(file) = file
                && !file.is_file()
            {
                bail!("--{option}: there is no file {}", file.display());
            }
        }
        match &self.certificate {
            Some(certificate) if self.key.is_none() && is_pem(certificate) => bail!(
                "{} holds a certificate alone; say with --key where its key is",
                certificate.display()
            ),
            _ => Ok(()),
        }
    }
}

/// A certificate with its key, ready for use.
#[derive(Debug)]
pub(crate) struct Signer {
    /// What osslsigncode is told of both.
    identity: Vec<String>,
    /// What the signatures are verified up to.
    authority: PathBuf,
    /// What is laid beside the files.
    certificate: Option<PathBuf>,
}

impl Signer {
    /// Makes sure of the tools and the certificate; nothing if nobody asked for signatures.
    ///
    /// # Errors
    /// A tool is missing, or the certificate is not as it was said to be.
    pub(super) fn prepare(workspace: &Workspace, options: &Options) -> Result<Option<Signer>> {
        if !options.sign {
            return Ok(None);
        }
        for (tool, question) in [("osslsigncode", "--version"), ("openssl", "version")] {
            if !command::answers(Command::new(tool).arg(question)) {
                provision::packages(&[tool]).context("signing needs it")?;
            }
        }
        let folder = workspace.target().join("signing");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        match &options.certificate {
            None => Signer::of_test(&folder).map(Some),
            Some(certificate) => Signer::given(options, certificate, &folder).map(Some),
        }
    }

    /// A certificate of our own: made once, so that a machine that trusts it goes on to.
    fn of_test(folder: &Path) -> Result<Signer> {
        let key = folder.join("test.key");
        let certificate = folder.join("test.pem");
        let der = folder.join(CERTIFICATE);
        // A day is enough for what is signed now to be tried.
        let mut check = Command::new("openssl");
        check.args(["x509", "-checkend", "86400", "-noout", "-in"]);
        let is_usable = key.exists() && command::answers(check.arg(&certificate));
        if !is_usable {
            let mut make = Command::new("openssl");
            make.arg("req").args(CERTIFICATE_OPTIONS);
            make.args(["-subj", SUBJECT, "-keyout"]).arg(&key);
            quietly(make.arg("-out").arg(&certificate))?;
        }
        let mut convert = Command::new("openssl");
        convert
            .args(["x509", "-outform", "DER", "-in"])
            .arg(&certificate);
        quietly(convert.arg("-out").arg(&der))?;
        Ok(Signer {
            identity: pem_identity(&certificate, &key),
            authority: certificate,
            certificate: Some(der),
        })
    }

    fn given(options: &Options, certificate: &Path, folder: &Path) -> Result<Signer> {
        let mut identity = match &options.key {
            Some(key) => pem_identity(certificate, key),
            None => vec!["-pkcs12".to_string(), text(certificate)],
        };
        if let Some(file) = &options.password_file {
            identity.extend(["-readpass".to_string(), text(file)]);
        }
        let authority = match &options.authority {
            Some(authority) => authority.clone(),
            None if is_pem(certificate) => certificate.to_path_buf(),
            None => certificates_of(certificate, options.password_file.as_deref(), folder)?,
        };
        Ok(Signer {
            identity,
            authority,
            certificate: None,
        })
    }

    /// Signs a file in place, and verifies the signature.
    ///
    /// # Errors
    /// The signature could not be made, or does not verify.
    pub(super) fn sign(&self, path: &Path) -> Result<()> {
        let signed = path.with_extension("signed");
        if signed.exists() {
            fs::remove_file(&signed)
                .with_context(|| format!("cannot remove {}", signed.display()))?;
        }
        let mut sign = Command::new("osslsigncode");
        sign.arg("sign").args(&self.identity);
        // With a hash for each page, which the kernel may check when it reads the page.
        sign.args(["-h", "sha256", "-ph", "-n", "fltport", "-in"]);
        quietly(sign.arg(path).arg("-out").arg(&signed))
            .with_context(|| format!("cannot sign {}", path.display()))?;
        fs::rename(&signed, path).with_context(|| format!("cannot replace {}", path.display()))?;
        self.verify(path)
    }

    /// Verifies a file's signature.
    fn verify(&self, path: &Path) -> Result<()> {
        let mut verify = Command::new("osslsigncode");
        verify.arg("verify").arg("-CAfile").arg(&self.authority);
        quietly(verify.arg("-in").arg(path))
            .with_context(|| format!("the signature of {} does not verify", path.display()))?;
        println!("{}: signed, and the signature verifies", path.display());
        Ok(())
    }

    /// Lays the certificate beside the files; its name.
    pub(super) fn lay_beside(&self, folder: &Path) -> Result<String> {
        let Some(certificate) = &self.certificate else {
            return Ok("the certificate of who signed them".to_string());
        };
        let path = folder.join(CERTIFICATE);
        fs::copy(certificate, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(CERTIFICATE.to_string())
    }
}

/// What the README says of signatures: of files that are signed with a certificate, or not at all.
pub(super) fn instructions(certificate: Option<&str>) -> String {
    let Some(certificate) = certificate else {
        return "\
The drivers here are not signed, and 64-bit Windows does not load them so. Sign
them with a certificate for code (signtool, osslsigncode, or build them with
`cargo xtask windows --sign`), then go on as with test-signed drivers: turn on
test mode with `bcdedit /set testsigning on` and start Windows anew.
"
        .to_string();
    };
    let import = match certificate.ends_with(".cer") {
        true => ["Root", "TrustedPublisher"]
            .map(|store| format!("  certutil -addstore {store} {certificate}\n"))
            .concat(),
        false => String::new(),
    };
    format!(
        "\
The drivers here are test-signed. Windows loads them in test mode only, which
needs Secure Boot to be off. In a console that was started as administrator:

  bcdedit /set testsigning on
{import}
Then start Windows anew. `bcdedit /set testsigning off` ends test mode.
"
    )
}

fn pem_identity(certificate: &Path, key: &Path) -> Vec<String> {
    let option = |name: &str, path: &Path| [name.to_string(), text(path)];
    [option("-certs", certificate), option("-key", key)].concat()
}

fn is_pem(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    !["pfx", "p12"].contains(&extension.to_ascii_lowercase().as_str())
}

/// The certificates of a .pfx file, as a .pem file in the folder. Without its keys.
fn certificates_of(pfx: &Path, password: Option<&Path>, folder: &Path) -> Result<PathBuf> {
    let certificates = folder.join("given.pem");
    let mut convert = Command::new("openssl");
    convert.args(["pkcs12", "-nokeys", "-in"]).arg(pfx);
    let source = match password {
        Some(file) => format!("file:{}", text(file)),
        None => "pass:".to_string(),
    };
    convert.args(["-passin", &source]);
    quietly(convert.arg("-out").arg(&certificates))?;
    Ok(certificates)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a tool that has much to say, and shows it only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", command::shown(command)))?;
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout, output.stderr].concat();
    eprint!("{}", String::from_utf8_lossy(&words));
    command::judge(command, output.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_there_and_a_certificate_has_a_key() {
        let own = |certificate: &str, key: Option<&str>| Options {
            sign: true,
            certificate: Some(certificate.into()),
            key: key.map(PathBuf::from),
            ..Options::default()
        };
        let there = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (options, words) in [
            (
                own(there, None),
                "Cargo.toml holds a certificate alone; say with --key",
            ),
            (
                own("no.pfx", None),
                "--certificate: there is no file no.pfx",
            ),
            (own(there, Some("no.key")), "--key: there is no file no.key"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(own(there, Some(there)).check().is_ok());
        assert!(Options::default().check().is_ok());
    }

    #[test]
    fn a_password_is_named_and_never_passed() {
        let options = Options {
            sign: true,
            password_file: Some("secret.txt".into()),
            authority: Some("ca.pem".into()),
            ..Options::default()
        };
        let signer = Signer::given(&options, Path::new("some.PFX"), Path::new(".")).unwrap();
        assert_eq!(
            signer.identity,
            ["-pkcs12", "some.PFX", "-readpass", "secret.txt"]
        );
        assert_eq!(signer.authority, Path::new("ca.pem"));
    }

    #[test]
    fn unsigned_drivers_are_said_to_be_unsigned() {
        assert!(instructions(None).contains("not signed"));
        let signed = instructions(Some("x.cer"));
        assert!(
            signed.contains("\n  certutil -addstore Root x.cer\n"),
            "{signed}"
        );
        assert!(signed.contains("\n  bcdedit"), "{signed}");
        assert!(!instructions(Some("somebody's")).contains("certutil"));
    }
}
