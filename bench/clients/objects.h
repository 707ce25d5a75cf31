/* Which plant object the next message is about. */
#ifndef BENCH_OBJECTS_H
#define BENCH_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>

struct objects {
    uint64_t count;
    uint32_t *zipf; /* NULL: round robin; otherwise a drawn sequence, repeated */
};

/* `exponent` 0 is round robin, above it a Zipf distribution; the same seed gives the same draw. */
bool objects_init(struct objects *objects, uint64_t count, double exponent, uint64_t seed);
uint64_t objects_pick(const struct objects *objects, uint64_t seq);

#endif
