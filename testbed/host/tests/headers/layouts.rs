// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layouts of the structs, as Rust has them.

use std::collections::BTreeMap;
use std::mem::offset_of;

use fltport_nt::bindings::*;

/// A struct as Rust lays it out.
pub(crate) struct Layout {
    pub(crate) size: i64,
    /// The offset and the size of each field.
    pub(crate) fields: BTreeMap<&'static str, [i64; 2]>,
}

fn size_of_field<T, F>(_: impl Fn(&T) -> *const F) -> i64 {
    size_of::<F>() as i64
}

macro_rules! layouts {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        /// All structs of the headers, by name.
        pub(crate) fn all() -> BTreeMap<&'static str, Layout> {
            BTreeMap::from([$((
                stringify!($name),
                Layout {
                    size: size_of::<$name>() as i64,
                    fields: BTreeMap::from([$((
                        stringify!($field),
                        [
                            offset_of!($name, $field) as i64,
                            size_of_field(|it: &$name| &raw const it.$field),
                        ],
                    )),*]),
                },
            )),*])
        }
    };
}

layouts! {
    ACL { AclRevision, Sbz1, AclSize, AceCount, Sbz2 }
    CLIENT_ID { UniqueProcess, UniqueThread }
    DISPATCHER_HEADER { SignalState, WaitListHead }
    DRIVER_EXTENSION { DriverObject, AddDevice, Count, ServiceKeyName }
    DRIVER_OBJECT {
        Type, Size, DeviceObject, Flags, DriverStart, DriverSize, DriverSection, DriverExtension,
        DriverName, HardwareDatabase, FastIoDispatch, DriverInit, DriverStartIo, DriverUnload,
        MajorFunction,
    }
    EX_RUNDOWN_REF {  }
    FAST_MUTEX { Count, Owner, Contention, Event, OldIrql }
    FILTER_MESSAGE_HEADER { ReplyLength, MessageId }
    FILTER_REPLY_HEADER { Status, MessageId }
    FLT_CONTEXT_REGISTRATION {
        ContextType, Flags, ContextCleanupCallback, Size, PoolTag, ContextAllocateCallback,
        ContextFreeCallback, Reserved1,
    }
    FLT_OPERATION_REGISTRATION { MajorFunction, Flags, PreOperation, PostOperation, Reserved1 }
    FLT_REGISTRATION {
        Size, Version, Flags, ContextRegistration, OperationRegistration, FilterUnloadCallback,
        InstanceSetupCallback, InstanceQueryTeardownCallback, InstanceTeardownStartCallback,
        InstanceTeardownCompleteCallback, GenerateFileNameCallback,
        NormalizeNameComponentCallback, NormalizeContextCleanupCallback,
        TransactionNotificationCallback, NormalizeNameComponentExCallback,
        SectionNotificationCallback,
    }
    FLT_RELATED_OBJECTS {
        Size, TransactionContext, Filter, Volume, Instance, FileObject, Transaction,
    }
    GENERIC_MAPPING { GenericRead, GenericWrite, GenericExecute, GenericAll }
    IMAGE_INFO { ImageBase, ImageSelector, ImageSize, ImageSectionNumber }
    IMAGE_INFO_EX { Size, ImageInfo, FileObject }
    IO_STATUS_BLOCK { Information }
    KDPC {
        DpcListEntry, ProcessorHistory, DeferredRoutine, DeferredContext, SystemArgument1,
        SystemArgument2, DpcData,
    }
    KEVENT { Header }
    KEY_BASIC_INFORMATION { LastWriteTime, TitleIndex, NameLength, Name }
    KEY_VALUE_FULL_INFORMATION { TitleIndex, Type, DataOffset, DataLength, NameLength, Name }
    KEY_VALUE_PARTIAL_INFORMATION { TitleIndex, Type, DataLength, Data }
    KMUTANT { Header, MutantListEntry, OwnerThread, ApcDisable }
    KTIMER { Header, DueTime, TimerListEntry, Dpc, Period }
    KWAIT_BLOCK { WaitListEntry, WaitType, BlockState, WaitKey, Object, SparePtr }
    LIST_ENTRY { Flink, Blink }
    LUID { LowPart, HighPart }
    LUID_AND_ATTRIBUTES { Luid, Attributes }
    MDL { Next, Size, MdlFlags, Process, MappedSystemVa, StartVa, ByteCount, ByteOffset }
    OBJECT_ATTRIBUTES {
        Length, RootDirectory, ObjectName, Attributes, SecurityDescriptor,
        SecurityQualityOfService,
    }
    OBJECT_HANDLE_INFORMATION { HandleAttributes, GrantedAccess }
    PROCESSOR_NUMBER { Group, Number, Reserved }
    PRIVILEGE_SET { PrivilegeCount, Control, Privilege }
    PS_CREATE_NOTIFY_INFO {
        Size, ParentProcessId, CreatingThreadId, FileObject, ImageFileName, CommandLine,
        CreationStatus,
    }
    REG_CREATE_KEY_INFORMATION_V1 {
        CompleteName, RootObject, ObjectType, Options, Class, SecurityDescriptor,
        SecurityQualityOfService, DesiredAccess, GrantedAccess, Disposition, ResultObject,
        CallContext, RootObjectContext, Transaction, Version, RemainingName, Wow64Flags,
        Attributes, CheckAccessMode,
    }
    REG_DELETE_KEY_INFORMATION { Object, CallContext, ObjectContext, Reserved }
    REG_DELETE_VALUE_KEY_INFORMATION { Object, ValueName, CallContext, ObjectContext, Reserved }
    REG_POST_OPERATION_INFORMATION {
        Object, Status, PreInformation, ReturnStatus, CallContext, ObjectContext, Reserved,
    }
    REG_RENAME_KEY_INFORMATION { Object, NewName, CallContext, ObjectContext, Reserved }
    REG_SET_VALUE_KEY_INFORMATION {
        Object, ValueName, TitleIndex, Type, Data, DataSize, CallContext, ObjectContext, Reserved,
    }
    SECURITY_DESCRIPTOR { Revision, Sbz1, Control, Owner, Group, Sacl, Dacl }
    SECURITY_SUBJECT_CONTEXT { ClientToken, ImpersonationLevel, PrimaryToken, ProcessAuditId }
    SID { Revision, SubAuthorityCount, IdentifierAuthority, SubAuthority }
    SID_AND_ATTRIBUTES { Sid, Attributes }
    SID_IDENTIFIER_AUTHORITY { Value }
    SINGLE_LIST_ENTRY { Next }
    TOKEN_ELEVATION { TokenIsElevated }
    TOKEN_USER { User }
    UNICODE_STRING { Length, MaximumLength, Buffer }
}
