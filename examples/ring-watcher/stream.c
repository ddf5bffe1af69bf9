/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "stream.h"

#include <string.h>

/* How long a number may be missing, and how long nobody may have looked without beginning to wait anew. */
#define PATIENCE 5000u
#define ABSENCE 1000u
/* Nobody sleeps for longer. */
#define LONG 60000u

void stream_begin(struct stream *stream, struct rings *rings, uint32_t connection)
{
    memset(stream, 0, sizeof *stream);
    stream->rings = rings;
    stream->connection = connection;
    stream->next = 1;
}

int stream_reads_frame(const struct stream *stream)
{
    return stream->records > 0;
}

int stream_frame(struct stream *stream, const uint8_t *frame, size_t length)
{
    FLTPORT_FRAME_HEADER header;
    if (length < sizeof header)
        return 0;
    memcpy(&header, frame, sizeof header);
    if (header.Magic != FLTPORT_FRAME_MAGIC || header.Length != length || header.Connection != stream->connection)
        return 0;
    /* Nothing is asked of who decides nothing. */
    if (header.Kind != FLTPORT_FRAME_RECORDS)
        return header.Kind == FLTPORT_FRAME_REQUEST;
    stream->frame = frame + sizeof header;
    stream->left = length - sizeof header;
    stream->records = header.Records;
    return stream->records > 0 || stream->left == 0;
}

/* What a record says of itself; 0 if that cannot be. `left` bytes are there, of which it must not be more. */
static int read_record(const uint8_t *bytes, size_t left, struct record *record)
{
    FLTPORT_RECORD_HEADER *header = &record->header;
    if (left < sizeof *header)
        return 0;
    memcpy(header, bytes, sizeof *header);
    if (header->Size > left || header->Size < sizeof *header || header->Size % 8 != 0 ||
        header->Size - sizeof *header != ((uint64_t)header->Payload + 7) / 8 * 8 || header->Fixed > header->Payload)
        return 0;
    record->payload = bytes + sizeof *header;
    record->first = record->last = header->Sequence;
    if (header->Kind == FLTPORT_RECORD_GAP) {
        if (header->Payload < sizeof(FLTPORT_GAP_HEADER))
            return 0;
        memcpy(&record->first, record->payload, sizeof record->first);
    }
    return record->first != 0 && record->first <= record->last;
}

/* Goes on behind the record at the front of the frame. */
static int drop_front(struct stream *stream, const struct record *record)
{
    stream->frame += record->header.Size;
    stream->left -= record->header.Size;
    stream->records--;
    return stream->records > 0 || stream->left == 0;
}

/* Takes the next record from the rings. */
static enum stream_step take(struct stream *stream, struct record *record)
{
    uint32_t size = rings_take(stream->rings, (uint8_t *)stream->copy);
    stream->unreleased = 1;
    /* The header is as it was checked. The rest was copied now: it may be what no record is, or the gap another one. */
    if (!read_record((uint8_t *)stream->copy, size, record) || record->first != stream->next)
        return STREAM_CORRUPT;
    stream->next = record->last + 1;
    return STREAM_RECORD;
}

/* What comes first in the rings is too late, or corrupt. */
static enum stream_step pass_over(struct stream *stream)
{
    if (!stream->may_be_late || rings_pass_over(stream->rings, stream->next) == 0)
        return STREAM_CORRUPT;
    stream->unreleased = 1;
    return STREAM_REPEATED;
}

/* The next number is not there, and `end` is the first that is; 0: none is. */
static enum stream_step judge(struct stream *stream, uint64_t end, struct record *record, uint64_t now, int ended)
{
    int is_absent = now - stream->looked > ABSENCE;
    stream->looked = now;
    if (end == 0) {
        stream->hole = 0;
        return STREAM_NOTHING;
    }
    if (stream->hole != stream->next || is_absent) {
        stream->hole = stream->next;
        stream->hole_since = now;
    }
    /* Without rings, nothing can come behind a frame that belongs before it. */
    if (stream->rings != NULL && !ended && now - stream->hole_since < PATIENCE)
        return STREAM_NOTHING;
    record->first = stream->next;
    record->last = end - 1;
    stream->next = end;
    stream->may_be_late = 1;
    stream->hole = 0;
    return STREAM_MISSING;
}

enum stream_step stream_next(struct stream *stream, struct record *record, uint64_t now, int ended)
{
    uint64_t end = 0, beyond = 0;

    if (stream->records > 0) {
        if (!read_record(stream->frame, stream->left, record))
            return STREAM_CORRUPT;
        if (record->first <= stream->next) {
            int is_new = record->first == stream->next;
            if (!drop_front(stream, record))
                return STREAM_CORRUPT;
            if (is_new)
                stream->next = record->last + 1;
            return is_new ? STREAM_RECORD : STREAM_REPEATED;
        }
        end = record->first;
    }
    /* Of a connection that has ended the ledger says that what is in the rings was lost, unless it comes before what came. */
    if (stream->rings != NULL && (!ended || end != 0)) {
        switch (rings_front(stream->rings, stream->next, &beyond)) {
        case RINGS_RECORD:
            return take(stream, record);
        case RINGS_CORRUPT:
            return pass_over(stream);
        case RINGS_MISSING:
            if (end == 0 || beyond < end)
                end = beyond;
            break;
        case RINGS_EMPTY:
            break;
        }
    }
    return judge(stream, end, record, now, ended);
}

void stream_release(struct stream *stream)
{
    if (stream->unreleased) {
        stream->unreleased = 0;
        rings_release(stream->rings);
    }
}

uint32_t stream_patience(const struct stream *stream, uint64_t now)
{
    uint64_t waited = now - stream->hole_since;
    if (stream->hole == 0)
        return LONG;
    return waited < PATIENCE ? PATIENCE - (uint32_t)waited : 0;
}
