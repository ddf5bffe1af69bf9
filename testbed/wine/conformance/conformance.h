/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the driver and port-conformance agree upon. */
#pragma once

#define CONFORMANCE_PORT L"\\Conformance"
/* The connection context: a ULONG with this value. */
#define CONFORMANCE_VERSION 1
/* The longest question, and the longest answer. */
#define CONFORMANCE_BYTES 4096
#define CONFORMANCE_ROOM 64

/* FilterSendMessage hands the driver an order: ask me. It returns the outcome. Without bytes the order
   is to disconnect. */
typedef struct { ULONG Bytes, Room, Milliseconds; } ORDER;
typedef struct { LONG Status; ULONG Bytes; } OUTCOME;
