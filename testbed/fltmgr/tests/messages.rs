// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends, gets and replies.

mod world;

use fltmgr::*;
use world::*;

#[test]
fn a_send_meets_a_pended_get_at_once() {
    let mut world = World::new();
    let connection = world.connect();
    let get = world.pend(connection, 64);
    let (send, effects) = world
        .manager
        .send(connection, b"hello".to_vec(), None, None);
    assert_eq!(
        delivered(&effects),
        Some((get, MessageId(1), b"hello".to_vec()))
    );
    assert_eq!(
        effects[1],
        sent(send, Status::SUCCESS),
        "delivered is all it waits for"
    );
    assert_eq!(effects.len(), 2);
}

#[test]
fn a_send_without_a_reader_waits_and_nothing_is_stored() {
    let mut world = World::new();
    let connection = world.connect();
    let send = world.wait(connection, b"hello");
    let effects = world.manager.terminate_sender(send);
    assert_eq!(effects, [sent(send, Status::THREAD_IS_TERMINATING)]);
    world.pend(connection, 64);
}

#[test]
fn a_get_meets_the_sender_that_waits_longest() {
    let mut world = World::new();
    let connection = world.connect();
    world.wait(connection, b"first");
    world.wait(connection, b"second");
    let (_, effects) = world.manager.get(connection, 64);
    assert_eq!(delivered(&effects).unwrap().2, b"first");
    let (_, effects) = world.manager.get(connection, 64);
    assert_eq!(delivered(&effects).unwrap().2, b"second");
}

#[test]
fn bytes_transferred_are_header_plus_message() {
    let mut world = World::new();
    let connection = world.connect();
    world.pend(connection, 1_000);
    let (_, effects) = world
        .manager
        .send(connection, b"12345".to_vec(), None, None);
    let Effect::GetCompleted { outcome, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(outcome.information(), 16 + 5);
    assert_eq!(outcome.status(), Status::SUCCESS);
}

#[test]
fn a_send_with_a_reply_buffer_waits_for_the_reply() {
    let mut world = World::new();
    let connection = world.connect();
    let (send, id) = world.ask(connection, 4);
    let (result, effects) = world.reply(connection, id, b"yes");
    assert_eq!(result, Ok(()));
    assert_eq!(
        effects,
        [replied(send, Status::SUCCESS, b"yes")],
        "three bytes, no header"
    );
}

#[test]
fn the_reply_length_in_the_message_includes_the_reply_header() {
    let mut world = World::new();
    let connection = world.connect();
    world.pend(connection, 64);
    let (_, effects) = world.manager.send(connection, b"?".to_vec(), Some(4), None);
    let Effect::GetCompleted {
        outcome: GetOutcome::Message(bytes),
        ..
    } = &effects[0]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(Message::parse(bytes).unwrap().reply_length, 20);
}

#[test]
fn replies_find_their_sender_in_any_order() {
    let mut world = World::new();
    let connection = world.connect();
    let (first, first_id) = world.ask(connection, 8);
    let (second, second_id) = world.ask(connection, 8);
    assert!(first_id < second_id, "message ids increase");
    let (_, effects) = world.reply(connection, second_id, b"two");
    assert_eq!(effects, [replied(second, Status::SUCCESS, b"two")]);
    let (_, effects) = world.reply(connection, first_id, b"one");
    assert_eq!(effects, [replied(first, Status::SUCCESS, b"one")]);
}

#[test]
fn a_reply_goes_to_a_sender_of_its_own_connection_only() {
    let mut world = World::new();
    let (one, two) = (world.connect(), world.connect());
    let (send, id) = world.ask(one, 8);
    let (result, effects) = world.reply(two, id, b"forged");
    assert_eq!(
        (result, effects),
        (Err(Status::FLT_NO_WAITER_FOR_REPLY), vec![])
    );
    let (_, effects) = world.reply(one, id, b"real");
    assert_eq!(effects, [replied(send, Status::SUCCESS, b"real")]);
}

#[test]
fn a_reply_longer_than_the_buffer_overflows() {
    let mut world = World::new();
    let connection = world.connect();
    let (send, id) = world.ask(connection, 1);
    let (result, effects) = world.reply(connection, id, &[0; 8]);
    assert_eq!(
        result,
        Ok(()),
        "padding counts as payload; the service does not see it"
    );
    assert_eq!(effects, [sent(send, Status::BUFFER_OVERFLOW)]);
}

#[test]
fn a_reply_shorter_than_the_buffer_is_accepted() {
    let mut world = World::new();
    let connection = world.connect();
    let (send, id) = world.ask(connection, 100);
    let (_, effects) = world.reply(connection, id, b"");
    assert_eq!(
        effects,
        [replied(send, Status::SUCCESS, b"")],
        "a bare header"
    );
}

#[test]
fn a_reply_nobody_waits_for_is_named() {
    let mut world = World::new();
    let connection = world.connect();
    let no_waiter = Err(Status::FLT_NO_WAITER_FOR_REPLY);
    assert_eq!(
        world.reply(connection, MessageId(1), b"").0,
        no_waiter,
        "never sent"
    );
    let (_, id) = world.ask(connection, 4);
    world.reply(connection, id, b"").0.unwrap();
    assert_eq!(world.reply(connection, id, b"").0, no_waiter, "answered");
    world.pend(connection, 64);
    let (_, effects) = world.manager.send(connection, b"note".to_vec(), None, None);
    let (_, id, _) = delivered(&effects).unwrap();
    assert_eq!(
        world.reply(connection, id, b"").0,
        no_waiter,
        "wanted no reply"
    );
}

#[test]
fn a_late_reply_finds_no_waiter() {
    let mut world = World::new();
    let connection = world.connect();
    let (send, id) = world.ask_until(connection, 4, Some(Time(10)));
    assert_eq!(
        world.manager.expire(Time(10)),
        [sent(send, Status::TIMEOUT)]
    );
    let (result, effects) = world.reply(connection, id, b"late");
    assert_eq!(
        (result, effects),
        (Err(Status::FLT_NO_WAITER_FOR_REPLY), vec![])
    );
}

#[test]
fn a_reply_shorter_than_its_header_is_rejected() {
    let mut world = World::new();
    let connection = world.connect();
    let (_, _) = world.ask(connection, 4);
    let (result, effects) = world.manager.reply(connection, &[0; 15]);
    assert_eq!((result, effects), (Err(Status::INVALID_PARAMETER), vec![]));
}

#[test]
fn the_status_in_a_reply_follows_the_decision() {
    for (reply_status, expected) in [
        (ReplyStatus::Ignored, Status::SUCCESS),
        (ReplyStatus::Returned, Status::ACCESS_DENIED),
    ] {
        let mut world = World::with(
            Decisions {
                reply_status,
                ..Decisions::default()
            },
            |_| {},
        );
        let connection = world.connect();
        let (send, id) = world.ask(connection, 4);
        let reply = Reply {
            status: Status::ACCESS_DENIED,
            id,
            payload: b"no",
        };
        let (_, effects) = world.manager.reply(connection, &reply.encode());
        assert_eq!(effects, [replied(send, expected, b"no")]);
    }
}

#[test]
fn one_timeout_covers_the_wait_for_a_reader() {
    let mut world = World::new();
    let connection = world.connect();
    let (send, _) = world
        .manager
        .send(connection, b"x".to_vec(), None, Some(Time(10)));
    assert_eq!(world.manager.next_deadline(), Some(Time(10)));
    assert_eq!(world.manager.expire(Time(9)), []);
    assert_eq!(
        world.manager.expire(Time(10)),
        [sent(send, Status::TIMEOUT)]
    );
    assert_eq!(world.manager.next_deadline(), None);
    world.pend(connection, 64);
}

#[test]
fn one_timeout_covers_the_wait_for_the_reply() {
    let mut world = World::new();
    let connection = world.connect();
    let (send, _) = world.ask_until(connection, 4, Some(Time(10)));
    assert_eq!(
        world.manager.expire(Time(10)),
        [sent(send, Status::TIMEOUT)]
    );
}

#[test]
fn the_reply_phase_has_no_timeout_under_the_other_decision() {
    let reply_timeout = ReplyTimeout::Ignored;
    let mut world = World::with(
        Decisions {
            reply_timeout,
            ..Decisions::default()
        },
        |_| {},
    );
    let connection = world.connect();
    let (send, id) = world.ask_until(connection, 4, Some(Time(10)));
    assert_eq!(world.manager.next_deadline(), None);
    assert_eq!(world.manager.expire(Time(1_000)), []);
    assert_eq!(
        world.reply(connection, id, b"ok").1,
        [replied(send, Status::SUCCESS, b"ok")]
    );
}

#[test]
fn a_send_that_must_not_wait_still_meets_a_reader() {
    let mut world = World::new();
    let connection = world.connect();
    let now = Time(100);
    let deadline = world.manager.decisions().deadline(Some(0), now, 0);
    world.pend(connection, 64);
    let (send, effects) = world
        .manager
        .send(connection, b"x".to_vec(), None, deadline);
    assert_eq!(effects[1], sent(send, Status::SUCCESS));
    assert_eq!(world.manager.expire(now), []);
    let (send, effects) = world
        .manager
        .send(connection, b"x".to_vec(), None, deadline);
    assert_eq!(effects, []);
    assert_eq!(world.manager.expire(now), [sent(send, Status::TIMEOUT)]);
}

#[test]
fn deadlines_expire_soonest_first() {
    let mut world = World::new();
    let connection = world.connect();
    let (late, _) = world
        .manager
        .send(connection, b"x".to_vec(), None, Some(Time(20)));
    let (soon, _) = world
        .manager
        .send(connection, b"x".to_vec(), None, Some(Time(10)));
    let timeout = Status::TIMEOUT;
    assert_eq!(
        world.manager.expire(Time(30)),
        [sent(soon, timeout), sent(late, timeout)]
    );
}

#[test]
fn a_send_without_deadline_is_visible() {
    let mut world = World::new();
    let connection = world.connect();
    let send = world.wait(connection, b"for ever");
    let states = world.manager.snapshot().sends;
    assert_eq!(states.len(), 1);
    assert_eq!(
        (states[0].send, states[0].deadline, states[0].needed),
        (send, None, 24)
    );
}

#[test]
fn a_terminated_sender_returns_in_both_phases() {
    let mut world = World::new();
    let connection = world.connect();
    let (asked, id) = world.ask(connection, 4);
    let dying = Status::THREAD_IS_TERMINATING;
    assert_eq!(world.manager.terminate_sender(asked), [sent(asked, dying)]);
    assert_eq!(
        world.reply(connection, id, b"").0,
        Err(Status::FLT_NO_WAITER_FOR_REPLY)
    );
    let waiting = world.wait(connection, b"x");
    assert_eq!(
        world.manager.terminate_sender(waiting),
        [sent(waiting, dying)]
    );
    assert_eq!(
        world.manager.terminate_sender(waiting),
        [],
        "it has returned"
    );
}

#[test]
fn concurrent_sends_do_not_wait_for_each_other() {
    let mut world = World::new();
    let connection = world.connect();
    world.ask(connection, 4);
    world.pend(connection, 64);
    let (send, effects) = world.manager.send(connection, b"note".to_vec(), None, None);
    assert_eq!(
        effects[1],
        sent(send, Status::SUCCESS),
        "while another waits for its reply"
    );
}

#[test]
fn an_empty_message_follows_the_decision() {
    let mut world = World::new();
    let connection = world.connect();
    world.pend(connection, 16);
    let (_, effects) = world.manager.send(connection, vec![], None, None);
    assert_eq!(delivered(&effects).unwrap().2, b"");

    let empty_message = EmptyMessage::Refused;
    let mut world = World::with(
        Decisions {
            empty_message,
            ..Decisions::default()
        },
        |_| {},
    );
    let connection = world.connect();
    let (send, effects) = world.manager.send(connection, vec![], None, None);
    assert_eq!(effects, [sent(send, Status::INVALID_PARAMETER)]);
}

#[test]
fn sending_to_a_connection_that_is_gone_is_disconnected() {
    let mut world = World::new();
    let (send, effects) = world
        .manager
        .send(ConnectionId(999), b"x".to_vec(), None, None);
    assert_eq!(effects, [sent(send, Status::PORT_DISCONNECTED)]);
    let (get, effects) = world.manager.get(ConnectionId(999), 64);
    assert_eq!(
        effects,
        [got(ConnectionId(999), get, GetOutcome::Disconnected)]
    );
    assert_eq!(GetOutcome::Disconnected.status(), Status::PORT_DISCONNECTED);
}

#[test]
fn a_get_that_is_too_small_fails_and_the_message_is_not_lost() {
    let mut world = World::new();
    let connection = world.connect();
    world.wait(connection, b"12345678");
    let (get, effects) = world.manager.get(connection, 23);
    let small = GetOutcome::TooSmall { needed: 24 };
    assert_eq!(small.status(), Status::FLT_BUFFER_TOO_SMALL);
    assert_eq!(small.information(), 24);
    assert_eq!(effects, [got(connection, get, small)]);
    let (_, effects) = world.manager.get(connection, 24);
    assert_eq!(delivered(&effects).unwrap().2, b"12345678");
}

#[test]
fn a_pended_get_that_is_too_small_fails_when_the_message_comes() {
    let mut world = World::new();
    let connection = world.connect();
    let get = world.pend(connection, 17);
    let (send, effects) = world
        .manager
        .send(connection, b"12345678".to_vec(), None, None);
    assert_eq!(
        effects,
        [got(connection, get, GetOutcome::TooSmall { needed: 24 })]
    );
    let (_, effects) = world.manager.get(connection, 64);
    assert_eq!(effects[1], sent(send, Status::SUCCESS));
}

#[test]
fn an_undersized_get_among_larger_ones_is_skipped() {
    let mut world = World::new();
    let connection = world.connect();
    let small = world.pend(connection, 17);
    let large = world.pend(connection, 64);
    let (_, effects) = world
        .manager
        .send(connection, b"12345678".to_vec(), None, None);
    assert_eq!(delivered(&effects).map(|d| d.0), Some(large));
    let (_, effects) = world.manager.send(connection, b"1".to_vec(), None, None);
    assert_eq!(
        delivered(&effects).map(|d| d.0),
        Some(small),
        "it stayed pended"
    );
}

#[test]
fn only_the_oldest_undersized_get_fails_when_none_fits() {
    let mut world = World::new();
    let connection = world.connect();
    let oldest = world.pend(connection, 17);
    let other = world.pend(connection, 18);
    let (_, effects) = world
        .manager
        .send(connection, b"12345678".to_vec(), None, None);
    assert_eq!(
        effects,
        [got(connection, oldest, GetOutcome::TooSmall { needed: 24 })]
    );
    assert_eq!(world.manager.snapshot().gets.len(), 1);
    assert_eq!(world.manager.snapshot().gets[0].get, other);
}

#[test]
fn an_undersized_get_among_larger_ones_fails_under_the_other_decision() {
    let undersized_get = UndersizedGet::Fail;
    let mut world = World::with(
        Decisions {
            undersized_get,
            ..Decisions::default()
        },
        |_| {},
    );
    let connection = world.connect();
    let small = world.pend(connection, 17);
    let large = world.pend(connection, 64);
    let after = world.pend(connection, 17);
    let (_, effects) = world
        .manager
        .send(connection, b"12345678".to_vec(), None, None);
    assert_eq!(
        effects[0],
        got(connection, small, GetOutcome::TooSmall { needed: 24 })
    );
    assert_eq!(delivered(&effects).map(|d| d.0), Some(large));
    let (_, effects) = world
        .manager
        .send(connection, b"12345678".to_vec(), None, None);
    assert_eq!(
        effects,
        [got(connection, after, GetOutcome::TooSmall { needed: 24 })]
    );
}

#[test]
fn a_cancelled_get_is_aborted_alone() {
    let mut world = World::new();
    let connection = world.connect();
    let (one, two) = (world.pend(connection, 64), world.pend(connection, 64));
    let cancelled = |get| got(connection, get, GetOutcome::Cancelled);
    assert_eq!(world.manager.cancel_get(connection, one), [cancelled(one)]);
    assert_eq!(
        world.manager.cancel_get(connection, one),
        [],
        "it has completed"
    );
    assert_eq!(world.manager.cancel_all_gets(connection), [cancelled(two)]);
    assert_eq!(GetOutcome::Cancelled.status(), Status::CANCELLED);
    assert_eq!(world.manager.cancel_all_gets(ConnectionId(999)), []);
}

#[test]
fn cancelling_keeps_the_order_of_the_others() {
    let mut world = World::new();
    let connection = world.connect();
    let gets = [64; 3].map(|capacity| world.pend(connection, capacity));
    world.manager.cancel_get(connection, gets[1]);
    let (_, effects) = world.manager.send(connection, b"x".to_vec(), None, None);
    assert_eq!(delivered(&effects).map(|d| d.0), Some(gets[0]));
    let (_, effects) = world.manager.send(connection, b"x".to_vec(), None, None);
    assert_eq!(delivered(&effects).map(|d| d.0), Some(gets[2]));
}

#[test]
fn message_ids_count_per_connection() {
    let mut world = World::new();
    let (one, two) = (world.connect(), world.connect());
    assert_eq!(world.ask(one, 4).1, MessageId(1));
    assert_eq!(world.ask(one, 4).1, MessageId(2));
    assert_eq!(world.ask(two, 4).1, MessageId(1));
}
