// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations and random answers to the open questions.

use fltmgr::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Begin {
        refuse_access: bool,
    },
    Finish {
        pick: usize,
        accept: bool,
    },
    Duplicate {
        pick: usize,
    },
    CloseHandle {
        pick: usize,
    },
    CloseClientPort {
        pick: usize,
    },
    Get {
        pick: usize,
        capacity: usize,
    },
    Cancel {
        pick: usize,
        all: bool,
    },
    Send {
        pick: usize,
        length: usize,
        reply: Option<usize>,
        wait: Option<u64>,
    },
    Reply {
        pick: usize,
        length: usize,
        forge: u64,
    },
    MessageBegin {
        pick: usize,
    },
    MessageEnd {
        pick: usize,
    },
    DisconnectReturned {
        pick: usize,
    },
    Terminate {
        pick: usize,
    },
    Expire {
        after: u64,
    },
    Reference,
    Dereference,
    CloseServerPort,
    Unregister,
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let pick = 0..8_usize;
    let wait = proptest::option::weighted(0.7, 0..40_u64);
    prop_oneof![
        3 => any::<bool>().prop_map(|refuse_access| Op::Begin { refuse_access }),
        4 => (pick.clone(), proptest::bool::weighted(0.8))
            .prop_map(|(pick, accept)| Op::Finish { pick, accept }),
        1 => pick.clone().prop_map(|pick| Op::Duplicate { pick }),
        2 => pick.clone().prop_map(|pick| Op::CloseHandle { pick }),
        1 => pick.clone().prop_map(|pick| Op::CloseClientPort { pick }),
        8 => (pick.clone(), 14..24_usize).prop_map(|(pick, capacity)| Op::Get { pick, capacity }),
        2 => (pick.clone(), proptest::bool::weighted(0.2))
            .prop_map(|(pick, all)| Op::Cancel { pick, all }),
        8 => (pick.clone(), 0..8_usize, proptest::option::of(0..4_usize), wait)
            .prop_map(|(pick, length, reply, wait)| Op::Send { pick, length, reply, wait }),
        6 => (pick.clone(), 0..6_usize, 0..4_u64)
            .prop_map(|(pick, length, forge)| Op::Reply { pick, length, forge }),
        2 => pick.clone().prop_map(|pick| Op::MessageBegin { pick }),
        2 => pick.clone().prop_map(|pick| Op::MessageEnd { pick }),
        3 => pick.clone().prop_map(|pick| Op::DisconnectReturned { pick }),
        1 => pick.prop_map(|pick| Op::Terminate { pick }),
        2 => (0..20_u64).prop_map(|after| Op::Expire { after }),
        1 => Just(Op::Reference),
        1 => Just(Op::Dereference),
        1 => proptest::bool::weighted(0.1).prop_map(|rare| match rare {
            true => Op::CloseServerPort,
            false => Op::Reference,
        }),
        1 => proptest::bool::weighted(0.1).prop_map(|rare| match rare {
            true => Op::Unregister,
            false => Op::Dereference,
        }),
    ]
}

pub(crate) fn decisions() -> impl Strategy<Value = Decisions> {
    any::<[bool; 7]>().prop_map(|[reply, undersized, driver, order, slot, status, empty]| {
        let mut decisions = Decisions::default();
        if reply {
            decisions.reply_timeout = ReplyTimeout::Ignored;
        }
        if undersized {
            decisions.undersized_get = UndersizedGet::Fail;
        }
        if driver {
            decisions.driver_close = DriverClose::Silent;
        }
        if order {
            decisions.disconnect_order = DisconnectOrder::Overlapping;
        }
        if slot {
            decisions.slot_release = SlotRelease::ClientPortClosed;
        }
        if status {
            decisions.reply_status = ReplyStatus::Returned;
        }
        if empty {
            decisions.empty_message = EmptyMessage::Refused;
        }
        decisions
    })
}
