/* The link ends of one connection, and the events of its engine.
 *
 * `drain` does what is frequent and stops at the first event that Python must see; Python takes
 * that one off the collector and calls again.
 */
#include "ends.h"

#include <string.h>

Proton proton;

static int
ends_traverse(Ends *self, visitproc visit, void *arg)
{
    for (size_t i = 0; i < self->count; i++) {
        Py_VISIT(self->ends[i].end);
        Py_VISIT(self->ends[i].native);
    }
    return 0;
}

/* Let go of an end that has been taken out. */
static void
release(End end)
{
    if (end.native && outlet_is(end.native))
        ((Outlet *)end.native)->ends = NULL;
    Py_XDECREF(end.end);
    Py_XDECREF(end.native);
}

static int
ends_drop_all(Ends *self)
{
    End *ends = self->ends;
    size_t count = self->count;
    self->ends = NULL;
    self->count = self->room = self->last = 0;
    for (size_t i = 0; i < count; i++)
        release(ends[i]);
    PyMem_Free(ends);
    return 0;
}

static void
ends_dealloc(Ends *self)
{
    PyObject_GC_UnTrack(self);
    ends_drop_all(self);
    traffic_free(self);
    Py_XDECREF(self->outgoing);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
ends_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *collector, *transport;
    if (!PyArg_ParseTuple(args, "OO", &collector, &transport))
        return NULL;
    void *events = address_of(collector), *bytes = PyErr_Occurred() ? NULL : address_of(transport);
    if (PyErr_Occurred())
        return NULL;
    Ends *self = (Ends *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->collector = events;
    self->transport = bytes;
    return (PyObject *)self;
}

static End *
find(Ends *self, void *link)
{
    if (self->last < self->count && self->ends[self->last].link == link)
        return self->ends + self->last;
    for (size_t i = 0; i < self->count; i++)
        if (self->ends[i].link == link) {
            self->last = i;
            return self->ends + i;
        }
    return NULL;
}

End *
ends_find_line(Ends *self, uint32_t line)
{
    if (self->last < self->count && self->ends[self->last].line == line)
        return self->ends + self->last;
    size_t low = 0, high = self->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->ends[middle].line < line)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == self->count || self->ends[low].line != line)
        return NULL;
    self->last = low;
    return self->ends + low;
}

/* add(link, end, native): events of the link go to `native`, and what it leaves to `end`. */
static PyObject *
ends_add(Ends *self, PyObject *args)
{
    PyObject *link, *end, *native;
    if (!PyArg_ParseTuple(args, "OOO", &link, &end, &native))
        return NULL;
    void *address = address_of(link);
    if (!address && PyErr_Occurred())
        return NULL;
    bool sends = outlet_is(native);
    if (native != Py_None && !Py_IS_TYPE(native, &InletType) && !sends)
        return PyErr_Format(PyExc_TypeError, "an Inlet, an Outlet or None expected");
    if (find(self, address) || (sends && ((Outlet *)native)->ends))
        return PyErr_Format(PyExc_ValueError, "the link has an end");
    if (self->count == self->room) {
        size_t room = self->room ? 2 * self->room : 4;
        End *ends = PyMem_Realloc(self->ends, room * sizeof(End));
        if (!ends)
            return PyErr_NoMemory();
        self->ends = ends;
        self->room = room;
    }
    PyObject *own = native == Py_None ? NULL : Py_NewRef(native);
    self->ends[self->count++] = (End){address, Py_NewRef(end), own, ++self->lines};
    if (sends) {
        ((Outlet *)native)->ends = self;
        ((Outlet *)native)->line = self->lines;
    }
    Py_RETURN_NONE;
}

/* remove(link): nothing if there is no such link. */
static PyObject *
ends_remove(Ends *self, PyObject *link)
{
    void *address = address_of(link);
    if (!address && PyErr_Occurred())
        return NULL;
    End *found = find(self, address);
    if (found) {
        End removed = *found;
        size_t after = self->count-- - (size_t)(found - self->ends) - 1;
        memmove(found, found + 1, after * sizeof(End)); /* they stay in the order of their lines */
        traffic_drop(self, removed.line);
        release(removed);
    }
    Py_RETURN_NONE;
}

static PyObject *
ends_clear(Ends *self, PyObject *Py_UNUSED(none))
{
    ends_drop_all(self);
    traffic_free(self);
    Py_RETURN_NONE;
}

/* An event of a delivery: 0 done, 1 Python must do it, -1 with an exception set; an end that has
 * gathered its first is added to `filled`. */
static int
on_delivery(Ends *self, void *event, PyObject *filled, bool careful)
{
    End *end = find(self, proton.event_link(event));
    if (!end) {
        proton.delivery_settle(proton.event_delivery(event)); /* its link is on its way out */
        return 0;
    }
    if (!end->native)
        return 1;
    if (outlet_is(end->native))
        return 0; /* its outcome has been read from the frame */
    int result = inlet_on_delivery(end->native, careful);
    if (result || !inlet_note(end->native))
        return result;
    return PyList_Append(filled, end->end);
}

/* An event of a link's flow, as `on_delivery`. */
static int
on_flow(Ends *self, void *event)
{
    End *end = find(self, proton.event_link(event));
    if (!end)
        return 0;
    if (!end->native)
        return 1;
    return outlet_is(end->native) && outlet_wants_flow(end->native);
}

/* drain(filled, careful): True when an event is left for Python, False when there are no more.
 * Ends that have gathered something are added to the list `filled`. */
static PyObject *
ends_drain(Ends *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyList_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "drain(filled, careful)");
    bool careful = args[1] == Py_True;
    void *event;
    while ((event = proton.collector_peek(self->collector))) {
        int kind = proton.event_type(event), left = 1;
        if (kind == proton.delivery_event)
            left = on_delivery(self, event, args[0], careful);
        else if (kind == proton.flow_event)
            left = on_flow(self, event);
        if (left < 0)
            return NULL;
        if (left)
            Py_RETURN_TRUE;
        proton.collector_pop(self->collector);
    }
    Py_RETURN_FALSE;
}

static PyObject *
ends_spill(Ends *self, PyObject *Py_UNUSED(none))
{
    if (traffic_spill(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef ends_methods[] = {
    {"add", (PyCFunction)ends_add, METH_VARARGS, "Tell a link end what happens on its link."},
    {"remove", (PyCFunction)ends_remove, METH_O, "Forget a link."},
    {"clear", (PyCFunction)ends_clear, METH_NOARGS, "Forget all links."},
    {"drain", (PyCFunction)(void (*)(void))ends_drain, METH_FASTCALL, "Take in events."},
    {"follow", (PyCFunction)(void (*)(void))traffic_follow, METH_FASTCALL,
     "Pass what a peer sends, and take in what it has accepted."},
    {"end", (PyCFunction)traffic_end, METH_O, "A peer has ended a session."},
    {"accept", (PyCFunction)traffic_accept, METH_VARARGS, "Take in what a peer has accepted."},
    {"pick", (PyCFunction)traffic_pick, METH_VARARGS, "Forget deliveries, and tell of each."},
    {"spill", (PyCFunction)ends_spill, METH_NOARGS, "Take what there is to send out of Proton."},
    {"output", (PyCFunction)traffic_output, METH_NOARGS, "All that there is to send."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject EndsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hotpath.native._native.Ends",
    .tp_basicsize = sizeof(Ends),
    .tp_dealloc = (destructor)ends_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The link ends of one connection.",
    .tp_traverse = (traverseproc)ends_traverse,
    .tp_clear = (inquiry)ends_drop_all,
    .tp_methods = ends_methods,
    .tp_new = ends_new,
};
