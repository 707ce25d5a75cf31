/* One AMQP connection: a socket and Proton's engine, moved by the caller's own loop.
 *
 * The engine is fed with peer_read and emptied with peer_flush; its events wait in
 * `collector` in between. No thread, no callback. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <proton/connection.h>
#include <proton/event.h>
#include <proton/session.h>
#include <proton/transport.h>
#include <stdbool.h>

#include "sasl.h"

struct peer {
    int fd;
    bool blocked; /* the socket took less than there was: wait until it is writable */
    bool closed;  /* by either side; `error` says whether that was wanted */
    char error[512];
    pn_transport_t *transport;
    pn_connection_t *connection;
    pn_session_t *session; /* the one session of an outgoing connection */
    pn_collector_t *collector;
};

/* Connect, authenticate, open connection and session. On false, `error` is set. */
bool peer_connect(struct peer *peer, const char *host_port, const struct sasl_login *login);
/* Take over an accepted socket; the far side opens session and links. */
bool peer_accept(struct peer *peer, int fd);
/* A listening socket on HOST:PORT, or -1; port 0 picks one, which goes to `port`. */
int peer_listen(const char *host_port, int *port);
void peer_read(struct peer *peer);
void peer_flush(struct peer *peer);
/* Keep idle time-outs met; call at least every half second. */
void peer_tick(struct peer *peer);
/* Wait until the socket can be read (or written, if blocked) or the time is over. */
void peer_wait(struct peer *peer, int64_t timeout_ns);
/* Note the error of a connection, session, link or transport event; true if it ends the peer. */
bool peer_failed(struct peer *peer, pn_event_t *event);
/* Close in good order, waiting a short while for the answer, and free everything. */
void peer_close(struct peer *peer);

#endif
