/* Incoming deliveries that wait for their outcome: settled many at a time. */
#include "proton.h"

#include <string.h>

int
handle_list_add(HandleList *list, void *delivery)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 4;
        void **items = PyMem_Realloc(list->items, room * sizeof(void *));
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = delivery;
    return 0;
}

void
handle_list_free(HandleList *list)
{
    PyMem_Free(list->items);
    memset(list, 0, sizeof *list);
}

typedef struct {
    PyObject_HEAD
    HandleList list;
} Handles;

PyObject *
handles_take(HandleList *list)
{
    Handles *self = PyObject_New(Handles, &HandlesType);
    if (self) {
        self->list = *list;
        memset(list, 0, sizeof *list);
    }
    return (PyObject *)self;
}

static PyObject *
handles_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *addresses;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &addresses))
        return NULL;
    HandleList list = {0};
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(addresses); i++) {
        void *delivery = address_of(PyList_GET_ITEM(addresses, i));
        if ((!delivery && PyErr_Occurred()) || handle_list_add(&list, delivery) < 0) {
            handle_list_free(&list);
            return NULL;
        }
    }
    PyObject *self = handles_take(&list);
    handle_list_free(&list);
    return self;
}

static void
handles_dealloc(Handles *self)
{
    handle_list_free(&self->list);
    PyObject_Free(self);
}

static Py_ssize_t
handles_length(Handles *self)
{
    return (Py_ssize_t)self->list.count;
}

static PyObject *
handles_item(Handles *self, Py_ssize_t index)
{
    if (index < 0 || (size_t)index >= self->list.count)
        return PyErr_Format(PyExc_IndexError, "no such delivery");
    return PyLong_FromVoidPtr(self->list.items[index]);
}

/* settle(state): all of them, once. */
static PyObject *
handles_settle(Handles *self, PyObject *state)
{
    uint64_t outcome = PyLong_AsUnsignedLongLong(state);
    if (outcome == UINT64_MAX && PyErr_Occurred())
        return NULL;
    for (size_t i = 0; i < self->list.count; i++) {
        proton.delivery_update(self->list.items[i], outcome);
        proton.delivery_settle(self->list.items[i]);
    }
    self->list.count = 0;
    Py_RETURN_NONE;
}

static PyMethodDef handles_methods[] = {
    {"settle", (PyCFunction)handles_settle, METH_O, "Give all an outcome and settle them."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods handles_sequence = {
    .sq_length = (lenfunc)handles_length,
    .sq_item = (ssizeargfunc)handles_item,
};

PyTypeObject HandlesType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hotpath.native._native.Handles",
    .tp_basicsize = sizeof(Handles),
    .tp_dealloc = (destructor)handles_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Addresses of deliveries that wait for their outcome.",
    .tp_methods = handles_methods,
    .tp_as_sequence = &handles_sequence,
    .tp_new = handles_new,
};
