/* The frames that tell of outgoing deliveries: read and written byte by byte. */
#include "frames.h"

#include <string.h>

#define NULL_VALUE 0x40
#define TRUE_VALUE 0x41
#define FALSE_VALUE 0x42
#define EMPTY_LIST 0x45
#define ACCEPTED 0x24

/* The first half of a mark: a sequence number that no message has. */
#define MARK UINT64_MAX

/* From the fields of a performative up to its end. */
typedef struct {
    const uint8_t *at, *end;
    uint32_t left; /* fields */
} Fields;

uint8_t
frame_code(const uint8_t *frame, size_t size)
{
    bool usual = size > FRAME_HEAD_BYTES + 3 && frame[4] == 2 && frame[5] == 0 &&
                 frame[8] == 0 && frame[9] == 0x53;
    return usual ? frame[10] : 0;
}

/* The fields of a frame whose code has been read; none if they are no list of this frame. */
static Fields
fields_of(const uint8_t *frame, size_t size)
{
    const uint8_t *list = frame + FRAME_HEAD_BYTES + 3, *end = frame + size;
    Fields fields = {NULL, NULL, 0};
    if (list[0] == 0xC0 && end - list >= 3 && list[1] >= 1 && list[1] <= end - list - 2) {
        fields = (Fields){list + 3, list + 2 + list[1], list[2]};
    } else if (list[0] == 0xD0 && end - list >= 9) {
        uint32_t bytes = read_u32(list + 1);
        if (bytes >= 4 && bytes <= (size_t)(end - list - 5))
            fields = (Fields){list + 9, list + 5 + bytes, read_u32(list + 5)};
    }
    return fields;
}

/* Whether so many bytes of the next field are there; they are passed. */
static bool
has(Fields *fields, size_t bytes)
{
    if (!fields->left || (size_t)(fields->end - fields->at) < bytes)
        return false;
    fields->left--;
    fields->at += bytes;
    return true;
}

static bool
take_uint(Fields *fields, uint32_t *value)
{
    const uint8_t *at = fields->at;
    if (!fields->left || at >= fields->end)
        return false;
    if (at[0] == 0x43 && has(fields, 1))
        *value = 0;
    else if (at[0] == 0x52 && has(fields, 2))
        *value = at[1];
    else if (at[0] == 0x70 && has(fields, 5))
        *value = read_u32(at + 1);
    else
        return false;
    return true;
}

/* A boolean; what is null or left off is as it was before. */
static bool
take_bool(Fields *fields, bool *value)
{
    const uint8_t *at = fields->at;
    if (!fields->left)
        return true;
    if (!has(fields, 1))
        return false;
    if (at[0] == TRUE_VALUE || at[0] == FALSE_VALUE) {
        *value = at[0] == TRUE_VALUE;
        return true;
    }
    if (at[0] == 0x56 && fields->end - at >= 2 && at[1] <= 1) {
        *value = at[1];
        fields->at++;
        return true;
    }
    return at[0] == NULL_VALUE;
}

/* Transfers */

void
frame_write_mark(uint8_t tag[TAG_BYTES], uint32_t line, uint32_t index)
{
    write_u64(tag, MARK);
    write_u32(tag + 8, line);
    write_u32(tag + 12, index);
}

bool
frame_read_transfer(uint8_t *frame, size_t size, Transfer *transfer)
{
    static const uint8_t mark[10] = {0xA0, TAG_BYTES, 255, 255, 255, 255, 255, 255, 255, 255};
    Fields fields = fields_of(frame, size);
    uint32_t handle, format;
    bool more = false;
    if (!take_uint(&fields, &handle) || !take_uint(&fields, &transfer->id))
        return false;
    const uint8_t *tag = fields.at;
    if (!has(&fields, 2 + TAG_BYTES) || memcmp(tag, mark, sizeof mark) ||
        !take_uint(&fields, &format))
        return false;
    const uint8_t *settled = fields.at;
    if (!has(&fields, 1) || settled[0] != TRUE_VALUE || !take_bool(&fields, &more))
        return false;
    transfer->tag = frame + (tag + 2 - frame);
    transfer->settled = frame + (settled - frame);
    transfer->line = read_u32(tag + 10);
    transfer->index = read_u32(tag + 14);
    transfer->is_last = !more;
    return transfer->line != 0;
}

bool
frame_read_begin(const uint8_t *frame, size_t size, uint16_t *remote)
{
    Fields fields = fields_of(frame, size);
    const uint8_t *at = fields.at;
    if (!has(&fields, 3) || at[0] != 0x60)
        return false;
    *remote = read_u16(at + 1);
    return true;
}

/* Dispositions */

/* Whether the next field is the outcome `accepted`, as everybody writes it. */
static bool
take_accepted(Fields *fields)
{
    static const uint8_t forms[3][9] = {
        {EMPTY_LIST}, {0xC0, 1, 0}, {0xD0, 0, 0, 0, 4, 0, 0, 0, 0}};
    static const size_t sizes[3] = {1, 3, 9};
    const uint8_t *at = fields->at;
    if (!has(fields, 3) || at[0] != 0 || at[1] != 0x53 || at[2] != ACCEPTED)
        return false;
    for (int i = 0; i < 3; i++)
        if ((size_t)(fields->end - at) >= 3 + sizes[i] && !memcmp(at + 3, forms[i], sizes[i])) {
            fields->at += sizes[i];
            return true;
        }
    return false;
}

DispositionKind
frame_read_disposition(const uint8_t *frame, size_t size, Disposition *told)
{
    Fields fields = fields_of(frame, size);
    bool is_receiver = false, is_batchable = false;
    told->is_settled = false;
    if (fields.left < 2 || fields.at >= fields.end || fields.at[0] == NULL_VALUE ||
        !take_bool(&fields, &is_receiver) || !take_uint(&fields, &told->first))
        return DISPOSITION_ODD;
    told->last = told->first;
    if (fields.left && fields.at < fields.end && fields.at[0] == NULL_VALUE)
        has(&fields, 1);
    else if (fields.left && !take_uint(&fields, &told->last))
        return DISPOSITION_ODD;
    if (!take_bool(&fields, &told->is_settled))
        return DISPOSITION_ODD;
    if (!take_accepted(&fields) || !take_bool(&fields, &is_batchable) || fields.left ||
        fields.at != fields.end)
        return DISPOSITION_ODD;
    return is_receiver ? DISPOSITION_ACCEPTED : DISPOSITION_OTHER;
}

/* Answers: disposition(role=sender, first, last, settled=true, state, batchable=null) */

/* Where values stand in it. */
#define LENGTH_AT 12
#define FIRST_AT 22
#define LAST_AT 27
#define STATE_AT 32
#define ANSWER_MIN (STATE_AT + 1)
#define STATE_MAX (512 - ANSWER_MIN) /* every peer takes frames of 512 bytes */

static int
reserve(Answers *answers, size_t more)
{
    size_t room = answers->room ? answers->room : 512;
    while (room - answers->size < more)
        room *= 2;
    if (room == answers->room)
        return 0;
    uint8_t *bytes = PyMem_Realloc(answers->bytes, room);
    if (!bytes) {
        PyErr_NoMemory();
        return -1;
    }
    answers->bytes = bytes;
    answers->room = room;
    return 0;
}

/* Let the last frame tell of one delivery more, if that is the next one with the same outcome. */
static bool
extend(Answers *answers, uint16_t channel, uint32_t id, const uint8_t *outcome, size_t size)
{
    if (!answers->size || id != answers->until + 1)
        return false;
    uint8_t *frame = answers->bytes + answers->last;
    if (answers->size - answers->last != ANSWER_MIN + size || frame_channel(frame) != channel ||
        memcmp(frame + STATE_AT, outcome, size))
        return false;
    write_u32(frame + LAST_AT, id);
    answers->until = id;
    return true;
}

int
answers_add(Answers *answers, uint16_t channel, uint32_t id, const uint8_t *outcome, size_t size)
{
    static const uint8_t head[LAST_AT] = {
        0, 0, 0, 0, 2, 0, 0, 0, 0, 0x53, FRAME_DISPOSITION, 0xD0, 0, 0, 0, 0,
        0, 0, 0, 6, FALSE_VALUE, 0x70, 0, 0, 0, 0, 0x70};
    if (extend(answers, channel, id, outcome, size))
        return 0;
    if (size > STATE_MAX) {
        PyErr_SetString(PyExc_ValueError, "the outcome is too long for a frame of 512 bytes");
        return -1;
    }
    if (reserve(answers, ANSWER_MIN + size) < 0)
        return -1;
    uint8_t *frame = answers->bytes + answers->size;
    memcpy(frame, head, sizeof head);
    write_u32(frame, (uint32_t)(ANSWER_MIN + size));
    write_u16(frame + 6, channel);
    write_u32(frame + LENGTH_AT, (uint32_t)(ANSWER_MIN + size - LENGTH_AT - 4));
    write_u32(frame + FIRST_AT, id);
    write_u32(frame + LAST_AT, id);
    frame[STATE_AT - 1] = TRUE_VALUE;
    memcpy(frame + STATE_AT, outcome, size);
    frame[STATE_AT + size] = NULL_VALUE;
    answers->last = answers->size;
    answers->until = id;
    answers->size += ANSWER_MIN + size;
    return 0;
}

void
answers_free(Answers *answers)
{
    PyMem_Free(answers->bytes);
    memset(answers, 0, sizeof *answers);
}
