/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Orders, one a line on standard input, each answered by a line on standard output: `done`, with counts as NAME=NUMBER, or
 * `refused` and why. Scenarios of testbed/scenarios give them.
 *
 *   subscribe PROVIDER OBSERVE FLAGS MS   OBSERVE and FLAGS as in FLTPORT_FILTERED_SUBSCRIPTION, hexadecimal; waits so
 *                                         long for the provider
 *   see MS [NAME=NUMBER]...               waits so long until each count is at least that; all counts
 *   sleep | wake                          takes records, or leaves them where they are, from now on
 *   leave
 */
#ifndef RING_WATCHER_ORDERS_H
#define RING_WATCHER_ORDERS_H

#include "service.h"
#include "tally.h"

/* As many counts as one order names. */
#define MAX_EXPECTED 16

enum waiting { WAITS_FOR_NOTHING, WAITS_FOR_PROVIDER, WAITS_FOR_COUNTS };

struct orders {
    enum waiting waiting;
    uint64_t deadline;
    /* What was ordered. */
    char provider[FLTPORT_MAX_PROVIDER_NAME + 1];
    uint64_t observe;
    uint32_t flags;
    struct expected {
        char name[32];
        uint64_t number;
    } expected[MAX_EXPECTED];
    unsigned expected_count;
};

struct watcher {
    struct options options;
    struct service service;
    struct tally tally;
    struct orders orders;
    uint32_t generation;
    int takes_orders;
    int is_asleep;       /* takes no records */
    int has_left;
    int provider_came;   /* since an order waits for one */
    uint64_t retry;      /* when to connect again */
};

/* Obeys what can be obeyed now. 0: nobody gives orders any more. */
int orders_obey(struct watcher *watcher);

/* How long the order that waits may still wait, in milliseconds. */
uint32_t orders_patience(const struct watcher *watcher, uint64_t now);

#endif
