/* Time for the load clients: one monotonic clock, shared by every process of the machine. */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * NS_PER_S + at.tv_nsec;
}

/* CLOCK_MONOTONIC has one origin for all processes, so a sender's stamp can be
 * subtracted from a receiver's. */
static inline int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

#endif
