/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The records of a connection in the order of their numbers, from rings and from frames.
 *
 * Frames come in order, because one get waits at a time, so the next number is at the front of the frame, at the
 * front of a ring, or not there yet.
 */
#ifndef RING_WATCHER_STREAM_H
#define RING_WATCHER_STREAM_H

#include "rings.h"

/* What comes next. */
enum stream_step {
    STREAM_NOTHING,  /* nothing, for now */
    STREAM_RECORD,   /* a record */
    STREAM_MISSING,  /* the numbers from first to last do not come, and nothing says why */
    STREAM_REPEATED, /* a record that has been there before; it has been passed over */
    STREAM_CORRUPT   /* what cannot be: the connection is of no use any more */
};

struct record {
    FLTPORT_RECORD_HEADER header;
    const uint8_t *payload; /* until the next call; at a multiple of 8 */
    uint64_t first;         /* the first number that it stands for, */
    uint64_t last;          /* and the last; of what is missing, too */
};

struct stream {
    struct rings *rings;     /* NULL: everything comes in frames */
    uint32_t connection;     /* the number that frames must have */
    uint64_t next;           /* the number that is expected */
    const uint8_t *frame;    /* what is left of the present one, */
    size_t left;             /* so many bytes */
    uint32_t records;        /* and records */
    uint64_t hole;           /* the number that is missing, */
    uint64_t hole_since;     /* since when, */
    uint64_t looked;         /* and when it was looked last */
    int may_be_late;         /* numbers were given up, and may come yet */
    int unreleased;          /* the driver does not know that all was read */
    uint64_t copy[(MAX_RECORD + 7) / 8];
};

/* A stream begins, of the connection with this number. */
void stream_begin(struct stream *stream, struct rings *rings, uint32_t connection);

/* Whether there is something left of the frame, which has to stay where it is. */
int stream_reads_frame(const struct stream *stream);
/* A frame has come; 0 if it is none. */
int stream_frame(struct stream *stream, const uint8_t *frame, size_t length);

/* What comes next; the time is port_clock's. `ended`: of a connection that has, the rest of the frame. */
enum stream_step stream_next(struct stream *stream, struct record *record, uint64_t now, int ended);

/* Everything that came has been dealt with. */
void stream_release(struct stream *stream);

/* How long to sleep at most for the sake of what is missing, in milliseconds. */
uint32_t stream_patience(const struct stream *stream, uint64_t now);

#endif
