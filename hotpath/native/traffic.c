/* Deliveries under way, by the frames of a connection.
 *
 * A message under a lock is settled in Proton as soon as Proton has it, with a mark for its tag. As
 * its transfer goes out, the mark becomes the lock token, the transfer unsettled, and what is kept
 * of the delivery is one small entry of its session. Dispositions take entries out again, and what
 * is answered to them is written here, in front of what Proton has to say.
 *
 * Proton goes on to know credit, windows, delivery-ids and how messages are cut into frames. Of a
 * disposition about deliveries that it has forgotten it says nothing.
 */
#include "ends.h"

#include <string.h>

/* Sessions */

static Session *
find_local(Ends *self, uint16_t channel)
{
    for (size_t i = 0; i < self->session_count; i++)
        if (self->sessions[i].local == channel)
            return self->sessions + i;
    return NULL;
}

static Session *
find_remote(Ends *self, uint16_t channel)
{
    for (size_t i = 0; i < self->session_count; i++)
        if (self->sessions[i].remote == channel && self->sessions[i].is_heard)
            return self->sessions + i;
    return NULL;
}

static void
drop_session(Ends *self, Session *session)
{
    if (!session)
        return;
    open_free(&session->open);
    *session = self->sessions[--self->session_count];
}

static int
add_session(Ends *self, uint16_t local, uint16_t remote)
{
    Session *before;
    drop_session(self, find_local(self, local));
    while ((before = find_remote(self, remote)))
        before->is_heard = false;
    size_t size = (self->session_count + 1) * sizeof(Session);
    Session *sessions = PyMem_Realloc(self->sessions, size);
    if (!sessions) {
        PyErr_NoMemory();
        return -1;
    }
    self->sessions = sessions;
    sessions[self->session_count++] = (Session){local, remote, true, {0}};
    return 0;
}

void
traffic_drop(Ends *self, uint32_t line)
{
    for (size_t i = 0; i < self->session_count; i++)
        if (open_drop(&self->sessions[i].open, line) < 0)
            PyErr_Clear(); /* they stay, and belong to nobody */
}

size_t
traffic_count(const Ends *self, uint32_t line)
{
    size_t count = 0;
    for (size_t i = 0; i < self->session_count; i++)
        count += open_count(&self->sessions[i].open, line);
    return count;
}

void
traffic_free(Ends *self)
{
    while (self->session_count)
        drop_session(self, self->sessions);
    PyMem_Free(self->sessions);
    self->sessions = NULL;
    answers_free(&self->answers);
    open_list_free(&self->taken);
}

/* Out */

static int
complete_transfer(Ends *self, uint8_t *frame, size_t size)
{
    Transfer transfer;
    Token token;
    bool is_new;
    if (!frame_read_transfer(frame, size, &transfer))
        return 0;
    *transfer.settled = 0x42;
    End *end = ends_find_line(self, transfer.line);
    Session *session = find_local(self, frame_channel(frame));
    if (!end || !session || !outlet_is(end->native))
        return 0; /* its link was left meanwhile: the mark is a token that nobody knows */
    Outlet *outlet = (Outlet *)end->native;
    if (!pending_written(&outlet->pending, transfer.index, transfer.is_last, &token, &is_new))
        return 0;
    write_token(transfer.tag, token.seq, token.serial);
    outlet->channel = session->local;
    Open open = {token.seq, token.serial, transfer.id, transfer.line};
    return is_new ? open_put(&session->open, open) : 0;
}

static int
see_out(Ends *self, uint8_t *frame, size_t size)
{
    uint16_t remote;
    switch (frame_code(frame, size)) {
    case FRAME_TRANSFER:
        return complete_transfer(self, frame, size);
    case FRAME_BEGIN:
        if (frame_read_begin(frame, size, &remote))
            return add_session(self, frame_channel(frame), remote);
        return 0;
    case FRAME_END:
        drop_session(self, find_local(self, frame_channel(frame)));
        return 0;
    case FRAME_CLOSE:
        self->is_closed = true;
        return 0;
    default:
        return 0;
    }
}

int
traffic_out(Ends *self, uint8_t *bytes, size_t size)
{
    size_t pos = size >= 8 && !memcmp(bytes, "AMQP", 4) ? 8 : 0;
    while (size - pos >= FRAME_HEAD_BYTES) {
        size_t length = read_u32(bytes + pos);
        if (length < FRAME_HEAD_BYTES || length > size - pos)
            break;
        if (see_out(self, bytes + pos, length) < 0)
            return -1;
        pos += length;
    }
    if (pos == size)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "Proton gave a part of a frame");
    return -1;
}

/* Room for so many bytes more behind what is to be sent; NULL with an exception set. */
static uint8_t *
reserve(Ends *self, size_t more)
{
    size_t needed = (size_t)self->written + more;
    if (!self->outgoing) {
        self->outgoing = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)needed);
    } else if (needed > (size_t)PyBytes_GET_SIZE(self->outgoing)) {
        size_t twice = 2 * (size_t)PyBytes_GET_SIZE(self->outgoing);
        _PyBytes_Resize(&self->outgoing, (Py_ssize_t)(needed > twice ? needed : twice));
    }
    if (!self->outgoing) {
        self->written = 0;
        return NULL;
    }
    return (uint8_t *)PyBytes_AS_STRING(self->outgoing) + self->written;
}

/* Add what has been answered since the last time. */
static int
add_answers(Ends *self)
{
    Answers *answers = &self->answers;
    size_t size = self->is_closed ? 0 : answers->size;
    answers->size = 0;
    if (size) {
        uint8_t *room = reserve(self, size);
        if (!room)
            return -1;
        memcpy(room, answers->bytes, size);
        self->written += (Py_ssize_t)size;
    }
    if (answers->room > 4096)
        answers_free(answers); /* a burst is over */
    return 0;
}

/* Add all that Proton has to send; whether nothing will follow any more in `closed`. */
static int
add_frames(Ends *self, bool *closed)
{
    ssize_t pending;
    while ((pending = proton.transport_pending(self->transport)) > 0) {
        uint8_t *room = reserve(self, (size_t)pending);
        if (!room)
            return -1;
        if (proton.transport_peek(self->transport, (char *)room, (size_t)pending) != pending) {
            PyErr_SetString(PyExc_RuntimeError, "Proton gave another size than it said");
            return -1;
        }
        proton.transport_pop(self->transport, (size_t)pending);
        self->written += pending;
    }
    *closed = pending < 0;
    return 0;
}

/* Add answers, and behind them all that Proton has to send, with their transfers completed. */
static int
add_all(Ends *self, bool *closed)
{
    if (add_answers(self) < 0)
        return -1;
    Py_ssize_t before = self->written;
    if (add_frames(self, closed) < 0)
        return -1;
    self->is_closed = self->is_closed || *closed;
    if (self->written == before)
        return 0;
    uint8_t *frames = (uint8_t *)PyBytes_AS_STRING(self->outgoing) + before;
    return traffic_out(self, frames, (size_t)(self->written - before));
}

/* As `add_all`; what could not be completed is not sent. */
static int
take_out(Ends *self, bool *closed)
{
    Py_ssize_t before = self->written;
    int result = add_all(self, closed);
    if (result < 0 && self->outgoing)
        self->written = before;
    return result;
}

int
traffic_spill(Ends *self)
{
    bool closed = false;
    /* More will come: room for it at once, of which the rest is given back. */
    if (!self->outgoing && !reserve(self, SPILL_ROOM))
        return -1;
    return take_out(self, &closed);
}

/* output(): (all that there is to send, whether nothing will follow any more). */
PyObject *
traffic_output(Ends *self, PyObject *Py_UNUSED(none))
{
    bool closed = false;
    int failed = take_out(self, &closed);
    PyObject *all = self->outgoing;
    Py_ssize_t size = self->written;
    self->outgoing = NULL;
    self->written = 0;
    if (failed)
        Py_CLEAR(all);
    else if (!all)
        all = PyBytes_FromStringAndSize(NULL, 0);
    else if (size < PyBytes_GET_SIZE(all))
        _PyBytes_Resize(&all, size);
    return all ? Py_BuildValue("NO", all, closed ? Py_True : Py_False) : NULL;
}

/* In */

/* Move what a disposition is about to `taken`. */
static int
take_open(Ends *self, uint16_t channel, uint32_t first, uint32_t last)
{
    Session *session = find_remote(self, channel);
    self->taken.count = 0;
    return session ? open_take(&session->open, first, last, &self->taken) : 0;
}

/* They have been worked off. */
static void
clear_taken(Ends *self)
{
    open_list_shift(&self->taken, self->taken.count);
}

/* Let the ends of what is accepted gather it; those that have gathered their first are added to
 * `filled`. */
static int
accept_open(Ends *self, uint16_t channel, Disposition told, PyObject *filled)
{
    int result = take_open(self, channel, told.first, told.last);
    for (size_t i = 0; i < self->taken.count && result == 0; i++) {
        End *end = ends_find_line(self, self->taken.items[i].line);
        if (!end)
            continue;
        Outlet *outlet = (Outlet *)end->native;
        result = outlet_accepted(outlet, self->taken.items[i], told.is_settled);
        if (result == 0 && outlet_note((PyObject *)outlet))
            result = PyList_Append(filled, end->end);
    }
    clear_taken(self);
    return result;
}

/* One frame of a peer: 0 it is done with, 1 it is to be looked at closely, -1. */
static int
see_in(Ends *self, const uint8_t *frame, size_t length, PyObject *filled)
{
    Disposition told;
    switch (frame_read_disposition(frame, length, &told)) {
    case DISPOSITION_ACCEPTED:
        return accept_open(self, frame_channel(frame), told, filled);
    case DISPOSITION_OTHER:
        return 0;
    default:
        return 1;
    }
}

/* The place of the first frame in a chunk that is to be looked at closely, or of the first that
 * has not come so far that one could tell; -1 with an exception set. */
static Py_ssize_t
follow(Ends *self, const uint8_t *bytes, size_t pos, size_t size, PyObject *filled)
{
    while (size > pos && size - pos >= FRAME_HEAD_BYTES + 4) {
        const uint8_t *frame = bytes + pos;
        size_t length = read_u32(frame), here = size - pos;
        uint8_t code = length >= FRAME_HEAD_BYTES + 4 ? frame_code(frame, here) : 0;
        if (!code || code == FRAME_BEGIN || code == FRAME_END)
            break;
        if (code == FRAME_DISPOSITION) {
            int result = length > here ? 1 : see_in(self, frame, length, filled);
            if (result < 0)
                return -1;
            if (result)
                break;
        }
        pos += length;
    }
    return (Py_ssize_t)pos;
}

/* follow(chunk, pos, size, filled): see `follow` above. */
PyObject *
traffic_follow(Ends *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer chunk;
    if (nargs != 4 || !PyList_Check(args[3]))
        return PyErr_Format(PyExc_TypeError, "follow(chunk, pos, size, filled)");
    size_t pos = PyLong_AsSize_t(args[1]), size = PyLong_AsSize_t(args[2]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &chunk, PyBUF_SIMPLE) < 0)
        return NULL;
    if (size > (size_t)chunk.len)
        size = (size_t)chunk.len;
    Py_ssize_t at = follow(self, chunk.buf, pos, size, args[3]);
    PyBuffer_Release(&chunk);
    return at < 0 ? NULL : PyLong_FromSsize_t(at);
}

/* end(channel): the peer writes nothing about its session there any more. */
PyObject *
traffic_end(Ends *self, PyObject *number)
{
    unsigned long channel = PyLong_AsUnsignedLong(number);
    if (channel == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    Session *session = find_remote(self, (uint16_t)channel);
    if (session)
        session->is_heard = false;
    Py_RETURN_NONE;
}

/* accept(channel, first, last, settled, filled): as a disposition that says so. */
PyObject *
traffic_accept(Ends *self, PyObject *args)
{
    unsigned int channel, first, last;
    int is_settled;
    PyObject *filled;
    if (!PyArg_ParseTuple(args, "IIIpO!", &channel, &first, &last, &is_settled, &PyList_Type,
                          &filled))
        return NULL;
    Disposition told = {first, last, is_settled};
    if (accept_open(self, (uint16_t)channel, told, filled) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* pick(channel, first, last): [(end, delivery-id, sequence number, serial), ...], which are
 * forgotten. */
PyObject *
traffic_pick(Ends *self, PyObject *args)
{
    unsigned int channel, first, last;
    if (!PyArg_ParseTuple(args, "III", &channel, &first, &last))
        return NULL;
    PyObject *picked = PyList_New(0);
    int result = picked ? take_open(self, (uint16_t)channel, first, last) : -1;
    for (size_t i = 0; i < self->taken.count && result == 0; i++) {
        const Open *open = self->taken.items + i;
        End *end = ends_find_line(self, open->line);
        if (!end)
            continue;
        PyObject *one = Py_BuildValue("OkKK", end->end, (unsigned long)open->id,
                                      (unsigned long long)open->seq,
                                      (unsigned long long)open->serial);
        result = one ? PyList_Append(picked, one) : -1;
        Py_XDECREF(one);
    }
    clear_taken(self);
    if (result < 0)
        Py_CLEAR(picked);
    return picked;
}
