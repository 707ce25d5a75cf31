#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <proton/condition.h>
#include <proton/link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define READ_BYTES (256u * 1024)
#define FRAME_BYTES (64u * 1024)
#define SESSION_BYTES (64u * 1024 * 1024)
#define SASL_TIMEOUT_S 10
#define CLOSE_TIMEOUT_NS (2 * NS_PER_S)

static bool fail(struct peer *peer, const char *what, const char *why)
{
    if (peer->error[0] == '\0')
        snprintf(peer->error, sizeof peer->error, "%s: %s", what, why);
    peer->closed = true;
    return false;
}

static struct addrinfo *resolve(const char *host_port, int flags)
{
    char host[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found = NULL;
    const char *colon = strrchr(host_port, ':');
    if (colon == NULL || (size_t)(colon - host_port) >= sizeof host)
        return NULL;
    snprintf(host, sizeof host, "%.*s", (int)(colon - host_port), host_port);
    return getaddrinfo(host, colon + 1, &hints, &found) == 0 ? found : NULL;
}

static void set_socket_options(int fd)
{
    int on = 1;
    struct timeval limit = {.tv_sec = SASL_TIMEOUT_S};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

static void start_engine(struct peer *peer)
{
    fcntl(peer->fd, F_SETFL, fcntl(peer->fd, F_GETFL) | O_NONBLOCK);
    peer->transport = pn_transport();
    peer->connection = pn_connection();
    peer->collector = pn_collector();
    pn_transport_set_max_frame(peer->transport, FRAME_BYTES);
    pn_connection_collect(peer->connection, peer->collector);
    pn_transport_bind(peer->transport, peer->connection);
}

bool peer_connect(struct peer *peer, const char *host_port, const struct sasl_login *login)
{
    memset(peer, 0, sizeof *peer);
    struct addrinfo *address = resolve(host_port, 0);
    if (address == NULL)
        return fail(peer, host_port, "not a HOST:PORT that resolves");
    peer->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int refused = connect(peer->fd, address->ai_addr, address->ai_addrlen);
    freeaddrinfo(address);
    if (refused)
        return fail(peer, host_port, strerror(errno));
    set_socket_options(peer->fd);
    const char *error = sasl_client(peer->fd, login);
    if (error != NULL)
        return fail(peer, host_port, error);
    start_engine(peer);
    char container[64];
    snprintf(container, sizeof container, "bench-%d-%d", (int)getpid(), peer->fd);
    pn_connection_set_container(peer->connection, container);
    pn_connection_set_hostname(peer->connection, "localhost");
    pn_connection_open(peer->connection);
    peer->session = pn_session(peer->connection);
    pn_session_set_incoming_capacity(peer->session, SESSION_BYTES);
    pn_session_open(peer->session);
    return true;
}

bool peer_accept(struct peer *peer, int fd)
{
    memset(peer, 0, sizeof *peer);
    peer->fd = fd;
    set_socket_options(fd);
    const char *error = sasl_server(fd);
    if (error != NULL)
        return fail(peer, "accept", error);
    start_engine(peer);
    pn_transport_set_server(peer->transport);
    return true;
}

int peer_listen(const char *host_port, int *port)
{
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    int on = 1;
    struct addrinfo *address = resolve(host_port, AI_PASSIVE);
    if (address == NULL)
        return -1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int failed = bind(fd, address->ai_addr, address->ai_addrlen) || listen(fd, 64) ||
                 getsockname(fd, (struct sockaddr *)&bound, &length);
    freeaddrinfo(address);
    if (failed) {
        close(fd);
        return -1;
    }
    *port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)&bound)->sin_port);
    return fd;
}

static void push(struct peer *peer, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t taken = pn_transport_push(peer->transport, bytes, size);
        if (taken <= 0) { /* the engine has seen enough: an error or the end */
            peer->closed = true;
            return;
        }
        bytes += taken;
        size -= (size_t)taken;
    }
}

void peer_read(struct peer *peer)
{
    static char buffer[READ_BYTES];
    ssize_t got = recv(peer->fd, buffer, sizeof buffer, 0);
    if (got > 0) {
        push(peer, buffer, (size_t)got);
    } else if (got == 0) {
        fail(peer, "connection", "closed by the far side");
    } else if (errno != EAGAIN && errno != EINTR) {
        fail(peer, "connection", strerror(errno));
    }
}

void peer_flush(struct peer *peer)
{
    ssize_t pending;
    peer->blocked = false;
    while ((pending = pn_transport_pending(peer->transport)) > 0) {
        const char *head = pn_transport_head(peer->transport);
        ssize_t put = send(peer->fd, head, (size_t)pending, MSG_NOSIGNAL);
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
            peer->blocked = true;
            return;
        }
        if (put < 0) {
            fail(peer, "connection", strerror(errno));
            return;
        }
        pn_transport_pop(peer->transport, (size_t)put);
    }
}

void peer_tick(struct peer *peer)
{
    pn_transport_tick(peer->transport, now_ns() / NS_PER_MS);
}

void peer_wait(struct peer *peer, int64_t timeout_ns)
{
    struct pollfd ready = {.fd = peer->fd, .events = POLLIN};
    struct timespec limit = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
    if (peer->blocked)
        ready.events |= POLLOUT;
    ppoll(&ready, 1, &limit, NULL);
}

static pn_condition_t *remote_condition(pn_event_t *event)
{
    switch (pn_event_type(event)) {
    case PN_CONNECTION_REMOTE_CLOSE:
        return pn_connection_remote_condition(pn_event_connection(event));
    case PN_SESSION_REMOTE_CLOSE:
        return pn_session_remote_condition(pn_event_session(event));
    case PN_LINK_REMOTE_CLOSE:
    case PN_LINK_REMOTE_DETACH:
        return pn_link_remote_condition(pn_event_link(event));
    case PN_TRANSPORT_ERROR:
        return pn_transport_condition(pn_event_transport(event));
    default:
        return NULL;
    }
}

bool peer_failed(struct peer *peer, pn_event_t *event)
{
    pn_condition_t *condition = remote_condition(event);
    if (condition == NULL)
        return false;
    const char *name = pn_condition_get_name(condition);
    const char *text = pn_condition_get_description(condition);
    fail(peer, name != NULL ? name : pn_event_type_name(pn_event_type(event)),
         text != NULL ? text : "closed by the far side");
    return true;
}

void peer_close(struct peer *peer)
{
    int64_t limit = now_ns() + CLOSE_TIMEOUT_NS;
    if (peer->transport == NULL) {
        if (peer->fd >= 0)
            close(peer->fd);
        return;
    }
    pn_connection_close(peer->connection);
    while (!peer->closed && now_ns() < limit &&
           !(pn_connection_state(peer->connection) & PN_REMOTE_CLOSED)) {
        peer_flush(peer);
        peer_wait(peer, NS_PER_S / 10);
        peer_read(peer);
        while (pn_collector_pop(peer->collector))
            continue;
    }
    peer_flush(peer);
    close(peer->fd);
    pn_transport_unbind(peer->transport);
    pn_transport_free(peer->transport);
    pn_collector_release(peer->collector);
    pn_connection_free(peer->connection);
    pn_collector_free(peer->collector);
}
