/* The link ends of one connection, and the sessions that their deliveries go through. */
#ifndef HOTPATH_ENDS_H
#define HOTPATH_ENDS_H

#include "frames.h"
#include "open.h"
#include "proton.h"

typedef struct {
    void *link;
    PyObject *end;    /* the link end in Python */
    PyObject *native; /* its Inlet or Outlet, or NULL */
    uint32_t line;    /* its number: of ends that follow each other, growing */
} End;

/* A session as the frames tell of it. */
typedef struct {
    uint16_t local, remote; /* channels: what we write, what the peer writes */
    bool is_heard;          /* the peer has not ended it */
    OpenRow open;
} Session;

typedef struct Ends {
    PyObject_HEAD
    void *collector;
    void *transport;
    PyObject *outgoing; /* bytes, of which so many are written: to be sent with the next output */
    Py_ssize_t written;
    End *ends; /* few: links of one connection */
    size_t count, room;
    size_t last; /* where the last one was found: events of a link come in a row */
    uint32_t lines; /* the last number given */
    Session *sessions;
    size_t session_count;
    Answers answers;
    OpenList taken; /* what a disposition is about, while it is read */
    bool is_closed; /* a close has been written: nothing may follow */
} Ends;

typedef struct {
    PyObject_HEAD
    void *link;
    Ends *ends;    /* while it is one of them */
    uint32_t line; /* its number there */
    uint16_t channel;
    Pending pending;
    size_t given; /* bytes, to Proton since it was made to write */
    OpenList accepted; /* settled by their receivers */
    OpenList echo;     /* whose receivers wait for our outcome */
    OpenList waiting;  /* completed ones of these; told when that is durable */
    int credit_seen;
    char unsent; /* flow is to be told: something waits to be sent */
    char noted;
} Outlet;

End *ends_find_line(Ends *self, uint32_t line);

/* Bytes of deliveries that Proton is given before it must turn them into frames: its buffers, and
 * its pool of deliveries, never shrink. */
#define SPILL_BYTES 8192
/* Room for what follows when that has happened: most of what a link may send in its turn. */
#define SPILL_ROOM 65536

/* traffic.c; those that return int: 0, or -1 with an exception set. */

/* Complete the transfers of whole frames that are about to be sent, and see what else they say. */
int traffic_out(Ends *self, uint8_t *bytes, size_t size);
PyObject *traffic_output(Ends *self, PyObject *none);
/* Take out of Proton what there is to send now. */
int traffic_spill(Ends *self);
PyObject *traffic_follow(Ends *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *traffic_end(Ends *self, PyObject *channel);
PyObject *traffic_accept(Ends *self, PyObject *args);
PyObject *traffic_pick(Ends *self, PyObject *args);
/* Forget the deliveries of a link. */
void traffic_drop(Ends *self, uint32_t line);
size_t traffic_count(const Ends *self, uint32_t line);
void traffic_free(Ends *self);

/* outlet.c */

/* Messages of one batch, from `at` on, under one lock. */
typedef struct {
    PyObject *opening;         /* bytes */
    PyObject *seqs, *payloads; /* lists or tuples */
    Py_ssize_t at;
    unsigned long long first_seq, serial;
    Py_ssize_t room;
} Run;

/* Where messages that were accepted are taken out, and where each of them goes. */
typedef struct {
    PyObject *unsettled; /* dict: number to holding */
    PyObject *locked;    /* the state of a holding that is a lock */
    PyObject *done;      /* list: numbers taken out */
    PyObject *late;      /* list: delivery-ids that wait for our outcome and whose lock was lost */
    PyObject *last;      /* the holding looked at last: messages locked together share one */
    uint64_t serial;
    int is_locked;
} Books;

bool outlet_is(PyObject *native);
/* Send until there is no room or a message is not plain, and watch flow; bytes sent, -1 with an
 * exception set. */
Py_ssize_t outlet_send_run(Outlet *self, Run *run);
/* The credit that may be used up without a further look, or -1. */
int outlet_allowance_of(const Outlet *self, size_t bytes_max);
/* Take out what was accepted; how many wait for our outcome, -1 with an exception set. */
Py_ssize_t outlet_complete_with(Outlet *self, Books books);
/* Tell the first of those that wait that they are accepted; 0, or -1 with an exception set. */
int outlet_confirm_first(Outlet *self, PyObject *number);
int outlet_accepted(Outlet *self, Open open, bool is_settled);

#endif
