/* Our end of a receiving link: runs of messages go out, and their outcomes are gathered.
 *
 * The delivery-tag is the lock token: sequence number and lock serial, 16 bytes, big endian. Under
 * a lock Proton is given a mark instead, which `traffic.c` replaces as the transfer goes out.
 */
#include "ends.h"

#include <string.h>

#define SCRATCH_BYTES 65536

typedef struct {
    PyObject *opening; /* header and annotations up to the sequence number */
    uint64_t serial;
    const char *stored;
    size_t stored_size;
} Message;

static const uint8_t ACCEPTED[] = {0, 0x53, 0x24, 0x45};

static char scratch[SCRATCH_BYTES]; /* under the interpreter lock, and filled anew each time */

bool
outlet_is(PyObject *native)
{
    return native && Py_IS_TYPE(native, &OutletType);
}

static void
forget_all(Outlet *self)
{
    pending_clear(&self->pending);
    open_list_free(&self->accepted);
    open_list_free(&self->echo);
    open_list_free(&self->waiting);
    if (self->ends)
        traffic_drop(self->ends, self->line);
}

static void
outlet_dealloc(Outlet *self)
{
    forget_all(self);
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
    uint8_t tag[TAG_BYTES];
    if (serial && !self->ends)
        return PyErr_Format(PyExc_RuntimeError, "the link is none of a connection");
    if (serial)
        frame_write_mark(tag, self->line, self->pending.first + (uint32_t)self->pending.count);
    else
        write_token(tag, seq, 0);
    void *delivery = proton.delivery(self->link, (pn_bytes){sizeof tag, (char *)tag});
    if (!delivery)
        return PyErr_Format(PyExc_RuntimeError, "Proton gave no delivery");
    if (serial && pending_add(&self->pending, (Token){seq, serial}) < 0)
        return NULL;
    return delivery;
}

/* End a delivery of so many bytes: for Proton, as it is told, it is settled. */
static int
finish(Outlet *self, void *delivery, size_t size)
{
    proton.delivery_settle(delivery);
    self->given += size;
    if (self->given < SPILL_BYTES || !self->ends)
        return 0;
    self->given = 0;
    return traffic_spill(self->ends);
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
    write_u64((uint8_t *)number, seq);
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
    return finish(self, delivery, size) < 0 ? 0 : size;
}

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

static Py_ssize_t
send_messages(Outlet *self, Run *run)
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

Py_ssize_t
outlet_send_run(Outlet *self, Run *run)
{
    Py_ssize_t sent = send_messages(self, run);
    self->credit_seen = proton.link_credit(self->link);
    self->unsent = sent >= 0 && run->at < PySequence_Fast_GET_SIZE(run->seqs);
    return sent;
}

int
outlet_allowance_of(const Outlet *self, size_t bytes_max)
{
    void *session = proton.link_session(self->link);
    bool closed = proton.session_outgoing_bytes(session) >= bytes_max;
    bool stop = closed || proton.link_get_drain(self->link);
    return stop ? -1 : proton.link_credit(self->link);
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
    Py_ssize_t sent = run.seqs && run.payloads ? outlet_send_run(self, &run) : -1;
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
    if (finish(self, delivery, (size_t)PyBytes_GET_SIZE(encoded)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Outcomes */

int
outlet_accepted(Outlet *self, Open open, bool is_settled)
{
    return open_list_add(is_settled ? &self->accepted : &self->echo, open);
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

/* Take one message out if it is still under its lock: 1; 0 when not, -1 with an exception set. */
static int
take_out(Books *books, const Open *open)
{
    PyObject *seq = PyLong_FromUnsignedLongLong(open->seq);
    if (!seq)
        return -1;
    PyObject *holding = PyDict_GetItemWithError(books->unsettled, seq);
    int kept = holding ? 0 : PyErr_Occurred() ? -1 : 0;
    if (holding && (holding != books->last || open->serial != books->serial)) {
        Py_XSETREF(books->last, Py_NewRef(holding));
        books->serial = open->serial;
        books->is_locked = holding_is_locked(holding, open->serial, books->locked);
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
    open_list_shift(&self->accepted, self->accepted.count);
    return result < 0 ? -1 : 0;
}

/* Take out what receivers wait for our outcome of; how many of these, -1 with an exception set. */
static Py_ssize_t
complete_echo(Outlet *self, Books *books)
{
    size_t before = self->waiting.count;
    int result = 0;
    open_list_sort(&self->echo); /* they may have come in any order; answers are ranges */
    for (size_t i = 0; i < self->echo.count && result >= 0; i++) {
        Open *open = self->echo.items + i;
        result = take_out(books, open);
        if (result > 0) {
            result = open_list_add(&self->waiting, *open);
        } else if (result == 0) {
            PyObject *id = PyLong_FromUnsignedLong(open->id);
            result = id ? PyList_Append(books->late, id) : -1;
            Py_XDECREF(id);
        }
    }
    open_list_shift(&self->echo, self->echo.count);
    return result < 0 ? -1 : (Py_ssize_t)(self->waiting.count - before);
}

Py_ssize_t
outlet_complete_with(Outlet *self, Books books)
{
    self->noted = 0;
    Py_ssize_t waiting = complete_accepted(self, &books) ? -1 : complete_echo(self, &books);
    Py_XDECREF(books.last);
    return waiting;
}

/* complete(unsettled, locked, done, late): take out what was accepted since the last time; how
 * many receivers' deliveries wait now for `confirm`. */
static PyObject *
outlet_complete(Outlet *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4 || !PyDict_Check(args[0]) || !PyList_Check(args[2]) || !PyList_Check(args[3]))
        return PyErr_Format(PyExc_TypeError, "complete(dict, object, list, list)");
    Books books = {args[0], args[1], args[2], args[3], NULL, 0, 0};
    Py_ssize_t waiting = outlet_complete_with(self, books);
    return waiting < 0 ? NULL : PyLong_FromSsize_t(waiting);
}

/* Settle a delivery with an outcome; nothing when the link has been left. */
static int
answer(Outlet *self, uint32_t id, const uint8_t *outcome, size_t size)
{
    if (!self->ends || self->ends->is_closed)
        return 0;
    return answers_add(&self->ends->answers, self->channel, id, outcome, size);
}

int
outlet_confirm_first(Outlet *self, PyObject *number)
{
    size_t count = PyLong_AsSize_t(number);
    if (count == (size_t)-1 && PyErr_Occurred())
        return -1;
    if (count > self->waiting.count)
        count = self->waiting.count; /* the link has been left meanwhile */
    for (size_t i = 0; i < count; i++)
        if (answer(self, self->waiting.items[i].id, ACCEPTED, sizeof ACCEPTED) < 0)
            return -1;
    open_list_shift(&self->waiting, count);
    return 0;
}

/* confirm(count): tell the first of those that wait that they are accepted. */
static PyObject *
outlet_confirm(Outlet *self, PyObject *number)
{
    if (outlet_confirm_first(self, number) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* answer(ids, outcome): settle deliveries with an encoded outcome. */
static PyObject *
outlet_answer(Outlet *self, PyObject *args)
{
    PyObject *ids, *outcome;
    if (!PyArg_ParseTuple(args, "O!S", &PyList_Type, &ids, &outcome))
        return NULL;
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(outcome);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(ids); i++) {
        unsigned long id = PyLong_AsUnsignedLong(PyList_GET_ITEM(ids, i));
        if ((id == (unsigned long)-1 && PyErr_Occurred()) ||
            answer(self, (uint32_t)id, bytes, (size_t)PyBytes_GET_SIZE(outcome)) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* Append (serial, [seq, ...]) for each run of the same serial; -1 with an exception set. */
static int
add_runs(PyObject *runs, const OpenList *list)
{
    PyObject *seqs = NULL; /* borrowed from the last run */
    for (size_t i = 0; i < list->count; i++) {
        const Open *open = list->items + i;
        if (!seqs || open->serial != open[-1].serial) {
            PyObject *run = Py_BuildValue("(K[])", (unsigned long long)open->serial);
            int failed = run ? PyList_Append(runs, run) : -1;
            seqs = failed ? NULL : PyTuple_GET_ITEM(run, 1);
            Py_XDECREF(run);
            if (failed)
                return -1;
        }
        PyObject *seq = PyLong_FromUnsignedLongLong(open->seq);
        int failed = seq ? PyList_Append(seqs, seq) : -1;
        Py_XDECREF(seq);
        if (failed)
            return -1;
    }
    return 0;
}

/* The delivery-ids of a list. */
static PyObject *
ids_of(const OpenList *list)
{
    PyObject *ids = PyList_New((Py_ssize_t)list->count);
    for (size_t i = 0; ids && i < list->count; i++) {
        PyObject *id = PyLong_FromUnsignedLong(list->items[i].id);
        if (!id)
            Py_CLEAR(ids);
        else
            PyList_SET_ITEM(ids, (Py_ssize_t)i, id);
    }
    return ids;
}

/* take(): None, or (runs, echo) of what was accepted since the last time, for who looks up the
 * locks by himself: runs of messages under one lock each, and those deliveries among them that wait
 * for our outcome, in order. */
static PyObject *
outlet_take(Outlet *self, PyObject *Py_UNUSED(none))
{
    self->noted = 0;
    if (!self->accepted.count && !self->echo.count)
        Py_RETURN_NONE;
    open_list_sort(&self->echo);
    PyObject *runs = PyList_New(0), *echo = ids_of(&self->echo), *taken = NULL;
    if (runs && echo && add_runs(runs, &self->accepted) == 0 && add_runs(runs, &self->echo) == 0)
        taken = PyTuple_Pack(2, runs, echo);
    if (taken) {
        open_list_shift(&self->accepted, self->accepted.count);
        open_list_shift(&self->echo, self->echo.count);
    }
    Py_XDECREF(runs);
    Py_XDECREF(echo);
    return taken;
}

/* clear(): forget all deliveries. */
static PyObject *
outlet_clear(Outlet *self, PyObject *Py_UNUSED(none))
{
    forget_all(self);
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
    return PyLong_FromLong(outlet_allowance_of(self, bytes_max));
}

static PyObject *
outlet_draining(Outlet *self, PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(proton.link_get_drain(self->link));
}

static Py_ssize_t
outlet_length(Outlet *self)
{
    size_t written = self->ends ? traffic_count(self->ends, self->line) : 0;
    size_t entered = self->pending.is_entered && written;
    return (Py_ssize_t)(self->pending.count - entered + written);
}

static PyMethodDef outlet_methods[] = {
    {"send", (PyCFunction)outlet_send, METH_VARARGS, "Send messages of one batch."},
    {"send_one", (PyCFunction)outlet_send_one, METH_VARARGS, "Send an encoded message."},
    {"complete", (PyCFunction)(void (*)(void))outlet_complete, METH_FASTCALL,
     "Take out what was accepted."},
    {"take", (PyCFunction)outlet_take, METH_NOARGS, "What was accepted since the last time."},
    {"confirm", (PyCFunction)outlet_confirm, METH_O, "Tell who waits that it is accepted."},
    {"allowance", (PyCFunction)outlet_allowance, METH_O, "Credit that may be used up."},
    {"answer", (PyCFunction)outlet_answer, METH_VARARGS, "Settle deliveries."},
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
