/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A driver that gives rings in which nothing can be read: it puts records there from now on, so the connection is of no
 * use. One that refuses rings sends frames.
 */
#include "../service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char port_code_kind[] = "status";

#define REFUSED 0xC00000BBu

static int refuses, is_open;
/* The data and the consumer's words: zeros, which are no rings. */
static uint64_t memory[2][512];

port_code port_connect(struct port **port, const char *place, const void *context, uint16_t length)
{
    (void)place, (void)context, (void)length;
    *port = (struct port *)(void *)memory;
    is_open = 1;
    return 0;
}

void port_close(struct port *port)
{
    (void)port;
    is_open = 0;
}

port_code port_send(struct port *port, const void *in, uint32_t in_length, void *out, uint32_t out_length,
                    uint32_t *returned)
{
    FLTPORT_CONNECTION_ROW info = {.Connection = 7, .Own = 1};
    FLTPORT_FEATURES_ROW features = {.Features = FLTPORT_FEATURE_RINGS};
    FLTPORT_RINGS_ROW rings = {(uintptr_t)memory[0], (uintptr_t)memory[1], sizeof memory[0], sizeof memory[1], 0};
    FLTPORT_COMMAND_HEADER header;
    const void *row = &rings;

    (void)port, (void)in_length;
    memcpy(&header, in, sizeof header);
    if (header.Command == FLTPORT_COMMAND_RINGS && refuses)
        return REFUSED;
    if (header.Command == FLTPORT_COMMAND_INFO)
        row = &info;
    else if (header.Command == FLTPORT_COMMAND_FEATURES)
        row = &features;
    memcpy(out, row, out_length);
    *returned = out_length;
    return 0;
}

port_code port_get(struct port *port, void *buffer, uint32_t capacity)
{
    (void)port, (void)buffer, (void)capacity;
    return REFUSED;
}

int port_take(struct port *port, uint32_t *length)
{
    (void)port, (void)length;
    return -1;
}

uint64_t port_event(struct port *port)
{
    (void)port;
    return 4;
}

void *port_view(struct port *port, uint64_t address, uint32_t length)
{
    (void)port, (void)length;
    return (void *)(uintptr_t)address;
}

static void must(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}

int main(void)
{
    static struct service service;
    struct options options = {.name = "unreadable"};

    must(service_connect(&service, &options, 0) != 0, "rings that cannot be read end the connection");
    must(!is_open && service.port == NULL, "it is closed");
    refuses = 1;
    must(service_connect(&service, &options, 1) == 0, "without rings there are frames");
    must(is_open && service.stream.rings == NULL, "it is open, and has no rings");
    service_disconnect(&service);
    return 0;
}
