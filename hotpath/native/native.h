/* The parts of hotpath.native._native, and what they share. See docs/adr on the native helper. */
#ifndef HOTPATH_NATIVE_H
#define HOTPATH_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a delivery that are read at once; larger ones take the careful way. */
#define READ_BYTES 131072

/* wire.c */

/* Whether a message is stored as the bytes from *bare on, without any change or further look. */
bool wire_is_usual(const uint8_t *bytes, size_t size, size_t *bare);

/* Whether a stored message starts with its bare message. */
bool wire_is_plain(const uint8_t *bytes, size_t size);

/* Behind the value at pos, or 0 when it is cut off, described or of an unknown constructor. */
size_t wire_skip(const uint8_t *bytes, size_t size, size_t pos);

PyObject *wire_intake(PyObject *module, PyObject *raw);
PyObject *wire_all_plain(PyObject *module, PyObject *payloads);
PyObject *wire_any_may_expire(PyObject *module, PyObject *payloads);

/* batch.c */

PyObject *batch_frame(PyObject *module, PyObject *payloads);
PyObject *batch_cut(PyObject *module, PyObject *const *args, Py_ssize_t count);
/* 1 when a holding is a lock with this serial, 0 when not, -1 with an exception set. */
int holding_is_locked(PyObject *holding, uint64_t serial, PyObject *locked);

/* offering.c, pumping.c, completing.c, progress.c */

PyObject *route_all(PyObject *module, PyObject *args);
PyObject *offer_all(PyObject *module, PyObject *args);
PyObject *pump_all(PyObject *module, PyObject *args);
PyObject *complete_all(PyObject *module, PyObject *args);
PyObject *confirm_all(PyObject *module, PyObject *waiting);
PyObject *collect_all(PyObject *module, PyObject *args);
PyObject *encode_all(PyObject *module, PyObject *args);
PyObject *note_first(PyObject *module, PyObject *args);

/* puller.c, handles.c, inlet.c, outlet.c, ends.c */

extern PyTypeObject PullerType;
extern PyTypeObject HandlesType;
extern PyTypeObject InletType;
extern PyTypeObject OutletType;
extern PyTypeObject EndsType;
extern PyTypeObject WakerType;

/* An address that Python holds as an integer; NULL with an exception set when it is none. */
static inline void *
address_of(PyObject *number)
{
    return PyLong_AsVoidPtr(number);
}

#endif
