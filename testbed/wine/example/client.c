/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service: has its driver ask three times, and answers from a completion port. */
#include <windows.h>
#include <fltuser.h>
#include <stdio.h>
#include "example.h"

/* A get belongs to the kernel until its completion packet has been taken. */
typedef struct {
    OVERLAPPED Overlapped;
    struct { FILTER_MESSAGE_HEADER Header; char Text[EXAMPLE_TEXT]; } Message;
} GET;

static HANDLE Port, Completions;

static HRESULT Post(GET *Get) {
    ZeroMemory(&Get->Overlapped, sizeof(Get->Overlapped));
    return FilterGetMessage(Port, &Get->Message.Header, sizeof(Get->Message), &Get->Overlapped);
}

static HRESULT Answer(const GET *Get, const char *Text) {
    struct { FILTER_REPLY_HEADER Header; char Text[EXAMPLE_TEXT]; } Reply = { { 0 } };
    DWORD Length = (DWORD)strlen(Text);
    Reply.Header.MessageId = Get->Message.Header.MessageId;
    memcpy(Reply.Text, Text, Length);
    /* The header and what follows it, not sizeof(Reply): padding would count as text. */
    return FilterReplyMessage(Port, &Reply.Header, sizeof(Reply.Header) + Length);
}

/* FilterSendMessage returns when the driver is done, so after the question has been answered. */
static DWORD WINAPI Send(void *Unused) {
    DWORD Bytes;
    (void)Unused;
    for (int i = 0; i < 3; i++)
        printf("sent: 0x%08lX\n", FilterSendMessage(Port, "go", 2, NULL, 0, &Bytes));
    PostQueuedCompletionStatus(Completions, 0, 0, NULL);
    return 0;
}

int main(void) {
    static GET Gets[4];
    DWORD Bytes;
    ULONG_PTR Key;
    OVERLAPPED *Done;
    HRESULT Result = FilterConnectCommunicationPort(EXAMPLE_PORT, 0, NULL, 0, NULL, &Port);
    if (FAILED(Result))
        return printf("connect: 0x%08lX\n", Result), 1;
    Completions = CreateIoCompletionPort(Port, NULL, 0, 1);
    for (int i = 0; i < 4; i++)
        Post(&Gets[i]); /* 0x800703E5, "pending", is how it succeeds */
    CreateThread(NULL, 0, Send, NULL, 0, NULL);
    while (GetQueuedCompletionStatus(Completions, &Bytes, &Key, &Done, INFINITE) && Done) {
        GET *Get = CONTAINING_RECORD(Done, GET, Overlapped);
        Result = Answer(Get, "Very well, thank you.");
        printf("question '%s', answer: 0x%08lX\n", Get->Message.Text, Result);
        Post(Get);
    }
    return CloseHandle(Port) ? 0 : 1;
}
