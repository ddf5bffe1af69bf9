// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations applied to the machine, and the laws checked after each.

use std::collections::BTreeSet;

use fltmgr::*;

use crate::model::{Asked, Model};
use crate::operation::Op;
use crate::world::*;

/// A machine and its model, side by side.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) model: Model,
}

impl Run {
    /// One operation, then the laws.
    pub(crate) fn step(&mut self, op: Op) {
        let effects = self.apply(op);
        self.model.absorb(&effects);
        self.model.replying = None;
        self.check();
    }

    fn apply(&mut self, op: Op) -> Vec<Effect> {
        match op {
            Op::Begin { .. } | Op::Finish { .. } | Op::Duplicate { .. } => self.connect(op),
            Op::CloseHandle { .. } | Op::CloseClientPort { .. } | Op::DisconnectReturned { .. } => {
                self.disconnect(op)
            }
            Op::Get { .. } | Op::Cancel { .. } | Op::Reply { .. } => self.read(op),
            Op::Send { .. } | Op::Terminate { .. } | Op::Expire { .. } => self.write(op),
            Op::MessageBegin { .. } | Op::MessageEnd { .. } => self.call(op),
            Op::Reference | Op::Dereference | Op::CloseServerPort | Op::Unregister => {
                self.filter(op)
            }
        }
    }

    fn connect(&mut self, op: Op) -> Vec<Effect> {
        let (manager, model) = (&mut self.world.manager, &mut self.model);
        match op {
            Op::Begin { refuse_access } => {
                let begun = manager.connect_begin(&units(NAME), 0, |_| !refuse_access);
                if let Ok(begun) = begun {
                    assert!(!refuse_access && !model.unregistered);
                    model.connecting.push(begun.connection);
                }
                Vec::new()
            }
            Op::Finish { pick, accept } => {
                let Some(id) = Model::pick(&model.connecting, pick) else {
                    return Vec::new();
                };
                model.connecting.retain(|connecting| *connecting != id);
                let answer = if accept {
                    Ok(id.0)
                } else {
                    Err(Status::ACCESS_DENIED)
                };
                let (result, effects) = manager.connect_finish(id, answer);
                assert_eq!(result.is_ok(), accept && !model.unregistered);
                if accept {
                    model.accepted.insert(id);
                    model.connections.push(id);
                }
                if result.is_ok() {
                    model.handles.insert(id, 1);
                }
                effects
            }
            Op::Duplicate { pick } => {
                let Some(id) = Model::pick(&model.connections, pick) else {
                    return Vec::new();
                };
                let handles = model.handles.entry(id).or_insert(0);
                assert_eq!(manager.duplicate_handle(id).is_ok(), *handles > 0);
                *handles += u32::from(*handles > 0);
                Vec::new()
            }
            _ => unreachable!("not a connect"),
        }
    }

    fn disconnect(&mut self, op: Op) -> Vec<Effect> {
        let (manager, model) = (&mut self.world.manager, &mut self.model);
        match op {
            Op::CloseHandle { pick } => {
                let Some(id) = Model::pick(&model.connections, pick) else {
                    return Vec::new();
                };
                let handles = model.handles.entry(id).or_insert(0);
                *handles = handles.saturating_sub(1);
                manager.close_handle(id)
            }
            Op::CloseClientPort { pick } => {
                let Some(id) = Model::pick(&model.connections, pick) else {
                    return Vec::new();
                };
                model.driver_closed.insert(id);
                manager.close_client_port(id)
            }
            Op::DisconnectReturned { pick } => {
                let Some(id) = Model::pick(&model.in_disconnect, pick) else {
                    return Vec::new();
                };
                model.in_disconnect.retain(|running| *running != id);
                manager.disconnect_returned(id)
            }
            _ => unreachable!("not a disconnect"),
        }
    }

    fn read(&mut self, op: Op) -> Vec<Effect> {
        let (manager, model) = (&mut self.world.manager, &mut self.model);
        match op {
            Op::Get { pick, capacity } => {
                let Some(id) = Model::pick(&model.connections, pick) else {
                    return Vec::new();
                };
                let (get, effects) = manager.get(id, capacity);
                assert_eq!(model.gets.insert(get, id), None, "a number used twice");
                effects
            }
            Op::Cancel { pick, all: true } => {
                let Some(id) = Model::pick(&model.connections, pick) else {
                    return Vec::new();
                };
                manager.cancel_all_gets(id)
            }
            Op::Cancel { pick, all: false } => {
                let gets: Vec<_> = model.gets.iter().map(|(get, id)| (*get, *id)).collect();
                let Some((get, id)) = Model::pick(&gets, pick) else {
                    return Vec::new();
                };
                let effects = manager.cancel_get(id, get);
                assert_eq!(effects, [got(id, get, GetOutcome::Cancelled)]);
                effects
            }
            Op::Reply {
                pick,
                length,
                forge,
            } => {
                let waiting = model
                    .sends
                    .values()
                    .filter_map(|asked| asked.message.map(|message| (asked.connection, message)));
                let waiting: Vec<_> = waiting.collect();
                let Some((id, message)) = Model::pick(&waiting, pick) else {
                    return Vec::new();
                };
                let message = MessageId(message.0 + forge / 3 * 1_000);
                let payload = vec![message.0 as u8; length];
                let reply = Reply {
                    status: Status::SUCCESS,
                    id: message,
                    payload: &payload,
                };
                let (result, effects) = manager.reply(id, &reply.encode());
                assert_eq!(effects.len(), usize::from(result.is_ok()));
                model.replying = result.is_ok().then_some((id, message, payload));
                effects
            }
            _ => unreachable!("not a read"),
        }
    }

    fn write(&mut self, op: Op) -> Vec<Effect> {
        let (manager, model) = (&mut self.world.manager, &mut self.model);
        match op {
            Op::Send {
                pick,
                length,
                reply,
                wait,
            } => {
                let Some(connection) = Model::pick(&model.connections, pick) else {
                    return Vec::new();
                };
                model.marks = model.marks.wrapping_add(1);
                let mark = model.marks;
                let deadline = wait.map(|wait| Time(model.now + wait));
                let (send, effects) = manager.send(connection, vec![mark; length], reply, deadline);
                let asked = Asked {
                    connection,
                    reply,
                    length,
                    mark,
                    message: None,
                };
                assert!(
                    model.sends.insert(send, asked).is_none(),
                    "a number used twice"
                );
                effects
            }
            Op::Terminate { pick } => {
                let sends: Vec<_> = model.sends.keys().copied().collect();
                let Some(send) = Model::pick(&sends, pick) else {
                    return Vec::new();
                };
                let effects = manager.terminate_sender(send);
                assert_eq!(effects, [sent(send, Status::THREAD_IS_TERMINATING)]);
                effects
            }
            Op::Expire { after } => {
                model.now += after;
                manager.expire(Time(model.now))
            }
            _ => unreachable!("not a write"),
        }
    }

    fn call(&mut self, op: Op) -> Vec<Effect> {
        let (manager, model) = (&mut self.world.manager, &mut self.model);
        match op {
            Op::MessageBegin { pick } => {
                let Some(id) = Model::pick(&model.connections, pick) else {
                    return Vec::new();
                };
                if let Ok((call, cookie)) = manager.message_begin(id) {
                    assert_eq!(cookie, id.0);
                    assert!(
                        !model.disconnected.contains(&id),
                        "a call after DisconnectNotify"
                    );
                    model.calls.push(call);
                }
                Vec::new()
            }
            Op::MessageEnd { pick } => {
                let Some(call) = Model::pick(&model.calls, pick) else {
                    return Vec::new();
                };
                model.calls.retain(|running| *running != call);
                manager.message_end(call)
            }
            _ => unreachable!("not a call"),
        }
    }

    fn filter(&mut self, op: Op) -> Vec<Effect> {
        let (manager, model) = (&mut self.world.manager, &mut self.model);
        let filter = self.world.filter;
        match op {
            Op::Reference => {
                let referenced = manager.reference(filter).is_ok();
                assert_eq!(referenced, !model.unregistered);
                model.references += u32::from(referenced);
                Vec::new()
            }
            Op::Dereference if model.references > 0 => {
                model.references -= 1;
                manager.dereference(filter).unwrap()
            }
            Op::Dereference => {
                assert!(manager.dereference(filter).is_err());
                Vec::new()
            }
            Op::CloseServerPort => manager.close_server_port(self.world.port),
            Op::Unregister => {
                let effects = manager.unregister_filter(filter);
                assert_eq!(effects.is_ok(), !model.unregistered);
                model.unregistered = true;
                effects.unwrap_or_default()
            }
            _ => unreachable!("not a filter operation"),
        }
    }

    /// The laws that must hold at rest.
    fn check(&self) {
        let (snapshot, model) = (self.world.manager.snapshot(), &self.model);
        let ignored = self.world.manager.decisions().reply_timeout == ReplyTimeout::Ignored;
        for send in &snapshot.sends {
            let overdue = send.deadline.is_some_and(|deadline| deadline.0 < model.now);
            let exempt = ignored && matches!(send.phase, Phase::Reply(_));
            assert!(!overdue || exempt, "overdue: {send:?}");
            let lost = snapshot.gets.iter().find(|get| {
                send.phase == Phase::Reader
                    && get.connection == send.connection
                    && get.capacity >= send.needed
            });
            assert_eq!(
                lost, None,
                "a sender and a fitting get wait side by side: {send:?}"
            );
        }
        let pending: Vec<_> = snapshot.sends.iter().map(|send| send.send).collect();
        assert!(
            pending.iter().eq(model.sends.keys()),
            "every send is pending or completed"
        );
        let pended: BTreeSet<_> = snapshot.gets.iter().map(|get| get.get).collect();
        assert!(
            pended.iter().eq(model.gets.keys()),
            "every get is pended or completed"
        );
        for port in &snapshot.ports {
            let held = snapshot
                .connections
                .iter()
                .filter(|c| c.port == port.port && c.slot_held);
            assert_eq!(port.slots as usize, held.count(), "slots balance");
            assert!(port.slots <= port.max_connections);
        }
    }

    /// Ends everything the way an orderly driver and an orderly user would.
    pub(crate) fn finish(mut self) {
        while let Some(id) = self.model.connecting.first().copied() {
            let effects = self.apply(Op::Finish {
                pick: 0,
                accept: id.0 % 2 == 0,
            });
            self.absorb(effects);
        }
        for id in self.model.connections.clone() {
            while self
                .model
                .handles
                .get(&id)
                .is_some_and(|handles| *handles > 0)
            {
                *self.model.handles.entry(id).or_insert(1) -= 1;
                let effects = self.world.manager.close_handle(id);
                self.absorb(effects);
            }
        }
        while !self.model.calls.is_empty() {
            let effects = self.apply(Op::MessageEnd { pick: 0 });
            self.absorb(effects);
        }
        self.exactly_one_disconnect();
        for op in [Op::CloseServerPort, Op::Unregister] {
            let effects = self.apply_once(op);
            self.absorb(effects);
        }
        while !self.model.in_disconnect.is_empty() {
            let effects = self.apply(Op::DisconnectReturned { pick: 0 });
            self.absorb(effects);
        }
        while self.model.references > 0 {
            let effects = self.apply(Op::Dereference);
            self.absorb(effects);
        }
        assert!(self.model.filter_gone, "nothing holds the filter any more");
        assert_eq!(
            self.world.manager.snapshot(),
            Snapshot::default(),
            "nothing is left"
        );
        assert!(
            self.model.sends.is_empty() && self.model.gets.is_empty(),
            "nobody waits"
        );
    }

    fn apply_once(&mut self, op: Op) -> Vec<Effect> {
        match op {
            Op::Unregister if self.model.unregistered => Vec::new(),
            op => self.apply(op),
        }
    }

    /// After every user closed, each accepted connection had its DisconnectNotify.
    fn exactly_one_disconnect(&self) {
        let silent = self.world.manager.decisions().driver_close == DriverClose::Silent;
        for id in &self.model.accepted {
            let excused = silent && self.model.driver_closed.contains(id);
            let told = self.model.disconnected.contains(id);
            assert!(told || excused, "{id:?} ended and the driver was not told");
        }
    }

    fn absorb(&mut self, effects: Vec<Effect>) {
        self.model.absorb(&effects);
        self.check();
    }
}
