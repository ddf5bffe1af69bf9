/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A driver that calls every function of today's header, whatever the common driver has of them. */
#include <ntddk.h>
#include "fltport.h"

#define TAG 'tpmC'

#define NUMBER_FIELDS(FIELD, TYPED) FIELD(U64, number)
#define YES_FIELDS(FIELD, TYPED) FIELD(BOOL, yes)
FLTPORT_MESSAGE(NUMBER, NUMBER_FIELDS)
FLTPORT_MESSAGE(QUESTION, NUMBER_FIELDS)
FLTPORT_MESSAGE(YES, YES_FIELDS)
#define MESSAGES(NOTIFICATION, REQUEST, COMMAND) \
    NOTIFICATION(1, "number", NUMBER) \
    REQUEST(2, "question", QUESTION, YES)
FLTPORT_SCHEMA_OF(Schema, "compat", FLTPORT_NO_TYPES, MESSAGES)

static const YES Declared = { 1 };
static const FLTPORT_DEFAULT_REPLY Defaults[] = {
    { sizeof(Defaults[0]), QUESTION_NUMBER, 0, &Declared, YES_FIXED, 0 },
};
static PFLTPORT_PROVIDER Provider;
static KEVENT Completion;
static LONG Completed;
static ULONG AsyncOutcome, AsyncYes;

/* What came of each call, in their order; Rust has the same struct. */
typedef struct {
    BOOLEAN Listening;
    NTSTATUS Notify, Reserve, Commit, ReserveToDiscard, Book, NotifyBooked, BookToUnbook;
    NTSTATUS Request;
    ULONG Outcome, Yes;
    NTSTATUS Async;
    LONG Completed;
    ULONG AsyncOutcome, AsyncYes;
    NTSTATUS Statistics;
    ULONGLONG Offered;
} OUTCOMES;

/* Adds one object, or says why it cannot. */
static NTSTATUS Report(void *Context, FLTPORT_SNAPSHOT Snapshot, ULONGLONG Types) {
    NUMBER Payload = { 5 };
    FLTPORT_NOTIFICATION Object = { sizeof(Object), NUMBER_NUMBER, NUMBER_FIXED, 0, &Payload, NUMBER_FIXED,
        0, 0 };
    NTSTATUS Status = FltPortSnapshotAdd(Provider, Snapshot, &Object);
    return Status == STATUS_SUCCESS ? FltPortSnapshotLive(Provider, Snapshot) : Status;
}

static NTSTATUS Notify(ULONGLONG Number, PFLTPORT_BOOKING Booking) {
    NUMBER Payload = { Number };
    return FltPortNotifyBooked(Provider, NUMBER_NUMBER, NUMBER_FIXED, &Payload, NUMBER_FIXED, Booking);
}

static void InPlace(OUTCOMES *Outcomes) {
    FLTPORT_RESERVATION Reservation = { sizeof(Reservation), NUMBER_NUMBER, 0, 64, 0, NULL, 0 };
    Outcomes->Reserve = FltPortReserve(Provider, &Reservation);
    if (Outcomes->Reserve == STATUS_SUCCESS) {
        ((NUMBER *)Reservation.Payload)->number = 2;
        Outcomes->Commit = FltPortCommit(Provider, &Reservation, NUMBER_FIXED, NUMBER_FIXED, 0);
    }
    Outcomes->ReserveToDiscard = FltPortReserve(Provider, &Reservation);
    if (Outcomes->ReserveToDiscard == STATUS_SUCCESS)
        FltPortDiscard(Provider, &Reservation);
}

static void Booked(OUTCOMES *Outcomes) {
    FLTPORT_BOOKING Booking;
    Outcomes->Book = FltPortBook(Provider, NUMBER_NUMBER, NUMBER_FIXED, &Booking);
    Outcomes->NotifyBooked = Notify(3, &Booking);
    Outcomes->BookToUnbook = FltPortBook(Provider, NUMBER_NUMBER, NUMBER_FIXED, &Booking);
    FltPortUnbook(Provider, &Booking);
}

static void Complete(void *Context, const FLTPORT_COMPLETION *Ended) {
    if (Context != (void *)&Completed || Ended->ReplyLength != YES_FIXED)
        return;
    Completed++;
    AsyncOutcome = Ended->Outcome;
    AsyncYes = ((const YES *)Ended->Reply)->yes;
    KeSetEvent(&Completion, IO_NO_INCREMENT, FALSE);
}

static void Ask(OUTCOMES *Outcomes) {
    LARGE_INTEGER Patience;
    QUESTION Question = { 4 };
    YES Yes = { 0 }, No = { 0 };
    FLTPORT_REQUEST Request = { sizeof(Request), QUESTION_NUMBER, QUESTION_FIXED, &Question, QUESTION_FIXED,
        1000, &Yes, YES_FIXED, 99, FLTPORT_REQUEST_DECLARED_DEFAULT, 0 };
    FLTPORT_ASYNC_REQUEST Async = { sizeof(Async), QUESTION_NUMBER, QUESTION_FIXED, &Question,
        QUESTION_FIXED, 1000, &No, YES_FIXED, FLTPORT_REQUEST_DECLARED_DEFAULT, Complete,
        (void *)&Completed };
    Patience.QuadPart = -200000000LL; /* 20 seconds: longer nothing takes */
    Outcomes->Request = FltPortRequest(Provider, &Request);
    Outcomes->Outcome = Request.Outcome;
    Outcomes->Yes = Yes.yes;
    Outcomes->Async = FltPortRequestAsync(Provider, &Async);
    if (Outcomes->Async == STATUS_SUCCESS)
        KeWaitForSingleObject(&Completion, Executive, KernelMode, FALSE, &Patience);
    Outcomes->Completed = Completed;
    Outcomes->AsyncOutcome = AsyncOutcome;
    Outcomes->AsyncYes = AsyncYes;
}

/* Calls everything once. */
void compat_call_everything(OUTCOMES *Outcomes) {
    FLTPORT_STATISTICS Statistics = { sizeof(Statistics), NUMBER_NUMBER, 0, 0, 0, 0, 0, 0, { 0 }, 0, { 0 } };
    Completed = 0;
    AsyncOutcome = AsyncYes = 0;
    Outcomes->Listening = FltPortIsListening(Provider, NUMBER_NUMBER);
    Outcomes->Notify = Notify(1, NULL);
    InPlace(Outcomes);
    Booked(Outcomes);
    Ask(Outcomes);
    Outcomes->Statistics = FltPortQueryStatistics(Provider, &Statistics);
    Outcomes->Offered = Statistics.Offered;
}

static VOID Unload(PDRIVER_OBJECT Driver) {
    FltPortUnregister(Provider);
}

NTSTATUS DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath) {
    FLTPORT_REGISTRATION Registration;
    Driver->DriverUnload = Unload;
    KeInitializeEvent(&Completion, SynchronizationEvent, FALSE);
    FltPortInitialize(&Registration, &Schema, TAG);
    /* Room for all that a test offers. */
    Registration.Staging = 256 * 1024;
    Registration.OnSnapshot = Report;
    Registration.Defaults = Defaults;
    Registration.DefaultCount = 1;
    return FltPortRegister(Driver, &Registration, &Provider);
}
