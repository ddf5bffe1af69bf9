/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "rings.h"

#include "memory.h"

#include <stdlib.h>

static int is_power_of_two(uint32_t number)
{
    return number != 0 && (number & (number - 1)) == 0;
}

/* Whether so many rings' words lie within the memory, at multiples of their size. */
static int words_fit(uint32_t offset, uint32_t rings, size_t size)
{
    return offset >= 8 && offset % 8 == 0 && offset + (uint64_t)rings * FLTPORT_RING_LINE <= size;
}

static int is_sound(const FLTPORT_RING_SHAPE *shape, size_t data_size, size_t words_size)
{
    return shape->Magic == FLTPORT_RING_MAGIC && shape->Version == FLTPORT_RING_VERSION && shape->Rings != 0 &&
           shape->Rings <= FLTPORT_MAX_RINGS && is_power_of_two(shape->Capacity) &&
           shape->Capacity >= FLTPORT_MIN_RING && shape->Capacity <= FLTPORT_MAX_RING && shape->First % 8 == 0 &&
           shape->First + (uint64_t)shape->Rings * shape->Capacity <= data_size &&
           words_fit(shape->Published, shape->Rings, data_size) && words_fit(shape->Consumed, shape->Rings, words_size);
}

int rings_open(struct rings *rings, const void *data, size_t data_size, void *words, size_t words_size)
{
    const uint8_t *bytes = data;
    FLTPORT_RING_SHAPE shape;
    uint32_t n;

    memset(rings, 0, sizeof *rings);
    if ((uintptr_t)data % 8 != 0 || (uintptr_t)words % 8 != 0 || data_size < sizeof shape)
        return 0;
    memory_copy_words(&shape, bytes, sizeof shape / 8);
    if (!is_sound(&shape, data_size, words_size))
        return 0;
    rings->ring = calloc(shape.Rings, sizeof *rings->ring);
    rings->heap = calloc(shape.Rings, sizeof *rings->heap);
    if (rings->ring == NULL || rings->heap == NULL) {
        rings_close(rings);
        return 0;
    }
    rings->count = rings->corrupt = shape.Rings;
    rings->capacity = shape.Capacity;
    rings->bell = (uint8_t *)words + FLTPORT_RING_BELL;
    for (n = 0; n < shape.Rings; n++) {
        struct ring *ring = &rings->ring[n];
        ring->records = bytes + shape.First + (size_t)n * shape.Capacity;
        ring->published = bytes + shape.Published + (size_t)n * FLTPORT_RING_LINE;
        ring->consumed = (uint8_t *)words + shape.Consumed + (size_t)n * FLTPORT_RING_LINE;
        ring->at = ring->end = ring->told = memory_acquire(ring->consumed);
    }
    return 1;
}

void rings_close(struct rings *rings)
{
    free(rings->ring);
    free(rings->heap);
    memset(rings, 0, sizeof *rings);
}

/* ---- The heap ---- */

static uint64_t key_at(const struct rings *rings, uint32_t place)
{
    return rings->ring[rings->heap[place]].first;
}

static void swap(struct rings *rings, uint32_t one, uint32_t other)
{
    uint32_t ring = rings->heap[one];
    rings->heap[one] = rings->heap[other];
    rings->heap[other] = ring;
}

static void sift_down(struct rings *rings)
{
    uint32_t place = 0;
    for (;;) {
        uint32_t least = place, below = 2 * place + 1, n;
        for (n = below; n < rings->ready && n < below + 2; n++) {
            if (key_at(rings, n) < key_at(rings, least))
                least = n;
        }
        if (least == place)
            return;
        swap(rings, place, least);
        place = least;
    }
}

static void add(struct rings *rings, uint32_t ring)
{
    uint32_t place = rings->ready++;
    rings->heap[place] = ring;
    while (place > 0 && key_at(rings, place) < key_at(rings, (place - 1) / 2)) {
        swap(rings, place, (place - 1) / 2);
        place = (place - 1) / 2;
    }
}

static void remove_first(struct rings *rings)
{
    rings->heap[0] = rings->heap[--rings->ready];
    sift_down(rings);
}

/* ---- Records ---- */

/* Copies whole words from a position on; the ring may end in between. */
static void copy_out(const struct rings *rings, const struct ring *ring, uint64_t position, void *out, size_t length)
{
    size_t start = (size_t)(position & (rings->capacity - 1)), before_end = rings->capacity - start;
    size_t first = length < before_end ? length : before_end;
    memory_copy_words(out, ring->records + start, first / 8);
    memory_copy_words((uint8_t *)out + first, ring->records, (length - first) / 8);
}

/* Bytes of a ring that a record takes. */
static uint64_t stride(uint32_t size)
{
    return ((uint64_t)size + FLTPORT_RING_STRIDE - 1) / FLTPORT_RING_STRIDE * FLTPORT_RING_STRIDE;
}

/* Reads the header at the front of a ring that has one; 0 if it cannot be one. */
static int read_front(const struct rings *rings, struct ring *ring)
{
    FLTPORT_RECORD_HEADER header;
    uint64_t filled = ring->end - ring->at, first;

    ring->has_front = 0;
    /* Also if the end lies before: then this is huge. */
    if (filled > rings->capacity || filled < sizeof header || ring->at % FLTPORT_RING_STRIDE != 0)
        return 0;
    copy_out(rings, ring, ring->at, &header, sizeof header);
    if (header.Size % 8 != 0 || header.Size < sizeof header || header.Size > MAX_RECORD ||
        stride(header.Size) > filled || header.Payload > header.Size - sizeof header)
        return 0;
    first = header.Sequence;
    if (header.Kind == FLTPORT_RECORD_GAP) {
        /* The first field of what follows. */
        if (header.Payload < sizeof(FLTPORT_GAP_HEADER))
            return 0;
        copy_out(rings, ring, ring->at + sizeof header, &first, sizeof first);
    }
    if (first == 0 || first > header.Sequence)
        return 0;
    ring->header = header;
    ring->first = first;
    ring->has_front = 1;
    return 1;
}

/* Looks into the rings that had nothing; whether there is something in one now. */
static int look(struct rings *rings)
{
    uint32_t n;
    int found = 0;
    for (n = 0; n < rings->count && rings->corrupt == rings->count; n++) {
        struct ring *ring = &rings->ring[n];
        if (ring->has_front)
            continue;
        ring->end = memory_acquire(ring->published);
        if (ring->end == ring->at)
            continue;
        if (read_front(rings, ring)) {
            add(rings, n);
            found = 1;
        } else {
            rings->corrupt = n;
        }
    }
    return found;
}

enum rings_front rings_front(struct rings *rings, uint64_t number, uint64_t *beyond)
{
    for (;;) {
        if (rings->ready > 0) {
            *beyond = key_at(rings, 0);
            if (*beyond == number)
                return RINGS_RECORD;
            if (*beyond < number)
                return RINGS_CORRUPT;
        }
        if (rings->corrupt != rings->count)
            return RINGS_CORRUPT;
        if (!look(rings) && rings->corrupt == rings->count)
            return rings->ready > 0 ? RINGS_MISSING : RINGS_EMPTY;
    }
}

/* The record at the front of the first ring is done with. */
static void go_on(struct rings *rings)
{
    uint32_t n = rings->heap[0];
    struct ring *ring = &rings->ring[n];
    uint64_t before = ring->header.Sequence;

    ring->at += stride(ring->header.Size);
    ring->has_front = 0;
    if (ring->at == ring->end) {
        remove_first(rings);
    } else if (read_front(rings, ring) && ring->first > before) {
        sift_down(rings);
    } else {
        /* What was read is told first, and this when the next one is asked for. */
        ring->has_front = 0;
        rings->corrupt = n;
        remove_first(rings);
    }
}

uint32_t rings_take(struct rings *rings, uint8_t *out)
{
    struct ring *ring = &rings->ring[rings->heap[0]];
    uint32_t size = ring->header.Size;
    memcpy(out, &ring->header, sizeof ring->header);
    copy_out(rings, ring, ring->at + sizeof ring->header, out + sizeof ring->header, size - sizeof ring->header);
    go_on(rings);
    return size;
}

uint32_t rings_pass_over(struct rings *rings, uint64_t number)
{
    uint32_t records = 0;
    while (rings->ready > 0 && key_at(rings, 0) < number) {
        go_on(rings);
        records++;
    }
    return records;
}

void rings_release(struct rings *rings)
{
    uint32_t n;
    for (n = 0; n < rings->count; n++) {
        struct ring *ring = &rings->ring[n];
        if (ring->told != ring->at) {
            ring->told = ring->at;
            memory_release(ring->consumed, ring->at);
        }
    }
}

/* ---- Sleep ---- */

int rings_arm(struct rings *rings)
{
    uint32_t n;
    int quiet = 1;

    /* A producer publishes, fences, and looks at the bell; this arms, fences, and looks at what is published. So one of both
     * sees the other. */
    memory_exchange(rings->bell, FLTPORT_RING_ARMED);
    memory_fence();
    for (n = 0; n < rings->count; n++) {
        struct ring *ring = &rings->ring[n];
        uint64_t published = memory_acquire(ring->published);
        if (published == ring->end)
            continue;
        quiet = 0;
        /* One that waits for its turn is not looked at before: what is new there must not keep this from
         * sleeping again. */
        if (ring->has_front)
            ring->end = published;
    }
    if (!quiet)
        rings_disarm(rings);
    return quiet;
}

void rings_disarm(struct rings *rings)
{
    memory_exchange(rings->bell, 0);
}
