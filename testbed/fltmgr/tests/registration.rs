// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters: register, start, reference, unload, unregister.

mod world;

use fltmgr::*;
use world::*;

fn register(change: impl FnOnce(&mut FilterRegistration)) -> Result<FilterId, Status> {
    register_under(Decisions::default(), change)
}

fn register_under(
    decisions: Decisions,
    change: impl FnOnce(&mut FilterRegistration),
) -> Result<FilterId, Status> {
    let mut registration = FilterRegistration::example(1);
    change(&mut registration);
    ready(decisions).register_filter(&registration)
}

#[test]
fn registering_before_the_filter_manager_is_up_fails() {
    let mut manager = FilterManager::new(Decisions::default());
    let registration = FilterRegistration::example(1);
    assert_eq!(
        manager.register_filter(&registration),
        Err(Status::FLT_NOT_INITIALIZED)
    );
    assert!(!manager.is_initialized());
    manager.set_initialized();
    assert!(manager.is_initialized());
    assert!(manager.register_filter(&registration).is_ok());
}

#[test]
fn size_version_and_unload_alone_are_a_registration() {
    assert!(register(|_| {}).is_ok());
}

#[test]
fn every_minor_version_registers_under_the_header_reading() {
    for (version, size) in [
        (0x0200, 0x58),
        (0x0201, 0x68),
        (0x0202, 0x68),
        (0x0203, 0x70),
    ] {
        let result = register(|r| (r.version, r.size) = (version, size));
        assert!(result.is_ok(), "version {version:#x}");
    }
    assert!(
        register(|r| r.version = 0x0299).is_ok(),
        "a future minor version"
    );
    assert_eq!(
        register(|r| r.version = 0x0303),
        Err(Status::INVALID_PARAMETER)
    );
}

#[test]
fn only_the_current_version_registers_under_the_page_reading() {
    let decisions = Decisions {
        version_check: VersionCheck::Exact,
        ..Decisions::default()
    };
    assert!(register_under(decisions, |_| {}).is_ok());
    let older = register_under(decisions, |r| (r.version, r.size) = (0x0202, 0x68));
    assert_eq!(older, Err(Status::INVALID_PARAMETER));
}

#[test]
fn size_must_be_the_structure_size() {
    assert_eq!(register(|r| r.size = 0x68), Err(Status::INVALID_PARAMETER));
}

#[test]
fn name_provider_callbacks_must_be_consistent() {
    let with = |names| register(|r| r.names = names);
    let none = NameProvider::NONE;
    let both = NameProvider {
        generate: true,
        normalize: true,
        ..none
    };
    assert!(with(both).is_ok());
    assert!(
        with(NameProvider {
            cleanup: true,
            ..both
        })
        .is_ok()
    );
    assert!(
        with(NameProvider {
            normalize: false,
            normalize_ex: true,
            ..both
        })
        .is_ok()
    );
    for names in [
        NameProvider {
            generate: true,
            ..none
        },
        NameProvider {
            normalize: true,
            ..none
        },
        NameProvider {
            normalize_ex: true,
            ..none
        },
        NameProvider {
            cleanup: true,
            ..none
        },
    ] {
        assert_eq!(with(names), Err(Status::INVALID_PARAMETER), "{names:?}");
    }
}

#[test]
fn instances_must_be_in_the_registry() {
    let missing = register(|r| r.instance = InstanceKeys::Missing);
    assert_eq!(missing, Err(Status::OBJECT_NAME_NOT_FOUND));
    let wrong_type = register(|r| r.instance = InstanceKeys::WrongType);
    assert_eq!(wrong_type, Err(Status::INVALID_PARAMETER));
}

#[test]
fn a_second_registration_follows_the_decision() {
    let mut manager = ready(Decisions::default());
    let registration = FilterRegistration::example(1);
    manager.register_filter(&registration).unwrap();
    assert_eq!(
        manager.register_filter(&registration),
        Err(Status::INVALID_PARAMETER)
    );
    assert!(
        manager
            .register_filter(&FilterRegistration::example(2))
            .is_ok()
    );

    let accepted = SecondRegistration::Accepted;
    let mut manager = ready(Decisions {
        second_registration: accepted,
        ..Decisions::default()
    });
    manager.register_filter(&registration).unwrap();
    assert!(manager.register_filter(&registration).is_ok());
}

#[test]
fn registering_replaces_driver_unload() {
    let unload_of = |change: fn(&mut FilterRegistration)| {
        let mut manager = ready(Decisions::default());
        let mut registration = FilterRegistration::example(1);
        change(&mut registration);
        let filter = manager.register_filter(&registration).unwrap();
        manager.driver_unload(filter)
    };
    assert_eq!(unload_of(|_| {}), Some(DriverUnload::Replaced));
    assert_eq!(
        unload_of(|r| r.has_unload = false),
        Some(DriverUnload::Removed)
    );
    let no_stop = unload_of(|r| r.flags = DO_NOT_SUPPORT_SERVICE_STOP);
    assert_eq!(no_stop, Some(DriverUnload::Removed));
}

#[test]
fn filtering_starts_once() {
    let mut world = World::new();
    assert_eq!(world.manager.start_filtering(world.filter), Ok(()));
    assert_eq!(
        world.manager.start_filtering(world.filter),
        Err(Status::INVALID_PARAMETER)
    );
}

#[test]
fn a_filter_that_goes_away_refuses_start_reference_port_and_attach() {
    let mut world = World::new();
    world.manager.unregister_filter(world.filter).unwrap();
    let gone = Err(Status::FLT_DELETING_OBJECT);
    assert_eq!(world.manager.start_filtering(world.filter), gone);
    assert_eq!(world.manager.reference(world.filter), gone);
    assert_eq!(
        world.manager.attach(world.filter),
        Err(Status::FLT_DELETING_OBJECT)
    );
    let port = world
        .manager
        .create_port(world.filter, PortAttributes::example(&units("\\Other")));
    assert_eq!(port, Err(Status::FLT_DELETING_OBJECT));
}

#[test]
fn attaching_before_filtering_started_is_refused() {
    let mut world = World::new();
    assert_eq!(
        world.manager.attach(world.filter),
        Err(Status::FLT_FILTER_NOT_READY)
    );
    world.manager.start_filtering(world.filter).unwrap();
    assert_eq!(
        world.manager.attach(world.filter),
        Ok(false),
        "no setup callback: attaches"
    );
}

#[test]
fn a_setup_callback_is_asked_before_attaching() {
    let mut manager = ready(Decisions::default());
    let registration = FilterRegistration {
        has_instance_setup: true,
        ..FilterRegistration::example(1)
    };
    let filter = manager.register_filter(&registration).unwrap();
    manager.start_filtering(filter).unwrap();
    assert_eq!(manager.attach(filter), Ok(true));
}

#[test]
fn a_voluntary_unload_may_be_refused() {
    let mut world = World::new();
    assert_eq!(
        world
            .manager
            .request_unload(world.filter, UnloadTrigger::Voluntary),
        Ok(0)
    );
    let veto = Status::FLT_DO_NOT_DETACH;
    assert_eq!(world.manager.finish_unload(world.filter, veto), Err(veto));
    assert!(
        world.manager.reference(world.filter).is_ok(),
        "the filter stays"
    );
    assert_eq!(
        world
            .manager
            .request_unload(world.filter, UnloadTrigger::Voluntary),
        Ok(0)
    );
    let warning = Status::BUFFER_OVERFLOW;
    assert_eq!(
        world.manager.finish_unload(world.filter, warning),
        Err(warning)
    );
}

#[test]
fn a_mandatory_unload_goes_on_whatever_the_callback_answers() {
    let mut world = World::new();
    let flags = world
        .manager
        .request_unload(world.filter, UnloadTrigger::Mandatory);
    assert_eq!(flags, Ok(UNLOAD_MANDATORY));
    let unloaded = world
        .manager
        .finish_unload(world.filter, Status::FLT_DO_NOT_DETACH);
    assert_eq!(
        unloaded,
        Ok(Unloaded {
            still_registered: true
        })
    );
}

#[test]
fn an_unload_whose_callback_unregistered_is_complete() {
    let mut world = World::new();
    world
        .manager
        .request_unload(world.filter, UnloadTrigger::Voluntary)
        .unwrap();
    world.manager.close_server_port(world.port);
    world.manager.unregister_filter(world.filter).unwrap();
    let unloaded = world.manager.finish_unload(world.filter, Status::SUCCESS);
    assert_eq!(
        unloaded,
        Ok(Unloaded {
            still_registered: false
        })
    );
}

#[test]
fn a_filter_without_unload_callback_cannot_be_unloaded() {
    let mut manager = ready(Decisions::default());
    let registration = FilterRegistration {
        has_unload: false,
        ..FilterRegistration::example(1)
    };
    let filter = manager.register_filter(&registration).unwrap();
    let voluntary = manager.request_unload(filter, UnloadTrigger::Voluntary);
    assert_eq!(voluntary, Err(Status::FLT_DO_NOT_DETACH));
    let mandatory = manager.request_unload(filter, UnloadTrigger::Mandatory);
    assert_eq!(mandatory, Err(Status::INVALID_DEVICE_REQUEST));
}

#[test]
fn do_not_support_service_stop_refuses_only_the_mandatory_unload() {
    let mut manager = ready(Decisions::default());
    let flags = DO_NOT_SUPPORT_SERVICE_STOP;
    let registration = FilterRegistration {
        flags,
        ..FilterRegistration::example(1)
    };
    let filter = manager.register_filter(&registration).unwrap();
    let mandatory = manager.request_unload(filter, UnloadTrigger::Mandatory);
    assert_eq!(mandatory, Err(Status::INVALID_DEVICE_REQUEST));
    assert_eq!(
        manager.request_unload(filter, UnloadTrigger::Voluntary),
        Ok(0)
    );
}

#[test]
fn unloading_twice_or_something_unknown_is_refused() {
    let mut world = World::new();
    world
        .manager
        .request_unload(world.filter, UnloadTrigger::Voluntary)
        .unwrap();
    let again = world
        .manager
        .request_unload(world.filter, UnloadTrigger::Mandatory);
    assert_eq!(again, Err(Status::FLT_DELETING_OBJECT));
    let unknown = world
        .manager
        .request_unload(FilterId(999), UnloadTrigger::Voluntary);
    assert_eq!(unknown, Err(Status::FLT_FILTER_NOT_FOUND));
}

#[test]
fn unregistering_waits_for_every_reference() {
    let mut world = World::new();
    world.manager.reference(world.filter).unwrap();
    world.manager.reference(world.filter).unwrap();
    world.manager.close_server_port(world.port);
    assert_eq!(world.manager.unregister_filter(world.filter), Ok(vec![]));
    assert_eq!(
        world.manager.unregister_waits_for(world.filter).references,
        2
    );
    assert_eq!(world.manager.dereference(world.filter), Ok(vec![]));
    let gone = Effect::FilterGone {
        filter: world.filter,
    };
    assert_eq!(world.manager.dereference(world.filter), Ok(vec![gone]));
}

#[test]
fn unregistering_waits_for_an_open_server_port() {
    let mut world = World::new();
    assert_eq!(world.manager.unregister_filter(world.filter), Ok(vec![]));
    assert_eq!(
        world
            .manager
            .unregister_waits_for(world.filter)
            .open_server_ports,
        1
    );
    let effects = world.manager.close_server_port(world.port);
    let gone = Effect::FilterGone {
        filter: world.filter,
    };
    assert_eq!(effects, [Effect::PortGone { port: world.port }, gone]);
}

#[test]
fn unregistering_closes_client_ports_that_are_left() {
    let mut world = World::new();
    let connection = world.connect();
    let get = world.pend(connection, 64);
    world.manager.close_server_port(world.port);
    let effects = world.manager.unregister_filter(world.filter).unwrap();
    let ended = got(connection, get, GetOutcome::Disconnected);
    assert_eq!(effects, [ended, world.disconnect(connection)]);
    assert_eq!(
        world.manager.unregister_waits_for(world.filter).disconnects,
        1
    );
    let effects = world.manager.disconnect_returned(connection);
    let port_gone = Effect::PortGone { port: world.port };
    assert_eq!(
        effects,
        [
            port_gone,
            Effect::FilterGone {
                filter: world.filter
            }
        ]
    );
    // The user still has his handle; closing it reaches no driver any more.
    let closed = world.manager.close_handle(connection);
    assert_eq!(closed, [Effect::ConnectionGone { connection }]);
}

#[test]
fn unregistering_waits_for_a_message_callback() {
    let mut world = World::new();
    let connection = world.connect();
    let (call, _) = world.manager.message_begin(connection).unwrap();
    world.manager.close_server_port(world.port);
    assert_eq!(world.manager.unregister_filter(world.filter), Ok(vec![]));
    assert_eq!(
        world
            .manager
            .unregister_waits_for(world.filter)
            .message_calls,
        1
    );
    assert_eq!(
        world.manager.message_end(call),
        [world.disconnect(connection)]
    );
    let effects = world.manager.disconnect_returned(connection);
    assert!(effects.contains(&Effect::FilterGone {
        filter: world.filter
    }));
}

#[test]
fn unregistering_waits_for_a_connect_callback_and_refuses_it() {
    let mut world = World::new();
    let connection = world.begin().unwrap();
    world.manager.close_server_port(world.port);
    assert_eq!(world.manager.unregister_filter(world.filter), Ok(vec![]));
    assert_eq!(world.manager.unregister_waits_for(world.filter).connects, 1);
    let (result, effects) = world.manager.connect_finish(connection, Ok(COOKIE));
    assert_eq!(result, Err(Status::FLT_DELETING_OBJECT));
    assert_eq!(
        effects,
        [world.disconnect(connection)],
        "the driver has a cookie to free"
    );
    let effects = world.manager.disconnect_returned(connection);
    assert!(effects.contains(&Effect::FilterGone {
        filter: world.filter
    }));
}

#[test]
fn unregistering_two_connections_waits_for_both() {
    let mut world = World::new();
    let (first, second) = (world.connect(), world.connect());
    world.manager.close_server_port(world.port);
    let effects = world.manager.unregister_filter(world.filter).unwrap();
    assert_eq!(effects, [world.disconnect(first), world.disconnect(second)]);
    assert_eq!(world.manager.disconnect_returned(second), []);
    let effects = world.manager.disconnect_returned(first);
    assert_eq!(
        effects.last(),
        Some(&Effect::FilterGone {
            filter: world.filter
        })
    );
}

#[test]
fn a_silent_disconnect_does_not_let_the_filter_go_early() {
    let driver_close = DriverClose::Silent;
    let mut world = World::with(
        Decisions {
            driver_close,
            ..Decisions::default()
        },
        |_| {},
    );
    let (first, second) = (world.connect(), world.connect());
    world.manager.close_client_port(first);
    world.manager.close_server_port(world.port);
    let effects = world.manager.unregister_filter(world.filter).unwrap();
    assert_eq!(effects, [world.disconnect(second)]);
    assert_eq!(
        world.manager.unregister_waits_for(world.filter).disconnects,
        1
    );
}

#[test]
fn misuse_is_answered() {
    let mut world = World::new();
    let wrong = Status::INVALID_PARAMETER;
    assert_eq!(
        world.manager.dereference(world.filter),
        Err(wrong),
        "no reference to give back"
    );
    assert_eq!(
        world.manager.finish_unload(world.filter, Status::SUCCESS),
        Err(wrong)
    );
    world.manager.unregister_filter(world.filter).unwrap();
    assert_eq!(
        world.manager.unregister_filter(world.filter),
        Err(wrong),
        "twice"
    );
    assert_eq!(world.manager.start_filtering(FilterId(999)), Err(wrong));
    assert_eq!(world.manager.driver_unload(FilterId(999)), None);
}
