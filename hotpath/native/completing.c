/* The usual way of settlements: what receivers have accepted leaves the lock tables.
 *
 * What `Egress.submit`, `Settling.complete_accepted`, `LockTable.complete_accepted` and
 * `Subscription.settled` do in Python, for all links that have gathered something.
 */
#include "ends.h"
#include "layout.h"
#include "names.h"

typedef struct {
    PyObject *waiting; /* list: (outlet, number) of those that wait for the commit */
    PyObject *touched; /* dict: subscriptions whose progress goes with the next commit */
    Py_ssize_t done;
} Completing;

/* Whether nothing but the lock and the count of a message is to be thought of. */
static bool
is_usual(PyObject *subscription, PyObject *locks)
{
    return SLOT(subscription, layout.subscription.full) == Py_False &&
           slot_number(subscription, layout.subscription.resumed_deferred_end) == 0 &&
           PyList_CheckExact(SLOT(subscription, layout.subscription.settled_since)) &&
           PyDict_CheckExact(SLOT(locks, layout.locks.unsettled)) &&
           slot_is_empty(locks, layout.locks.counts) &&
           slot_is_empty(locks, layout.locks.deferred) &&
           slot_is_empty(locks, layout.locks.early) &&
           slot_is_empty(locks, layout.locks.modified);
}

/* The subscription that a link end settles messages of, if it may go this way; borrowed. */
static PyObject *
subscription_of(PyObject *end)
{
    if (!IS_A(end, egress) || !outlet_is(SLOT(end, layout.egress.twin)))
        return NULL;
    PyObject *receiver = SLOT(end, layout.egress.receiver);
    if (!IS_A(receiver, receiver))
        return NULL;
    PyObject *subscription = SLOT(receiver, layout.receiver.subscription);
    if (!IS_A(subscription, subscription) ||
        SLOT(receiver, layout.receiver.feed) != subscription)
        return NULL;
    PyObject *locks = SLOT(subscription, layout.subscription.locks);
    return IS_A(locks, locks) && is_usual(subscription, locks) ? subscription : NULL;
}

/* Let those know who wait, and those whose lock was lost. */
static int
answer(Completing *all, PyObject *end, PyObject *late, Py_ssize_t waiting)
{
    int result = 0;
    if (PyList_GET_SIZE(late)) {
        PyObject *none = call_method(end, names.answer_late, late);
        result = none ? 0 : -1;
        Py_XDECREF(none);
    }
    if (result == 0 && waiting) {
        PyObject *pair = Py_BuildValue("On", SLOT(end, layout.egress.twin), waiting);
        result = pair ? PyList_Append(all->waiting, pair) : -1;
        Py_XDECREF(pair);
    }
    return result;
}

/* Note that so many are settled. */
static bool
settle(Completing *all, PyObject *subscription, Py_ssize_t count)
{
    PyObject *locks = SLOT(subscription, layout.subscription.locks);
    all->done += count;
    return slot_add(locks, layout.locks.locked, -count) &&
           slot_add(subscription, layout.subscription.settled_total, count) &&
           PyDict_SetItem(all->touched, subscription, Py_None) == 0;
}

/* One link end: 1 done, 0 it is to submit by itself, -1 with an exception set. */
static int
complete(Completing *all, PyObject *end, PyObject **late)
{
    PyObject *subscription = subscription_of(end);
    if (!subscription)
        return PyErr_Occurred() ? -1 : 0;
    if (!*late && !(*late = PyList_New(0)))
        return -1;
    PyObject *locks = SLOT(subscription, layout.subscription.locks);
    PyObject *since = SLOT(subscription, layout.subscription.settled_since);
    Books books = {SLOT(locks, layout.locks.unsettled), layout.locked, since, *late, NULL, 0, 0};
    Py_ssize_t before = PyList_GET_SIZE(since);
    Py_ssize_t waiting =
        outlet_complete_with((Outlet *)SLOT(end, layout.egress.twin), books);
    Py_ssize_t count = PyList_GET_SIZE(since) - before;
    if (waiting < 0 || (count && !settle(all, subscription, count)))
        return -1;
    if (answer(all, end, *late, waiting) < 0)
        return -1;
    if (PyList_GET_SIZE(*late))
        Py_CLEAR(*late);
    return 1;
}

/* One link end as it is done in Python; -1 with an exception set. */
static int
submit(PyObject *end)
{
    PyObject *none = PyObject_CallMethodNoArgs(end, names.submit);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

/* complete_all(ends, waiting, touched): settle what link ends have gathered; how many messages.
 * Ends about which there is more to be thought of are asked to `submit`. */
PyObject *
complete_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *ends, *late = NULL;
    Completing all = {0};
    if (!PyArg_ParseTuple(args, "O!O!O!", &PyList_Type, &ends, &PyList_Type, &all.waiting,
                          &PyDict_Type, &all.touched))
        return NULL;
    int result = 1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(ends) && result >= 0; i++) {
        PyObject *end = Py_NewRef(PyList_GET_ITEM(ends, i));
        result = complete(&all, end, &late);
        if (result == 0)
            result = submit(end);
        Py_DECREF(end);
    }
    Py_XDECREF(late);
    return result < 0 ? NULL : PyLong_FromSsize_t(all.done);
}

/* confirm_all(waiting): tell them that what they have accepted is settled durably. */
PyObject *
confirm_all(PyObject *Py_UNUSED(module), PyObject *waiting)
{
    if (!PyList_Check(waiting))
        return PyErr_Format(PyExc_TypeError, "a list expected");
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiting); i++) {
        PyObject *pair = PyList_GET_ITEM(waiting, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
            !outlet_is(PyTuple_GET_ITEM(pair, 0)))
            return PyErr_Format(PyExc_TypeError, "outlets with a number expected");
        Outlet *outlet = (Outlet *)PyTuple_GET_ITEM(pair, 0);
        if (outlet_confirm_first(outlet, PyTuple_GET_ITEM(pair, 1)) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}
