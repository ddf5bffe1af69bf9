// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests, waited for and not.

use compat::contract::{Answered, Asked};
use fltport::Event;
use fltport_abi::interface::{Request, Revised};
use fltport_abi::limits::{MAX_DEADLINE_MS, MAX_REQUEST};
use fltport_abi::message::Message;
use fltport_nt::bindings::{STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use fltport_nt::linked::STATUS_INVALID_LEVEL;

use crate::messages::{FirstYes, Number, Question, Yes};
use crate::scene::{Scene, at_dispatch_level, both};

const ANSWERED: u32 = 0;
const MISSED: u32 = 1;
pub(crate) const NO_DECIDER: u32 = 2;
const DECLARED_DEFAULT: u32 = 1;

/// A question that is right.
pub(crate) fn asked(number: u64) -> Asked {
    Asked {
        size: 0,
        message: Question::NUMBER,
        without_reply: false,
        number,
        length: Question::FIXED as u32,
        deadline_ms: 10_000,
        reply_length: Yes::FIXED as u32,
        yes: 0,
        flags: 0,
    }
}

/// Answers a question: an odd one with yes, one that ends in 5 as a service of the first version does, one
/// that ends in 0 not at all.
fn decide(scene: &Scene) {
    match scene.next() {
        Event::Request(request) => {
            let question: Question = request.record.decode().expect("a question");
            let yes = question.number % 2 == 1;
            let replied = match question.number % 10 {
                0 => Ok(()),
                5 => request.reply(&FirstYes { yes }),
                _ => request.reply(&Yes { yes, days: 9 }),
            };
            replied.expect("somebody waits");
        }
        other => panic!("no request: {other:?}"),
    }
}

#[test]
fn the_callback_brings_the_answer_or_the_default() {
    both(|scene| {
        let contract = scene.contract;
        let mut times = 0;
        let mut completed = |decides: bool, asked: &Asked| {
            assert_eq!(contract.ask_later(asked), STATUS_SUCCESS);
            if decides {
                decide(scene);
            }
            let mut answered = Answered::default();
            assert_eq!(contract.completed(&mut answered), STATUS_SUCCESS);
            times += 1;
            assert_eq!(answered.times, times, "once for each");
            answered
        };
        let declared = Asked {
            flags: DECLARED_DEFAULT,
            ..asked(10)
        };
        for default in [0, 1] {
            let yes = default;
            let nobody = completed(false, &Asked { yes, ..asked(1) });
            assert_eq!((nobody.outcome, nobody.yes), (NO_DECIDER, default));
        }
        let nobody = completed(false, &declared);
        assert_eq!((nobody.outcome, nobody.yes), (NO_DECIDER, 1));
        scene.subscribe(Question::NUMBER);
        assert!(contract.listening(Question::NUMBER));
        let yes = completed(true, &asked(1));
        assert_eq!((yes.outcome, yes.yes, yes.days), (ANSWERED, 1, 9));
        let older = completed(true, &asked(5));
        assert_eq!((older.outcome, older.yes, older.days), (ANSWERED, 1, 7));
        let no = completed(true, &Asked { yes: 1, ..asked(2) });
        assert_eq!((no.outcome, no.yes), (ANSWERED, 0));
        let missed = completed(
            true,
            &Asked {
                deadline_ms: 50,
                ..declared
            },
        );
        assert_eq!((missed.outcome, missed.yes), (MISSED, 1));
        assert!(missed.waited_us >= 50_000, "{missed:?}");
        let found = scene.statistics(Question::NUMBER);
        assert_eq!((found.asked, found.deciders), (7, 1));
        assert_eq!(found.outcomes[..3], [3, 1, 3]);
    });
}

#[test]
fn who_waits_gets_the_answer_or_the_default() {
    both(|scene| {
        let asks = |decides: bool, asked: Asked| {
            std::thread::scope(|scope| {
                let asking = scope.spawn(move || {
                    let mut answered = Answered::default();
                    let status = scene.contract.ask(&asked, &mut answered);
                    assert_eq!(status, STATUS_SUCCESS);
                    answered
                });
                if decides {
                    decide(scene);
                }
                asking.join().expect("it comes back")
            })
        };
        let declared = Asked {
            flags: DECLARED_DEFAULT,
            ..asked(10)
        };
        let nobody = asks(false, declared);
        assert_eq!((nobody.outcome, nobody.yes), (NO_DECIDER, 1));
        scene.subscribe(Question::NUMBER);
        let yes = asks(true, asked(1));
        assert_eq!((yes.outcome, yes.yes, yes.days), (ANSWERED, 1, 9));
        let older = asks(true, asked(5));
        assert_eq!((older.outcome, older.yes, older.days), (ANSWERED, 1, 7));
        let no = asks(true, Asked { yes: 1, ..asked(2) });
        assert_eq!((no.outcome, no.yes), (ANSWERED, 0));
        let missed = asks(
            true,
            Asked {
                deadline_ms: 50,
                ..declared
            },
        );
        assert_eq!((missed.outcome, missed.yes), (MISSED, 1));
        assert!(missed.waited_us >= 50_000, "{missed:?}");
        // Of the first revision the struct ends before the flags: what is there is not looked at.
        let first = Asked {
            size: Request::FIRST as u32,
            flags: u32::MAX,
            ..asked(3)
        };
        let yes = asks(true, first);
        assert_eq!((yes.outcome, yes.yes, yes.waited_us), (ANSWERED, 1, 99));
    });
}

#[test]
fn a_wrong_request_is_refused_and_nobody_is_asked() {
    both(|scene| {
        let contract = scene.contract;
        scene.subscribe(Question::NUMBER);
        let right = asked(1);
        let wrong = [
            Asked {
                message: Number::NUMBER,
                ..right
            },
            Asked {
                message: 64,
                ..right
            },
            Asked { length: 7, ..right },
            Asked {
                deadline_ms: 0,
                ..right
            },
            Asked {
                deadline_ms: MAX_DEADLINE_MS + 1,
                ..right
            },
            Asked { flags: 2, ..right },
            Asked {
                flags: DECLARED_DEFAULT,
                reply_length: 3,
                ..right
            },
            Asked { size: 16, ..right },
            Asked {
                without_reply: true,
                ..right
            },
        ];
        let mut answered = Answered::default();
        for it in wrong {
            assert_eq!(
                contract.ask(&it, &mut answered),
                STATUS_INVALID_PARAMETER,
                "{it:?}"
            );
            assert_eq!(contract.ask_later(&it), STATUS_INVALID_PARAMETER, "{it:?}");
        }
        let too_long = Asked {
            length: MAX_REQUEST as u32 + 1,
            ..right
        };
        assert_eq!(
            contract.ask(&too_long, &mut answered),
            STATUS_BUFFER_OVERFLOW
        );
        assert_eq!(contract.ask_later(&too_long), STATUS_BUFFER_OVERFLOW);
        let status = at_dispatch_level(|| contract.ask(&right, &mut answered));
        assert_eq!(status, STATUS_INVALID_LEVEL);
        assert_eq!(scene.statistics(Question::NUMBER).asked, 0);
    });
}
