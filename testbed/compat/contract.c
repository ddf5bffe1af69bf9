/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A driver that a test has call the header's functions one by one, with what it likes. Compiled twice: with
   the stub, and with FLTPORT_IMPORT. */
#include <ntddk.h>
#include "fltport.h"

#define TAG 'tnoC'
/* Longer nothing takes, on a busy machine: 20 seconds, in steps of 100 ns from now. */
#define PATIENCE (-200000000LL)

#define NUMBER_FIELDS(FIELD, TYPED) FIELD(U64, number)
/* Of its second version: the first was yes or no. */
#define YES_FIELDS(FIELD, TYPED) FIELD(BOOL, yes) FIELD(DEFAULTED(U32), days)
/* Of its second version: the first ended with the note. */
#define LOCK_FIELDS(FIELD, TYPED) \
    FIELD(U32, door) FIELD(TEXT, note) FIELD(DEFAULTED(U32), seconds) FIELD(OPT_U32, by)
#define LOCKED_FIELDS(FIELD, TYPED) FIELD(U32, door) FIELD(U32, note) FIELD(U32, seconds) FIELD(OPT_U32, by)
FLTPORT_MESSAGE(NUMBER, NUMBER_FIELDS)
FLTPORT_MESSAGE(OTHER, NUMBER_FIELDS)
FLTPORT_MESSAGE(QUESTION, NUMBER_FIELDS)
FLTPORT_MESSAGE(YES, YES_FIELDS)
FLTPORT_MESSAGE(LOCK, LOCK_FIELDS)
FLTPORT_MESSAGE(LOCKED, LOCKED_FIELDS)
#define MESSAGES(NOTIFICATION, REQUEST, COMMAND) \
    NOTIFICATION(1, "number", NUMBER) \
    NOTIFICATION(2, "other", OTHER) \
    REQUEST(3, "question", QUESTION, YES) \
    COMMAND(4, "lock", LOCK, LOCKED)
FLTPORT_SCHEMA_OF(Schema, "contract", FLTPORT_NO_TYPES, MESSAGES)

/* What is asked; Rust has the same struct. */
typedef struct {
    ULONG Size; /* of the request; 0: that of the struct */
    USHORT Message;
    BOOLEAN WithoutReply; /* or, of the other kind of request, without a routine */
    ULONGLONG Number;
    ULONG Length;
    ULONG DeadlineMs;
    ULONG ReplyLength;
    ULONG Yes;
    ULONG Flags;
} ASKED;

/* How it ended; Rust has the same struct. */
typedef struct {
    ULONG Outcome;
    ULONG Yes;
    ULONG Days;
    ULONG WaitedUs;
    ULONG Times; /* that the completion routine has been called in all */
} ANSWERED;

/* Reports the present state by the functions below; the test's. */
typedef NTSTATUS REPORTER(FLTPORT_SNAPSHOT Snapshot, ULONGLONG Types);

static const YES Declared = { 1, 7 };
static const FLTPORT_DEFAULT_REPLY Defaults[] = {
    { sizeof(Defaults[0]), QUESTION_NUMBER, 0, &Declared, YES_FIXED, 0 },
};
/* The longest that is asked, and more. */
static UCHAR Payload[FLTPORT_MAX_PAYLOAD + 1];
static PFLTPORT_PROVIDER Provider;
static KEVENT Completed;
static ANSWERED Last;
static REPORTER *volatile Reporter;

static void Write(ULONGLONG Number) {
    NUMBER It = { Number };
    RtlCopyMemory(Payload, &It, NUMBER_FIXED);
}

NTSTATUS contract_notify(USHORT Message, USHORT Fixed, ULONGLONG Number, ULONG Length) {
    Write(Number);
    return FltPortNotify(Provider, Message, Fixed, Payload, Length);
}

NTSTATUS contract_notify_ex(ULONG Size, LONGLONG Time, ULONGLONG Number, BOOLEAN WithoutPayload) {
    FLTPORT_NOTIFICATION N = { Size, NUMBER_NUMBER, NUMBER_FIXED, Time, NULL, NUMBER_FIXED, 0, 0 };
    Write(Number);
    N.Payload = WithoutPayload ? NULL : Payload;
    return FltPortNotifyEx(Provider, &N);
}

NTSTATUS contract_notify_nothing(void) {
    return FltPortNotifyEx(Provider, NULL);
}

void contract_lost(USHORT Message, USHORT Cause, ULONGLONG Count) {
    FltPortLost(Provider, Message, Cause, Count);
}

BOOLEAN contract_listening(USHORT Message) {
    return FltPortIsListening(Provider, Message);
}

BOOLEAN contract_listening_without(USHORT Message) {
    return FltPortIsListening(NULL, Message);
}

/* Reserves Room, fills in a number, and commits Length of it; what FltPortReserve said, if that failed. */
NTSTATUS contract_in_place(USHORT Message, ULONG Room, USHORT Fixed, ULONGLONG Number, ULONG Length) {
    FLTPORT_RESERVATION R = { sizeof(R), Message, 0, Room, 0, NULL, 0 };
    NTSTATUS Status = FltPortReserve(Provider, &R);
    if (Status != STATUS_SUCCESS)
        return Status;
    ((NUMBER *)R.Payload)->number = Number;
    return FltPortCommit(Provider, &R, Fixed, Length, 0);
}

NTSTATUS contract_book(USHORT Message, ULONG Length, PFLTPORT_BOOKING Booking) {
    return FltPortBook(Provider, Message, Length, Booking);
}

NTSTATUS contract_notify_booked(USHORT Message, ULONGLONG Number, PFLTPORT_BOOKING Booking) {
    Write(Number);
    return FltPortNotifyBooked(Provider, Message, NUMBER_FIXED, Payload, NUMBER_FIXED, Booking);
}

void contract_unbook(PFLTPORT_BOOKING Booking) {
    FltPortUnbook(Provider, Booking);
}

NTSTATUS contract_statistics(ULONG Size, USHORT Message, PFLTPORT_STATISTICS Statistics) {
    RtlZeroMemory(Statistics, sizeof(*Statistics));
    Statistics->Size = Size != 0 ? Size : (ULONG)sizeof(*Statistics);
    Statistics->Message = Message;
    return FltPortQueryStatistics(Provider, Statistics);
}

NTSTATUS contract_ask(const ASKED *Asked, ANSWERED *Answered) {
    YES Yes = { Asked->Yes, 7 };
    FLTPORT_REQUEST R = { Asked->Size != 0 ? Asked->Size : (ULONG)sizeof(R), Asked->Message,
        NUMBER_FIXED, Payload, Asked->Length, Asked->DeadlineMs, &Yes, Asked->ReplyLength, 99,
        Asked->Flags, 99 };
    NTSTATUS Status;
    Write(Asked->Number);
    if (Asked->WithoutReply)
        R.Reply = NULL;
    Status = FltPortRequest(Provider, &R);
    Answered->Outcome = R.Outcome;
    Answered->Yes = Yes.yes;
    Answered->Days = Yes.days;
    Answered->WaitedUs = R.WaitedUs;
    return Status;
}

static void Complete(void *Context, const FLTPORT_COMPLETION *Completion) {
    YES Yes = { 99, 99 };
    if (Context != (void *)&Last || Completion->Size < sizeof(*Completion)
        || Completion->Message != QUESTION_NUMBER)
        return;
    FltPortRead(Completion->Reply, Completion->ReplyLength, &Yes, YES_FIXED);
    Last.Outcome = Completion->Outcome;
    Last.Yes = Yes.yes;
    Last.Days = Yes.days;
    Last.WaitedUs = Completion->WaitedUs;
    Last.Times++;
    KeSetEvent(&Completed, IO_NO_INCREMENT, FALSE);
}

NTSTATUS contract_ask_later(const ASKED *Asked) {
    /* Both are copied, so they may go before the answer comes. */
    YES Yes = { Asked->Yes, 7 };
    FLTPORT_ASYNC_REQUEST R = { Asked->Size != 0 ? Asked->Size : (ULONG)sizeof(R), Asked->Message,
        NUMBER_FIXED, Payload, Asked->Length, Asked->DeadlineMs, &Yes, Asked->ReplyLength, Asked->Flags,
        Asked->WithoutReply ? NULL : Complete, (void *)&Last };
    Write(Asked->Number);
    return FltPortRequestAsync(Provider, &R);
}

/* Waits for the completion routine. */
NTSTATUS contract_completed(ANSWERED *Answered) {
    LARGE_INTEGER Timeout;
    NTSTATUS Status;
    Timeout.QuadPart = PATIENCE;
    Status = KeWaitForSingleObject(&Completed, Executive, KernelMode, FALSE, &Timeout);
    *Answered = Last;
    return Status;
}

void contract_report_with(REPORTER *It) {
    Reporter = It;
}

NTSTATUS contract_add(FLTPORT_SNAPSHOT Snapshot, USHORT Message, USHORT Fixed, ULONGLONG Number,
    ULONG Length) {
    FLTPORT_NOTIFICATION N = { sizeof(N), Message, Fixed, 0, Payload, Length, 0, 0 };
    Write(Number);
    return FltPortSnapshotAdd(Provider, Snapshot, &N);
}

NTSTATUS contract_add_nothing(FLTPORT_SNAPSHOT Snapshot) {
    return FltPortSnapshotAdd(Provider, Snapshot, NULL);
}

NTSTATUS contract_live(FLTPORT_SNAPSHOT Snapshot) {
    return FltPortSnapshotLive(Provider, Snapshot);
}

static NTSTATUS Report(void *Context, FLTPORT_SNAPSHOT Snapshot, ULONGLONG Types) {
    REPORTER *It = Reporter;
    return Context == (void *)&Schema && It != NULL ? It(Snapshot, Types) : STATUS_UNSUCCESSFUL;
}

/* Tells what it was sent. */
static NTSTATUS Command(void *Context, const FLTPORT_COMMAND_CALLER *Caller, USHORT Message,
    const void *Input, ULONG Length, void *Output, ULONG Capacity, ULONG *Returned) {
    LOCK Lock = { 0, { 0, 0 }, 30, { 99, 1, { 0 } } };
    LOCKED Locked;
    NTSTATUS Status = FLTPORT_READ(LOCK, Input, Length, &Lock);
    if (Status != STATUS_SUCCESS || Message != LOCK_NUMBER || Context != (void *)&Schema)
        return STATUS_INVALID_PARAMETER;
    if (Capacity < LOCKED_FIXED)
        return STATUS_BUFFER_TOO_SMALL;
    Locked.door = Lock.door;
    Locked.note = FltPortGet(Input, Length, Lock.note) != NULL ? Lock.note.Length : 0;
    Locked.seconds = Lock.seconds;
    Locked.by = Lock.by;
    RtlCopyMemory(Output, &Locked, LOCKED_FIXED);
    *Returned = LOCKED_FIXED;
    return Caller->Size >= sizeof(*Caller) ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

static VOID Unload(PDRIVER_OBJECT Driver) {
    FltPortUnregister(Provider);
}

NTSTATUS DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath) {
    FLTPORT_REGISTRATION Registration;
    Driver->DriverUnload = Unload;
    KeInitializeEvent(&Completed, SynchronizationEvent, FALSE);
    RtlZeroMemory(&Last, sizeof(Last));
    Reporter = NULL;
    FltPortInitialize(&Registration, &Schema, TAG);
    Registration.Backlog = 0;
    Registration.OnCommand = Command;
    Registration.OnSnapshot = Report;
    Registration.Context = (void *)&Schema;
    Registration.Defaults = Defaults;
    Registration.DefaultCount = 1;
    return FltPortRegister(Driver, &Registration, &Provider);
}
