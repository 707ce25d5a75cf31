/* The usual way of messages out of subscriptions: locked, and sent on the links of a connection.
 *
 * What `Egress._pump_runs` and `Subscription.take_run` do in Python, for all links that are due. A
 * link end or a subscription about which there is anything else to be thought of is left to them:
 * nothing of it has changed then.
 */
#include "ends.h"
#include "layout.h"
#include "names.h"

/* Messages pulled at once, as in hotpath/amqp/egress.py. */
#define PULL_MAX 512
/* As in `egress.py`: no more is locked at once than there may be room for. */
#define SMALL_BYTES 256
/* Holdings up to which nobody looks for ended ones among them, as in hotpath/core/locks.py. */
#define EXPIRING_MIN 64

/* What all links of a flush have in common. */
typedef struct {
    PyObject *moment;  /* knows what stands before messages */
    PyObject *counted; /* dict: metric to deliveries */
    long long now_ms, ticks_ms;
    PyObject *metric; /* that was counted last, and how many are not in `counted` yet */
    long long uncounted;
    PyObject *opening; /* what was written last, for which batch and lock end */
    PyObject *batch;
    long long until_ms;
} Flush;

/* One link that is due. */
typedef struct {
    PyObject *end, *receiver, *subscription, *locks;
    Outlet *outlet;
} Way;

/* What is locked of a run: messages from `start` on, and how many stay behind them. */
typedef struct {
    Py_ssize_t start, count, left;
} Part;

static int
count_deliveries(Flush *flush)
{
    if (!flush->uncounted)
        return 0;
    PyObject *before = PyDict_GetItemWithError(flush->counted, flush->metric);
    if (!before && PyErr_Occurred())
        return -1;
    long long number = before ? PyLong_AsLongLong(before) : 0;
    PyObject *sum = PyLong_FromLongLong(number + flush->uncounted);
    int result = sum ? PyDict_SetItem(flush->counted, flush->metric, sum) : -1;
    Py_XDECREF(sum);
    flush->uncounted = 0;
    return result;
}

static int
note_deliveries(Flush *flush, PyObject *metric, Py_ssize_t count)
{
    if (metric != flush->metric) {
        if (count_deliveries(flush) < 0)
            return -1;
        Py_XSETREF(flush->metric, Py_NewRef(metric));
    }
    flush->uncounted += count;
    return 0;
}

/* Whether a link end is one whose messages may go this way. */
static bool
find_way(PyObject *end, const Flush *flush, Way *way)
{
    const EgressLayout *at = &layout.egress;
    if (!IS_A(end, egress) || SLOT(end, at->gone) != Py_False ||
        SLOT(end, at->is_usual) != Py_True || PyObject_Size(SLOT(end, at->unsent)) != 0)
        return false;
    PyObject *right = SLOT(end, at->right), *twin = SLOT(end, at->twin);
    way->receiver = SLOT(end, at->receiver);
    if (!IS_A(right, right) || !IS_A(way->receiver, receiver) || !outlet_is(twin) ||
        SLOT(way->receiver, layout.receiver.asked) != Py_False)
        return false; /* one of many that were woken: that it has come is to be noted */
    PyObject *until = SLOT(right, layout.right.until_ms);
    if (until != Py_None && flush->now_ms >= PyLong_AsLongLong(until))
        return false;
    way->end = end;
    way->outlet = (Outlet *)twin;
    way->subscription = SLOT(way->receiver, layout.receiver.subscription);
    if (!IS_A(way->subscription, subscription) ||
        SLOT(way->receiver, layout.receiver.feed) != way->subscription ||
        SLOT(way->subscription, layout.subscription.deleted) != Py_False)
        return false;
    way->locks = SLOT(way->subscription, layout.subscription.locks);
    return IS_A(way->locks, locks) && SLOT(way->locks, layout.locks.watched) == Py_True;
}

/* The first of a queue as a new reference; NULL when it is empty, or with an exception set. */
static PyObject *
first_of(PyObject *queue)
{
    return PyObject_Size(queue) > 0 ? PySequence_GetItem(queue, 0) : NULL;
}

static int
drop_first(PyObject *queue)
{
    PyObject *first = PyObject_CallMethodNoArgs(queue, names.popleft);
    Py_XDECREF(first);
    return first ? 0 : -1;
}

/* As `LockTable._still_locked`: how many messages of a holding are still under it, -1 with an
 * exception set; the others are forgotten. */
static Py_ssize_t
still_locked(PyObject *unsettled, PyObject *holding, PyObject *seqs)
{
    PyObject *left = PyList_New(0);
    for (Py_ssize_t i = 0; left && i < PySequence_Fast_GET_SIZE(seqs); i++) {
        PyObject *seq = PySequence_Fast_GET_ITEM(seqs, i);
        PyObject *held = PyDict_GetItemWithError(unsettled, seq);
        if (held == holding ? PyList_Append(left, seq) < 0 : !held && PyErr_Occurred())
            Py_CLEAR(left);
    }
    Py_ssize_t count = left ? PyList_GET_SIZE(left) : -1;
    return slot_take(holding, layout.holding.seqs, left) ? count : -1;
}

/* Whether a holding has nothing left: 1, 0, or -1 with an exception set. */
static int
has_ended(PyObject *locks, PyObject *holding)
{
    if (!IS_A(holding, holding))
        return 0;
    PyObject *seqs = SLOT(holding, layout.holding.seqs);
    PyObject *unsettled = SLOT(locks, layout.locks.unsettled);
    if (!(PyList_CheckExact(seqs) || PyTuple_CheckExact(seqs)) || !PyDict_CheckExact(unsettled))
        return 0;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(seqs);
    if (!count)
        return 1;
    /* Mostly the last message of a holding is the last one to be settled. */
    PyObject *held = PyDict_GetItemWithError(unsettled, PySequence_Fast_GET_ITEM(seqs, count - 1));
    if (held == holding)
        return 0;
    if (!held && PyErr_Occurred())
        return -1;
    Py_ssize_t left = count == 1 ? 0 : still_locked(unsettled, holding, seqs);
    return left < 0 ? -1 : !left;
}

/* As the beginning of `LockTable._new_lock`: 1 when a lock may be added, 0 when that is to be
 * looked at, -1 with an exception set. */
static int
make_room(PyObject *locks)
{
    PyObject *expiring = SLOT(locks, layout.locks.expiring), *first;
    if (expiring == layout.no_holdings || SLOT(locks, layout.locks.lock_ms) == Py_None)
        return 0;
    int ended = 1;
    while (ended > 0 && (first = first_of(expiring))) {
        ended = has_ended(locks, first);
        Py_DECREF(first);
        if (ended > 0 && drop_first(expiring) < 0)
            return -1;
    }
    if (ended < 0 || PyErr_Occurred())
        return -1;
    Py_ssize_t count = PyObject_Size(expiring);
    return count < EXPIRING_MIN || count < 2 * slot_number(locks, layout.locks.locked);
}

/* Whether a run, or what credit allows of it, can be locked: see `Subscription.take_run`. */
static bool
is_usual(const Way *way, PyObject *run, Py_ssize_t limit, Part *part)
{
    const SubscriptionLayout *at = &layout.subscription;
    PyObject *subscription = way->subscription, *seqs = SLOT(run, layout.run.seqs);
    PyObject *batch = SLOT(run, layout.run.batch);
    if (!PyList_CheckExact(seqs) || !IS_A(batch, batch))
        return false;
    Py_ssize_t start = (Py_ssize_t)slot_number(run, layout.run.start);
    Py_ssize_t rest = PyList_GET_SIZE(seqs) - start, count = rest < limit ? rest : limit;
    PyObject *payloads = SLOT(batch, layout.batch.payloads);
    *part = (Part){start, count, rest - count};
    if (start < 0 || count < 1 || !slot_is_empty(way->locks, layout.locks.returned) ||
        SLOT(subscription, at->missing) != Py_None ||
        SLOT(subscription, at->behind_at) != Py_None ||
        SLOT(batch, layout.batch.lasting) != Py_True ||
        !(PyList_CheckExact(payloads) || PyTuple_CheckExact(payloads)))
        return false;
    PyObject *unsettled = SLOT(way->locks, layout.locks.unsettled);
    return PyDict_CheckExact(unsettled) &&
           PyDict_GET_SIZE(unsettled) + count <= slot_number(subscription, at->locks_max) &&
           PyLong_AsLongLong(PyList_GET_ITEM(seqs, start)) >=
               slot_number(subscription, at->resumed_history_end);
}

/* The messages of a part as a new reference; NULL with an exception set. */
static PyObject *
seqs_of(PyObject *run, Part part)
{
    PyObject *seqs = SLOT(run, layout.run.seqs);
    bool is_whole = part.count == PyList_GET_SIZE(seqs);
    return is_whole ? Py_NewRef(seqs) : PyList_GetSlice(seqs, part.start, part.start + part.count);
}

/* A lock on a part of a run, which no table knows yet; NULL with an exception set. */
static PyObject *
new_holding(const Way *way, PyObject *run, Part part, const Flush *flush, long long *until_ms)
{
    const HoldingLayout *at = &layout.holding;
    long long serial = slot_number(way->locks, layout.locks.serial) + 1;
    *until_ms = flush->ticks_ms + slot_number(way->locks, layout.locks.lock_ms);
    if (PyErr_Occurred() || !at->type)
        return NULL;
    PyObject *holding = at->type->tp_alloc(at->type, 0);
    PyObject *number = PyLong_FromLongLong(serial), *until = PyLong_FromLongLong(*until_ms);
    PyObject *seqs = seqs_of(run, part);
    if (!holding || !seqs || !number || !until) {
        Py_XDECREF(holding);
        Py_XDECREF(seqs);
        Py_XDECREF(number);
        Py_XDECREF(until);
        return NULL;
    }
    SLOT(holding, at->batch) = Py_NewRef(SLOT(run, layout.run.batch));
    SLOT(holding, at->state) = Py_NewRef(layout.locked);
    SLOT(holding, at->receiver) = Py_NewRef(way->receiver);
    SLOT(holding, at->serial) = number;
    SLOT(holding, at->until_ms) = until;
    SLOT(holding, at->seqs) = seqs;
    SLOT(holding, at->was_deferred) = Py_NewRef(Py_False);
    slot_set(way->locks, layout.locks.serial, number);
    return holding;
}

/* Take a part out of its run, or the run out of the queue when it was the last one. */
static bool
leave_run(PyObject *ready, PyObject *run, Part part)
{
    if (!part.left)
        return drop_first(ready) == 0;
    return slot_take(run, layout.run.start, PyLong_FromSsize_t(part.start + part.count));
}

/* Put a lock into its table. */
static bool
enter(const Way *way, PyObject *holding)
{
    PyObject *seqs = SLOT(holding, layout.holding.seqs);
    PyObject *unsettled = SLOT(way->locks, layout.locks.unsettled);
    Py_ssize_t count = PyList_GET_SIZE(seqs);
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyDict_SetItem(unsettled, PyList_GET_ITEM(seqs, i), holding) < 0)
            return false;
    PyObject *none = call_method(SLOT(way->locks, layout.locks.expiring), names.append, holding);
    Py_XDECREF(none);
    return none && slot_add(way->locks, layout.locks.locked, count) &&
           slot_add(way->subscription, layout.subscription.ready_count, -count) &&
           slot_add(way->subscription, layout.subscription.delivered_total, count);
}

/* Lock what credit allows of the next batch: 1 with `holding`, 0 nothing has changed, -1. */
static int
take_run(const Way *way, const Flush *flush, Py_ssize_t limit, PyObject **holding,
         long long *until_ms)
{
    PyObject *ready = SLOT(way->subscription, layout.subscription.ready), *run = first_of(ready);
    if (!run)
        return PyErr_Occurred() ? -1 : 0;
    int result = 0;
    Part part;
    if (IS_A(run, run) && is_usual(way, run, limit, &part) && !PyErr_Occurred())
        result = make_room(way->locks);
    if (result > 0) {
        *holding = new_holding(way, run, part, flush, until_ms);
        if (!*holding || !leave_run(ready, run, part) || !enter(way, *holding)) {
            Py_CLEAR(*holding);
            result = -1;
        }
    }
    Py_DECREF(run);
    return PyErr_Occurred() ? -1 : result;
}

/* What stands before the sequence number; borrowed, NULL with an exception set. */
static PyObject *
opening_for(Flush *flush, PyObject *batch, PyObject *until, long long until_ms)
{
    if (batch != flush->batch || until_ms != flush->until_ms || !flush->opening) {
        PyObject *enqueued = SLOT(batch, layout.batch.enqueued_ms);
        PyObject *given[] = {flush->moment, enqueued, until};
        PyObject *opening = PyObject_VectorcallMethod(
            names.opening, given, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (!opening || !PyBytes_CheckExact(opening)) {
            Py_XDECREF(opening);
            return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "bytes expected");
        }
        Py_XSETREF(flush->opening, opening);
        Py_XSETREF(flush->batch, Py_NewRef(batch));
        flush->until_ms = until_ms;
    }
    return flush->opening;
}

/* Send what was locked; bytes, -1 with an exception set. What is left waits in the link end. */
static Py_ssize_t
send_holding(const Way *way, Flush *flush, PyObject *holding, long long until_ms, Py_ssize_t room)
{
    PyObject *batch = SLOT(holding, layout.holding.batch);
    PyObject *until = SLOT(holding, layout.holding.until_ms);
    PyObject *opening = opening_for(flush, batch, until, until_ms);
    if (!opening)
        return -1;
    Run run = {.opening = opening, .room = room,
               .seqs = SLOT(holding, layout.holding.seqs),
               .payloads = SLOT(batch, layout.batch.payloads),
               .first_seq = (unsigned long long)slot_number(batch, layout.batch.first_seq),
               .serial = (unsigned long long)slot_number(holding, layout.holding.serial)};
    Py_ssize_t sent = outlet_send_run(way->outlet, &run);
    if (sent < 0 || run.at == PyList_GET_SIZE(run.seqs))
        return sent;
    PyObject *more = PyObject_CallMethod(way->end, "keep_unsent", "Onn", holding, run.at,
                                         room - sent);
    Py_ssize_t size = more ? PyLong_AsSsize_t(more) : -1;
    Py_XDECREF(more);
    return size < 0 ? -1 : sent + size;
}

/* Whether there may be more to take: 1, 0, or -1 with an exception set. */
static int
has_more(const Way *way)
{
    if (SLOT(way->subscription, layout.subscription.behind_at) == Py_None &&
        slot_number(way->subscription, layout.subscription.ready_count) == 0 &&
        slot_is_empty(way->locks, layout.locks.returned))
        return 0;
    PyObject *more = PyObject_CallMethodNoArgs(way->subscription, names.has_more);
    int result = more ? PyObject_IsTrue(more) : -1;
    Py_XDECREF(more);
    return result;
}

/* Nothing goes out until there is credit again, of which the link end will hear. */
static bool
await_credit(const Way *way)
{
    way->outlet->credit_seen = 0;
    way->outlet->unsent = 0;
    return slot_set(way->end, layout.egress.maybe_more, Py_False);
}

/* As `Egress._pump_runs`: 1 with the bytes that were sent, 0 when nothing has changed, -1 with an
 * exception set. */
static int
pump_usual(const Way *way, Flush *flush, Py_ssize_t room, Py_ssize_t *sent)
{
    size_t window = PyLong_AsSize_t(SLOT(way->end, layout.egress.window_bytes));
    PyObject *unsent = SLOT(way->end, layout.egress.unsent), *holding = NULL;
    Py_ssize_t limit = outlet_allowance_of(way->outlet, window);
    long long until_ms;
    int taken = 0;
    *sent = 0;
    if (limit == 0)
        return await_credit(way) ? 1 : -1;
    limit = limit < PULL_MAX ? limit : PULL_MAX;
    if (limit > 1 + room / SMALL_BYTES)
        limit = 1 + room / SMALL_BYTES;
    while (limit > 0 && *sent < room &&
           (taken = take_run(way, flush, limit, &holding, &until_ms)) > 0) {
        Py_ssize_t count = PyList_GET_SIZE(SLOT(holding, layout.holding.seqs));
        Py_ssize_t size = -1;
        limit -= count;
        if (note_deliveries(flush, SLOT(way->receiver, layout.receiver.delivered), count) == 0)
            size = send_holding(way, flush, holding, until_ms, room - *sent);
        Py_CLEAR(holding);
        if (size < 0)
            return -1;
        *sent += size;
        if (PyObject_Size(unsent) ||
            slot_number(way->subscription, layout.subscription.ready_count) == 0)
            break;
    }
    if (taken < 0 || !*sent)
        return taken < 0 ? -1 : 0;
    int more = has_more(way);
    if (more < 0 || !slot_set(way->end, layout.egress.maybe_more, more ? Py_True : Py_False))
        return -1;
    return 1;
}

/* Let one link end send; bytes, -1 with an exception set. */
static Py_ssize_t
pump(PyObject *end, Flush *flush, Py_ssize_t room)
{
    Way way;
    if (find_way(end, flush, &way)) {
        Py_ssize_t sent;
        int done = pump_usual(&way, flush, room, &sent);
        if (done)
            return done < 0 ? -1 : sent;
    }
    if (PyErr_Occurred())
        return -1;
    PyObject *number = PyLong_FromSsize_t(room);
    PyObject *sent = number ? call_method(end, names.pump, number) : NULL;
    Py_ssize_t size = sent ? PyLong_AsSsize_t(sent) : -1;
    Py_XDECREF(number);
    Py_XDECREF(sent);
    return size == -1 && !PyErr_Occurred() ? 0 : size;
}

/* Whether another pump may send more: 1, 0, or -1 with an exception set. */
static int
wants_more(PyObject *end)
{
    if (IS_A(end, egress)) {
        if (SLOT(end, layout.egress.gone) != Py_False)
            return 0;
        return SLOT(end, layout.egress.maybe_more) == Py_True ||
               PyObject_Size(SLOT(end, layout.egress.unsent)) > 0;
    }
    PyObject *more = PyObject_GetAttr(end, names.has_more);
    int result = more ? PyObject_IsTrue(more) : -1;
    Py_XDECREF(more);
    return result;
}

/* Let all that are due send; the room that is left in `room`. */
static bool
pump_each(PyObject *due, Flush *flush, PyObject *again, PyObject *after_read, Py_ssize_t *room)
{
    PyObject *end, *none;
    Py_ssize_t pos = 0;
    while (PyDict_Next(due, &pos, &end, &none)) {
        Py_ssize_t sent = *room > 0 ? pump(end, flush, *room) : 0;
        if (sent < 0 && PyErr_Occurred())
            return false;
        *room -= sent;
        int more = wants_more(end);
        if (more > 0)
            more = !PyDict_Contains(after_read, end);
        if (more < 0 || PyErr_Occurred() || (more && PyDict_SetItem(again, end, Py_None) < 0))
            return false;
    }
    return true;
}

/* pump_all(due, again, after_read, room, moment, counted): see `Pumps.run`; the room that is left.
 * Nobody else changes `due`. */
PyObject *
pump_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *due, *again, *after_read;
    Py_ssize_t room;
    Flush flush = {0};
    if (!PyArg_ParseTuple(args, "O!O!O!nOLLO!", &PyDict_Type, &due, &PyDict_Type, &again,
                          &PyDict_Type, &after_read, &room, &flush.moment, &flush.now_ms,
                          &flush.ticks_ms, &PyDict_Type, &flush.counted))
        return NULL;
    bool is_done = pump_each(due, &flush, again, after_read, &room);
    if (is_done)
        is_done = count_deliveries(&flush) == 0;
    Py_XDECREF(flush.metric);
    Py_XDECREF(flush.opening);
    Py_XDECREF(flush.batch);
    return is_done ? PyLong_FromSsize_t(room) : NULL;
}
