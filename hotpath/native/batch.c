/* Loops over batches: the log's rows; and what a message is held under. */
#include "native.h"

#include <string.h>

static void
write_u32_le(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t
read_u32_le(const uint8_t *at)
{
    return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

/* The bytes of all payloads, or -1 with an exception set. */
static Py_ssize_t
total_size(PyObject *fast)
{
    Py_ssize_t total = 0, count = PySequence_Fast_GET_SIZE(fast);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(fast, i);
        if (!PyBytes_Check(item)) {
            PyErr_SetString(PyExc_TypeError, "payloads must be bytes");
            return -1;
        }
        total += PyBytes_GET_SIZE(item);
        if (total > (Py_ssize_t)UINT32_MAX) {
            PyErr_SetString(PyExc_ValueError, "a batch is larger than 4 GiB");
            return -1;
        }
    }
    return total;
}

/* frame(payloads): the end offset of each (u32, little endian), then all of them. */
PyObject *
batch_frame(PyObject *Py_UNUSED(module), PyObject *payloads)
{
    PyObject *fast = PySequence_Fast(payloads, "payloads must be a sequence");
    if (!fast)
        return NULL;
    Py_ssize_t total = total_size(fast), count = PySequence_Fast_GET_SIZE(fast);
    PyObject *body = total < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 4 * count + total);
    if (body) {
        uint8_t *ends = (uint8_t *)PyBytes_AS_STRING(body), *at = ends + 4 * count;
        uint32_t end = 0;
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *item = PySequence_Fast_GET_ITEM(fast, i);
            size_t size = (size_t)PyBytes_GET_SIZE(item);
            memcpy(at, PyBytes_AS_STRING(item), size);
            at += size;
            end += (uint32_t)size;
            write_u32_le(ends + 4 * i, end);
        }
    }
    Py_DECREF(fast);
    return body;
}

/* cut(body, count): the payloads of a framed batch, or None when its index does not fit it. */
PyObject *
batch_cut(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyBytes_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "cut(body, count)");
    Py_ssize_t count = PyLong_AsSsize_t(args[1]), size = PyBytes_GET_SIZE(args[0]);
    if (count == -1 && PyErr_Occurred())
        return NULL;
    if (count < 1 || count > size / 4)
        Py_RETURN_NONE;
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(args[0]);
    const uint8_t *content = bytes + 4 * count;
    size_t room = (size_t)(size - 4 * count), start = 0;
    PyObject *payloads = PyList_New(count);
    for (Py_ssize_t i = 0; payloads && i < count; i++) {
        size_t end = read_u32_le(bytes + 4 * i);
        if (end < start || end > room || (i == count - 1 && end != room)) {
            Py_DECREF(payloads);
            Py_RETURN_NONE;
        }
        PyObject *item =
            PyBytes_FromStringAndSize((const char *)content + start, (Py_ssize_t)(end - start));
        if (!item)
            Py_CLEAR(payloads);
        else
            PyList_SET_ITEM(payloads, i, item);
        start = end;
    }
    return payloads;
}

int
holding_is_locked(PyObject *holding, uint64_t serial, PyObject *locked)
{
    static PyObject *serial_name, *state_name;
    if (!serial_name && !(serial_name = PyUnicode_InternFromString("serial")))
        return -1;
    if (!state_name && !(state_name = PyUnicode_InternFromString("state")))
        return -1;
    PyObject *state = PyObject_GetAttr(holding, state_name);
    if (!state)
        return -1;
    Py_DECREF(state);
    if (state != locked)
        return 0;
    PyObject *own = PyObject_GetAttr(holding, serial_name);
    if (!own)
        return -1;
    uint64_t number = PyLong_AsUnsignedLongLong(own);
    Py_DECREF(own);
    if (number == UINT64_MAX && PyErr_Occurred())
        return -1;
    return number == serial;
}
