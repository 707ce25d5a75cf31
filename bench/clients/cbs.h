/* Claims-based security: hand tokens to the broker over its $cbs node, one a resource. */
#ifndef BENCH_CBS_H
#define BENCH_CBS_H

#include <stddef.h>

#include "peer.h"

struct claim {
    const char *address; /* what the token is for */
    const char *token;   /* NULL or empty: nothing to claim for this address */
};

/* Put all tokens and wait until each is accepted; false with peer->error set otherwise.
 * Must be called before any other link of the connection exists. */
bool cbs_put_tokens(struct peer *peer, const struct claim *claims, size_t count);

#endif
