/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fltport for client drivers in C and C++: tell services what happens, ask them, take their commands.
 *
 * This file is all that a driver includes, and it may be copied alone. Include it behind <ntddk.h> or
 * its like; without one it declares the few types that it needs itself. There are two ways to the
 * functions, with the same names:
 *
 * - The stub. Compile fltport.c into the driver. It finds the common driver, fltport.sys, through a
 *   callback object, so the driver may be loaded before fltport.sys and before the Filter Manager;
 *   notifications are kept meanwhile, and requests get their defaults. The driver imports nothing.
 * - The import. Define FLTPORT_IMPORT and link an import library: fltport.lib, or what your tools make of
 *   fltport.def. The driver cannot be loaded without fltport.sys then, and has to be unloaded before it.
 *
 * For 64-bit targets. All text is UTF-16, all lengths are in bytes, all numbers little-endian. Memory
 * that is passed in stays the caller's, and is copied before the call returns, unless it says otherwise.
 *
 * Versions. Every struct begins with its size; who reads one takes what it knows of it and holds the
 * rest for 0. So drivers and common drivers of neighbouring revisions work with each other; what an
 * older fltport.sys does not have is said at each function.
 */
#ifndef FLTPORT_H
#define FLTPORT_H

#include <stddef.h>

#if !defined(_NTDEF_) && !defined(NT_HOST_NTDEF_H)
#if defined(_WIN32)
typedef long LONG;
typedef unsigned long ULONG, *PULONG;
typedef long NTSTATUS;
#else
typedef int LONG;
typedef unsigned int ULONG, *PULONG;
typedef int NTSTATUS;
#endif
typedef void *PVOID;
typedef unsigned char UCHAR, *PUCHAR, BOOLEAN;
typedef unsigned short USHORT;
typedef long long LONGLONG;
typedef unsigned long long ULONGLONG;
#endif
#ifndef STATUS_SUCCESS
#define STATUS_SUCCESS ((NTSTATUS)0x00000000L)
#endif
#ifndef STATUS_INVALID_PARAMETER
#define STATUS_INVALID_PARAMETER ((NTSTATUS)0xC000000DL)
#endif
#ifndef STATUS_BUFFER_TOO_SMALL
#define STATUS_BUFFER_TOO_SMALL ((NTSTATUS)0xC0000023L)
#endif

#if defined(__cplusplus) || defined(_MSC_VER)
#define FLTPORT_INLINE static __inline
#else
#define FLTPORT_INLINE static __inline__ __attribute__((unused))
#endif
#if defined(FLTPORT_IMPORT) && defined(_WIN32)
#define FLTPORT_API __declspec(dllimport)
#else
#define FLTPORT_API
#endif

/* One program has all drivers of the hosted kernel; what fltport.sys exports has a prefix there. */
#if defined(FLTPORT_IMPORT) && !defined(_WIN32)
#define FltPortRegister fltport_sys_FltPortRegister
#define FltPortUnregister fltport_sys_FltPortUnregister
#define FltPortNotify fltport_sys_FltPortNotify
#define FltPortNotifyEx fltport_sys_FltPortNotifyEx
#define FltPortNotifyBooked fltport_sys_FltPortNotifyBooked
#define FltPortLost fltport_sys_FltPortLost
#define FltPortReserve fltport_sys_FltPortReserve
#define FltPortCommit fltport_sys_FltPortCommit
#define FltPortDiscard fltport_sys_FltPortDiscard
#define FltPortBook fltport_sys_FltPortBook
#define FltPortUnbook fltport_sys_FltPortUnbook
#define FltPortRequest fltport_sys_FltPortRequest
#define FltPortRequestAsync fltport_sys_FltPortRequestAsync
#define FltPortQueryStatistics fltport_sys_FltPortQueryStatistics
#define FltPortSnapshotAdd fltport_sys_FltPortSnapshotAdd
#define FltPortSnapshotLive fltport_sys_FltPortSnapshotLive
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Does not compile unless the condition holds. */
#define FLTPORT_ASSERT(name, condition) typedef char FltPortAssert_##name[(condition) ? 1 : -1]
FLTPORT_ASSERT(Pointers, sizeof(void *) == 8);
FLTPORT_ASSERT(Integers, sizeof(ULONG) == 4 && sizeof(USHORT) == 2 && sizeof(ULONGLONG) == 8);

struct _DRIVER_OBJECT;

/* ---- Limits, causes, outcomes ---- */

/* The major version of this contract. */
#define FLTPORT_VERSION 1
/* Message numbers go from 1 to this. */
#define FLTPORT_MAX_MESSAGE_NUMBER 63
/* The largest payload of a notification, of a request, of a reply, and the largest encoded schema. */
#define FLTPORT_MAX_PAYLOAD (60 * 1024)
#define FLTPORT_MAX_REQUEST (48 * 1024)
#define FLTPORT_MAX_REPLY (4 * 1024)
#define FLTPORT_MAX_SCHEMA (16 * 1024)
/* The longest name of a provider in bytes of UTF-8, and the longest deadline in milliseconds. */
#define FLTPORT_MAX_PROVIDER_NAME 32
#define FLTPORT_MAX_DEADLINE_MS 60000
/* Bookings, and requests with a completion routine, that a provider can have at one time. */
#define FLTPORT_MAX_BOOKINGS 4096
#define FLTPORT_MAX_PENDING 4096

/* Why a notification was lost. */
#define FLTPORT_CAUSE_RING_FULL 0     /* no room in a queue, the backlog or the staging buffer */
#define FLTPORT_CAUSE_RATE_LIMIT 1    /* more than the provider's or the connection's rate */
#define FLTPORT_CAUSE_QUOTA 2         /* more in flight than the provider may have */
#define FLTPORT_CAUSE_NO_MEMORY 3     /* an allocation failed */
#define FLTPORT_CAUSE_TOO_LARGE 4     /* larger than FLTPORT_MAX_PAYLOAD */
#define FLTPORT_CAUSE_NO_CONNECTION 5 /* nobody was connected, and there is no backlog */
#define FLTPORT_CAUSE_DISCONNECTED 6  /* the connection ended while it was in flight */
#define FLTPORT_CAUSE_TIMEOUT 7       /* the service did not take it in time */
#define FLTPORT_CAUSE_SHUTTING_DOWN 8 /* the common driver was being unloaded */
#define FLTPORT_CAUSE_WRONG_IRQL 9    /* offered above DISPATCH_LEVEL */
#define FLTPORT_CAUSES 10

/* How a request ended. Only with the first one the reply is a decider's. */
#define FLTPORT_OUTCOME_ANSWERED 0     /* in time */
#define FLTPORT_OUTCOME_MISSED 1       /* not by the deadline */
#define FLTPORT_OUTCOME_NO_DECIDER 2   /* nobody decides, or there is no common driver */
#define FLTPORT_OUTCOME_FROM_DECIDER 3 /* the decider's own process asked */
#define FLTPORT_OUTCOME_CIRCUIT_OPEN 4 /* it has missed repeatedly, and is left alone for a while */
#define FLTPORT_OUTCOME_DISCONNECTED 5 /* its connection ended while it was asked */
#define FLTPORT_OUTCOME_BAD_REPLY 6    /* its answer was none */
#define FLTPORT_OUTCOME_FAILED 7       /* it could not be asked */
#define FLTPORT_OUTCOMES 8

/* ---- What goes through the functions ---- */

/* A registered provider. Opaque; the caller's until FltPortUnregister. */
typedef struct _FLTPORT_PROVIDER *PFLTPORT_PROVIDER;

/* A snapshot that is being taken. Valid during the snapshot routine. */
typedef size_t FLTPORT_SNAPSHOT;

/* A notification, in full. */
typedef struct _FLTPORT_NOTIFICATION {
    ULONG Size;      /* of this struct */
    USHORT Message;  /* its number */
    USHORT Fixed;    /* bytes of the payload's fixed part: T_FIXED */
    LONGLONG Time;   /* when it happened, NT system time; 0: now */
    const void *Payload; /* in non-paged memory, whatever the IRQL: it is copied under a spin lock */
    ULONG Length;    /* of the payload */
    ULONG Reserved;  /* 0 */
    ULONGLONG Booking; /* 0; FltPortNotifyBooked has a use for it */
} FLTPORT_NOTIFICATION;

/* Room that FltPortBook has kept for a notification. The caller keeps it; all zero is none. */
typedef struct _FLTPORT_BOOKING {
    ULONGLONG Number; /* with the common driver */
    ULONG Staged;     /* bytes of the stub's staging buffer */
    ULONG Reserved;   /* 0 */
} FLTPORT_BOOKING, *PFLTPORT_BOOKING;

/* A notification that is filled in where it lies. */
typedef struct _FLTPORT_RESERVATION {
    ULONG Size;      /* of this struct */
    USHORT Message;  /* its number */
    USHORT Reserved; /* 0 */
    ULONG Length;    /* in: bytes of payload that may be needed */
    ULONG Reserved2; /* 0 */
    PUCHAR Payload;  /* out: where it goes; non-paged, 8-byte aligned, all zero */
    size_t Handle;   /* out: not the caller's */
} FLTPORT_RESERVATION, *PFLTPORT_RESERVATION;

/* Flags of a request: the default is the one declared at registration; what is in Reply does not
   count. */
#define FLTPORT_REQUEST_DECLARED_DEFAULT 1

/* A request that is waited for. */
typedef struct _FLTPORT_REQUEST {
    ULONG Size;        /* of this struct */
    USHORT Message;    /* its number */
    USHORT Fixed;      /* bytes of the payload's fixed part: T_FIXED */
    const void *Payload; /* in non-paged memory: observers get it, too, copied under a spin lock */
    ULONG Length;      /* of the payload */
    ULONG DeadlineMs;  /* 1 to FLTPORT_MAX_DEADLINE_MS */
    void *Reply;       /* in: the default, used whenever no decider answers; out: the answer. Non-paged
                          and not NULL */
    ULONG ReplyLength; /* of the default, and of what is put there: T_FIXED. Only a reply without variable data
                          may be another version's: what is not known of it is left out, what it does not
                          have is absent or, if readers have a default for it, as in Reply */
    ULONG Outcome;     /* out: FLTPORT_OUTCOME_x */
    ULONG Flags;       /* FLTPORT_REQUEST_DECLARED_DEFAULT or 0 */
    ULONG WaitedUs;    /* out: microseconds that it took; 0 if fltport.sys is older than 1.1 */
} FLTPORT_REQUEST, *PFLTPORT_REQUEST;

/* How a request with a completion routine ended. */
typedef struct _FLTPORT_COMPLETION {
    ULONG Size;          /* of this struct */
    USHORT Message;      /* the request's number */
    USHORT Reserved;     /* 0 */
    ULONG Outcome;       /* FLTPORT_OUTCOME_x */
    ULONG WaitedUs;      /* microseconds that it took */
    const void *Reply;   /* the decider's, or the default; valid during the call */
    ULONG ReplyLength;   /* of the reply */
    ULONG Reserved2;     /* 0 */
} FLTPORT_COMPLETION;

/* Called once for each request that FltPortRequestAsync has accepted. IRQL: PASSIVE_LEVEL. Others wait
   while it runs, and so does FltPortUnregister. */
typedef void FLTPORT_COMPLETION_ROUTINE(void *Context, const FLTPORT_COMPLETION *Completion);

/* A request whose answer comes in a callback. Everything is copied. */
typedef struct _FLTPORT_ASYNC_REQUEST {
    ULONG Size;        /* of this struct */
    USHORT Message;    /* its number */
    USHORT Fixed;      /* bytes of the payload's fixed part: T_FIXED */
    const void *Payload; /* in non-paged memory, if the IRQL is DISPATCH_LEVEL */
    ULONG Length;      /* of the payload */
    ULONG DeadlineMs;  /* 1 to FLTPORT_MAX_DEADLINE_MS */
    const void *Reply; /* the default, used whenever no decider answers; as Payload */
    ULONG ReplyLength; /* as in FLTPORT_REQUEST */
    ULONG Flags;       /* FLTPORT_REQUEST_DECLARED_DEFAULT or 0 */
    FLTPORT_COMPLETION_ROUTINE *OnCompletion; /* not NULL */
    void *Context;     /* passed to it */
} FLTPORT_ASYNC_REQUEST;

/* Who sends a command. */
typedef struct _FLTPORT_COMMAND_CALLER {
    ULONG Size;       /* of this struct */
    ULONG Connection; /* the connection's number */
    ULONG Pid;        /* the process that sends */
    ULONG Reserved;   /* 0 */
} FLTPORT_COMMAND_CALLER;

/* A provider's command handler. Input and Output are kernel copies. It writes at most Capacity bytes to
   Output and their number to *Returned; that reaches the service with a success status only. Any other
   status reaches the service as it is. IRQL: PASSIVE_LEVEL, in a critical region, in the service's
   thread. FltPortUnregister waits for it, so it has to come to an end by itself. */
typedef NTSTATUS FLTPORT_COMMAND_HANDLER(void *Context, const FLTPORT_COMMAND_CALLER *Caller,
    USHORT Message, const void *Input, ULONG Length, void *Output, ULONG Capacity, ULONG *Returned);

/* A provider's snapshot routine: reports the present state to a service that begins to observe. It calls
   FltPortSnapshotAdd for each object, and last, holding whatever orders the provider's notifications,
   FltPortSnapshotLive. Bit n of Types is set if messages with number n are wanted. An error reaches the
   service, which is not subscribed then. IRQL: PASSIVE_LEVEL, in a critical region, in the service's
   thread. FltPortUnregister waits for it. */
typedef NTSTATUS FLTPORT_SNAPSHOT_ROUTINE(void *Context, FLTPORT_SNAPSHOT Snapshot, ULONGLONG Types);

/* What a request is answered with when no decider answers it. */
typedef struct _FLTPORT_DEFAULT_REPLY {
    ULONG Size;        /* of this struct */
    USHORT Message;    /* the request's number */
    USHORT Reserved;   /* 0 */
    const void *Reply; /* its bytes */
    ULONG Length;      /* how many */
    ULONG Reserved2;   /* 0 */
} FLTPORT_DEFAULT_REPLY;

/* The accounts of a provider, over all receivers and since it registered. */
typedef struct _FLTPORT_STATISTICS {
    ULONG Size;          /* of this struct */
    USHORT Message;      /* in: of one message type only; 0: of all */
    USHORT Reserved;     /* 0 */
    ULONG Observers;     /* connections that observe it */
    ULONG Deciders;      /* connections that decide it */
    ULONGLONG Offered;   /* notifications, to each receiver */
    ULONGLONG Delivered;
    ULONGLONG InFlight;
    ULONGLONG Lost[FLTPORT_CAUSES]; /* by FLTPORT_CAUSE_x */
    ULONGLONG Asked;     /* requests */
    ULONGLONG Outcomes[FLTPORT_OUTCOMES]; /* by FLTPORT_OUTCOME_x */
} FLTPORT_STATISTICS, *PFLTPORT_STATISTICS;

/* What to keep of a backlog that is too small: the newest or the oldest. */
#define FLTPORT_KEEP_NEWEST 0
#define FLTPORT_KEEP_OLDEST 1

struct _FLTPORT_SCHEMA;

/* Writes an encoded schema to Out, Room bytes; returns its length, also if that is more than Room. */
typedef ULONG FLTPORT_SCHEMA_WRITER(const struct _FLTPORT_SCHEMA *Schema, PUCHAR Out, ULONG Room);

/* What a provider registers with. FltPortInitialize fills in the first five, and sizes for Staging and
   Backlog. What Schema and Defaults point to stays as it is until FltPortUnregister has returned. */
typedef struct _FLTPORT_REGISTRATION {
    ULONG Size;    /* of this struct */
    ULONG Version; /* FLTPORT_VERSION */
    const struct _FLTPORT_SCHEMA *Schema; /* of FLTPORT_SCHEMA_OF */
    FLTPORT_SCHEMA_WRITER *WriteSchema;   /* FltPortWriteSchema */
    ULONG PoolTag;       /* of what the stub allocates; fltport.sys has its own tags */
    ULONG Staging;       /* bytes of notifications that the stub keeps while there is no common driver; 0:
                            none */
    ULONG Backlog;       /* bytes that the common driver keeps while no service observes; 0: none. Rounded
                            up to a power of two, at most 8 MiB */
    ULONG BacklogPolicy; /* FLTPORT_KEEP_NEWEST or FLTPORT_KEEP_OLDEST */
    FLTPORT_COMMAND_HANDLER *OnCommand; /* NULL: no commands */
    void *Context;       /* passed to OnCommand and OnSnapshot */
    FLTPORT_SNAPSHOT_ROUTINE *OnSnapshot;  /* NULL: no snapshots */
    const FLTPORT_DEFAULT_REPLY *Defaults; /* the miss policy: at most one for each request */
    ULONG DefaultCount;  /* how many */
    ULONG Quota;         /* bytes that may be queued for one connection; 0: a fair share */
    ULONG Rate;          /* notifications a second, over all; 0: no limit */
    ULONG Burst;         /* how many may come at once, for a Rate; 0: as many as in a second */
} FLTPORT_REGISTRATION;

/* ---- The functions ----
 *
 * Their structs and buffers are the caller's, and are not used any more when they return, unless it says
 * otherwise. Through the import, without fltport.sys running (it is in memory, but not started, or has
 * been stopped), each that returns a status returns STATUS_DEVICE_NOT_READY and does nothing, and a
 * provider that was registered before is none; the stub does what it says at each function.
 */

/* Registers a provider, now or, with the stub, whenever the common driver comes up. From then on
   routines of the provider may be called, perhaps before this returns: with the stub *Provider is set by
   then, through the import the functions refuse NULL (STATUS_INVALID_PARAMETER), but for those of
   snapshots. IRQL: PASSIVE_LEVEL.
   STATUS_SUCCESS: *Provider is valid until FltPortUnregister, which frees it.
   STATUS_INVALID_PARAMETER: a size, the schema (names and numbers are unique, at most 16 KiB), a policy, a
   default for what is no request or has one already.
   STATUS_REVISION_MISMATCH: another major version.
   STATUS_OBJECT_NAME_COLLISION: there is a provider of this name.
   STATUS_INSUFFICIENT_RESOURCES: no memory, too many providers, or a backlog of more than 8 MiB.
   With the stub, what only the common driver can refuse has nobody to be told to if that comes up later:
   then the provider stays as without one. */
FLTPORT_API NTSTATUS FltPortRegister(struct _DRIVER_OBJECT *DriverObject,
    const FLTPORT_REGISTRATION *Registration, PFLTPORT_PROVIDER *Provider);

/* Unregisters, ends what is pending with the defaults (FLTPORT_OUTCOME_FAILED), waits until no handler,
   completion or snapshot routine of the provider runs, and frees it. What the stub has kept is gone, and
   so is what is unread of the backlog; how much that was, services are told. NULL is ignored.
   IRQL: PASSIVE_LEVEL, not from one of these routines. Nobody else may be in another function with this
   provider, have a reservation of it, or call a function later. */
FLTPORT_API void FltPortUnregister(PFLTPORT_PROVIDER Provider);

/* Offers a notification that happens now: Length bytes of Payload, in non-paged memory, of which the first
   Fixed are the message's fixed part (T_FIXED). Never waits. IRQL: <= DISPATCH_LEVEL.
   STATUS_SUCCESS: it is accounted for: queued, kept, or lost with a cause that the ledger shows.
   STATUS_INVALID_PARAMETER: no notification of this provider; Fixed is more than Length; no payload. */
FLTPORT_API NTSTATUS FltPortNotify(PFLTPORT_PROVIDER Provider, USHORT Message, USHORT Fixed,
    const void *Payload, ULONG Length);

/* The same with a time. IRQL: <= DISPATCH_LEVEL. Statuses: as FltPortNotify; STATUS_INVALID_PARAMETER,
   too, for NULL or a wrong size. */
FLTPORT_API NTSTATUS FltPortNotifyEx(PFLTPORT_PROVIDER Provider, const FLTPORT_NOTIFICATION *Notification);

/* The same as FltPortNotify, with room that FltPortBook has kept; without, if Booking is NULL or none.
   It uses the booking up and zeroes it, unless the status is STATUS_INVALID_PARAMETER. IRQL: <=
   DISPATCH_LEVEL. Statuses: as FltPortNotify. */
FLTPORT_API NTSTATUS FltPortNotifyBooked(PFLTPORT_PROVIDER Provider, USHORT Message, USHORT Fixed,
    const void *Payload, ULONG Length, PFLTPORT_BOOKING Booking);

/* Accounts for Count notifications that could not even be offered: lost with Cause, a FLTPORT_CAUSE_x.
   Ignored if it is no notification of this provider, or no cause. IRQL: <= DISPATCH_LEVEL. */
FLTPORT_API void FltPortLost(PFLTPORT_PROVIDER Provider, USHORT Message, USHORT Cause, ULONGLONG Count);

/* Gives memory for a notification to be filled in where it lies. The caller sets Size, Message and Length.
   FltPortCommit or FltPortDiscard, which free it, follows soon, in the same thread at the same IRQL, and
   nothing that waits in between: fltport.sys cannot be unloaded meanwhile. IRQL: <= DISPATCH_LEVEL.
   STATUS_SUCCESS: Payload and Handle are set.
   STATUS_INVALID_PARAMETER: no notification of this provider, or the size.
   STATUS_INSUFFICIENT_RESOURCES (no memory), STATUS_BUFFER_OVERFLOW (more than FLTPORT_MAX_PAYLOAD): it is
   accounted for as lost.
   If fltport.sys is older than 1.1, or not there, the stub lends memory of its own. */
FLTPORT_API NTSTATUS FltPortReserve(PFLTPORT_PROVIDER Provider, PFLTPORT_RESERVATION Reservation);

/* Offers what was reserved: Length bytes of it; Fixed and Time as in FLTPORT_NOTIFICATION. Ends the
   reservation, and frees its memory, in any case. IRQL: <= DISPATCH_LEVEL, that of FltPortReserve.
   STATUS_SUCCESS: as FltPortNotify. STATUS_INVALID_PARAMETER: Length is more than was reserved, or Fixed
   more than Length; nothing is offered or accounted for. */
FLTPORT_API NTSTATUS FltPortCommit(PFLTPORT_PROVIDER Provider, PFLTPORT_RESERVATION Reservation,
    USHORT Fixed, ULONG Length, LONGLONG Time);

/* Ends a reservation, and frees its memory; nothing is offered. IRQL: <= DISPATCH_LEVEL, that of
   FltPortReserve. */
FLTPORT_API void FltPortDiscard(PFLTPORT_PROVIDER Provider, PFLTPORT_RESERVATION Reservation);

/* The guaranteed lane: keeps room for one notification with this number and a payload of at most Length
   bytes, with every service that observes it now, or in the backlog if none does, and in the stub's
   staging buffer for the time without a common driver. So the second half of a pair is not what is lost.
   FltPortNotifyBooked uses it up, FltPortUnbook gives it back. IRQL: <= DISPATCH_LEVEL.
   STATUS_INVALID_PARAMETER: no notification of this provider; with the stub also a Length that is more
   than FLTPORT_MAX_PAYLOAD, for which the import returns STATUS_BUFFER_OVERFLOW.
   STATUS_INSUFFICIENT_RESOURCES: there is no room, or there are FLTPORT_MAX_BOOKINGS.
   STATUS_QUOTA_EXCEEDED: beyond the provider's rate.
   STATUS_NOT_SUPPORTED: fltport.sys is older than 1.1.
   With an error the booking is none, and what is offered with it an ordinary notification. */
FLTPORT_API NTSTATUS FltPortBook(PFLTPORT_PROVIDER Provider, USHORT Message, ULONG Length,
    PFLTPORT_BOOKING Booking);

/* Gives a booking back, and zeroes it; one that is none is ignored. IRQL: <= DISPATCH_LEVEL. */
FLTPORT_API void FltPortUnbook(PFLTPORT_PROVIDER Provider, PFLTPORT_BOOKING Booking);

/* Asks the decider, and waits for its answer until the deadline at most. Size to ReplyLength and Flags
   are the caller's to set. IRQL: <= APC_LEVEL, with special kernel APCs enabled: not in a guarded
   region, not with a fast mutex.
   STATUS_SUCCESS: Reply and Outcome are set, whoever answered; with the stub also without a common
   driver. Otherwise nobody was asked, and the caller goes on with its default:
   STATUS_INVALID_PARAMETER: no request of this provider, a size, Fixed, a deadline, a flag or a reply that
   may not be, or no such default was declared.
   STATUS_INVALID_LEVEL: the IRQL.
   STATUS_BUFFER_OVERFLOW: more than FLTPORT_MAX_REQUEST; through the import also for a reply of more than
   FLTPORT_MAX_REPLY.
   STATUS_INSUFFICIENT_RESOURCES: no memory. */
FLTPORT_API NTSTATUS FltPortRequest(PFLTPORT_PROVIDER Provider, PFLTPORT_REQUEST Request);

/* Asks the decider, and returns; the answer comes to OnCompletion, at the latest at the deadline. All but
   Context is copied; that stays the caller's. IRQL: <= DISPATCH_LEVEL.
   STATUS_SUCCESS: OnCompletion is called once, perhaps before this returns.
   Otherwise it is not called, and the caller goes on with its default: the statuses of FltPortRequest;
   STATUS_INSUFFICIENT_RESOURCES, too, if FLTPORT_MAX_PENDING are pending;
   STATUS_DEVICE_NOT_READY: there is no common driver; STATUS_NOT_SUPPORTED: it is older than 1.1. */
FLTPORT_API NTSTATUS FltPortRequestAsync(PFLTPORT_PROVIDER Provider, const FLTPORT_ASYNC_REQUEST *Request);

/* Fills in the accounts. Size and Message are the caller's to set. IRQL: <= DISPATCH_LEVEL.
   STATUS_INVALID_PARAMETER: the size, or no notification or request of this provider.
   STATUS_DEVICE_NOT_READY: there is no common driver; STATUS_NOT_SUPPORTED: it is older than 1.1. */
FLTPORT_API NTSTATUS FltPortQueryStatistics(PFLTPORT_PROVIDER Provider, PFLTPORT_STATISTICS Statistics);

/* Adds an object to a snapshot, as the notification that tells of it, from the snapshot routine only;
   one of a type that is not wanted is passed over. Never waits. IRQL: <= DISPATCH_LEVEL.
   STATUS_INVALID_PARAMETER: NULL, a wrong size, no payload; or the snapshot has ended.
   Any other: the snapshot is not to be had, and the routine returns it:
   STATUS_INSUFFICIENT_RESOURCES: no memory, or more than 8 MiB.
   STATUS_BUFFER_OVERFLOW: more than FLTPORT_MAX_PAYLOAD, or Fixed is more than Length.
   STATUS_RETRY: the provider is still being registered; the service tries again.
   STATUS_DELETE_PENDING: the provider or the common driver goes. */
FLTPORT_API NTSTATUS FltPortSnapshotAdd(PFLTPORT_PROVIDER Provider, FLTPORT_SNAPSHOT Snapshot,
    const FLTPORT_NOTIFICATION *Notification);

/* Ends a snapshot and begins the live stream behind it, from the snapshot routine only. A routine that
   succeeds without it has it done when it returns. IRQL: <= DISPATCH_LEVEL.
   STATUS_INVALID_PARAMETER: it has ended before.
   Any other: the service is not subscribed, and the routine returns it: the statuses of FltPortSnapshotAdd
   (STATUS_RETRY, too, if a former snapshot is still on its way), or why the service may not subscribe. */
FLTPORT_API NTSTATUS FltPortSnapshotLive(PFLTPORT_PROVIDER Provider, FLTPORT_SNAPSHOT Snapshot);

/* Whether a notification or request with this number would reach anybody: to be asked before an
   expensive message is built. One load. Without a common driver, or if that is older than 1.1,
   everything is wanted; without a provider (NULL), nothing. IRQL: any. */
FLTPORT_INLINE BOOLEAN FltPortIsListening(PFLTPORT_PROVIDER Provider, USHORT Message)
{
    /* A provider begins with its interest word, which the common driver keeps. */
    const volatile ULONGLONG *Interest = (const volatile ULONGLONG *)(const void *)Provider;
    return (BOOLEAN)(Interest != NULL && Message <= FLTPORT_MAX_MESSAGE_NUMBER && (*Interest >> Message & 1));
}

/* ---- Messages ----
 *
 * A message is its fixed part, the fields in order, and behind that the variable data of texts, bytes and
 * records, which the fixed part addresses by place and length. A definition is a list, from which the
 * macros below make the struct, the schema that services decode it with, and constants:
 *
 *     #define OPENED_FIELDS(FIELD, TYPED) FIELD(U32, door) FIELD(TEXT, name) TYPED(ENUM, how, How)
 *     FLTPORT_MESSAGE(OPENED, OPENED_FIELDS)
 *
 * gives struct OPENED with the members door, name and how, and OPENED_FIXED, the bytes of its fixed part.
 * It does not compile if a field would need padding before it: order them by size. Kinds are U8, U16, U32,
 * U64, I8, I16, I32, I64, BOOL, PID, TIME, STATUS, GUID, IPV4, IPV6, ADDRESS, TEXT, BYTES and TEXTS; with
 * a type of its own ENUM, FLAGS, RECORD and LIST; OPT_ in front of any of them if the value may be absent.
 *
 * A message grows at its end from one version to the next. A field that a command or a reply
 * has gained is optional, or its kind is DEFAULTED(U32): fltport.sys takes those of older services then,
 * which lack it. FLTPORT_READ leaves the handler's own value in its place, and in a reply it is as in the
 * default. It is the default that messages! in Rust gives a field; what it is only its reader knows, and
 * so the schema does not say.
 *
 *     #define DOOR_MESSAGES(NOTIFICATION, REQUEST, COMMAND) \
 *         NOTIFICATION(1, "opened", OPENED) \
 *         REQUEST(2, "open", OPEN, VERDICT) \
 *         COMMAND(3, "lock", LOCK, LOCKED)
 *     FLTPORT_SCHEMA_OF(DoorSchema, "door-monitor", FLTPORT_NO_TYPES, DOOR_MESSAGES)
 *
 * gives DoorSchema for FLTPORT_REGISTRATION, and OPENED_NUMBER and so on. It is the very schema that
 * the same definition by messages! in Rust gives, with the same hash.
 */

/* What addresses variable data. All zero: absent. */
typedef struct _FLTPORT_VARIABLE {
    ULONG Place;  /* from the start of the message */
    ULONG Length; /* in bytes */
} FLTPORT_VARIABLE;

/* As NT has it in memory; addresses in network order. */
typedef union _FLTPORT_GUID { UCHAR Bytes[16]; ULONG Aligned; } FLTPORT_GUID;
typedef union _FLTPORT_IPV4 { UCHAR Bytes[4]; ULONG Aligned; } FLTPORT_IPV4;
typedef union _FLTPORT_IPV6 { UCHAR Bytes[16]; ULONG Aligned; } FLTPORT_IPV6;
/* Byte 0 is 4 or 6, then three of 0, then the address in network order; those behind an IPv4 one are 0. */
typedef union _FLTPORT_ADDRESS { UCHAR Bytes[20]; ULONG Aligned; } FLTPORT_ADDRESS;

/* The struct's member of a kind, and the kind's number on the wire; behind that, in the second byte,
   flags: 1 is optional, 2 has a default. */
#define FLTPORT_TYPE_U16 USHORT
#define FLTPORT_KIND_U16 1
#define FLTPORT_TYPE_U32 ULONG
#define FLTPORT_KIND_U32 2
#define FLTPORT_TYPE_U64 ULONGLONG
#define FLTPORT_KIND_U64 3
#define FLTPORT_TYPE_I32 LONG
#define FLTPORT_KIND_I32 4
#define FLTPORT_TYPE_I64 LONGLONG
#define FLTPORT_KIND_I64 5
#define FLTPORT_TYPE_BOOL ULONG /* 0 or 1 */
#define FLTPORT_KIND_BOOL 6
#define FLTPORT_TYPE_PID ULONG
#define FLTPORT_KIND_PID 7
#define FLTPORT_TYPE_TIME LONGLONG /* NT system time */
#define FLTPORT_KIND_TIME 8
#define FLTPORT_TYPE_STATUS NTSTATUS
#define FLTPORT_KIND_STATUS 9
#define FLTPORT_TYPE_TEXT FLTPORT_VARIABLE
#define FLTPORT_KIND_TEXT 10
#define FLTPORT_TYPE_BYTES FLTPORT_VARIABLE
#define FLTPORT_KIND_BYTES 11
#define FLTPORT_TYPE_TEXTS FLTPORT_VARIABLE
#define FLTPORT_KIND_TEXTS 12
#define FLTPORT_TYPE_U8 UCHAR
#define FLTPORT_KIND_U8 13
#define FLTPORT_TYPE_I8 signed char
#define FLTPORT_KIND_I8 14
#define FLTPORT_TYPE_I16 short
#define FLTPORT_KIND_I16 15
#define FLTPORT_TYPE_GUID FLTPORT_GUID
#define FLTPORT_KIND_GUID 16
#define FLTPORT_TYPE_IPV4 FLTPORT_IPV4
#define FLTPORT_KIND_IPV4 17
#define FLTPORT_TYPE_IPV6 FLTPORT_IPV6
#define FLTPORT_KIND_IPV6 18
#define FLTPORT_TYPE_ADDRESS FLTPORT_ADDRESS
#define FLTPORT_KIND_ADDRESS 19
#define FLTPORT_TYPE_ENUM ULONG
#define FLTPORT_KIND_ENUM 20
#define FLTPORT_TYPE_FLAGS ULONG
#define FLTPORT_KIND_FLAGS 21
#define FLTPORT_TYPE_RECORD FLTPORT_VARIABLE
#define FLTPORT_KIND_RECORD 22
#define FLTPORT_TYPE_LIST FLTPORT_VARIABLE
#define FLTPORT_KIND_LIST 23

/* Optional variable data is absent if it is all zero. Behind any other optional value stands a mark, and
   zero bytes to the next multiple of its alignment. */
#define FLTPORT_OPTIONAL_(kind, pad) \
    typedef struct _FLTPORT_OPT_##kind { \
        FLTPORT_TYPE_##kind Value; \
        UCHAR Present; /* 1 if it is */ \
        UCHAR Zero[pad]; \
    } FLTPORT_OPT_##kind;
typedef struct _FLTPORT_OPT_U8 { UCHAR Value; UCHAR Present; } FLTPORT_OPT_U8;
typedef struct _FLTPORT_OPT_I8 { signed char Value; UCHAR Present; } FLTPORT_OPT_I8;
FLTPORT_OPTIONAL_(U16, 1) FLTPORT_OPTIONAL_(I16, 1) FLTPORT_OPTIONAL_(U32, 3) FLTPORT_OPTIONAL_(I32, 3)
FLTPORT_OPTIONAL_(U64, 7) FLTPORT_OPTIONAL_(I64, 7) FLTPORT_OPTIONAL_(BOOL, 3) FLTPORT_OPTIONAL_(PID, 3)
FLTPORT_OPTIONAL_(TIME, 7) FLTPORT_OPTIONAL_(STATUS, 3) FLTPORT_OPTIONAL_(GUID, 3)
FLTPORT_OPTIONAL_(IPV4, 3) FLTPORT_OPTIONAL_(IPV6, 3) FLTPORT_OPTIONAL_(ADDRESS, 3)
FLTPORT_OPTIONAL_(ENUM, 3) FLTPORT_OPTIONAL_(FLAGS, 3)
#define FLTPORT_TYPE_OPT_U8 FLTPORT_OPT_U8
#define FLTPORT_KIND_OPT_U8 (0x100 | FLTPORT_KIND_U8)
#define FLTPORT_TYPE_OPT_U16 FLTPORT_OPT_U16
#define FLTPORT_KIND_OPT_U16 (0x100 | FLTPORT_KIND_U16)
#define FLTPORT_TYPE_OPT_U32 FLTPORT_OPT_U32
#define FLTPORT_KIND_OPT_U32 (0x100 | FLTPORT_KIND_U32)
#define FLTPORT_TYPE_OPT_U64 FLTPORT_OPT_U64
#define FLTPORT_KIND_OPT_U64 (0x100 | FLTPORT_KIND_U64)
#define FLTPORT_TYPE_OPT_I8 FLTPORT_OPT_I8
#define FLTPORT_KIND_OPT_I8 (0x100 | FLTPORT_KIND_I8)
#define FLTPORT_TYPE_OPT_I16 FLTPORT_OPT_I16
#define FLTPORT_KIND_OPT_I16 (0x100 | FLTPORT_KIND_I16)
#define FLTPORT_TYPE_OPT_I32 FLTPORT_OPT_I32
#define FLTPORT_KIND_OPT_I32 (0x100 | FLTPORT_KIND_I32)
#define FLTPORT_TYPE_OPT_I64 FLTPORT_OPT_I64
#define FLTPORT_KIND_OPT_I64 (0x100 | FLTPORT_KIND_I64)
#define FLTPORT_TYPE_OPT_BOOL FLTPORT_OPT_BOOL
#define FLTPORT_KIND_OPT_BOOL (0x100 | FLTPORT_KIND_BOOL)
#define FLTPORT_TYPE_OPT_PID FLTPORT_OPT_PID
#define FLTPORT_KIND_OPT_PID (0x100 | FLTPORT_KIND_PID)
#define FLTPORT_TYPE_OPT_TIME FLTPORT_OPT_TIME
#define FLTPORT_KIND_OPT_TIME (0x100 | FLTPORT_KIND_TIME)
#define FLTPORT_TYPE_OPT_STATUS FLTPORT_OPT_STATUS
#define FLTPORT_KIND_OPT_STATUS (0x100 | FLTPORT_KIND_STATUS)
#define FLTPORT_TYPE_OPT_GUID FLTPORT_OPT_GUID
#define FLTPORT_KIND_OPT_GUID (0x100 | FLTPORT_KIND_GUID)
#define FLTPORT_TYPE_OPT_IPV4 FLTPORT_OPT_IPV4
#define FLTPORT_KIND_OPT_IPV4 (0x100 | FLTPORT_KIND_IPV4)
#define FLTPORT_TYPE_OPT_IPV6 FLTPORT_OPT_IPV6
#define FLTPORT_KIND_OPT_IPV6 (0x100 | FLTPORT_KIND_IPV6)
#define FLTPORT_TYPE_OPT_ADDRESS FLTPORT_OPT_ADDRESS
#define FLTPORT_KIND_OPT_ADDRESS (0x100 | FLTPORT_KIND_ADDRESS)
#define FLTPORT_TYPE_OPT_ENUM FLTPORT_OPT_ENUM
#define FLTPORT_KIND_OPT_ENUM (0x100 | FLTPORT_KIND_ENUM)
#define FLTPORT_TYPE_OPT_FLAGS FLTPORT_OPT_FLAGS
#define FLTPORT_KIND_OPT_FLAGS (0x100 | FLTPORT_KIND_FLAGS)
#define FLTPORT_TYPE_OPT_TEXT FLTPORT_VARIABLE
#define FLTPORT_KIND_OPT_TEXT (0x100 | FLTPORT_KIND_TEXT)
#define FLTPORT_TYPE_OPT_BYTES FLTPORT_VARIABLE
#define FLTPORT_KIND_OPT_BYTES (0x100 | FLTPORT_KIND_BYTES)
#define FLTPORT_TYPE_OPT_TEXTS FLTPORT_VARIABLE
#define FLTPORT_KIND_OPT_TEXTS (0x100 | FLTPORT_KIND_TEXTS)
#define FLTPORT_TYPE_OPT_RECORD FLTPORT_VARIABLE
#define FLTPORT_KIND_OPT_RECORD (0x100 | FLTPORT_KIND_RECORD)
#define FLTPORT_TYPE_OPT_LIST FLTPORT_VARIABLE
#define FLTPORT_KIND_OPT_LIST (0x100 | FLTPORT_KIND_LIST)
/* A field that readers have a value of their own for where the writer does not know it. */
#define FLTPORT_TYPE_DEFAULTED(kind) FLTPORT_TYPE_##kind
#define FLTPORT_KIND_DEFAULTED(kind) (0x200 | FLTPORT_KIND_##kind)

/* The tables that the macros make. Each ends with a row whose Name is NULL. */
typedef struct _FLTPORT_NAMED {
    const char *Name;
    ULONG Value;
} FLTPORT_NAMED;
typedef struct _FLTPORT_FIELD {
    const char *Name;
    const struct _FLTPORT_DEFINITION *Definition;
    USHORT Kind; /* FLTPORT_KIND_x */
    USHORT Size; /* bytes in the fixed part */
} FLTPORT_FIELD;
typedef struct _FLTPORT_DEFINITION {
    const char *Name;
    const FLTPORT_NAMED *Values; /* of an enum or flags */
    const FLTPORT_FIELD *Fields; /* of a record */
    UCHAR Form; /* FLTPORT_FORM_x */
} FLTPORT_DEFINITION;
typedef struct _FLTPORT_MESSAGE_TYPE {
    const char *Name;
    const FLTPORT_FIELD *Fields;
    const FLTPORT_FIELD *Reply;
    USHORT Number;
    UCHAR Role; /* FLTPORT_ROLE_x */
} FLTPORT_MESSAGE_TYPE;
typedef struct _FLTPORT_SCHEMA {
    const char *Name;
    const FLTPORT_DEFINITION *const *Types; /* ends with NULL */
    const FLTPORT_MESSAGE_TYPE *Messages;
} FLTPORT_SCHEMA;
#define FLTPORT_FORM_ENUM 1
#define FLTPORT_FORM_FLAGS 2
#define FLTPORT_FORM_RECORD 3
#define FLTPORT_ROLE_NOTIFICATION 1
#define FLTPORT_ROLE_REQUEST 2
#define FLTPORT_ROLE_COMMAND 3

#define FLTPORT_MEMBER_(kind, name) FLTPORT_TYPE_##kind name;
#define FLTPORT_TYPED_MEMBER_(kind, name, type) FLTPORT_TYPE_##kind name;
#define FLTPORT_SIZE_(kind, name) +sizeof(FLTPORT_TYPE_##kind)
#define FLTPORT_TYPED_SIZE_(kind, name, type) +sizeof(FLTPORT_TYPE_##kind)
#define FLTPORT_ROW_(kind, name) { #name, NULL, FLTPORT_KIND_##kind, sizeof(FLTPORT_TYPE_##kind) },
#define FLTPORT_TYPED_ROW_(kind, name, type) \
    { #name, &type##_Definition, FLTPORT_KIND_##kind, sizeof(FLTPORT_TYPE_##kind) },

/* A message, a reply or a result. Write it as a line of its own, without a semicolon. */
#define FLTPORT_MESSAGE(T, fields) \
    typedef struct T { fields(FLTPORT_MEMBER_, FLTPORT_TYPED_MEMBER_) } T; \
    struct T##_WithEnd { fields(FLTPORT_MEMBER_, FLTPORT_TYPED_MEMBER_) UCHAR End; }; \
    enum { T##_FIXED = offsetof(struct T##_WithEnd, End) }; \
    FLTPORT_ASSERT(T##_NeedsNoPadding, \
        T##_FIXED == (0 fields(FLTPORT_SIZE_, FLTPORT_TYPED_SIZE_))); \
    static const FLTPORT_FIELD T##_Fields[] = { \
        fields(FLTPORT_ROW_, FLTPORT_TYPED_ROW_) { NULL, NULL, 0, 0 } };
/* One without fields, and so without a struct. */
#define FLTPORT_EMPTY_MESSAGE(T) \
    enum { T##_FIXED = 0 }; \
    static const FLTPORT_FIELD T##_Fields[] = { { NULL, NULL, 0, 0 } };
/* A type of records: fields that lie together in a message. */
#define FLTPORT_RECORD_TYPE(T, fields) \
    FLTPORT_MESSAGE(T, fields) \
    static const FLTPORT_DEFINITION T##_Definition = { #T, NULL, T##_Fields, FLTPORT_FORM_RECORD };
/* A type with named values, or named bits: values(VALUE) is a list of VALUE(constant, number, "name"). */
#define FLTPORT_ENUM_TYPE(T, values) FLTPORT_NAMED_(T, values, FLTPORT_FORM_ENUM)
#define FLTPORT_FLAGS_TYPE(T, values) FLTPORT_NAMED_(T, values, FLTPORT_FORM_FLAGS)
#define FLTPORT_VALUE_(constant, number, name) constant = number,
#define FLTPORT_VALUE_ROW_(constant, number, name) { name, number },
#define FLTPORT_NAMED_(T, values, form) \
    enum { values(FLTPORT_VALUE_) T##_End_ }; \
    static const FLTPORT_NAMED T##_Values[] = { values(FLTPORT_VALUE_ROW_) { NULL, 0 } }; \
    static const FLTPORT_DEFINITION T##_Definition = { #T, T##_Values, NULL, form };

#define FLTPORT_NUMBER_(number, name, T) T##_NUMBER = number,
#define FLTPORT_ASKED_NUMBER_(number, name, T, R) T##_NUMBER = number,
#define FLTPORT_NOTIFICATION_ROW_(number, name, T) \
    { name, T##_Fields, NULL, number, FLTPORT_ROLE_NOTIFICATION },
#define FLTPORT_REQUEST_ROW_(number, name, T, R) \
    { name, T##_Fields, R##_Fields, number, FLTPORT_ROLE_REQUEST },
#define FLTPORT_COMMAND_ROW_(number, name, T, R) \
    { name, T##_Fields, R##_Fields, number, FLTPORT_ROLE_COMMAND },
#define FLTPORT_TYPE_ROW_(T) &T##_Definition,
#define FLTPORT_NO_TYPES(TYPE)

/* A provider: types(TYPE) lists its own types, each before what refers to it. */
#define FLTPORT_SCHEMA_OF(schema, name, types, messages) \
    enum { messages(FLTPORT_NUMBER_, FLTPORT_ASKED_NUMBER_, FLTPORT_ASKED_NUMBER_) schema##_End_ }; \
    static const FLTPORT_DEFINITION *const schema##_Types[] = { types(FLTPORT_TYPE_ROW_) NULL }; \
    static const FLTPORT_MESSAGE_TYPE schema##_Messages[] = { \
        messages(FLTPORT_NOTIFICATION_ROW_, FLTPORT_REQUEST_ROW_, FLTPORT_COMMAND_ROW_) \
        { NULL, NULL, NULL, 0, 0 } }; \
    static const FLTPORT_SCHEMA schema = { name, schema##_Types, schema##_Messages };

/* ---- Writing and reading messages ----
 *
 * A message without variable data is its struct: FltPortNotify(P, T_NUMBER, T_FIXED, &t, T_FIXED). One
 * with variable data is written to a buffer: FltPortBegin, then the parts of the variable data in the
 * order of the fields, then FltPortEnd with the struct. Whatever goes wrong on the way FltPortEnd tells.
 * These functions can be called at any IRQL at which the memory can be touched.
 */
typedef struct _FLTPORT_WRITER {
    PUCHAR Buffer;
    ULONG Room;
    ULONG Length; /* so far; of the payload in the end */
    NTSTATUS Status;
} FLTPORT_WRITER;

FLTPORT_INLINE void FltPortCopy_(void *To, const void *From, ULONG Length)
{
    PUCHAR Out = (PUCHAR)To;
    const UCHAR *In = (const UCHAR *)From;
    while (Length-- != 0)
        *Out++ = *In++;
}

/* Appends bytes, or zero bytes if From is NULL; where, or 0 if there is no room. */
FLTPORT_INLINE ULONG FltPortAppend_(FLTPORT_WRITER *Writer, const void *From, ULONG Length)
{
    ULONG Place = Writer->Length;
    ULONG i;
    if (Writer->Status != STATUS_SUCCESS || Length > Writer->Room - Place) {
        Writer->Status = STATUS_BUFFER_TOO_SMALL;
        return 0;
    }
    if (From != NULL)
        FltPortCopy_(Writer->Buffer + Place, From, Length);
    else
        for (i = 0; i < Length; i++)
            Writer->Buffer[Place + i] = 0;
    Writer->Length = Place + Length;
    return Place;
}

/* Begins a message in Buffer. */
FLTPORT_INLINE void FltPortBegin(FLTPORT_WRITER *Writer, void *Buffer, ULONG Room, ULONG Fixed)
{
    Writer->Buffer = (PUCHAR)Buffer;
    Writer->Room = Room;
    Writer->Length = 0;
    Writer->Status = STATUS_SUCCESS;
    FltPortAppend_(Writer, NULL, Fixed);
}

/* A field of kind BYTES; one of kind TEXT, with UTF-16. */
FLTPORT_INLINE void FltPortPutBytes(FLTPORT_WRITER *Writer, FLTPORT_VARIABLE *Field, const void *From,
    ULONG Length)
{
    Field->Place = FltPortAppend_(Writer, From, From != NULL ? Length : 0);
    Field->Length = Writer->Status == STATUS_SUCCESS && From != NULL ? Length : 0;
}
#define FltPortPutText FltPortPutBytes

/* A field of kind TEXTS, without texts yet, which FltPortAddText adds; nothing else may come between. */
FLTPORT_INLINE void FltPortPutTexts(FLTPORT_WRITER *Writer, FLTPORT_VARIABLE *Field)
{
    Field->Place = FltPortAppend_(Writer, NULL, 0);
    Field->Length = 0;
}
FLTPORT_INLINE void FltPortAddText(FLTPORT_WRITER *Writer, FLTPORT_VARIABLE *Field, const void *From,
    USHORT Length)
{
    FltPortAppend_(Writer, &Length, sizeof(Length));
    FltPortAppend_(Writer, From, Length);
    Field->Length = Writer->Status == STATUS_SUCCESS ? Writer->Length - Field->Place : 0;
}

/* A field of kind LIST, or of kind RECORD with a Count of 1: makes room for Count records with this many
   bytes of fixed part, which FltPortSetRecord fills. */
FLTPORT_INLINE void FltPortPutRecords(FLTPORT_WRITER *Writer, FLTPORT_VARIABLE *Field, USHORT Fixed,
    ULONG Count)
{
    USHORT Zero = 0;
    Field->Place = FltPortAppend_(Writer, &Fixed, sizeof(Fixed));
    FltPortAppend_(Writer, &Zero, sizeof(Zero));
    FltPortAppend_(Writer, &Count, sizeof(Count));
    if (Fixed != 0 && Count > Writer->Room / Fixed)
        Writer->Status = STATUS_BUFFER_TOO_SMALL;
    else
        FltPortAppend_(Writer, NULL, Fixed * Count);
    Field->Length = Writer->Status == STATUS_SUCCESS ? Writer->Length - Field->Place : 0;
}

/* The struct of a record, behind its variable data. Ignored if there was no room for the records. */
FLTPORT_INLINE void FltPortSetRecord(FLTPORT_WRITER *Writer, const FLTPORT_VARIABLE *Field, ULONG Index,
    const void *Record, USHORT Fixed)
{
    if (Writer->Status == STATUS_SUCCESS && 8 + (ULONGLONG)Fixed * (Index + 1ULL) <= Field->Length)
        FltPortCopy_(Writer->Buffer + Field->Place + 8 + Fixed * Index, Record, Fixed);
    else
        Writer->Status = STATUS_BUFFER_TOO_SMALL;
}

/* The struct, behind all variable data. STATUS_BUFFER_TOO_SMALL: the message is not there. */
FLTPORT_INLINE NTSTATUS FltPortEnd(FLTPORT_WRITER *Writer, const void *Message, ULONG Fixed)
{
    if (Writer->Status == STATUS_SUCCESS)
        FltPortCopy_(Writer->Buffer, Message, Fixed);
    return Writer->Status;
}

FLTPORT_INLINE BOOLEAN FltPortIsVariable_(UCHAR Kind)
{
    return (BOOLEAN)((Kind >= FLTPORT_KIND_TEXT && Kind <= FLTPORT_KIND_TEXTS)
        || Kind == FLTPORT_KIND_RECORD || Kind == FLTPORT_KIND_LIST);
}

/* Reads one field, which lies at Offset of a fixed part that ends at *End at the latest: variable data
   begins behind it. One that the writer does not know keeps its value, or is absent. */
FLTPORT_INLINE NTSTATUS FltPortReadField_(const FLTPORT_FIELD *Field, const UCHAR *Input, ULONG Offset,
    ULONG *End, PUCHAR Value)
{
    FLTPORT_VARIABLE Variable;
    ULONG i;
    if (Offset >= *End) {
        for (i = 0; (Field->Kind & 0x300) == 0x100 && i < Field->Size; i++)
            Value[i] = 0;
        return (Field->Kind & 0x300) != 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    }
    if (Field->Size > *End - Offset)
        return STATUS_INVALID_PARAMETER;
    FltPortCopy_(Value, Input + Offset, Field->Size);
    if (!FltPortIsVariable_((UCHAR)Field->Kind))
        return STATUS_SUCCESS;
    FltPortCopy_(&Variable, Value, sizeof(Variable));
    if (Variable.Place != 0 && Variable.Place < Offset + Field->Size)
        return STATUS_INVALID_PARAMETER;
    if (Variable.Place != 0 && Variable.Place < *End)
        *End = Variable.Place;
    return STATUS_SUCCESS;
}

FLTPORT_INLINE NTSTATUS FltPortReadFields_(const FLTPORT_FIELD *Field, const void *Input, ULONG Length,
    void *Message)
{
    ULONG Offset = 0, End = Length;
    NTSTATUS Status = STATUS_SUCCESS;
    for (; Field->Name != NULL && Status == STATUS_SUCCESS; Field++) {
        Status = FltPortReadField_(Field, (const UCHAR *)Input, Offset, &End, (PUCHAR)Message + Offset);
        Offset += Field->Size;
    }
    return Status;
}

/* Reads the struct T of a command, whichever version of it the service knows. What it does not know
   stays as it is in Message, if the field's kind is DEFAULTED, or is absent, if it is optional; what it
   knows beyond T is passed over. STATUS_INVALID_PARAMETER: a field is missing that may not be, or the
   message is not what it claims to be; of Message a part may have been read. */
#define FLTPORT_READ(T, Input, Length, Message) \
    FltPortReadFields_(T##_Fields, Input, Length, 1 ? (Message) : (T *)NULL)

/* Reads the struct of a reply, or of a command that has not grown since its first version.
   STATUS_INVALID_PARAMETER: the input is shorter. */
FLTPORT_INLINE NTSTATUS FltPortRead(const void *Input, ULONG Length, void *Message, ULONG Fixed)
{
    if (Length < Fixed)
        return STATUS_INVALID_PARAMETER;
    FltPortCopy_(Message, Input, Fixed);
    return STATUS_SUCCESS;
}

/* The variable data of a field: bytes, or UTF-16 that may lie at an odd address. NULL: it is absent, or
   the message is not what it claims to be. */
FLTPORT_INLINE const void *FltPortGet(const void *Input, ULONG Length, FLTPORT_VARIABLE Field)
{
    if (Field.Place == 0 || Field.Place > Length || Field.Length > Length - Field.Place)
        return NULL;
    return (const UCHAR *)Input + Field.Place;
}

/* ---- The schema, encoded: for FLTPORT_REGISTRATION ---- */

FLTPORT_INLINE ULONG FltPortLength_(const char *Name)
{
    ULONG Length = 0;
    while (Name[Length] != 0)
        Length++;
    return Length;
}

/* FNV-1a, with a byte behind each part that ends it. */
FLTPORT_INLINE ULONGLONG FltPortHash_(ULONGLONG Hash, const void *Part, ULONG Length)
{
    const UCHAR *Byte = (const UCHAR *)Part;
    while (Length-- != 0)
        Hash = (Hash ^ *Byte++) * 0x100000001b3ULL;
    return (Hash ^ 0xff) * 0x100000001b3ULL;
}

FLTPORT_INLINE ULONGLONG FltPortHashName_(ULONGLONG Hash, const char *Name)
{
    return FltPortHash_(Hash, Name, FltPortLength_(Name));
}

FLTPORT_INLINE ULONGLONG FltPortHashFields_(ULONGLONG Hash, const FLTPORT_FIELD *Field)
{
    static const char Forms[] = "?efr";
    const FLTPORT_NAMED *Named;
    for (; Field != NULL && Field->Name != NULL; Field++) {
        UCHAR Kind = (UCHAR)Field->Kind;
        Hash = FltPortHashName_(Hash, Field->Name);
        Hash = FltPortHash_(Hash, &Kind, 1);
        if ((Field->Kind & 0x100) != 0 && !FltPortIsVariable_(Kind))
            Hash = FltPortHashName_(Hash, "?");
        if (Field->Definition == NULL)
            continue;
        Hash = FltPortHashName_(Hash, Field->Definition->Name);
        Hash = FltPortHash_(Hash, Forms + Field->Definition->Form, 1);
        if (Field->Definition->Form == FLTPORT_FORM_RECORD) {
            Hash = FltPortHashFields_(Hash, Field->Definition->Fields);
            continue;
        }
        for (Named = Field->Definition->Values; Named->Name != NULL; Named++)
            Hash = FltPortHashName_(FltPortHash_(Hash, &Named->Value, 4), Named->Name);
        Hash = FltPortHashName_(Hash, "|");
    }
    return FltPortHashName_(Hash, "|");
}

/* The schema's hash: it changes whenever a name, a type or an order does. IRQL: PASSIVE_LEVEL. */
FLTPORT_INLINE ULONGLONG FltPortHashSchema(const FLTPORT_SCHEMA *Schema)
{
    const FLTPORT_MESSAGE_TYPE *Type;
    ULONGLONG Hash = FltPortHashName_(0xcbf29ce484222325ULL, Schema->Name);
    for (Type = Schema->Messages; Type->Name != NULL; Type++) {
        Hash = FltPortHash_(Hash, &Type->Number, 2);
        Hash = FltPortHash_(Hash, &Type->Role, 1);
        Hash = FltPortHashName_(Hash, Type->Name);
        Hash = FltPortHashFields_(FltPortHashFields_(Hash, Type->Fields), Type->Reply);
    }
    return Hash;
}

/* Counts on when there is no room, so that the length comes out. */
FLTPORT_INLINE void FltPortPut_(FLTPORT_WRITER *Writer, const void *From, ULONG Length)
{
    if (Writer->Length <= Writer->Room && Length <= Writer->Room - Writer->Length)
        FltPortCopy_(Writer->Buffer + Writer->Length, From, Length);
    Writer->Length += Length;
}

FLTPORT_INLINE void FltPortPutNumber_(FLTPORT_WRITER *Writer, ULONGLONG Number, ULONG Bytes)
{
    FltPortPut_(Writer, &Number, Bytes);
}

FLTPORT_INLINE void FltPortPutName_(FLTPORT_WRITER *Writer, const char *Name)
{
    ULONG Length = FltPortLength_(Name);
    FltPortPutNumber_(Writer, Length, 1);
    FltPortPut_(Writer, Name, Length);
}

FLTPORT_INLINE ULONG FltPortCount_(const FLTPORT_FIELD *Field)
{
    ULONG Count = 0;
    while (Field != NULL && Field[Count].Name != NULL)
        Count++;
    return Count;
}

/* An item of the second version: its size, a tag, a detail, a body, a name. */
FLTPORT_INLINE void FltPortPutItem_(FLTPORT_WRITER *Writer, UCHAR Tag, UCHAR Detail, ULONG Body,
    ULONG BodyLength, const char *Name)
{
    FltPortPutNumber_(Writer, 5 + BodyLength + FltPortLength_(Name), 2);
    FltPortPutNumber_(Writer, Tag, 1);
    FltPortPutNumber_(Writer, Detail, 1);
    FltPortPutNumber_(Writer, Body, BodyLength);
    FltPortPutName_(Writer, Name);
}

/* Fields: in the first version (Types is NULL), or as items with this tag. */
FLTPORT_INLINE void FltPortPutFields_(FLTPORT_WRITER *Writer, const FLTPORT_FIELD *Field, UCHAR Tag,
    const FLTPORT_DEFINITION *const *Types)
{
    ULONG Offset = 0, Type;
    for (; Field != NULL && Field->Name != NULL; Field++) {
        if (Types == NULL) {
            /* The kind, and the flags behind it. */
            FltPortPutNumber_(Writer, Field->Kind, 2);
            FltPortPutNumber_(Writer, Offset, 2);
            FltPortPutName_(Writer, Field->Name);
        } else {
            for (Type = 0; Types[Type] != NULL && Types[Type] != Field->Definition; Type++)
                ;
            Type = Types[Type] != NULL ? Type + 1 : 0;
            FltPortPutItem_(Writer, Tag, (UCHAR)Field->Kind,
                Offset | (ULONG)(Field->Kind >> 8) << 16 | Type << 24, 4, Field->Name);
        }
        Offset += Field->Size;
    }
}

FLTPORT_INLINE void FltPortPutTypes_(FLTPORT_WRITER *Writer, const FLTPORT_DEFINITION *const *Types)
{
    const FLTPORT_DEFINITION *const *Type;
    const FLTPORT_NAMED *Named;
    for (Type = Types; *Type != NULL; Type++) {
        FltPortPutItem_(Writer, 1, (*Type)->Form, 0, 0, (*Type)->Name);
        for (Named = (*Type)->Values; Named != NULL && Named->Name != NULL; Named++)
            FltPortPutItem_(Writer, 2, 0, Named->Value, 4, Named->Name);
        FltPortPutFields_(Writer, (*Type)->Fields, 4, Types);
    }
}

/* FLTPORT_SCHEMA_WRITER. IRQL: PASSIVE_LEVEL. */
FLTPORT_INLINE ULONG FltPortWriteSchema(const FLTPORT_SCHEMA *Schema, PUCHAR Out, ULONG Room)
{
    const FLTPORT_DEFINITION *const *Types = Schema->Types[0] != NULL ? Schema->Types : NULL;
    const FLTPORT_MESSAGE_TYPE *Type;
    ULONG Count = 0, Items;
    FLTPORT_WRITER Writer;
    Writer.Buffer = Out;
    Writer.Room = Room;
    Writer.Length = 0;
    while (Schema->Messages[Count].Name != NULL)
        Count++;
    FltPortPut_(&Writer, "FPSC", 4);
    FltPortPutNumber_(&Writer, Types == NULL ? 1 : 2, 2);
    FltPortPutNumber_(&Writer, Count, 2);
    FltPortPutNumber_(&Writer, FltPortHashSchema(Schema), 8);
    FltPortPutName_(&Writer, Schema->Name);
    /* Of the second version, the bytes of all items; they are known when all have been put. */
    if (Types != NULL)
        FltPortPutNumber_(&Writer, 0, 4);
    Items = Writer.Length;
    if (Types != NULL)
        FltPortPutTypes_(&Writer, Types);
    for (Type = Schema->Messages; Type->Name != NULL; Type++) {
        if (Types == NULL) {
            FltPortPutNumber_(&Writer, Type->Number, 2);
            FltPortPutNumber_(&Writer, Type->Role, 1);
            FltPortPutNumber_(&Writer, FltPortCount_(Type->Fields), 1);
            FltPortPutNumber_(&Writer, FltPortCount_(Type->Reply), 2);
            FltPortPutName_(&Writer, Type->Name);
        } else {
            FltPortPutItem_(&Writer, 3, Type->Role, Type->Number, 2, Type->Name);
        }
        FltPortPutFields_(&Writer, Type->Fields, 4, Types);
        FltPortPutFields_(&Writer, Type->Reply, 5, Types);
    }
    Count = Writer.Length - Items;
    if (Types != NULL && Items <= Room)
        FltPortCopy_(Out + Items - 4, &Count, 4);
    return Writer.Length;
}

/* Zeroes a registration, and fills in what every one has; 16 KiB of Staging and 64 KiB of Backlog, to be
   changed at will. IRQL: any. */
FLTPORT_INLINE void FltPortInitialize(FLTPORT_REGISTRATION *Registration, const FLTPORT_SCHEMA *Schema,
    ULONG PoolTag)
{
    static const FLTPORT_REGISTRATION Nothing = { 0, 0, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0,
        0, 0, 0 };
    *Registration = Nothing;
    Registration->Size = sizeof(*Registration);
    Registration->Version = FLTPORT_VERSION;
    Registration->Schema = Schema;
    Registration->WriteSchema = FltPortWriteSchema;
    Registration->PoolTag = PoolTag;
    Registration->Staging = 16 * 1024;
    Registration->Backlog = 64 * 1024;
}

/* ---- Between the stub and the common driver ----
 *
 * Nothing here is for drivers. Both sides open the callback object and register with it; argument 1 says
 * what argument 2 is. When a revocation returns, nobody is inside a function of the table.
 */
#define FLTPORT_CALLBACK_NAME L"\\Callback\\FltPort"
#define FLTPORT_ANNOUNCE 1 /* the common driver is up: FLTPORT_INTERFACE */
#define FLTPORT_REVOKE 2   /* it goes: the same */
#define FLTPORT_ASK 3      /* a client driver looks for it: FLTPORT_QUESTION */

typedef struct _FLTPORT_DESCRIPTION {
    ULONG Size;
    ULONG Version;
    const void *Schema; /* encoded */
    ULONG SchemaLength;
    ULONG Backlog;
    ULONG BacklogPolicy;
    ULONG Reserved;
    FLTPORT_COMMAND_HANDLER *OnCommand;
    void *Context;
    /* Revision 1.1. */
    volatile ULONGLONG *Interest;
    FLTPORT_SNAPSHOT_ROUTINE *OnSnapshot;
    const FLTPORT_DEFAULT_REPLY *Defaults;
    ULONG DefaultCount;
    ULONG Quota;
    ULONG Rate;
    ULONG Burst;
    /* Bit n, the common driver's to keep: message n is a notification that nobody would hear. It is counted
       instead, in any of the rows of FLTPORT_UNHEARD_ROW counters, out of which the common driver takes it. */
    volatile ULONGLONG *Quiet;
    volatile ULONGLONG *Unheard;
    ULONG UnheardRows;
    ULONG Reserved2;
} FLTPORT_DESCRIPTION;

#define FLTPORT_UNHEARD_ROW (FLTPORT_MAX_MESSAGE_NUMBER + 1)
#define FLTPORT_MAX_UNHEARD_ROWS 64

typedef struct _FLTPORT_INTERFACE {
    ULONG Size;
    ULONG Version;
    NTSTATUS (*Register)(const FLTPORT_DESCRIPTION *, size_t *);
    void (*Unregister)(size_t);
    NTSTATUS (*Notify)(size_t, const FLTPORT_NOTIFICATION *);
    void (*Lost)(size_t, USHORT, USHORT, ULONGLONG);
    NTSTATUS (*Request)(size_t, FLTPORT_REQUEST *);
    UCHAR (*Listening)(size_t, USHORT);
    /* Revision 1.1. */
    NTSTATUS (*Reserve)(size_t, FLTPORT_RESERVATION *);
    NTSTATUS (*Commit)(size_t, size_t, USHORT, ULONG, LONGLONG);
    void (*Discard)(size_t, size_t);
    NTSTATUS (*Book)(size_t, USHORT, ULONG, ULONGLONG *);
    void (*Unbook)(size_t, ULONGLONG);
    NTSTATUS (*RequestAsync)(size_t, const FLTPORT_ASYNC_REQUEST *);
    NTSTATUS (*Statistics)(size_t, FLTPORT_STATISTICS *);
    NTSTATUS (*SnapshotAdd)(FLTPORT_SNAPSHOT, const FLTPORT_NOTIFICATION *);
    NTSTATUS (*SnapshotLive)(FLTPORT_SNAPSHOT);
} FLTPORT_INTERFACE;

typedef struct _FLTPORT_QUESTION {
    ULONG Size;
    ULONG Version; /* FLTPORT_VERSION of the client */
    const FLTPORT_INTERFACE *Interface; /* out: of the common driver, or NULL */
} FLTPORT_QUESTION;

/* What each had in revision 1.0: the least that is accepted. */
#define FLTPORT_NOTIFICATION_1_0 offsetof(FLTPORT_NOTIFICATION, Booking)
#define FLTPORT_REQUEST_1_0 offsetof(FLTPORT_REQUEST, Flags)
#define FLTPORT_DESCRIPTION_1_0 offsetof(FLTPORT_DESCRIPTION, Interest)
#define FLTPORT_INTERFACE_1_0 offsetof(FLTPORT_INTERFACE, Reserve)
#define FLTPORT_REGISTRATION_1_0 offsetof(FLTPORT_REGISTRATION, OnSnapshot)

#ifdef __cplusplus
}
#endif

#endif
