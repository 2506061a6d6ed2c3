#include "npy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "regular.h"

enum { MAX_HEADER = 65536 };

/* A cursor over the header dictionary, which is a Python literal. */
struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

static bool take(struct cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t length = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0)
        return false;
    c->at += length;
    return true;
}

/* A quoted string without escapes; `*text` points into the header. */
static bool take_string(struct cursor *c, const char **text, size_t *length)
{
    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    char quote = *c->at++;
    const char *close = memchr(c->at, quote, (size_t)(c->end - c->at));
    if (close == NULL)
        return false;
    *text = c->at;
    *length = (size_t)(close - c->at);
    c->at = close + 1;
    return true;
}

static bool take_dimension(struct cursor *c, int64_t *value)
{
    skip_space(c);
    if (c->at == c->end || *c->at < '0' || *c->at > '9')
        return false;
    for (*value = 0; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, *c->at - '0', value))
            return false;
    return true;
}

static bool take_shape(struct cursor *c, struct tensor_type *type, struct failure *failure)
{
    if (!take(c, '('))
        return fail(failure, STATUS_INPUT, "its header has no shape");
    while (!take(c, ')')) {
        if (type->rank == MAX_RANK)
            return fail(failure, STATUS_INPUT, "it has more than %d dimensions", MAX_RANK);
        if (!take_dimension(c, &type->shape[type->rank++]))
            return fail(failure, STATUS_INPUT, "its shape has an invalid dimension");
        if (!take(c, ',') && (c->at == c->end || *c->at != ')'))
            return fail(failure, STATUS_INPUT, "its shape is not a tuple");
    }
    return true;
}

static bool take_descr(struct cursor *c, struct tensor_type *type, struct failure *failure)
{
    const char *text;
    size_t length;
    if (!take_string(c, &text, &length))
        return fail(failure, STATUS_INPUT, "its dtype is not a string");
    type->dtype = dtype_by_npy(text, length);
    if (type->dtype == NULL)
        return fail(failure, STATUS_INPUT,
                    "its dtype '%.*s' is not supported; supported are little-endian numbers and bool",
                    length > 32 ? 32 : (int)length, text);
    return true;
}

static bool take_entry(struct cursor *c, struct tensor_type *type, unsigned *seen, struct failure *failure)
{
    const char *key;
    size_t length;
    if (!take_string(c, &key, &length) || !take(c, ':'))
        return fail(failure, STATUS_INPUT, "its header is not a dictionary");
    if (length == 5 && memcmp(key, "descr", 5) == 0 && !(*seen & 1u)) {
        *seen |= 1u;
        return take_descr(c, type, failure);
    }
    if (length == 13 && memcmp(key, "fortran_order", 13) == 0 && !(*seen & 2u)) {
        *seen |= 2u;
        if (take_word(c, "False"))
            return true;
        return fail(failure, STATUS_INPUT, "it is in Fortran order: save it with numpy.ascontiguousarray");
    }
    if (length == 5 && memcmp(key, "shape", 5) == 0 && !(*seen & 4u)) {
        *seen |= 4u;
        return take_shape(c, type, failure);
    }
    return fail(failure, STATUS_INPUT, "its header has an unknown or repeated key");
}

bool npy_parse_header(const char *text, size_t length, struct tensor_type *type, struct failure *failure)
{
    struct cursor c = {text, text + length};
    unsigned seen = 0;
    *type = (struct tensor_type){0};
    if (!take(&c, '{'))
        return fail(failure, STATUS_INPUT, "its header is not a dictionary");
    while (!take(&c, '}')) {
        if (!take_entry(&c, type, &seen, failure))
            return false;
        if (!take(&c, ',') && (c.at == c.end || *c.at != '}'))
            return fail(failure, STATUS_INPUT, "its header is not a dictionary");
    }
    skip_space(&c);
    if (seen != 7u || c.at != c.end)
        return fail(failure, STATUS_INPUT, "its header needs exactly descr, fortran_order and shape");
    return tensor_type_complete(type, failure);
}

/* Reads magic, version and header text into a new buffer. */
static char *read_header(FILE *file, size_t *length, struct failure *failure)
{
    unsigned char head[12];
    size_t width = 2;
    if (fread(head, 1, 8, file) != 8 || memcmp(head, "\x93NUMPY", 6) != 0) {
        fail(failure, STATUS_INPUT, "it is not a .npy file");
        return NULL;
    }
    if (head[6] < 1 || head[6] > 3) {
        fail(failure, STATUS_INPUT, "its format version %d is unknown", head[6]);
        return NULL;
    }
    width = head[6] == 1 ? 2 : 4;
    if (fread(head, 1, width, file) != width) {
        fail(failure, STATUS_INPUT, "it is truncated in its header");
        return NULL;
    }
    *length = (size_t)head[0] | (size_t)head[1] << 8;
    if (width == 4)
        *length |= (size_t)head[2] << 16 | (size_t)head[3] << 24;
    if (*length > MAX_HEADER) {
        fail(failure, STATUS_INPUT, "its header is longer than %d bytes", MAX_HEADER);
        return NULL;
    }
    char *text = malloc(*length + 1);
    if (text == NULL) {
        fail(failure, STATUS_INTERNAL, "out of memory");
        return NULL;
    }
    if (fread(text, 1, *length, file) != *length) {
        free(text);
        fail(failure, STATUS_INPUT, "it is truncated in its header");
        return NULL;
    }
    return text;
}

static bool check_size(FILE *file, const struct tensor_type *type, struct failure *failure)
{
    struct stat info;
    off_t start = ftello(file);
    if (start < 0 || fstat(fileno(file), &info) != 0)
        return fail(failure, STATUS_INPUT, "its size cannot be read: %s", strerror(errno));
    if ((size_t)(info.st_size - start) != type->size)
        return fail(failure, STATUS_INPUT, "it has %lld bytes of data, but its header says %zu",
                    (long long)(info.st_size - start), type->size);
    return true;
}

/* Prepends the file's name to the message in `failure`. */
static bool name_file(struct failure *failure, const char *path)
{
    char reason[256];
    snprintf(reason, sizeof reason, "%.255s", failure->text);
    return fail(failure, failure->status, "%s cannot be used: %s", path, reason);
}

bool npy_open(struct npy *npy, const char *path, struct failure *failure)
{
    size_t length;
    *npy = (struct npy){.path = path, .file = regular_open(path, failure)};
    if (npy->file == NULL)
        return false;
    char *text = read_header(npy->file, &length, failure);
    bool good = text != NULL && npy_parse_header(text, length, &npy->type, failure) &&
                check_size(npy->file, &npy->type, failure);
    free(text);
    return good || name_file(failure, path);
}

bool npy_read(struct npy *npy, void *data, size_t size, struct failure *failure)
{
    if (fread(data, 1, size, npy->file) != size)
        return fail(failure, STATUS_INPUT, "%s cannot be read completely: %s", npy->path,
                    ferror(npy->file) ? strerror(errno) : "it was truncated");
    return true;
}

static bool cannot_write(const struct npy *npy, struct failure *failure)
{
    return fail(failure, STATUS_OUTPUT, "%s cannot be written: %s", npy->path, strerror(errno));
}

bool npy_create(struct npy *npy, const char *path, const struct tensor_type *type, struct failure *failure)
{
    char shape[MAX_RANK * 22 + 1] = "";
    char header[512];
    int used = 0;
    for (int i = 0; i < type->rank; i++)
        used += snprintf(shape + used, sizeof shape - (size_t)used, "%lld, ", (long long)type->shape[i]);
    int length = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                          type->dtype->npy, shape);
    /* Magic, version, length and header together are a multiple of 64 and end in a newline. */
    while ((length + 11) % 64 != 0)
        header[length++] = ' ';
    header[length++] = '\n';
    const unsigned char head[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(length & 0xFF), (unsigned char)(length >> 8)};
    *npy = (struct npy){.path = path, .type = *type, .file = regular_create(path, failure)};
    if (npy->file == NULL)
        return false;
    if (fwrite(head, 1, 10, npy->file) != 10 ||
        fwrite(header, 1, (size_t)length, npy->file) != (size_t)length)
        return cannot_write(npy, failure);
    return true;
}

bool npy_write(struct npy *npy, const void *data, size_t size, struct failure *failure)
{
    if (fwrite(data, 1, size, npy->file) != size)
        return cannot_write(npy, failure);
    return true;
}

bool npy_close(struct npy *npy, struct failure *failure)
{
    FILE *file = npy->file;
    npy->file = NULL;
    if (file != NULL && fclose(file) != 0)
        return cannot_write(npy, failure);
    return true;
}
