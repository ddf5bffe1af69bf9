/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The rings of a connection: reads them, and merges them into one order. What lies where, and who may write what,
 * <fltport_service.h> says. Nothing here trusts what lies in the rings.
 */
#ifndef RING_WATCHER_RINGS_H
#define RING_WATCHER_RINGS_H

#include <fltport_service.h>

/* The largest record: a header, and the largest payload. */
#define MAX_RECORD (sizeof(FLTPORT_RECORD_HEADER) + FLTPORT_MAX_PAYLOAD)

/* One ring. */
struct ring {
    const uint8_t *records;       /* its bytes */
    const uint8_t *published;     /* the word that says up to where it is filled, */
    uint8_t *consumed;            /* and the one that says up to where it has been read */
    uint64_t at;                  /* up to where it has been read */
    uint64_t end;                 /* up to where it was filled when it was looked at last */
    uint64_t told;                /* up to where the driver knows that it has been read */
    FLTPORT_RECORD_HEADER header; /* a copy of the one at the front, */
    uint64_t first;               /* and the first number that it stands for, */
    int has_front;                /* if there is one */
};

struct rings {
    struct ring *ring;
    uint32_t count;
    uint32_t capacity; /* bytes of each, a power of two */
    uint8_t *bell;
    /* Which rings have a record at the front: a heap, the lowest number first. */
    uint32_t *heap;
    uint32_t ready;
    /* The ring in which something cannot be; count if there is none. */
    uint32_t corrupt;
};

enum rings_front {
    RINGS_EMPTY,   /* there is no record at all */
    RINGS_RECORD,  /* the one that was asked for can be taken */
    RINGS_MISSING, /* there are only later ones */
    RINGS_CORRUPT  /* whoever fills a ring is broken, or a record came that is too late */
};

/* Reads what the data says of itself. 0: it is none of this version, it is longer than the memory, or there is no
 * memory for the accounts. What was opened has to be closed; the memory has to stay until then. */
int rings_open(struct rings *rings, const void *data, size_t data_size, void *words, size_t words_size);
void rings_close(struct rings *rings);

/* What comes first, when the record with this number is wanted; *beyond is the number that there is instead. */
enum rings_front rings_front(struct rings *rings, uint64_t number, uint64_t *beyond);

/* Takes the record that was found: its header, as it was when it was checked, and padding and payload behind it. Returns
 * its size, at most MAX_RECORD. */
uint32_t rings_take(struct rings *rings, uint8_t *out);

/* Goes on behind records with lower numbers than this, which nobody waits for any more; how many. */
uint32_t rings_pass_over(struct rings *rings, uint64_t number);

/* Tells the driver what has been read: it may write over it. */
void rings_release(struct rings *rings);

/* Says that the caller is about to sleep. 0: something has come meanwhile, and it is not to. */
int rings_arm(struct rings *rings);
/* Says that it is awake, by whatever means. */
void rings_disarm(struct rings *rings);

#endif
