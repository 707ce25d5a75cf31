/* hotpath.native._native: the loops of the hot path in C. See docs/adr on the native helper. */
#include "layout.h"
#include "names.h"
#include "proton.h"

#include <string.h>

Names names;

int
names_make(void)
{
    static const struct {
        PyObject **name;
        const char *text;
    } made[] = {
        {&names.append, "append"}, {&names.popleft, "popleft"},
        {&names.opening, "opening"}, {&names.pump, "pump"},
        {&names.has_more, "has_more"}, {&names.mark, "mark"},
        {&names.submit, "submit"}, {&names.answer_late, "answer_late"},
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (!*made[i].name && !(*made[i].name = PyUnicode_InternFromString(made[i].text)))
            return -1;
    return 0;
}

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
    FUNCTION(delivery_settle), FUNCTION(delivery_update), FUNCTION(transport_pending),
    FUNCTION(transport_peek), FUNCTION(transport_pop),
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
 * PN_DELIVERY and PN_LINK_FLOW. Comes before all else that has to do with Proton. */
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
    proton = bound;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"bind", bind_proton, METH_O, "Take over Proton's functions by their addresses."},
    {"intake", wire_intake, METH_O, "The stored form of a usual message; None for others."},
    {"all_plain", wire_all_plain, METH_O, "Whether every message starts with its bare message."},
    {"any_may_expire", wire_any_may_expire, METH_O, "Whether some message may have an end."},
    {"frame", batch_frame, METH_O, "Payloads as one blob with their index."},
    {"cut", (PyCFunction)(void (*)(void))batch_cut, METH_FASTCALL, "The payloads of a blob."},
    {"learn", layout_learn, METH_O, "Take over where the attributes of classes lie."},
    {"route_all", route_all, METH_VARARGS, "Which subscriptions get which messages."},
    {"offer_all", offer_all, METH_VARARGS, "Queue what matched, and wake."},
    {"pump_all", pump_all, METH_VARARGS, "Let link ends send."},
    {"complete_all", complete_all, METH_VARARGS, "Settle what link ends have gathered."},
    {"confirm_all", confirm_all, METH_O, "Tell receivers that it is durable."},
    {"collect_all", collect_all, METH_VARARGS, "What has changed of subscriptions."},
    {"encode_all", encode_all, METH_VARARGS, "Entries of the journal."},
    {"note_first", note_first, METH_VARARGS, "Keep a number for each id that has none."},
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
    if (module && names_make() == 0 && PyModule_AddType(module, &PullerType) == 0 &&
        PyModule_AddType(module, &WakerType) == 0 &&
        PyModule_AddType(module, &HandlesType) == 0 && PyModule_AddType(module, &InletType) == 0 &&
        PyModule_AddType(module, &OutletType) == 0 && PyModule_AddType(module, &EndsType) == 0)
        return module;
    Py_XDECREF(module);
    return NULL;
}
