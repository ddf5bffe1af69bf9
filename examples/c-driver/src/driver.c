/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A driver that sums up what a service sends over a communication port. It has one bug. */
#include <fltKernel.h>
#include "user_memory.h"

#define TAG 'vrDC'
typedef struct { PFLT_PORT Port; LONG Sum; } CLIENT;
static PFLT_FILTER Filter;
static PFLT_PORT ServerPort;

static NTSTATUS Connect(PFLT_PORT Port, PVOID Unused, PVOID Version, ULONG Size, PVOID *Cookie) {
    CLIENT *Client = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Client), TAG);
    if (Client == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    if (Size != sizeof(ULONG) || *(ULONG *)Version != 1) {
#ifdef MENDED
        ExFreePoolWithTag(Client, TAG);
#endif
        return STATUS_REVISION_MISMATCH;
    }
    Client->Port = Port;
    *Cookie = Client;
    return STATUS_SUCCESS;
}

static VOID Disconnect(PVOID Cookie) {
    CLIENT *Client = Cookie;
    FltCloseClientPort(Filter, &Client->Port);
    ExFreePoolWithTag(Client, TAG);
}

static NTSTATUS Message(PVOID Cookie, PVOID In, ULONG InSize, PVOID Out, ULONG Room, PULONG Done) {
    LONG Number;
    NTSTATUS Status = STATUS_INVALID_PARAMETER;
    *Done = 0;
    if (InSize == sizeof(Number))
        Status = CopyFromUser(&Number, In, sizeof(Number));
    if (NT_SUCCESS(Status))
        DbgPrint("sum %d\n", InterlockedAdd(&((CLIENT *)Cookie)->Sum, Number));
    return Status;
}

static NTSTATUS Unload(FLT_FILTER_UNLOAD_FLAGS Flags) {
    FltCloseCommunicationPort(ServerPort);
    FltUnregisterFilter(Filter);
    return STATUS_SUCCESS;
}

NTSTATUS DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath) {
    static const FLT_REGISTRATION Registration = {
        sizeof(Registration), FLT_REGISTRATION_VERSION, .FilterUnloadCallback = Unload };
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\CDriver");
    PSECURITY_DESCRIPTOR Security;
    OBJECT_ATTRIBUTES Attributes;
    NTSTATUS Status = FltRegisterFilter(Driver, &Registration, &Filter);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = FltBuildDefaultSecurityDescriptor(&Security, FLT_PORT_ALL_ACCESS);
    if (NT_SUCCESS(Status)) {
        InitializeObjectAttributes(&Attributes, &Name, OBJ_KERNEL_HANDLE, NULL, Security);
        Status = FltCreateCommunicationPort(Filter, &ServerPort, &Attributes, NULL, Connect,
            Disconnect, Message, 4);
        FltFreeSecurityDescriptor(Security);
    }
    if (!NT_SUCCESS(Status))
        FltUnregisterFilter(Filter);
    return Status;
}
