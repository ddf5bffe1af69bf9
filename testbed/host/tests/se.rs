// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens, security descriptors, strings, and the memory of another process.

mod support;

use fltport_nt::bindings::*;
use nt_host::se::descriptor::Descriptor;
use nt_host::se::token::{Sid, Token};
use nt_host::{Rule, fltport_copy_from_user, fltport_copy_to_user};
use std::cmp::Ordering;
use std::ffi::c_void;
use std::ptr::null_mut;
use support::*;

const CONNECT: u32 = 1;
const ALL: u32 = 0x1F_0001;

#[test]
fn a_token_tells_its_user_elevation_and_session() {
    let kernel = boot();
    for (uid, user, elevated) in [(0, "S-1-5-18", 1), (1000, "S-1-22-1-1000", 0)] {
        let peer = kernel.peer(50 + uid, uid);
        // SAFETY: a live process.
        let token = unsafe { PsReferencePrimaryToken(peer.address() as PEPROCESS) };
        let mut buffer = null_mut();
        assert_eq!(
            // SAFETY: a referenced token and memory for the pointer, here and below.
            unsafe { SeQueryInformationToken(token, TokenUser, &raw mut buffer) },
            0
        );
        // SAFETY: TOKEN_USER begins with the pointer to the SID.
        let sid = unsafe { buffer.cast::<PSID>().read() };
        // SAFETY: a SID.
        let length = unsafe { RtlLengthSid(sid) } as usize;
        // SAFETY: as long as it says.
        let bytes = unsafe { std::slice::from_raw_parts(sid.cast::<u8>(), length) };
        assert_eq!(Sid::parse(bytes).unwrap().to_string(), user);
        // SAFETY: the caller frees the buffer.
        unsafe { ExFreePoolWithTag(buffer, 0) };
        assert_eq!(
            // SAFETY: see above.
            unsafe { SeQueryInformationToken(token, TokenElevation, &raw mut buffer) },
            0
        );
        // SAFETY: TOKEN_ELEVATION is one number.
        assert_eq!(unsafe { buffer.cast::<u32>().read() }, elevated);
        // SAFETY: the caller frees the buffer.
        unsafe { ExFreePoolWithTag(buffer, 0) };
        assert_eq!(
            // SAFETY: see above.
            unsafe { SeQueryInformationToken(token, TokenSessionId, &raw mut buffer) },
            0
        );
        // SAFETY: a referenced token.
        assert_eq!(unsafe { SeTokenIsAdmin(token) }, elevated == 1);
        // SAFETY: referenced above.
        unsafe { PsDereferencePrimaryToken(token) };
    }
    kernel.shutdown_clean();
}

#[test]
fn privileges_follow_the_process_and_the_mode() {
    let kernel = boot();
    let privilege = LUID {
        LowPart: 20,
        HighPart: 0,
    };
    let (root, user) = (kernel.peer(50, 0), kernel.peer(51, 1000));
    let check = |mode| {
        // SAFETY: takes numbers.
        unsafe { SeSinglePrivilegeCheck(privilege, mode) }
    };
    assert!(root.attach(|| check(1)));
    assert!(!user.attach(|| check(1)));
    assert!(user.attach(|| check(0)), "kernel mode may everything");
    // SAFETY: takes nothing.
    assert_eq!(user.attach(|| unsafe { ExGetPreviousMode() }), 1);
    // SAFETY: takes nothing.
    assert_eq!(unsafe { ExGetPreviousMode() }, 0);
    kernel.shutdown_clean();
}

#[test]
fn a_subject_context_is_given_back() {
    let kernel = boot();
    let mut context = SECURITY_SUBJECT_CONTEXT::default();
    // SAFETY: memory for a context.
    unsafe { SeCaptureSubjectContext(&raw mut context) };
    // SAFETY: the captured token.
    assert!(unsafe { SeTokenIsAdmin(context.PrimaryToken) }, "System is");
    // SAFETY: captured above.
    unsafe { SeReleaseSubjectContext(&raw mut context) };
    // SAFETY: released, which is the mistake.
    unsafe { SeReleaseSubjectContext(&raw mut context) };
    expect(kernel, &[Rule::ReferenceUnderflow]);
}

/// An absolute descriptor with a list that allows `entries`.
fn descriptor(entries: &[(u32, Sid)]) -> (Box<SECURITY_DESCRIPTOR>, Vec<u64>) {
    let mut memory = vec![0_u64; 32];
    let acl = memory.as_mut_ptr().cast::<ACL>();
    // SAFETY: 256 bytes.
    assert_eq!(unsafe { RtlCreateAcl(acl, 256, 2) }, STATUS_SUCCESS);
    for (mask, sid) in entries {
        let sid = sid.as_bytes().as_ptr().cast_mut().cast();
        assert_eq!(
            // SAFETY: a list with room and a SID.
            unsafe { RtlAddAccessAllowedAce(acl, 2, *mask, sid) },
            STATUS_SUCCESS
        );
    }
    let mut descriptor = Box::new(SECURITY_DESCRIPTOR::default());
    let pointer = (&raw mut *descriptor).cast::<c_void>();
    assert_eq!(
        // SAFETY: memory for a descriptor.
        unsafe { RtlCreateSecurityDescriptor(pointer, 1) },
        STATUS_SUCCESS
    );
    assert_eq!(
        // SAFETY: a descriptor and a list that lives as long.
        unsafe { RtlSetDaclSecurityDescriptor(pointer, true, acl, false) },
        STATUS_SUCCESS
    );
    (descriptor, memory)
}

#[test]
fn a_descriptor_decides_by_user_and_group() {
    let kernel = boot();
    let user = Sid::unix_user(1000);
    let (raw, _list) = descriptor(&[(ALL, Sid::administrators()), (CONNECT, user)]);
    // SAFETY: valid and alive.
    let captured = unsafe { Descriptor::capture(&raw const *raw) }.unwrap();
    let check = |uid, access| captured.check(&Token::of_user(uid), access);
    assert_eq!(check(0, ALL), Ok(ALL));
    assert_eq!(check(1000, CONNECT), Ok(CONNECT));
    assert_eq!(check(1000, ALL), Err(STATUS_ACCESS_DENIED));
    assert_eq!(check(1001, CONNECT), Err(STATUS_ACCESS_DENIED));
    let (raw, _list) = descriptor(&[]);
    // SAFETY: as above.
    let empty = unsafe { Descriptor::capture(&raw const *raw) }.unwrap();
    assert_eq!(
        empty.check(&Token::system(), CONNECT),
        Err(STATUS_ACCESS_DENIED)
    );
    // SAFETY: null is allowed.
    let none = unsafe { Descriptor::capture(std::ptr::null()) }.unwrap();
    assert_eq!(
        none.check(&Token::of_user(1001), ALL),
        Ok(ALL),
        "without a list everybody may"
    );
    kernel.shutdown_clean();
}

#[test]
fn malformed_security_structures_are_refused() {
    let kernel = boot();
    let (mut raw, mut list) = descriptor(&[(ALL, Sid::everyone())]);
    let acl = list.as_mut_ptr().cast::<ACL>();
    // SAFETY: memory of a list.
    unsafe { (*acl).AceCount = 9 };
    // SAFETY: valid memory, malformed content.
    let malformed = unsafe { Descriptor::capture(&raw const *raw) };
    assert_eq!(malformed, Err(STATUS_INVALID_SECURITY_DESCR));
    raw.Revision = 2;
    // SAFETY: as above.
    let unknown = unsafe { Descriptor::capture(&raw const *raw) };
    assert_eq!(unknown, Err(STATUS_UNKNOWN_REVISION));
    let pointer = (&raw mut *raw).cast::<c_void>();
    assert_eq!(
        // SAFETY: memory for a descriptor.
        unsafe { RtlCreateSecurityDescriptor(pointer, 2) },
        STATUS_UNKNOWN_REVISION
    );
    let mut small = [0_u64; 2];
    let acl = small.as_mut_ptr().cast::<ACL>();
    // SAFETY: 16 bytes.
    assert_eq!(unsafe { RtlCreateAcl(acl, 16, 2) }, STATUS_SUCCESS);
    let sid = Sid::everyone();
    let sid = sid.as_bytes().as_ptr().cast_mut().cast();
    // SAFETY: a list without room, and a SID.
    let full = unsafe { RtlAddAccessAllowedAce(acl, 2, ALL, sid) };
    assert_eq!(full, nt_host::status::STATUS_ALLOTTED_SPACE_EXCEEDED);
    kernel.shutdown_clean();
}

#[test]
fn strings_are_described_and_compared() {
    let kernel = boot();
    let source: Vec<u16> = wide("Abc").into_iter().chain([0]).collect();
    let mut described = UNICODE_STRING::default();
    // SAFETY: memory for the descriptor and a string that ends with a zero.
    unsafe { RtlInitUnicodeString(&raw mut described, source.as_ptr()) };
    assert_eq!((described.Length, described.MaximumLength), (6, 8));
    let compare = |other, ignore| {
        // SAFETY: valid strings.
        unsafe { RtlCompareUnicodeString(&raw const described, string(other), ignore) }.cmp(&0)
    };
    assert_eq!(compare("aBC", true), Ordering::Equal);
    assert_eq!(compare("aBC", false), Ordering::Less);
    assert_eq!(compare("Ab", true), Ordering::Greater);
    // SAFETY: takes a number.
    assert_eq!(unsafe { RtlUpcaseUnicodeChar(0xE4) }, 0xC4);
    kernel.shutdown_clean();
}

/// A child process with its own copy of `place`, changed to `content`. It sleeps until killed.
fn child_with(place: *mut u8, content: &[u8]) -> libc::pid_t {
    // SAFETY: the child calls only what is allowed after a fork of a process with threads.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        for (offset, byte) in content.iter().enumerate() {
            // SAFETY: within the buffer that the parent allocated.
            let byte_place = unsafe { place.add(offset) };
            // SAFETY: as above.
            unsafe { byte_place.write_volatile(*byte) };
        }
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    pid
}

fn read_from(source: usize, length: usize) -> (NTSTATUS, Vec<u8>) {
    let mut copy = vec![0; length];
    // SAFETY: a buffer of this length.
    let status = unsafe { fltport_copy_from_user(copy.as_mut_ptr().cast(), source, length) };
    (status, copy)
}

#[test]
fn user_memory_is_that_of_the_process_attached_to() {
    let kernel = boot();
    let mut place = vec![0_u8; 4].into_boxed_slice();
    let address = place.as_mut_ptr();
    let pid = child_with(address, &[1, 2, 3, 4]);
    let child = kernel.peer(pid.unsigned_abs(), 0);
    child.attach(|| {
        // The child writes its copy in its own time.
        while read_from(address as usize, 4).1[3] != 4 {
            std::thread::yield_now();
        }
        assert_eq!(
            read_from(address as usize, 4),
            (STATUS_SUCCESS, vec![1, 2, 3, 4])
        );
        assert_eq!(read_from(0x10, 4).0, STATUS_ACCESS_VIOLATION);
        let data = [9_u8, 8];
        // SAFETY: two bytes, to a place of the child.
        let status = unsafe { fltport_copy_to_user(address as usize, data.as_ptr().cast(), 2) };
        assert_eq!(status, STATUS_SUCCESS);
        assert_eq!(read_from(address as usize, 4).1, [9, 8, 3, 4]);
        // SAFETY: two bytes, to a place that is not mapped.
        let status = unsafe { fltport_copy_to_user(0x10, data.as_ptr().cast(), 2) };
        assert_eq!(status, STATUS_ACCESS_VIOLATION);
    });
    assert_eq!(*place, [0; 4], "this process has its own memory");
    assert_eq!(
        read_from(address as usize, 4).1,
        [0; 4],
        "System is this process"
    );
    // SAFETY: our child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: our child; nothing is asked about its end.
    unsafe { libc::waitpid(pid, null_mut(), 0) };
    child.attach(|| assert_eq!(read_from(address as usize, 4).0, STATUS_ACCESS_VIOLATION));
    kernel.shutdown_clean();
}

#[test]
fn an_access_check_needs_an_owner_and_asks_no_kernel() {
    let kernel = boot();
    let user = kernel.peer(51, 1000);
    let (mut raw, _list) = descriptor(&[(CONNECT, Sid::unix_user(1000))]);
    let check = |raw: &SECURITY_DESCRIPTOR, desired, mode| {
        let mut context = SECURITY_SUBJECT_CONTEXT::default();
        let (mut granted, mut status) = (u32::MAX, i32::MAX);
        let mapping = GENERIC_MAPPING::default();
        // SAFETY: memory for a context.
        unsafe { SeCaptureSubjectContext(&raw mut context) };
        // SAFETY: a descriptor, a captured context, and memory for the results.
        let may = unsafe {
            SeAccessCheck(
                (&raw const *raw).cast_mut().cast(),
                &raw const context,
                false,
                desired,
                0,
                null_mut(),
                &raw const mapping,
                mode,
                &raw mut granted,
                &raw mut status,
            )
        };
        // SAFETY: captured above.
        unsafe { SeReleaseSubjectContext(&raw mut context) };
        (may, granted, status)
    };
    let without_owner = user.attach(|| check(&raw, CONNECT, 1));
    assert_eq!(without_owner, (false, 0, STATUS_INVALID_SECURITY_DESCR));
    let owner = Sid::local_system();
    let sid = owner.as_bytes().as_ptr().cast_mut().cast();
    let pointer = (&raw mut *raw).cast::<c_void>();
    // SAFETY: a descriptor, and a SID that lives as long.
    let set = unsafe { RtlSetOwnerSecurityDescriptor(pointer, sid, false) };
    assert_eq!(set, 0);
    // SAFETY: as above.
    let set = unsafe { RtlSetGroupSecurityDescriptor(pointer, sid, false) };
    assert_eq!(set, 0);
    user.attach(|| {
        assert_eq!(check(&raw, CONNECT, 1), (true, CONNECT, 0));
        assert_eq!(check(&raw, MAXIMUM_ALLOWED, 1), (true, CONNECT, 0));
        assert_eq!(check(&raw, ALL, 1), (false, 0, STATUS_ACCESS_DENIED));
        assert_eq!(
            check(&raw, ALL, 0),
            (true, ALL, 0),
            "kernel mode may everything"
        );
    });
    kernel.peer(52, 1001).attach(|| {
        assert_eq!(
            check(&raw, MAXIMUM_ALLOWED, 1),
            (false, 0, STATUS_ACCESS_DENIED)
        );
    });
    kernel.shutdown_clean();
}

#[test]
fn a_captured_process_is_not_whom_the_thread_impersonates() {
    let kernel = boot();
    let (root, user) = (kernel.peer(50, 0), kernel.peer(51, 1000));
    let mut context = SECURITY_SUBJECT_CONTEXT::default();
    root.impersonated(|| {
        // SAFETY: a live process and memory for a context.
        unsafe { SeCaptureSubjectContextEx(0, user.address() as PEPROCESS, &raw mut context) };
        assert!(context.ClientToken.is_null());
        // SAFETY: the captured token.
        assert!(!unsafe { SeTokenIsAdmin(context.PrimaryToken) });
        // SAFETY: captured above.
        unsafe { SeReleaseSubjectContext(&raw mut context) };
        // SAFETY: memory for a context.
        unsafe { SeCaptureSubjectContext(&raw mut context) };
        // SAFETY: the captured token.
        assert!(unsafe { SeTokenIsAdmin(context.ClientToken) });
        // SAFETY: captured above.
        unsafe { SeReleaseSubjectContext(&raw mut context) };
    });
    kernel.shutdown_clean();
}

#[test]
fn a_process_that_is_reported_late_stays_the_one_that_it_was() {
    let kernel = boot();
    let met = kernel.peer(70, 0);
    let created = |pid, uid| nt_host::ProcessCreated {
        pid,
        parent_pid: 1,
        creator_pid: 1,
        creator_tid: 1,
        image: Some(wide("/bin/late")),
        command_line: None,
        uid,
    };
    kernel.process_created(&created(70, Some(0)));
    let known = kernel.process(70).unwrap();
    assert_eq!(known.address(), met.address());
    assert_eq!(
        (known.parent_pid(), known.image()),
        (1, wide("/bin/late").as_slice())
    );
    kernel.process_created(&created(70, Some(0)));
    assert_ne!(
        kernel.process(70).unwrap().address(),
        met.address(),
        "another one"
    );
    let met = kernel.peer(71, 1000);
    kernel.process_created(&created(71, Some(0)));
    assert_ne!(
        kernel.process(71).unwrap().address(),
        met.address(),
        "another user's"
    );
    kernel.shutdown_clean();
}
