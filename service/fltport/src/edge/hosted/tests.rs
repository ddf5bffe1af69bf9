// SPDX-License-Identifier: MIT OR Apache-2.0
#![cfg(target_os = "linux")]
use super::*;
use fltport_abi::hosted::Mapped;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

const LENGTH: usize = 8192;

/// A socket of a hosted kernel's that a test plays.
struct Host(UnixStream);

impl Host {
    /// The next request: its header, its payload.
    fn request(&mut self) -> (RequestHeader, Vec<u8>) {
        let mut bytes = [0; RequestHeader::SIZE];
        self.0.read_exact(&mut bytes).unwrap();
        let header = RequestHeader::read(&bytes).unwrap();
        let mut payload = vec![0; header.payload_len().unwrap()];
        self.0.read_exact(&mut payload).unwrap();
        (header, payload)
    }

    fn complete(&mut self, id: u64, status: i32, information: u32) {
        let header = CompletionHeader::new(id, status, information, 0);
        self.0.write_all(&encode(&header)).unwrap();
    }

    /// Asks for a view of a file, or of none.
    fn ask(&mut self, question: &MapView, file: Option<&File>) {
        self.send(&encode(question), file);
    }

    /// Sends bytes, and a descriptor of this file beside them.
    fn send(&mut self, bytes: &[u8], file: Option<&File>) {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        let descriptors = file.map(|file| [file.as_fd()]);
        if let Some(descriptors) = &descriptors {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let parts = [IoSlice::new(bytes)];
        let sent = sendmsg(&self.0, &parts, &mut ancillary, SendFlags::NOSIGNAL);
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// What the service answers to the question that was asked last.
    fn mapped(&mut self) -> Mapped {
        let (header, payload) = self.request();
        assert_eq!(header.op, op::MAPPED);
        Mapped::read(&payload).unwrap()
    }
}

/// A path in the folder for such things that no other test has.
fn path(what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("fltport-views-{}-{what}-{number}", std::process::id());
    std::env::temp_dir().join(name)
}

/// A port, with a host that says `can` and then does what the test says.
fn connected(
    can: u32,
    host: impl FnOnce(&mut Host) + Send + 'static,
) -> (Port, JoinHandle<()>, PathBuf) {
    let path = path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let host = thread::spawn(move || {
        let mut own = Host(listener.accept().unwrap().0);
        let (connect, _) = own.request();
        assert_eq!(connect.op, op::CONNECT);
        own.complete(connect.id, 0, can);
        host(&mut own);
    });
    let options = Options::new("test")
        .socket(&path)
        .patience(Duration::from_secs(20));
    let port = Port::connect(&options, &[]).unwrap();
    (port, host, path)
}

/// A file of the shared memory's kind, with a mark at its end.
fn memory() -> File {
    let path = path("memory");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file.set_len(LENGTH as u64).unwrap();
    file.write_all_at(&[7], LENGTH as u64 - 1).unwrap();
    file
}

fn last(view: &View) -> u8 {
    let at = view.address().as_ptr().wrapping_add(view.len() - 1);
    // SAFETY: the last byte of a mapping that lives.
    unsafe { at.read_volatile() }
}

/// Runs what needs somebody who waits at the port.
fn with_waiter<R>(port: &Port, f: impl FnOnce() -> R) -> R {
    thread::scope(|scope| {
        scope.spawn(|| while port.wait(Some(Duration::from_secs(20))).is_ok() {});
        let result = f();
        port.shutdown();
        result
    })
}

#[test]
fn a_view_is_mapped_during_a_command_and_taken_once() {
    let (answers, addresses) = sync_channel(2);
    let (port, host, path) = connected(MAPS_VIEWS, move |host| {
        let (command, _) = host.request();
        assert_eq!(command.op, op::SEND_WITH_VIEWS);
        let file = memory();
        for id in 1..=2 {
            host.ask(&MapView::new(id, LENGTH, id == 2), Some(&file));
            let mapped = host.mapped();
            assert_eq!((mapped.id, mapped.status), (id, 0));
            answers.send(mapped.address).unwrap();
        }
        host.complete(command.id, 0, 0);
    });
    with_waiter(&port, || port.send_with_views(b"map", 0)).unwrap();
    host.join().unwrap();
    let [data, consumer] = [(); 2].map(|()| addresses.recv().unwrap());
    assert!(port.take_view(data, 4096).is_none(), "another length");
    assert!(port.take_view(data + 4096, LENGTH).is_none());
    let view = port.take_view(data, LENGTH).unwrap();
    assert!(port.take_view(data, LENGTH).is_none(), "it is taken");
    let writable = port.take_view(consumer, LENGTH).unwrap();
    assert_eq!((last(&view), last(&writable)), (7, 7));
    // The views live on without the port.
    drop(port);
    let at = writable.address().as_ptr().wrapping_add(LENGTH - 1);
    // SAFETY: the last byte of a writable mapping that lives.
    unsafe { at.write_volatile(8) };
    assert_eq!(last(&view), 8);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_host_that_cannot_is_not_told_that_it_may_ask() {
    let (port, host, path) = connected(0, |host| {
        let (command, _) = host.request();
        assert_eq!(command.op, op::SEND);
        host.complete(command.id, 0, 0);
    });
    assert!(!port.maps_views());
    with_waiter(&port, || port.send_with_views(b"map", 0)).unwrap();
    host.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_mapped_is_answered_so() {
    let (port, host, path) = connected(MAPS_VIEWS, |host| {
        let (command, _) = host.request();
        let file = memory();
        for length in [usize::MAX, usize::MAX - 4095] {
            host.ask(&MapView::new(1, length, false), Some(&file));
            let mapped = host.mapped();
            assert!(mapped.status < 0 && mapped.address == 0, "{mapped:?}");
        }
        host.complete(command.id, 0, 0);
    });
    with_waiter(&port, || port.send_with_views(b"map", 0)).unwrap();
    host.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_question_without_a_descriptor_ends_the_port() {
    let (port, host, path) = connected(MAPS_VIEWS, |host| {
        let (_command, _) = host.request();
        host.ask(&MapView::new(1, LENGTH, false), None);
        let mut rest = [0];
        assert_eq!(host.0.read(&mut rest).unwrap_or(0), 0);
    });
    let failed = with_waiter(&port, || port.send_with_views(b"map", 0)).unwrap_err();
    assert_eq!(failed.fault, Fault::Protocol("a view of nothing"));
    host.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

/// How many descriptors of this process stand for a file.
fn descriptors_of(file: &File) -> usize {
    let own = file.metadata().unwrap();
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    // One that was open a moment ago may be gone.
    let open = all.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok());
    open.filter(|it| (it.dev(), it.ino()) == (own.dev(), own.ino()))
        .count()
}

/// A host that sends them all the time would leave this process none.
#[test]
fn descriptors_without_a_question_are_closed_and_end_the_port() {
    const SOON: Option<Duration> = Some(Duration::from_secs(20));
    let file = memory();
    let theirs = file.try_clone().unwrap();
    let (port, host, path) = connected(MAPS_VIEWS, move |host| {
        let (get, _) = host.request();
        let header = encode(&CompletionHeader::new(get.id, 0, 10, 10));
        host.send(&header, Some(&theirs));
        for byte in 0..10 {
            host.send(&[byte], Some(&theirs));
        }
        drop(theirs);
        assert_eq!(host.0.read(&mut [0]).unwrap_or(0), 0);
    });
    port.post(0, 100).unwrap();
    let got = port.wait(SOON).unwrap().unwrap();
    assert_eq!(
        got.outcome.unwrap(),
        (0..10).collect::<Vec<u8>>(),
        "what is beside it says nothing of the message"
    );
    // Two of ours, for there may be a question yet, and the host's own.
    let open = descriptors_of(&file);
    assert!(open <= 2 + 2, "{open} descriptors are kept");
    let failed = port.wait(SOON).unwrap_err();
    let unasked = Fault::Protocol("a descriptor without a question");
    assert_eq!(failed.fault, unasked);
    host.join().unwrap();
    assert_eq!(descriptors_of(&file), 1, "the test's own");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_signal_is_taken_by_one_wait_and_does_not_wait_for_ever() {
    let signal = Signal::new().unwrap();
    assert!(!signal.wait(Duration::ZERO).unwrap());
    assert!(!signal.wait(Duration::from_millis(5)).unwrap());
    signal.set().unwrap();
    signal.set().unwrap();
    assert!(signal.wait(Duration::MAX).unwrap());
    assert!(!signal.wait(Duration::ZERO).unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| signal.wait(Duration::from_secs(20)).unwrap());
        signal.set().unwrap();
        assert!(waiting.join().unwrap());
    });
    // The handle is the number of an eventfd.
    let what = std::fs::read_link(format!("/proc/self/fd/{}", signal.handle())).unwrap();
    assert_eq!(what.to_str(), Some("anon_inode:[eventfd]"));
}
