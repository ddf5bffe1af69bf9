/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service: has a driver ask questions, and answers them from a completion port. */
#include <windows.h>
#include <fltuser.h>
#include <stdio.h>
#include "example.h"

#define GETS 4

/* A get belongs to the kernel until its completion packet has been taken. */
typedef struct {
    OVERLAPPED Overlapped;
    struct { FILTER_MESSAGE_HEADER Header; char Text[EXAMPLE_BYTES]; } Message;
} GET;

static HANDLE Port, Completions;
static GET Gets[GETS];

static HRESULT Post(GET *Get) {
    ZeroMemory(&Get->Overlapped, sizeof(Get->Overlapped));
    return FilterGetMessage(Port, &Get->Message.Header, sizeof(Get->Message), &Get->Overlapped);
}

static void Answer(GET *Get, const char *Text) {
    struct { FILTER_REPLY_HEADER Header; char Text[EXAMPLE_ROOM]; } Reply = { 0 };
    DWORD Length = (DWORD)strlen(Text);
    Reply.Header.MessageId = Get->Message.Header.MessageId;
    memcpy(Reply.Text, Text, Length);
    /* The header and what follows it, not sizeof(Reply): padding would count as text. */
    HRESULT Result = FilterReplyMessage(Port, &Reply.Header, sizeof(Reply.Header) + Length);
    if (FAILED(Result)) /* 0x801F0020: too late, which happens */
        printf("reply: 0x%08lX\n", Result);
}

static DWORD WINAPI Serve(void *Unused) {
    DWORD Bytes;
    ULONG_PTR Key;
    OVERLAPPED *Done;
    (void)Unused;
    while (GetQueuedCompletionStatus(Completions, &Bytes, &Key, &Done, INFINITE)) {
        GET *Get = CONTAINING_RECORD(Done, GET, Overlapped);
        printf("question %lu: '%s', %lu bytes\n", (ULONG)Get->Message.Header.MessageId,
            Get->Message.Text, Bytes - (DWORD)sizeof(FILTER_MESSAGE_HEADER));
        if (Get->Message.Header.ReplyLength > 0)
            Answer(Get, "Very well, thank you.");
        Post(Get); /* if that fails, another get does, too, and ends the loop */
    }
    /* ERROR_INVALID_HANDLE: the driver disconnected. ERROR_OPERATION_ABORTED: cancelled. */
    printf("gets end: %lu\n", GetLastError());
    return 0;
}

int main(void) {
    ULONG Version = EXAMPLE_VERSION;
    ORDER Orders[] = { { 16, 0, 5000 }, { 16, EXAMPLE_ROOM, 5000 }, { 16, 4, 5000 }, { 0, 0, 0 } };
    HRESULT Result = FilterConnectCommunicationPort(EXAMPLE_PORT, 0, &Version, sizeof(Version), NULL, &Port);
    if (FAILED(Result))
        return printf("connect: 0x%08lX\n", Result), 1;
    Completions = CreateIoCompletionPort(Port, NULL, 0, 1);
    for (int i = 0; i < GETS; i++)
        Post(&Gets[i]);
    HANDLE Server = CreateThread(NULL, 0, Serve, NULL, 0, NULL);
    for (int i = 0; i < (int)ARRAYSIZE(Orders); i++) {
        OUTCOME Outcome = { 0, 0 };
        DWORD Bytes = 0;
        Result = FilterSendMessage(Port, &Orders[i], sizeof(Orders[i]), &Outcome, sizeof(Outcome), &Bytes);
        printf("order %d: 0x%08lX, the driver's status 0x%08lX, %lu bytes\n", i, Result, Outcome.Status, Outcome.Bytes);
    }
    WaitForSingleObject(Server, INFINITE);
    CloseHandle(Port);
    return 0;
}
