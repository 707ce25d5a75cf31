/* Our end of a receiving link: runs of messages go out, and their outcomes are gathered.
 *
 * The delivery-tag is the lock token: sequence number and lock serial, 16 bytes, big endian.
 */
#include "proton.h"

#include <string.h>

#define SCRATCH_BYTES 65536

typedef struct {
    PyObject_HEAD
    void *link;
    HeldTable held;
    HeldList accepted; /* settled by their receivers */
    HeldList echo;     /* whose receivers wait for our outcome */
    int credit_seen;
    char unsent; /* flow is to be told: something waits to be sent */
    char noted;
} Outlet;

typedef struct {
    PyObject *opening; /* header and annotations up to the sequence number */
    uint64_t serial;
    const char *stored;
    size_t stored_size;
} Message;

static char scratch[SCRATCH_BYTES]; /* under the interpreter lock, and filled anew each time */

static void
write_u64(char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (char)(value >> (56 - 8 * i));
}

static void
outlet_dealloc(Outlet *self)
{
    held_free(&self->held);
    held_list_free(&self->accepted);
    held_list_free(&self->echo);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
outlet_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *link;
    if (!PyArg_ParseTuple(args, "O", &link))
        return NULL;
    void *address = address_of(link);
    if (!address && PyErr_Occurred())
        return NULL;
    Outlet *self = (Outlet *)type->tp_alloc(type, 0);
    if (self)
        self->link = address;
    return (PyObject *)self;
}

/* Begin a delivery; NULL with an exception set. */
static void *
begin(Outlet *self, uint64_t seq, uint64_t serial)
{
    char tag[16];
    write_u64(tag, seq);
    write_u64(tag + 8, serial);
    void *delivery = proton.delivery(self->link, (pn_bytes){sizeof tag, tag});
    if (!delivery) {
        PyErr_SetString(PyExc_RuntimeError, "Proton gave no delivery");
        return NULL;
    }
    Held held = {delivery, seq, serial};
    if (serial && held_put(&self->held, held) < 0)
        return NULL;
    return delivery;
}

/* End a delivery: without a lock it is settled at once. */
static void
finish(Outlet *self, void *delivery, uint64_t serial)
{
    if (serial)
        proton.link_advance(self->link);
    else
        proton.delivery_settle(delivery);
}

/* Send one message as opening, sequence number and stored bytes; its size, or 0 with an exception
 * set. */
static size_t
send_stored(Outlet *self, uint64_t seq, const Message *message)
{
    void *delivery = begin(self, seq, message->serial);
    if (!delivery)
        return 0;
    size_t opening = (size_t)PyBytes_GET_SIZE(message->opening);
    size_t size = opening + 8 + message->stored_size;
    char number[8];
    write_u64(number, seq);
    if (size <= SCRATCH_BYTES) {
        memcpy(scratch, PyBytes_AS_STRING(message->opening), opening);
        memcpy(scratch + opening, number, sizeof number);
        memcpy(scratch + opening + 8, message->stored, message->stored_size);
        proton.link_send(self->link, scratch, size);
    } else {
        proton.link_send(self->link, PyBytes_AS_STRING(message->opening), opening);
        proton.link_send(self->link, number, sizeof number);
        proton.link_send(self->link, message->stored, message->stored_size);
    }
    finish(self, delivery, message->serial);
    return size;
}

typedef struct {
    PyObject *opening, *seqs, *payloads;
    Py_ssize_t at;
    unsigned long long first_seq, serial;
    Py_ssize_t room;
} Run;

/* The stored bytes of a message; false when Python must look at it. */
static bool
find_stored(const Run *run, uint64_t seq, Message *message)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(run->payloads);
    if (seq < run->first_seq || seq - run->first_seq >= (uint64_t)count)
        return false;
    PyObject *stored =
        PySequence_Fast_GET_ITEM(run->payloads, (Py_ssize_t)(seq - run->first_seq));
    if (!PyBytes_Check(stored))
        return false;
    message->stored = PyBytes_AS_STRING(stored);
    message->stored_size = (size_t)PyBytes_GET_SIZE(stored);
    return wire_is_plain((const uint8_t *)message->stored, message->stored_size);
}

/* Send until there is no room or a message is not plain; bytes sent, -1 with an exception set. */
static Py_ssize_t
send_run(Outlet *self, Run *run)
{
    Message message = {run->opening, run->serial, NULL, 0};
    Py_ssize_t sent = 0;
    for (; sent < run->room && run->at < PySequence_Fast_GET_SIZE(run->seqs); run->at++) {
        uint64_t seq = PyLong_AsUnsignedLongLong(PySequence_Fast_GET_ITEM(run->seqs, run->at));
        if (seq == UINT64_MAX && PyErr_Occurred())
            return -1;
        if (!find_stored(run, seq, &message))
            break;
        size_t size = send_stored(self, seq, &message);
        if (!size)
            return -1;
        sent += (Py_ssize_t)size;
    }
    return sent;
}

/* send(opening, seqs, at, first_seq, serial, payloads, room): (index of the next one, bytes). */
static PyObject *
outlet_send(Outlet *self, PyObject *args)
{
    Run run;
    PyObject *seqs, *payloads;
    if (!PyArg_ParseTuple(args, "SOnKKOn", &run.opening, &seqs, &run.at, &run.first_seq,
                          &run.serial, &payloads, &run.room))
        return NULL;
    if (run.at < 0)
        return PyErr_Format(PyExc_ValueError, "at must not be negative");
    run.seqs = PySequence_Fast(seqs, "seqs must be a sequence");
    run.payloads = PySequence_Fast(payloads, "payloads must be a sequence");
    Py_ssize_t sent = run.seqs && run.payloads ? send_run(self, &run) : -1;
    Py_XDECREF(run.seqs);
    Py_XDECREF(run.payloads);
    return sent < 0 ? NULL : Py_BuildValue("nn", run.at, sent);
}

/* send_one(seq, serial, data): a message that is encoded already. */
static PyObject *
outlet_send_one(Outlet *self, PyObject *args)
{
    unsigned long long seq, serial;
    PyObject *encoded;
    if (!PyArg_ParseTuple(args, "KKS", &seq, &serial, &encoded))
        return NULL;
    void *delivery = begin(self, seq, serial);
    if (!delivery)
        return NULL;
    proton.link_send(self->link, PyBytes_AS_STRING(encoded), (size_t)PyBytes_GET_SIZE(encoded));
    finish(self, delivery, serial);
    Py_RETURN_NONE;
}

/* Outcomes */

int
outlet_on_delivery(PyObject *outlet, void *delivery)
{
    Outlet *self = (Outlet *)outlet;
    Held held;
    if (proton.delivery_remote_state(delivery) != proton.accepted)
        return held_has(&self->held, delivery);
    if (!held_pop(&self->held, delivery, &held))
        return 0;
    if (!proton.delivery_settled(delivery))
        return held_list_add(&self->echo, held);
    proton.delivery_settle(delivery);
    return held_list_add(&self->accepted, held);
}

bool
outlet_note(PyObject *outlet)
{
    Outlet *self = (Outlet *)outlet;
    bool first = !self->noted && (self->accepted.count || self->echo.count);
    self->noted = self->noted || first;
    return first;
}

bool
outlet_wants_flow(PyObject *outlet)
{
    Outlet *self = (Outlet *)outlet;
    return self->unsent || proton.link_credit(self->link) != self->credit_seen ||
           proton.link_get_drain(self->link);
}

/* Append (serial, [seq, ...]) for each run of the same serial; -1 with an exception set. */
static int
add_runs(PyObject *runs, const HeldList *list)
{
    PyObject *seqs = NULL; /* borrowed from the last run */
    for (size_t i = 0; i < list->count; i++) {
        const Held *held = list->items + i;
        if (!seqs || held->serial != held[-1].serial) {
            PyObject *run = Py_BuildValue("(K[])", (unsigned long long)held->serial);
            int failed = run ? PyList_Append(runs, run) : -1;
            seqs = failed ? NULL : PyTuple_GET_ITEM(run, 1);
            Py_XDECREF(run);
            if (failed)
                return -1;
        }
        PyObject *seq = PyLong_FromUnsignedLongLong(held->seq);
        int failed = seq ? PyList_Append(seqs, seq) : -1;
        Py_XDECREF(seq);
        if (failed)
            return -1;
    }
    return 0;
}

/* take(): None, or (runs, echo) of what was accepted since the last time: runs of messages under
 * one lock each, and those deliveries among them that wait for our outcome, in order. */
static PyObject *
outlet_take(Outlet *self, PyObject *Py_UNUSED(none))
{
    self->noted = 0;
    if (!self->accepted.count && !self->echo.count)
        Py_RETURN_NONE;
    held_list_sort(&self->echo);
    PyObject *runs = PyList_New(0), *echo = NULL, *taken = NULL;
    if (runs && add_runs(runs, &self->accepted) == 0 && add_runs(runs, &self->echo) == 0)
        echo = handles_take(&self->echo);
    if (echo) {
        self->accepted.count = 0;
        taken = PyTuple_Pack(2, runs, echo);
    }
    Py_XDECREF(runs);
    Py_XDECREF(echo);
    return taken;
}

/* pop(address): (seq, serial) of a delivery that is not held any more from here on, or None. */
static PyObject *
outlet_pop(Outlet *self, PyObject *address)
{
    Held held;
    void *delivery = address_of(address);
    if (!delivery && PyErr_Occurred())
        return NULL;
    if (!held_pop(&self->held, delivery, &held))
        Py_RETURN_NONE;
    return Py_BuildValue("KK", (unsigned long long)held.seq, (unsigned long long)held.serial);
}

/* clear(): forget all deliveries. */
static PyObject *
outlet_clear(Outlet *self, PyObject *Py_UNUSED(none))
{
    held_free(&self->held);
    held_list_free(&self->accepted);
    held_list_free(&self->echo);
    Py_RETURN_NONE;
}

/* watch(credit_seen, unsent): when a change of flow is to be told. */
static PyObject *
outlet_watch(Outlet *self, PyObject *args)
{
    int credit, unsent;
    if (!PyArg_ParseTuple(args, "ip", &credit, &unsent))
        return NULL;
    self->credit_seen = credit;
    self->unsent = (char)unsent;
    Py_RETURN_NONE;
}

static PyObject *
outlet_credit(Outlet *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromLong(proton.link_credit(self->link));
}

static PyObject *
outlet_draining(Outlet *self, PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(proton.link_get_drain(self->link));
}

static Py_ssize_t
outlet_length(Outlet *self)
{
    return (Py_ssize_t)self->held.count;
}

static PyMethodDef outlet_methods[] = {
    {"send", (PyCFunction)outlet_send, METH_VARARGS, "Send messages of one batch."},
    {"send_one", (PyCFunction)outlet_send_one, METH_VARARGS, "Send an encoded message."},
    {"take", (PyCFunction)outlet_take, METH_NOARGS, "What was accepted since the last time."},
    {"pop", (PyCFunction)outlet_pop, METH_O, "Forget a delivery."},
    {"clear", (PyCFunction)outlet_clear, METH_NOARGS, "Forget all deliveries."},
    {"credit", (PyCFunction)outlet_credit, METH_NOARGS, "The link's credit."},
    {"draining", (PyCFunction)outlet_draining, METH_NOARGS, "Whether the receiver drains."},
    {"watch", (PyCFunction)outlet_watch, METH_VARARGS, "When a change of flow is to be told."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods outlet_sequence = {.sq_length = (lenfunc)outlet_length};

PyTypeObject OutletType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hotpath.native._native.Outlet",
    .tp_basicsize = sizeof(Outlet),
    .tp_dealloc = (destructor)outlet_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Our end of a receiving link.",
    .tp_methods = outlet_methods,
    .tp_as_sequence = &outlet_sequence,
    .tp_new = outlet_new,
};
