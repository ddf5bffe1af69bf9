/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A service in C that reads rings: watches providers, and says what came and whether anything is missing.
 *
 *   ring-watcher [--socket PATH] [--name NAME] [--without-rings] [--ring BYTES] [--queue BYTES] [--once] [--waits]
 *                [--seconds N] [PROVIDER[=NUMBER,NUMBER...]]... | --orders
 *
 * The numbers are those of the provider's notifications and requests. A service knows those that it is for.
 *
 * One thread does everything: it reads what has come, a batch at a time, tells the driver that it was read, and
 * sleeps when there is nothing.
 */
#include "orders.h"

#include <stdlib.h>
#include <string.h>

/* So much is read before the driver is told of it. */
#define BATCH 32768

/* Milliseconds: between two attempts to connect again, and how long a first one may take that waits for a port. */
#define RETRY 20
#define PATIENCE 10000

#define FOREVER UINT64_MAX

/* ---- Connections ---- */

static port_code connect_first(struct watcher *watcher, int waits)
{
    uint64_t deadline = port_clock() + PATIENCE;
    for (;;) {
        port_code code = service_connect(&watcher->service, &watcher->options, 0);
        if (code == 0 || code == PORT_NO_PLACE || !waits || port_clock() >= deadline)
            return code;
        (void)port_wait(NULL, 0, RETRY);
    }
}

/* Whether it is connected again. */
static int connect_again(struct watcher *watcher, uint64_t now)
{
    if (now < watcher->retry)
        return 0;
    watcher->retry = now + RETRY;
    if (service_connect(&watcher->service, &watcher->options, watcher->generation + 1) != 0)
        return 0;
    watcher->generation++;
    watcher->tally.counts[COUNT_RECONNECTED]++;
    tally_begin_anew(&watcher->tally);
    service_subscribe_again(&watcher->service);
    watcher->provider_came = 1;
    return 1;
}

/* ---- Records ---- */

/* A provider has registered or is gone, as the common driver tells. */
static void hear_of_providers(struct watcher *watcher, const struct record *record)
{
    uint32_t number;
    if (record->header.Message == FLTPORT_OWN_MESSAGE_PROVIDER && record->header.Payload >= sizeof number) {
        /* The first field. One that is subscribed to can only be gone. */
        memcpy(&number, record->payload, sizeof number);
        service_forget_provider(&watcher->service, number);
    }
    watcher->provider_came = 1;
}

/* One step of the stream; the bytes of it, 0 if there is nothing, or -1 if there will be nothing good. */
static long step(struct watcher *watcher, uint64_t now, int ended)
{
    static struct record record;
    struct service *service = &watcher->service;
    struct tally *tally = &watcher->tally;
    uint16_t provider;

    switch (stream_next(&service->stream, &record, now, ended)) {
    case STREAM_RECORD:
        provider = record.header.Provider;
        tally_record(tally, tally_place(service_provider(service, provider)), &record);
        if (provider == 0 && record.header.Kind == FLTPORT_RECORD_NOTIFICATION)
            hear_of_providers(watcher, &record);
        return (long)record.header.Size;
    case STREAM_MISSING:
        tally->counts[COUNT_MISSING] += record.last - record.first + 1;
        return 1;
    case STREAM_REPEATED:
        tally->counts[COUNT_REPEATED]++;
        return 1;
    case STREAM_CORRUPT:
        fprintf(stderr, "ring-watcher: what has come is no record; connecting anew\n");
        return -1;
    case STREAM_NOTHING:
        break;
    }
    return 0;
}

/* Which numbers the providers have that are counted by their place. */
static void know_places(struct watcher *watcher)
{
    unsigned n;
    for (n = 0; n < watcher->service.subscription_count; n++) {
        const struct subscription *wanted = &watcher->service.subscriptions[n];
        if (wanted->number != 0)
            tally_know(&watcher->tally, tally_place(wanted->provider), wanted->number);
    }
}

/* Reads a batch; 1 if there was something, 0 if not, -1 if the connection has ended. */
static int read_batch(struct watcher *watcher, uint64_t now)
{
    struct service *service = &watcher->service;
    int lives = service_receive(service);
    long bytes = 0, size;

    know_places(watcher);
    do {
        size = step(watcher, now, !lives);
        bytes += size;
    } while (size > 0 && bytes < BATCH);
    stream_release(&service->stream);
    if (size < 0 || (size == 0 && !lives))
        return -1;
    return bytes > 0;
}

/* Waits for whatever comes first. */
static void sleep_until(struct watcher *watcher, uint64_t now, uint64_t until)
{
    struct service *service = &watcher->service;
    struct rings *rings = service->stream.rings;
    unsigned what = watcher->takes_orders ? PORT_LINE : 0;
    uint32_t patience = orders_patience(watcher, now);

    if (until != FOREVER && until - now < patience)
        patience = until > now ? (uint32_t)(until - now) : 0;
    if (service->port == NULL) {
        (void)port_wait(NULL, what, patience < RETRY ? patience : RETRY);
        return;
    }
    if (watcher->is_asleep) {
        (void)port_wait(service->port, what, patience);
        return;
    }
    if (stream_patience(&service->stream, now) < patience)
        patience = stream_patience(&service->stream, now);
    /* A frame of which something is left waits for what comes before it in rings. */
    if (!stream_reads_frame(&service->stream))
        what |= PORT_FRAME;
    if (rings == NULL) {
        (void)port_wait(service->port, what, patience);
    } else if (rings_arm(rings)) {
        (void)port_wait(service->port, what | PORT_RINGS, patience);
        rings_disarm(rings);
    }
}

/* ---- The loop ---- */

/* Until told to leave, the time is over, or the connection has ended and there is to be no other. */
static void watch(struct watcher *watcher, int once, uint64_t until)
{
    struct service *service = &watcher->service;
    for (;;) {
        uint64_t now = port_clock();
        int busy = 0;
        if (now >= until || (watcher->takes_orders && !orders_obey(watcher)))
            return;
        if (service->port == NULL && !once) {
            busy = connect_again(watcher, now);
        } else if (service->port != NULL && !watcher->is_asleep) {
            busy = read_batch(watcher, now);
            if (watcher->provider_came && watcher->orders.waiting != WAITS_FOR_PROVIDER) {
                watcher->provider_came = 0;
                service_subscribe_again(service);
            }
        }
        if (busy < 0) {
            service_disconnect(service);
            watcher->tally.counts[COUNT_DISCONNECTED]++;
            if (once && !watcher->takes_orders)
                return;
        } else if (busy == 0) {
            sleep_until(watcher, now, until);
        }
    }
}

/* ---- The command line ---- */

static void print(void *context, const char *name, uint64_t value)
{
    (void)context;
    if (value != 0)
        printf("%s %llu\n", name, (unsigned long long)value);
}

/* What else the command line says. */
struct command_line {
    int once;        /* one connection, and no other */
    int waits;       /* until there is a port */
    uint64_t until;  /* when to end */
    char **providers; /* and the numbers of their messages */
    int provider_count;
};

/* The messages that a word names behind the provider, as bits, or all that it declares; 0 if it is not so. */
static uint64_t messages_of(const char *word)
{
    const char *at = strchr(word, '=');
    uint64_t messages = 0;
    if (at == word || *word == '-')
        return 0;
    if (at == NULL)
        return SERVICE_EVERYTHING;
    do {
        char *end;
        unsigned long number = strtoul(at + 1, &end, 10);
        if (end == at + 1 || number == 0 || number > FLTPORT_MAX_MESSAGE_NUMBER)
            return 0;
        messages |= (uint64_t)1 << number;
        at = end;
    } while (*at == ',');
    return *at == 0 ? messages : 0;
}

/* A word that needs no other; whether it is one. */
static int take_flag(struct watcher *watcher, struct command_line *line, const char *word)
{
    if (strcmp(word, "--orders") == 0)
        watcher->takes_orders = 1;
    else if (strcmp(word, "--without-rings") == 0)
        watcher->options.without_rings = 1;
    else if (strcmp(word, "--once") == 0)
        line->once = 1;
    else if (strcmp(word, "--waits") == 0)
        line->waits = 1;
    else
        return 0;
    return 1;
}

/* A word and its value; whether it is one. */
static int take_option(struct watcher *watcher, struct command_line *line, const char *word, const char *value)
{
    if (strcmp(word, "--socket") == 0)
        watcher->options.place = value;
    else if (strcmp(word, "--name") == 0)
        watcher->options.name = value;
    else if (strcmp(word, "--ring") == 0)
        watcher->options.ring = (uint32_t)strtoul(value, NULL, 0);
    else if (strcmp(word, "--queue") == 0)
        watcher->options.queue = (uint32_t)strtoul(value, NULL, 0);
    else if (strcmp(word, "--seconds") == 0)
        line->until = port_clock() + 1000 * strtoull(value, NULL, 0);
    else
        return 0;
    return 1;
}

/* Reads the command line, whose words that are providers go to its beginning; 0 if it cannot be understood. */
static int understand(struct watcher *watcher, struct command_line *line, int argc, char **argv)
{
    int n;
    line->until = FOREVER;
    line->providers = argv + 1;
    watcher->options.name = "ring-watcher";
    for (n = 1; n < argc; n++) {
        if (messages_of(argv[n]) != 0)
            line->providers[line->provider_count++] = argv[n];
        else if (take_flag(watcher, line, argv[n]))
            continue;
        else if (n + 1 < argc && take_option(watcher, line, argv[n], argv[n + 1]))
            n++;
        else
            return 0;
    }
    return 1;
}

/* Subscribes to messages of a provider; 0 if that is refused. One that is not there is subscribed to when it comes. */
static int subscribe(struct watcher *watcher, char *word)
{
    uint64_t messages = messages_of(word);
    port_code code;
    word[strcspn(word, "=")] = 0;
    code = service_subscribe(&watcher->service, word, messages, 0);
    if (code == 0 || code == SERVICE_NO_PROVIDER)
        return 1;
    fprintf(stderr, "ring-watcher: %s refuses: %s 0x%08x; has it notifications and requests with these numbers?\n", word,
            port_code_kind, (unsigned)code);
    return 0;
}

int main(int argc, char **argv)
{
    /* Too large for a stack. */
    static struct watcher watcher;
    struct command_line line = {0, 0, 0, NULL, 0};
    port_code code;
    int n;

    if (!understand(&watcher, &line, argc, argv)) {
        fprintf(stderr, "usage: ring-watcher [--socket PATH] [--name NAME] [--without-rings] [--ring BYTES] "
                        "[--queue BYTES] [--once] [--waits] [--seconds N] [PROVIDER[=NUMBER,NUMBER...]]... | --orders\n");
        return 2;
    }
    code = connect_first(&watcher, line.waits);
    if (code != 0) {
        printf("refused %s 0x%08x\n", port_code_kind, (unsigned)code);
        return 1;
    }
    if (watcher.takes_orders) {
        printf("done connection=%u\n", (unsigned)watcher.service.connection);
        fflush(stdout);
    }
    for (n = 0; n < line.provider_count && code == 0; n++)
        code = !subscribe(&watcher, line.providers[n]);
    if (code == 0)
        watch(&watcher, line.once, line.until);
    if (watcher.service.port != NULL)
        service_disconnect(&watcher.service);
    if (!watcher.takes_orders)
        tally_each(&watcher.tally, print, NULL);
    tally_free(&watcher.tally);
    return code != 0;
}
