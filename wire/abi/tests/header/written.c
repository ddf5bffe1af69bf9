/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same definition as in written.rs, and the same messages, written to standard output as lengths and
   bytes. */
#include <stdio.h>
#include <string.h>

#include <fltport.h>

#define NUMBERS_FIELDS(FIELD, TYPED) \
    FIELD(U64, big) FIELD(I64, low) FIELD(TIME, when) FIELD(U32, middle) FIELD(I32, below) \
    FIELD(BOOL, yes) FIELD(PID, process) FIELD(STATUS, status) FIELD(U16, small)
#define TEXTS_FIELDS(FIELD, TYPED) \
    FIELD(TEXT, text) FIELD(BYTES, bytes) FIELD(TEXTS, list) FIELD(U32, number)
#define QUESTION_FIELDS(FIELD, TYPED) FIELD(U32, number)
#define REPLY_FIELDS(FIELD, TYPED) FIELD(BOOL, deny)
#define ORDER_FIELDS(FIELD, TYPED) FIELD(TEXT, text)
#define DONE_FIELDS(FIELD, TYPED) FIELD(U64, times) FIELD(I32, far)
#define LIMIT_FIELDS(FIELD, TYPED) \
    FIELD(U32, number) FIELD(TEXT, why) FIELD(DEFAULTED(U32), seconds) FIELD(OPT_U32, by) \
    FIELD(DEFAULTED(OPT_TEXT), from)
#define LIMITED_FIELDS(FIELD, TYPED) FIELD(U32, number)
FLTPORT_MESSAGE(NUMBERS, NUMBERS_FIELDS)
FLTPORT_MESSAGE(TEXTS, TEXTS_FIELDS)
FLTPORT_MESSAGE(QUESTION, QUESTION_FIELDS)
FLTPORT_MESSAGE(REPLY, REPLY_FIELDS)
FLTPORT_MESSAGE(ORDER, ORDER_FIELDS)
FLTPORT_MESSAGE(DONE, DONE_FIELDS)
FLTPORT_MESSAGE(LIMIT, LIMIT_FIELDS)
FLTPORT_MESSAGE(LIMITED, LIMITED_FIELDS)
#define MESSAGES(NOTIFICATION, REQUEST, COMMAND) \
    NOTIFICATION(1, "numbers", NUMBERS) \
    NOTIFICATION(63, "texts", TEXTS) \
    REQUEST(7, "question", QUESTION, REPLY) \
    COMMAND(8, "order", ORDER, DONE) \
    COMMAND(9, "limit", LIMIT, LIMITED)
FLTPORT_SCHEMA_OF(Written, "written", FLTPORT_NO_TYPES, MESSAGES)

#define VERDICT_VALUES(VALUE) VALUE(PASS, 0, "pass") VALUE(DROP, 7, "drop")
#define MATCHED_BITS(VALUE) VALUE(ADDRESS, 0x1, "address") VALUE(IMAGE, 0x80000000, "image")
#define RULE_FIELDS(FIELD, TYPED) TYPED(FLAGS, matched, Matched) FIELD(TEXT, name)
FLTPORT_ENUM_TYPE(Verdict, VERDICT_VALUES)
FLTPORT_FLAGS_TYPE(Matched, MATCHED_BITS)
FLTPORT_RECORD_TYPE(Rule, RULE_FIELDS)
#define PACKET_FIELDS(FIELD, TYPED) \
    FIELD(OPT_U64, wide) FIELD(ADDRESS, remote) FIELD(OPT_ADDRESS, local) FIELD(IPV4, four) \
    FIELD(IPV6, six) FIELD(GUID, flow) TYPED(ENUM, verdict, Verdict) TYPED(OPT_ENUM, former, Verdict) \
    TYPED(LIST, rules, Rule) TYPED(RECORD, last, Rule) FIELD(OPT_TEXT, note) FIELD(OPT_BYTES, blob) \
    FIELD(OPT_PID, process) FIELD(OPT_U16, port) FIELD(I16, delta) FIELD(U8, hops) FIELD(I8, tone) \
    FIELD(OPT_U8, lives)
#define RULED_FIELDS(FIELD, TYPED) TYPED(DEFAULTED(ENUM), verdict, Verdict)
FLTPORT_MESSAGE(PACKET, PACKET_FIELDS)
FLTPORT_MESSAGE(RULED, RULED_FIELDS)
#define TYPED_TYPES(TYPE) TYPE(Verdict) TYPE(Matched) TYPE(Rule)
#define TYPED_MESSAGES(NOTIFICATION, REQUEST, COMMAND) \
    NOTIFICATION(2, "packet", PACKET) \
    NOTIFICATION(3, "ruled", RULED)
FLTPORT_SCHEMA_OF(Typed, "typed", TYPED_TYPES, TYPED_MESSAGES)

static void put(const void *bytes, ULONG length)
{
    fwrite(&length, sizeof(length), 1, stdout);
    fwrite(bytes, 1, length, stdout);
}

static void put_numbers(void)
{
    NUMBERS numbers;
    memset(&numbers, 0xaa, sizeof(numbers));
    numbers.big = 0x0123456789abcdefULL;
    numbers.low = -2;
    numbers.when = 132537600000000000LL;
    numbers.middle = 0xdeadbeef;
    numbers.below = -3;
    numbers.yes = 1;
    numbers.process = 4;
    numbers.status = -1073741790;
    numbers.small = 0x1234;
    put(&numbers, NUMBERS_FIXED);
}

static int put_texts(void)
{
    static const wchar_t text[] = L"Gr\u00fc\u00dfe", pattern[] = L"*.exe";
    UCHAR buffer[128], narrow[40];
    TEXTS texts;
    FLTPORT_WRITER writer;
    texts.number = 9;
    memset(buffer, 0xaa, sizeof(buffer));
    FltPortBegin(&writer, buffer, sizeof(buffer), TEXTS_FIXED);
    FltPortPutText(&writer, &texts.text, text, sizeof(text) - 2);
    FltPortPutBytes(&writer, &texts.bytes, "\1\2\3", 3);
    FltPortPutTexts(&writer, &texts.list);
    FltPortAddText(&writer, &texts.list, pattern, sizeof(pattern) - 2);
    FltPortAddText(&writer, &texts.list, NULL, 0);
    if (FltPortEnd(&writer, &texts, TEXTS_FIXED) != STATUS_SUCCESS)
        return 1;
    put(buffer, writer.Length);
    /* What does not fit is told at the end, and nothing is written behind the buffer. */
    memset(narrow, 0xaa, sizeof(narrow));
    FltPortBegin(&writer, narrow, sizeof(narrow) - 1, TEXTS_FIXED);
    FltPortPutText(&writer, &texts.text, text, sizeof(text) - 2);
    FltPortPutBytes(&writer, &texts.bytes, "\1\2\3", 3);
    return FltPortEnd(&writer, &texts, TEXTS_FIXED) != STATUS_BUFFER_TOO_SMALL || narrow[39] != 0xaa;
}

static int read_order(void)
{
    static const UCHAR order[] = { 8, 0, 0, 0, 3, 0, 0, 0, 'f', 'i', 't' };
    ORDER read;
    UCHAR far[sizeof(order)];
    const void *text;
    if (FltPortRead(order, 7, &read, ORDER_FIXED) != STATUS_INVALID_PARAMETER
        || FltPortRead(order, sizeof(order), &read, ORDER_FIXED) != STATUS_SUCCESS)
        return 1;
    text = FltPortGet(order, sizeof(order), read.text);
    if (text == NULL)
        return 1;
    put(text, read.text.Length);
    memcpy(far, order, sizeof(order));
    read.text.Length = 4;
    if (FltPortGet(far, sizeof(far), read.text) != NULL)
        return 1;
    read.text.Place = 0xffffffff;
    return FltPortGet(far, sizeof(far), read.text) != NULL;
}

/* What the reader has for what it is not told. */
static NTSTATUS read_limit(LIMIT *limit, const UCHAR *input, ULONG length)
{
    memset(limit, 0xaa, sizeof(*limit));
    limit->seconds = 30;
    return FLTPORT_READ(LIMIT, input, length, limit);
}

static int read_limits(void)
{
    /* As this version sends it, and with a field more; as the first version does: the text is where the
       seconds would be; then what no version sends. */
    static const UCHAR whole[] = { 7, 0, 0, 0, 32, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 'o', 0 };
    static const UCHAR more[] = { 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4 };
    static const UCHAR first[] = { 7, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 'o', 0 };
    static const UCHAR within[] = { 7, 0, 0, 0, 11, 0, 0, 0, 2, 0, 0, 0, 'o', 0 };
    ULONG length;
    LIMIT limit;
    if (read_limit(&limit, whole, sizeof(whole)) != STATUS_SUCCESS || limit.number != 7
        || limit.seconds != 5 || limit.by.Value != 9 || limit.by.Present != 1 || limit.from.Place != 0
        || FltPortGet(whole, sizeof(whole), limit.why) != whole + 32)
        return 1;
    if (read_limit(&limit, more, sizeof(more)) != STATUS_SUCCESS || limit.seconds != 5
        || limit.by.Present != 1)
        return 1;
    if (read_limit(&limit, first, sizeof(first)) != STATUS_SUCCESS || limit.number != 7
        || limit.seconds != 30 || limit.by.Value != 0 || limit.by.Present != 0
        || limit.from.Place != 0xaaaaaaaa || FltPortGet(first, sizeof(first), limit.why) != first + 12)
        return 1;
    /* The number and the text are of the first version: they may not be missing; nor may half a field. */
    for (length = 0; length < 12; length++)
        if (read_limit(&limit, more, length) != STATUS_INVALID_PARAMETER)
            return 1;
    return read_limit(&limit, more, 12) != STATUS_SUCCESS
        || read_limit(&limit, more, 14) != STATUS_INVALID_PARAMETER
        || read_limit(&limit, within, sizeof(within)) != STATUS_INVALID_PARAMETER;
}

static void put_rule(FLTPORT_WRITER *writer, FLTPORT_VARIABLE *field, ULONG index, ULONG matched,
    const wchar_t *name, ULONG length)
{
    Rule rule;
    rule.matched = matched;
    FltPortPutText(writer, &rule.name, name, length);
    FltPortSetRecord(writer, field, index, &rule, Rule_FIXED);
}

static int put_packet(void)
{
    static const UCHAR address[] = { 4, 0, 0, 0, 192, 0, 2, 1 }, home[] = { 127, 0, 0, 1 };
    UCHAR buffer[512];
    PACKET packet;
    FLTPORT_WRITER writer;
    ULONG i;
    memset(&packet, 0, sizeof(packet));
    memset(buffer, 0xaa, sizeof(buffer));
    packet.wide.Value = 5;
    packet.wide.Present = 1;
    memcpy(packet.remote.Bytes, address, sizeof(address));
    packet.local.Value.Bytes[0] = 6;
    packet.local.Value.Bytes[19] = 1;
    packet.local.Present = 1;
    memcpy(packet.four.Bytes, home, sizeof(home));
    packet.six.Bytes[15] = 1;
    for (i = 0; i < 16; i++)
        packet.flow.Bytes[i] = (UCHAR)i;
    packet.verdict = DROP;
    packet.port.Value = 443;
    packet.port.Present = 1;
    packet.delta = -2;
    packet.hops = 9;
    packet.tone = -1;
    packet.lives.Value = 3;
    packet.lives.Present = 1;
    FltPortBegin(&writer, buffer, sizeof(buffer), PACKET_FIXED);
    FltPortPutRecords(&writer, &packet.rules, Rule_FIXED, 2);
    put_rule(&writer, &packet.rules, 0, ADDRESS, L"no telemetry", 24);
    put_rule(&writer, &packet.rules, 1, ADDRESS | IMAGE, L"", 0);
    FltPortPutRecords(&writer, &packet.last, Rule_FIXED, 1);
    put_rule(&writer, &packet.last, 0, IMAGE, L"last", 8);
    FltPortPutText(&writer, &packet.note, L"n", 2);
    if (FltPortEnd(&writer, &packet, PACKET_FIXED) != STATUS_SUCCESS)
        return 1;
    put(buffer, writer.Length);
    return 0;
}

static int put_schema(const FLTPORT_SCHEMA *schema)
{
    UCHAR bytes[4096];
    ULONGLONG hash = FltPortHashSchema(schema);
    ULONG length = FltPortWriteSchema(schema, NULL, 0);
    put(&hash, sizeof(hash));
    if (length > sizeof(bytes) || FltPortWriteSchema(schema, bytes, length) != length)
        return 1;
    put(bytes, length);
    return 0;
}

int main(void)
{
    if (put_schema(&Written))
        return 1;
    put_numbers();
    return put_texts() || read_order() || read_limits() || put_schema(&Typed) || put_packet();
}
