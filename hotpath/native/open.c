/* Deliveries that were sent and are settled by neither side. */
#include "open.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_ROOM 256 /* what is larger and empty was a burst */

/* Lists */

int
open_list_add(OpenList *list, Open open)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 4;
        Open *items = PyMem_Realloc(list->items, room * sizeof(Open));
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = open;
    return 0;
}

void
open_list_shift(OpenList *list, size_t count)
{
    if (!count)
        return; /* there may be no items at all, and nothing may be moved from nowhere */
    list->count -= count;
    memmove(list->items, list->items + count, list->count * sizeof(Open));
    if (!list->count && list->room > KEEP_ROOM)
        open_list_free(list);
}

void
open_list_free(OpenList *list)
{
    PyMem_Free(list->items);
    memset(list, 0, sizeof *list);
}

static int
compare(const void *left, const void *right)
{
    const Open *a = left, *b = right;
    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    return a->serial == b->serial ? 0 : a->serial < b->serial ? -1 : 1;
}

void
open_list_sort(OpenList *list)
{
    for (size_t i = 1; i < list->count; i++)
        if (compare(list->items + i - 1, list->items + i) > 0) {
            qsort(list->items, list->count, sizeof(Open), compare);
            return;
        }
}

/* Rows */

/* Make room for so many, without gaps. */
static int
tidy(OpenRow *row, size_t room)
{
    Open *items = PyMem_Malloc(room * sizeof(Open));
    if (!items) {
        PyErr_NoMemory();
        return -1;
    }
    size_t count = 0;
    for (size_t i = row->head; i < row->end; i++)
        if (row->items[i].line)
            items[count++] = row->items[i];
    PyMem_Free(row->items);
    *row = (OpenRow){items, 0, count, room, count};
    return 0;
}

int
open_put(OpenRow *row, Open open)
{
    if (row->end == row->room) {
        size_t room = row->room ? row->room : 16;
        if (tidy(row, 4 * (row->count + 1) > 3 * room ? 2 * room : room) < 0)
            return -1;
    }
    row->items[row->end++] = open;
    row->count++;
    return 0;
}

/* Pass gaps at both ends, and give room back that a burst has left. */
static int
trim(OpenRow *row)
{
    while (row->head < row->end && !row->items[row->head].line)
        row->head++;
    while (row->head < row->end && !row->items[row->end - 1].line)
        row->end--;
    if (!row->count && row->room > KEEP_ROOM)
        open_free(row);
    else if (!row->count)
        row->head = row->end = 0;
    else if (row->room > KEEP_ROOM && row->count < row->room / 8)
        return tidy(row, row->room / 4);
    return 0;
}

/* The place of the first whose id is so far behind that of the first, or farther. Without gaps that
 * are gone already, the distance is the place. */
static size_t
find_from(const OpenRow *row, uint32_t distance)
{
    uint32_t base = row->items[row->head].id, span = row->items[row->end - 1].id - base;
    if (distance > span)
        return row->end;
    size_t last = row->end - row->head - 1, back = span - distance;
    size_t low = last > back ? last - back : 0, high = distance < last ? distance : last;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (row->items[row->head + middle].id - base < distance)
            low = middle + 1;
        else
            high = middle;
    }
    return row->head + low;
}

int
open_take(OpenRow *row, uint32_t first, uint32_t last, OpenList *taken)
{
    uint32_t apart = last - first;
    if (!row->count || apart > INT32_MAX)
        return 0; /* of a range that is none Proton says what is wrong with it */
    uint32_t base = row->items[row->head].id;
    bool is_before = base - first <= apart;
    for (size_t i = is_before ? row->head : find_from(row, first - base);
         i < row->end && row->items[i].id - first <= apart; i++) {
        if (!row->items[i].line)
            continue;
        if (open_list_add(taken, row->items[i]) < 0)
            return -1;
        row->items[i].line = 0;
        row->count--;
    }
    return trim(row);
}

int
open_drop(OpenRow *row, uint32_t line)
{
    for (size_t i = row->head; i < row->end; i++)
        if (row->items[i].line == line) {
            row->items[i].line = 0;
            row->count--;
        }
    return trim(row);
}

size_t
open_count(const OpenRow *row, uint32_t line)
{
    size_t count = 0;
    for (size_t i = row->head; i < row->end; i++)
        count += row->items[i].line == line;
    return count;
}

void
open_free(OpenRow *row)
{
    PyMem_Free(row->items);
    memset(row, 0, sizeof *row);
}

/* What is to be written */

int
pending_add(Pending *pending, Token token)
{
    if (pending->count == pending->room) {
        size_t room = pending->room ? 2 * pending->room : 16;
        Token *items = PyMem_Malloc(room * sizeof(Token));
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < pending->count; i++)
            items[i] = pending->items[(pending->head + i) & (pending->room - 1)];
        PyMem_Free(pending->items);
        pending->items = items;
        pending->head = 0;
        pending->room = room;
    }
    pending->items[(pending->head + pending->count++) & (pending->room - 1)] = token;
    return 0;
}

bool
pending_written(Pending *pending, uint32_t index, bool is_last, Token *token, bool *is_new)
{
    if (!pending->count || index != pending->first)
        return false;
    *token = pending->items[pending->head];
    *is_new = !pending->is_entered;
    pending->is_entered = !is_last;
    if (is_last) {
        pending->first++;
        pending->head = (pending->head + 1) & (pending->room - 1);
        if (!--pending->count && pending->room > KEEP_ROOM) {
            PyMem_Free(pending->items);
            pending->items = NULL;
            pending->head = pending->room = 0;
        }
    }
    return true;
}

void
pending_clear(Pending *pending)
{
    uint32_t next = pending->first + (uint32_t)pending->count;
    PyMem_Free(pending->items);
    memset(pending, 0, sizeof *pending);
    pending->first = next; /* what Proton still writes is none of those that follow */
}
