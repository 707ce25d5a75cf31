/* The message that the load clients exchange.
 *
 * A durable header, content-type application/json, the five application-properties that
 * filters on the variables topic see (objectId, model, variable, timestamp, quality), and one data
 * section with a JSON object whose last members are fixed in width, so that a receiver
 * finds them from the end of whatever the broker puts in front:
 *
 *   …,"sender":"07","seq":"000000000042","sentNs":"00000001234567890123"}
 *
 * The message is encoded once; every send overwrites the variable digits in place. */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_MAX_BYTES (1u << 20)
#define MESSAGE_SENDERS_MAX 100

struct message_template {
    char *bytes;
    size_t size;
    size_t object_id_at, timestamp_at, quality_at, tail_at;
    int64_t wall_offset_ns; /* from the monotonic clock to the wall clock */
};

struct message_stamp {
    unsigned sender; /* 0..99 */
    uint64_t seq;    /* from 1, per sender */
    int64_t sent_ns; /* when the message was due, on the monotonic clock */
};

/* Encode a message of exactly `size` bytes, header included; false if that is too small or too large. */
bool message_template_init(struct message_template *message, size_t size);
size_t message_size_min(void);
/* Write the properties and the stamp of the next message into the template. */
void message_stamp_write(struct message_template *message, const struct message_stamp *stamp,
                         uint64_t object_index);
/* Read the stamp of an encoded message; false if it is not one of ours. */
bool message_stamp_read(const char *bytes, size_t size, struct message_stamp *stamp);

#endif
