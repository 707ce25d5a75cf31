/* Where the attributes of some Python classes lie: those whose objects the loops here walk over.
 *
 * All of them are slots, so that each is a pointer at a fixed place. Whoever uses a place has seen
 * that the object is of exactly that class.
 */
#ifndef HOTPATH_LAYOUT_H
#define HOTPATH_LAYOUT_H

#include "native.h"

typedef struct {
    PyTypeObject *type;
    Py_ssize_t batch, seqs, start;
} RunLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t enqueued_ms, first_seq, lasting, payloads;
} BatchLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t active_ms, behind_at, changed_since_snapshot, deleted, delivered_total, full, key,
        locks, locks_max, matched_total, missing, only, persisted_active_ms, ready, ready_count,
        ready_max, receivers, resumed_deferred_end, resumed_history_end, settled_since,
        settled_total, spec;
} SubscriptionLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t changed_counts, changed_deferred, changed_modified, counts, deferred, early,
        expiring, lock_ms, locked, modified, returned, serial, unsettled, watched;
} LocksLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t batch, receiver, seqs, serial, state, until_ms, was_deferred;
} HoldingLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t id;
} SpecLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t asked, delivered, feed, subscription, wake;
} ReceiverLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t gone, is_usual, maybe_more, receiver, right, twin, unsent, window_bytes;
} EgressLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t until_ms;
} RightLayout;

typedef struct {
    PyTypeObject *type;
    Py_ssize_t due, is_marked;
} PumpsLayout;

typedef struct {
    RunLayout run;
    BatchLayout batch;
    SubscriptionLayout subscription;
    LocksLayout locks;
    HoldingLayout holding;
    SpecLayout spec;
    ReceiverLayout receiver;
    EgressLayout egress;
    RightLayout right;
    PumpsLayout pumps;
    PyTypeObject *delta;   /* a named tuple of eight */
    PyObject *locked;      /* the state of a holding that is a lock */
    PyObject *no_runs;     /* the queue of all subscriptions that have never had one */
    PyObject *no_holdings; /* the same of lock tables */
} Layout;

extern Layout layout;

/* An attribute, which is borrowed. */
#define SLOT(object, place) (*(PyObject **)((char *)(object) + (place)))

/* Whether an object is of exactly a class that has been learnt. */
#define IS_A(object, kind) (layout.kind.type && Py_IS_TYPE(object, layout.kind.type))

/* Set an attribute; the reference is stolen. False: it is NULL, with an exception set. */
static inline bool
slot_take(PyObject *object, Py_ssize_t place, PyObject *value)
{
    if (!value)
        return false;
    PyObject *before = SLOT(object, place);
    SLOT(object, place) = value;
    Py_XDECREF(before);
    return true;
}

static inline bool
slot_set(PyObject *object, Py_ssize_t place, PyObject *value)
{
    return slot_take(object, place, Py_NewRef(value));
}

/* A whole number; -1 with an exception set when it is none. */
static inline long long
slot_number(PyObject *object, Py_ssize_t place)
{
    return PyLong_AsLongLong(SLOT(object, place));
}

static inline bool
slot_add(PyObject *object, Py_ssize_t place, long long more)
{
    long long number = slot_number(object, place);
    if (number == -1 && PyErr_Occurred())
        return false;
    return slot_take(object, place, PyLong_FromLongLong(number + more));
}

/* Whether an attribute is a dict or list (or set) without anything in it. */
static inline bool
slot_is_empty(PyObject *object, Py_ssize_t place)
{
    PyObject *value = SLOT(object, place);
    if (PyDict_CheckExact(value))
        return !PyDict_GET_SIZE(value);
    if (PyList_CheckExact(value))
        return !PyList_GET_SIZE(value);
    return PyAnySet_Check(value) && !PySet_GET_SIZE(value);
}

/* learn(classes): take over where the attributes of classes lie, by their names. */
PyObject *layout_learn(PyObject *module, PyObject *classes);

#endif
