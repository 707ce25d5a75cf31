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
    void (*delivery_update)(void *delivery, uint64_t state);
    ssize_t (*transport_pending)(void *transport);
    ssize_t (*transport_peek)(void *transport, char *bytes, size_t size);
    void (*transport_pop)(void *transport, size_t size);
    /* Values of Proton's enumerations. */
    int delivery_event;
    int flow_event;
} Proton;

extern Proton proton;

/* A growing array of deliveries. */
typedef struct {
    void **items;
    size_t count, room;
} HandleList;

int handle_list_add(HandleList *list, void *delivery);
void handle_list_free(HandleList *list);

/* Handles takes the items of a list over and leaves it empty. */
PyObject *handles_take(HandleList *list);

/* What the engine tells a link end in C; 0 done, 1 Python must do it, -1 with an exception set.
 * `careful`: messages are to be looked at one by one. */
int inlet_on_delivery(PyObject *inlet, bool careful);
bool outlet_wants_flow(PyObject *outlet);
/* Whether something was gathered for the first time since it was last taken. */
bool inlet_note(PyObject *inlet);
bool outlet_note(PyObject *outlet);

#endif
