/* Where the attributes of Python classes lie. */
#include "layout.h"

#include <string.h>
#include <structmember.h>

Layout layout;

typedef struct {
    const char *name; /* of the class */
    size_t type;      /* where it is kept */
} Kind;

typedef struct {
    const char *kind, *name;
    size_t place;
} Field;

#define KIND(name, field) {name, offsetof(Layout, field.type)}
static const Kind kinds[] = {
    KIND("Run", run), KIND("Batch", batch), KIND("Subscription", subscription),
    KIND("LockTable", locks), KIND("Holding", holding), KIND("SubscriptionSpec", spec),
    KIND("Receiver", receiver), KIND("Egress", egress), KIND("LinkRight", right),
    KIND("Pumps", pumps), {"ProgressDelta", offsetof(Layout, delta)},
};

#define SAME(kind, field, name) {kind, #name, offsetof(Layout, field.name)}
#define OWN(kind, field, name) {kind, "_" #name, offsetof(Layout, field.name)}
static const Field fields[] = {
    SAME("Run", run, batch), SAME("Run", run, seqs), SAME("Run", run, start),
    SAME("Batch", batch, enqueued_ms), SAME("Batch", batch, first_seq),
    SAME("Batch", batch, lasting), SAME("Batch", batch, payloads),
    SAME("Subscription", subscription, active_ms),
    SAME("Subscription", subscription, behind_at),
    SAME("Subscription", subscription, changed_since_snapshot),
    SAME("Subscription", subscription, deleted),
    SAME("Subscription", subscription, delivered_total),
    SAME("Subscription", subscription, full), SAME("Subscription", subscription, key),
    SAME("Subscription", subscription, locks), SAME("Subscription", subscription, locks_max),
    SAME("Subscription", subscription, matched_total),
    SAME("Subscription", subscription, missing), SAME("Subscription", subscription, only),
    SAME("Subscription", subscription, persisted_active_ms),
    OWN("Subscription", subscription, ready), OWN("Subscription", subscription, ready_count),
    OWN("Subscription", subscription, ready_max),
    SAME("Subscription", subscription, receivers),
    OWN("Subscription", subscription, resumed_deferred_end),
    OWN("Subscription", subscription, resumed_history_end),
    OWN("Subscription", subscription, settled_since),
    SAME("Subscription", subscription, settled_total), SAME("Subscription", subscription, spec),
    SAME("LockTable", locks, changed_counts), SAME("LockTable", locks, changed_deferred),
    SAME("LockTable", locks, changed_modified), SAME("LockTable", locks, counts),
    SAME("LockTable", locks, deferred), OWN("LockTable", locks, early),
    OWN("LockTable", locks, expiring), OWN("LockTable", locks, lock_ms),
    OWN("LockTable", locks, locked), SAME("LockTable", locks, modified),
    SAME("LockTable", locks, returned), OWN("LockTable", locks, serial),
    SAME("LockTable", locks, unsettled), SAME("LockTable", locks, watched),
    SAME("Holding", holding, batch), SAME("Holding", holding, receiver),
    SAME("Holding", holding, seqs), SAME("Holding", holding, serial),
    SAME("Holding", holding, state), SAME("Holding", holding, until_ms),
    SAME("Holding", holding, was_deferred), SAME("SubscriptionSpec", spec, id),
    SAME("Receiver", receiver, asked), SAME("Receiver", receiver, delivered),
    SAME("Receiver", receiver, feed), SAME("Receiver", receiver, subscription),
    SAME("Receiver", receiver, wake), OWN("Egress", egress, gone),
    OWN("Egress", egress, is_usual), OWN("Egress", egress, maybe_more),
    OWN("Egress", egress, receiver), SAME("Egress", egress, right),
    SAME("Egress", egress, twin), OWN("Egress", egress, unsent),
    OWN("Egress", egress, window_bytes), SAME("LinkRight", right, until_ms),
    OWN("Pumps", pumps, due), SAME("Pumps", pumps, is_marked),
};

/* Other things that are known by a name. */
static const Kind objects[] = {
    {"LOCKED", offsetof(Layout, locked)},
    {"NO_RUNS", offsetof(Layout, no_runs)},
    {"NO_HOLDINGS", offsetof(Layout, no_holdings)},
};

/* The place of a slot; -1 with an exception set when it is none. */
static Py_ssize_t
place_of(PyObject *class, const char *name)
{
    Py_ssize_t place = -1;
    PyObject *found = PyObject_GetAttrString(class, name);
    if (found && Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        const PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        if (member->type == T_OBJECT_EX)
            place = member->offset;
    }
    if (found && place < 0)
        PyErr_Format(PyExc_TypeError, "%s of %R is no slot", name, class);
    Py_XDECREF(found);
    return place;
}

static int
learn_class(const Kind *kind, PyObject *class)
{
    if (!PyType_Check(class)) {
        PyErr_Format(PyExc_TypeError, "%s is no class", kind->name);
        return -1;
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(fields[i].kind, kind->name))
            continue;
        Py_ssize_t place = place_of(class, fields[i].name);
        if (place < 0)
            return -1;
        memcpy((char *)&layout + fields[i].place, &place, sizeof place);
    }
    return 0;
}

static void
keep(size_t place, PyObject *object)
{
    PyObject **known = (PyObject **)((char *)&layout + place);
    Py_XSETREF(*known, Py_NewRef(object));
}

PyObject *
layout_learn(PyObject *Py_UNUSED(module), PyObject *classes)
{
    if (!PyDict_Check(classes))
        return PyErr_Format(PyExc_TypeError, "a dict expected");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        PyObject *class = PyDict_GetItemString(classes, kinds[i].name);
        if (class && learn_class(kinds + i, class) < 0)
            return NULL;
        if (class)
            keep(kinds[i].type, class);
    }
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        PyObject *object = PyDict_GetItemString(classes, objects[i].name);
        if (object)
            keep(objects[i].type, object);
    }
    Py_RETURN_NONE;
}
