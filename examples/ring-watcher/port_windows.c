/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fltlib.dll, with one overlapped get. Standard input has a thread of its own: nothing else can wait for a pipe. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <fltuser.h>

#include "port.h"

#include <fltport_service.h>

#include <stdlib.h>
#include <string.h>

const char port_code_kind[] = "hresult";

struct port {
    HANDLE handle;
    HANDLE event;        /* for the driver to set; a wait clears it */
    HANDLE got;          /* the get is complete */
    OVERLAPPED overlapped;
    int has_get;         /* the buffer is the kernel's */
    void *views[2];
    unsigned view_count;
};

port_code port_connect(struct port **out, const char *place, const void *context, uint16_t length)
{
    struct port *port = calloc(1, sizeof *port);
    HRESULT result;
    (void)place;
    *out = NULL;
    if (port == NULL)
        return (port_code)E_OUTOFMEMORY;
    result = FilterConnectCommunicationPort(FLTPORT_PORT_NAME(L), 0, context, length, NULL, &port->handle);
    if (FAILED(result)) {
        free(port);
        return (port_code)result;
    }
    port->event = CreateEventW(NULL, FALSE, FALSE, NULL);
    port->got = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (port->event == NULL || port->got == NULL) {
        port_close(port);
        return (port_code)E_OUTOFMEMORY;
    }
    *out = port;
    return 0;
}

void port_close(struct port *port)
{
    DWORD bytes;
    if (port->has_get) {
        /* The buffer is the caller's again when this is over. */
        CancelIoEx(port->handle, &port->overlapped);
        GetOverlappedResult(port->handle, &port->overlapped, &bytes, TRUE);
    }
    CloseHandle(port->handle);
    if (port->event != NULL)
        CloseHandle(port->event);
    if (port->got != NULL)
        CloseHandle(port->got);
    while (port->view_count > 0)
        UnmapViewOfFile(port->views[--port->view_count]);
    free(port);
}

port_code port_send(struct port *port, const void *in, uint32_t in_length, void *out, uint32_t out_length,
                    uint32_t *returned)
{
    DWORD bytes = 0;
    HRESULT result = FilterSendMessage(port->handle, (void *)in, in_length, out, out_length, &bytes);
    *returned = bytes <= out_length ? bytes : 0;
    return FAILED(result) ? (port_code)result : 0;
}

port_code port_get(struct port *port, void *buffer, uint32_t capacity)
{
    HRESULT result;
    memset(&port->overlapped, 0, sizeof port->overlapped);
    port->overlapped.hEvent = port->got;
    result = FilterGetMessage(port->handle, buffer, capacity, &port->overlapped);
    if (FAILED(result) && result != HRESULT_FROM_WIN32(ERROR_IO_PENDING))
        return (port_code)result;
    port->has_get = 1;
    return 0;
}

int port_take(struct port *port, uint32_t *length)
{
    DWORD bytes = 0;
    if (!port->has_get || !HasOverlappedIoCompleted(&port->overlapped))
        return 0;
    port->has_get = 0;
    if (!GetOverlappedResult(port->handle, &port->overlapped, &bytes, FALSE))
        return -1;
    *length = bytes;
    return 1;
}

uint64_t port_event(struct port *port)
{
    return (uintptr_t)port->event;
}

void *port_view(struct port *port, uint64_t address, uint32_t length)
{
    /* The driver has mapped it into this process, and left it to us. */
    void *view = (void *)(uintptr_t)address;
    (void)length;
    if (view != NULL && port->view_count < sizeof port->views / sizeof port->views[0])
        port->views[port->view_count++] = view;
    return view;
}

/* ---- Standard input ---- */

static HANDLE reader, has_line, wants_line;
static char the_line[64 * 1024];
static size_t the_length;
static int input_has_ended;

/* Reads a line into the_line whenever one is wanted; it is this thread's until has_line is set. */
static DWORD WINAPI read_lines(void *unused)
{
    HANDLE input = GetStdHandle(STD_INPUT_HANDLE);
    (void)unused;
    while (WaitForSingleObject(wants_line, INFINITE) == WAIT_OBJECT_0) {
        char byte = 0;
        DWORD got = 0;
        the_length = 0;
        while (byte != '\n' && ReadFile(input, &byte, 1, &got, NULL) && got == 1) {
            if (byte != '\n' && byte != '\r' && the_length + 1 < sizeof the_line)
                the_line[the_length++] = byte;
        }
        the_line[the_length] = 0;
        input_has_ended = byte != '\n';
        SetEvent(has_line);
    }
    return 0;
}

/* Starts the thread; 0 if it cannot be. */
static int read_on(void)
{
    if (reader == NULL) {
        has_line = CreateEventW(NULL, TRUE, FALSE, NULL);
        wants_line = CreateEventW(NULL, FALSE, TRUE, NULL);
        if (has_line == NULL || wants_line == NULL)
            return 0;
        reader = CreateThread(NULL, 0, read_lines, NULL, 0, NULL);
    }
    return reader != NULL;
}

int port_line(char *line, size_t capacity)
{
    size_t kept;
    if (!read_on())
        return -1;
    if (WaitForSingleObject(has_line, 0) != WAIT_OBJECT_0)
        return 0;
    if (input_has_ended)
        return -1;
    kept = the_length < capacity ? the_length : capacity - 1;
    memcpy(line, the_line, kept);
    line[kept] = 0;
    ResetEvent(has_line);
    SetEvent(wants_line);
    return 1;
}

unsigned port_wait(struct port *port, unsigned what, uint32_t milliseconds)
{
    HANDLE handles[3];
    unsigned bits[3], count = 0;
    DWORD found;

    if (what & PORT_LINE && read_on()) {
        bits[count] = PORT_LINE;
        handles[count++] = has_line;
    }
    if (port != NULL && what & PORT_FRAME && port->has_get) {
        bits[count] = PORT_FRAME;
        handles[count++] = port->got;
    }
    if (port != NULL && what & PORT_RINGS) {
        bits[count] = PORT_RINGS;
        handles[count++] = port->event;
    }
    if (count == 0) {
        Sleep(milliseconds);
        return 0;
    }
    found = WaitForMultipleObjects(count, handles, FALSE, milliseconds);
    return found < WAIT_OBJECT_0 + count ? bits[found - WAIT_OBJECT_0] : 0;
}

uint64_t port_clock(void)
{
    return GetTickCount64();
}
