// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service says when it connects.
#![no_main]

use fltport_abi::hello::{Hello, StreamHello};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(hello) = Hello::parse(data) else {
        return;
    };
    assert_eq!(Hello::parse(&hello.to_bytes()), Some(hello));
    assert!(hello.common_version().is_none_or(|version| version != 0));
    if let Ok(Some(stream)) = StreamHello::parse(data) {
        let again = StreamHello::parse(&stream.to_bytes(&hello));
        assert!(again.is_ok_and(|again| again == Some(stream)));
    }
});
