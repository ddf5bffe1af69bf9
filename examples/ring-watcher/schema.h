/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A provider's schema, of which only this is read: which messages there are to observe. */
#ifndef RING_WATCHER_SCHEMA_H
#define RING_WATCHER_SCHEMA_H

#include <stdint.h>

/* Bit n: message n is a notification or a request. 0 if this is no schema. */
uint64_t schema_observable(const uint8_t *bytes, uint32_t length);

#endif
