/* Small text matters: token files, JSON strings, numbers on the command line. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include <stdint.h>
#include <stdio.h>

/* The first line of a file, without its line end, to be freed; NULL if it cannot be read. */
char *text_read_line(const char *path);
/* A JSON string, quoted and escaped. */
void text_print_json(const char *text, FILE *out);
/* A number from the command line; ends the program with status 2 if it is none or out of range. */
double text_number(const char *option, const char *text, double low, double high);
/* User and system CPU seconds of this process, as two JSON members with a leading comma. */
void text_print_cpu(FILE *out);
/* "name":[…] with a leading comma. */
void text_print_counts(const char *name, const uint64_t *counts, unsigned size, FILE *out);
/* Seconds that take part in per-second counts. */
#define SECONDS_MAX 3600u

#endif
