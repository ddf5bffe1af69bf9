/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "orders.h"

#include <stdlib.h>
#include <string.h>

#define LONG 60000u

static void say(const char *text)
{
    puts(text);
    fflush(stdout);
}

static void refuse(port_code code)
{
    if (code == SERVICE_NO_PROVIDER)
        puts("refused no-provider");
    else
        printf("refused %s 0x%08x\n", port_code_kind, (unsigned)code);
    fflush(stdout);
}

/* ---- Counts ---- */

static void print(void *context, const char *name, uint64_t value)
{
    (void)context;
    printf(" %s=%llu", name, (unsigned long long)value);
}

static void say_counts(const struct watcher *watcher)
{
    printf("done connection=%u", (unsigned)watcher->service.connection);
    tally_each(&watcher->tally, print, NULL);
    say("");
}

static void find(void *context, const char *name, uint64_t value)
{
    struct expected *wanted = context;
    if (strcmp(wanted->name, name) == 0)
        wanted->number = value >= wanted->number ? 0 : wanted->number;
}

static int is_reached(const struct watcher *watcher)
{
    unsigned n;
    for (n = 0; n < watcher->orders.expected_count; n++) {
        struct expected wanted = watcher->orders.expected[n];
        tally_each(&watcher->tally, find, &wanted);
        if (wanted.number > 0)
            return 0;
    }
    return 1;
}

/* ---- Orders that wait ---- */

/* Tries to subscribe; whether the order has been answered. */
static int subscribe(struct watcher *watcher, int may_wait)
{
    struct orders *orders = &watcher->orders;
    port_code code;
    watcher->provider_came = 0;
    /* The provider may have been loaded anew: its numbers begin anew. */
    tally_begin_anew(&watcher->tally);
    code = service_subscribe(&watcher->service, orders->provider, orders->observe, orders->flags);
    if (code == 0)
        say("done");
    else if (code == SERVICE_NO_PROVIDER && may_wait)
        return 0;
    else
        refuse(code);
    return 1;
}

static void look_again(struct watcher *watcher)
{
    struct orders *orders = &watcher->orders;
    int is_over = port_clock() >= orders->deadline;
    int is_answered = 0;
    if (orders->waiting == WAITS_FOR_PROVIDER && (watcher->provider_came || is_over)) {
        is_answered = subscribe(watcher, !is_over);
    } else if (orders->waiting == WAITS_FOR_COUNTS && (is_over || is_reached(watcher))) {
        say_counts(watcher);
        is_answered = 1;
    }
    if (is_answered)
        orders->waiting = WAITS_FOR_NOTHING;
}

/* ---- Lines ---- */

static uint64_t number(const char *word, int base)
{
    return word == NULL ? 0 : strtoull(word, NULL, base);
}

static void expect(struct orders *orders, const char *word)
{
    const char *equals = strchr(word, '=');
    struct expected *expected = &orders->expected[orders->expected_count];
    size_t length = equals == NULL ? 0 : (size_t)(equals - word);
    if (length == 0 || length >= sizeof expected->name || orders->expected_count == MAX_EXPECTED)
        return;
    memcpy(expected->name, word, length);
    expected->name[length] = 0;
    expected->number = number(equals + 1, 10);
    orders->expected_count++;
}

static void begin(struct watcher *watcher, const char *order)
{
    struct orders *orders = &watcher->orders;
    const char *word;
    if (strcmp(order, "subscribe") == 0) {
        word = strtok(NULL, " ");
        snprintf(orders->provider, sizeof orders->provider, "%s", word == NULL ? "" : word);
        orders->observe = number(strtok(NULL, " "), 16);
        orders->flags = (uint32_t)number(strtok(NULL, " "), 16);
        orders->deadline = port_clock() + number(strtok(NULL, " "), 10);
        watcher->provider_came = 1;
        orders->waiting = WAITS_FOR_PROVIDER;
    } else if (strcmp(order, "see") == 0) {
        orders->deadline = port_clock() + number(strtok(NULL, " "), 10);
        orders->expected_count = 0;
        while ((word = strtok(NULL, " ")) != NULL)
            expect(orders, word);
        orders->waiting = WAITS_FOR_COUNTS;
    } else if (strcmp(order, "sleep") == 0 || strcmp(order, "wake") == 0) {
        watcher->is_asleep = order[0] == 's';
        say("done");
    } else if (strcmp(order, "leave") == 0) {
        watcher->has_left = 1;
        say_counts(watcher);
    } else {
        say("refused unknown-order");
    }
}

int orders_obey(struct watcher *watcher)
{
    static char line[4096];
    while (!watcher->has_left) {
        const char *order;
        int there;
        look_again(watcher);
        if (watcher->orders.waiting != WAITS_FOR_NOTHING)
            return 1;
        there = port_line(line, sizeof line);
        if (there <= 0)
            return there == 0;
        order = strtok(line, " ");
        if (order != NULL)
            begin(watcher, order);
    }
    return 0;
}

uint32_t orders_patience(const struct watcher *watcher, uint64_t now)
{
    uint64_t deadline = watcher->orders.deadline;
    if (watcher->orders.waiting == WAITS_FOR_NOTHING || deadline > now + LONG)
        return LONG;
    return deadline > now ? (uint32_t)(deadline - now) : 0;
}
