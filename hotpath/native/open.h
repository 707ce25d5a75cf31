/* Deliveries that were sent and are settled by neither side: what is kept of each. */
#ifndef HOTPATH_OPEN_H
#define HOTPATH_OPEN_H

#include "native.h"

typedef struct {
    uint64_t seq;
    uint64_t serial; /* of the lock */
    uint32_t id;     /* delivery-id, in its session */
    uint32_t line;   /* number of its link end, never 0 */
} Open;

/* A growing array of them. */
typedef struct {
    Open *items;
    size_t count, room;
} OpenList;

/* Those of one session in the order of their delivery-ids, which is that in which they were sent.
 * What has been settled leaves a gap (line 0) until the next clean-up. */
typedef struct {
    Open *items;
    size_t head, end; /* neither the first nor the last is a gap */
    size_t room;
    size_t count; /* without gaps */
} OpenRow;

/* A message that Proton has and has not written yet. */
typedef struct {
    uint64_t seq;
    uint64_t serial;
} Token;

/* Those of one link, in their order; `first` is the index of the oldest, counted from the link's
 * beginning. */
typedef struct {
    Token *items;
    size_t head, count, room; /* a ring; room is a power of two or 0 */
    uint32_t first;
    bool is_entered; /* a part of the oldest has been written */
} Pending;

/* All that return int: 0, or -1 with an exception set. */

int open_list_add(OpenList *list, Open open);
/* Drop the first items. */
void open_list_shift(OpenList *list, size_t count);
void open_list_free(OpenList *list);
/* By sequence number and serial. */
void open_list_sort(OpenList *list);

/* Its delivery-id follows those that are there. */
int open_put(OpenRow *row, Open open);
/* Move those from `first` to `last` (RFC 1982) to a list, in their order. */
int open_take(OpenRow *row, uint32_t first, uint32_t last, OpenList *taken);
/* Forget those of a link. */
int open_drop(OpenRow *row, uint32_t line);
size_t open_count(const OpenRow *row, uint32_t line);
void open_free(OpenRow *row);

int pending_add(Pending *pending, Token token);
/* The message with an index, of which a part (or the last part) has been written now. */
bool pending_written(Pending *pending, uint32_t index, bool is_last, Token *token, bool *is_new);
void pending_clear(Pending *pending);

#endif
