/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A driver with a communication port: whenever its service sends it something, it asks a question. */
#include <fltKernel.h>
#include "example.h"

static PFLT_FILTER Filter;
static PFLT_PORT ServerPort, ClientPort;

static NTSTATUS Connect(PFLT_PORT Port, PVOID Server, PVOID Context, ULONG Size, PVOID *Cookie) {
    ClientPort = Port;
    *Cookie = NULL;
    return STATUS_SUCCESS;
}

static VOID Disconnect(PVOID Cookie) {
    FltCloseClientPort(Filter, &ClientPort);
}

static NTSTATUS Message(PVOID Cookie, PVOID In, ULONG InSize, PVOID Out, ULONG Room, PULONG Done) {
    static char Question[] = "How are you?";
    char Answer[EXAMPLE_TEXT];
    ULONG Length = sizeof(Answer); /* of the answer alone, without FILTER_REPLY_HEADER */
    LARGE_INTEGER Timeout = { .QuadPart = -50000000LL }; /* five seconds from now */
    NTSTATUS Status = FltSendMessage(Filter, &ClientPort, Question, sizeof(Question),
        Answer, &Length, &Timeout);
    *Done = 0;
    if (Status == STATUS_SUCCESS) /* NT_SUCCESS is true for STATUS_TIMEOUT, too */
        DbgPrint("example: the answer has %u bytes\n", Length);
    return Status == STATUS_TIMEOUT ? STATUS_IO_TIMEOUT : Status;
}

/* Everything that DriverUnload would do, too. */
static NTSTATUS Unload(FLT_FILTER_UNLOAD_FLAGS Flags) {
    FltCloseCommunicationPort(ServerPort); /* first, or the next call never returns */
    FltUnregisterFilter(Filter);
    return STATUS_SUCCESS;
}

NTSTATUS DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath) {
    static const FLT_REGISTRATION Registration = { .Size = sizeof(Registration),
        .Version = FLT_REGISTRATION_VERSION, .FilterUnloadCallback = Unload };
    UNICODE_STRING Name = RTL_CONSTANT_STRING(EXAMPLE_PORT);
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
    if (NT_SUCCESS(Status) && !NT_SUCCESS(Status = FltStartFiltering(Filter)))
        FltCloseCommunicationPort(ServerPort);
    if (!NT_SUCCESS(Status))
        FltUnregisterFilter(Filter);
    return Status;
}
