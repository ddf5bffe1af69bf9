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
FLTPORT_MESSAGE(NUMBERS, NUMBERS_FIELDS)
FLTPORT_MESSAGE(TEXTS, TEXTS_FIELDS)
FLTPORT_MESSAGE(QUESTION, QUESTION_FIELDS)
FLTPORT_MESSAGE(REPLY, REPLY_FIELDS)
FLTPORT_MESSAGE(ORDER, ORDER_FIELDS)
FLTPORT_MESSAGE(DONE, DONE_FIELDS)
#define MESSAGES(NOTIFICATION, REQUEST, COMMAND) \
    NOTIFICATION(1, "numbers", NUMBERS) \
    NOTIFICATION(63, "texts", TEXTS) \
    REQUEST(7, "question", QUESTION, REPLY) \
    COMMAND(8, "order", ORDER, DONE)
FLTPORT_SCHEMA_OF(Written, "written", FLTPORT_NO_TYPES, MESSAGES)

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

int main(void)
{
    UCHAR schema[4096];
    ULONGLONG hash = FltPortHashSchema(&Written);
    ULONG length = FltPortWriteSchema(&Written, NULL, 0);
    put(&hash, sizeof(hash));
    if (length > sizeof(schema) || FltPortWriteSchema(&Written, schema, length) != length)
        return 1;
    put(schema, length);
    put_numbers();
    return put_texts() || read_order();
}
