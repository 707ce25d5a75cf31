/* Our end of a publishing link: deliveries of one frame become payloads.
 *
 * What belongs to a delivery of several frames, what is aborted, empty or too large is read by
 * hotpath.amqp.inbound; this end says so before it has read anything.
 */
#include "proton.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    void *link;
    size_t bytes_max;
    PyObject *payloads; /* list of bytes */
    PyObject *odd;      /* list of int: indexes of payloads that are to be looked at with care */
    HandleList deliveries;
    char suspended; /* Python is in the middle of a delivery */
    char noted;
} Inlet;

static char scratch[READ_BYTES]; /* under the interpreter lock, and filled anew each time */

/* Make both lists new; -1 with an exception set. */
static int
start_over(Inlet *self)
{
    PyObject *payloads = PyList_New(0), *odd = PyList_New(0);
    if (!payloads || !odd) {
        Py_XDECREF(payloads);
        Py_XDECREF(odd);
        return -1;
    }
    Py_XSETREF(self->payloads, payloads);
    Py_XSETREF(self->odd, odd);
    memset(&self->deliveries, 0, sizeof self->deliveries);
    self->noted = 0;
    return 0;
}

static void
inlet_dealloc(Inlet *self)
{
    Py_XDECREF(self->payloads);
    Py_XDECREF(self->odd);
    handle_list_free(&self->deliveries);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
inlet_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *link;
    Py_ssize_t bytes_max;
    if (!PyArg_ParseTuple(args, "On", &link, &bytes_max))
        return NULL;
    Inlet *self = (Inlet *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->link = address_of(link);
    self->bytes_max = bytes_max < 0 ? 0 : (size_t)bytes_max;
    if ((!self->link && PyErr_Occurred()) || start_over(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
keep(Inlet *self, void *delivery, PyObject *payload, bool odd)
{
    if (odd) {
        PyObject *index = PyLong_FromSsize_t(PyList_GET_SIZE(self->payloads));
        int failed = index ? PyList_Append(self->odd, index) : -1;
        Py_XDECREF(index);
        if (failed)
            return -1;
    }
    if (handle_list_add(&self->deliveries, delivery) < 0)
        return -1;
    if (PyList_Append(self->payloads, payload) < 0) {
        self->deliveries.count--;
        return -1;
    }
    return 0;
}

int
inlet_on_delivery(PyObject *inlet, bool careful)
{
    Inlet *self = (Inlet *)inlet;
    if (self->suspended)
        return 1;
    void *delivery = proton.link_current(self->link);
    if (!delivery)
        return 0;
    size_t size = proton.delivery_pending(delivery);
    if (size == 0 || size >= READ_BYTES || size > self->bytes_max ||
        proton.delivery_aborted(delivery) || proton.delivery_partial(delivery))
        return 1;
    if (proton.link_recv(self->link, scratch, READ_BYTES) != (ssize_t)size) {
        PyErr_SetString(PyExc_RuntimeError, "Proton gave another size than it said");
        return -1;
    }
    size_t bare = 0;
    bool odd = careful || !wire_is_usual((const uint8_t *)scratch, size, &bare);
    if (odd)
        bare = 0;
    PyObject *payload = PyBytes_FromStringAndSize(scratch + bare, (Py_ssize_t)(size - bare));
    int result = payload ? keep(self, delivery, payload, odd) : -1;
    Py_XDECREF(payload);
    proton.link_advance(self->link);
    return result;
}

bool
inlet_note(PyObject *inlet)
{
    Inlet *self = (Inlet *)inlet;
    bool first = !self->noted && self->deliveries.count;
    self->noted = self->noted || first;
    return first;
}

/* add(address, raw): a delivery that Python has put together. */
static PyObject *
inlet_add(Inlet *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyBytes_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "add(address, raw)");
    void *delivery = address_of(args[0]);
    if ((!delivery && PyErr_Occurred()) || keep(self, delivery, args[1], true) < 0)
        return NULL;
    self->noted = 1; /* the caller does it */
    Py_RETURN_NONE;
}

/* take(): None, or (payloads, handles, odd) of everything since the last time. */
static PyObject *
inlet_take(Inlet *self, PyObject *Py_UNUSED(none))
{
    if (!self->deliveries.count)
        Py_RETURN_NONE;
    PyObject *handles = handles_take(&self->deliveries);
    PyObject *taken = handles ? PyTuple_Pack(3, self->payloads, handles, self->odd) : NULL;
    Py_XDECREF(handles);
    if (taken && start_over(self) < 0)
        Py_CLEAR(taken);
    return taken;
}

static PyObject *
inlet_get_suspended(Inlet *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->suspended);
}

static int
inlet_set_suspended(Inlet *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value ? PyObject_IsTrue(value) : 0;
    if (truth < 0)
        return -1;
    self->suspended = (char)truth;
    return 0;
}

static PyMethodDef inlet_methods[] = {
    {"add", (PyCFunction)(void (*)(void))inlet_add, METH_FASTCALL, "Add a whole delivery."},
    {"take", (PyCFunction)inlet_take, METH_NOARGS, "What has gathered since the last time."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef inlet_attributes[] = {
    {"suspended", (getter)inlet_get_suspended, (setter)inlet_set_suspended,
     "Whether Python reads the deliveries.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject InletType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hotpath.native._native.Inlet",
    .tp_basicsize = sizeof(Inlet),
    .tp_dealloc = (destructor)inlet_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Our end of a publishing link.",
    .tp_methods = inlet_methods,
    .tp_getset = inlet_attributes,
    .tp_new = inlet_new,
};
