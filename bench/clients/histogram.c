#include "histogram.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

static unsigned bucket_of(uint64_t value)
{
    if (value < SUB_COUNT)
        return (unsigned)value;
    unsigned high_bit = 63u - (unsigned)__builtin_clzll(value);
    if (high_bit >= HISTOGRAM_MAX_BITS)
        return HISTOGRAM_BUCKETS - 1;
    unsigned shift = high_bit - HISTOGRAM_SUB_BITS;
    return ((shift + 1) << HISTOGRAM_SUB_BITS) + (unsigned)((value >> shift) - SUB_COUNT);
}

static int64_t bucket_upper(unsigned bucket)
{
    unsigned group = bucket >> HISTOGRAM_SUB_BITS;
    uint64_t sub = bucket & (SUB_COUNT - 1);
    if (group == 0)
        return (int64_t)sub;
    unsigned shift = group - 1;
    return (int64_t)(((sub + SUB_COUNT + 1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, int64_t value_ns)
{
    if (value_ns < 0)
        value_ns = 0;
    if (histogram->count == 0 || value_ns < histogram->min_ns)
        histogram->min_ns = value_ns;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
    histogram->count++;
    histogram->sum_ns += (double)value_ns;
    histogram->counts[bucket_of((uint64_t)value_ns)]++;
}

int64_t histogram_quantile(const struct histogram *histogram, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)histogram->count + 0.5), seen = 0;
    if (wanted < 1)
        wanted = 1;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= wanted) {
            int64_t upper = bucket_upper(bucket);
            return upper < histogram->max_ns ? upper : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}

static void print_quantiles(const struct histogram *histogram, FILE *out)
{
    static const struct {
        const char *name;
        double fraction;
    } wanted[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99_9", 0.999}, {"p99_99", 0.9999}};
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++)
        fprintf(out, ",\"%s\":%.1f", wanted[i].name,
                (double)histogram_quantile(histogram, wanted[i].fraction) / 1e3);
}

void histogram_print(const struct histogram *histogram, FILE *out)
{
    const char *comma = "";
    fprintf(out, "{\"unit\":\"us\",\"count\":%llu", (unsigned long long)histogram->count);
    if (histogram->count > 0) {
        fprintf(out, ",\"min\":%.1f,\"mean\":%.1f", (double)histogram->min_ns / 1e3,
                histogram->sum_ns / (double)histogram->count / 1e3);
        print_quantiles(histogram, out);
        fprintf(out, ",\"max\":%.1f", (double)histogram->max_ns / 1e3);
    }
    fprintf(out, ",\"buckets\":[");
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        if (histogram->counts[bucket] == 0)
            continue;
        fprintf(out, "%s[%.3f,%llu]", comma, (double)bucket_upper(bucket) / 1e3,
                (unsigned long long)histogram->counts[bucket]);
        comma = ",";
    }
    fprintf(out, "]}");
}
