/* Reading wanted application-properties; what is unusual is left to hotpath.wire.properties. */
#include "native.h"

#include <string.h>

typedef struct {
    PyObject *name;   /* str */
    const char *text; /* its UTF-8, owned by `texts` */
    uint8_t size;
} Wanted;

typedef struct {
    PyObject_HEAD
    PyObject *texts; /* list of the bytes objects that `text` points into */
    PyObject *timestamp;
    Wanted *slots;
    size_t mask;
    Py_ssize_t wanted;
    uint32_t seed;
} Puller;

typedef struct {
    const uint8_t *bytes;
    size_t size;
} Message;

enum { UNUSUAL = -1, FAILED = -2 };

static uint32_t
hash_of(const Puller *self, const char *text, size_t size)
{
    uint32_t hash = self->seed;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    return hash ^ hash >> 15;
}

/* The slot of a text, which is empty (no name) when it is not wanted. */
static Wanted *
find(const Puller *self, const char *text, size_t size)
{
    size_t at = hash_of(self, text, size) & self->mask;
    while (self->slots[at].name &&
           (self->slots[at].size != size || memcmp(self->slots[at].text, text, size) != 0))
        at = (at + 1) & self->mask;
    return self->slots + at;
}

static int
add_wanted(Puller *self, PyObject *text, PyObject *name)
{
    if (!PyBytes_Check(text) || !PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "wanted names map bytes to str");
        return -1;
    }
    if (PyBytes_GET_SIZE(text) > 255)
        return 0; /* such keys are not encoded as usual */
    Wanted *slot = find(self, PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text));
    if (slot->name || PyList_Append(self->texts, text) < 0)
        return slot->name ? 0 : -1;
    slot->name = Py_NewRef(name);
    slot->text = PyBytes_AS_STRING(text);
    slot->size = (uint8_t)PyBytes_GET_SIZE(text);
    return 0;
}

static void
puller_dealloc(Puller *self)
{
    for (size_t i = 0; self->slots && i <= self->mask; i++)
        Py_XDECREF(self->slots[i].name);
    PyMem_Free(self->slots);
    Py_XDECREF(self->texts);
    Py_XDECREF(self->timestamp);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Puller(wanted, timestamp, seed): names by their UTF-8; what makes a value of milliseconds. */
static PyObject *
puller_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *wanted, *timestamp;
    unsigned int seed;
    if (!PyArg_ParseTuple(args, "O!OI", &PyDict_Type, &wanted, &timestamp, &seed))
        return NULL;
    Puller *self = (Puller *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->timestamp = Py_NewRef(timestamp);
    self->texts = PyList_New(0);
    self->wanted = PyDict_GET_SIZE(wanted);
    self->seed = seed;
    size_t capacity = 8;
    while (capacity < 2 * (size_t)self->wanted)
        capacity *= 2;
    self->slots = PyMem_Calloc(capacity, sizeof(Wanted));
    self->mask = capacity - 1;
    Py_ssize_t pos = 0;
    PyObject *text, *name;
    bool failed = !self->texts || !self->slots;
    while (!failed && PyDict_Next(wanted, &pos, &text, &name))
        failed = add_wanted(self, text, name) < 0;
    if (!failed)
        return (PyObject *)self;
    if (!PyErr_Occurred())
        PyErr_NoMemory();
    Py_DECREF(self);
    return NULL;
}

static uint64_t
read_big(const uint8_t *at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

static PyObject *
read_double(const uint8_t *at)
{
    uint64_t bits = read_big(at, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return PyFloat_FromDouble(value);
}

static PyObject *
read_float(const uint8_t *at)
{
    uint32_t bits = (uint32_t)read_big(at, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return PyFloat_FromDouble(value);
}

/* Text, or NULL without an exception when it is no text of that encoding. */
static PyObject *
read_text(const uint8_t *at, size_t size, bool ascii)
{
    const char *chars = (const char *)at;
    PyObject *text = ascii ? PyUnicode_DecodeASCII(chars, (Py_ssize_t)size, NULL)
                           : PyUnicode_DecodeUTF8(chars, (Py_ssize_t)size, NULL);
    if (!text && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        PyErr_Clear();
    return text;
}

/* The value whose constructor is at pos; it lies within the bytes, wire_skip has said so.
 * NULL without an exception: it is to be read with care. */
static PyObject *
read_value(const Puller *self, const uint8_t *at)
{
    switch (at[0]) {
    case 0x40: return Py_NewRef(Py_None);
    case 0x41: return Py_NewRef(Py_True);
    case 0x42: return Py_NewRef(Py_False);
    case 0x43: case 0x44: return PyLong_FromLong(0);
    case 0x50: case 0x52: case 0x53: return PyLong_FromLong(at[1]);
    case 0x51: case 0x54: case 0x55: return PyLong_FromLong((int8_t)at[1]);
    case 0x56: return at[1] > 1 ? NULL : PyBool_FromLong(at[1]);
    case 0x60: return PyLong_FromLong((long)read_big(at + 1, 2));
    case 0x61: return PyLong_FromLong((int16_t)read_big(at + 1, 2));
    case 0x70: return PyLong_FromUnsignedLongLong(read_big(at + 1, 4));
    case 0x71: return PyLong_FromLong((int32_t)read_big(at + 1, 4));
    case 0x72: return read_float(at + 1);
    case 0x80: return PyLong_FromUnsignedLongLong(read_big(at + 1, 8));
    case 0x81: return PyLong_FromLongLong((int64_t)read_big(at + 1, 8));
    case 0x82: return read_double(at + 1);
    case 0x83:
        return PyObject_CallFunction(self->timestamp, "L", (long long)read_big(at + 1, 8));
    case 0xA1: return read_text(at + 2, at[1], false);
    case 0xA3: return read_text(at + 2, at[1], true);
    default: return NULL;
    }
}

/* Whether a constructor is one that the quick way walks over. */
static bool
is_short(uint8_t code)
{
    return code < 0xB0 || (code >= 0xC0 && code < 0xD0) || (code >= 0xE0 && code < 0xF0);
}

/* Where the entries of application-properties are, and their end, which is the body's offset too.
 * False: not encoded as usual. */
static bool
locate(Message message, size_t *first, size_t *end)
{
    const uint8_t *bytes = message.bytes;
    size_t at = 0;
    for (;;) {
        if (message.size < 5 || at > message.size - 5 || bytes[at] != 0 || bytes[at + 1] != 0x53)
            return false;
        uint8_t section = bytes[at + 2], code = bytes[at + 3];
        if (section == 0x75 || section == 0x77) {
            *first = *end = at;
            return true;
        }
        if (section < 0x70 || section > 0x74)
            return false;
        size_t behind = wire_skip(bytes, message.size, at + 3);
        bool is_map = section == 0x74 || section == 0x72;
        if (!behind)
            return false;
        if (section == 0x74) {
            *first = at + (code == 0xC1 ? 6 : 12);
            *end = behind;
            return (code == 0xC1 || code == 0xD1) && *first <= behind;
        }
        if (code != 0xC0 + is_map && code != 0xD0 + is_map && (is_map || code != 0x45))
            return false;
        at = behind;
    }
}

/* Read one wanted entry; 0, UNUSUAL or FAILED. */
static int
keep_entry(const Puller *self, PyObject *found, PyObject *name, const uint8_t *value)
{
    PyObject *read = read_value(self, value);
    if (!read)
        return PyErr_Occurred() ? FAILED : UNUSUAL;
    int failed = PyDict_SetItem(found, name, read);
    Py_DECREF(read);
    return failed ? FAILED : 0;
}

/* Read the wanted entries between two offsets; 0, UNUSUAL or FAILED. */
static int
scan(const Puller *self, Message message, size_t pos, size_t end, PyObject *found)
{
    const uint8_t *bytes = message.bytes;
    while (pos < end) {
        size_t value = wire_skip(bytes, end, pos);
        size_t after = value ? wire_skip(bytes, end, value) : 0;
        if (!after || !is_short(bytes[pos]) || !is_short(bytes[value]))
            return UNUSUAL;
        if (bytes[pos] == 0xA1 || bytes[pos] == 0xA3) {
            const Wanted *slot = find(self, (const char *)bytes + pos + 2, bytes[pos + 1]);
            int result = slot->name ? keep_entry(self, found, slot->name, bytes + value) : 0;
            if (result)
                return result;
        }
        pos = after;
    }
    return 0;
}

/* What one message has of the wanted names; a new dict, or NULL with an exception set. */
static PyObject *
pull_one(const Puller *self, PyObject *stored, PyObject *careful, PyObject *body)
{
    if (!PyBytes_Check(stored))
        return PyErr_Format(PyExc_TypeError, "payloads must be bytes");
    Message message = {(const uint8_t *)PyBytes_AS_STRING(stored),
                       (size_t)PyBytes_GET_SIZE(stored)};
    size_t first, end;
    PyObject *found = PyDict_New();
    if (!found)
        return NULL;
    int result = UNUSUAL;
    if (locate(message, &first, &end))
        result = scan(self, message, first, end, found);
    if (result == UNUSUAL) {
        Py_DECREF(found);
        return PyObject_CallOneArg(careful, stored);
    }
    if (result == 0 && PyDict_GET_SIZE(found) < self->wanted) {
        PyObject *none = PyObject_CallFunction(body, "OnO", stored, (Py_ssize_t)end, found);
        if (!none)
            result = FAILED;
        Py_XDECREF(none);
    }
    if (result == FAILED)
        Py_CLEAR(found);
    return found;
}

/* pull_all(payloads, careful, body): one dict a message. `careful(stored)` gives that of a message
 * that is not encoded as usual; `body(stored, at, found)` adds what the body at `at` has. */
static PyObject *
puller_pull_all(Puller *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3)
        return PyErr_Format(PyExc_TypeError, "pull_all(payloads, careful, body)");
    PyObject *fast = PySequence_Tuple(args[0]); /* what is called may change a list */
    if (!fast)
        return NULL;
    PyObject *all = PyList_New(PyTuple_GET_SIZE(fast));
    for (Py_ssize_t i = 0; all && i < PyTuple_GET_SIZE(fast); i++) {
        PyObject *found = pull_one(self, PyTuple_GET_ITEM(fast, i), args[1], args[2]);
        if (!found)
            Py_CLEAR(all);
        else
            PyList_SET_ITEM(all, i, found);
    }
    Py_DECREF(fast);
    return all;
}

static PyMethodDef puller_methods[] = {
    {"pull_all", (PyCFunction)(void (*)(void))puller_pull_all, METH_FASTCALL,
     "From messages to their wanted properties."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject PullerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hotpath.native._native.Puller",
    .tp_basicsize = sizeof(Puller),
    .tp_dealloc = (destructor)puller_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Reads a fixed set of names out of messages.",
    .tp_methods = puller_methods,
    .tp_new = puller_new,
};
