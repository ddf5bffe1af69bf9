// SPDX-License-Identifier: MIT OR Apache-2.0
//! Server ports, connects, and the end of connections.

mod world;

use fltmgr::*;
use world::*;

fn create(change: impl FnOnce(&mut PortAttributes)) -> Result<PortId, Status> {
    let mut manager = ready(Decisions::default());
    let filter = manager
        .register_filter(&FilterRegistration::example(1))
        .unwrap();
    let mut attributes = PortAttributes::example(&units(NAME));
    change(&mut attributes);
    manager.create_port(filter, attributes)
}

#[test]
fn a_port_needs_a_kernel_handle() {
    assert_eq!(
        create(|a| a.kernel_handle = false),
        Err(Status::INVALID_PARAMETER)
    );
}

#[test]
fn a_port_needs_room_for_one_connection() {
    assert_eq!(
        create(|a| a.max_connections = 0),
        Err(Status::INVALID_PARAMETER)
    );
    assert_eq!(
        create(|a| a.max_connections = -1),
        Err(Status::INVALID_PARAMETER)
    );
    assert!(create(|a| a.max_connections = i32::MAX).is_ok());
}

#[test]
fn a_port_needs_connect_and_disconnect_callbacks_but_no_message_callback() {
    assert_eq!(
        create(|a| a.has_connect_notify = false),
        Err(Status::INVALID_PARAMETER)
    );
    assert_eq!(
        create(|a| a.has_disconnect_notify = false),
        Err(Status::INVALID_PARAMETER)
    );
    assert!(create(|a| a.has_message_notify = false).is_ok());
}

#[test]
fn a_port_name_must_be_well_formed() {
    assert_eq!(
        create(|a| a.name = units("Port")),
        Err(Status::OBJECT_PATH_SYNTAX_BAD)
    );
    assert_eq!(
        create(|a| a.name = units("\\A\\B")),
        Err(Status::OBJECT_PATH_NOT_FOUND)
    );
}

#[test]
fn a_port_name_is_taken_until_the_port_closes() {
    let mut world = World::new();
    let again = PortAttributes::example(&units(NAME));
    let taken = world.manager.create_port(world.filter, again.clone());
    assert_eq!(taken, Err(Status::OBJECT_NAME_COLLISION));
    world.manager.close_server_port(world.port);
    assert!(world.manager.create_port(world.filter, again).is_ok());
}

#[test]
fn a_filter_may_have_several_ports() {
    let mut world = World::new();
    let mut second = PortAttributes::example(&units("\\Second"));
    second.cookie = 5;
    let second = world.manager.create_port(world.filter, second).unwrap();
    let begun = world
        .manager
        .connect_begin(&units("\\Second"), 0, |_| true)
        .unwrap();
    assert_eq!(
        (begun.port, begun.cookie),
        (second, 5),
        "the server cookie tells them apart"
    );
    assert_eq!(
        world.manager.port_name(second),
        Some(&units("\\Second")[..])
    );
}

#[test]
fn a_new_port_listens_at_once_even_before_filtering_starts() {
    let mut world = World::new();
    world.connect();
}

#[test]
fn connecting_to_an_unknown_name_fails() {
    let mut world = World::new();
    let mut begin = |name| world.manager.connect_begin(&units(name), 0, |_| true).err();
    assert_eq!(begin("\\Nobody"), Some(Status::OBJECT_NAME_NOT_FOUND));
    assert_eq!(
        begin("\\testport"),
        Some(Status::OBJECT_NAME_NOT_FOUND),
        "case matters"
    );
}

#[test]
fn a_case_insensitive_port_is_found_in_any_case() {
    let mut world = World::with(Decisions::default(), |a| a.case_insensitive = true);
    assert!(
        world
            .manager
            .connect_begin(&units("\\TESTPORT"), 0, |_| true)
            .is_ok()
    );
}

#[test]
fn the_port_descriptor_decides_who_connects() {
    let mut world = World::with(Decisions::default(), |a| a.security = Some(42));
    let refused = world.manager.connect_begin(&units(NAME), 0, |security| {
        assert_eq!(security, Security::Descriptor(42));
        false
    });
    assert_eq!(refused, Err(Status::ACCESS_DENIED));
    assert_eq!(world.manager.snapshot().ports[0].slots, 0, "no slot taken");
}

#[test]
fn a_port_without_descriptor_follows_the_decision() {
    let mut world = World::with(Decisions::default(), |a| a.security = None);
    let refused = world.manager.connect_begin(&units(NAME), 0, |security| {
        security != Security::HostDefault
    });
    assert_eq!(refused, Err(Status::ACCESS_DENIED));

    let no_descriptor = NoDescriptor::Everyone;
    let decisions = Decisions {
        no_descriptor,
        ..Decisions::default()
    };
    let mut world = World::with(decisions, |a| a.security = None);
    assert!(
        world
            .manager
            .connect_begin(&units(NAME), 0, |_| false)
            .is_ok()
    );
}

#[test]
fn the_connection_limit_is_exact() {
    let mut world = World::new();
    world.connect();
    let second = world.begin().unwrap();
    assert_eq!(
        world.begin(),
        Err(Status::CONNECTION_COUNT_LIMIT),
        "one is still connecting"
    );
    let (refused, _) = world
        .manager
        .connect_finish(second, Err(Status::ACCESS_DENIED));
    assert_eq!(refused, Err(Status::ACCESS_DENIED));
    assert!(world.begin().is_ok(), "a refusal gives the slot back");
}

#[test]
fn a_connection_context_has_a_limit() {
    let mut world = World::new();
    let begun = world
        .manager
        .connect_begin(&units(NAME), CONTEXT_LIMIT + 1, |_| true);
    assert_eq!(begun, Err(Status::INTEGER_OVERFLOW));
    assert!(
        world
            .manager
            .connect_begin(&units(NAME), CONTEXT_LIMIT, |_| true)
            .is_ok()
    );
}

#[test]
fn a_refused_connect_gets_the_drivers_status_and_no_disconnect() {
    let mut world = World::new();
    let connection = world.begin().unwrap();
    let refusal = Err(Status::PRIVILEGE_NOT_HELD);
    let (result, effects) = world
        .manager
        .connect_finish(connection, Err(Status::PRIVILEGE_NOT_HELD));
    assert_eq!(result, refusal);
    assert_eq!(
        effects,
        [Effect::ConnectionGone { connection }],
        "its client port is disposed of"
    );
}

#[test]
fn a_connect_finishes_once() {
    let mut world = World::new();
    let connection = world.connect();
    let (again, effects) = world.manager.connect_finish(connection, Ok(1));
    assert_eq!((again, effects), (Err(Status::INVALID_PARAMETER), vec![]));
}

#[test]
fn nobody_reads_while_connect_notify_runs() {
    let mut world = World::new();
    let connection = world.begin().unwrap();
    let (send, effects) = world
        .manager
        .send(connection, b"x".to_vec(), None, Some(Time(5)));
    assert_eq!(effects, []);
    assert_eq!(world.manager.expire(Time(5)), [sent(send, Status::TIMEOUT)]);
}

#[test]
fn closing_the_server_port_leaves_connections_alone() {
    let mut world = World::new();
    let connection = world.connect();
    let get = world.pend(connection, 64);
    assert_eq!(world.manager.close_server_port(world.port), []);
    assert_eq!(
        world.begin(),
        Err(Status::OBJECT_NAME_NOT_FOUND),
        "no new connections"
    );
    let (_, effects) = world
        .manager
        .send(connection, b"still here".to_vec(), None, None);
    assert_eq!(delivered(&effects).map(|d| d.0), Some(get));
    assert_eq!(
        world.manager.close_server_port(world.port),
        [],
        "closing twice"
    );
}

#[test]
fn a_connect_in_progress_survives_the_server_ports_end() {
    let mut world = World::new();
    let connection = world.begin().unwrap();
    world.manager.close_server_port(world.port);
    assert_eq!(
        world.manager.connect_finish(connection, Ok(1)),
        (Ok(()), vec![])
    );
}

#[test]
fn connecting_while_the_filter_unregisters_is_refused() {
    let mut world = World::new();
    world.manager.unregister_filter(world.filter).unwrap();
    assert_eq!(world.begin(), Err(Status::FLT_DELETING_OBJECT));
}

#[test]
fn the_last_user_handle_ends_the_connection() {
    let mut world = World::new();
    let connection = world.connect();
    world.manager.duplicate_handle(connection).unwrap();
    let get = world.pend(connection, 64);
    assert_eq!(
        world.manager.close_handle(connection),
        [],
        "a duplicate keeps it alive"
    );
    let effects = world.manager.close_handle(connection);
    let cancelled = got(connection, get, GetOutcome::Cancelled);
    assert_eq!(effects, [cancelled, world.disconnect(connection)]);
    assert_eq!(
        world.manager.close_handle(connection),
        [],
        "there is no handle left"
    );
    assert_eq!(
        world.manager.duplicate_handle(connection),
        Err(Status::INVALID_HANDLE)
    );
}

#[test]
fn a_closing_user_wakes_senders_in_both_phases() {
    let mut world = World::new();
    let connection = world.connect();
    let (asked, _) = world.ask(connection, 4);
    let waiting = world.wait(connection, b"unread");
    let effects = world.manager.close_handle(connection);
    let lost = Status::PORT_DISCONNECTED;
    assert_eq!(
        effects,
        [
            sent(waiting, lost),
            sent(asked, lost),
            world.disconnect(connection)
        ]
    );
}

#[test]
fn a_slot_is_free_when_disconnect_notify_returned() {
    let mut world = World::with(Decisions::default(), |a| a.max_connections = 1);
    let connection = world.connect();
    world.manager.close_handle(connection);
    assert_eq!(
        world.begin(),
        Err(Status::CONNECTION_COUNT_LIMIT),
        "still in the callback"
    );
    assert_eq!(world.manager.disconnect_returned(connection), []);
    assert!(
        world.begin().is_ok(),
        "though the driver's end is still open"
    );
    let closed = world.manager.close_client_port(connection);
    assert_eq!(closed, [Effect::ConnectionGone { connection }]);
}

#[test]
fn a_slot_is_free_when_the_client_port_closed_under_the_other_decision() {
    let slot_release = SlotRelease::ClientPortClosed;
    let decisions = Decisions {
        slot_release,
        ..Decisions::default()
    };
    let mut world = World::with(decisions, |a| a.max_connections = 1);
    let connection = world.connect();
    world.manager.close_handle(connection);
    world.manager.disconnect_returned(connection);
    assert_eq!(
        world.begin(),
        Err(Status::CONNECTION_COUNT_LIMIT),
        "the driver forgot to close"
    );
    world.manager.close_client_port(connection);
    assert!(world.begin().is_ok());
}

#[test]
fn closing_the_client_port_inside_disconnect_notify_is_the_usual_end() {
    let mut world = World::new();
    let connection = world.connect();
    world.manager.close_handle(connection);
    assert_eq!(world.manager.close_client_port(connection), []);
    let effects = world.manager.disconnect_returned(connection);
    assert_eq!(effects, [Effect::ConnectionGone { connection }]);
    assert_eq!(
        world.manager.disconnect_returned(connection),
        [],
        "a second return"
    );
}

#[test]
fn a_driver_that_closes_first_ends_the_connection_for_the_user() {
    let mut world = World::new();
    let connection = world.connect();
    let (asked, id) = world.ask(connection, 4);
    let get = world.pend(connection, 64);
    let effects = world.manager.close_client_port(connection);
    let ended = got(connection, get, GetOutcome::Disconnected);
    assert_eq!(effects, [ended, sent(asked, Status::PORT_DISCONNECTED)]);

    let (get, effects) = world.manager.get(connection, 64);
    assert_eq!(effects, [got(connection, get, GetOutcome::Disconnected)]);
    assert_eq!(
        world.reply(connection, id, b"").0,
        Err(Status::PORT_DISCONNECTED)
    );
    assert_eq!(
        world.manager.message_begin(connection),
        Err(Status::PORT_DISCONNECTED)
    );
    let (send, effects) = world.manager.send(connection, b"x".to_vec(), None, None);
    assert_eq!(effects, [sent(send, Status::PORT_DISCONNECTED)]);
}

#[test]
fn a_driver_that_closes_inside_connect_notify_accepts_a_dead_connection() {
    let mut world = World::new();
    let connection = world.begin().unwrap();
    assert_eq!(world.manager.close_client_port(connection), []);
    let accepted = world.manager.connect_finish(connection, Ok(1));
    assert_eq!(accepted, (Ok(()), vec![]));
    let (get, effects) = world.manager.get(connection, 64);
    assert_eq!(effects, [got(connection, get, GetOutcome::Disconnected)]);
    let effects = world.manager.close_handle(connection);
    assert!(
        matches!(effects[..], [Effect::CallDisconnect { .. }]),
        "{effects:?}"
    );
}

#[test]
fn disconnect_notify_after_a_driver_close_runs_at_user_close() {
    let mut world = World::new();
    let connection = world.connect();
    assert_eq!(world.manager.close_client_port(connection), []);
    assert_eq!(
        world.manager.close_handle(connection),
        [world.disconnect(connection)]
    );
    let effects = world.manager.disconnect_returned(connection);
    assert_eq!(effects, [Effect::ConnectionGone { connection }]);
}

#[test]
fn disconnect_notify_after_a_driver_close_is_silent_under_the_other_decision() {
    let driver_close = DriverClose::Silent;
    let decisions = Decisions {
        driver_close,
        ..Decisions::default()
    };
    let mut world = World::with(decisions, |a| a.max_connections = 1);
    let connection = world.connect();
    world.manager.close_client_port(connection);
    let effects = world.manager.close_handle(connection);
    assert_eq!(effects, [Effect::ConnectionGone { connection }]);
    assert!(world.begin().is_ok(), "the slot is free");
}

#[test]
fn a_client_port_closes_once() {
    let mut world = World::new();
    let connection = world.connect();
    let get = world.pend(connection, 64);
    let effects = world.manager.close_client_port(connection);
    assert_eq!(effects, [got(connection, get, GetOutcome::Disconnected)]);
    assert_eq!(world.manager.close_client_port(connection), []);
    assert_eq!(world.manager.close_client_port(ConnectionId(999)), []);
}

#[test]
fn disconnect_waits_for_a_message_callback() {
    let mut world = World::new();
    let connection = world.connect();
    let (call, cookie) = world.manager.message_begin(connection).unwrap();
    assert_eq!(cookie, COOKIE);
    assert_eq!(world.manager.close_handle(connection), []);
    assert_eq!(
        world.manager.message_end(call),
        [world.disconnect(connection)]
    );
    assert_eq!(world.manager.message_end(call), [], "a second end");
}

#[test]
fn disconnect_overlaps_a_message_callback_under_the_other_decision() {
    let disconnect_order = DisconnectOrder::Overlapping;
    let mut world = World::with(
        Decisions {
            disconnect_order,
            ..Decisions::default()
        },
        |_| {},
    );
    let connection = world.connect();
    let (call, _) = world.manager.message_begin(connection).unwrap();
    assert_eq!(
        world.manager.close_handle(connection),
        [world.disconnect(connection)]
    );
    world.manager.close_client_port(connection);
    assert_eq!(
        world.manager.disconnect_returned(connection),
        [],
        "the callback still runs"
    );
    let effects = world.manager.message_end(call);
    assert_eq!(effects, [Effect::ConnectionGone { connection }]);
}

#[test]
fn message_callbacks_run_side_by_side() {
    let mut world = World::new();
    let connection = world.connect();
    let (first, _) = world.manager.message_begin(connection).unwrap();
    let (second, _) = world.manager.message_begin(connection).unwrap();
    world.manager.close_handle(connection);
    assert_eq!(world.manager.message_end(first), []);
    assert_eq!(
        world.manager.message_end(second),
        [world.disconnect(connection)]
    );
}

#[test]
fn a_port_without_message_callback_refuses_messages() {
    let mut world = World::with(Decisions::default(), |a| a.has_message_notify = false);
    let connection = world.connect();
    let refused = world.manager.message_begin(connection);
    assert_eq!(refused, Err(Status::INVALID_DEVICE_REQUEST));
}
