#include "objects.h"

#include <math.h>
#include <stdlib.h>

/* Long enough that the tail of 10,000 objects is visited, short enough for the cache. */
#define DRAWS 65536u

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint32_t search(const double *cumulative, uint64_t count, double wanted)
{
    uint64_t low = 0, high = count - 1;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (cumulative[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint32_t)low;
}

bool objects_init(struct objects *objects, uint64_t count, double exponent, uint64_t seed)
{
    objects->count = count;
    objects->zipf = NULL;
    if (exponent == 0)
        return true;
    double *cumulative = malloc(count * sizeof *cumulative), total = 0;
    objects->zipf = malloc(DRAWS * sizeof *objects->zipf);
    if (cumulative == NULL || objects->zipf == NULL)
        return false;
    for (uint64_t i = 0; i < count; i++)
        cumulative[i] = total += pow((double)(i + 1), -exponent);
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    for (unsigned i = 0; i < DRAWS; i++) {
        double fraction = (double)(next_random(&state) >> 11) / (double)(1ull << 53);
        objects->zipf[i] = search(cumulative, count, fraction * total);
    }
    free(cumulative);
    return true;
}

uint64_t objects_pick(const struct objects *objects, uint64_t seq)
{
    return objects->zipf != NULL ? objects->zipf[seq % DRAWS] : seq % objects->count;
}
