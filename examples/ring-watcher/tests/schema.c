/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads a schema from standard input and prints what can be observed. Before that its beginnings are read, and what it is with
 * a byte that is another one, each in memory of its own: a sanitizer sees what is read outside.
 */
#include "../schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t observable(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length + 1);
    uint64_t bits;
    if (copy == NULL)
        abort();
    memcpy(copy + 1, bytes, length);
    bits = schema_observable(copy + 1, (uint32_t)length);
    free(copy);
    return bits;
}

int main(void)
{
    static uint8_t bytes[64 * 1024];
    size_t length = fread(bytes, 1, sizeof bytes, stdin), n;
    for (n = 0; n < length; n++)
        (void)observable(bytes, n);
    for (n = 0; length > 0 && n < 10000; n++) {
        size_t at = (size_t)rand() % length;
        uint8_t was = bytes[at];
        bytes[at] = (uint8_t)rand();
        (void)observable(bytes, length);
        bytes[at] = was;
    }
    printf("%llx\n", (unsigned long long)observable(bytes, length));
    return 0;
}
