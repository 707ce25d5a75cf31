/* Proton's functions, by address: hotpath.amqp.capi hands them over, so nothing here links. */
#ifndef HOTPATH_PROTON_H
#define HOTPATH_PROTON_H

#include "native.h"

typedef struct {
    size_t size;
    const char *start;
} pn_bytes;

typedef struct {
    void *(*collector_peek)(void *collector);
    bool (*collector_pop)(void *collector);
    int (*event_type)(void *event);
    void *(*event_link)(void *event);
    void *(*event_delivery)(void *event);
    void *(*link_current)(void *link);
    bool (*link_advance)(void *link);
    ssize_t (*link_recv)(void *link, char *bytes, size_t size);
    ssize_t (*link_send)(void *link, const char *bytes, size_t size);
    int (*link_credit)(void *link);
    bool (*link_get_drain)(void *link);
    void *(*link_session)(void *link);
    size_t (*session_outgoing_bytes)(void *session);
    void *(*delivery)(void *link, pn_bytes tag);
    size_t (*delivery_pending)(void *delivery);
    bool (*delivery_partial)(void *delivery);
    bool (*delivery_aborted)(void *delivery);
    void (*delivery_settle)(void *delivery);
    bool (*delivery_settled)(void *delivery);
    void (*delivery_update)(void *delivery, uint64_t state);
    uint64_t (*delivery_remote_state)(void *delivery);
    ssize_t (*transport_pending)(void *transport);
    ssize_t (*transport_peek)(void *transport, char *bytes, size_t size);
    void (*transport_pop)(void *transport, size_t size);
    /* Values of Proton's enumerations. */
    int delivery_event;
    int flow_event;
    uint64_t accepted;
} Proton;

extern Proton proton;

/* An unsettled delivery that we sent. */
typedef struct {
    void *delivery;
    uint64_t seq;
    uint64_t serial;
} Held;

/* A growing array of them. */
typedef struct {
    Held *items;
    size_t count, room;
} HeldList;

/* A hash table of them by delivery; capacity is a power of two or 0. */
typedef struct {
    Held *slots;
    size_t count, capacity;
} HeldTable;

int held_list_add(HeldList *list, Held held);
/* Drop the first items. */
void held_list_shift(HeldList *list, size_t count);
void held_list_free(HeldList *list);
void held_list_sort(HeldList *list);

int held_put(HeldTable *table, Held held);
bool held_pop(HeldTable *table, void *delivery, Held *held);
bool held_has(const HeldTable *table, void *delivery);
void held_free(HeldTable *table);

/* Handles takes the items of a list over and leaves it empty. */
PyObject *handles_take(HeldList *list);

/* Settle the deliveries with an outcome. */
void held_settle(const Held *items, size_t count, uint64_t outcome);

/* What the engine tells a link end in C; 0 done, 1 Python must do it, -1 with an exception set.
 * `careful`: messages are to be looked at one by one. */
int inlet_on_delivery(PyObject *inlet, bool careful);
int outlet_on_delivery(PyObject *outlet, void *delivery);
bool outlet_wants_flow(PyObject *outlet);
/* Whether something was gathered for the first time since it was last taken. */
bool inlet_note(PyObject *inlet);
bool outlet_note(PyObject *outlet);

#endif
