/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A client driver in C: says hello when it is told to, asks how one feels, and tells the answer. It is
   compiled with fltport.c, the stub, so it may be loaded before the common driver. */
#include <ntddk.h>
#include "fltport.h"

#define TAG 'leHC'
#define DEADLINE_MS 2000

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
FLTPORT_SCHEMA_OF(HelloSchema, "hello-c", FLTPORT_NO_TYPES, HELLO_MESSAGES)

static PFLTPORT_PROVIDER Provider;
static PVOID Thread;
static KEVENT Wake;
static volatile LONG Wanted, Stopping;

/* IRQL: <= DISPATCH_LEVEL. */
static void SayHello(ULONG Count) {
    static const WCHAR Text[] = L"Hello from C";
    UCHAR Payload[HELLO_FIXED + sizeof(Text)];
    HELLO Hello;
    FLTPORT_WRITER Writer;
    if (!FltPortIsListening(Provider, HELLO_NUMBER))
        return;
    Hello.count = Count;
    FltPortBegin(&Writer, Payload, sizeof(Payload), HELLO_FIXED);
    FltPortPutText(&Writer, &Hello.text, Text, sizeof(Text) - sizeof(Text[0]));
    if (NT_SUCCESS(FltPortEnd(&Writer, &Hello, HELLO_FIXED)))
        FltPortNotify(Provider, HELLO_NUMBER, HELLO_FIXED, Payload, Writer.Length);
}

/* IRQL: PASSIVE_LEVEL. Without a decider one is fine. */
static void AskHow(ULONG Count) {
    QUESTION Question = { Count };
    MOOD Mood = { 1 };
    ANSWER Answer;
    FLTPORT_REQUEST Request;
    RtlZeroMemory(&Request, sizeof(Request));
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
    Answer.count = Count;
    Answer.outcome = Request.Outcome;
    Answer.fine = Mood.fine;
    FltPortNotify(Provider, ANSWER_NUMBER, ANSWER_FIXED, &Answer, ANSWER_FIXED);
}

/* Requests wait, so they have a thread. The first hello needs nobody to want it. */
static VOID Run(PVOID Unused) {
    ULONG Count = 0;
    SayHello(Count);
    while (!Stopping) {
        KeWaitForSingleObject(&Wake, Executive, KernelMode, FALSE, NULL);
        while (!Stopping && Count != (ULONG)Wanted) {
            SayHello(++Count);
            AskHow(Count);
        }
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* IRQL: PASSIVE_LEVEL, in the service's thread. */
static NTSTATUS Command(void *Context, const FLTPORT_COMMAND_CALLER *Caller, USHORT Message,
    const void *Input, ULONG Length, void *Output, ULONG Capacity, ULONG *Returned) {
    GREET Greet;
    GREETED Greeted;
    NTSTATUS Status = FltPortRead(Input, Length, &Greet, GREET_FIXED);
    if (!NT_SUCCESS(Status) || Message != GREET_NUMBER)
        return STATUS_INVALID_PARAMETER;
    if (Capacity < GREETED_FIXED)
        return STATUS_BUFFER_TOO_SMALL;
    Greeted.before = (ULONG)InterlockedExchangeAdd(&Wanted, (LONG)Greet.times);
    KeSetEvent(&Wake, IO_NO_INCREMENT, FALSE);
    RtlCopyMemory(Output, &Greeted, GREETED_FIXED);
    *Returned = GREETED_FIXED;
    return STATUS_SUCCESS;
}

/* First the thread, which uses the provider, then the provider. */
static VOID Unload(PDRIVER_OBJECT Driver) {
    InterlockedExchange(&Stopping, 1);
    KeSetEvent(&Wake, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Thread);
    FltPortUnregister(Provider);
}

static NTSTATUS StartThread(void) {
    HANDLE Handle;
    NTSTATUS Status = PsCreateSystemThread(&Handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, Run, NULL);
    if (!NT_SUCCESS(Status))
        return Status;
    /* Cannot fail: the handle is this driver's own, and a moment old. */
    ObReferenceObjectByHandle(Handle, THREAD_ALL_ACCESS, NULL, KernelMode, &Thread, NULL);
    return ZwClose(Handle);
}

NTSTATUS DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath) {
    FLTPORT_REGISTRATION Registration;
    NTSTATUS Status;
    Wanted = Stopping = 0;
    KeInitializeEvent(&Wake, SynchronizationEvent, FALSE);
    FltPortInitialize(&Registration, &HelloSchema, TAG);
    Registration.OnCommand = Command;
    Status = FltPortRegister(Driver, &Registration, &Provider);
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
