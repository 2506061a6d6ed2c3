#include "json.h"

#include <math.h>
#include <string.h>

/* Length of the valid UTF-8 sequence at `text`, 0 if there is none. Overlong forms, surrogates and
 * code points above U+10FFFF are not valid. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    size_t length = text[0] < 0x80   ? 1
                    : text[0] < 0xC2 ? 0
                    : text[0] < 0xE0 ? 2
                    : text[0] < 0xF0 ? 3
                    : text[0] < 0xF5 ? 4
                                     : 0;
    if (length == 0 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
        return 0;
    return length;
}

static void write_string(FILE *out, const char *value, size_t size)
{
    const unsigned char *text = (const unsigned char *)value;
    fputc('"', out);
    for (size_t i = 0; i < size;) {
        size_t length = utf8_length(text + i, size - i);
        if (length == 0)
            fputs("\\ufffd", out);
        else if (text[i] == '"' || text[i] == '\\')
            fprintf(out, "\\%c", text[i]);
        else if (text[i] < 0x20 || text[i] == 0x7F)
            fprintf(out, "\\u%04x", text[i]);
        else
            fwrite(text + i, 1, length, out);
        i += length == 0 ? 1 : length;
    }
    fputc('"', out);
}

static void begin(struct json *json, const char *key)
{
    if (json->comma)
        fputc(',', json->out);
    json->comma = true;
    if (key != NULL) {
        write_string(json->out, key, strlen(key));
        fputc(':', json->out);
    }
}

void json_open(struct json *json, const char *key, char bracket)
{
    begin(json, key);
    fputc(bracket, json->out);
    json->comma = false;
}

void json_close(struct json *json, char bracket)
{
    fputc(bracket, json->out);
    json->comma = true;
}

void json_bytes(struct json *json, const char *key, const char *value, size_t size)
{
    begin(json, key);
    write_string(json->out, value, size);
}

void json_text(struct json *json, const char *key, const char *value)
{
    if (value == NULL)
        json_null(json, key);
    else
        json_bytes(json, key, value, strlen(value));
}

void json_integer(struct json *json, const char *key, int64_t value)
{
    begin(json, key);
    fprintf(json->out, "%lld", (long long)value);
}

void json_real(struct json *json, const char *key, double value)
{
    if (!isfinite(value)) {
        json_null(json, key);
        return;
    }
    begin(json, key);
    fprintf(json->out, "%.9g", value);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin(json, key);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *key)
{
    begin(json, key);
    fputs("null", json->out);
}

bool json_end(struct json *json)
{
    json_close(json, '}');
    fputc('\n', json->out);
    return fflush(json->out) == 0 && !ferror(json->out);
}
