/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A client driver in C++: says hello when it is told to, asks how one feels, and tells the answer. It
   imports from fltport.sys, so that is loaded before it. */
#include <ntddk.h>
#define FLTPORT_IMPORT
#include "fltport.h"

constexpr ULONG TAG = 'leHP';
constexpr ULONG DEADLINE_MS = 2000;

/* What it tells, asks and takes. */
#define HELLO_FIELDS(FIELD, TYPED) FIELD(U32, count) FIELD(TEXT, text)
#define QUESTION_FIELDS(FIELD, TYPED) FIELD(U32, count)
#define MOOD_FIELDS(FIELD, TYPED) FIELD(BOOL, fine)
#define ANSWER_FIELDS(FIELD, TYPED) FIELD(U32, count) FIELD(U32, outcome) FIELD(BOOL, fine)
#define GREET_FIELDS(FIELD, TYPED) FIELD(U32, times)
#define GREETED_FIELDS(FIELD, TYPED) FIELD(U32, before)
FLTPORT_MESSAGE(HELLO, HELLO_FIELDS)
FLTPORT_MESSAGE(QUESTION, QUESTION_FIELDS)
FLTPORT_MESSAGE(MOOD, MOOD_FIELDS)
FLTPORT_MESSAGE(ANSWER, ANSWER_FIELDS)
FLTPORT_MESSAGE(GREET, GREET_FIELDS)
FLTPORT_MESSAGE(GREETED, GREETED_FIELDS)
#define HELLO_MESSAGES(NOTIFICATION, REQUEST, COMMAND) \
    NOTIFICATION(1, "hello", HELLO) \
    NOTIFICATION(2, "answer", ANSWER) \
    REQUEST(3, "how-are-you", QUESTION, MOOD) \
    COMMAND(4, "greet", GREET, GREETED)
FLTPORT_SCHEMA_OF(HelloSchema, "hello-cpp", FLTPORT_NO_TYPES, HELLO_MESSAGES)

namespace {

PFLTPORT_PROVIDER Provider;
PVOID Thread;
KEVENT Wake;
volatile LONG Wanted, Stopping;

/* Offers a message without variable data. IRQL: <= DISPATCH_LEVEL. */
template <typename T> void Tell(USHORT Number, ULONG Fixed, const T &Message) {
    FltPortNotify(Provider, Number, static_cast<USHORT>(Fixed), &Message, Fixed);
}

/* A message in the common driver's memory: offered by Commit, or given back. */
class InPlace {
public:
    InPlace(USHORT Message, ULONG Length) : Reservation() {
        Reservation.Size = sizeof(Reservation);
        Reservation.Message = Message;
        Reservation.Length = Length;
        Reserved = NT_SUCCESS(FltPortReserve(Provider, &Reservation));
    }
    ~InPlace() {
        if (Reserved)
            FltPortDiscard(Provider, &Reservation);
    }
    InPlace(const InPlace &) = delete;
    InPlace &operator=(const InPlace &) = delete;
    explicit operator bool() const { return Reserved; }
    PUCHAR Payload() { return Reservation.Payload; }
    ULONG Room() const { return Reservation.Length; }
    void Commit(USHORT Fixed, ULONG Length) {
        Reserved = false;
        FltPortCommit(Provider, &Reservation, Fixed, Length, 0);
    }

private:
    FLTPORT_RESERVATION Reservation;
    bool Reserved;
};

/* IRQL: <= DISPATCH_LEVEL. What cannot be had for it is in the ledger as a loss. */
void SayHello(ULONG Count) {
    static const WCHAR Text[] = L"Hello from C++";
    HELLO Hello;
    FLTPORT_WRITER Writer;
    if (!FltPortIsListening(Provider, HELLO_NUMBER))
        return;
    InPlace Place(HELLO_NUMBER, HELLO_FIXED + sizeof(Text));
    if (!Place)
        return;
    Hello.count = Count;
    FltPortBegin(&Writer, Place.Payload(), Place.Room(), HELLO_FIXED);
    FltPortPutText(&Writer, &Hello.text, Text, sizeof(Text) - sizeof(Text[0]));
    if (NT_SUCCESS(FltPortEnd(&Writer, &Hello, HELLO_FIXED)))
        Place.Commit(HELLO_FIXED, Writer.Length);
}

/* IRQL: PASSIVE_LEVEL. Without a decider one is fine. */
void AskHow(ULONG Count) {
    QUESTION Question = { Count };
    MOOD Mood = { 1 };
    FLTPORT_REQUEST Request = FLTPORT_REQUEST();
    Request.Size = sizeof(Request);
    Request.Message = QUESTION_NUMBER;
    Request.Fixed = QUESTION_FIXED;
    Request.Payload = &Question;
    Request.Length = QUESTION_FIXED;
    Request.DeadlineMs = DEADLINE_MS;
    Request.Reply = &Mood;
    Request.ReplyLength = MOOD_FIXED;
    if (FltPortRequest(Provider, &Request) != STATUS_SUCCESS)
        return;
    Tell(ANSWER_NUMBER, ANSWER_FIXED, ANSWER{ Count, Request.Outcome, Mood.fine });
}

/* Requests wait, so they have a thread. */
VOID Run(PVOID) {
    ULONG Count = 0;
    SayHello(Count);
    while (!Stopping) {
        KeWaitForSingleObject(&Wake, Executive, KernelMode, FALSE, nullptr);
        while (!Stopping && Count != static_cast<ULONG>(Wanted)) {
            SayHello(++Count);
            AskHow(Count);
        }
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* IRQL: PASSIVE_LEVEL, in the service's thread. */
NTSTATUS Command(void *, const FLTPORT_COMMAND_CALLER *, USHORT Message, const void *Input, ULONG Length,
    void *Output, ULONG Capacity, ULONG *Returned) {
    GREET Greet;
    GREETED Greeted;
    NTSTATUS Status = FltPortRead(Input, Length, &Greet, GREET_FIXED);
    if (!NT_SUCCESS(Status) || Message != GREET_NUMBER)
        return STATUS_INVALID_PARAMETER;
    if (Capacity < GREETED_FIXED)
        return STATUS_BUFFER_TOO_SMALL;
    Greeted.before = static_cast<ULONG>(InterlockedExchangeAdd(&Wanted, static_cast<LONG>(Greet.times)));
    KeSetEvent(&Wake, IO_NO_INCREMENT, FALSE);
    RtlCopyMemory(Output, &Greeted, GREETED_FIXED);
    *Returned = GREETED_FIXED;
    return STATUS_SUCCESS;
}

/* First the thread, which uses the provider, then the provider. */
VOID Unload(PDRIVER_OBJECT) {
    InterlockedExchange(&Stopping, 1);
    KeSetEvent(&Wake, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(Thread, Executive, KernelMode, FALSE, nullptr);
    ObDereferenceObject(Thread);
    FltPortUnregister(Provider);
}

NTSTATUS StartThread() {
    HANDLE Handle;
    NTSTATUS Status = PsCreateSystemThread(&Handle, THREAD_ALL_ACCESS, nullptr, nullptr, nullptr, Run,
        nullptr);
    if (!NT_SUCCESS(Status))
        return Status;
    /* Cannot fail: the handle is this driver's own, and a moment old. */
    ObReferenceObjectByHandle(Handle, THREAD_ALL_ACCESS, nullptr, KernelMode, &Thread, nullptr);
    return ZwClose(Handle);
}

} // namespace

extern "C" NTSTATUS DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING) {
    FLTPORT_REGISTRATION Registration;
    Wanted = Stopping = 0;
    KeInitializeEvent(&Wake, SynchronizationEvent, FALSE);
    FltPortInitialize(&Registration, &HelloSchema, TAG);
    Registration.OnCommand = Command;
    NTSTATUS Status = FltPortRegister(Driver, &Registration, &Provider);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = StartThread();
    if (!NT_SUCCESS(Status)) {
        FltPortUnregister(Provider);
        return Status;
    }
    Driver->DriverUnload = Unload;
    return STATUS_SUCCESS;
}
