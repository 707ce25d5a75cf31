/* The SASL exchange that precedes AMQP (AMQP 1.0 part 5, §5.3), done by hand on a blocking socket.
 *
 * It keeps the clients free of Cyrus SASL, whose plug-ins differ from machine to machine. */
#ifndef BENCH_SASL_H
#define BENCH_SASL_H

#include <stdbool.h>

struct sasl_login {
    const char *user;     /* NULL: ANONYMOUS, otherwise PLAIN */
    const char *password; /* a SAS token, or the peer broker's password */
};

/* Both return NULL on success, otherwise why not. */
const char *sasl_client(int fd, const struct sasl_login *login);
/* Accept whatever the client offers: for runs of sender straight to receiver only. */
const char *sasl_server(int fd);

#endif
