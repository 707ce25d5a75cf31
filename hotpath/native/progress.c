/* The usual change of a subscription's progress: a cursor and two counts. */
#include "layout.h"
#include "names.h"

#include <string.h>

enum { CURSOR, SETTLED, COUNTS, DEFERRED, ACTIVE, SETTLED_TOTAL, DELIVERED_TOTAL, MODIFIED, FIELDS };

/* Collecting */

/* Whether there is nothing to be told but what is settled. */
static bool
is_usual(PyObject *subscription)
{
    if (!IS_A(subscription, subscription) || !layout.delta ||
        SLOT(subscription, layout.subscription.deleted) != Py_False)
        return false;
    PyObject *locks = SLOT(subscription, layout.subscription.locks);
    PyObject *spec = SLOT(subscription, layout.subscription.spec);
    return IS_A(spec, spec) && IS_A(locks, locks) &&
           PyDict_CheckExact(SLOT(locks, layout.locks.unsettled)) &&
           PyList_CheckExact(SLOT(subscription, layout.subscription.settled_since)) &&
           slot_is_empty(locks, layout.locks.early) &&
           slot_is_empty(locks, layout.locks.changed_counts) &&
           slot_is_empty(locks, layout.locks.changed_deferred) &&
           slot_is_empty(locks, layout.locks.changed_modified);
}

/* The first number that was never taken, as `Subscription._horizon`: 1, 0 when Python must find it
 * out, -1 with an exception set. */
static int
find_horizon(PyObject *subscription, long long routed_to, long long *horizon)
{
    PyObject *ready = SLOT(subscription, layout.subscription.ready);
    Py_ssize_t runs = PyObject_Size(ready);
    if (runs < 0)
        return -1;
    if (runs == 0) {
        bool is_live = SLOT(subscription, layout.subscription.behind_at) == Py_None;
        *horizon = is_live ? routed_to
                           : slot_number(subscription, layout.subscription.behind_at);
        return PyErr_Occurred() ? -1 : 1;
    }
    PyObject *run = PySequence_GetItem(ready, 0);
    if (!run)
        return -1;
    int result = 0;
    if (IS_A(run, run) && PyList_CheckExact(SLOT(run, layout.run.seqs))) {
        PyObject *seqs = SLOT(run, layout.run.seqs);
        long long start = slot_number(run, layout.run.start);
        if (start >= 0 && start < PyList_GET_SIZE(seqs)) {
            *horizon = PyLong_AsLongLong(PyList_GET_ITEM(seqs, start));
            result = 1;
        }
    }
    Py_DECREF(run);
    return PyErr_Occurred() ? -1 : result;
}

/* As `Subscription.cursor`; results as above. */
static int
find_cursor(PyObject *subscription, long long routed_to, long long *cursor)
{
    PyObject *locks = SLOT(subscription, layout.subscription.locks), *seq, *holding;
    int result = find_horizon(subscription, routed_to, cursor);
    Py_ssize_t pos = 0;
    if (result > 0 && PyDict_Next(SLOT(locks, layout.locks.unsettled), &pos, &seq, &holding)) {
        long long first = PyLong_AsLongLong(seq);
        if (first == -1 && PyErr_Occurred())
            return -1;
        *cursor = first < *cursor ? first : *cursor;
    }
    return result;
}

/* Those of a list that are not below a cursor, as a tuple. */
static PyObject *
beyond(PyObject *since, long long cursor)
{
    PyObject *found = NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(since); i++) {
        PyObject *seq = PyList_GET_ITEM(since, i);
        long long number = PyLong_AsLongLong(seq);
        if (number == -1 && PyErr_Occurred())
            goto failed;
        if (number < cursor)
            continue;
        if (!found && !(found = PyList_New(0)))
            return NULL;
        if (PyList_Append(found, seq) < 0)
            goto failed;
    }
    PyObject *tuple = found ? PyList_AsTuple(found) : PyTuple_New(0);
    Py_XDECREF(found);
    return tuple;
failed:
    Py_XDECREF(found);
    return NULL;
}

/* As `Subscription.collect_delta`; NULL with an exception set. */
static PyObject *
new_delta(PyObject *subscription, long long cursor)
{
    const SubscriptionLayout *at = &layout.subscription;
    PyObject *settled = beyond(SLOT(subscription, at->settled_since), cursor);
    PyObject *number = PyLong_FromLongLong(cursor), *none = PyTuple_New(0);
    PyObject *delta = layout.delta->tp_alloc(layout.delta, FIELDS);
    PyObject *since = SLOT(subscription, at->settled_since);
    if (!settled || !number || !none || !delta ||
        PyList_SetSlice(since, 0, PyList_GET_SIZE(since), NULL) < 0) {
        Py_XDECREF(settled);
        Py_XDECREF(number);
        Py_XDECREF(none);
        Py_XDECREF(delta);
        return NULL;
    }
    PyTuple_SET_ITEM(delta, CURSOR, number);
    PyTuple_SET_ITEM(delta, SETTLED, settled);
    PyTuple_SET_ITEM(delta, COUNTS, Py_NewRef(none));
    PyTuple_SET_ITEM(delta, DEFERRED, Py_NewRef(none));
    PyTuple_SET_ITEM(delta, ACTIVE, Py_NewRef(SLOT(subscription, at->persisted_active_ms)));
    PyTuple_SET_ITEM(delta, SETTLED_TOTAL, Py_NewRef(SLOT(subscription, at->settled_total)));
    PyTuple_SET_ITEM(delta, DELIVERED_TOTAL, Py_NewRef(SLOT(subscription, at->delivered_total)));
    PyTuple_SET_ITEM(delta, MODIFIED, none);
    PyObject_GC_UnTrack(delta); /* numbers, and tuples of numbers: no cycle goes through it */
    slot_set(subscription, at->changed_since_snapshot, Py_True);
    return delta;
}

/* Where the topic of a subscription stands; topics share their keys. */
typedef struct {
    PyObject *key, *ask;
    long long routed_to;
} Topic;

static int
look_up(Topic *topic, PyObject *subscription)
{
    PyObject *key = SLOT(subscription, layout.subscription.key);
    if (key == topic->key)
        return 0;
    PyObject *number = PyObject_CallOneArg(topic->ask, subscription);
    topic->routed_to = number ? PyLong_AsLongLong(number) : -1;
    Py_XDECREF(number);
    if (PyErr_Occurred())
        return -1;
    topic->key = key; /* borrowed: the subscriptions are all held */
    return 0;
}

/* Add what has changed of one: 1, 0 when Python is to do it, -1 with an exception set. */
static int
collect(PyObject *subscription, Topic *topic, PyObject *progress)
{
    long long cursor;
    if (!is_usual(subscription))
        return 0;
    int result = look_up(topic, subscription) < 0
                     ? -1 : find_cursor(subscription, topic->routed_to, &cursor);
    if (result <= 0)
        return result;
    PyObject *id = SLOT(SLOT(subscription, layout.subscription.spec), layout.spec.id);
    PyObject *delta = new_delta(subscription, cursor);
    PyObject *item = delta ? PyTuple_Pack(2, id, delta) : NULL;
    if (item)
        PyObject_GC_UnTrack(item);
    result = item ? PyList_Append(progress, item) : -1;
    Py_XDECREF(delta);
    Py_XDECREF(item);
    return result < 0 ? -1 : 1;
}

/* collect_all(touched, routed_to, progress): add what has changed of subscriptions; a list of those
 * of which Python is to do it. `routed_to` tells where the topic of one stands. */
PyObject *
collect_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *touched, *progress, *subscription, *none, *left = PyList_New(0);
    Topic topic = {0};
    Py_ssize_t pos = 0;
    int result = left ? 0 : -1;
    if (!PyArg_ParseTuple(args, "O!OO!", &PyDict_Type, &touched, &topic.ask, &PyList_Type,
                          &progress))
        result = -1;
    while (result >= 0 && PyDict_Next(touched, &pos, &subscription, &none)) {
        result = collect(subscription, &topic, progress);
        if (result == 0)
            result = PyList_Append(left, subscription);
    }
    if (result < 0)
        Py_CLEAR(left);
    return left;
}

/* Encoding: see hotpath/storage/encoding.py */

#define ENTRY_BYTES 47 /* <BHqqqqIII without padding */
#define NO_ACTIVITY (-1)

static uint8_t *
write_le(uint8_t *at, uint64_t value, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> (8 * i));
    return at + width;
}

/* Whether an item is (text, delta) with nothing but a cursor, counts and a few numbers. */
static bool
is_short(PyObject *item)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2 ||
        !PyUnicode_Check(PyTuple_GET_ITEM(item, 0)))
        return false;
    PyObject *delta = PyTuple_GET_ITEM(item, 1);
    if (!layout.delta || !Py_IS_TYPE(delta, layout.delta) || PyTuple_GET_SIZE(delta) != FIELDS)
        return false;
    static const int empty[] = {COUNTS, DEFERRED, MODIFIED};
    for (int i = 0; i < 3; i++) {
        PyObject *part = PyTuple_GET_ITEM(delta, empty[i]);
        if (!PyTuple_Check(part) || PyTuple_GET_SIZE(part))
            return false;
    }
    PyObject *settled = PyTuple_GET_ITEM(delta, SETTLED);
    return PyTuple_Check(settled) && PyTuple_GET_SIZE(settled) < 1 << 16;
}

/* One entry as bytes; NULL with an exception set. */
static PyObject *
encode_short(PyObject *item)
{
    PyObject *delta = PyTuple_GET_ITEM(item, 1), *settled = PyTuple_GET_ITEM(delta, SETTLED);
    PyObject *active = PyTuple_GET_ITEM(delta, ACTIVE);
    Py_ssize_t size, count = PyTuple_GET_SIZE(settled);
    const char *name = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(item, 0), &size);
    if (!name)
        return NULL;
    if (size > UINT16_MAX)
        return PyErr_Format(PyExc_ValueError, "an id is too long");
    PyObject *entry = PyBytes_FromStringAndSize(NULL, ENTRY_BYTES + size + 8 * count);
    if (!entry)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(entry);
    long long numbers[4] = {
        PyLong_AsLongLong(PyTuple_GET_ITEM(delta, CURSOR)),
        active == Py_None ? NO_ACTIVITY : PyLong_AsLongLong(active),
        PyLong_AsLongLong(PyTuple_GET_ITEM(delta, SETTLED_TOTAL)),
        PyLong_AsLongLong(PyTuple_GET_ITEM(delta, DELIVERED_TOTAL)),
    };
    *at++ = 0;
    at = write_le(at, (uint64_t)size, 2);
    for (int i = 0; i < 4; i++)
        at = write_le(at, (uint64_t)numbers[i], 8);
    at = write_le(at, (uint64_t)count, 4);
    at = write_le(at, 0, 8);
    memcpy(at, name, (size_t)size);
    at += size;
    for (Py_ssize_t i = 0; i < count; i++)
        at = write_le(at, (uint64_t)PyLong_AsLongLong(PyTuple_GET_ITEM(settled, i)), 8);
    if (PyErr_Occurred())
        Py_CLEAR(entry);
    return entry;
}

/* encode_all(progress, careful): the entries of the journal, each as bytes; `careful` encodes one
 * of which there is more to be told. */
PyObject *
encode_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *progress, *careful;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &progress, &careful))
        return NULL;
    PyObject *entries = PyList_New(0);
    for (Py_ssize_t i = 0; entries && i < PyList_GET_SIZE(progress); i++) {
        PyObject *item = PyList_GET_ITEM(progress, i);
        PyObject *entry = is_short(item) ? encode_short(item) : PyObject_CallObject(careful, item);
        if (!entry || PyList_Append(entries, entry) < 0)
            Py_CLEAR(entries);
        Py_XDECREF(entry);
    }
    return entries;
}

/* note_first(first, progress, number): keep a number for each id that has none. */
PyObject *
note_first(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *first, *progress, *number;
    if (!PyArg_ParseTuple(args, "O!O!O", &PyDict_Type, &first, &PyList_Type, &progress, &number))
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(progress); i++) {
        PyObject *item = PyList_GET_ITEM(progress, i);
        if (!PyTuple_Check(item) || !PyTuple_GET_SIZE(item))
            return PyErr_Format(PyExc_TypeError, "pairs expected");
        if (!PyDict_SetDefault(first, PyTuple_GET_ITEM(item, 0), number))
            return NULL;
    }
    Py_RETURN_NONE;
}
