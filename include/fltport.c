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

#define EVERYTHING (~0ULL)
#define TYPES (FLTPORT_MAX_MESSAGE_NUMBER + 1)
/* Rows of counters for what nobody hears, so that processors seldom meet in one; 4 KiB in all. */
#define UNHEARD_ROWS 8
/* A table of revision 1.1 ends with this function. */
#define INTERFACE_1_1 (offsetof(FLTPORT_INTERFACE, SnapshotLive) + sizeof(void *))

/* The start of a staged notification; the payload follows. */
typedef struct _STAGED {
    LONGLONG Time;
    USHORT Message;
    USHORT Fixed;
    ULONG Length;
} STAGED;

/* Behind it, in the same allocation: the gate, the work item, the encoded schema, the staging buffer. */
struct _FLTPORT_PROVIDER {
    /* First: FltPortIsListening reads it. The common driver's while the provider is bound. */
    volatile ULONGLONG Interest;
    /* What nobody would hear is counted: the common driver's, too, and 0 without one. */
    volatile ULONGLONG Quiet;
    FLTPORT_DESCRIPTION Description;
    ULONG Tag;
    ULONGLONG Notifications; /* bit n: message n is one */
    ULONGLONG Requests;
    PCALLBACK_OBJECT Object;
    PVOID Registration;
    PIO_WORKITEM Work;
    volatile LONG Queued; /* and has not begun to run */
    EX_RUNDOWN_REF Working;
    PEX_RUNDOWN_REF_CACHE_AWARE Gate; /* behind this struct */

    KSPIN_LOCK Lock; /* of all that follows */
    /* The common driver, and the provider there. They stay what they are while anybody is inside who has
       seen IsBound. */
    const FLTPORT_INTERFACE *Table;
    size_t Handle;
    volatile LONG IsBound; /* read without the lock, too */
    BOOLEAN Binding; /* somebody registers now; a second one would find the name taken, by ourselves */
    BOOLEAN Leaving; /* the table is being revoked */
    BOOLEAN Ending;  /* the provider is being unregistered */
    const FLTPORT_INTERFACE *Announced; /* to be bound to */

    /* The oldest notifications that fit, because early in a machine's life the beginning is what cannot
       be learnt otherwise; and how many were lost. */
    PUCHAR Staging;
    ULONG Room;
    ULONG Start; /* what lies before has been taken out */
    ULONG End;
    ULONG Booked; /* bytes behind End that only bookings may use */
    BOOLEAN AnyLost;
    ULONGLONG Lost[TYPES][FLTPORT_CAUSES];
    volatile ULONGLONG Unheard[UNHEARD_ROWS][FLTPORT_UNHEARD_ROW]; /* without the lock */
};

static BOOLEAN IsOne(ULONGLONG Set, USHORT Message)
{
    return Message <= FLTPORT_MAX_MESSAGE_NUMBER && (Set >> Message & 1) != 0;
}

/* A struct as far as its author's revision has it, which its size says; the rest is 0. FALSE: it is
   shorter than in the first one. */
static BOOLEAN Revised(void *To, ULONG Room, const void *From, ULONG First)
{
    ULONG Size = From != NULL ? *(const ULONG *)From : 0;
    if (Size < First)
        return FALSE;
    RtlZeroMemory(To, Room);
    RtlCopyMemory(To, From, Size < Room ? Size : Room);
    *(ULONG *)To = Room;
    return TRUE;
}

/* ---- The gate ---- */

/* Whoever sees it set sees Table and Handle as well, without the lock: each message passes here, and
   processors are to share nothing that is written. */
static BOOLEAN IsBound(const struct _FLTPORT_PROVIDER *P)
{
#ifdef __GNUC__
    return (BOOLEAN)__atomic_load_n(&P->IsBound, __ATOMIC_ACQUIRE);
#else
    return (BOOLEAN)ReadAcquire(&P->IsBound);
#endif
}

/* With the lock held. */
static void SetBound(PFLTPORT_PROVIDER P, BOOLEAN Value)
{
#ifdef __GNUC__
    __atomic_store_n(&P->IsBound, Value, __ATOMIC_RELEASE);
#else
    WriteRelease(&P->IsBound, Value);
#endif
}

/* IRQL: <= DISPATCH_LEVEL. In a critical region, so that nobody can draw out a revocation by suspending
   this thread. */
static BOOLEAN Enter(PFLTPORT_PROVIDER P)
{
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
        KeEnterCriticalRegion();
    if (ExAcquireRundownProtectionCacheAware(P->Gate))
        return TRUE;
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
        KeLeaveCriticalRegion();
    return FALSE;
}

/* IRQL: that of Enter. */
static void Leave(PFLTPORT_PROVIDER P)
{
    ExReleaseRundownProtectionCacheAware(P->Gate);
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
        KeLeaveCriticalRegion();
}

/* Enters the gate, if there is a common driver. */
static BOOLEAN EnterBound(PFLTPORT_PROVIDER P)
{
    if (!Enter(P))
        return FALSE;
    if (IsBound(P))
        return TRUE;
    Leave(P);
    return FALSE;
}

/* Enters the gate, or, if there is no common driver, acquires the lock: what is staged before it is
   released the next one will get. */
static BOOLEAN EnterBoundOrLock(PFLTPORT_PROVIDER P, KIRQL *Irql)
{
    for (;;) {
        if (EnterBound(P))
            return TRUE;
        KeAcquireSpinLock(&P->Lock, Irql);
        if (P->Leaving || !IsBound(P))
            return FALSE;
        /* It was bound since we looked: the staging buffer has been emptied, and what is put there now
           would lie there. At most once per binding. */
        KeReleaseSpinLock(&P->Lock, *Irql);
    }
}

/* Enters the gate for a function that came with revision 1.1; outside without success. */
static NTSTATUS EnterBound_1_1(PFLTPORT_PROVIDER P)
{
    if (!EnterBound(P))
        return STATUS_DEVICE_NOT_READY;
    if (P->Table->Size >= INTERFACE_1_1)
        return STATUS_SUCCESS;
    Leave(P);
    return STATUS_NOT_SUPPORTED;
}

/* Leaves it with what a function said. A common driver that has begun to go is none. */
static NTSTATUS LeaveWith(PFLTPORT_PROVIDER P, NTSTATUS Status)
{
    Leave(P);
    return Status == STATUS_DELETE_PENDING ? STATUS_DEVICE_NOT_READY : Status;
}

/* ---- Staging: with the lock held ---- */

static void Lose(PFLTPORT_PROVIDER P, USHORT Message, USHORT Cause, ULONGLONG Count)
{
    if (Message >= TYPES || Cause >= FLTPORT_CAUSES)
        return;
    P->Lost[Message][Cause] += Count;
    /* What a common driver lost at its end came before all that is staged. */
    if (Cause != FLTPORT_CAUSE_SHUTTING_DOWN)
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
    LARGE_INTEGER Now;
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
    Now.QuadPart = N->Time;
    if (Now.QuadPart == 0)
        KeQuerySystemTimePrecise(&Now);
    Staged.Time = Now.QuadPart;
    Staged.Message = N->Message;
    Staged.Fixed = N->Fixed;
    Staged.Length = N->Length;
    RtlCopyMemory(P->Staging + P->End, &Staged, sizeof(Staged));
    RtlCopyMemory(P->Staging + P->End + sizeof(Staged), N->Payload, N->Length);
    P->End += BytesOf(N->Length);
}

static void Describe(FLTPORT_NOTIFICATION *N, USHORT Message, USHORT Fixed, const void *Payload,
    ULONG Length, LONGLONG Time)
{
    RtlZeroMemory(N, sizeof(*N));
    N->Size = sizeof(*N);
    N->Message = Message;
    N->Fixed = Fixed;
    N->Time = Time;
    N->Payload = Payload;
    N->Length = Length;
}

/* Hands what was staged over to the common driver, in order and then what was lost; at most the staging
   buffer's bytes, once, under the lock so that what is offered from now on comes behind it. If the common
   driver has begun to go, the rest stays for the next one. */
static void Drain(PFLTPORT_PROVIDER P)
{
    FLTPORT_NOTIFICATION N;
    STAGED Staged;
    USHORT Message, Cause;
    while (P->Start < P->End) {
        PUCHAR Place = P->Staging + P->Start;
        RtlCopyMemory(&Staged, Place, sizeof(Staged));
        Describe(&N, Staged.Message, Staged.Fixed, Place + sizeof(Staged), Staged.Length, Staged.Time);
        if (P->Table->Notify(P->Handle, &N) == STATUS_DELETE_PENDING)
            return;
        P->Start += BytesOf(Staged.Length);
    }
    P->Start = P->End = 0;
    P->AnyLost = FALSE;
    for (Message = 0; Message < TYPES; Message++)
        for (Cause = 0; Cause < FLTPORT_CAUSES; Cause++)
            if (P->Lost[Message][Cause] != 0) {
                P->Table->Lost(P->Handle, Message, Cause, P->Lost[Message][Cause]);
                P->Lost[Message][Cause] = 0;
            }
}

/* ---- Binding ---- */

/* The table at this address, unless it is of another version, or shorter than this client needs. */
static const FLTPORT_INTERFACE *Known(const void *Address)
{
    const FLTPORT_INTERFACE *Table = (const FLTPORT_INTERFACE *)Address;
    if (Table != NULL && Table->Version == FLTPORT_VERSION && Table->Size >= FLTPORT_INTERFACE_1_0)
        return Table;
    return NULL;
}

/* IRQL: <= DISPATCH_LEVEL. */
static void Announce(PFLTPORT_PROVIDER P, const FLTPORT_INTERFACE *Table)
{
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Announced = Table;
    KeReleaseSpinLock(&P->Lock, Irql);
}

/* IRQL: PASSIVE_LEVEL. Without a common driver, whatever is offered is wanted. */
static void Unregister(PFLTPORT_PROVIDER P)
{
    P->Table->Unregister(P->Handle);
    P->Quiet = 0;
    P->Interest = EVERYTHING;
}

/* IRQL: PASSIVE_LEVEL, in the gate. Registers with the table that was announced, if any, and hands over
   what was staged. */
static NTSTATUS Bind(PFLTPORT_PROVIDER P)
{
    NTSTATUS Status;
    BOOLEAN Begins, Ending;
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    Begins = (BOOLEAN)(P->Announced != NULL && !P->Binding && !IsBound(P) && !P->Ending);
    if (Begins) {
        P->Binding = TRUE;
        P->Table = P->Announced;
    }
    P->Announced = NULL;
    KeReleaseSpinLock(&P->Lock, Irql);
    if (!Begins)
        return STATUS_SUCCESS;
    Status = P->Table->Register(&P->Description, &P->Handle);
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Binding = FALSE;
    Ending = P->Ending;
    if (Status == STATUS_SUCCESS) {
        Drain(P);
        SetBound(P, (BOOLEAN)!Ending);
    } else {
        P->Quiet = 0;
        P->Interest = EVERYTHING;
    }
    KeReleaseSpinLock(&P->Lock, Irql);
    if (Status == STATUS_SUCCESS && Ending)
        Unregister(P);
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

/* IRQL: PASSIVE_LEVEL. Ends the binding, if there is one; of several callers one alone unregisters. */
static void Unbind(PFLTPORT_PROVIDER P)
{
    BOOLEAN WasBound;
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    WasBound = IsBound(P);
    SetBound(P, FALSE);
    P->Announced = NULL;
    P->Leaving = FALSE;
    KeReleaseSpinLock(&P->Lock, Irql);
    if (WasBound)
        Unregister(P);
}

/* IRQL: PASSIVE_LEVEL. The common driver goes: its table is let go of before this returns. */
static void Revoke(PFLTPORT_PROVIDER P)
{
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Announced = NULL;
    P->Leaving = TRUE;
    KeReleaseSpinLock(&P->Lock, Irql);
    ExWaitForRundownProtectionReleaseCacheAware(P->Gate);
    ExRundownCompletedCacheAware(P->Gate);
    /* Nobody is inside, and nobody can come in: not a caller, not a binder. */
    Unbind(P);
    ExReInitializeRundownProtectionCacheAware(P->Gate);
}

static CALLBACK_FUNCTION Heard;
static VOID Heard(PVOID Context, PVOID What, PVOID Of)
{
    PFLTPORT_PROVIDER P = (PFLTPORT_PROVIDER)Context;
    if (What == (PVOID)FLTPORT_ANNOUNCE && Known(Of) != NULL) {
        Announce(P, Known(Of));
        if (InterlockedExchange(&P->Queued, 1) == 0 && ExAcquireRundownProtection(&P->Working))
            IoQueueWorkItemEx(P->Work, BindLater, DelayedWorkQueue, P);
    } else if (What == (PVOID)FLTPORT_REVOKE) {
        Revoke(P);
    }
}

/* IRQL: PASSIVE_LEVEL. Binds to the common driver that is there already, if any. */
static NTSTATUS AskAndBind(PFLTPORT_PROVIDER P)
{
    FLTPORT_QUESTION Question;
    NTSTATUS Status = STATUS_SUCCESS;
    Question.Size = sizeof(Question);
    Question.Version = FLTPORT_VERSION;
    Question.Interface = NULL;
    /* From before the question: a revocation that begins behind the answer waits until it has been
       used. */
    if (!Enter(P))
        return STATUS_SUCCESS;
    ExNotifyCallback(P->Object, (PVOID)FLTPORT_ASK, &Question);
    if (Known(Question.Interface) != NULL) {
        Announce(P, Question.Interface);
        Status = Bind(P);
    }
    Leave(P);
    /* It has begun to go: the next one will be announced. */
    return Status == STATUS_DELETE_PENDING ? STATUS_SUCCESS : Status;
}

/* ---- Registering ---- */

static NTSTATUS ReadRegistration(FLTPORT_REGISTRATION *R, const FLTPORT_REGISTRATION *From)
{
    if (!Revised(R, sizeof(*R), From, FLTPORT_REGISTRATION_1_0))
        return STATUS_INVALID_PARAMETER;
    if (R->Version != FLTPORT_VERSION)
        return STATUS_REVISION_MISMATCH;
    if (R->Schema == NULL || R->WriteSchema == NULL || R->BacklogPolicy > FLTPORT_KEEP_OLDEST
        || R->WriteSchema(R->Schema, NULL, 0) > FLTPORT_MAX_SCHEMA)
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

/* A provider that nobody has heard of; NULL if there is no memory. */
static PFLTPORT_PROVIDER Make(PDRIVER_OBJECT DriverObject, const FLTPORT_REGISTRATION *R)
{
    ULONG SchemaLength = R->WriteSchema(R->Schema, NULL, 0);
    SIZE_T GateSize = ExSizeOfRundownProtectionCacheAware();
    SIZE_T GateRoom = (GateSize + 15) & ~(SIZE_T)15;
    SIZE_T Bytes = sizeof(struct _FLTPORT_PROVIDER) + GateRoom + IoSizeofWorkItem() + SchemaLength
        + R->Staging;
    PFLTPORT_PROVIDER P = (PFLTPORT_PROVIDER)ExAllocatePool2(POOL_FLAG_NON_PAGED, Bytes, R->PoolTag);
    FLTPORT_DESCRIPTION *D;
    PUCHAR Schema;
    if (P == NULL)
        return NULL;
    P->Tag = R->PoolTag;
    P->Interest = EVERYTHING;
    P->Gate = (PEX_RUNDOWN_REF_CACHE_AWARE)(P + 1);
    P->Work = (PIO_WORKITEM)((PUCHAR)(P + 1) + GateRoom);
    Schema = (PUCHAR)P->Work + IoSizeofWorkItem();
    P->Staging = Schema + SchemaLength;
    P->Room = R->Staging;
    IoInitializeWorkItem(DriverObject, P->Work);
    ExInitializeRundownProtection(&P->Working);
    ExInitializeRundownProtectionCacheAware(P->Gate, GateSize);
    KeInitializeSpinLock(&P->Lock);
    R->WriteSchema(R->Schema, Schema, SchemaLength);
    NoteRoles(P, R->Schema->Messages);
    D = &P->Description;
    D->Size = sizeof(*D);
    D->Version = FLTPORT_VERSION;
    D->Schema = Schema;
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
    D->Quiet = &P->Quiet;
    D->Unheard = P->Unheard[0];
    D->UnheardRows = UNHEARD_ROWS;
    return P;
}

/* IRQL: PASSIVE_LEVEL. From here on announcements are heard; one that came before is asked for. */
static NTSTATUS Listen(PFLTPORT_PROVIDER P)
{
    UNICODE_STRING Name;
    OBJECT_ATTRIBUTES Attributes;
    NTSTATUS Status;
    RtlInitUnicodeString(&Name, FLTPORT_CALLBACK_NAME);
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    Status = ExCreateCallback(&P->Object, &Attributes, TRUE, TRUE);
    if (Status != STATUS_SUCCESS)
        return Status;
    P->Registration = ExRegisterCallback(P->Object, Heard, P);
    return P->Registration != NULL ? AskAndBind(P) : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS FltPortRegister(struct _DRIVER_OBJECT *DriverObject, const FLTPORT_REGISTRATION *Registration,
    PFLTPORT_PROVIDER *Provider)
{
    FLTPORT_REGISTRATION R;
    PFLTPORT_PROVIDER P;
    NTSTATUS Status = ReadRegistration(&R, Registration);
    *Provider = NULL;
    if (Status != STATUS_SUCCESS)
        return Status;
    P = Make(DriverObject, &R);
    if (P == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    /* Before a service finds it: its routines will want to use it. */
    *Provider = P;
    Status = Listen(P);
    if (Status != STATUS_SUCCESS) {
        FltPortUnregister(P);
        *Provider = NULL;
    }
    return Status;
}

void FltPortUnregister(PFLTPORT_PROVIDER P)
{
    KIRQL Irql;
    if (P == NULL)
        return;
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Ending = TRUE;
    KeReleaseSpinLock(&P->Lock, Irql);
    /* If the gate was closed just now, the common driver is being unloaded and unbinds; the end of the
       callback's registration waits for that. */
    if (Enter(P)) {
        Unbind(P);
        Leave(P);
    }
    if (P->Registration != NULL)
        ExUnregisterCallback(P->Registration);
    ExWaitForRundownProtectionRelease(&P->Working);
    IoUninitializeWorkItem(P->Work);
    if (P->Object != NULL)
        ObDereferenceObject(P->Object);
    ExFreePoolWithTag(P, P->Tag);
}

/* ---- Notifications ---- */

/* Checks a notification of this revision. */
static BOOLEAN IsSound(PFLTPORT_PROVIDER P, const FLTPORT_NOTIFICATION *N)
{
    return (BOOLEAN)(IsOne(P->Notifications, N->Message) && N->Fixed <= N->Length
        && (N->Length == 0 || N->Payload != NULL));
}

/* The calling thread's row of counters: by its stack, which is at hand on every processor. Fibonacci hashing,
   for stacks lie at regular distances. */
static ULONG Row(void)
{
    volatile UCHAR Here = 0;
    ULONGLONG Stack = (ULONGLONG)(size_t)&Here >> 14;
    return (ULONG)(Stack * 0x9E3779B97F4A7C15ULL >> 61) & (UNHEARD_ROWS - 1);
}

/* Counts a sound notification without a booking, if nobody would hear it; FALSE if it has to be offered, and so
   if there is anything else to be said of it. The common driver takes the counts out. IRQL: any. */
static BOOLEAN CountUnheard(PFLTPORT_PROVIDER P, const FLTPORT_NOTIFICATION *N)
{
    volatile ULONGLONG *Counter;
    if (!IsOne(P->Quiet, N->Message) || N->Length > FLTPORT_MAX_PAYLOAD
        || KeGetCurrentIrql() > DISPATCH_LEVEL)
        return FALSE;
    Counter = &P->Unheard[Row()][N->Message];
#ifdef __GNUC__
    __atomic_fetch_add(Counter, 1, __ATOMIC_RELAXED);
#else
    InterlockedIncrementNoFence64((volatile LONG64 *)Counter);
#endif
    return TRUE;
}

/* Offers a sound notification, for which Staged bytes of the staging buffer have been booked. */
static NTSTATUS Offer(PFLTPORT_PROVIDER P, const FLTPORT_NOTIFICATION *N, ULONG Staged)
{
    NTSTATUS Status = STATUS_DELETE_PENDING;
    KIRQL Irql;
    /* To the end: what one that has begun to go does not take is staged before the next can bind. */
    BOOLEAN Inside = EnterBoundOrLock(P, &Irql);
    if (Inside) {
        Status = P->Table->Notify(P->Handle, N);
        if (Staged == 0 && Status != STATUS_DELETE_PENDING) {
            Leave(P);
            return Status;
        }
        KeAcquireSpinLock(&P->Lock, &Irql);
    }
    P->Booked -= Staged;
    if (Status == STATUS_DELETE_PENDING) {
        Stage(P, N, (BOOLEAN)(BytesOf(N->Length) <= Staged));
        Status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&P->Lock, Irql);
    if (Inside)
        Leave(P);
    return Status;
}

NTSTATUS FltPortNotify(PFLTPORT_PROVIDER P, USHORT Message, USHORT Fixed, const void *Payload,
    ULONG Length)
{
    return FltPortNotifyBooked(P, Message, Fixed, Payload, Length, NULL);
}

NTSTATUS FltPortNotifyEx(PFLTPORT_PROVIDER P, const FLTPORT_NOTIFICATION *Notification)
{
    FLTPORT_NOTIFICATION N;
    if (!Revised(&N, sizeof(N), Notification, FLTPORT_NOTIFICATION_1_0) || !IsSound(P, &N))
        return STATUS_INVALID_PARAMETER;
    if (N.Booking == 0 && CountUnheard(P, &N))
        return STATUS_SUCCESS;
    return Offer(P, &N, 0);
}

NTSTATUS FltPortNotifyBooked(PFLTPORT_PROVIDER P, USHORT Message, USHORT Fixed, const void *Payload,
    ULONG Length, PFLTPORT_BOOKING Booking)
{
    FLTPORT_NOTIFICATION N;
    ULONG Staged = 0;
    Describe(&N, Message, Fixed, Payload, Length, 0);
    if (!IsSound(P, &N))
        return STATUS_INVALID_PARAMETER;
    if (Booking == NULL && CountUnheard(P, &N))
        return STATUS_SUCCESS;
    if (Booking != NULL) {
        N.Booking = Booking->Number;
        Staged = Booking->Staged;
        RtlZeroMemory(Booking, sizeof(*Booking));
    }
    return Offer(P, &N, Staged);
}

void FltPortLost(PFLTPORT_PROVIDER P, USHORT Message, USHORT Cause, ULONGLONG Count)
{
    KIRQL Irql;
    if (!IsOne(P->Notifications, Message))
        return;
    if (EnterBoundOrLock(P, &Irql)) {
        P->Table->Lost(P->Handle, Message, Cause, Count);
        Leave(P);
    } else {
        Lose(P, Message, Cause, Count);
        KeReleaseSpinLock(&P->Lock, Irql);
    }
}

/* ---- Filled in where they lie ---- */

/* In FLTPORT_RESERVATION.Reserved2: the memory is the stub's. */
#define LENT 1

static NTSTATUS Lend(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R)
{
    R->Payload = (PUCHAR)ExAllocatePool2(POOL_FLAG_NON_PAGED, R->Length != 0 ? R->Length : 1, P->Tag);
    R->Reserved2 = LENT;
    if (R->Payload != NULL)
        return STATUS_SUCCESS;
    FltPortLost(P, R->Message, FLTPORT_CAUSE_NO_MEMORY, 1);
    return STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS FltPortReserve(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R)
{
    NTSTATUS Status;
    if (R == NULL || R->Size < sizeof(*R) || !IsOne(P->Notifications, R->Message))
        return STATUS_INVALID_PARAMETER;
    if (R->Length > FLTPORT_MAX_PAYLOAD) {
        FltPortLost(P, R->Message, FLTPORT_CAUSE_TOO_LARGE, 1);
        return STATUS_BUFFER_OVERFLOW;
    }
    R->Reserved = 0;
    R->Reserved2 = 0;
    Status = EnterBound_1_1(P);
    if (Status == STATUS_SUCCESS) {
        Status = P->Table->Reserve(P->Handle, R);
        /* Inside until FltPortCommit or FltPortDiscard. */
        if (Status == STATUS_SUCCESS)
            return Status;
        Status = LeaveWith(P, Status);
    }
    if (Status == STATUS_DEVICE_NOT_READY || Status == STATUS_NOT_SUPPORTED)
        return Lend(P, R);
    return Status;
}

NTSTATUS FltPortCommit(PFLTPORT_PROVIDER P, PFLTPORT_RESERVATION R, USHORT Fixed, ULONG Length,
    LONGLONG Time)
{
    FLTPORT_NOTIFICATION N;
    NTSTATUS Status = STATUS_INVALID_PARAMETER;
    KIRQL Irql;
    if (R->Reserved2 == LENT) {
        Describe(&N, R->Message, Fixed, R->Payload, Length, Time);
        if (Length <= R->Length)
            Status = FltPortNotifyEx(P, &N);
        ExFreePoolWithTag(R->Payload, P->Tag);
        return Status;
    }
    Status = P->Table->Commit(P->Handle, R->Handle, Fixed, Length, Time);
    if (Status == STATUS_DELETE_PENDING) {
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
    if (R->Reserved2 == LENT) {
        ExFreePoolWithTag(R->Payload, P->Tag);
    } else {
        P->Table->Discard(P->Handle, R->Handle);
        Leave(P);
    }
}

/* ---- The guaranteed lane ---- */

NTSTATUS FltPortBook(PFLTPORT_PROVIDER P, USHORT Message, ULONG Length, PFLTPORT_BOOKING Booking)
{
    KIRQL Irql;
    NTSTATUS Status;
    RtlZeroMemory(Booking, sizeof(*Booking));
    if (!IsOne(P->Notifications, Message) || Length > FLTPORT_MAX_PAYLOAD)
        return STATUS_INVALID_PARAMETER;
    /* In any case, for the time without a common driver. */
    KeAcquireSpinLock(&P->Lock, &Irql);
    if (BytesOf(Length) <= P->Room - P->End - P->Booked)
        Booking->Staged = BytesOf(Length);
    P->Booked += Booking->Staged;
    KeReleaseSpinLock(&P->Lock, Irql);
    Status = EnterBound_1_1(P);
    if (Status == STATUS_SUCCESS)
        Status = LeaveWith(P, P->Table->Book(P->Handle, Message, Length, &Booking->Number));
    if (Status == STATUS_DEVICE_NOT_READY)
        Status = Booking->Staged != 0 ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
    if (Status != STATUS_SUCCESS)
        FltPortUnbook(P, Booking);
    return Status;
}

void FltPortUnbook(PFLTPORT_PROVIDER P, PFLTPORT_BOOKING Booking)
{
    KIRQL Irql;
    KeAcquireSpinLock(&P->Lock, &Irql);
    P->Booked -= Booking->Staged;
    KeReleaseSpinLock(&P->Lock, Irql);
    if (Booking->Number != 0 && EnterBound_1_1(P) == STATUS_SUCCESS) {
        P->Table->Unbook(P->Handle, Booking->Number);
        Leave(P);
    }
    RtlZeroMemory(Booking, sizeof(*Booking));
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
    NTSTATUS Status = STATUS_DEVICE_NOT_READY;
    if (KeGetCurrentIrql() > APC_LEVEL)
        return STATUS_INVALID_LEVEL;
    if (!Revised(&R, sizeof(R), Request, FLTPORT_REQUEST_1_0) || R.Reply == NULL
        || !MayAsk(P, R.Message, R.Fixed, R.Length, R.DeadlineMs, R.ReplyLength, R.Flags))
        return STATUS_INVALID_PARAMETER;
    /* Here and not by the common driver, which may be too old for it, or not be there. */
    if (R.Flags != 0)
        RtlCopyMemory(R.Reply, Declared(P, R.Message, R.ReplyLength)->Reply, R.ReplyLength);
    R.Flags = 0;
    R.Outcome = FLTPORT_OUTCOME_NO_DECIDER;
    R.WaitedUs = 0;
    /* Inside while waiting, so that the common driver cannot go; it ends all connections, and so this
       wait, before it waits for us. */
    if (EnterBound(P))
        Status = LeaveWith(P, P->Table->Request(P->Handle, &R));
    Request->Outcome = R.Outcome;
    if (Request->Size >= sizeof(R))
        Request->WaitedUs = R.WaitedUs;
    return Status == STATUS_DEVICE_NOT_READY ? STATUS_SUCCESS : Status;
}

NTSTATUS FltPortRequestAsync(PFLTPORT_PROVIDER P, const FLTPORT_ASYNC_REQUEST *R)
{
    NTSTATUS Status;
    if (R == NULL || R->Size < sizeof(*R) || R->OnCompletion == NULL
        || !MayAsk(P, R->Message, R->Fixed, R->Length, R->DeadlineMs, R->ReplyLength, R->Flags))
        return STATUS_INVALID_PARAMETER;
    Status = EnterBound_1_1(P);
    return Status == STATUS_SUCCESS ? LeaveWith(P, P->Table->RequestAsync(P->Handle, R)) : Status;
}

/* ---- Accounts and snapshots ---- */

NTSTATUS FltPortQueryStatistics(PFLTPORT_PROVIDER P, PFLTPORT_STATISTICS Statistics)
{
    NTSTATUS Status = EnterBound_1_1(P);
    return Status == STATUS_SUCCESS ? LeaveWith(P, P->Table->Statistics(P->Handle, Statistics)) : Status;
}

/* Enters the gate for the snapshot routine; outside without success. */
static NTSTATUS EnterSnapshot(PFLTPORT_PROVIDER P)
{
    NTSTATUS Status;
    KIRQL Irql;
    if (EnterBound(P))
        return STATUS_SUCCESS;
    KeAcquireSpinLock(&P->Lock, &Irql);
    /* What was staged has not been offered yet: it would come behind the snapshot, and is older. */
    Status = P->Binding ? STATUS_RETRY : STATUS_DELETE_PENDING;
    KeReleaseSpinLock(&P->Lock, Irql);
    return Status;
}

NTSTATUS FltPortSnapshotAdd(PFLTPORT_PROVIDER P, FLTPORT_SNAPSHOT Snapshot,
    const FLTPORT_NOTIFICATION *Notification)
{
    NTSTATUS Status = EnterSnapshot(P);
    if (Status == STATUS_SUCCESS) {
        Status = P->Table->SnapshotAdd(Snapshot, Notification);
        Leave(P);
    }
    return Status;
}

NTSTATUS FltPortSnapshotLive(PFLTPORT_PROVIDER P, FLTPORT_SNAPSHOT Snapshot)
{
    NTSTATUS Status = EnterSnapshot(P);
    if (Status == STATUS_SUCCESS) {
        Status = P->Table->SnapshotLive(Snapshot);
        Leave(P);
    }
    return Status;
}

#endif
