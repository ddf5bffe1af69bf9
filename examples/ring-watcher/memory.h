/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory that is shared with a kernel, and all the barriers that there are here.
 *
 * Another processor writes there at any time, and what it writes may be anything. So each word is loaded once, and what was
 * checked is the copy.
 */
#ifndef RING_WATCHER_MEMORY_H
#define RING_WATCHER_MEMORY_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

/* Loads a position that another publishes: what lies before it can be read then. */
static inline uint64_t memory_acquire(const uint8_t *at)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
}

/* Publishes a position: what lies before it has been read. */
static inline void memory_release(uint8_t *at, uint64_t position)
{
    atomic_store_explicit((_Atomic uint64_t *)(void *)at, position, memory_order_release);
}

/* Writes a word that the other side writes, too: which of both came last is certain. */
static inline void memory_exchange(uint8_t *at, uint32_t word)
{
    (void)atomic_exchange_explicit((_Atomic uint32_t *)(void *)at, word, memory_order_acq_rel);
}

/* What was stored before it is seen by whoever has not been seen by what is loaded behind it. */
static inline void memory_fence(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

/* Copies words of 64 bits, each of which is loaded once. */
static inline void memory_copy_words(void *to, const uint8_t *from, size_t words)
{
    size_t n;
    for (n = 0; n < words; n++) {
        uint64_t word =
            atomic_load_explicit((const _Atomic uint64_t *)(const void *)(from + 8 * n), memory_order_relaxed);
        memcpy((uint8_t *)to + 8 * n, &word, sizeof word);
    }
}

#endif
