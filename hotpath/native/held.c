/* Unsettled deliveries: kept by their address, and settled many at a time. */
#include "proton.h"

#include <stdlib.h>
#include <string.h>

/* Lists */

int
held_list_add(HeldList *list, Held held)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 4;
        Held *items = PyMem_Realloc(list->items, room * sizeof(Held));
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = held;
    return 0;
}

void
held_list_shift(HeldList *list, size_t count)
{
    if (!count)
        return; /* there may be no items at all, and nothing may be moved from nowhere */
    list->count -= count;
    memmove(list->items, list->items + count, list->count * sizeof(Held));
    if (!list->count && list->room > 1024)
        held_list_free(list); /* a burst is over */
}

void
held_list_free(HeldList *list)
{
    PyMem_Free(list->items);
    memset(list, 0, sizeof *list);
}

static int
compare(const void *left, const void *right)
{
    const Held *a = left, *b = right;
    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    return a->serial == b->serial ? 0 : a->serial < b->serial ? -1 : 1;
}

void
held_list_sort(HeldList *list)
{
    for (size_t i = 1; i < list->count; i++)
        if (compare(list->items + i - 1, list->items + i) > 0) {
            qsort(list->items, list->count, sizeof(Held), compare);
            return;
        }
}

/* The table: linear probing, backward shift on removal, at most half full. */

static size_t
home_of(const HeldTable *table, void *delivery)
{
    uint64_t bits = (uint64_t)(uintptr_t)delivery * 0x9E3779B97F4A7C15u;
    return (size_t)(bits >> 20) & (table->capacity - 1);
}

static size_t
slot_of(const HeldTable *table, void *delivery)
{
    size_t at = home_of(table, delivery);
    while (table->slots[at].delivery && table->slots[at].delivery != delivery)
        at = (at + 1) & (table->capacity - 1);
    return at;
}

static int
resize(HeldTable *table, size_t capacity)
{
    HeldTable grown = {PyMem_Calloc(capacity, sizeof(Held)), table->count, capacity};
    if (!grown.slots) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].delivery)
            grown.slots[slot_of(&grown, table->slots[i].delivery)] = table->slots[i];
    PyMem_Free(table->slots);
    *table = grown;
    return 0;
}

int
held_put(HeldTable *table, Held held)
{
    if (2 * (table->count + 1) > table->capacity &&
        resize(table, table->capacity ? 2 * table->capacity : 8) < 0)
        return -1;
    size_t at = slot_of(table, held.delivery);
    table->count += !table->slots[at].delivery;
    table->slots[at] = held;
    return 0;
}

bool
held_has(const HeldTable *table, void *delivery)
{
    return table->count && table->slots[slot_of(table, delivery)].delivery;
}

bool
held_pop(HeldTable *table, void *delivery, Held *held)
{
    if (!table->count)
        return false;
    size_t mask = table->capacity - 1, gap = slot_of(table, delivery);
    if (!table->slots[gap].delivery)
        return false;
    *held = table->slots[gap];
    for (size_t at = (gap + 1) & mask; table->slots[at].delivery; at = (at + 1) & mask) {
        size_t home = home_of(table, table->slots[at].delivery);
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            table->slots[gap] = table->slots[at];
            gap = at;
        }
    }
    table->slots[gap].delivery = NULL;
    if (--table->count == 0 && table->capacity > 1024)
        held_free(table); /* a burst is over */
    return true;
}

void
held_free(HeldTable *table)
{
    PyMem_Free(table->slots);
    memset(table, 0, sizeof *table);
}

/* Handles: deliveries that wait for their outcome */

typedef struct {
    PyObject_HEAD
    HeldList list;
} Handles;

PyObject *
handles_take(HeldList *list)
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
    HeldList list = {0};
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(addresses); i++) {
        Held held = {address_of(PyList_GET_ITEM(addresses, i)), 0, 0};
        if ((!held.delivery && PyErr_Occurred()) || held_list_add(&list, held) < 0) {
            held_list_free(&list);
            return NULL;
        }
    }
    PyObject *self = handles_take(&list);
    held_list_free(&list);
    return self;
}

static void
handles_dealloc(Handles *self)
{
    held_list_free(&self->list);
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
    return PyLong_FromVoidPtr(self->list.items[index].delivery);
}

void
held_settle(const Held *items, size_t count, uint64_t outcome)
{
    for (size_t i = 0; i < count; i++) {
        proton.delivery_update(items[i].delivery, outcome);
        proton.delivery_settle(items[i].delivery);
    }
}

/* settle(state): all of them, once. */
static PyObject *
handles_settle(Handles *self, PyObject *state)
{
    uint64_t outcome = PyLong_AsUnsignedLongLong(state);
    if (outcome == UINT64_MAX && PyErr_Occurred())
        return NULL;
    held_settle(self->list.items, self->list.count, outcome);
    self->list.count = 0;
    Py_RETURN_NONE;
}

/* seqs(): sequence number of each; those of incoming deliveries are 0. */
static PyObject *
handles_seqs(Handles *self, PyObject *Py_UNUSED(none))
{
    PyObject *seqs = PyList_New((Py_ssize_t)self->list.count);
    for (size_t i = 0; seqs && i < self->list.count; i++) {
        PyObject *seq = PyLong_FromUnsignedLongLong(self->list.items[i].seq);
        if (!seq)
            Py_CLEAR(seqs);
        else
            PyList_SET_ITEM(seqs, (Py_ssize_t)i, seq);
    }
    return seqs;
}

static PyMethodDef handles_methods[] = {
    {"settle", (PyCFunction)handles_settle, METH_O, "Give all an outcome and settle them."},
    {"seqs", (PyCFunction)handles_seqs, METH_NOARGS, "The sequence number of each."},
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
