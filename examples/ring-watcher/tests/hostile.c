/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Rings whose data is not what it should be: made well, then spoilt at random, at first and while they are read. Whatever
 * is there, the reader ends, reads nothing outside, and hands on numbers in order.
 *
 * hostile ROUNDS SEED
 */
#include "../stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RINGS 3
#define CAPACITY FLTPORT_MIN_RING
#define FIRST 4096
#define DATA_SIZE (FIRST + RINGS * CAPACITY)
#define WORDS_SIZE 4096

/* A record takes at least a stride, and after what is corrupt nothing comes. */
#define MOST_STEPS (2 * RINGS * (CAPACITY / FLTPORT_RING_STRIDE) + 16)

static uint64_t seed;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void must(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        abort();
    }
}

/* Memory of exactly this size, so that the sanitizer sees what is outside. */
struct memory {
    uint8_t *data;
    uint8_t *words;
};

static void put(uint8_t *at, uint64_t word)
{
    atomic_store_explicit((_Atomic uint64_t *)(void *)at, word, memory_order_relaxed);
}

static uint8_t *place(struct memory *memory, uint32_t ring, uint64_t position)
{
    return memory->data + FIRST + ring * CAPACITY + position % CAPACITY;
}

/* Writes a record of words; its header, and the first number of a gap. */
static uint64_t write_record(struct memory *memory, uint32_t ring, uint64_t at, uint64_t number, uint64_t first)
{
    FLTPORT_RECORD_HEADER header;
    uint64_t words[sizeof header / 8], n;
    memset(&header, 0, sizeof header);
    header.Payload = (uint32_t)(16 + any() % 200);
    header.Size = (uint32_t)sizeof header + (header.Payload + 7) / 8 * 8;
    header.Sequence = number;
    header.Kind = first == number ? FLTPORT_RECORD_NOTIFICATION : FLTPORT_RECORD_GAP;
    header.Provider = 1;
    memcpy(words, &header, sizeof header);
    for (n = 0; n < sizeof header / 8; n++)
        put(place(memory, ring, at + 8 * n), words[n]);
    put(place(memory, ring, at + sizeof header), first);
    return at + (header.Size + FLTPORT_RING_STRIDE - 1) / FLTPORT_RING_STRIDE * FLTPORT_RING_STRIDE;
}

/* Fills the rings with records whose numbers have no holes; how many. */
static uint64_t fill(struct memory *memory, uint64_t start)
{
    FLTPORT_RING_SHAPE shape = {FLTPORT_RING_MAGIC, FLTPORT_RING_VERSION, RINGS, CAPACITY, 128, FIRST, 128, 0};
    uint64_t at[RINGS], number = 0;
    uint32_t ring;
    memcpy(memory->data, &shape, sizeof shape);
    for (ring = 0; ring < RINGS; ring++)
        at[ring] = start;
    for (;;) {
        uint64_t first = number + 1;
        ring = (uint32_t)(any() % RINGS);
        if (at[ring] - start + 512 > CAPACITY)
            break;
        number = any() % 16 == 0 ? first + any() % 9 : first;
        at[ring] = write_record(memory, ring, at[ring], number, first);
    }
    for (ring = 0; ring < RINGS; ring++) {
        put(memory->data + 128 + ring * FLTPORT_RING_LINE, at[ring]);
        put(memory->words + 128 + ring * FLTPORT_RING_LINE, start);
    }
    return number;
}

/* Changes a word where it is likely to hurt: a published position, a header, anything. */
static void spoil(struct memory *memory, uint64_t number)
{
    static const uint64_t values[] = {0, 1, 8, 31, 32, 33, 0xFFFF, 0x10000, 0xFFFFFFFF, UINT64_MAX, UINT64_MAX - 31};
    uint64_t value = number % 3 == 0 ? number : values[number % (sizeof values / sizeof values[0])];
    size_t word = (size_t)(number >> 8);
    switch (number >> 60) {
    case 0:
    case 1:
        put(memory->data + 128 + word % RINGS * FLTPORT_RING_LINE, value);
        break;
    case 2:
    case 3:
        put(memory->data + FIRST + word % (RINGS * CAPACITY / 32) * 32, value);
        break;
    default:
        put(memory->data + FIRST + word % (RINGS * CAPACITY / 8) * 8, value);
    }
}

/* Reads until there is nothing or it is corrupt; how many numbers, or 0 if it was corrupt. */
static uint64_t read_all(struct memory *memory, int is_sound, int changes)
{
    static struct stream stream;
    static struct record record;
    struct rings rings;
    uint64_t steps = 0, now = 1, last = 0, sum = 0;
    int corrupt = 0;

    if (!rings_open(&rings, memory->data, DATA_SIZE, memory->words, WORDS_SIZE)) {
        must(!is_sound, "sound rings can be opened");
        return 0;
    }
    stream_begin(&stream, &rings, 1);
    while (!corrupt) {
        enum stream_step step = stream_next(&stream, &record, now, 0);
        uint32_t n;
        must(++steps < MOST_STEPS || changes, "it ends");
        if (steps >= 4 * MOST_STEPS)
            break;
        corrupt = step == STREAM_CORRUPT;
        if (step == STREAM_RECORD || step == STREAM_MISSING) {
            must(record.first == last + 1 && record.last >= record.first, "numbers come in order");
            last = record.last;
        }
        if (step == STREAM_RECORD) {
            for (n = 0; n < record.header.Payload; n++)
                sum += record.payload[n];
        } else if (step == STREAM_NOTHING && stream.hole == 0) {
            if (rings_arm(&rings))
                break;
        } else if (step == STREAM_NOTHING) {
            /* What is missing is waited for; a while later it is not. */
            now += 900;
        }
        if (steps % 7 == 0)
            stream_release(&stream);
    }
    rings_disarm(&rings);
    stream_release(&stream);
    rings_close(&rings);
    return corrupt ? 0 : last | (sum == UINT64_MAX);
}

static atomic_int stop;

static void *spoil_on(void *memory)
{
    uint64_t state = 0x9E3779B97F4A7C15u;
    while (!atomic_load(&stop)) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        spoil(memory, state);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 100, n, k;
    struct memory memory;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) | 1 : 1;
    memory.data = aligned_alloc(64, DATA_SIZE);
    memory.words = aligned_alloc(64, WORDS_SIZE);
    must(memory.data != NULL && memory.words != NULL, "there is memory");
    for (n = 0; n < rounds; n++) {
        /* Anywhere, also where positions have wrapped. */
        uint64_t start = any() % 4096 * FLTPORT_RING_STRIDE, last;
        pthread_t spoiler;
        memset(memory.data, 0, DATA_SIZE);
        memset(memory.words, 0, WORDS_SIZE);
        last = fill(&memory, start);
        must(read_all(&memory, 1, 0) == last, "what was not spoilt comes whole");

        fill(&memory, start);
        for (k = any() % 64 + 1; k > 0; k--)
            spoil(&memory, any());
        (void)read_all(&memory, 1, 0);

        fill(&memory, start);
        memory.data[any() % sizeof(FLTPORT_RING_SHAPE)] = (uint8_t)any();
        put(memory.words + 128, any());
        (void)read_all(&memory, 0, 0);

        fill(&memory, start);
        atomic_store(&stop, 0);
        must(pthread_create(&spoiler, NULL, spoil_on, &memory) == 0, "a thread can be started");
        (void)read_all(&memory, 1, 1);
        atomic_store(&stop, 1);
        pthread_join(spoiler, NULL);
    }
    free(memory.data);
    free(memory.words);
    return 0;
}
