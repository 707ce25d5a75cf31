#include "message.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define BODY_HEAD "{\"value\":21.50,\"pad\":\""
#define TAIL_SENDER "\",\"sender\":\""
#define TAIL_SEQ "\",\"seq\":\""
#define TAIL_SENT "\",\"sentNs\":\""
#define TAIL_END "\"}"
#define SENDER_DIGITS 2
#define SEQ_DIGITS 12
#define SENT_DIGITS 20
#define OBJECT_DIGITS 8
#define LENGTH(text) (sizeof(text) - 1)

enum {
    SENDER_AT = LENGTH(TAIL_SENDER),
    SEQ_AT = SENDER_AT + SENDER_DIGITS + LENGTH(TAIL_SEQ),
    SENT_AT = SEQ_AT + SEQ_DIGITS + LENGTH(TAIL_SENT),
    TAIL_BYTES = SENT_AT + SENT_DIGITS + LENGTH(TAIL_END),
};

struct encoder {
    char *bytes;
    size_t at;
};

static void put(struct encoder *encoder, const void *bytes, size_t size)
{
    memcpy(encoder->bytes + encoder->at, bytes, size);
    encoder->at += size;
}

static void put_u8(struct encoder *encoder, unsigned value)
{
    encoder->bytes[encoder->at++] = (char)value;
}

/* AMQP 1.0 part 1, §1.6: str8-utf8 is 0xa1, sym8 0xa3, both with a one-byte length. */
static void put_text(struct encoder *encoder, unsigned constructor, const char *text)
{
    put_u8(encoder, constructor);
    put_u8(encoder, (unsigned)strlen(text));
    put(encoder, text, strlen(text));
}

static void put_section(struct encoder *encoder, unsigned descriptor)
{
    put_u8(encoder, 0x00);
    put_u8(encoder, 0x53);
    put_u8(encoder, descriptor);
}

static void put_header(struct encoder *encoder)
{
    put_section(encoder, 0x70);
    put(encoder, "\xc0\x02\x01\x41", 4); /* list8, one field: durable = true */
    put_section(encoder, 0x73);
    put(encoder, "\xc0\x19\x07\x40\x40\x40\x40\x40\x40", 9); /* content-type is the 7th field */
    put_text(encoder, 0xa3, "application/json");
}

static void put_application_properties(struct encoder *encoder, struct message_template *message)
{
    put_section(encoder, 0x74);
    put_u8(encoder, 0xc1); /* map8: size, count, five pairs */
    size_t size_at = encoder->at++;
    put_u8(encoder, 10);
    put_text(encoder, 0xa1, "objectId");
    put_text(encoder, 0xa1, "obj-00000000");
    message->object_id_at = encoder->at - OBJECT_DIGITS;
    put_text(encoder, 0xa1, "model");
    put_text(encoder, 0xa1, "abb.plant.pump");
    put_text(encoder, 0xa1, "variable");
    put_text(encoder, 0xa1, "temperature");
    put_text(encoder, 0xa1, "timestamp");
    put_u8(encoder, 0x83);
    message->timestamp_at = encoder->at;
    put(encoder, "\0\0\0\0\0\0\0\0", 8);
    put_text(encoder, 0xa1, "quality");
    put_u8(encoder, 0x54); /* smallint */
    message->quality_at = encoder->at;
    put_u8(encoder, 0);
    encoder->bytes[size_at] = (char)(encoder->at - size_at - 1);
}

static void put_body(struct encoder *encoder, struct message_template *message)
{
    put_section(encoder, 0x75);
    put_u8(encoder, 0xb0); /* vbin32 */
    size_t body = message->size - encoder->at - 4;
    for (int shift = 24; shift >= 0; shift -= 8)
        put_u8(encoder, (unsigned)(body >> shift) & 0xff);
    put(encoder, BODY_HEAD, LENGTH(BODY_HEAD));
    message->tail_at = message->size - TAIL_BYTES;
    memset(encoder->bytes + encoder->at, 'x', message->tail_at - encoder->at);
    encoder->at = message->tail_at;
    put(encoder, TAIL_SENDER "00" TAIL_SEQ "000000000000" TAIL_SENT "00000000000000000000" TAIL_END,
        TAIL_BYTES);
}

size_t message_size_min(void)
{
    char scratch[512];
    struct encoder encoder = {scratch, 0};
    struct message_template message = {0};
    put_header(&encoder);
    put_application_properties(&encoder, &message);
    return encoder.at + 3 + 1 + 4 + LENGTH(BODY_HEAD) + TAIL_BYTES;
}

bool message_template_init(struct message_template *message, size_t size)
{
    if (size < message_size_min() || size > MESSAGE_MAX_BYTES)
        return false;
    memset(message, 0, sizeof *message);
    message->size = size;
    message->wall_offset_ns = clock_ns(CLOCK_REALTIME) - now_ns();
    message->bytes = malloc(size);
    if (message->bytes == NULL)
        return false;
    struct encoder encoder = {message->bytes, 0};
    put_header(&encoder);
    put_application_properties(&encoder, message);
    put_body(&encoder, message);
    return true;
}

static void write_digits(char *at, unsigned digits, uint64_t value)
{
    while (digits-- > 0) {
        at[digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

static bool read_digits(const char *at, unsigned digits, uint64_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < digits; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        *value = *value * 10 + (uint64_t)(at[i] - '0');
    }
    return true;
}

void message_stamp_write(struct message_template *message, const struct message_stamp *stamp,
                         uint64_t object_index)
{
    char *tail = message->bytes + message->tail_at;
    uint64_t timestamp = (uint64_t)((stamp->sent_ns + message->wall_offset_ns) / NS_PER_MS);
    write_digits(message->bytes + message->object_id_at, OBJECT_DIGITS, object_index);
    for (int i = 0; i < 8; i++)
        message->bytes[message->timestamp_at + (size_t)i] = (char)(timestamp >> (56 - 8 * i));
    message->bytes[message->quality_at] = (char)(stamp->seq % 100);
    write_digits(tail + SENDER_AT, SENDER_DIGITS, stamp->sender);
    write_digits(tail + SEQ_AT, SEQ_DIGITS, stamp->seq);
    write_digits(tail + SENT_AT, SENT_DIGITS, (uint64_t)stamp->sent_ns);
}

bool message_stamp_read(const char *bytes, size_t size, struct message_stamp *stamp)
{
    uint64_t sender, sent;
    if (size < TAIL_BYTES)
        return false;
    const char *tail = bytes + size - TAIL_BYTES;
    if (memcmp(tail, TAIL_SENDER, LENGTH(TAIL_SENDER)) != 0 ||
        memcmp(tail + SENT_AT - LENGTH(TAIL_SENT), TAIL_SENT, LENGTH(TAIL_SENT)) != 0)
        return false;
    if (!read_digits(tail + SENDER_AT, SENDER_DIGITS, &sender) ||
        !read_digits(tail + SEQ_AT, SEQ_DIGITS, &stamp->seq) ||
        !read_digits(tail + SENT_AT, SENT_DIGITS, &sent))
        return false;
    stamp->sender = (unsigned)sender;
    stamp->sent_ns = (int64_t)sent;
    return true;
}
