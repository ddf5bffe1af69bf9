/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tally.h"

#include <stdlib.h>
#include <string.h>

/* Messages of the load generator. */
enum message { TICK = 1, BLOB = 2, EARLY = 3, OBJECT = 4, BEGUN = 5, ENDED = 6, DEED = 7 };

struct tick {
    uint64_t number; /* counts from 0 within its job and thread */
    uint32_t job;
    uint32_t thread;
    uint32_t irql;
    uint32_t reserved;
};

/* Where the bytes lie in the payload, and how many. */
struct blob {
    uint64_t number;
    uint32_t job;
    uint32_t thread;
    uint32_t offset;
    uint32_t length;
};

struct early {
    uint64_t number;
    uint64_t of;
};

struct changed {
    uint64_t number;
    uint64_t version;
};

struct half {
    uint64_t number;
    uint32_t job;
    uint32_t thread;
};

#define DISPATCH_LEVEL 2

static const char *const names[COUNTS] = {
    "accounted", "ticks",   "blobs",   "early",       "objects",    "begun",   "ended",   "deeds",    "dispatch",
    "others",    "outcomes", "reported", "snapshots",   "gaps",       "lost",    "since-gap", "skipped",  "unannounced",
    "disordered", "damaged", "missing", "repeated",    "unknown",    "disconnected", "reconnected",
};

static const char *const causes[FLTPORT_CAUSES + 1] = {
    "ring-full",    "rate-limit", "quota",         "no-memory",  "too-large",     "no-connection",
    "disconnected", "timeout",    "shutting-down", "wrong-irql", "another-cause",
};

unsigned tally_place(const char *provider)
{
    static const char *const places[TALLY_PLACES] = {"loadgen",   "loadgen-2", "loadgen-3",
                                                     "loadgen-4", "loadgen-5", "loadgen-declaring"};
    unsigned n;
    for (n = 0; provider != NULL && n < TALLY_PLACES; n++) {
        if (strcmp(places[n], provider) == 0)
            return n + 1;
    }
    return 0;
}

static void count(struct tally *tally, enum count which, uint64_t by)
{
    tally->counts[which] += by;
    if (which == COUNT_TICKS || which == COUNT_BLOBS || which == COUNT_EARLY || which == COUNT_LOST)
        tally->counts[COUNT_ACCOUNTED] += by;
}

/* ---- Order ---- */

/* The thread, which is new if nothing has come of it; NULL if there is no memory for it. */
static struct thread *thread_of(struct tally *tally, uint32_t provider, uint32_t job, uint32_t thread, int *is_new)
{
    struct thread *found;
    size_t n;
    *is_new = 0;
    /* The latest jobs first: they are those that send. */
    for (n = tally->thread_count; n > 0; n--) {
        found = &tally->threads[n - 1];
        if (found->provider == provider && found->job == job && found->thread == thread)
            return found;
    }
    if (tally->thread_count == tally->thread_room) {
        size_t room = tally->thread_room == 0 ? 64 : 2 * tally->thread_room;
        void *larger = realloc(tally->threads, room * sizeof *tally->threads);
        if (larger == NULL)
            return NULL;
        tally->threads = larger;
        tally->thread_room = room;
    }
    found = &tally->threads[tally->thread_count++];
    memset(found, 0, sizeof *found);
    found->provider = provider;
    found->job = job;
    found->thread = thread;
    *is_new = 1;
    return found;
}

/* A number of a thread: they are sent one after the other. What is missing was lost between two of them, so that is where a
 * gap must tell of it. */
static void in_order(struct tally *tally, uint32_t provider, uint32_t job, uint32_t number_of_thread, uint64_t number)
{
    int is_new;
    struct thread *thread = thread_of(tally, provider, job, number_of_thread, &is_new);
    uint64_t skipped;
    if (thread == NULL) {
        count(tally, COUNT_UNKNOWN, 1);
        return;
    }
    skipped = number > thread->next ? number - thread->next : 0;
    count(tally, COUNT_SKIPPED, skipped);
    count(tally, COUNT_DISORDERED, number < thread->next);
    /* Whoever comes in the middle of a job has missed its beginning, which is no loss. */
    if (!is_new && thread->gaps == tally->counts[COUNT_GAPS])
        count(tally, COUNT_UNANNOUNCED, skipped);
    thread->next = number + 1;
    thread->gaps = tally->counts[COUNT_GAPS];
}

/* An object goes from the version that is known to the next one, unless a gap says otherwise. */
static void change(struct tally *tally, struct place *place, const struct changed *now)
{
    struct object *object;
    uint64_t skipped = 0;
    if (now->number >= TALLY_OBJECTS) {
        count(tally, COUNT_DAMAGED, 1);
        return;
    }
    object = &place->objects[now->number];
    if (object->is_known || place->has_snapshot) {
        count(tally, COUNT_DISORDERED, now->version <= object->version);
        if (now->version > object->version)
            skipped = now->version - object->version - 1;
        count(tally, COUNT_SKIPPED, skipped);
        if (object->gaps == tally->counts[COUNT_GAPS])
            count(tally, COUNT_UNANNOUNCED, skipped);
    }
    object->is_known = 1;
    object->version = now->version;
    object->gaps = tally->counts[COUNT_GAPS];
}

static void report(struct tally *tally, struct place *place, const struct record *record)
{
    struct changed now;
    count(tally, COUNT_REPORTED, 1);
    if (record->header.Payload < sizeof now) {
        count(tally, COUNT_DAMAGED, 1);
        return;
    }
    memcpy(&now, record->payload, sizeof now);
    if (now.number < TALLY_OBJECTS) {
        struct object *object = &place->objects[now.number];
        object->is_known = 1;
        object->version = now.version;
        object->gaps = tally->counts[COUNT_GAPS];
    }
}

/* ---- Records ---- */

static int is_intact(const struct record *record, const struct blob *blob)
{
    uint32_t n;
    if (blob->offset > record->header.Payload || blob->length > record->header.Payload - blob->offset)
        return 0;
    for (n = 0; n < blob->length; n++) {
        if (record->payload[blob->offset + n] != (uint8_t)blob->number)
            return 0;
    }
    return 1;
}

/* Copies a message's fixed part; 0 and it is counted if there is less of it. */
static int read(struct tally *tally, const struct record *record, void *out, size_t size)
{
    if (record->header.Payload < size) {
        count(tally, COUNT_DAMAGED, 1);
        return 0;
    }
    memcpy(out, record->payload, size);
    return 1;
}

static void told(struct tally *tally, struct place *place, const struct record *record)
{
    uint32_t provider = record->header.Provider;
    union {
        struct tick tick;
        struct blob blob;
        struct early early;
        struct changed changed;
        struct half half;
    } it;

    switch (record->header.Message) {
    case TICK:
        if (read(tally, record, &it.tick, sizeof it.tick)) {
            count(tally, COUNT_TICKS, 1);
            place->ticks++;
            count(tally, COUNT_DISPATCH, it.tick.irql >= DISPATCH_LEVEL);
            in_order(tally, provider, it.tick.job, it.tick.thread, it.tick.number);
        }
        break;
    case BLOB:
        if (read(tally, record, &it.blob, sizeof it.blob)) {
            count(tally, COUNT_BLOBS, 1);
            place->blobs++;
            count(tally, COUNT_DAMAGED, !is_intact(record, &it.blob));
            in_order(tally, provider, it.blob.job, it.blob.thread, it.blob.number);
        }
        break;
    case EARLY:
        if (read(tally, record, &it.early, sizeof it.early)) {
            count(tally, COUNT_EARLY, 1);
            in_order(tally, provider, 0, 0, it.early.number);
        }
        break;
    case OBJECT:
        if (read(tally, record, &it.changed, sizeof it.changed)) {
            count(tally, COUNT_OBJECTS, 1);
            change(tally, place, &it.changed);
        }
        break;
    case BEGUN:
    case ENDED:
    case DEED:
        if (read(tally, record, &it.half, sizeof it.half)) {
            enum count which = record->header.Message == BEGUN   ? COUNT_BEGUN
                               : record->header.Message == ENDED ? COUNT_ENDED
                                                                 : COUNT_DEEDS;
            count(tally, which, 1);
        }
        break;
    default:
        count(tally, COUNT_OTHERS, 1);
    }
}

void tally_know(struct tally *tally, unsigned place, uint32_t provider)
{
    if (place != 0 && place <= TALLY_PLACES)
        tally->places[place].provider = provider;
}

static struct place *place_of(struct tally *tally, uint32_t provider)
{
    unsigned n;
    for (n = 1; n <= TALLY_PLACES; n++) {
        if (tally->places[n].provider == provider && provider != 0)
            return &tally->places[n];
    }
    return NULL;
}

static void lost(struct tally *tally, const FLTPORT_GAP_ENTRY *entry)
{
    struct place *of = place_of(tally, entry->Provider), *by = place_of(tally, entry->By);
    unsigned cause = entry->Cause < FLTPORT_CAUSES ? entry->Cause : FLTPORT_CAUSES;
    count(tally, COUNT_LOST, entry->Count);
    tally->lost_by[cause] += entry->Count;
    if (of != NULL) {
        of->lost += entry->Count;
        if (entry->Message <= FLTPORT_MAX_MESSAGE_NUMBER)
            tally->lost_of[entry->Message] += entry->Count;
    }
    if (by != NULL)
        by->blamed += entry->Count;
}

/* A gap: as many as it stands for are told to be lost, or it is damaged. */
static void gap(struct tally *tally, const struct record *record)
{
    FLTPORT_GAP_HEADER header;
    FLTPORT_GAP_ENTRY entry;
    uint64_t stands_for = record->last - record->first + 1, told_of = 0;
    uint32_t n;

    memcpy(&header, record->payload, sizeof header);
    count(tally, COUNT_GAPS, 1);
    tally->counts[COUNT_SINCE_GAP] = 0;
    if (record->header.Payload - sizeof header != (uint64_t)header.Entries * sizeof entry) {
        count(tally, COUNT_DAMAGED, 1);
        return;
    }
    for (n = 0; n < header.Entries; n++) {
        memcpy(&entry, record->payload + sizeof header + n * sizeof entry, sizeof entry);
        told_of += entry.Count;
        lost(tally, &entry);
    }
    count(tally, COUNT_DAMAGED, told_of != stands_for);
}

void tally_record(struct tally *tally, unsigned number, const struct record *record)
{
    struct place *place = number <= TALLY_PLACES ? &tally->places[number] : tally->places;
    switch (record->header.Kind) {
    case FLTPORT_RECORD_NOTIFICATION:
        /* The common driver's own are no provider's. */
        if (record->header.Provider == 0)
            return;
        count(tally, COUNT_SINCE_GAP, 1);
        if (number != 0)
            told(tally, place, record);
        else
            count(tally, COUNT_OTHERS, 1);
        return;
    case FLTPORT_RECORD_GAP:
        gap(tally, record);
        return;
    case FLTPORT_RECORD_OUTCOME:
        count(tally, COUNT_OUTCOMES, 1);
        return;
    case FLTPORT_RECORD_SNAPSHOT:
        report(tally, place, record);
        return;
    case FLTPORT_RECORD_SNAPSHOT_END:
        count(tally, COUNT_SNAPSHOTS, 1);
        place->has_snapshot = 1;
        return;
    default:
        count(tally, COUNT_UNKNOWN, 1);
    }
}

void tally_begin_anew(struct tally *tally)
{
    unsigned n;
    tally->thread_count = 0;
    for (n = 0; n <= TALLY_PLACES; n++) {
        tally->places[n].has_snapshot = 0;
        memset(tally->places[n].objects, 0, sizeof tally->places[n].objects);
    }
}

void tally_free(struct tally *tally)
{
    free(tally->threads);
    tally->threads = NULL;
    tally->thread_count = tally->thread_room = 0;
}

void tally_each(const struct tally *tally, void (*act)(void *context, const char *name, uint64_t value), void *context)
{
    static const char *const messages[] = {NULL, "tick", "blob", "early", "object", "begun", "ended", "deed"};
    char name[32];
    unsigned n;

    for (n = 0; n < COUNTS; n++)
        act(context, names[n], tally->counts[n]);
    for (n = 0; n <= FLTPORT_CAUSES; n++) {
        snprintf(name, sizeof name, "lost-%s", causes[n]);
        act(context, name, tally->lost_by[n]);
    }
    for (n = 1; n < sizeof messages / sizeof messages[0]; n++) {
        snprintf(name, sizeof name, "lost-%s", messages[n]);
        act(context, name, tally->lost_of[n]);
    }
    for (n = 1; n <= TALLY_PLACES; n++) {
        const struct place *place = &tally->places[n];
        snprintf(name, sizeof name, "ticks-of-%u", n);
        act(context, name, place->ticks);
        snprintf(name, sizeof name, "blobs-of-%u", n);
        act(context, name, place->blobs);
        snprintf(name, sizeof name, "lost-of-%u", n);
        act(context, name, place->lost);
        snprintf(name, sizeof name, "lost-by-%u", n);
        act(context, name, place->blamed);
    }
}
