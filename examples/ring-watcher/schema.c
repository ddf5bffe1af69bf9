/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The encoding is described in wire/abi/src/schema/encoded.rs. */
#include "schema.h"

#include <fltport_service.h>

#include <stddef.h>

#define MAGIC 0x43535046u /* "FPSC" */

/* An item of the second version, and later ones, that is a message. */
#define ITEM_MESSAGE 3

#define ROLE_NOTIFICATION 1
#define ROLE_REQUEST 2

/* What is left to read; nothing, once there was too little. */
struct reader {
    const uint8_t *at;
    uint32_t left;
    int failed;
};

static const uint8_t *take(struct reader *reader, uint32_t length)
{
    const uint8_t *taken = reader->at;
    if (length > reader->left) {
        reader->failed = 1;
        reader->left = 0;
        return NULL;
    }
    reader->at += length;
    reader->left -= length;
    return taken;
}

static uint32_t number(struct reader *reader, uint32_t bytes)
{
    const uint8_t *at = take(reader, bytes);
    uint32_t value = 0;
    while (at != NULL && bytes > 0)
        value = value << 8 | at[--bytes];
    return value;
}

static void skip_name(struct reader *reader)
{
    (void)take(reader, number(reader, 1));
}

static uint64_t bit(uint32_t message, uint32_t role)
{
    int is_told = role == ROLE_NOTIFICATION || role == ROLE_REQUEST;
    return is_told && message <= FLTPORT_MAX_MESSAGE_NUMBER ? (uint64_t)1 << message : 0;
}

static uint64_t first_version(struct reader *reader, uint32_t messages)
{
    uint64_t bits = 0;
    while (messages-- > 0 && !reader->failed) {
        uint32_t message = number(reader, 2), role = number(reader, 1);
        uint32_t fields = number(reader, 1);
        fields += number(reader, 1);
        (void)number(reader, 1);
        skip_name(reader);
        while (fields-- > 0 && !reader->failed) {
            (void)number(reader, 4);
            skip_name(reader);
        }
        bits |= bit(message, role);
    }
    return bits;
}

static uint64_t later_version(struct reader *reader)
{
    uint64_t bits = 0;
    (void)number(reader, 4);
    while (reader->left > 0) {
        uint32_t size = number(reader, 2);
        struct reader item = {NULL, 0, 0};
        item.at = take(reader, size < 2 ? UINT32_MAX : size - 2);
        item.left = item.at != NULL ? size - 2 : 0;
        if (number(&item, 1) == ITEM_MESSAGE) {
            uint32_t role = number(&item, 1), message = number(&item, 2);
            if (!item.failed)
                bits |= bit(message, role);
        }
    }
    return bits;
}

uint64_t schema_observable(const uint8_t *bytes, uint32_t length)
{
    struct reader reader = {NULL, 0, 0};
    uint32_t magic, version, messages;
    uint64_t bits;
    reader.at = bytes;
    reader.left = length;
    magic = number(&reader, 4);
    version = number(&reader, 2);
    messages = number(&reader, 2);
    (void)take(&reader, 8);
    skip_name(&reader);
    if (magic != MAGIC || version == 0)
        return 0;
    bits = version == 1 ? first_version(&reader, messages) : later_version(&reader);
    return reader.failed ? 0 : bits;
}
