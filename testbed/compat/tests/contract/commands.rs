// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands, of services of this version and of an older one.

use fltport_abi::message::Message;
use fltport_abi::text::Text;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;

use crate::messages::{Lock, Locked, PROVIDER};
use crate::scene::{both, refused_with};

#[test]
fn a_command_of_an_older_service_is_read_with_the_defaults() {
    both(|scene| {
        let sent = |bytes: &[u8]| {
            scene
                .client
                .command_bytes(PROVIDER.name, Lock::NUMBER, bytes)
        };
        let locked = |bytes: &[u8]| sent(bytes).expect("it is taken").decode::<Locked>();
        let whole = Lock {
            door: 7,
            note: Text::Utf8("fire"),
            seconds: 5,
            by: Some(2),
        };
        let mut bytes = vec![0; whole.encoded_len()];
        whole.encode(&mut bytes).expect("there is room");
        let answer = Locked {
            door: 7,
            note: 8,
            seconds: 5,
            by: Some(2),
        };
        assert_eq!(locked(&bytes).expect("an answer"), answer);
        // As a service of the first version sends it: behind the note is its text.
        let first: [&[u8]; 4] = [&[7, 0, 0, 0], &[12, 0, 0, 0], &[4, 0, 0, 0], b"o\0k\0"];
        let answer = Locked {
            door: 7,
            note: 4,
            seconds: 30,
            by: None,
        };
        assert_eq!(locked(&first.concat()).expect("an answer"), answer);
        // A field that the first version had, and half a field.
        for length in [4, 14] {
            let refused = sent(&first.concat()[..length]).expect_err("a field is missing");
            assert_eq!(refused_with(&refused), STATUS_INVALID_PARAMETER);
        }
    });
}
