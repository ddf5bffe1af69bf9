// SPDX-License-Identifier: MIT OR Apache-2.0
//! Communication server ports.

use alloc::vec::Vec;

use crate::decisions::NoDescriptor;
use crate::effect::Effect;
use crate::id::{FilterId, PortId};
use crate::manager::FilterManager;
use crate::name::PortName;
use crate::status::Status;

/// What FltCreateCommunicationPort is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortAttributes {
    /// `ObjectName`: UTF-16, absolute, without a terminator.
    pub name: Vec<u16>,
    /// `Attributes` contain OBJ_KERNEL_HANDLE.
    pub kernel_handle: bool,
    /// `Attributes` contain OBJ_CASE_INSENSITIVE.
    pub case_insensitive: bool,
    /// `MaxConnections`.
    pub max_connections: i32,
    /// ConnectNotify is not NULL.
    pub has_connect_notify: bool,
    /// DisconnectNotify is not NULL.
    pub has_disconnect_notify: bool,
    /// MessageNotify is not NULL.
    pub has_message_notify: bool,
    /// `SecurityDescriptor`, as a number by which the host finds its copy; `None` for NULL.
    pub security: Option<u64>,
    /// `ServerPortCookie`.
    pub cookie: u64,
}

impl PortAttributes {
    /// Attributes that succeed: a kernel handle, all callbacks, one connection. For tests and
    /// examples.
    pub fn example(name: &[u16]) -> PortAttributes {
        PortAttributes {
            name: name.to_vec(),
            kernel_handle: true,
            case_insensitive: false,
            max_connections: 1,
            has_connect_notify: true,
            has_disconnect_notify: true,
            has_message_notify: true,
            security: Some(0),
            cookie: 0,
        }
    }
}

/// What a connecting user is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// The descriptor of [`PortAttributes::security`].
    Descriptor(u64),
    /// The port has none: the host's default descriptor.
    HostDefault,
}

#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) filter: FilterId,
    pub(crate) name: PortName,
    pub(crate) cookie: u64,
    pub(crate) security: Option<u64>,
    pub(crate) has_message_notify: bool,
    pub(crate) max_connections: u32,
    /// Connections that count against the limit.
    pub(crate) slots: u32,
    /// FltCloseCommunicationPort has not been called.
    pub(crate) open: bool,
}

impl FilterManager {
    /// FltCreateCommunicationPort. The port listens as soon as this returns.
    ///
    /// # Errors
    /// STATUS_FLT_DELETING_OBJECT when the filter is being torn down; STATUS_INVALID_PARAMETER for
    /// a missing kernel handle flag or callback, or a limit below 1; STATUS_OBJECT_NAME_COLLISION;
    /// or what [`PortName::new`] says of the name.
    pub fn create_port(
        &mut self,
        filter: FilterId,
        with: PortAttributes,
    ) -> Result<PortId, Status> {
        self.live_filter(filter)?;
        let callbacks = with.has_connect_notify && with.has_disconnect_notify;
        let max_connections = u32::try_from(with.max_connections).unwrap_or(0);
        if !with.kernel_handle || !callbacks || max_connections == 0 {
            return Err(Status::INVALID_PARAMETER);
        }
        let name = PortName::new(with.name, with.case_insensitive)?;
        if self
            .ports
            .values()
            .any(|port| port.open && port.name.collides(&name))
        {
            return Err(Status::OBJECT_NAME_COLLISION);
        }
        let id = PortId(self.next_id());
        let port = Port {
            filter,
            name,
            cookie: with.cookie,
            security: with.security,
            has_message_notify: with.has_message_notify,
            max_connections,
            slots: 0,
            open: true,
        };
        self.ports.insert(id, port);
        Ok(id)
    }

    /// FltCloseCommunicationPort: no new connections. Existing ones stay, and no DisconnectNotify
    /// comes from it.
    pub fn close_server_port(&mut self, id: PortId) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(port) = self.ports.get_mut(&id) else {
            return effects;
        };
        port.open = false;
        let filter = port.filter;
        self.settle_port(id, &mut effects);
        self.settle_filter(filter, &mut effects);
        effects
    }

    /// Whether a server port is open.
    pub fn is_listening(&self, id: PortId) -> bool {
        self.ports.get(&id).is_some_and(|port| port.open)
    }

    /// The name of a port whose callbacks may still run.
    pub fn port_name(&self, id: PortId) -> Option<&[u16]> {
        self.ports.get(&id).map(|port| port.name.units())
    }

    /// Finds the listening port that a connect to `name` means.
    pub(crate) fn listening(&self, name: &[u16]) -> Option<PortId> {
        let mut ports = self.ports.iter().filter(|(_, port)| port.open);
        ports
            .find(|(_, port)| port.name.matches(name))
            .map(|(id, _)| *id)
    }

    /// Whether the port's descriptor lets the caller in.
    pub(crate) fn admits(&self, port: &Port, access: impl FnOnce(Security) -> bool) -> bool {
        match (port.security, self.decisions.no_descriptor) {
            (Some(descriptor), _) => access(Security::Descriptor(descriptor)),
            (None, NoDescriptor::HostDefault) => access(Security::HostDefault),
            (None, NoDescriptor::Everyone) => true,
        }
    }
}
