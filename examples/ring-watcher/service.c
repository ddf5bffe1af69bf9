/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "service.h"

#include "schema.h"

#include <stdio.h>
#include <string.h>

/* What a connection row that asks for itself says. */
#define OWN 1

/* The largest payload of a command that is sent here. */
#define MAX_SENT 64

static port_code command(struct service *service, uint16_t number, const void *payload, uint32_t length, void *out,
                         uint32_t capacity, uint32_t *returned)
{
    uint64_t words[(sizeof(FLTPORT_COMMAND_HEADER) + MAX_SENT) / 8];
    FLTPORT_COMMAND_HEADER header = {FLTPORT_COMMAND_MAGIC, FLTPORT_MIN_PROTOCOL_VERSION, 0, 0, 0};

    header.Command = number;
    header.Payload = length;
    memcpy(words, &header, sizeof header);
    if (length > 0)
        memcpy((uint8_t *)words + sizeof header, payload, length);
    return port_send(service->port, words, (uint32_t)sizeof header + length, out, capacity, returned);
}

/* A command whose answer is one row; 0 bytes of it if it was refused. */
static port_code row(struct service *service, uint16_t number, const void *payload, uint32_t length, void *out,
                     uint32_t size)
{
    uint32_t returned = 0;
    port_code code = command(service, number, payload, length, out, size, &returned);
    if (code != 0 || returned != size)
        memset(out, 0, size);
    return code;
}

static void limit(struct service *service, uint32_t queue)
{
    FLTPORT_LIMITS limits = {0, 0, 0, 0};
    uint32_t returned;
    limits.Queue = queue;
    if (queue != 0 && service->features & FLTPORT_FEATURE_LIMITS)
        (void)command(service, FLTPORT_COMMAND_LIMITS, &limits, sizeof limits, NULL, 0, &returned);
}

/* Asks for rings; *why says why there are none, or is NULL. */
static port_code attach_rings(struct service *service, const struct options *options, const char **why)
{
    FLTPORT_RINGS_WANTED wanted = {0, 0, 0};
    FLTPORT_RINGS_ROW where;
    void *data, *words;

    *why = NULL;
    wanted.Capacity = options->ring;
    if (options->without_rings)
        *why = "it was asked to do without";
    else if ((service->features & FLTPORT_FEATURE_RINGS) == 0)
        *why = "this fltport.sys has none";
    else if ((wanted.Event = port_event(service->port)) == 0)
        *why = "no event can be made, or no memory can be mapped here";
    else if (row(service, FLTPORT_COMMAND_RINGS, &wanted, sizeof wanted, &where, sizeof where) != 0)
        *why = "the driver refuses them";
    if (*why != NULL)
        return 0;
    data = port_view(service->port, where.Data, where.DataSize);
    words = port_view(service->port, where.Consumer, where.ConsumerSize);
    /* The driver uses them from now on: there is no way back to frames. */
    if (data == NULL || words == NULL ||
        !rings_open(&service->rings, data, where.DataSize, words, where.ConsumerSize)) {
        fprintf(stderr, "ring-watcher: the driver has given rings that cannot be read\n");
        return SERVICE_NO_RINGS;
    }
    return 0;
}

static port_code introduce(struct service *service, const struct options *options)
{
    FLTPORT_CONNECTION_ROW info;
    FLTPORT_FEATURES_ROW features;
    const char *why;
    port_code code = row(service, FLTPORT_COMMAND_INFO, NULL, 0, &info, sizeof info);
    if (code != 0)
        return code;
    service->connection = info.Own == OWN ? info.Connection : 0;
    /* Older drivers refuse it, and have nothing of what it tells. */
    (void)row(service, FLTPORT_COMMAND_FEATURES, NULL, 0, &features, sizeof features);
    service->features = features.Features;
    limit(service, options->queue);
    code = attach_rings(service, options, &why);
    if (code != 0)
        return code;
    if (why == NULL)
        fprintf(stderr, "ring-watcher: records come by %u rings of %u bytes\n", service->rings.count,
                service->rings.capacity);
    else
        fprintf(stderr, "ring-watcher: records come by the port, because %s\n", why);
    stream_begin(&service->stream, why == NULL ? &service->rings : NULL, service->connection);
    return 0;
}

port_code service_connect(struct service *service, const struct options *options, uint32_t generation)
{
    FLTPORT_HELLO hello;
    size_t length = strlen(options->name);
    port_code code;

    memset(&hello, 0, sizeof hello);
    hello.Magic = FLTPORT_HELLO_MAGIC;
    hello.MinVersion = FLTPORT_MIN_PROTOCOL_VERSION;
    hello.MaxVersion = FLTPORT_PROTOCOL_VERSION;
    hello.Generation = generation;
    hello.Rights = FLTPORT_RIGHT_OBSERVE;
    memcpy(hello.Name, options->name, length < sizeof hello.Name ? length : sizeof hello.Name);
    code = port_connect(&service->port, options->place, &hello, sizeof hello);
    if (code != 0)
        return code;
    code = introduce(service, options);
    if (code != 0)
        service_disconnect(service);
    return code;
}

void service_disconnect(struct service *service)
{
    unsigned n;
    /* First, for what it reads goes with the port. */
    rings_close(&service->rings);
    stream_begin(&service->stream, NULL, 0);
    port_close(service->port);
    service->port = NULL;
    service->has_get = 0;
    for (n = 0; n < service->subscription_count; n++)
        service->subscriptions[n].number = 0;
}

/* ---- Subscriptions ---- */

static port_code find_provider(struct service *service, const char *name, uint32_t *number)
{
    FLTPORT_PROVIDER_ROW rows[FLTPORT_MAX_PROVIDERS + 1];
    FLTPORT_PAGE page = {0, 0};
    uint32_t returned = 0, n;
    port_code code = command(service, FLTPORT_COMMAND_PROVIDERS, &page, sizeof page, rows, sizeof rows, &returned);
    if (code != 0)
        return code;
    for (n = 0; n < returned / sizeof rows[0]; n++) {
        if (strlen(name) <= sizeof rows[n].Name && strncmp(rows[n].Name, name, sizeof rows[n].Name) == 0) {
            *number = rows[n].Provider;
            return 0;
        }
    }
    return SERVICE_NO_PROVIDER;
}

/* What can be observed of a provider: more than it declares would be refused. */
static port_code find_declared(struct service *service, uint32_t number, uint64_t *declared)
{
    uint8_t schema[FLTPORT_MAX_SCHEMA];
    uint32_t returned = 0;
    port_code code = command(service, FLTPORT_COMMAND_SCHEMA, &number, sizeof number, schema, sizeof schema, &returned);
    if (code == 0)
        *declared = schema_observable(schema, returned);
    return code;
}

static port_code try_to_subscribe(struct service *service, struct subscription *wanted)
{
    FLTPORT_FILTERED_SUBSCRIPTION with_flags = {0, 0, 0, 0, 0, 0, 0};
    FLTPORT_SUBSCRIPTION plain = {0, 0, 0, 0};
    uint64_t observe = wanted->observe;
    uint32_t number = 0, returned;
    port_code code = find_provider(service, wanted->provider, &number);
    if (code == 0 && observe == SERVICE_EVERYTHING)
        code = find_declared(service, number, &observe);
    if (code != 0)
        return code;
    if (wanted->flags != 0) {
        with_flags.Provider = number;
        with_flags.Flags = wanted->flags;
        with_flags.Observe = observe;
        code = command(service, FLTPORT_COMMAND_SUBSCRIBE_FILTERED, &with_flags, sizeof with_flags, NULL, 0, &returned);
    } else {
        plain.Provider = number;
        plain.Observe = observe;
        code = command(service, FLTPORT_COMMAND_SUBSCRIBE, &plain, sizeof plain, NULL, 0, &returned);
    }
    if (code == 0)
        wanted->number = number;
    return code;
}

port_code service_subscribe(struct service *service, const char *provider, uint64_t observe, uint32_t flags)
{
    struct subscription *wanted = service->subscriptions;
    struct subscription *end = wanted + service->subscription_count;
    while (wanted < end && strcmp(wanted->provider, provider) != 0)
        wanted++;
    if (wanted == end) {
        if (service->subscription_count == FLTPORT_MAX_PROVIDERS || strlen(provider) >= sizeof wanted->provider)
            return SERVICE_NO_PROVIDER;
        service->subscription_count++;
        memset(wanted, 0, sizeof *wanted);
        memcpy(wanted->provider, provider, strlen(provider));
    }
    wanted->observe = observe;
    wanted->flags = flags;
    wanted->number = 0;
    return service->port == NULL ? SERVICE_NO_PROVIDER : try_to_subscribe(service, wanted);
}

void service_subscribe_again(struct service *service)
{
    unsigned n;
    for (n = 0; n < service->subscription_count; n++) {
        /* What is refused is tried again when the next provider comes. */
        if (service->subscriptions[n].number == 0)
            (void)try_to_subscribe(service, &service->subscriptions[n]);
    }
}

void service_forget_provider(struct service *service, uint32_t number)
{
    unsigned n;
    for (n = 0; n < service->subscription_count; n++) {
        if (service->subscriptions[n].number == number)
            service->subscriptions[n].number = 0;
    }
}

const char *service_provider(const struct service *service, uint32_t number)
{
    unsigned n;
    for (n = 0; n < service->subscription_count; n++) {
        if (number != 0 && service->subscriptions[n].number == number)
            return service->subscriptions[n].provider;
    }
    return NULL;
}

/* ---- Frames ---- */

int service_receive(struct service *service)
{
    uint32_t length = 0;
    int taken;

    if (stream_reads_frame(&service->stream))
        return 1;
    if (!service->has_get) {
        if (port_get(service->port, service->frame, sizeof service->frame) != 0)
            return 0;
        service->has_get = 1;
    }
    taken = port_take(service->port, &length);
    if (taken <= 0)
        return taken == 0;
    service->has_get = 0;
    return length >= MESSAGE_HEADER &&
           stream_frame(&service->stream, (uint8_t *)service->frame + MESSAGE_HEADER, length - MESSAGE_HEADER);
}
