/* Deliveries that were sent and are settled by neither side. */
#include "open.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_ROOM 256 /* what is larger and empty was a burst */
#define RUN_BITS 4     /* consecutive delivery-ids that share a run of slots, as a power of two */

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

static int
compare_ids(const void *left, const void *right)
{
    int32_t apart = (int32_t)(((const Open *)left)->id - ((const Open *)right)->id);
    return apart < 0 ? -1 : apart > 0;
}

/* The table: linear probing, backward shift on removal, at most three quarters full. Ids that
 * follow each other lie side by side, as they are settled side by side. */

static size_t
home_of(const OpenTable *table, uint32_t id)
{
    uint64_t run = (uint64_t)(id >> RUN_BITS) * 0x9E3779B97F4A7C15u >> 24;
    return (size_t)(run << RUN_BITS | (id & ((1u << RUN_BITS) - 1))) & (table->capacity - 1);
}

static size_t
slot_of(const OpenTable *table, uint32_t id)
{
    size_t at = home_of(table, id);
    while (table->slots[at].line && table->slots[at].id != id)
        at = (at + 1) & (table->capacity - 1);
    return at;
}

/* Move all but those of a link (0: all) to a table of another capacity. */
static int
move(OpenTable *table, size_t capacity, uint32_t but)
{
    OpenTable moved = {PyMem_Calloc(capacity, sizeof(Open)), 0, capacity};
    if (!moved.slots) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].line && table->slots[i].line != but) {
            moved.slots[slot_of(&moved, table->slots[i].id)] = table->slots[i];
            moved.count++;
        }
    PyMem_Free(table->slots);
    *table = moved;
    return 0;
}

int
open_put(OpenTable *table, Open open)
{
    if (4 * (table->count + 1) > 3 * table->capacity &&
        move(table, table->capacity ? 2 * table->capacity : 16, 0) < 0)
        return -1;
    size_t at = slot_of(table, open.id);
    table->count += !table->slots[at].line;
    table->slots[at] = open;
    return 0;
}

static bool
pop(OpenTable *table, uint32_t id, Open *open)
{
    if (!table->count)
        return false;
    size_t mask = table->capacity - 1, gap = slot_of(table, id);
    if (!table->slots[gap].line)
        return false;
    *open = table->slots[gap];
    for (size_t at = (gap + 1) & mask; table->slots[at].line; at = (at + 1) & mask) {
        size_t home = home_of(table, table->slots[at].id);
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            table->slots[gap] = table->slots[at];
            gap = at;
        }
    }
    table->slots[gap].line = 0;
    table->count--;
    return true;
}

/* Give room back that a burst has left. */
static int
shrink(OpenTable *table)
{
    if (table->capacity <= KEEP_ROOM || 8 * table->count >= table->capacity)
        return 0;
    if (table->count)
        return move(table, table->capacity / 4, 0);
    open_free(table);
    return 0;
}

int
open_take(OpenTable *table, uint32_t first, uint32_t last, OpenList *taken)
{
    Open open;
    uint32_t apart = last - first;
    if (apart > INT32_MAX)
        return 0; /* Proton says what is wrong with it */
    if (apart < table->count) {
        for (uint32_t i = 0; i <= apart; i++)
            if (pop(table, first + i, &open) && open_list_add(taken, open) < 0)
                return -1;
        return shrink(table);
    }
    size_t before = taken->count;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].line && table->slots[i].id - first <= apart &&
            open_list_add(taken, table->slots[i]) < 0)
            return -1;
    for (size_t i = before; i < taken->count; i++)
        pop(table, taken->items[i].id, &open);
    if (taken->count > before + 1)
        qsort(taken->items + before, taken->count - before, sizeof(Open), compare_ids);
    return shrink(table);
}

int
open_drop(OpenTable *table, uint32_t line)
{
    size_t count = open_count(table, line);
    if (count && count == table->count)
        open_free(table);
    else if (count)
        return move(table, table->capacity, line) < 0 ? -1 : shrink(table);
    return 0;
}

size_t
open_count(const OpenTable *table, uint32_t line)
{
    size_t count = 0;
    for (size_t i = 0; i < table->capacity; i++)
        count += table->slots[i].line == line;
    return count;
}

void
open_free(OpenTable *table)
{
    PyMem_Free(table->slots);
    memset(table, 0, sizeof *table);
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
