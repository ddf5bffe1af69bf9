// SPDX-License-Identifier: MIT OR Apache-2.0
//! An encoded schema of anybody: what is found to make sense is read without surprises.
#![no_main]

use fltport::Schema;
use fltport_abi::schema::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let checked = check(data);
    let decoded = Schema::decode(data);
    assert_eq!(checked.err(), decoded.as_ref().err().copied());
    let Ok(schema) = decoded else {
        return;
    };
    for message in &schema.messages {
        assert_eq!(schema.message(message.number), Some(message));
        for fields in [&message.fields, &message.reply] {
            assert!(fields.is_sorted_by(|a, b| a.offset < b.offset));
        }
        // Whatever is in it, a message of zeros is refused or can be read.
        if message.verify(&[0; 512], 512).is_ok() {
            for (_, value) in fltport::read_fields(&message.fields, &[0; 512], 512) {
                fltport_fuzz::look(&fltport_fuzz::sound(value));
            }
        }
    }
});
