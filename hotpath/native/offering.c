/* What a batch has matched, on its way to receivers: queued in memory, and these woken. */
#include "names.h"

#include "layout.h"

/* Waker: what a subscription calls when there may be something for a link end. */
typedef struct {
    PyObject_HEAD
    PyObject *end, *pumps, *host;
    vectorcallfunc call;
} Waker;

/* Let a link end send at the next flush of its connection; -1 with an exception set. */
static int
ring(Waker *self)
{
    if (!IS_A(self->end, egress) || !IS_A(self->pumps, pumps)) {
        PyErr_SetString(PyExc_TypeError, "a receiving link and its connection's pumps expected");
        return -1;
    }
    if (SLOT(self->end, layout.egress.gone) != Py_False)
        return 0;
    if (!slot_set(self->end, layout.egress.maybe_more, Py_True))
        return -1;
    PyObject *due = SLOT(self->pumps, layout.pumps.due);
    if (!PyDict_CheckExact(due) || PyDict_SetItem(due, self->end, Py_None) < 0)
        return -1;
    if (SLOT(self->pumps, layout.pumps.is_marked) == Py_True)
        return 0;
    PyObject *none = PyObject_CallMethodNoArgs(self->host, names.mark);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

static PyObject *
waker_call(PyObject *self, PyObject *const *Py_UNUSED(args), size_t nargs, PyObject *names)
{
    if (PyVectorcall_NARGS(nargs) || (names && PyTuple_GET_SIZE(names)))
        return PyErr_Format(PyExc_TypeError, "a waker takes no arguments");
    if (ring((Waker *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Waker(end, pumps, host) */
static PyObject *
waker_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *end, *pumps, *host;
    if (!PyArg_ParseTuple(args, "OOO", &end, &pumps, &host))
        return NULL;
    Waker *self = (Waker *)type->tp_alloc(type, 0);
    if (self) {
        self->end = Py_NewRef(end);
        self->pumps = Py_NewRef(pumps);
        self->host = Py_NewRef(host);
        self->call = waker_call;
    }
    return (PyObject *)self;
}

static int
waker_traverse(Waker *self, visitproc visit, void *arg)
{
    Py_VISIT(self->end);
    Py_VISIT(self->pumps);
    Py_VISIT(self->host);
    return 0;
}

static int
waker_clear(Waker *self)
{
    Py_CLEAR(self->end);
    Py_CLEAR(self->pumps);
    Py_CLEAR(self->host);
    return 0;
}

static void
waker_dealloc(Waker *self)
{
    PyObject_GC_UnTrack(self);
    waker_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

PyTypeObject WakerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "hotpath.native._native.Waker",
    .tp_basicsize = sizeof(Waker),
    .tp_dealloc = (destructor)waker_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Waker, call),
    .tp_call = PyVectorcall_Call,
    .tp_doc = "Lets a link end send at the next flush of its connection.",
    .tp_traverse = (traverseproc)waker_traverse,
    .tp_clear = (inquiry)waker_clear,
    .tp_new = waker_new,
};

/* Routing */

/* Add a message to what a subscription gets; -1 with an exception set. */
static int
add_hit(PyObject *hits, PyObject *subscription, PyObject *seq)
{
    PyObject *seqs = PyDict_GetItemWithError(hits, subscription);
    if (seqs)
        return PyList_Append(seqs, seq);
    if (PyErr_Occurred() || !(seqs = PyList_New(1)))
        return -1;
    PyList_SET_ITEM(seqs, 0, Py_NewRef(seq));
    int result = PyDict_SetItem(hits, subscription, seqs);
    Py_DECREF(seqs);
    return result;
}

/* Add a message to what all of an iterable get; -1 with an exception set. */
static int
add_hits(PyObject *hits, PyObject *found, PyObject *seq)
{
    PyObject *each = found && seq ? PyObject_GetIter(found) : NULL, *subscription;
    if (!each)
        return -1;
    int result = 0;
    while (result == 0 && (subscription = PyIter_Next(each))) {
        result = add_hit(hits, subscription, seq);
        Py_DECREF(subscription);
    }
    Py_DECREF(each);
    return PyErr_Occurred() ? -1 : result;
}

/* route_all(pulled, first_seq, match): which subscriptions get which messages of a batch. */
PyObject *
route_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *pulled, *match;
    unsigned long long seq;
    if (!PyArg_ParseTuple(args, "O!KO", &PyList_Type, &pulled, &seq, &match))
        return NULL;
    PyObject *hits = PyDict_New();
    for (Py_ssize_t i = 0; hits && i < PyList_GET_SIZE(pulled); i++, seq++) {
        PyObject *message = Py_NewRef(PyList_GET_ITEM(pulled, i));
        PyObject *found = PyObject_CallOneArg(match, message);
        PyObject *number = found ? PyLong_FromUnsignedLongLong(seq) : NULL;
        if (add_hits(hits, found, number) < 0)
            Py_CLEAR(hits);
        Py_XDECREF(number);
        Py_XDECREF(found);
        Py_DECREF(message);
    }
    return hits;
}

/* Offering */

typedef struct {
    PyObject *batch, *behind, *touch, *wake;
    PyObject *active;        /* service time now */
    long long active_ms, mark_ms; /* activity becomes durable when the durable one is so old */
} Offer;

/* Queue a run; -1 with an exception set. */
static int
add_run(PyObject *subscription, PyObject *seqs, const Offer *offer)
{
    PyObject *ready = SLOT(subscription, layout.subscription.ready);
    if (ready == layout.no_runs) {
        ready = PyObject_CallNoArgs((PyObject *)Py_TYPE(ready));
        if (!slot_take(subscription, layout.subscription.ready, ready))
            return -1;
    }
    PyObject *run = layout.run.type->tp_alloc(layout.run.type, 0);
    PyObject *start = run ? PyLong_FromLong(0) : NULL;
    if (!start) {
        Py_XDECREF(run);
        return -1;
    }
    SLOT(run, layout.run.batch) = Py_NewRef(offer->batch);
    SLOT(run, layout.run.seqs) = Py_NewRef(seqs);
    SLOT(run, layout.run.start) = start;
    PyObject *none = call_method(ready, names.append, run);
    Py_DECREF(run);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

/* As `Subscription.offer`. */
static bool
offer_run(PyObject *subscription, PyObject *seqs, const Offer *offer)
{
    const SubscriptionLayout *at = &layout.subscription;
    Py_ssize_t count = PyList_GET_SIZE(seqs);
    if (!slot_add(subscription, at->matched_total, count))
        return false;
    bool is_behind = SLOT(subscription, at->behind_at) != Py_None;
    if (!is_behind) {
        long long ready = slot_number(subscription, at->ready_count);
        long long most = slot_number(subscription, at->ready_max);
        if (PyErr_Occurred())
            return false;
        if (ready < most)
            return add_run(subscription, seqs, offer) == 0 &&
                   slot_add(subscription, at->ready_count, count);
        PyObject *first = SLOT(offer->batch, layout.batch.first_seq);
        if (!slot_set(subscription, at->behind_at, first))
            return false;
    }
    return slot_set(subscription, at->changed_since_snapshot, Py_True) &&
           PySet_Add(offer->behind, subscription) == 0;
}

/* As `Liveness.touch`. */
static bool
touch(PyObject *subscription, const Offer *offer)
{
    const SubscriptionLayout *at = &layout.subscription;
    long long durable = slot_number(subscription, at->persisted_active_ms);
    if (durable == -1 && PyErr_Occurred())
        return false;
    if (offer->active_ms - durable < offer->mark_ms)
        return slot_set(subscription, at->active_ms, offer->active);
    PyObject *none = PyObject_CallOneArg(offer->touch, subscription);
    Py_XDECREF(none);
    return none;
}

/* As `Delivering.wake`. */
static bool
wake(PyObject *subscription, PyObject *Py_UNUSED(seqs), const Offer *offer)
{
    PyObject *only = SLOT(subscription, layout.subscription.only);
    if (IS_A(only, receiver)) {
        PyObject *waker = SLOT(only, layout.receiver.wake);
        if (Py_IS_TYPE(waker, &WakerType) && ring((Waker *)waker) == 0)
            return true;
        PyErr_Clear(); /* it is told, and logged, where all are woken */
    } else if (slot_number(subscription, layout.subscription.receivers) == 0) {
        return true;
    }
    PyObject *none = PyObject_CallOneArg(offer->wake, subscription);
    Py_XDECREF(none);
    return none;
}

static bool
is_offerable(PyObject *hits)
{
    PyObject *subscription, *seqs;
    Py_ssize_t pos = 0;
    while (PyDict_Next(hits, &pos, &subscription, &seqs))
        if (!IS_A(subscription, subscription) || !PyList_CheckExact(seqs)) {
            PyErr_SetString(PyExc_TypeError, "lists of numbers by subscription expected");
            return false;
        }
    return true;
}

typedef bool (*Step)(PyObject *subscription, PyObject *seqs, const Offer *offer);

static bool
offer_one(PyObject *subscription, PyObject *seqs, const Offer *offer)
{
    return offer_run(subscription, seqs, offer) && touch(subscription, offer);
}

/* What is called may do anything, but nobody else knows of `hits`. */
static bool
for_each(PyObject *hits, Step step, const Offer *offer)
{
    PyObject *subscription, *seqs;
    Py_ssize_t pos = 0;
    while (PyDict_Next(hits, &pos, &subscription, &seqs))
        if (!step(subscription, seqs, offer))
            return false;
    return true;
}

/* offer_all(hits, batch, behind, active_ms, mark_ms, touch, wake): queue what matched, and wake. */
PyObject *
offer_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *hits;
    Offer offer;
    if (!PyArg_ParseTuple(args, "O!OO!O!LOO", &PyDict_Type, &hits, &offer.batch, &PySet_Type,
                          &offer.behind, &PyLong_Type, &offer.active, &offer.mark_ms,
                          &offer.touch, &offer.wake))
        return NULL;
    offer.active_ms = PyLong_AsLongLong(offer.active);
    if (offer.active_ms == -1 && PyErr_Occurred())
        return NULL;
    if (!IS_A(offer.batch, batch) || !layout.run.type)
        return PyErr_Format(PyExc_TypeError, "a batch expected");
    if (!is_offerable(hits) || !for_each(hits, offer_one, &offer) ||
        !for_each(hits, wake, &offer))
        return NULL;
    Py_RETURN_NONE;
}
