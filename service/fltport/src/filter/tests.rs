// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters as text, held against messages.

use super::compile;
use crate::Schema;
use fltport_abi::filter::{Program, Verdict};
use fltport_abi::message::{Message, Pid, Status, Time};
use fltport_abi::process_monitor::{self, ProcessExit, ProcessStart};
use fltport_abi::schema::Provider;
use fltport_abi::text::{Text, TextList};
use proptest::prelude::*;
use samples::{Choice, Endpoint, Rights, SAMPLES, Sample};

#[allow(unreachable_pub)] // what the macro makes is public
mod samples {
    use fltport_abi::message::{Guid, Pid, Time};
    use fltport_abi::text::TextList;
    use std::net::IpAddr;

    fltport_abi::messages! {
        /// Kinds that the process monitor does not have.
        provider SAMPLES = "samples";

        types {
            /// A choice.
            enum Choice {
                /// Yes.
                0 "allow" Allow,
                /// No.
                7 "deny" Deny,
            }

            /// Rights.
            flags Rights {
                /// May read.
                0x1 "read" READ,
                /// May write.
                0x2 "write" WRITE,
            }
        }

        /// What has a form of its own.
        notification 2 "endpoint" Endpoint {
            /// A GUID.
            interface: Guid,
            /// An address.
            remote: IpAddr,
            /// A choice.
            verdict: Choice,
            /// Rights.
            access: Rights,
            /// There or not.
            owner: Option<Pid>,
        }

        /// One of each.
        notification 1 "sample" Sample<'a> {
            /// A time.
            at: Time,
            /// With a sign.
            change: i64,
            /// Texts.
            names: TextList<'a>,
            /// Bytes.
            data: &'a [u8],
        }
    }
}

fn schema(provider: &Provider) -> Schema {
    let mut bytes = vec![0; 4096];
    let length = provider.encode(&mut bytes).unwrap();
    Schema::decode(&bytes[..length]).unwrap()
}

fn upcase(unit: u16) -> u16 {
    u8::try_from(unit).map_or(unit, |b| b.to_ascii_uppercase().into())
}

fn holds<'m, M: Message<'m>>(provider: &Provider, filter: &str, message: &M) -> bool {
    let schema = schema(provider);
    let of = schema.message(M::NUMBER).unwrap();
    let program = compile(&schema, of, filter).unwrap_or_else(|e| panic!("{e}"));
    let mut bytes = vec![0; message.encoded_len()];
    message.encode(&mut bytes).unwrap();
    let program = Program::parse(&program).unwrap();
    match program.evaluate(&bytes, M::FIXED, upcase) {
        Verdict::Wanted => true,
        Verdict::Unwanted => false,
        Verdict::Undecided => panic!("{filter} is not decided"),
    }
}

const START: ProcessStart<'_> = ProcessStart {
    pid: Pid(4),
    parent_pid: Pid(1),
    creating_pid: Pid(2),
    creating_tid: Pid(3),
    image: Some(Text::Utf8("C:\\Tools\\nc.exe")),
    command_line: Some(Text::Utf8("nc \"-e\" cmd.exe")),
    truncated: false,
};

#[test]
fn the_process_monitor() {
    for (filter, expected) in [
        ("pid == 4", true),
        ("pid == 0x4", true),
        ("pid != 4", false),
        ("pid > 3 and pid >= 4 and pid < 5 and pid <= 4", true),
        ("pid in (1, 2, 3)", false),
        ("pid in (1, 3..7, 9)", true),
        ("pid in (5..7)", false),
        ("pid has 4", true),
        ("pid has 5", false),
        ("truncated", false),
        ("not truncated", true),
        ("!truncated && truncated == false", true),
        ("truncated != false", false),
        ("image ends \"\\\\NC.exe\"", true),
        ("image ends '\\NC.exe'", true),
        ("image ends case '\\NC.exe'", false),
        ("image ends case '\\nc.exe'", true),
        ("image starts 'c:'", true),
        ("image contains 'tools'", true),
        ("image ~ 'c:\\*\\n?.exe'", true),
        ("image ~ 'nc.exe'", false),
        ("image == 'c:\\tools\\nc.EXE'", true),
        ("image != 'c:\\tools\\nc.EXE'", false),
        ("image in ('a', 'c:\\tools\\nc.exe')", true),
        ("image is present", true),
        ("image is absent", false),
        ("command_line contains '\"-e\"'", true),
        ("command_line contains \"\\\"-e\\\"\"", true),
        // "and" binds more closely.
        ("pid == 4 or pid == 5 and pid == 6", true),
        ("(pid == 4 or pid == 5) and pid == 6", false),
        ("not pid == 5 and not (pid == 6 or pid == 7)", true),
        ("pid==4 and(image ends'nc.exe')", true),
    ] {
        assert_eq!(
            holds(&process_monitor::PROVIDER, filter, &START),
            expected,
            "{filter}"
        );
    }
    let nameless = ProcessStart {
        image: None,
        ..START
    };
    for (filter, expected) in [
        ("image is absent", true),
        ("image == ''", false),
        ("image != 'x'", false),
        ("not image == 'x'", true),
    ] {
        let found = holds(&process_monitor::PROVIDER, filter, &nameless);
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn signs_times_lists_and_bytes() {
    let crashed = ProcessExit {
        pid: Pid(4),
        exit_status: Status(-1_073_741_819),
    };
    for filter in [
        "exit_status == 0xC0000005",
        "exit_status == -1073741819",
        "exit_status < 0",
        "exit_status in (0x80000000..0xFFFFFFFF)",
    ] {
        assert!(
            holds(&process_monitor::PROVIDER, filter, &crashed),
            "{filter}"
        );
    }
    let sample = Sample {
        // 2026-01-31 08:00:00.5 UTC.
        at: Time(134_143_200_005_000_000),
        change: i64::MIN,
        names: TextList::Strings(&["alpha", "beta"]),
        data: b"MZ\x90",
    };
    for (filter, expected) in [
        ("at >= \"2026-01-31T08:00:00.5Z\"", true),
        ("at > '2026-01-31T08:00:00.5Z'", false),
        ("at < '2026-01-31T10:00:00+01:00'", true),
        (
            "at in ('2026-01-31T00:00:00Z'..'2026-01-31T23:59:59Z')",
            true,
        ),
        ("change == -9223372036854775808", true),
        ("change <= -1", true),
        ("change >= 0", false),
        ("names == 'BETA'", true),
        ("names == 'gamma'", false),
        ("names starts 'al' and names ends 'ta'", true),
        ("data starts x\"4d5A\"", true),
        ("data == x\"4d5a\"", false),
        ("data != x\"4d5a\"", true),
        ("data starts x\"\"", true),
    ] {
        assert_eq!(holds(&SAMPLES, filter, &sample), expected, "{filter}");
    }
}

#[test]
fn names_addresses_and_guids() {
    let endpoint = Endpoint {
        interface: fltport_abi::message::Guid([
            0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc,
            0xde, 0xf0,
        ]),
        remote: std::net::IpAddr::from([10, 1, 2, 3]),
        verdict: Choice::Deny,
        access: Rights::WRITE,
        owner: None,
    };
    for (filter, expected) in [
        ("verdict == deny", true),
        ("verdict in (allow, 8)", false),
        ("verdict != allow", true),
        ("access has write", true),
        ("access has read or access == 0", false),
        ("access == 2", true),
        ("remote == '10.1.2.3'", true),
        (
            "remote in ('192.168.0.0/16', '10.0.0.0/8', 'fe80::/10')",
            true,
        ),
        ("remote != '10.0.0.0/8'", false),
        ("remote == '::/0'", false),
        (
            "interface == '{12345678-9abc-def0-1234-56789abcdef0}'",
            true,
        ),
        ("interface != '12345678-9ABC-DEF0-1234-56789ABCDEF0'", false),
        ("owner is absent", true),
        ("owner == 0", false),
    ] {
        assert_eq!(holds(&SAMPLES, filter, &endpoint), expected, "{filter}");
    }
    let schema = schema(&SAMPLES);
    for (filter, expected) in [
        (
            "verdict == maybe",
            "a number was expected, or one of allow, deny",
        ),
        (
            "remote == '10.0.0.0/33'",
            "an address or a network was expected",
        ),
        ("remote == 4", "an address or a network was expected"),
        ("remote > '10.0.0.1'", "it can be compared with == != in"),
        ("interface == '{1}'", "a GUID was expected"),
        ("interface starts '{1}'", "it can be compared with == != in"),
    ] {
        let problem = compile(&schema, schema.message(2).unwrap(), filter).expect_err(filter);
        assert!(problem.to_string().contains(expected), "{problem}");
    }
}

fn complaint(filter: &str) -> String {
    let schema = schema(&process_monitor::PROVIDER);
    let start = schema.message(1).unwrap();
    compile(&schema, start, filter)
        .expect_err(filter)
        .to_string()
}

#[test]
fn mistakes_are_named_where_they_are() {
    for (filter, expected) in [
        (
            "imge ends 'x'",
            "the filter is wrong at \"imge\": \"start\" of process-monitor has no field \"imge\". \
             It has pid, parent_pid, creating_pid, creating_tid, image, command_line, truncated",
        ),
        (
            "pid ends 'x'",
            "the filter is wrong at \"pid ends 'x'\": this cannot be said of \"pid\"; it can be \
             compared with == != < <= > >= in has",
        ),
        (
            "pid = 4",
            "the filter is wrong at \"=\": to compare, write ==",
        ),
        (
            "pid == 4294967296",
            "the filter is wrong at \"4294967296\": \"pid\" is from 0 to 4294967295",
        ),
        (
            "pid == -1",
            "the filter is wrong at \"-1\": \"pid\" is from 0 to 4294967295",
        ),
        (
            "pid",
            "the filter is wrong at \"pid\": something must be said of \"pid\"; it can be compared \
             with == != < <= > >= in has",
        ),
        (
            "image ends",
            "the filter \"image ends\" ends too early: here a value was expected",
        ),
        (
            "",
            "the filter \"\" ends too early: here the name of a field was expected",
        ),
        (
            "image ends \"\\nc\"",
            "the filter is wrong at \"\"\\nc\"\": in \"…\" a backslash is written twice; in '…' \
             everything is itself",
        ),
        (
            "(pid == 4",
            "the filter \"(pid == 4\" ends too early: here \")\" was expected",
        ),
        (
            "pid in (9..5)",
            "the filter is wrong at \"9..5\": the first of the two is the greater one",
        ),
        (
            "pid == 4 image is absent",
            "the filter is wrong at \"image\": here \"and\" or \"or\" was expected, or the end",
        ),
        (
            "image ends \"a\n",
            "the filter is wrong at \"\"a·\": the text has no end; close it with \"",
        ),
    ] {
        assert_eq!(complaint(filter), expected);
    }
    for (filter, part) in [
        ("image ends 'x", "close it with '"),
        ("image == x\"4\"", "pairs of hexadecimal digits"),
        ("image == 4", "a text in quotes"),
        ("image < 'a'", "this cannot be said"),
        ("truncated == 2", "true or false"),
        ("pid < 0", "no number lies beyond"),
        ("pid == four", "a number was expected"),
        ("image is there", "\"absent\" or \"present\""),
        ("pid in 4", "in (1, 5..9)"),
        ("pid in ()", "a value was expected"),
        ("image in ('a'..'b')", "this cannot be said"),
        ("pid == case 4", "a text was expected"),
        ("pid == 99999999999999999999999", "a number was expected"),
        ("%", "belongs to no filter"),
        ("truncated == true == true", "\"and\" or \"or\""),
    ] {
        assert!(complaint(filter).contains(part), "{}", complaint(filter));
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let many = |count: usize| vec!["pid == 4"; count].join(" or ");
    let schema = schema(&process_monitor::PROVIDER);
    let start = schema.message(1).unwrap();
    assert!(compile(&schema, start, &many(64)).is_ok());
    assert!(complaint(&many(65)).contains("at most 64 predicates and 8192 bytes"));
    assert!(complaint(&many(20_000)).contains("at most 64 predicates"));
    let long = format!("image ends '{}'", "x".repeat(5_000));
    assert!(complaint(&long).contains("8192 bytes"));
    let deep = format!("{}pid == 4{}", "(".repeat(1_000), ")".repeat(1_000));
    assert!(complaint(&deep).contains("nested too deeply"));
    assert!(complaint(&"(".repeat(100_000)).contains("at most 64 predicates"));
    assert!(complaint(&"not ".repeat(1_000)).contains("nested too deeply"));
    for lengthy in [many(65), long, format!("{} and", many(40))] {
        let said = complaint(&lengthy);
        assert!(said.contains("…\"") && said.len() < 200, "{said}");
    }
}

#[test]
fn a_status_has_the_range_in_which_it_may_be_written() {
    let schema = schema(&process_monitor::PROVIDER);
    let exit = schema.message(2).unwrap();
    assert!(compile(&schema, exit, "exit_status == 0xffffffff").is_ok());
    let said = compile(&schema, exit, "exit_status == 0x100000000").unwrap_err();
    assert_eq!(
        said.to_string(),
        "the filter is wrong at \"0x100000000\": \"exit_status\" is from -2147483648 to 4294967295"
    );
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_a_complaint(text in "[a-z_ ()!<>=~.,0-9x\"'\\\\äß-]{0,40}") {
        let schema = schema(&process_monitor::PROVIDER);
        let start = schema.message(1).unwrap();
        if let Err(problem) = compile(&schema, start, &text) {
            // Where it is lies in the text, at the borders of characters.
            prop_assert!(text.get(problem.place()).is_some());
        }
    }

    #[test]
    fn filters_of_words(words in proptest::collection::vec(proptest::sample::select(vec![
        "pid", "image", "truncated", "==", "!=", "in", "(", ")", ",", "..", "4", "-1", "0x10", "'a'",
        "case", "not", "and", "or", "is", "absent", "present", "has", "ends", "~", "true",
    ]), 0..12)) {
        let schema = schema(&process_monitor::PROVIDER);
        let start = schema.message(1).unwrap();
        let text = words.join(" ");
        if let Ok(program) = compile(&schema, start, &text) {
            prop_assert!(Program::parse(&program).is_ok_and(|p| p.predicates() > 0));
        }
    }
}
