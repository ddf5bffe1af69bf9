/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The port, for a program of one thread: port_windows.c calls fltlib.dll, port_hosted.c speaks to the hosted kernel of
 * Linux over its socket. Nothing else here knows what system it runs on.
 *
 * One get waits at the port at a time, so frames come in order.
 */
#ifndef RING_WATCHER_PORT_H
#define RING_WATCHER_PORT_H

#include <stddef.h>
#include <stdint.h>

/* What the Filter Manager puts in front of each message. */
#define MESSAGE_HEADER 16

/* 0, or why not: an HRESULT on Windows, an NTSTATUS on the hosted kernel. */
typedef uint32_t port_code;
/* Which of both it is, for who reads it. */
extern const char port_code_kind[];

/* STATUS_NAME_TOO_LONG: nobody can listen where to connect was asked for, as standard error says. */
#define PORT_NO_PLACE 0xC0000106u

struct port;

/* What there is to do, as bits; 0 when the time was over first. */
#define PORT_FRAME 1u /* the get is complete, or the connection has ended */
#define PORT_RINGS 2u /* the driver has set the event */
#define PORT_LINE 4u  /* a line of standard input can be read, or its end */

/* Connects; `place` is the hosted kernel's socket, or NULL for the usual place. */
port_code port_connect(struct port **port, const char *place, const void *context, uint16_t length);
/* Ends the connection, and unmaps all views. */
void port_close(struct port *port);

/* FilterSendMessage; *returned are the bytes of the result. */
port_code port_send(struct port *port, const void *in, uint32_t in_length, void *out, uint32_t out_length,
                    uint32_t *returned);

/* FilterGetMessage: the buffer stays with the port until port_take says that it is complete. */
port_code port_get(struct port *port, void *buffer, uint32_t capacity);
/* 1: the get is complete, with so many bytes. 0: not yet. -1: the connection has ended. */
int port_take(struct port *port, uint32_t *length);

/* The handle of an event that a driver can set; 0 if there is none. */
uint64_t port_event(struct port *port);
/* A view that the driver says it has mapped; NULL if it cannot be. */
void *port_view(struct port *port, uint64_t address, uint32_t length);

/* Waits for what is asked for, at most so long; a port of NULL has no frames. */
unsigned port_wait(struct port *port, unsigned what, uint32_t milliseconds);
/* Reads a line of standard input that is there, without its end; 0: there is none yet, -1: nor will there be. */
int port_line(char *line, size_t capacity);

/* Milliseconds since some moment. */
uint64_t port_clock(void);

#endif
