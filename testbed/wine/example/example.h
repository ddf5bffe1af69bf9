/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What driver.c and client.c agree upon. */
#pragma once

#define EXAMPLE_PORT L"\\Example"
/* The connection context: a ULONG with this value. */
#define EXAMPLE_VERSION 1
/* The longest question, and the longest answer. */
#define EXAMPLE_BYTES 4096
#define EXAMPLE_ROOM 64

/* FilterSendMessage hands the driver an order: ask me. It returns the outcome. Without bytes the order
   is to disconnect. */
typedef struct { ULONG Bytes, Room, Milliseconds; } ORDER;
typedef struct { LONG Status; ULONG Bytes; } OUTCOME;
