/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fltport for services in C and C++: what a service says to fltport.sys, what it is told, and what lies in
 * the rings through which it is told most.
 *
 * This file may be copied alone. It needs neither the Windows Driver Kit nor <windows.h>: it has structs and numbers
 * and no functions. What to call is fltlib.dll's: FilterConnectCommunicationPort with an FLTPORT_HELLO,
 * FilterSendMessage with an FLTPORT_COMMAND_HEADER and what belongs to the command, FilterGetMessage for frames, and
 * FilterReplyMessage for requests. examples/ring-watcher is a service that does all of it but reply. Replies, streams that
 * outlive a connection, and the bytes of filters are not described here: services that decide take the library in Rust.
 *
 * For little-endian 64-bit targets. Lengths are in bytes. Every field lies at a multiple of its size, so a compiler adds no
 * padding. What is reserved is 0. Times are NT system times: 100 ns since 1601.
 *
 * Order. The records of a connection have the numbers 1, 2, 3, ... without exception. A gap record stands for several: its
 * own number is the last of them. A number comes by one way only: in a frame, or in one of the rings.
 */
#ifndef FLTPORT_SERVICE_H
#define FLTPORT_SERVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Limits ---- */

/* The port's name, in the characters of the literal that it is put behind: FLTPORT_PORT_NAME(L). */
#define FLTPORT_PORT_NAME(prefix) prefix##"\\FltPort"
/* The version of frames, hello and commands, and the oldest that is still spoken. */
#define FLTPORT_PROTOCOL_VERSION 2
#define FLTPORT_MIN_PROTOCOL_VERSION 1
/* The largest frame. A buffer of that size, and the Filter Manager's header, is never too small. */
#define FLTPORT_MAX_FRAME (64 * 1024)
/* The largest payload of a notification. */
#define FLTPORT_MAX_PAYLOAD (60 * 1024)
/* The largest command, header included, and the largest result of one. */
#define FLTPORT_MAX_COMMAND (64 * 1024)
/* Message numbers go from 1 to this. */
#define FLTPORT_MAX_MESSAGE_NUMBER 63
/* Providers that can be registered at one time. */
#define FLTPORT_MAX_PROVIDERS 16
/* The longest name of a provider and of a service, in bytes of UTF-8. */
#define FLTPORT_MAX_PROVIDER_NAME 32
#define FLTPORT_MAX_SERVICE_NAME 48
/* The longest schema, encoded. */
#define FLTPORT_MAX_SCHEMA (16 * 1024)
/* The smallest and the largest queue of a connection, and the same of each of its rings. */
#define FLTPORT_MIN_QUEUE (64 * 1024)
#define FLTPORT_MAX_QUEUE (16 * 1024 * 1024)
#define FLTPORT_MIN_RING (64 * 1024)
#define FLTPORT_MAX_RING (16 * 1024 * 1024)

/* Why a notification was lost. */
#define FLTPORT_CAUSE_RING_FULL 0
#define FLTPORT_CAUSE_RATE_LIMIT 1
#define FLTPORT_CAUSE_QUOTA 2
#define FLTPORT_CAUSE_NO_MEMORY 3
#define FLTPORT_CAUSE_TOO_LARGE 4
#define FLTPORT_CAUSE_NO_CONNECTION 5
#define FLTPORT_CAUSE_DISCONNECTED 6
#define FLTPORT_CAUSE_TIMEOUT 7
#define FLTPORT_CAUSE_SHUTTING_DOWN 8
#define FLTPORT_CAUSE_WRONG_IRQL 9
#define FLTPORT_CAUSES 10

/* ---- Hello: the connection context ---- */

#define FLTPORT_HELLO_MAGIC 0x49485046u /* "FPHI" */

/* FLTPORT_HELLO.Rights: what the service wants to do. What it may not is refused at the connect. */
#define FLTPORT_RIGHT_OBSERVE 1u
#define FLTPORT_RIGHT_DECIDE 2u
#define FLTPORT_RIGHT_COMMAND 4u

typedef struct _FLTPORT_HELLO {
    uint32_t Magic;
    uint16_t MinVersion; /* the oldest protocol version that the service speaks, */
    uint16_t MaxVersion; /* and the newest */
    uint32_t Generation; /* how often it has connected before */
    uint32_t Rights;
    uint64_t Reserved;
    char Name[48];       /* for operators; UTF-8, padded with zeros, without one at the end if it is that long */
} FLTPORT_HELLO;

/* ---- Frames: behind the Filter Manager's 16 bytes in what FilterGetMessage brings ---- */

#define FLTPORT_FRAME_MAGIC 0x52465046u /* "FPFR" */
#define FLTPORT_FRAME_RECORDS 1         /* records follow, one behind the other */
#define FLTPORT_FRAME_REQUEST 2         /* one record of that kind, to be replied to */

typedef struct _FLTPORT_FRAME_HEADER {
    uint32_t Magic;
    uint16_t Version;
    uint16_t Kind;
    uint32_t Length;     /* of the frame, this header included: exactly what came */
    uint32_t Records;    /* how many */
    uint32_t DeadlineMs; /* of a request: until nobody waits for the reply */
    uint32_t Connection; /* the connection's number, which no other one ever has */
} FLTPORT_FRAME_HEADER;

/* FLTPORT_RECORD_HEADER.Kind; pass over those that are not known. */
#define FLTPORT_RECORD_NOTIFICATION 1
#define FLTPORT_RECORD_GAP 2           /* FLTPORT_GAP_HEADER, and entries */
#define FLTPORT_RECORD_REQUEST 3       /* only in a frame of its own */
#define FLTPORT_RECORD_OUTCOME 4       /* FLTPORT_OUTCOME_HEADER, the request, padding, the reply */
#define FLTPORT_RECORD_SNAPSHOT 5      /* a part of the provider's present state */
#define FLTPORT_RECORD_SNAPSHOT_END 6  /* that was all: what follows is live */
#define FLTPORT_RECORD_ASYNC_REQUEST 7 /* answered by a command */

/* In frames and in rings. The payload follows, and padding to a multiple of 8. */
typedef struct _FLTPORT_RECORD_HEADER {
    uint32_t Size;     /* of the record: this header, the payload, the padding */
    uint32_t Payload;  /* bytes of the payload */
    uint64_t Sequence; /* its number; of a gap, the last of its numbers; of a request, its id */
    int64_t Time;
    uint16_t Provider; /* 0: the common driver itself */
    uint16_t Message;  /* the message's number within the provider */
    uint16_t Kind;
    uint16_t Fixed;    /* bytes of the payload's fixed part */
} FLTPORT_RECORD_HEADER;

/* What was lost at this place of the stream; so many entries follow. The sum of their counts is how many numbers the gap
 * stands for. */
typedef struct _FLTPORT_GAP_HEADER {
    uint64_t First; /* its first number; its last one is the record's */
    uint32_t Entries;
    uint32_t Reserved;
} FLTPORT_GAP_HEADER;

/* FLTPORT_GAP_ENTRY.By: nobody took too much. */
#define FLTPORT_BLAME_NONE 0xFFFFu

typedef struct _FLTPORT_GAP_ENTRY {
    uint64_t Count;
    uint16_t Provider;
    uint16_t Message;
    uint16_t Cause; /* FLTPORT_CAUSE_ */
    uint16_t By;    /* the provider that took too much */
} FLTPORT_GAP_ENTRY;

typedef struct _FLTPORT_OUTCOME_HEADER {
    uint64_t Request;  /* its id */
    uint32_t WaitedUs;
    uint32_t Decider;  /* the connection that was asked; 0: none */
    uint32_t Payload;  /* bytes of the request's payload */
    uint16_t Reply;    /* bytes of the reply's */
    uint16_t Outcome;
} FLTPORT_OUTCOME_HEADER;

/* Messages of provider 0, of which every connection that may observe is told. */
#define FLTPORT_OWN_MESSAGE_PROVIDER 1        /* a provider has registered or is gone */
#define FLTPORT_OWN_MESSAGE_BACKLOGS_UNREAD 2 /* providers went with what nobody had read */

/* ---- Commands: what FilterSendMessage carries ---- */

#define FLTPORT_COMMAND_MAGIC 0x4D435046u /* "FPCM" */

typedef struct _FLTPORT_COMMAND_HEADER {
    uint32_t Magic;
    uint16_t Version;  /* FLTPORT_MIN_PROTOCOL_VERSION: it has always looked like this */
    uint16_t Command;
    uint32_t Provider; /* 0: the common driver, with one of the numbers below */
    uint32_t Payload;  /* bytes that follow: exactly the rest */
} FLTPORT_COMMAND_HEADER;

/* The common driver's commands that a service needs, each with its payload and its result. */
#define FLTPORT_COMMAND_INFO 1                /* none; FLTPORT_CONNECTION_ROW */
#define FLTPORT_COMMAND_PROVIDERS 2           /* FLTPORT_PAGE; FLTPORT_PROVIDER_ROW each */
#define FLTPORT_COMMAND_SCHEMA 3              /* a provider's number as uint32_t; its schema, encoded */
#define FLTPORT_COMMAND_SUBSCRIBE 4           /* FLTPORT_SUBSCRIPTION; none */
#define FLTPORT_COMMAND_LEDGER 6              /* FLTPORT_PAGE; FLTPORT_LEDGER_ROW each */
#define FLTPORT_COMMAND_FEATURES 8            /* none; FLTPORT_FEATURES_ROW. Older drivers refuse it */
#define FLTPORT_COMMAND_LIMITS 15             /* FLTPORT_LIMITS; none */
#define FLTPORT_COMMAND_SUBSCRIBE_FILTERED 16 /* FLTPORT_FILTERED_SUBSCRIPTION, filters; none */
#define FLTPORT_COMMAND_RINGS 18              /* FLTPORT_RINGS_WANTED; FLTPORT_RINGS_ROW */

/* Which rows of a list. A result that left room for one more row is the end. */
typedef struct _FLTPORT_PAGE {
    uint32_t Skip;
    uint32_t Reserved;
} FLTPORT_PAGE;

/* Replaces the connection's former subscription to that provider. Numbers that the provider does not have are refused with
 * STATUS_INVALID_PARAMETER, so there is no "all": a service is built with the messages that it knows, or reads the schema. */
typedef struct _FLTPORT_SUBSCRIPTION {
    uint32_t Provider;
    uint32_t Reserved;
    uint64_t Observe; /* bit n: notifications, and outcomes of requests, with number n */
    uint64_t Decide;  /* bit n: be asked requests with number n */
} FLTPORT_SUBSCRIPTION;

/* FLTPORT_FILTERED_SUBSCRIPTION.Flags */
#define FLTPORT_SUBSCRIBE_SNAPSHOT 1u  /* the provider's present state first */
#define FLTPORT_SUBSCRIBE_MUTE_SELF 2u /* nothing of what this process and its descendants cause */

typedef struct _FLTPORT_FILTERED_SUBSCRIPTION {
    uint32_t Provider;
    uint32_t Flags;
    uint64_t Observe;
    uint64_t Decide;
    uint64_t Hash;    /* of the schema that the filters are for; 0 without any */
    uint32_t Filters; /* bytes of them, which follow */
    uint32_t Reserved;
} FLTPORT_FILTERED_SUBSCRIPTION;

/* Only before anything is in the queue. */
typedef struct _FLTPORT_LIMITS {
    uint32_t Queue; /* bytes; 0: as it is */
    uint32_t Rate;  /* records a second; 0: no limit */
    uint32_t Burst; /* how many at once; 0: as many as in a second */
    uint32_t Reserved;
} FLTPORT_LIMITS;

/* FLTPORT_FEATURES_ROW.Features */
#define FLTPORT_FEATURE_FILTERS 2u
#define FLTPORT_FEATURE_SNAPSHOTS 4u
#define FLTPORT_FEATURE_MUTE 8u
#define FLTPORT_FEATURE_LIMITS 32u
#define FLTPORT_FEATURE_RINGS 256u

typedef struct _FLTPORT_FEATURES_ROW {
    uint64_t Features;
    uint16_t Version;       /* the newest protocol version of the driver, */
    uint16_t MinVersion;    /* and the oldest */
    uint32_t Interface;
    uint32_t InterfaceSize;
    uint32_t MaxConnections;
    uint32_t MaxProviders;
    uint32_t Reserved;
} FLTPORT_FEATURES_ROW;

typedef struct _FLTPORT_PROVIDER_ROW {
    uint32_t Provider;    /* its number, which no other one ever has */
    uint32_t Schema;      /* bytes of its schema */
    uint64_t Hash;        /* of its schema */
    uint32_t Backlog;
    uint32_t BacklogUsed;
    int64_t Since;
    char Name[32];        /* UTF-8, padded with zeros */
} FLTPORT_PROVIDER_ROW;

typedef struct _FLTPORT_CONNECTION_ROW {
    uint32_t Connection;
    uint32_t Pid;
    int64_t Since;
    uint32_t Rights;
    uint32_t Generation;
    uint64_t NextSequence;
    uint32_t Queued;
    uint32_t QueuedPeak;
    uint32_t Capacity;
    uint16_t Version;     /* the protocol version that was agreed on */
    uint16_t Own;         /* 1: the connection that asks */
    char Name[48];
} FLTPORT_CONNECTION_ROW;

/* FLTPORT_LEDGER_ROW.Connection */
#define FLTPORT_LEDGER_BACKLOG 0u         /* a provider's backlog */
#define FLTPORT_LEDGER_ENDED 0xFFFFFFFFu  /* all connections that have ended, together */

/* Offered is at every moment the sum of Delivered, InFlight and all of Lost. */
typedef struct _FLTPORT_LEDGER_ROW {
    uint32_t Connection;
    uint16_t Provider;
    uint16_t Message;
    uint64_t Offered;
    uint64_t Delivered;
    uint64_t InFlight;
    uint64_t Lost[FLTPORT_CAUSES]; /* by cause */
    uint64_t InFlightPeak;
} FLTPORT_LEDGER_ROW;

/* ---- Rings: shared memory through which records come ---- */

/*
 * FLTPORT_COMMAND_RINGS, once for a connection and before it subscribes. If the driver refuses, or does not know the
 * command, records come in frames, as they do without. With rings some still do: what is kept for the
 * connection from before, and what found its ring full. There is no way back: a service that is given rings which it cannot
 * read ends the connection.
 *
 * Two views are mapped into the process. The service unmaps them (UnmapViewOfFile) when the connection has ended.
 *
 * The data can be read only. It begins with an FLTPORT_RING_SHAPE. There is a ring for each processor. Up to where a ring is
 * filled says a word of 64 bits at Published + ring * FLTPORT_RING_LINE: a position, which only grows. What lies at a
 * position is at First + ring * Capacity + (position modulo Capacity), and goes on at the ring's beginning when it comes to its
 * end. Records are as in frames, but begin at positions that are multiples of FLTPORT_RING_STRIDE, so a header is
 * never cut in two. Within a ring numbers grow. Whoever reads checks Size and the rest in a copy of the header: what lies
 * there is another's to write.
 *
 * The consumer's words can be written. At Consumed + ring * FLTPORT_RING_LINE lies the position up to which that ring has been
 * read; it begins with what is there. At FLTPORT_RING_BELL lies the bell, a word of 32 bits.
 *
 * To read: load a ring's published position (acquire), read the records up to it, and store the position behind the last that
 * is not needed any more as consumed (release). Of several rings the record with the next number comes
 * first. If none has it, then it comes in a frame, or a processor has taken it and not published yet: that takes
 * microseconds, as a rule, but nothing shows how long, so only time says that it will not come.
 * Load a published position once for many records, and after few not again for a microsecond or a few: whoever publishes next
 * waits for its cache line, which somebody has just looked at.
 *
 * To sleep: exchange the bell for 1; a full fence; load all published positions again. If one has moved, exchange the bell for 0 and read
 * on. If none has, wait for the event, and then exchange the bell for 0. Without the fence the loads may come
 * before the bell is seen, and nobody wakes the sleeper.
 */

#define FLTPORT_RING_MAGIC 0x47525046u /* "FPRG" */
#define FLTPORT_RING_VERSION 1
/* Bytes from one ring's word to that of the next; and before that of the first, in the consumer's words. */
#define FLTPORT_RING_LINE 128
/* Positions of records are multiples of this. */
#define FLTPORT_RING_STRIDE 32
/* Where the bell lies in the consumer's words. */
#define FLTPORT_RING_BELL 0
#define FLTPORT_RING_ARMED 1u
/* The most rings. */
#define FLTPORT_MAX_RINGS 2048

typedef struct _FLTPORT_RINGS_WANTED {
    uint32_t Capacity; /* bytes of each ring, rounded up to a power of two; 0: what the driver thinks fit */
    uint32_t Reserved;
    uint64_t Event;    /* a handle of an event in this process, which the driver sets if the bell is armed */
} FLTPORT_RINGS_WANTED;

typedef struct _FLTPORT_RINGS_ROW {
    uint64_t Data;         /* the address of the data in this process, */
    uint64_t Consumer;     /* and of the consumer's words */
    uint32_t DataSize;
    uint32_t ConsumerSize;
    uint64_t Reserved;
} FLTPORT_RINGS_ROW;

typedef struct _FLTPORT_RING_SHAPE {
    uint32_t Magic;
    uint32_t Version;
    uint32_t Rings;     /* how many */
    uint32_t Capacity;  /* bytes of each, a power of two */
    uint32_t Published; /* where in the data the first ring's word lies */
    uint32_t First;     /* where in the data the first ring lies */
    uint32_t Consumed;  /* where in the consumer's words the first ring's word lies */
    uint32_t Reserved;
} FLTPORT_RING_SHAPE;

#ifdef __cplusplus
}
#endif

#endif
