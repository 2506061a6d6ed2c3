/* A JSON writer: one line per document, with automatic commas and valid UTF-8 strings. */
#ifndef EDGEPACK_JSON_H
#define EDGEPACK_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool comma; /* a comma is due before the next member */
};

/* `key` is NULL for the top level and for members of an array. */
void json_open(struct json *json, const char *key, char bracket);
void json_close(struct json *json, char bracket);
void json_text(struct json *json, const char *key, const char *value); /* NULL becomes null */
void json_bytes(struct json *json, const char *key, const char *value, size_t size);
void json_integer(struct json *json, const char *key, int64_t value);
void json_real(struct json *json, const char *key, double value); /* NaN and Inf become null */
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

/* Closes the top-level object, ends the line and flushes. False when the line could not be written. */
bool json_end(struct json *json);

#endif
