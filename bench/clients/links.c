#include "links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINKS_MAX 200000u

static bool parse_line(char *text, struct link_line *line)
{
    char *end;
    text[strcspn(text, "\r\n")] = '\0';
    unsigned long connection = strtoul(text, &end, 10);
    if (end == text || *end != '\t' || connection >= LINKS_MAX)
        return false;
    char *address = end + 1, *tab = strchr(address, '\t');
    if (tab != NULL)
        *tab = '\0';
    line->connection = (unsigned)connection;
    line->address = strdup(address);
    line->token = strdup(tab != NULL ? tab + 1 : "");
    return line->address != NULL && line->token != NULL && address[0] != '\0';
}

static const char *append(struct link_table *table, const struct link_line *line)
{
    bool next = line->connection == table->connections;
    bool same = table->connections > 0 && line->connection == table->connections - 1;
    if (!next && !same)
        return "connection numbers must start at 0 and rise by one";
    if (table->count == LINKS_MAX)
        return "too many links";
    if ((table->count & (table->count - 1)) == 0) {
        size_t room = table->count > 0 ? table->count * 2 : 1;
        struct link_line *lines = realloc(table->lines, room * sizeof *lines);
        if (lines == NULL)
            return "out of memory";
        table->lines = lines;
    }
    table->lines[table->count++] = *line;
    table->connections = line->connection + 1;
    return NULL;
}

const char *link_table_read(struct link_table *table, const char *path)
{
    char *text = NULL;
    size_t room = 0;
    const char *error = NULL;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return "cannot be opened";
    memset(table, 0, sizeof *table);
    while (error == NULL && getline(&text, &room, file) > 0) {
        struct link_line line;
        error = parse_line(text, &line) ? append(table, &line)
                                        : "expected CONNECTION<tab>ADDRESS[<tab>TOKEN]";
    }
    free(text);
    fclose(file);
    return error == NULL && table->count == 0 ? "no links" : error;
}

const char *link_table_single(struct link_table *table, const char *address)
{
    struct link_line line = {0, strdup(address), strdup("")};
    memset(table, 0, sizeof *table);
    return append(table, &line);
}
