/* The frames that tell of outgoing deliveries (AMQP 1.0 §2.3, §2.7). */
#ifndef HOTPATH_FRAMES_H
#define HOTPATH_FRAMES_H

#include "native.h"

#define FRAME_HEAD_BYTES 8
#define TAG_BYTES 16

enum {
    FRAME_BEGIN = 0x11,
    FRAME_TRANSFER = 0x14,
    FRAME_DISPOSITION = 0x15,
    FRAME_END = 0x17,
    FRAME_CLOSE = 0x18,
};

/* A transfer that Proton has written, with one of our marks for its tag. */
typedef struct {
    uint8_t *tag, *settled; /* where they are in the frame */
    uint32_t line, index;   /* of the mark */
    uint32_t id;
    bool is_last; /* no further frame of this delivery follows */
} Transfer;

typedef struct {
    uint32_t first, last;
    bool is_settled;
} Disposition;

typedef enum {
    DISPOSITION_ACCEPTED, /* of deliveries that we have sent */
    DISPOSITION_OTHER,    /* not of ours */
    DISPOSITION_ODD,      /* all else: Python must look at it */
} DispositionKind;

/* Outgoing dispositions, encoded. */
typedef struct {
    uint8_t *bytes;
    size_t size, room;
    size_t last;    /* where the last frame begins */
    uint32_t until; /* the last delivery-id in it */
} Answers;

static inline uint16_t
read_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t
read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void
write_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void
write_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static inline void
write_u64(uint8_t *at, uint64_t value)
{
    write_u32(at, (uint32_t)(value >> 32));
    write_u32(at + 4, (uint32_t)value);
}

/* A lock token. */
static inline void
write_token(uint8_t tag[TAG_BYTES], uint64_t seq, uint64_t serial)
{
    write_u64(tag, seq);
    write_u64(tag + 8, serial);
}

static inline uint16_t
frame_channel(const uint8_t *frame)
{
    return read_u16(frame + 6);
}

/* The code of a performative with a head as everybody writes it; 0 for any other frame. */
uint8_t frame_code(const uint8_t *frame, size_t size);

/* The tag that Proton is given for a message whose transfer is to be completed here. */
void frame_write_mark(uint8_t tag[TAG_BYTES], uint32_t line, uint32_t index);

/* Whether a transfer has such a tag; then it is read. */
bool frame_read_transfer(uint8_t *frame, size_t size, Transfer *transfer);

/* Whether a begin answers a peer's, whose channel is read then. */
bool frame_read_begin(const uint8_t *frame, size_t size, uint16_t *remote);

DispositionKind frame_read_disposition(const uint8_t *frame, size_t size, Disposition *told);

/* Settle a delivery with an encoded outcome; 0, or -1 with an exception set. */
int answers_add(Answers *answers, uint16_t channel, uint32_t id, const uint8_t *outcome,
                size_t size);
void answers_free(Answers *answers);

#endif
