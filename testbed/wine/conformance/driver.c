/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A driver with a communication port that does as it is ordered, for port-conformance to look at. */
#include <fltKernel.h>
#include "conformance.h"
#include "user_memory.h"

static PFLT_FILTER Filter;
static PFLT_PORT ServerPort, ClientPort;

static NTSTATUS Connect(PFLT_PORT Port, PVOID Server, PVOID Context, ULONG Size, PVOID *Cookie) {
    ULONG Version = 0;
    if (Size == sizeof(Version)) /* a copy of the kernel's, though perhaps not aligned */
        RtlCopyMemory(&Version, Context, sizeof(Version));
    if (Version != CONFORMANCE_VERSION)
        return STATUS_REVISION_MISMATCH;
    ClientPort = Port;
    *Cookie = NULL;
    return STATUS_SUCCESS;
}

static VOID Disconnect(PVOID Cookie) {
    FltCloseClientPort(Filter, &ClientPort);
}

/* Sends as many bytes as ordered and waits for a reply if there is room for one. */
static OUTCOME Ask(const ORDER *Order) {
    static UCHAR Question[CONFORMANCE_BYTES] = "How are you?";
    UCHAR Answer[CONFORMANCE_ROOM];
    LARGE_INTEGER Timeout = { .QuadPart = -10000LL * Order->Milliseconds };
    OUTCOME Outcome = { .Bytes = Order->Room };
    Outcome.Status = FltSendMessage(Filter, &ClientPort, Question, Order->Bytes,
        Order->Room ? Answer : NULL, Order->Room ? &Outcome.Bytes : NULL, &Timeout);
    if (Outcome.Status != STATUS_SUCCESS) /* NT_SUCCESS is true for STATUS_TIMEOUT */
        Outcome.Bytes = 0;
    DbgPrint("conformance: %u bytes sent, status %08x, answer '%.*s'\n", Order->Bytes,
        Outcome.Status, (int)Outcome.Bytes, Answer);
    return Outcome;
}

static NTSTATUS Message(PVOID Cookie, PVOID In, ULONG InSize, PVOID Out, ULONG Room, PULONG Done) {
    ORDER Order;
    OUTCOME Outcome;
    *Done = 0;
    if (InSize != sizeof(Order) || Room < sizeof(Outcome))
        return STATUS_INVALID_PARAMETER;
    if (!NT_SUCCESS(CopyFromUser(&Order, In, sizeof(Order))))
        return STATUS_ACCESS_VIOLATION;
    if (Order.Bytes > CONFORMANCE_BYTES || Order.Room > CONFORMANCE_ROOM || Order.Milliseconds > 60000)
        return STATUS_INVALID_BUFFER_SIZE;
    if (Order.Bytes == 0) {
        FltCloseClientPort(Filter, &ClientPort);
        return STATUS_SUCCESS;
    }
    Outcome = Ask(&Order);
    *Done = sizeof(Outcome);
    return CopyToUser(Out, &Outcome, sizeof(Outcome));
}

/* Everything that DriverUnload would do, too. */
static NTSTATUS Unload(FLT_FILTER_UNLOAD_FLAGS Flags) {
    FltCloseCommunicationPort(ServerPort);
    FltUnregisterFilter(Filter);
    DbgPrint("conformance: unloaded\n");
    return STATUS_SUCCESS;
}

NTSTATUS DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath) {
    static const FLT_REGISTRATION Registration = { .Size = sizeof(Registration),
        .Version = FLT_REGISTRATION_VERSION, .FilterUnloadCallback = Unload };
    UNICODE_STRING Name = RTL_CONSTANT_STRING(CONFORMANCE_PORT);
    PSECURITY_DESCRIPTOR Security;
    OBJECT_ATTRIBUTES Attributes;
    NTSTATUS Status = FltRegisterFilter(Driver, &Registration, &Filter);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = FltBuildDefaultSecurityDescriptor(&Security, FLT_PORT_ALL_ACCESS);
    if (NT_SUCCESS(Status)) {
        InitializeObjectAttributes(&Attributes, &Name, OBJ_KERNEL_HANDLE, NULL, Security);
        Status = FltCreateCommunicationPort(Filter, &ServerPort, &Attributes, NULL, Connect,
            Disconnect, Message, 1);
        FltFreeSecurityDescriptor(Security);
    }
    if (NT_SUCCESS(Status)) {
        Status = FltStartFiltering(Filter);
        if (!NT_SUCCESS(Status))
            FltCloseCommunicationPort(ServerPort);
    }
    if (!NT_SUCCESS(Status))
        FltUnregisterFilter(Filter);
    return Status;
}
