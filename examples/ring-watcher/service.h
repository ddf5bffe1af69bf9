/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A connection to fltport.sys: hello, commands, subscriptions, and rings if they can be had. */
#ifndef RING_WATCHER_SERVICE_H
#define RING_WATCHER_SERVICE_H

#include "port.h"
#include "stream.h"

/* What the user wants. */
struct options {
    const char *place;   /* the hosted kernel's socket */
    const char *name;    /* the service's own */
    int without_rings;
    uint32_t ring;       /* bytes of each ring; 0: what the driver thinks fit */
    uint32_t queue;      /* bytes of the queue in the driver; 0: as it is */
};

/* What is to be observed of a provider. */
struct subscription {
    char provider[FLTPORT_MAX_PROVIDER_NAME + 1];
    uint64_t observe;
    uint32_t flags;
    uint32_t number;     /* the provider's; 0 while the driver does not know the subscription */
};

struct service {
    struct port *port;
    uint32_t connection; /* its number */
    uint64_t features;
    struct rings rings;
    struct stream stream;
    struct subscription subscriptions[FLTPORT_MAX_PROVIDERS];
    unsigned subscription_count;
    uint64_t frame[(MESSAGE_HEADER + FLTPORT_MAX_FRAME) / 8];
    int has_get;         /* the frame is the port's */
};

/* No provider has this name. */
#define SERVICE_NO_PROVIDER 1u
/* The driver has given rings, and they cannot be read. */
#define SERVICE_NO_RINGS 2u

/* Connects for the n-th time, counted from 0, and says on standard error by which way records come. */
port_code service_connect(struct service *service, const struct options *options, uint32_t generation);
void service_disconnect(struct service *service);

/* All that the provider declares. */
#define SERVICE_EVERYTHING UINT64_MAX

/* Wants to observe this from now on, whenever the provider is there; whether it has begun. */
port_code service_subscribe(struct service *service, const char *provider, uint64_t observe, uint32_t flags);
/* Subscribes to what has not begun: to be called when a provider has come. */
void service_subscribe_again(struct service *service);

/* The provider with this number is gone, if there is a subscription to it. */
void service_forget_provider(struct service *service, uint32_t number);

/* Has a get wait at the port unless a frame is still read, and takes it; 0: the connection has ended. */
int service_receive(struct service *service);

/* The name of a provider to which there is a subscription; NULL if there is none. */
const char *service_provider(const struct service *service, uint32_t number);

#endif
