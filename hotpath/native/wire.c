/* AMQP 1.0 encoding as bytes: what is usual is decided here, everything else by hotpath.wire.
 *
 * Nothing here reports an error about a message: input that is damaged or merely unusual makes a
 * function say "not usual", and the Python code then looks at it with all its care. So what these
 * functions accept must be a subset of what that code accepts, with the same result.
 */
#include "native.h"

#include <string.h>

enum { SIZED_8 = 0xFD, SIZED_32 = 0xFE, UNKNOWN = 0xFF };

/* By constructor: the bytes of a fixed width, or one of the above (types-v1.0 section 1.2). */
static uint8_t
width_of(uint8_t code)
{
    switch (code) {
    case 0x40: case 0x41: case 0x42: case 0x43: case 0x44: case 0x45:
        return 0;
    case 0x50: case 0x51: case 0x52: case 0x53: case 0x54: case 0x55: case 0x56:
        return 1;
    case 0x60: case 0x61:
        return 2;
    case 0x70: case 0x71: case 0x72: case 0x73: case 0x74:
        return 4;
    case 0x80: case 0x81: case 0x82: case 0x83: case 0x84:
        return 8;
    case 0x94: case 0x98:
        return 16;
    case 0xA0: case 0xA1: case 0xA3: case 0xC0: case 0xC1: case 0xE0:
        return SIZED_8;
    case 0xB0: case 0xB1: case 0xB3: case 0xD0: case 0xD1: case 0xF0:
        return SIZED_32;
    default:
        return UNKNOWN;
    }
}

static uint32_t
read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

size_t
wire_skip(const uint8_t *bytes, size_t size, size_t pos)
{
    if (pos >= size)
        return 0;
    size_t left = size - pos - 1; /* behind the constructor */
    uint8_t width = width_of(bytes[pos]);
    if (width == UNKNOWN)
        return 0;
    if (width == SIZED_8) {
        if (left < 1 || left - 1 < bytes[pos + 1])
            return 0;
        return pos + 2 + bytes[pos + 1];
    }
    if (width == SIZED_32) {
        if (left < 4 || left - 4 < read_u32(bytes + pos + 1))
            return 0;
        return pos + 5 + read_u32(bytes + pos + 1);
    }
    return width <= left ? pos + 1 + width : 0;
}

/* Behind the list or map at pos if it is filled by what it counts, else 0. */
static size_t
check_compound(const uint8_t *bytes, size_t size, size_t pos, bool is_map)
{
    size_t end = wire_skip(bytes, size, pos);
    if (!end)
        return 0;
    uint8_t code = bytes[pos];
    if (code == 0x45)
        return is_map ? 0 : end;
    size_t at;
    uint32_t count;
    if (code == 0xC0 + is_map && end >= pos + 3) {
        count = bytes[pos + 2];
        at = pos + 3;
    } else if (code == 0xD0 + is_map && end >= pos + 9) {
        count = read_u32(bytes + pos + 5);
        at = pos + 9;
    } else {
        return 0;
    }
    if (is_map ? (count & 1) || count > 8192 : count > 13)
        return 0;
    for (; count; count--) {
        at = wire_skip(bytes, end, at);
        if (!at)
            return 0;
    }
    return at == end ? end : 0;
}

/* Behind a boolean or null at pos, else 0. */
static size_t
pass_boolean(const uint8_t *bytes, size_t end, size_t pos)
{
    if (pos >= end)
        return 0;
    if (bytes[pos] >= 0x40 && bytes[pos] <= 0x42)
        return pos + 1;
    return bytes[pos] == 0x56 && end - pos > 1 && bytes[pos + 1] <= 1 ? pos + 2 : 0;
}

/* Behind a null or uint at pos, else 0; with `zero` it must be 0. */
static size_t
pass_uint(const uint8_t *bytes, size_t end, size_t pos, bool zero)
{
    if (pos >= end)
        return 0;
    if (bytes[pos] == 0x40 || bytes[pos] == 0x43)
        return pos + 1;
    if (bytes[pos] == 0x52 && end - pos > 1)
        return zero && bytes[pos + 1] ? 0 : pos + 2;
    if (bytes[pos] == 0x70 && end - pos > 4)
        return zero && read_u32(bytes + pos + 1) ? 0 : pos + 5;
    return 0;
}

/* Behind a header section at the beginning if nothing of it is stored, else 0.
 * Stored are a ttl other than 0 and a priority other than 4. */
static size_t
pass_header(const uint8_t *bytes, size_t size)
{
    if (bytes[3] == 0x45)
        return 4;
    size_t end = wire_skip(bytes, size, 3);
    if (bytes[3] != 0xC0 || end < 6 || bytes[5] > 5)
        return 0;
    size_t at = 6;
    for (unsigned field = 0; field < bytes[5]; field++) {
        if (field == 0 || field == 3)
            at = pass_boolean(bytes, end, at);
        else if (field != 1)
            at = pass_uint(bytes, end, at, field == 2);
        else if (at < end && bytes[at] == 0x40)
            at += 1;
        else if (end - at > 1 && bytes[at] == 0x50 && bytes[at + 1] == 4)
            at += 2;
        else
            return 0;
        if (!at || at > end)
            return 0;
    }
    return at == end ? end : 0;
}

static bool
is_blank(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Whether text may be a JSON array, which is split into messages. */
static bool
may_be_array(const uint8_t *bytes, size_t start, size_t end)
{
    if (end - start > 64)
        end = start + 64;
    if (end - start >= 3 && memcmp(bytes + start, "\xef\xbb\xbf", 3) == 0)
        start += 3;
    while (start < end && is_blank(bytes[start]))
        start++;
    return start == end || bytes[start] == '[';
}

/* Whether the section at pos is a body that ends the message, and none to be split. */
static bool
is_usual_body(const uint8_t *bytes, size_t size, size_t pos)
{
    uint8_t section = bytes[pos + 2];
    if ((section != 0x75 && section != 0x77) || wire_skip(bytes, size, pos + 3) != size)
        return false;
    switch (bytes[pos + 3]) {
    case 0xA0:
        return !may_be_array(bytes, pos + 5, size);
    case 0xB0:
        return !may_be_array(bytes, pos + 8, size);
    case 0xA1:
        return section == 0x77 && !may_be_array(bytes, pos + 5, size);
    case 0xB1:
        return section == 0x77 && !may_be_array(bytes, pos + 8, size);
    default:
        return section == 0x77;
    }
}

/* Whether a section with this short descriptor, and a value, begins at pos. */
static bool
begins(const uint8_t *bytes, size_t size, size_t pos, uint8_t section)
{
    return pos < size && size - pos > 3 && bytes[pos] == 0 && bytes[pos + 1] == 0x53 &&
           bytes[pos + 2] == section;
}

bool
wire_is_usual(const uint8_t *bytes, size_t size, size_t *bare)
{
    size_t pos = 0;
    if (begins(bytes, size, pos, 0x70) && !(pos = pass_header(bytes, size)))
        return false;
    *bare = pos;
    if (begins(bytes, size, pos, 0x73) && !(pos = check_compound(bytes, size, pos + 3, false)))
        return false;
    if (begins(bytes, size, pos, 0x74)) {
        pos = check_compound(bytes, size, pos + 3, true);
        if (!pos || pos == size)
            return pos != 0;
    }
    if (pos >= size || size - pos < 4 || bytes[pos] != 0 || bytes[pos + 1] != 0x53)
        return false;
    return is_usual_body(bytes, size, pos);
}

bool
wire_is_plain(const uint8_t *bytes, size_t size)
{
    return size < 3 || bytes[0] != 0 || bytes[1] != 0x53 ||
           (bytes[2] != 0x70 && bytes[2] != 0x72);
}

PyObject *
wire_intake(PyObject *Py_UNUSED(module), PyObject *raw)
{
    if (!PyBytes_Check(raw))
        Py_RETURN_NONE;
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(raw);
    size_t size = (size_t)PyBytes_GET_SIZE(raw), bare;
    if (!wire_is_usual(bytes, size, &bare))
        Py_RETURN_NONE;
    if (!bare)
        return Py_NewRef(raw);
    return PyBytes_FromStringAndSize((const char *)bytes + bare, (Py_ssize_t)(size - bare));
}

/* Whether a message may have an end, at the price of a comparison; see hotpath.wire.stored. */
static bool
may_expire(const uint8_t *bytes, size_t size)
{
    if (size < 3 || bytes[0] != 0 || bytes[1] != 0x53)
        return true;
    if (bytes[2] == 0x73 && size > 5)
        return bytes[3] != 0x45 && (bytes[3] != 0xC0 || bytes[5] > 8);
    return bytes[2] < 0x74 || bytes[2] > 0x77;
}

/* True or False: whether a test says the same of all payloads; NULL when they are not bytes. */
static PyObject *
all_are(PyObject *payloads, bool (*test)(const uint8_t *, size_t), bool wanted)
{
    PyObject *fast = PySequence_Fast(payloads, "payloads must be a sequence");
    if (!fast)
        return NULL;
    bool all = true;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(fast);
    for (Py_ssize_t i = 0; all && i < count; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(fast, i);
        if (!PyBytes_Check(item)) {
            Py_DECREF(fast);
            return PyErr_Format(PyExc_TypeError, "payloads must be bytes");
        }
        all = test((const uint8_t *)PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item)) ==
              wanted;
    }
    Py_DECREF(fast);
    return PyBool_FromLong(all);
}

PyObject *
wire_all_plain(PyObject *Py_UNUSED(module), PyObject *payloads)
{
    return all_are(payloads, wire_is_plain, true);
}

PyObject *
wire_any_may_expire(PyObject *Py_UNUSED(module), PyObject *payloads)
{
    PyObject *none = all_are(payloads, may_expire, false);
    if (!none)
        return NULL;
    bool any = none == Py_False;
    Py_DECREF(none);
    return PyBool_FromLong(any);
}
