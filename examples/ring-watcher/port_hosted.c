/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The hosted kernel's socket: a request is a header and a payload, and so is a completion. Between completions
 * the hosted kernel may ask for memory to be mapped, while a command is under way.
 */
#define _GNU_SOURCE
#include "port.h"

#include <fltport_service.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

const char port_code_kind[] = "status";

/* NTSTATUS */
#define STATUS_INVALID_PARAMETER 0xC000000Du
#define STATUS_NO_MEMORY 0xC0000017u
#define STATUS_ACCESS_DENIED 0xC0000022u
#define STATUS_OBJECT_NAME_NOT_FOUND 0xC0000034u
#define STATUS_PORT_DISCONNECTED 0xC0000037u

#define REQUEST_MAGIC 0x51485046u    /* "FPHQ" */
#define COMPLETION_MAGIC 0x43485046u /* "FPHC" */
#define MAP_MAGIC 0x4D485046u        /* "FPHM" */

#define OP_CONNECT 2u
#define OP_MAPPED 4u
#define OP_SEND_WITH_VIEWS 5u
#define OP_SEND 0x0008801Bu
#define OP_GET 0x0008401Fu
/* What a hosted kernel says at the connect: it knows OP_SEND_WITH_VIEWS. */
#define MAPS_VIEWS 1u

struct request_header {
    uint32_t magic;
    uint32_t op;
    uint64_t id;
    uint32_t length;
    uint32_t reserved;
};

struct completion_header {
    uint32_t magic;
    uint32_t status;
    uint64_t id;
    uint32_t information;
    uint32_t length;
};

/* As long as a completion's header, and told from it by its magic. */
struct map_view {
    uint32_t magic;
    uint32_t writable;
    uint64_t id;
    uint64_t length;
};

struct mapped {
    uint64_t id;
    uint32_t status;
    uint32_t reserved;
    uint64_t address;
};

struct connect {
    uint32_t name;
    uint32_t context;
};

struct send {
    uint64_t input;
    uint64_t output;
    uint32_t input_length;
    uint32_t output_length;
};

struct get {
    uint32_t capacity;
    uint32_t reserved;
};

/* Views that a connection can have: two for its rings. */
#define MAX_VIEWS 8

struct view {
    void *address;
    size_t length;
};

struct port {
    int socket;
    int event;
    uint64_t last_id;
    uint32_t can;
    int has_ended;
    /* The get: 0 if none waits. */
    uint64_t get;
    uint8_t *buffer;
    uint32_t capacity;
    int is_complete;
    int get_failed;
    uint32_t length;
    struct view views[MAX_VIEWS];
    unsigned view_count;
};

static int write_all(int socket, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    while (length > 0) {
        ssize_t sent = send(socket, at, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return 0;
        at += sent;
        length -= (size_t)sent;
    }
    return 1;
}

/* Reads so many bytes; a descriptor that comes beside them goes to *descriptor, or is closed. */
static int read_all(int socket, void *bytes, size_t length, int *descriptor)
{
    uint8_t *at = bytes;
    while (length > 0) {
        union {
            struct cmsghdr header;
            char room[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec part = {at, length};
        struct msghdr message = {0};
        struct cmsghdr *beside;
        ssize_t got;

        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        beside = CMSG_FIRSTHDR(&message);
        if (beside != NULL && beside->cmsg_level == SOL_SOCKET && beside->cmsg_type == SCM_RIGHTS) {
            int given;
            memcpy(&given, CMSG_DATA(beside), sizeof given);
            if (descriptor != NULL && *descriptor < 0)
                *descriptor = given;
            else
                close(given);
        }
        at += got;
        length -= (size_t)got;
    }
    return 1;
}

static int request(struct port *port, uint32_t op, const void *payload, size_t length)
{
    struct request_header header = {REQUEST_MAGIC, op, 0, 0, 0};
    header.id = ++port->last_id;
    header.length = (uint32_t)length;
    return write_all(port->socket, &header, sizeof header) && write_all(port->socket, payload, length);
}

/* Maps what the hosted kernel asks for, and answers. */
static int map(struct port *port, const struct map_view *question, int descriptor)
{
    struct mapped answer = {0};
    int protection = question->writable != 0 ? PROT_READ | PROT_WRITE : PROT_READ;
    void *address = MAP_FAILED;

    if (descriptor < 0)
        return 0;
    if (port->view_count < MAX_VIEWS && question->length <= SIZE_MAX)
        address = mmap(NULL, (size_t)question->length, protection, MAP_SHARED, descriptor, 0);
    close(descriptor);
    answer.id = question->id;
    if (address == MAP_FAILED) {
        answer.status = STATUS_NO_MEMORY;
    } else {
        struct view *view = &port->views[port->view_count++];
        view->address = address;
        view->length = (size_t)question->length;
        answer.address = (uintptr_t)address;
    }
    return request(port, OP_MAPPED, &answer, sizeof answer);
}

/* The get is complete. What does not fit was not asked for. */
static int complete_get(struct port *port, const struct completion_header *header)
{
    port->get = 0;
    if (header->status != 0) {
        /* The port is disconnected; the socket is not, and a command may be under way. */
        port->get_failed = 1;
        return header->length == 0;
    }
    if (header->length > port->capacity)
        return 0;
    port->is_complete = 1;
    port->length = header->length;
    return read_all(port->socket, port->buffer, header->length, NULL);
}

/* Reads what comes next; 1 if that completes the request `id`, whose header it then is. */
static int next(struct port *port, uint64_t id, struct completion_header *header)
{
    int descriptor = -1, is_sound;

    if (port->has_ended)
        return 0;
    is_sound = read_all(port->socket, header, sizeof *header, &descriptor);
    if (is_sound && header->magic == MAP_MAGIC) {
        struct map_view question;
        memcpy(&question, header, sizeof question);
        is_sound = map(port, &question, descriptor);
    } else if (descriptor >= 0) {
        close(descriptor);
        is_sound = 0;
    } else if (is_sound && header->magic == COMPLETION_MAGIC && port->get != 0 && header->id == port->get) {
        is_sound = complete_get(port, header);
    } else if (is_sound) {
        /* Nothing else that is asked here is answered with a payload. */
        is_sound = header->magic == COMPLETION_MAGIC && (id == 0 || header->id == id || header->id == 0) &&
                   header->length == 0;
        if (is_sound && id != 0)
            return 1;
        is_sound = 0;
    }
    port->has_ended = !is_sound;
    return 0;
}

/* Asks, and waits for the answer. */
static port_code exchange(struct port *port, uint32_t op, const void *payload, size_t length, uint32_t *information)
{
    struct completion_header header;
    uint64_t id;

    if (port->has_ended)
        return STATUS_PORT_DISCONNECTED;
    /* A hosted kernel that takes nothing may have said why. */
    (void)request(port, op, payload, length);
    id = port->last_id;
    while (!port->has_ended) {
        if (next(port, id, &header)) {
            *information = header.information;
            return header.status;
        }
    }
    return STATUS_PORT_DISCONNECTED;
}

/* Where a hosted kernel listens, if nobody says where; the path's length, as snprintf. */
static int usual_place(char *path, size_t capacity)
{
    const char *told = getenv("FLTPORT_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    if (told != NULL && *told != 0)
        return snprintf(path, capacity, "%s", told);
    if (geteuid() == 0)
        return snprintf(path, capacity, "/run/fltport/host.sock");
    if (runtime != NULL && *runtime != 0)
        return snprintf(path, capacity, "%s/fltport/host.sock", runtime);
    return snprintf(path, capacity, "/tmp/fltport-%u/host.sock", (unsigned)geteuid());
}

/* Writes down where to connect; 0 if an address of a socket has no room for that, for what is cut off is another place. */
static int find_place(struct sockaddr_un *address, const char *place)
{
    const size_t room = sizeof address->sun_path;
    int length = place == NULL ? usual_place(address->sun_path, room) : snprintf(address->sun_path, room, "%s", place);
    if (length >= 0 && (size_t)length < room)
        return 1;
    fprintf(stderr, "ring-watcher: the socket's path has %d bytes, and may have %u: choose a shorter one (--socket or "
                    "FLTPORT_SOCKET). It begins %s\n", length, (unsigned)room - 1, address->sun_path);
    return 0;
}

/* The hosted kernel reads and writes this process's memory, as a kernel does: so its user must be root or this one's.
 * Where only ancestors may, this one process is let in. */
static int trust(int socket)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || (peer.uid != 0 && peer.uid != geteuid()))
        return 0;
    (void)prctl(PR_SET_PTRACER, peer.pid, 0, 0, 0);
    return 1;
}

static port_code open_socket(struct port *port, const char *place)
{
    struct sockaddr_un address = {0};
    /* Whoever answers a command has this long for each of its bytes. */
    struct timeval patience = {60, 0};

    address.sun_family = AF_UNIX;
    if (!find_place(&address, place))
        return PORT_NO_PLACE;
    port->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (port->socket < 0 || connect(port->socket, (struct sockaddr *)&address, sizeof address) != 0)
        return errno == EACCES ? STATUS_ACCESS_DENIED : STATUS_OBJECT_NAME_NOT_FOUND;
    if (!trust(port->socket))
        return STATUS_ACCESS_DENIED;
    (void)setsockopt(port->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(port->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return 0;
}

static port_code connect_port(struct port *port, const void *context, uint16_t length)
{
    static const char name[] = "\\FltPort";
    uint8_t payload[sizeof(struct connect) + 2 * sizeof name + UINT16_MAX];
    struct connect connect = {2 * (sizeof name - 1), 0};
    size_t at = sizeof connect, n;

    connect.context = length;
    memcpy(payload, &connect, sizeof connect);
    for (n = 0; n + 1 < sizeof name; n++) {
        payload[at++] = (uint8_t)name[n];
        payload[at++] = 0;
    }
    memcpy(payload + at, context, length);
    return exchange(port, OP_CONNECT, payload, at + length, &port->can);
}

port_code port_connect(struct port **out, const char *place, const void *context, uint16_t length)
{
    struct port *port = calloc(1, sizeof *port);
    port_code code;
    if (port == NULL)
        return STATUS_NO_MEMORY;
    port->socket = -1;
    port->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    code = open_socket(port, place);
    if (code == 0)
        code = connect_port(port, context, length);
    if (code != 0) {
        port_close(port);
        port = NULL;
    }
    *out = port;
    return code;
}

void port_close(struct port *port)
{
    unsigned n;
    if (port->socket >= 0)
        close(port->socket);
    if (port->event >= 0)
        close(port->event);
    for (n = 0; n < port->view_count; n++)
        munmap(port->views[n].address, port->views[n].length);
    free(port);
}

port_code port_send(struct port *port, const void *in, uint32_t in_length, void *out, uint32_t out_length,
                    uint32_t *returned)
{
    /* The hosted kernel reads and writes them itself until the answer has come or the socket has ended. So they stay where they
     * are, whoever ends it. */
    static uint64_t input[FLTPORT_MAX_COMMAND / 8], output[FLTPORT_MAX_COMMAND / 8];
    struct send send = {0, 0, 0, 0};
    port_code code;

    if (in_length > sizeof input)
        return STATUS_INVALID_PARAMETER;
    memcpy(input, in, in_length);
    send.input = (uintptr_t)input;
    send.output = (uintptr_t)output;
    send.input_length = in_length;
    send.output_length = out_length < sizeof output ? out_length : sizeof output;
    *returned = 0;
    code = exchange(port, port->can & MAPS_VIEWS ? OP_SEND_WITH_VIEWS : OP_SEND, &send, sizeof send, returned);
    if (*returned > send.output_length)
        return STATUS_INVALID_PARAMETER;
    if (code == 0 && *returned > 0)
        memcpy(out, output, *returned);
    return code;
}

port_code port_get(struct port *port, void *buffer, uint32_t capacity)
{
    struct get get = {0, 0};
    get.capacity = port->capacity = capacity;
    port->buffer = buffer;
    port->is_complete = 0;
    if (port->has_ended || !request(port, OP_GET, &get, sizeof get))
        return STATUS_PORT_DISCONNECTED;
    port->get = port->last_id;
    return 0;
}

static int is_readable(int descriptor)
{
    struct pollfd ready = {descriptor, POLLIN, 0};
    return poll(&ready, 1, 0) > 0;
}

int port_take(struct port *port, uint32_t *length)
{
    struct completion_header header;
    while (!port->is_complete && !port->get_failed && !port->has_ended && is_readable(port->socket))
        (void)next(port, 0, &header);
    if (port->is_complete) {
        port->is_complete = 0;
        *length = port->length;
        return 1;
    }
    return port->has_ended || port->get_failed ? -1 : 0;
}

uint64_t port_event(struct port *port)
{
    /* None has the number 0: that is standard input. */
    return port->event > 0 && port->can & MAPS_VIEWS ? (uint64_t)port->event : 0;
}

void *port_view(struct port *port, uint64_t address, uint32_t length)
{
    unsigned n;
    for (n = 0; n < port->view_count; n++) {
        if ((uintptr_t)port->views[n].address == address && port->views[n].length == length)
            return port->views[n].address;
    }
    return NULL;
}

/* ---- Standard input ---- */

static char pending[64 * 1024];
static size_t pending_length;
static int input_has_ended;

int port_line(char *line, size_t capacity)
{
    for (;;) {
        char *end = memchr(pending, '\n', pending_length);
        ssize_t got;
        if (end != NULL) {
            size_t length = (size_t)(end - pending), rest = pending_length - length - 1;
            size_t kept = length < capacity ? length : capacity - 1;
            memcpy(line, pending, kept);
            line[kept] = 0;
            memmove(pending, end + 1, rest);
            pending_length = rest;
            return 1;
        }
        if (input_has_ended || pending_length == sizeof pending)
            return -1;
        if (!is_readable(STDIN_FILENO))
            return 0;
        got = read(STDIN_FILENO, pending + pending_length, sizeof pending - pending_length);
        if (got > 0)
            pending_length += (size_t)got;
        else if (got == 0 || errno != EINTR)
            input_has_ended = 1;
    }
}

unsigned port_wait(struct port *port, unsigned what, uint32_t milliseconds)
{
    struct pollfd ready[3];
    unsigned bits[3], found = 0;
    nfds_t count = 0, n;
    uint64_t value;

    if (what & PORT_LINE && memchr(pending, '\n', pending_length) != NULL)
        return PORT_LINE;
    for (n = 0; n < 3; n++) {
        unsigned bit = 1u << n;
        int descriptor = bit == PORT_LINE ? STDIN_FILENO : port == NULL ? -1 : bit == PORT_FRAME ? port->socket : port->event;
        if ((what & bit) == 0 || descriptor < 0)
            continue;
        ready[count].fd = descriptor;
        ready[count].events = POLLIN;
        ready[count].revents = 0;
        bits[count++] = bit;
    }
    if (poll(ready, count, milliseconds > 60000 ? 60000 : (int)milliseconds) <= 0)
        return 0;
    for (n = 0; n < count; n++) {
        if (ready[n].revents != 0)
            found |= bits[n];
    }
    if (found & PORT_RINGS && read(port->event, &value, sizeof value) < 0)
        found &= ~PORT_RINGS;
    return found;
}

uint64_t port_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
