/* What load-recv attaches to: one line a link, tab-separated: connection number, address, token. */
#ifndef BENCH_LINKS_H
#define BENCH_LINKS_H

#include <stdbool.h>
#include <stddef.h>

struct link_line {
    unsigned connection; /* 0, 1, 2… in this order; the lines of one connection stand together */
    char *address;
    char *token; /* may be empty */
};

struct link_table {
    struct link_line *lines;
    size_t count;
    unsigned connections;
};

/* Read the table; NULL on success, otherwise what is wrong with it. */
const char *link_table_read(struct link_table *table, const char *path);
/* A table of one link without a token. */
const char *link_table_single(struct link_table *table, const char *address);

#endif
