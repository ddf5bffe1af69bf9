// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the documentation leaves open, decided in one place.
//!
//! Every field of [`Decisions`] is one open question about Windows. Where more than one answer is
//! plausible the field is a switch, so that a driver can be tested under each of them: a driver
//! that passes under one answer only relies on something nobody promised.
//! `docs/filter-manager-facts.md` has the same list with the evidence. The numbers are those of
//! that document.

use crate::id::Time;
use crate::status::Status;

/// Question 1: FltSendMessage with a pointer to the timeout 0.
///
/// The function's page says "waits indefinitely" (it probably means a NULL pointer); everywhere
/// else in NT a zero timeout means *do not wait*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroTimeout {
    /// Deliver to a reader that is there already, else STATUS_TIMEOUT at once. The default.
    NoWait,
    /// As the page's wording has it.
    Forever,
}

/// Question 2: does the timeout still run after delivery, while the reply is awaited?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTimeout {
    /// One timeout covers both phases, as documented. The default.
    Honoured,
    /// As one report claims: after delivery only a reply or a disconnect ends the wait.
    Ignored,
}

/// Question 3: what becomes of the `Status` in a reply's header?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStatus {
    /// FltSendMessage returns success whatever the field says. The default.
    Ignored,
    /// FltSendMessage returns the field.
    Returned,
}

/// Question 5: a get with too little room for the message, when other gets are pended too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndersizedGet {
    /// The oldest get that fits takes the message, smaller ones stay pended; when none fits, the
    /// oldest fails. The default, after the "minimum waiter length" field of the queue.
    Skip,
    /// Gets are tried in order, and each one that is too small fails.
    Fail,
}

/// Question 6: DisconnectNotify when the driver closed its end first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverClose {
    /// It still runs, once, when the user-mode handle count reaches zero or the filter
    /// unregisters: the wording of the callback's page. The default.
    NotifyAtUserClose,
    /// It does not run: the driver knows already.
    Silent,
}

/// Question 7: message callbacks in flight when the last handle is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectOrder {
    /// DisconnectNotify runs after they returned. The default, after the connection's rundown
    /// field.
    AfterMessageCallbacks,
    /// DisconnectNotify may overlap with them.
    Overlapping,
}

/// Question 8: when is a connection's slot of `MaxConnections` free again?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotRelease {
    /// When DisconnectNotify returned. The default, after a comment in the scanner sample.
    DisconnectReturned,
    /// When, in addition, the driver called FltCloseClientPort.
    ClientPortClosed,
}

/// Question 11: a port without a security descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDescriptor {
    /// The host's default descriptor decides (SYSTEM and administrators). The default.
    HostDefault,
    /// Everybody may connect.
    Everyone,
}

/// Question 12: output bytes of a FilterSendMessage whose callback returned a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningBytes {
    /// None: the output is meaningful on success only. The default.
    None,
    /// The callback's count, as the I/O manager does for buffered requests.
    Returned,
}

/// Question 13: FltSendMessage with a message of no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyMessage {
    /// Delivered as a bare header. The default.
    Accepted,
    /// STATUS_INVALID_PARAMETER.
    Refused,
}

/// Question 14: which registry root holds the instances of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceRoot {
    /// Windows 11 24H2 and later: `Parameters\Instances`, then `Instances`. The default.
    ParametersFirst,
    /// The same two, the old one first.
    LegacyFirst,
    /// Up to Windows 11 23H2: `Instances` only.
    LegacyOnly,
}

impl InstanceRoot {
    /// The roots to try, in order, relative to the service key.
    pub const fn paths(self) -> &'static [&'static str] {
        match self {
            InstanceRoot::ParametersFirst => &["Parameters\\Instances", "Instances"],
            InstanceRoot::LegacyFirst => &["Instances", "Parameters\\Instances"],
            InstanceRoot::LegacyOnly => &["Instances"],
        }
    }
}

/// Question 17: which values of `FLT_REGISTRATION.Version` register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionCheck {
    /// Any minor version of major version 2, as the header says. The default.
    Major,
    /// FLT_REGISTRATION_VERSION of Windows 8 and later only, as the function's page says.
    Exact,
}

/// Question 18: a second FltRegisterFilter with one driver object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondRegistration {
    /// STATUS_INVALID_PARAMETER. The default.
    Refused,
    /// A second filter.
    Accepted,
}

/// The answers to the open questions; [`Decisions::default`] has the ones held most plausible.
///
/// Questions 9 (concurrent sends on one port run side by side) and 4 (`*ReplyLength` returns the
/// payload bytes copied) are decided without a switch; 10 and 15 concern other parts of Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decisions {
    /// Question 1.
    pub zero_timeout: ZeroTimeout,
    /// Question 2.
    pub reply_timeout: ReplyTimeout,
    /// Question 3.
    pub reply_status: ReplyStatus,
    /// Question 5.
    pub undersized_get: UndersizedGet,
    /// Question 6.
    pub driver_close: DriverClose,
    /// Question 7.
    pub disconnect_order: DisconnectOrder,
    /// Question 8.
    pub slot_release: SlotRelease,
    /// Question 11.
    pub no_descriptor: NoDescriptor,
    /// Question 12.
    pub warning_bytes: WarningBytes,
    /// Question 13.
    pub empty_message: EmptyMessage,
    /// Question 14.
    pub instance_root: InstanceRoot,
    /// Question 16: what FilterSendMessage answers on a port without a message callback; only
    /// "an error" is documented. Default STATUS_INVALID_DEVICE_REQUEST.
    pub no_message_notify: Status,
    /// Question 17.
    pub version_check: VersionCheck,
    /// Question 18.
    pub second_registration: SecondRegistration,
    /// Question 19: a reply shorter than its header; only "rejected" is known. Default
    /// STATUS_INVALID_PARAMETER.
    pub short_reply: Status,
    /// Question 20: FilterUnload of a filter without an unload callback; only "fails" is
    /// documented. Default STATUS_FLT_DO_NOT_DETACH.
    pub no_unload_callback: Status,
    /// Question 21: a service stop of a driver whose DriverUnload is NULL. The I/O manager's
    /// answer; default STATUS_INVALID_DEVICE_REQUEST.
    pub no_service_stop: Status,
    /// Question 22: a connect while the filter unregisters and its server port is still open.
    /// Default STATUS_FLT_DELETING_OBJECT.
    pub connect_while_deleting: Status,
}

impl Default for Decisions {
    fn default() -> Decisions {
        Decisions {
            zero_timeout: ZeroTimeout::NoWait,
            reply_timeout: ReplyTimeout::Honoured,
            reply_status: ReplyStatus::Ignored,
            undersized_get: UndersizedGet::Skip,
            driver_close: DriverClose::NotifyAtUserClose,
            disconnect_order: DisconnectOrder::AfterMessageCallbacks,
            slot_release: SlotRelease::DisconnectReturned,
            no_descriptor: NoDescriptor::HostDefault,
            warning_bytes: WarningBytes::None,
            empty_message: EmptyMessage::Accepted,
            instance_root: InstanceRoot::ParametersFirst,
            no_message_notify: Status::INVALID_DEVICE_REQUEST,
            version_check: VersionCheck::Major,
            second_registration: SecondRegistration::Refused,
            short_reply: Status::INVALID_PARAMETER,
            no_unload_callback: Status::FLT_DO_NOT_DETACH,
            no_service_stop: Status::INVALID_DEVICE_REQUEST,
            connect_while_deleting: Status::FLT_DELETING_OBJECT,
        }
    }
}

impl Decisions {
    /// The deadline that FltSendMessage's `Timeout` stands for; `None` is for ever.
    ///
    /// `timeout` is the value behind the pointer (`None` for NULL): negative is relative, positive
    /// is a system time since 1601. `now` and `system_time` are the same moment on the monotonic
    /// and on the system clock, all in 100 ns. An absolute time is fixed here: a host that lets its
    /// system clock jump converts again.
    pub fn deadline(&self, timeout: Option<i64>, now: Time, system_time: u64) -> Option<Time> {
        let timeout = timeout?;
        let wait = match timeout {
            0 if self.zero_timeout == ZeroTimeout::Forever => return None,
            0 => 0,
            relative if relative < 0 => relative.unsigned_abs(),
            absolute => absolute.unsigned_abs().saturating_sub(system_time),
        };
        Some(Time(now.0.saturating_add(wait)))
    }

    /// `lpBytesReturned` of a FilterSendMessage whose callback returned `status` and `count`.
    pub fn bytes_returned(&self, status: Status, count: u32) -> u32 {
        let warned = status.is_warning() && self.warning_bytes == WarningBytes::Returned;
        if status.is_success() || warned {
            count
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000);
    const SYSTEM: u64 = 50_000;

    #[test]
    fn a_null_timeout_waits_for_ever() {
        assert_eq!(Decisions::default().deadline(None, NOW, SYSTEM), None);
    }

    #[test]
    fn a_negative_timeout_is_relative() {
        assert_eq!(
            Decisions::default().deadline(Some(-30), NOW, SYSTEM),
            Some(Time(1_030))
        );
        let longest = Decisions::default().deadline(Some(i64::MIN), Time(u64::MAX), SYSTEM);
        assert_eq!(longest, Some(Time(u64::MAX)));
    }

    #[test]
    fn a_positive_timeout_is_an_absolute_system_time() {
        let decisions = Decisions::default();
        assert_eq!(
            decisions.deadline(Some(50_100), NOW, SYSTEM),
            Some(Time(1_100))
        );
        assert_eq!(
            decisions.deadline(Some(1), NOW, SYSTEM),
            Some(NOW),
            "long past"
        );
    }

    #[test]
    fn a_zero_timeout_follows_the_decision() {
        let mut decisions = Decisions::default();
        assert_eq!(decisions.deadline(Some(0), NOW, SYSTEM), Some(NOW));
        decisions.zero_timeout = ZeroTimeout::Forever;
        assert_eq!(decisions.deadline(Some(0), NOW, SYSTEM), None);
    }

    #[test]
    fn output_bytes_of_a_message_callback() {
        let mut decisions = Decisions::default();
        assert_eq!(decisions.bytes_returned(Status::SUCCESS, 7), 7);
        assert_eq!(decisions.bytes_returned(Status::ACCESS_DENIED, 7), 0);
        assert_eq!(decisions.bytes_returned(Status::BUFFER_OVERFLOW, 7), 0);
        decisions.warning_bytes = WarningBytes::Returned;
        assert_eq!(decisions.bytes_returned(Status::BUFFER_OVERFLOW, 7), 7);
        assert_eq!(decisions.bytes_returned(Status::ACCESS_DENIED, 7), 0);
    }

    #[test]
    fn instance_roots_of_both_layouts() {
        assert_eq!(InstanceRoot::LegacyOnly.paths(), ["Instances"]);
        assert_eq!(
            InstanceRoot::ParametersFirst.paths()[0],
            "Parameters\\Instances"
        );
        assert_eq!(InstanceRoot::LegacyFirst.paths()[0], "Instances");
    }
}
