#include "text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

char *text_read_line(const char *path)
{
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return NULL;
    ssize_t length = getline(&line, &room, file);
    fclose(file);
    if (length < 0) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

void text_print_json(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20)
            fprintf(out, "\\u%04x", byte);
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

double text_number(const char *option, const char *text, double low, double high)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(value >= low && value <= high)) {
        fprintf(stderr, "%s: expected a number from %g to %g, not '%s'\n", option, low, high, text);
        exit(2);
    }
    return value;
}

void text_print_cpu(FILE *out)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(out, ",\"cpu_user_s\":%.3f,\"cpu_system_s\":%.3f",
            (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
            (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6);
}

void text_print_counts(const char *name, const uint64_t *counts, unsigned size, FILE *out)
{
    fprintf(out, ",\"%s\":[", name);
    for (unsigned i = 0; i < size; i++)
        fprintf(out, "%s%llu", i > 0 ? "," : "", (unsigned long long)counts[i]);
    fputc(']', out);
}
