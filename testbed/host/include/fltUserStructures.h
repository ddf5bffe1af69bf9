/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The headers of the messages on a communication port, as user mode sees them. The driver never
 * does.
 */
#ifndef NT_HOST_FLTUSERSTRUCTURES_H
#define NT_HOST_FLTUSERSTRUCTURES_H

#include "ntdef.h"

typedef struct _FILTER_MESSAGE_HEADER {
    ULONG ReplyLength;
    ULONGLONG MessageId;
} FILTER_MESSAGE_HEADER, *PFILTER_MESSAGE_HEADER;

typedef struct _FILTER_REPLY_HEADER {
    NTSTATUS Status;
    ULONGLONG MessageId;
} FILTER_REPLY_HEADER, *PFILTER_REPLY_HEADER;

#define FILTER_PORT_NAME_MAX_CHARS 255

#endif
