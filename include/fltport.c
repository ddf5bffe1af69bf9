/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The stub: what a client driver in C or C++ compiles to use the common driver; see fltport.h.
 *
 * A provider is in one of two states, staging or bound. Announcements and revocations come as callbacks,
 * at up to DISPATCH_LEVEL; the registration with the common driver needs PASSIVE_LEVEL, so a work item
 * does it. Whoever calls into the common driver is inside the gate; a revocation closes it, waits until
 * it is empty, unregisters, and opens it again.
 *
 * Needs Windows 10 2004 (ExAllocatePool2) or later.
 */
#include <ntddk.h>
#include "fltport.h"

#ifndef FLTPORT_IMPORT

#define STATUS_OF(number) ((NTSTATUS)(number))
#define DELETE_PENDING STATUS_OF(0xC0000056L)
#define DEVICE_NOT_READY STATUS_OF(0xC00000A3L)
#define INSUFFICIENT_RESOURCES STATUS_OF(0xC000009AL)
#define NOT_SUPPORTED STATUS_OF(0xC00000BBL)
#define INVALID_LEVEL STATUS_OF(0xC0000148L)
#define BUFFER_OVERFLOW STATUS_OF(0x80000005L)

#define EVERYTHING (~0ULL)
#define TYPES (FLTPORT_MAX_MESSAGE_NUMBER + 1)

/* The start of a staged notification; the payload follows. */
typedef struct _STAGED {
    LONGLONG Time;
    USHORT Message;
    USHORT Fixed;
    ULONG Length;
} STAGED;

struct _FLTPORT_PROVIDER {
    /* First: FltPortIsListening reads it. The common driver's while the provider is bound. */
    volatile ULONGLONG Interest;
    FLTPORT_DESCRIPTION Description;
    ULONG Tag;
    ULONGLONG Notifications; /* bit n: message n is one */
    ULONGLONG Requests;
    PCALLBACK_OBJECT Object;
    PVOID Registration;
    PIO_WORKITEM Work;
    volatile LONG Queued; /* and has not begun to run */
    EX_RUNDOWN_REF Working;
    EX_RUNDOWN_REF Gate;

    KSPIN_LOCK Lock; /* of all that follows */
    const FLTPORT_INTERFACE *Bound;
    size_t Handle;
    const FLTPORT_INTERFACE *Announced; /* to be bound to */
    BOOLEAN Binding; /* somebody registers now; a second one would find the name taken, by ourselves */
    BOOLEAN Leaving; /* the table is being revoked */
    BOOLEAN Ending;  /* the provider is being unregistered */

    /* The oldest notifications that fit, because early in a machine's life the beginning is what cannot
       be learnt otherwise; and how many were lost. */
    PUCHAR Staging;
    ULONG Room;
    ULONG Start; /* what lies before has been taken out */
    ULONG End;
    ULONG Booked; /* bytes behind End that only bookings may use */
    BOOLEAN AnyLost;
    ULONGLONG Lost[TYPES][FLTPORT_CAUSES];
};

/* A table of this size has the function that lies at this member. */
#define HAS(table, member) \
    ((table)->Size >= offsetof(FLTPORT_INTERFACE, member) + sizeof((table)->member))

static BOOLEAN IsOne(ULONGLONG Set, USHORT Message)
{
    return Message <= FLTPORT_MAX_MESSAGE_NUMBER && (Set >> Message & 1) != 0;
}

/* ---- The gate ---- */

/* IRQL: <= DISPATCH_LEVEL. In a critical region, so that nobody can draw out a revocation by suspending
   this thread. */
static BOOLEAN Enter(PFLTPORT_PROVIDER P)
{
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
        KeEnterCriticalRegion();
    if (ExAcquireRundownProtection(&P->Gate))
        return TRUE;
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
        KeLeaveCriticalRegion();
    return FALSE;
}

/* IRQL: that of Enter. */
static void Leave(PFLTPORT_PROVIDER P)
{
    ExReleaseRundownProtection(&P->Gate);
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
        KeLeaveCriticalRegion();
}

static const FLTPORT_INTERFACE *Bound(PFLTPORT_PROVIDER P, size_t *Handle)
{
    const FLTPORT_INTERFACE *Table;
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    Table = P->Bound;
    *Handle = P->Handle;
    KeReleaseSpinLock(&P->Lock, Irql);
    return Table;
}

/* The common driver, with the gate entered; NULL, and outside, if there is none. */
static const FLTPORT_INTERFACE *EnterBound(PFLTPORT_PROVIDER P, size_t *Handle)
{
    const FLTPORT_INTERFACE *Table;
    if (!Enter(P))
        return NULL;
    Table = Bound(P, Handle);
    if (Table == NULL)
        Leave(P);
    return Table;
}

/* ---- Staging: with the lock held ---- */

static void Lose(PFLTPORT_PROVIDER P, USHORT Message, USHORT Cause, ULONGLONG Count)
{
    if (Message >= TYPES || Cause >= FLTPORT_CAUSES)
        return;
    P->Lost[Message][Cause] += Count;
    P->AnyLost = TRUE;
}

static ULONG BytesOf(ULONG Length)
{
    return (ULONG)sizeof(STAGED) + Length;
}

/* IsBooked: there was room for it, which has been given back just now. */
static void Stage(PFLTPORT_PROVIDER P, const FLTPORT_NOTIFICATION *N, BOOLEAN IsBooked)
{
    STAGED Staged;
    if (N->Length > FLTPORT_MAX_PAYLOAD) {
        Lose(P, N->Message, FLTPORT_CAUSE_TOO_LARGE, 1);
        return;
    }
    /* Once something has been lost, everything behind it is, so that the loss has one place; but for what
       has its room. */
    if ((P->AnyLost && !IsBooked)
        || BytesOf(N->Length) > P->Room - P->End - P->Booked) {
        Lose(P, N->Message, FLTPORT_CAUSE_RING_FULL, 1);
        return;
    }
    Staged.Time = N->Time;
    Staged.Message = N->Message;
    Staged.Fixed = N->Fixed;
    Staged.Length = N->Length;
    RtlCopyMemory(P->Staging + P->End, &Staged, sizeof(Staged));
    RtlCopyMemory(P->Staging + P->End + sizeof(Staged), N->Payload, N->Length);
    P->End += BytesOf(N->Length);
}

/* Hands what was staged over to a common driver, in order and then what was lost; at most the staging
   buffer's bytes, once, under the lock so that what is offered from now on comes behind it. If the common
   driver has begun to go, the rest stays for the next one. */
static void Drain(PFLTPORT_PROVIDER P, const FLTPORT_INTERFACE *Table, size_t Handle)
{
    FLTPORT_NOTIFICATION N;
    STAGED Staged;
    USHORT Message, Cause;
    RtlZeroMemory(&N, sizeof(N));
    N.Size = sizeof(N);
    while (P->Start < P->End) {
        RtlCopyMemory(&Staged, P->Staging + P->Start, sizeof(Staged));
        N.Time = Staged.Time;
        N.Message = Staged.Message;
        N.Fixed = Staged.Fixed;
        N.Length = Staged.Length;
        N.Payload = P->Staging + P->Start + sizeof(Staged);
        if (Table->Notify(Handle, &N) == DELETE_PENDING)
            return;
        P->Start += BytesOf(Staged.Length);
    }
    P->Start = P->End = 0;
    P->AnyLost = FALSE;
    for (Message = 0; Message < TYPES; Message++)
        for (Cause = 0; Cause < FLTPORT_CAUSES; Cause++)
            if (P->Lost[Message][Cause] != 0) {
                Table->Lost(Handle, Message, Cause, P->Lost[Message][Cause]);
                P->Lost[Message][Cause] = 0;
            }
}

/* ---- Binding ---- */

/* IRQL: PASSIVE_LEVEL. Without a common driver, whatever is offered is wanted. */
static void UnregisterFrom(PFLTPORT_PROVIDER P, const FLTPORT_INTERFACE *Table, size_t Handle)
{
    Table->Unregister(Handle);
    P->Interest = EVERYTHING;
}

/* The table at this address, unless it is of another version, or shorter than this client needs. */
static const FLTPORT_INTERFACE *Known(PVOID Address)
{
    const FLTPORT_INTERFACE *Table = (const FLTPORT_INTERFACE *)Address;
    if (Table != NULL && Table->Version == FLTPORT_VERSION && Table->Size >= FLTPORT_INTERFACE_1_0)
        return Table;
    return NULL;
}

/* IRQL: PASSIVE_LEVEL, in the gate. Registers with the table that was announced, if any, and hands over
   what was staged. */
static NTSTATUS Bind(PFLTPORT_PROVIDER P)
{
    const FLTPORT_INTERFACE *Table = NULL;
    NTSTATUS Status;
    size_t Handle = 0;
    BOOLEAN Ending;
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    if (!P->Binding && P->Bound == NULL && !P->Ending) {
        Table = P->Announced;
        P->Binding = Table != NULL;
    }
    P->Announced = NULL;
    KeReleaseSpinLock(&P->Lock, Irql);
    if (Table == NULL)
        return STATUS_SUCCESS;
    Status = Table->Register(&P->Description, &Handle);
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Binding = FALSE;
    Ending = P->Ending;
    if (Status == STATUS_SUCCESS) {
        Drain(P, Table, Handle);
        if (!Ending) {
            P->Bound = Table;
            P->Handle = Handle;
        }
    } else {
        P->Interest = EVERYTHING;
    }
    KeReleaseSpinLock(&P->Lock, Irql);
    if (Status == STATUS_SUCCESS && Ending)
        UnregisterFrom(P, Table, Handle);
    return Status;
}

static IO_WORKITEM_ROUTINE_EX BindLater;
static VOID BindLater(PVOID IoObject, PVOID Context, PIO_WORKITEM Work)
{
    PFLTPORT_PROVIDER P = (PFLTPORT_PROVIDER)Context;
    (void)IoObject;
    (void)Work;
    InterlockedExchange(&P->Queued, 0);
    if (Enter(P)) {
        /* An error has nobody to go to: notifications stay staged, and the next announcement tries
           again. */
        (void)Bind(P);
        Leave(P);
    }
    /* Last: after this the provider may be freed. */
    ExReleaseRundownProtection(&P->Working);
}

/* IRQL: <= DISPATCH_LEVEL. */
static void Announced(PFLTPORT_PROVIDER P, const FLTPORT_INTERFACE *Table)
{
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Announced = Table;
    KeReleaseSpinLock(&P->Lock, Irql);
    if (InterlockedExchange(&P->Queued, 1) == 0 && ExAcquireRundownProtection(&P->Working))
        IoQueueWorkItemEx(P->Work, BindLater, DelayedWorkQueue, P);
}

/* Takes the binding out, so that one caller alone unregisters it. */
static const FLTPORT_INTERFACE *TakeBound(PFLTPORT_PROVIDER P, size_t *Handle, BOOLEAN Revoked)
{
    const FLTPORT_INTERFACE *Table;
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    Table = P->Bound;
    *Handle = P->Handle;
    P->Bound = NULL;
    if (Revoked) {
        P->Announced = NULL;
        P->Leaving = FALSE;
    }
    KeReleaseSpinLock(&P->Lock, Irql);
    return Table;
}

/* IRQL: PASSIVE_LEVEL. The common driver goes: its table is let go of before this returns. */
static void Revoked(PFLTPORT_PROVIDER P)
{
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Announced = NULL;
    P->Leaving = TRUE;
    KeReleaseSpinLock(&P->Lock, Irql);
    ExWaitForRundownProtectionRelease(&P->Gate);
    ExRundownCompleted(&P->Gate);
    /* Nobody is inside, and nobody can come in: not a caller, not a binder. */
    Table = TakeBound(P, &Handle, TRUE);
    if (Table != NULL)
        UnregisterFrom(P, Table, Handle);
    ExReInitializeRundownProtection(&P->Gate);
}

static CALLBACK_FUNCTION Heard;
static VOID Heard(PVOID Context, PVOID What, PVOID Of)
{
    PFLTPORT_PROVIDER P = (PFLTPORT_PROVIDER)Context;
    if (What == (PVOID)FLTPORT_ANNOUNCE && Known(Of) != NULL)
        Announced(P, Known(Of));
    else if (What == (PVOID)FLTPORT_REVOKE)
        Revoked(P);
}

/* IRQL: PASSIVE_LEVEL. Binds to the common driver that is there already, if any. */
static NTSTATUS AskAndBind(PFLTPORT_PROVIDER P)
{
    FLTPORT_QUESTION Question;
    NTSTATUS Status = STATUS_SUCCESS;
    KIRQL Irql;
    Question.Size = sizeof(Question);
    Question.Version = FLTPORT_VERSION;
    Question.Interface = NULL;
    /* From before the question: a revocation that begins behind the answer waits until it has been
       used. */
    if (!Enter(P))
        return STATUS_SUCCESS;
    ExNotifyCallback(P->Object, (PVOID)FLTPORT_ASK, &Question);
    if (Known((PVOID)Question.Interface) != NULL) {
        KeAcquireSpinLock(&P->Lock, &Irql);
        P->Announced = Question.Interface;
        KeReleaseSpinLock(&P->Lock, Irql);
        Status = Bind(P);
    }
    Leave(P);
    return Status;
}

/* ---- Registering ---- */

static PVOID Allocate(ULONG Tag, SIZE_T Bytes)
{
    return ExAllocatePool2(POOL_FLAG_NON_PAGED, Bytes, Tag);
}

/* The registration as far as its author's revision has it. */
static NTSTATUS ReadRegistration(FLTPORT_REGISTRATION *To, const FLTPORT_REGISTRATION *From)
{
    if (From == NULL || From->Size < FLTPORT_REGISTRATION_1_0)
        return STATUS_INVALID_PARAMETER;
    RtlZeroMemory(To, sizeof(*To));
    RtlCopyMemory(To, From, From->Size < sizeof(*To) ? From->Size : sizeof(*To));
    if (To->Version != FLTPORT_VERSION)
        return STATUS_OF(0xC0000059L); /* STATUS_REVISION_MISMATCH */
    if (To->Schema == NULL || To->WriteSchema == NULL || To->BacklogPolicy > FLTPORT_KEEP_OLDEST)
        return STATUS_INVALID_PARAMETER;
    return STATUS_SUCCESS;
}

static void NoteRoles(PFLTPORT_PROVIDER P, const FLTPORT_MESSAGE_TYPE *Type)
{
    for (; Type->Name != NULL; Type++) {
        ULONGLONG Bit = 1ULL << (Type->Number & 63);
        if (Type->Role == FLTPORT_ROLE_NOTIFICATION)
            P->Notifications |= Bit;
        else if (Type->Role == FLTPORT_ROLE_REQUEST)
            P->Requests |= Bit;
    }
}

static void Describe(PFLTPORT_PROVIDER P, const FLTPORT_REGISTRATION *R, ULONG SchemaLength)
{
    FLTPORT_DESCRIPTION *D = &P->Description;
    D->Size = sizeof(*D);
    D->Version = FLTPORT_VERSION;
    D->SchemaLength = SchemaLength;
    D->Backlog = R->Backlog;
    D->BacklogPolicy = R->BacklogPolicy;
    D->OnCommand = R->OnCommand;
    D->Context = R->Context;
    D->Interest = &P->Interest;
    D->OnSnapshot = R->OnSnapshot;
    D->Defaults = R->Defaults;
    D->DefaultCount = R->DefaultCount;
    D->Quota = R->Quota;
    D->Rate = R->Rate;
    D->Burst = R->Burst;
}

/* Frees a provider that nobody can come to any more, as far as it was made. */
static void Free(PFLTPORT_PROVIDER P)
{
    if (P->Registration != NULL)
        ExUnregisterCallback(P->Registration);
    if (P->Work != NULL) {
        ExWaitForRundownProtectionRelease(&P->Working);
        IoUninitializeWorkItem(P->Work);
        ExFreePoolWithTag(P->Work, P->Tag);
    }
    if (P->Object != NULL)
        ObDereferenceObject(P->Object);
    if (P->Staging != NULL)
        ExFreePoolWithTag(P->Staging, P->Tag);
    if (P->Description.Schema != NULL)
        ExFreePoolWithTag((PVOID)P->Description.Schema, P->Tag);
    ExFreePoolWithTag(P, P->Tag);
}

/* What a provider consists of, but for its callback. */
static NTSTATUS Make(PFLTPORT_PROVIDER P, PDRIVER_OBJECT DriverObject, const FLTPORT_REGISTRATION *R)
{
    ULONG Length = R->WriteSchema(R->Schema, NULL, 0);
    UNICODE_STRING Name;
    OBJECT_ATTRIBUTES Attributes;
    PUCHAR Schema;
    if (Length > FLTPORT_MAX_SCHEMA)
        return STATUS_INVALID_PARAMETER;
    Schema = (PUCHAR)Allocate(P->Tag, Length);
    P->Description.Schema = Schema;
    P->Room = R->Staging;
    P->Staging = (PUCHAR)Allocate(P->Tag, R->Staging != 0 ? R->Staging : 1);
    P->Work = (PIO_WORKITEM)Allocate(P->Tag, IoSizeofWorkItem());
    if (P->Work != NULL)
        IoInitializeWorkItem(DriverObject, P->Work);
    if (Schema == NULL || P->Staging == NULL || P->Work == NULL)
        return INSUFFICIENT_RESOURCES;
    R->WriteSchema(R->Schema, Schema, Length);
    NoteRoles(P, R->Schema->Messages);
    Describe(P, R, Length);
    RtlInitUnicodeString(&Name, FLTPORT_CALLBACK_NAME);
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    return ExCreateCallback(&P->Object, &Attributes, TRUE, TRUE);
}

NTSTATUS FltPortRegister(struct _DRIVER_OBJECT *DriverObject, const FLTPORT_REGISTRATION *Registration,
    PFLTPORT_PROVIDER *Provider)
{
    FLTPORT_REGISTRATION R;
    PFLTPORT_PROVIDER P;
    NTSTATUS Status = ReadRegistration(&R, Registration);
    if (Status != STATUS_SUCCESS)
        return Status;
    P = (PFLTPORT_PROVIDER)Allocate(R.PoolTag, sizeof(*P));
    if (P == NULL)
        return INSUFFICIENT_RESOURCES;
    P->Tag = R.PoolTag;
    P->Interest = EVERYTHING;
    ExInitializeRundownProtection(&P->Working);
    ExInitializeRundownProtection(&P->Gate);
    KeInitializeSpinLock(&P->Lock);
    Status = Make(P, DriverObject, &R);
    if (Status == STATUS_SUCCESS) {
        P->Registration = ExRegisterCallback(P->Object, Heard, P);
        Status = P->Registration != NULL ? STATUS_SUCCESS : INSUFFICIENT_RESOURCES;
    }
    /* From here on an announcement is heard; one that came before is asked for. */
    if (Status == STATUS_SUCCESS)
        Status = AskAndBind(P);
    if (Status != STATUS_SUCCESS) {
        FltPortUnregister(P);
        return Status;
    }
    *Provider = P;
    return STATUS_SUCCESS;
}

void FltPortUnregister(PFLTPORT_PROVIDER Provider)
{
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    KIRQL Irql;
    if (Provider == NULL)
        return;
    KeAcquireSpinLock(&Provider->Lock, &Irql);
    Provider->Ending = TRUE;
    KeReleaseSpinLock(&Provider->Lock, Irql);
    /* If the gate was closed just now, the common driver is being unloaded and unbinds; the end of the
       callback's registration waits for that. */
    if (Enter(Provider)) {
        Table = TakeBound(Provider, &Handle, FALSE);
        if (Table != NULL)
            UnregisterFrom(Provider, Table, Handle);
        Leave(Provider);
    }
    Free(Provider);
}

/* ---- Notifications ---- */

/* The notification as far as its author's revision has it, and with its time. */
static NTSTATUS ReadNotification(FLTPORT_NOTIFICATION *To, const FLTPORT_NOTIFICATION *From)
{
    LARGE_INTEGER Now;
    if (From == NULL || From->Size < FLTPORT_NOTIFICATION_1_0)
        return STATUS_INVALID_PARAMETER;
    RtlZeroMemory(To, sizeof(*To));
    RtlCopyMemory(To, From, From->Size < sizeof(*To) ? From->Size : sizeof(*To));
    To->Size = sizeof(*To);
    if (To->Fixed > To->Length || (To->Length != 0 && To->Payload == NULL))
        return STATUS_INVALID_PARAMETER;
    if (To->Time == 0) {
        KeQuerySystemTimePrecise(&Now);
        To->Time = Now.QuadPart;
    }
    return STATUS_SUCCESS;
}

/* Offers a notification, with room in the staging buffer if Staged, its bytes, is not 0. */
static NTSTATUS Offer(PFLTPORT_PROVIDER P, FLTPORT_NOTIFICATION *N, ULONG Staged)
{
    NTSTATUS Status = STATUS_SUCCESS;
    BOOLEAN Done = FALSE;
    while (!Done) {
        const FLTPORT_INTERFACE *Table = NULL;
        size_t Handle;
        KIRQL Irql;
        /* To the end: while somebody is inside, a binding that was seen does not end. */
        BOOLEAN Inside = Enter(P);
        if (Inside)
            Table = Bound(P, &Handle);
        if (Table != NULL) {
            Status = Table->Notify(Handle, N);
            /* DELETE_PENDING: it has begun to go. What it does not take is kept for the next. */
            Done = Status != DELETE_PENDING;
        }
        KeAcquireSpinLock(&P->Lock, &Irql);
        if (Done || Table != NULL || P->Leaving || P->Bound == NULL) {
            P->Booked -= Staged;
            if (!Done) {
                Stage(P, N, Staged != 0);
                Status = STATUS_SUCCESS;
            }
            Done = TRUE;
        }
        /* Else it was bound since we looked: the staging buffer has been emptied, and what is put there
           now would lie there. At most once per binding. */
        KeReleaseSpinLock(&P->Lock, Irql);
        if (Inside)
            Leave(P);
    }
    return Status;
}

NTSTATUS FltPortNotifyEx(PFLTPORT_PROVIDER P, const FLTPORT_NOTIFICATION *Notification)
{
    FLTPORT_NOTIFICATION N;
    if (ReadNotification(&N, Notification) != STATUS_SUCCESS || !IsOne(P->Notifications, N.Message))
        return STATUS_INVALID_PARAMETER;
    return Offer(P, &N, 0);
}

NTSTATUS FltPortNotify(PFLTPORT_PROVIDER Provider, USHORT Message, USHORT Fixed, const void *Payload,
    ULONG Length)
{
    return FltPortNotifyBooked(Provider, Message, Fixed, Payload, Length, NULL);
}

void FltPortLost(PFLTPORT_PROVIDER P, USHORT Message, USHORT Cause, ULONGLONG Count)
{
    BOOLEAN Done = (BOOLEAN)!IsOne(P->Notifications, Message);
    while (!Done) {
        size_t Handle;
        KIRQL Irql;
        const FLTPORT_INTERFACE *Table = EnterBound(P, &Handle);
        if (Table != NULL) {
            Table->Lost(Handle, Message, Cause, Count);
            Leave(P);
            return;
        }
        KeAcquireSpinLock(&P->Lock, &Irql);
        Done = (BOOLEAN)(P->Leaving || P->Bound == NULL);
        if (Done)
            Lose(P, Message, Cause, Count);
        KeReleaseSpinLock(&P->Lock, Irql);
    }
}

/* ---- Filled in where they lie ---- */

/* In FLTPORT_RESERVATION.Reserved2: the memory is the stub's. */
#define LENT 1

static NTSTATUS Lend(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R)
{
    R->Payload = (PUCHAR)Allocate(P->Tag, R->Length != 0 ? R->Length : 1);
    R->Reserved2 = LENT;
    if (R->Payload != NULL)
        return STATUS_SUCCESS;
    FltPortLost(P, R->Message, FLTPORT_CAUSE_NO_MEMORY, 1);
    return INSUFFICIENT_RESOURCES;
}

NTSTATUS FltPortReserve(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R)
{
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    NTSTATUS Status = DELETE_PENDING;
    if (R == NULL || R->Size < sizeof(*R) || !IsOne(P->Notifications, R->Message))
        return STATUS_INVALID_PARAMETER;
    if (R->Length > FLTPORT_MAX_PAYLOAD) {
        FltPortLost(P, R->Message, FLTPORT_CAUSE_TOO_LARGE, 1);
        return BUFFER_OVERFLOW;
    }
    R->Reserved = 0;
    R->Reserved2 = 0;
    Table = EnterBound(P, &Handle);
    if (Table != NULL) {
        if (HAS(Table, Reserve))
            Status = Table->Reserve(Handle, R);
        /* Inside until FltPortCommit or FltPortDiscard. */
        if (Status == STATUS_SUCCESS)
            return Status;
        Leave(P);
    }
    return Status == DELETE_PENDING ? Lend(P, R) : Status;
}

static NTSTATUS CommitLent(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R, USHORT Fixed, ULONG Length,
    LONGLONG Time)
{
    FLTPORT_NOTIFICATION N;
    NTSTATUS Status = STATUS_INVALID_PARAMETER;
    RtlZeroMemory(&N, sizeof(N));
    N.Size = sizeof(N);
    N.Message = R->Message;
    N.Fixed = Fixed;
    N.Time = Time;
    N.Payload = R->Payload;
    N.Length = Length;
    if (Length <= R->Length)
        Status = FltPortNotifyEx(P, &N);
    ExFreePoolWithTag(R->Payload, P->Tag);
    return Status;
}

NTSTATUS FltPortCommit(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R, USHORT Fixed, ULONG Length,
    LONGLONG Time)
{
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    NTSTATUS Status;
    KIRQL Irql;
    if (R->Reserved2 == LENT)
        return CommitLent(P, R, Fixed, Length, Time);
    Table = Bound(P, &Handle);
    Status = Table->Commit(Handle, R->Handle, Fixed, Length, Time);
    if (Status == DELETE_PENDING) {
        /* It has begun to go, and what it lent is gone: the next one is told of the loss. */
        KeAcquireSpinLock(&P->Lock, &Irql);
        Lose(P, R->Message, FLTPORT_CAUSE_SHUTTING_DOWN, 1);
        KeReleaseSpinLock(&P->Lock, Irql);
        Status = STATUS_SUCCESS;
    }
    Leave(P);
    return Status;
}

void FltPortDiscard(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R)
{
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    if (R->Reserved2 == LENT) {
        ExFreePoolWithTag(R->Payload, P->Tag);
        return;
    }
    Table = Bound(P, &Handle);
    Table->Discard(Handle, R->Handle);
    Leave(P);
}

/* ---- The guaranteed lane ---- */

NTSTATUS FltPortBook(PFLTPORT_PROVIDER P, USHORT Message, ULONG Length, PFLTPORT_BOOKING Booking)
{
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    KIRQL Irql;
    NTSTATUS Status = DELETE_PENDING;
    RtlZeroMemory(Booking, sizeof(*Booking));
    if (!IsOne(P->Notifications, Message) || Length > FLTPORT_MAX_PAYLOAD)
        return STATUS_INVALID_PARAMETER;
    /* In any case, for the time without a common driver. */
    KeAcquireSpinLock(&P->Lock, &Irql);
    if (BytesOf(Length) <= P->Room - P->End - P->Booked)
        Booking->Staged = BytesOf(Length);
    P->Booked += Booking->Staged;
    KeReleaseSpinLock(&P->Lock, Irql);
    Table = EnterBound(P, &Handle);
    if (Table != NULL) {
        Status = HAS(Table, Book) ? Table->Book(Handle, Message, Length, &Booking->Number) : NOT_SUPPORTED;
        Leave(P);
    }
    if (Status == DELETE_PENDING)
        Status = Booking->Staged != 0 ? STATUS_SUCCESS : INSUFFICIENT_RESOURCES;
    if (Status != STATUS_SUCCESS)
        FltPortUnbook(P, Booking);
    return Status;
}

void FltPortUnbook(PFLTPORT_PROVIDER P, PFLTPORT_BOOKING Booking)
{
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Booked -= Booking->Staged;
    KeReleaseSpinLock(&P->Lock, Irql);
    Table = Booking->Number != 0 ? EnterBound(P, &Handle) : NULL;
    if (Table != NULL) {
        if (HAS(Table, Unbook))
            Table->Unbook(Handle, Booking->Number);
        Leave(P);
    }
    RtlZeroMemory(Booking, sizeof(*Booking));
}

NTSTATUS FltPortNotifyBooked(PFLTPORT_PROVIDER P, USHORT Message, USHORT Fixed, const void *Payload,
    ULONG Length, PFLTPORT_BOOKING Booking)
{
    FLTPORT_NOTIFICATION From, N;
    ULONG Staged = Booking != NULL ? Booking->Staged : 0;
    RtlZeroMemory(&From, sizeof(From));
    From.Size = sizeof(From);
    From.Message = Message;
    From.Fixed = Fixed;
    From.Payload = Payload;
    From.Length = Length;
    From.Booking = Booking != NULL ? Booking->Number : 0;
    if (ReadNotification(&N, &From) != STATUS_SUCCESS || !IsOne(P->Notifications, Message))
        return STATUS_INVALID_PARAMETER;
    if (Booking != NULL)
        RtlZeroMemory(Booking, sizeof(*Booking));
    return Offer(P, &N, Staged);
}

/* ---- Requests ---- */

static const FLTPORT_DEFAULT_REPLY *Declared(PFLTPORT_PROVIDER P, USHORT Message, ULONG Length)
{
    ULONG i;
    for (i = 0; i < P->Description.DefaultCount; i++) {
        const FLTPORT_DEFAULT_REPLY *Default = &P->Description.Defaults[i];
        if (Default->Message == Message && Default->Length == Length)
            return Default;
    }
    return NULL;
}

static BOOLEAN MayAsk(PFLTPORT_PROVIDER P, USHORT Message, USHORT Fixed, ULONG Length, ULONG DeadlineMs,
    ULONG ReplyLength, ULONG Flags)
{
    return (BOOLEAN)(IsOne(P->Requests, Message) && Fixed <= Length && DeadlineMs != 0
        && DeadlineMs <= FLTPORT_MAX_DEADLINE_MS && ReplyLength <= FLTPORT_MAX_REPLY
        && (Flags & ~(ULONG)FLTPORT_REQUEST_DECLARED_DEFAULT) == 0
        && (Flags == 0 || Declared(P, Message, ReplyLength) != NULL));
}

NTSTATUS FltPortRequest(PFLTPORT_PROVIDER P, PFLTPORT_REQUEST Request)
{
    FLTPORT_REQUEST R;
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    NTSTATUS Status = DELETE_PENDING;
    if (KeGetCurrentIrql() > APC_LEVEL)
        return INVALID_LEVEL;
    if (Request == NULL || Request->Size < FLTPORT_REQUEST_1_0)
        return STATUS_INVALID_PARAMETER;
    RtlZeroMemory(&R, sizeof(R));
    RtlCopyMemory(&R, Request, Request->Size < sizeof(R) ? Request->Size : sizeof(R));
    R.Size = sizeof(R);
    if (R.Reply == NULL || !MayAsk(P, R.Message, R.Fixed, R.Length, R.DeadlineMs, R.ReplyLength, R.Flags))
        return STATUS_INVALID_PARAMETER;
    /* Here and not by the common driver, which may be too old for it, or not be there. */
    if (R.Flags != 0)
        RtlCopyMemory(R.Reply, Declared(P, R.Message, R.ReplyLength)->Reply, R.ReplyLength);
    R.Flags = 0;
    R.Outcome = FLTPORT_OUTCOME_NO_DECIDER;
    R.WaitedUs = 0;
    /* Inside while waiting, so that the common driver cannot go; it ends all connections, and so this
       wait, before it waits for us. */
    Table = EnterBound(P, &Handle);
    if (Table != NULL) {
        Status = Table->Request(Handle, &R);
        Leave(P);
    }
    Request->Outcome = R.Outcome;
    if (Request->Size >= sizeof(R))
        Request->WaitedUs = R.WaitedUs;
    return Status == DELETE_PENDING ? STATUS_SUCCESS : Status;
}

NTSTATUS FltPortRequestAsync(PFLTPORT_PROVIDER P, const FLTPORT_ASYNC_REQUEST *Request)
{
    const FLTPORT_ASYNC_REQUEST *R = Request;
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    NTSTATUS Status;
    if (R == NULL || R->Size < sizeof(*R) || R->OnCompletion == NULL
        || !MayAsk(P, R->Message, R->Fixed, R->Length, R->DeadlineMs, R->ReplyLength, R->Flags))
        return STATUS_INVALID_PARAMETER;
    Table = EnterBound(P, &Handle);
    if (Table == NULL)
        return DEVICE_NOT_READY;
    Status = HAS(Table, RequestAsync) ? Table->RequestAsync(Handle, R) : NOT_SUPPORTED;
    Leave(P);
    return Status == DELETE_PENDING ? DEVICE_NOT_READY : Status;
}

/* ---- Accounts and snapshots ---- */

NTSTATUS FltPortQueryStatistics(PFLTPORT_PROVIDER P, PFLTPORT_STATISTICS Statistics)
{
    size_t Handle;
    NTSTATUS Status;
    const FLTPORT_INTERFACE *Table = EnterBound(P, &Handle);
    if (Table == NULL)
        return DEVICE_NOT_READY;
    Status = HAS(Table, Statistics) ? Table->Statistics(Handle, Statistics) : NOT_SUPPORTED;
    Leave(P);
    return Status;
}

NTSTATUS FltPortSnapshotAdd(PFLTPORT_PROVIDER P, FLTPORT_SNAPSHOT Snapshot,
    const FLTPORT_NOTIFICATION *Notification)
{
    size_t Handle;
    NTSTATUS Status;
    const FLTPORT_INTERFACE *Table = EnterBound(P, &Handle);
    if (Table == NULL)
        return DELETE_PENDING;
    Status = HAS(Table, SnapshotAdd) ? Table->SnapshotAdd(Snapshot, Notification) : NOT_SUPPORTED;
    Leave(P);
    return Status;
}

NTSTATUS FltPortSnapshotLive(PFLTPORT_PROVIDER P, FLTPORT_SNAPSHOT Snapshot)
{
    size_t Handle;
    NTSTATUS Status;
    const FLTPORT_INTERFACE *Table = EnterBound(P, &Handle);
    if (Table == NULL)
        return DELETE_PENDING;
    Status = HAS(Table, SnapshotLive) ? Table->SnapshotLive(Snapshot) : NOT_SUPPORTED;
    Leave(P);
    return Status;
}

#endif
