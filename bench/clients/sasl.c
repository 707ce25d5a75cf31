#include "sasl.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define FRAME_MAX 8192u
#define SASL_HEADER "AMQP\x03\x01\x00\x00"

struct frame {
    size_t size;
    char bytes[FRAME_MAX];
};

static bool read_exactly(int fd, char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t got = recv(fd, bytes, size, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        bytes += got;
        size -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t put = send(fd, bytes, size, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        bytes += put;
        size -= (size_t)put;
    }
    return true;
}

static void put_u32(char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (char)(value >> (24 - 8 * i));
}

static bool read_frame(int fd, struct frame *frame)
{
    uint32_t size = 0;
    if (!read_exactly(fd, frame->bytes, 4))
        return false;
    for (int i = 0; i < 4; i++)
        size = size << 8 | (uint8_t)frame->bytes[i];
    if (size < 8 || size > FRAME_MAX)
        return false;
    frame->size = size;
    return read_exactly(fd, frame->bytes + 4, size - 4);
}

static bool append(struct frame *frame, const char *bytes, size_t size)
{
    if (frame->size + size > FRAME_MAX)
        return false;
    memcpy(frame->bytes + frame->size, bytes, size);
    frame->size += size;
    return true;
}

/* sasl-init: list32 [mechanism sym8, initial-response vbin32]. */
static bool build_init(struct frame *frame, const struct sasl_login *login)
{
    const char *mechanism = login->user != NULL ? "PLAIN" : "ANONYMOUS";
    char word[4], length = (char)strlen(mechanism);
    size_t user = login->user != NULL ? strlen(login->user) : 0;
    size_t password = login->user != NULL ? strlen(login->password) : 0;
    size_t response = login->user != NULL ? user + password + 2 : 0;
    frame->size = 0;
    bool fits = append(frame, "\0\0\0\0\x02\x01\0\0\0\x53\x41\xd0\0\0\0\0\0\0\0\x02\xa3", 21) &&
                append(frame, &length, 1) && append(frame, mechanism, strlen(mechanism));
    put_u32(word, (uint32_t)response);
    fits = fits && append(frame, "\xb0", 1) && append(frame, word, 4);
    if (login->user != NULL)
        fits = fits && append(frame, "", 1) && append(frame, login->user, user) &&
               append(frame, "", 1) && append(frame, login->password, password);
    put_u32(frame->bytes, (uint32_t)frame->size);
    put_u32(frame->bytes + 12, (uint32_t)frame->size - 16);
    return fits;
}

/* The code of a sasl-outcome frame, or -1 if the frame is something else. */
static int outcome_code(const struct frame *frame)
{
    size_t doff = (size_t)(uint8_t)frame->bytes[4] * 4;
    if (doff + 3 > frame->size || frame->bytes[doff] != 0 || frame->bytes[doff + 2] != 0x44)
        return -1;
    for (size_t at = doff + 3; at + 1 < frame->size && at < doff + 14; at++)
        if (frame->bytes[at] == 0x50) /* the first field, a ubyte */
            return (uint8_t)frame->bytes[at + 1];
    return -1;
}

const char *sasl_client(int fd, const struct sasl_login *login)
{
    char header[8];
    struct frame frame;
    if (!write_all(fd, SASL_HEADER, 8) || !read_exactly(fd, header, 8))
        return "connection lost before the SASL header";
    if (memcmp(header, SASL_HEADER, 8) != 0)
        return "the server does not speak SASL";
    if (!read_frame(fd, &frame))
        return "no SASL mechanisms offered";
    if (memmem(frame.bytes, frame.size, login->user ? "PLAIN" : "ANONYMOUS",
               login->user ? 5 : 9) == NULL)
        return "the server does not offer the SASL mechanism";
    if (!build_init(&frame, login))
        return "user name or token too long";
    if (!write_all(fd, frame.bytes, frame.size) || !read_frame(fd, &frame))
        return "connection lost during SASL";
    return outcome_code(&frame) == 0 ? NULL : "SASL authentication failed";
}

const char *sasl_server(int fd)
{
    static const char mechanisms[] = "\0\0\0\x1c\x02\x01\0\0\0\x53\x40\xc0\x0f\x01"
                                     "\xe0\x0c\x01\xa3\x09"
                                     "ANONYMOUS";
    static const char outcome[] = "\0\0\0\x10\x02\x01\0\0\0\x53\x44\xc0\x03\x01\x50";
    char header[8];
    struct frame frame;
    if (!read_exactly(fd, header, 8) || memcmp(header, SASL_HEADER, 8) != 0)
        return "the client does not speak SASL";
    if (!write_all(fd, SASL_HEADER, 8) || !write_all(fd, mechanisms, sizeof mechanisms - 1))
        return "connection lost during SASL";
    if (!read_frame(fd, &frame) || !write_all(fd, outcome, sizeof outcome))
        return "connection lost during SASL";
    return NULL;
}
