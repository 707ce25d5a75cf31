/* Latency histogram with a bounded relative error.
 *
 * Log-linear buckets: every power of two is cut into 128 equal parts, so a value is
 * known to better than 0.8 %, in 35 KB, whatever the number of samples. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_MAX_BITS 41 /* 2^41 ns = 36 min; larger values land in the last bucket */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    int64_t min_ns, max_ns;
    double sum_ns;
};

void histogram_add(struct histogram *histogram, int64_t value_ns);
/* Upper edge of the bucket that holds the given fraction (0..1) of all samples, in ns. */
int64_t histogram_quantile(const struct histogram *histogram, double fraction);
/* One JSON object: summary in microseconds and the non-empty buckets [upper edge, count]. */
void histogram_print(const struct histogram *histogram, FILE *out);

#endif
