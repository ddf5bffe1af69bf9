// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that ran before the driver, as NT lists them.

use crate::monitor::{TAG, encode, kept};
use crate::processes::{Found, Processes};
use fltport_abi::message::Pid;
use fltport_abi::process_monitor::ProcessStart;
use fltport_abi::text::Text;
use fltport_nt::Result;
use fltport_nt::ps::Process;
use fltport_nt::zw::{ProcessList, Running};

/// So often a list is made, if each time more end meanwhile than are remembered.
const ATTEMPTS: usize = 4;

/// IRQL: PASSIVE_LEVEL. Takes the processes over that run and are not known yet, but for those that are
/// hidden. The notify routine has to be registered before: then whoever is not in the list has ended, or
/// is told of. If this fails, the table knows that it lacks some.
pub(crate) fn take(processes: &Processes, is_hidden: impl Fn(u32) -> bool) -> Result<()> {
    for _ in 0..ATTEMPTS {
        processes.begin_list()?;
        let found = find(&is_hidden);
        let failed = found.as_ref().err().copied();
        let is_whole = processes.merge(found.ok());
        match failed {
            Some(error) => return Err(error),
            None if is_whole => return Ok(()),
            None => {}
        }
    }
    Ok(())
}

fn find(is_hidden: &impl Fn(u32) -> bool) -> Result<Found> {
    let list = ProcessList::take(TAG)?;
    let mut found = Found::default();
    for running in list.iter() {
        // Number 0 is no process. One without threads has ended, or its start is going to be told.
        if running.pid == 0 || running.threads == 0 || is_hidden(running.pid) {
            continue;
        }
        found.add(running.pid, start_of(&running)?)?;
    }
    Ok(found)
}

/// Its start as it would have been told, as far as that can be known: not who created it, nor its command
/// line. Its image is the path, or the name if NT does not say it.
fn start_of(running: &Running<'_>) -> Result<fltport_nt::ex::PoolBytes> {
    // If it has ended by now, and another one has its number, that is told of.
    let path = Process::find(running.pid).and_then(|process| process.image());
    let path = path.as_ref().map_or(&[][..], |path| path.units());
    let image = if path.is_empty() { running.name } else { path };
    encode(&kept(&ProcessStart {
        pid: Pid(running.pid),
        parent_pid: Pid(running.parent),
        creating_pid: Pid(0),
        creating_tid: Pid(0),
        image: (!image.is_empty()).then_some(Text::Units(image)),
        command_line: None,
        truncated: false,
    }))
}
