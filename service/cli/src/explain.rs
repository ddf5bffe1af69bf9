// SPDX-License-Identifier: MIT OR Apache-2.0
//! What error codes of the service control manager, the I/O manager, the Filter Manager and code
//! integrity mean for a driver, and what to do. `start` and `doctor` explain from one table.
//!
//! A start that fails reaches this command as the Windows error that stands for the driver's
//! NTSTATUS; an event log, a debugger or `fltmc` may show the NTSTATUS itself. So both are listed.

use std::fmt;

/// One row.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// Windows errors, HRESULTs and NTSTATUSes that mean this.
    codes: &'static [u32],
    pub(crate) cause: &'static str,
    pub(crate) cure: &'static str,
}

const fn row(codes: &'static [u32], cause: &'static str, cure: &'static str) -> Explanation {
    Explanation { codes, cause, cure }
}

/// What codes mean when a driver has been started.
#[rustfmt::skip]
const STARTS: &[Explanation] = &[
    row(&[2, 0xC000_0034], "something that the driver needs was not found: its file, a file that it imports, or for a filter the Instances in its service key", "`fltport doctor` looks for each; `fltport install` writes them again"),
    row(&[3, 0xC000_003A], "the folder of the driver's file was not found", "Install it again: `fltport install`"),
    row(&[5, 0xC000_0022], "access was denied: to this user, or to the driver, as when its file lacks the mark FORCE_INTEGRITY that process notifications ask for, or security software blocks it", "Run as Administrator; `fltport doctor` looks at the file"),
    row(&[8, 14, 1450, 0xC000_0017, 0xC000_009A], "the system has no memory or other resources left for it", "End what uses them, or restart the machine"),
    row(&[31, 0xC000_0001], "the driver gave up when it was initialised", "Look at the system event log for the reason that it gave"),
    row(&[50, 0xC000_00BB], "the driver says that this system does not support what it needs", "See in its documentation which versions of Windows it wants"),
    row(&[87, 0xC000_000D], "a value in the driver's service key is not what it expects, as an Altitude that is no text", "`fltport install` writes the values again"),
    row(&[126, 0xC000_0135], "a file that the driver imports from was not found", "Put that file into System32\\drivers; `fltport doctor` names it"),
    row(&[127, 182, 0xC000_0139, 0xC000_0138, 0xC000_0262, 0xC000_0263], "a function that the driver imports does not exist in this Windows, or in the version of the driver it imports from", "Use the drivers of one version, made for this Windows"),
    row(&[183, 0xC000_0035], "a name that the driver wants to use is taken: another copy of it runs under another service name", "Stop the other copy; `sc query type= driver` lists what runs"),
    row(&[193, 0xC000_007B, 0xC000_0359], "the file is no driver for this machine: it must be a 64-bit image of the native subsystem", "Install the file that was built for this machine"),
    row(&[317], "the driver gave up with a status that no Windows error stands for, as those of the Filter Manager under Wine", "`fltport doctor` looks at what it needs; the system event log may have the status"),
    row(&[577, 0xC000_0428], "Windows does not accept the signature of the driver's file", "Use a signed release; for one that is test-signed: `bcdedit /set testsigning on`, with Secure Boot off, and restart"),
    row(&[647, 0xC000_0365], "the driver's initialisation failed", "Look at the system event log for the reason that it gave"),
    row(&[654, 0xC000_038E], "an earlier copy of the driver is still in memory", "Close what has its device or port open, or restart the machine"),
    row(&[706, 0xC000_035A], "the file was built for another kind of machine", "Install the file that was built for this machine"),
    row(&[1053], "the driver did not come up in time: it hangs or has crashed in its initialisation", "Look at it with a debugger; under Wine, see what it prints, as a function of ntoskrnl.exe that Wine does not have"),
    row(&[1056], "it is running already", "Nothing needs to be done"),
    row(&[1058], "the service is disabled", "Enable it: `fltport install --start demand`"),
    row(&[1068], "a service that it depends on has failed to start", "Start that one first; `sc qc NAME` names it"),
    row(&[1075], "a service that it depends on does not exist or is being deleted", "`fltport install` writes the dependencies again"),
    row(&[1077], "it has not been started since the machine was", "Start it: `fltport start`"),
    row(&[1114, 0xC000_0142], "the file could not be loaded, or gave up at once; under Wine also if it is missing", "`fltport doctor` looks at the file"),
    row(&[1275, 0xC000_036C, 0xC000_036B], "Windows blocks this driver: it is on a block list, or its signature is not accepted", "See Windows Security, Core isolation, and the event log CodeIntegrity; use a release that is not blocked"),
    row(&[1291], "the process that hosts the driver has ended", "Start it again; its output may say why"),
    row(&[2001, 0xC000_026C], "the file cannot be loaded as a driver: it is damaged, or not built as one", "Install it again from a file that is whole"),
    row(&[4550, 4551, 0xC0E9_0002], "a code integrity policy of this machine (App Control, Smart App Control) forbids the driver", "Have the administrator of the policy allow it; the event log CodeIntegrity names the policy"),
    row(&[0xC000_010E], "the file has been loaded already, under another service or by a driver that imports from it", "Stop that one first; `sc query type= driver` lists what runs"),
    row(&[0xC000_035F], "the machine runs in safe mode, which does not start this driver", "Restart it normally"),
    row(&[0xC000_0603, 0xC000_0605], "the certificate that the file was signed with is revoked or has expired", "Use a newer release"),
    row(&[0x801F_0011, 0xC01C_0011], "another filter has the same altitude", "Give this one another: `fltport install --altitude NUMBER`; `fltmc` lists those in use"),
    row(&[0x801F_0007, 0xC01C_0007], "the Filter Manager is not up yet", "Start it: `sc start FltMgr`, or start this driver later than by the boot loader"),
    row(&[0x801F_000F, 0xC01C_000F], "the filter does not want to attach to the volume", "Nothing needs to be done: a filter that only sends messages answers so"),
];

/// What codes mean when this command has called the system.
#[rustfmt::skip]
const CALLS: &[Explanation] = &[
    row(&[2], "it was not found", "See whether it was removed meanwhile"),
    row(&[3], "the folder was not found", "See whether it was removed meanwhile"),
    row(&[5], "access was denied", "Open the terminal with \"Run as administrator\"; if it is, the file may be read-only, or security software or a driver that runs from it in the way"),
    row(&[19], "the disk is write-protected", "Use another folder"),
    row(&[32, 33, 1224], "the file is in use, perhaps by the driver that runs from it", "Stop the driver: `fltport stop`"),
    row(&[39, 112], "the disk is full", "Make room on it"),
    row(&[87, 123], "the system does not take a name or a value", "Give another"),
    row(&[1018, 1072], "the service is being deleted, and vanishes when the last program that has it open closes it", "Close the Services window, Process Explorer and the like, or restart the machine"),
    row(&[1051], "services that depend on it are running", "Stop them first; `sc enumdepend NAME` lists them"),
    row(&[1052], "it does not take the request: the driver has no unload routine, or refuses to be unloaded", "Restart the machine; with `fltport install --start demand` before that, it stays down"),
    row(&[1055], "the service control manager is busy with other changes", "Try again"),
    row(&[1060], "there is no such service", "Install it: `fltport install`"),
    row(&[1061], "it is starting or stopping and takes no requests meanwhile", "Wait and try again; if it stays so, the driver cannot be unloaded, and only a restart of the machine ends it"),
    row(&[1062], "it is not running", "Nothing needs to be done"),
    row(&[1073, 1078], "a service of that name exists already", "Delete the other one: `sc delete NAME`"),
    row(&[1115], "the machine is being shut down", "Try again when it has started"),
    row(&[38, 0xC000_0011], "the stream has no such record: the number is beyond what was sent, or before what was acknowledged", "Go on without a number: the driver knows where it stopped"),
    row(&[1229, 0xC000_023A], "there is no such stream, or its retention is over", "Begin a new one"),
    row(&[1230, 0xC000_023B], "another connection has the stream", "End that service, or take the stream over; `fltport status` lists the connections"),
    row(&[1236, 0xC000_0241], "another instance of the service has taken the stream over", "Let this one end"),
    row(&[1722, 1723, 1726], "the service control manager does not answer", "Restart the machine"),
];

/// A code with what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explained {
    code: u32,
    pub(crate) explanation: Option<&'static Explanation>,
}

fn find(tables: [&'static [Explanation]; 2], code: u32) -> Explained {
    let plain = match code {
        // HRESULT_FROM_WIN32
        wrapped if wrapped >> 16 == 0x8007 => wrapped & 0xffff,
        other => other,
    };
    let mut rows = tables.into_iter().flatten();
    let explanation = rows.find(|row| row.codes.contains(&plain));
    Explained { code, explanation }
}

/// What the failure of a driver's start means.
pub(crate) fn start(code: u32) -> Explained {
    find([STARTS, CALLS], code)
}

/// What the failure of a call to the system means.
pub(crate) fn call(code: u32) -> Explained {
    find([CALLS, STARTS], code)
}

impl Explained {
    /// The code as Windows' own tools write it.
    pub(crate) fn number(self) -> String {
        match self.code {
            small if small < 0x1_0000 => format!("error {small}"),
            large => format!("{large:#010x}"),
        }
    }

    pub(crate) fn cause(self) -> String {
        match self.explanation {
            Some(row) => format!("{} ({})", row.cause, self.number()),
            None => self.number(),
        }
    }

    pub(crate) fn cure(self) -> String {
        match self.explanation {
            Some(row) => row.cure.to_owned(),
            None if self.code < 0x1_0000 => {
                format!("`net helpmsg {}` says what Windows calls it", self.code)
            }
            None => "Look the code up in Microsoft's documentation of NTSTATUS".to_owned(),
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.cause(), self.cure())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_explained_twice_in_one_table() {
        for table in [STARTS, CALLS] {
            let mut codes: Vec<u32> = table.iter().flat_map(|row| row.codes).copied().collect();
            codes.sort_unstable();
            let all = codes.len();
            codes.dedup();
            assert_eq!(codes.len(), all);
        }
    }

    #[test]
    fn causes_go_on_in_a_line_and_cures_are_sentences() {
        for row in STARTS.iter().chain(CALLS) {
            assert!(!row.codes.is_empty());
            assert!(!row.cause.ends_with('.') && !row.cure.ends_with('.'));
            let first = row.cure.chars().next().unwrap();
            assert!(first.is_uppercase() || first == '`', "{}", row.cure);
        }
    }

    #[test]
    fn the_status_and_the_error_that_stands_for_it_mean_the_same() {
        for (error, status) in [
            (2, 0xC000_0034),
            (5, 0xC000_0022),
            (577, 0xC000_0428),
            (0x801F_0011, 0xC01C_0011),
            (0x8007_0241, 577),
        ] {
            let (one, other) = (start(error), start(status));
            assert!(one.explanation.is_some());
            assert_eq!(
                one.explanation.unwrap().cause,
                other.explanation.unwrap().cause
            );
        }
        assert_ne!(start(5).cause(), call(5).cause());
        assert_eq!(start(4711).cause(), "error 4711");
        assert_eq!(start(0xC000_0001).number(), "0xc0000001");
    }
}
