// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a decider answered, as far as the client driver that asked knows it: the service may have been
//! built with an older or a newer version of the definition.
//!
//! A reply has exactly the default's length, or is of another version. That can be told only where the
//! reply has no variable data, because its length is then that of its fields. Of a newer one the fields
//! that the provider knows are taken. What an older one does not have is absent if it may be, and as in
//! the default if readers have a value of their own for it; without either it is no reply.

use crate::provider::Provider;
use fltport_abi::schema::{self, FieldKind, FieldRow, Owner, Role, SchemaVisitor, field_flags};

/// Bytes that the reply of a newer version may be longer.
pub(crate) const GROWTH: usize = 1024;

/// Goes through the fields of a reply's type, with a reply of `given` bytes.
struct Fields<'r> {
    request: u16,
    within: bool,
    given: usize,
    /// Bytes of all fields.
    fixed: usize,
    bad: bool,
    /// Where what may be absent and was not given is made absent.
    blank: Option<&'r mut [u8]>,
}

impl SchemaVisitor for Fields<'_> {
    fn provider(&mut self, _name: &str, _hash: u64) {}

    fn message(&mut self, number: u16, role: Role, _name: &str) {
        self.within = number == self.request && role == Role::Request;
    }

    fn field(&mut self, field: &FieldRow<'_>) {
        if !self.within || field.owner != Owner::Reply {
            return;
        }
        let Some(kind) = FieldKind::from_wire(field.kind).filter(|kind| !kind.is_variable()) else {
            self.bad = true;
            return;
        };
        let optional = field.flags & field_flags::OPTIONAL != 0;
        let (at, size) = (usize::from(field.offset), kind.place(optional));
        self.fixed = self.fixed.max(at + size);
        if at + size <= self.given {
            return;
        }
        let may_miss = optional || field.flags & field_flags::DEFAULTED != 0;
        // The first field is in every version.
        self.bad |= at < self.given || at == 0 || !may_miss;
        if let Some(blank) = self.blank.as_deref_mut().filter(|_| optional) {
            let place = blank.iter_mut().skip(at).take(size);
            place.for_each(|byte| *byte = 0);
        }
    }
}

/// IRQL: <= DISPATCH_LEVEL. Puts what was answered to this request into `reply`, which holds the
/// default. False, and the default stands, if it is no reply.
pub(crate) fn take(provider: &Provider, request: u16, given: &[u8], reply: &mut [u8]) -> bool {
    if given.len() != reply.len() && !adapt(provider, request, given.len(), reply) {
        return false;
    }
    for (to, from) in reply.iter_mut().zip(given) {
        *to = *from;
    }
    true
}

/// Makes what a reply of `given` bytes, of another version, does not have absent in `reply`. False,
/// and nothing is changed, if it is of no version.
#[inline(never)]
fn adapt(provider: &Provider, request: u16, given: usize, reply: &mut [u8]) -> bool {
    let mut fields = Fields {
        request,
        within: false,
        given,
        fixed: 0,
        bad: false,
        blank: None,
    };
    let sound = schema::read(&provider.schema, &mut fields).is_ok() && !fields.bad;
    if !sound || fields.fixed != reply.len() || given > reply.len() + GROWTH {
        return false;
    }
    fields.blank = Some(reply);
    schema::read(&provider.schema, &mut fields).is_ok()
}
