/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What has come, counted, and whether it came as it was sent: the messages are those of the project's load generator, whose
 * numbers tell. Of other providers records are counted.
 */
#ifndef RING_WATCHER_TALLY_H
#define RING_WATCHER_TALLY_H

#include "stream.h"

#include <stdio.h>

/* Counts that have no index. */
enum count {
    COUNT_ACCOUNTED, /* what was told, and what was told to be lost */
    COUNT_TICKS,
    COUNT_BLOBS,
    COUNT_EARLY,
    COUNT_OBJECTS,
    COUNT_BEGUN,
    COUNT_ENDED,
    COUNT_DEEDS,
    COUNT_DISPATCH,    /* ticks that were sent at DISPATCH_LEVEL */
    COUNT_OTHERS,      /* notifications of other providers */
    COUNT_OUTCOMES,
    COUNT_REPORTED,    /* in snapshots */
    COUNT_SNAPSHOTS,   /* that are complete */
    COUNT_GAPS,
    COUNT_LOST,        /* what gaps stand for */
    COUNT_SINCE_GAP,   /* notifications since the last one */
    COUNT_SKIPPED,     /* what is missing by the numbers of who sent it, */
    COUNT_UNANNOUNCED, /* and where no gap tells of it */
    COUNT_DISORDERED,
    COUNT_DAMAGED,     /* what is not as it was sent */
    COUNT_MISSING,     /* numbers of the stream that did not come */
    COUNT_REPEATED,
    COUNT_UNKNOWN,     /* records of unknown kinds */
    COUNT_DISCONNECTED,
    COUNT_RECONNECTED,
    COUNTS
};

/* As many providers of the load generator as there can be, counted from 1. */
#define TALLY_PLACES 6
#define TALLY_OBJECTS 64

/* A thread of a provider's job. */
struct thread {
    uint32_t provider;
    uint32_t job;
    uint32_t thread;
    uint64_t next; /* the number that it sends next */
    uint64_t gaps; /* how many gaps had been told when its last one came */
};

/* What is known of an object. */
struct object {
    int is_known;
    uint64_t version;
    uint64_t gaps;
};

/* The numbers of the providers. */
struct place {
    uint32_t provider;
    int has_snapshot; /* what was not in it was not there */
    uint64_t ticks, blobs, lost, blamed;
    struct object objects[TALLY_OBJECTS];
};

struct tally {
    uint64_t counts[COUNTS];
    uint64_t lost_by[FLTPORT_CAUSES + 1];                   /* the last: other causes */
    uint64_t lost_of[FLTPORT_MAX_MESSAGE_NUMBER + 1];       /* by message */
    struct place places[TALLY_PLACES + 1];
    struct thread *threads;
    size_t thread_count, thread_room;
};

/* Which of the load generator's providers has this name; 0: none. */
unsigned tally_place(const char *provider);

/* The load generator's provider of this place has this number now. */
void tally_know(struct tally *tally, unsigned place, uint32_t provider);

/* A record has come, of the load generator's provider of this place; 0: of another one. */
void tally_record(struct tally *tally, unsigned place, const struct record *record);

/* A new connection: numbers begin anew. */
void tally_begin_anew(struct tally *tally);

/* Calls with the name and the value of each count. */
void tally_each(const struct tally *tally, void (*act)(void *context, const char *name, uint64_t value),
                void *context);

void tally_free(struct tally *tally);

#endif
