/* hotpath.native._native: the loops of the hot path in C. See docs/adr on the native helper. */
#include "proton.h"

#include <string.h>

typedef struct {
    const char *name;
    size_t offset;
} Field;

#define FUNCTION(name) {"pn_" #name, offsetof(Proton, name)}

static const Field functions[] = {
    FUNCTION(collector_peek), FUNCTION(collector_pop), FUNCTION(event_type),
    FUNCTION(event_link), FUNCTION(event_delivery), FUNCTION(link_current),
    FUNCTION(link_advance), FUNCTION(link_recv), FUNCTION(link_send),
    FUNCTION(link_credit), FUNCTION(link_get_drain), FUNCTION(link_session),
    FUNCTION(session_outgoing_bytes), FUNCTION(delivery),
    FUNCTION(delivery_pending), FUNCTION(delivery_partial), FUNCTION(delivery_aborted),
    FUNCTION(delivery_settle), FUNCTION(delivery_settled), FUNCTION(delivery_update),
    FUNCTION(delivery_remote_state), FUNCTION(transport_pending), FUNCTION(transport_peek),
    FUNCTION(transport_pop),
};

/* Set one number of `into` from the table; -1 with an exception set. */
static int
read_number(PyObject *table, const char *name, unsigned long long *into)
{
    PyObject *number = PyDict_GetItemString(table, name);
    if (!number) {
        PyErr_Format(PyExc_ValueError, "%s is missing", name);
        return -1;
    }
    *into = PyLong_AsUnsignedLongLong(number);
    return *into == (unsigned long long)-1 && PyErr_Occurred() ? -1 : 0;
}

/* bind(table): from the names of Proton's functions to their addresses, and the values of
 * PN_DELIVERY, PN_LINK_FLOW and PN_ACCEPTED. Comes before all else that has to do with Proton. */
static PyObject *
bind_proton(PyObject *Py_UNUSED(module), PyObject *table)
{
    Proton bound = {0};
    unsigned long long number;
    if (!PyDict_Check(table))
        return PyErr_Format(PyExc_TypeError, "a dict expected");
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (read_number(table, functions[i].name, &number) < 0)
            return NULL;
        uintptr_t address = (uintptr_t)number;
        if (!address)
            return PyErr_Format(PyExc_ValueError, "%s is null", functions[i].name);
        memcpy((char *)&bound + functions[i].offset, &address, sizeof address);
    }
    if (read_number(table, "PN_DELIVERY", &number) < 0)
        return NULL;
    bound.delivery_event = (int)number;
    if (read_number(table, "PN_LINK_FLOW", &number) < 0)
        return NULL;
    bound.flow_event = (int)number;
    if (read_number(table, "PN_ACCEPTED", &number) < 0)
        return NULL;
    bound.accepted = number;
    proton = bound;
    Py_RETURN_NONE;
}

/* The next bytes that a transport has to send; NULL: none are left, or an exception is set. */
static PyObject *
next_chunk(void *transport, bool *closed)
{
    ssize_t pending = proton.transport_pending(transport);
    *closed = pending < 0;
    if (pending <= 0)
        return NULL;
    PyObject *chunk = PyBytes_FromStringAndSize(NULL, pending);
    if (!chunk)
        return NULL;
    ssize_t size = proton.transport_peek(transport, PyBytes_AS_STRING(chunk), (size_t)pending);
    if (size != pending) {
        Py_DECREF(chunk);
        return PyErr_Format(PyExc_RuntimeError, "Proton gave another size than it said");
    }
    proton.transport_pop(transport, (size_t)size);
    return chunk;
}

/* output(transport): (all that there is to send, whether nothing will follow any more). */
static PyObject *
output(PyObject *Py_UNUSED(module), PyObject *address)
{
    void *transport = address_of(address);
    if (!transport && PyErr_Occurred())
        return NULL;
    bool closed = false;
    PyObject *all = NULL, *chunk;
    while ((chunk = next_chunk(transport, &closed))) {
        if (all)
            PyBytes_ConcatAndDel(&all, chunk);
        else
            all = chunk;
        if (!all)
            return NULL;
    }
    if (PyErr_Occurred()) {
        Py_XDECREF(all);
        return NULL;
    }
    if (!all && !(all = PyBytes_FromStringAndSize(NULL, 0)))
        return NULL;
    return Py_BuildValue("NO", all, closed ? Py_True : Py_False);
}

static PyMethodDef methods[] = {
    {"bind", bind_proton, METH_O, "Take over Proton's functions by their addresses."},
    {"output", output, METH_O, "All that a transport has to send."},
    {"intake", wire_intake, METH_O, "The stored form of a usual message; None for others."},
    {"all_plain", wire_all_plain, METH_O, "Whether every message starts with its bare message."},
    {"any_may_expire", wire_any_may_expire, METH_O, "Whether some message may have an end."},
    {"frame", batch_frame, METH_O, "Payloads as one blob with their index."},
    {"cut", (PyCFunction)(void (*)(void))batch_cut, METH_FASTCALL, "The payloads of a blob."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The loops of the hot path in C.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddType(module, &PullerType) == 0 &&
        PyModule_AddType(module, &HandlesType) == 0 && PyModule_AddType(module, &InletType) == 0 &&
        PyModule_AddType(module, &OutletType) == 0 && PyModule_AddType(module, &EndsType) == 0)
        return module;
    Py_XDECREF(module);
    return NULL;
}
