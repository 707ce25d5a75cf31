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
    HeldList waiting;  /* completed ones of these; told when that is durable */
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
    held_list_free(&self->waiting);
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

/* send(opening, seqs, at, first_seq, serial, payloads, room): (index of the next one, bytes).
 * Flow is watched from here on as `watch` says. */
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
    self->credit_seen = proton.link_credit(self->link);
    self->unsent = sent >= 0 && run.at < PySequence_Fast_GET_SIZE(run.seqs);
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

/* Where messages that were accepted are taken out, and where each of them goes. */
typedef struct {
    PyObject *unsettled; /* dict: number to holding */
    PyObject *locked;    /* the state of a holding that is a lock */
    PyObject *done;      /* list: numbers taken out */
    PyObject *late;      /* list: deliveries that wait for our outcome and whose lock was lost */
    PyObject *last;      /* the holding looked at last: messages locked together share one */
    uint64_t serial;
    int is_locked;
} Books;

/* Take one message out if it is still under its lock: 1; 0 when not, -1 with an exception set. */
static int
take_out(Books *books, const Held *held)
{
    PyObject *seq = PyLong_FromUnsignedLongLong(held->seq);
    if (!seq)
        return -1;
    PyObject *holding = PyDict_GetItemWithError(books->unsettled, seq);
    int kept = holding ? 0 : PyErr_Occurred() ? -1 : 0;
    if (holding && (holding != books->last || held->serial != books->serial)) {
        Py_XSETREF(books->last, Py_NewRef(holding));
        books->serial = held->serial;
        books->is_locked = holding_is_locked(holding, held->serial, books->locked);
    }
    if (holding)
        kept = books->is_locked;
    if (kept > 0 && (PyDict_DelItem(books->unsettled, seq) < 0 ||
                     PyList_Append(books->done, seq) < 0))
        kept = -1;
    Py_DECREF(seq);
    return kept;
}

/* Take out what receivers have settled; -1 with an exception set. */
static int
complete_accepted(Outlet *self, Books *books)
{
    int result = 0;
    for (size_t i = 0; i < self->accepted.count && result >= 0; i++)
        result = take_out(books, self->accepted.items + i);
    self->accepted.count = 0;
    return result < 0 ? -1 : 0;
}

/* Take out what receivers wait for our outcome of; how many of these, -1 with an exception set. */
static Py_ssize_t
complete_echo(Outlet *self, Books *books)
{
    size_t before = self->waiting.count;
    int result = 0;
    held_list_sort(&self->echo); /* Proton reports ranges in any order; so it answers with some */
    for (size_t i = 0; i < self->echo.count && result >= 0; i++) {
        Held *held = self->echo.items + i;
        result = take_out(books, held);
        if (result > 0) {
            result = held_list_add(&self->waiting, *held);
        } else if (result == 0) {
            PyObject *address = PyLong_FromVoidPtr(held->delivery);
            result = address ? PyList_Append(books->late, address) : -1;
            Py_XDECREF(address);
        }
    }
    self->echo.count = 0;
    return result < 0 ? -1 : (Py_ssize_t)(self->waiting.count - before);
}

/* complete(unsettled, locked, done, late): take out what was accepted since the last time; how
 * many receivers' deliveries wait now for `confirm`. */
static PyObject *
outlet_complete(Outlet *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4 || !PyDict_Check(args[0]) || !PyList_Check(args[2]) || !PyList_Check(args[3]))
        return PyErr_Format(PyExc_TypeError, "complete(dict, object, list, list)");
    self->noted = 0;
    Books books = {args[0], args[1], args[2], args[3], NULL, 0, 0};
    Py_ssize_t waiting = complete_accepted(self, &books);
    if (waiting == 0)
        waiting = complete_echo(self, &books);
    Py_XDECREF(books.last);
    return waiting < 0 ? NULL : PyLong_FromSsize_t(waiting);
}

/* confirm(count): tell the first of those that wait that they are accepted. */
static PyObject *
outlet_confirm(Outlet *self, PyObject *number)
{
    size_t count = PyLong_AsSize_t(number);
    if (count == (size_t)-1 && PyErr_Occurred())
        return NULL;
    if (count > self->waiting.count)
        count = self->waiting.count; /* the link has been left meanwhile */
    held_settle(self->waiting.items, count, proton.accepted);
    held_list_shift(&self->waiting, count);
    Py_RETURN_NONE;
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

/* take(): None, or (runs, echo) of what was accepted since the last time, for who looks up the
 * locks by himself: runs of messages under
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
    held_list_free(&self->waiting);
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

/* allowance(bytes_max): the credit that may be used up without a further look; -1 when the peer
 * drains, or so many bytes wait for its session window. */
static PyObject *
outlet_allowance(Outlet *self, PyObject *number)
{
    size_t bytes_max = PyLong_AsSize_t(number);
    if (bytes_max == (size_t)-1 && PyErr_Occurred())
        return NULL;
    void *session = proton.link_session(self->link);
    bool closed = proton.session_outgoing_bytes(session) >= bytes_max;
    bool stop = closed || proton.link_get_drain(self->link);
    return PyLong_FromLong(stop ? -1 : proton.link_credit(self->link));
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
    {"complete", (PyCFunction)(void (*)(void))outlet_complete, METH_FASTCALL,
     "Take out what was accepted."},
    {"take", (PyCFunction)outlet_take, METH_NOARGS, "What was accepted since the last time."},
    {"confirm", (PyCFunction)outlet_confirm, METH_O, "Tell who waits that it is accepted."},
    {"allowance", (PyCFunction)outlet_allowance, METH_O, "Credit that may be used up."},
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
