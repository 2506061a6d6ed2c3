#include "job.h"

#include <string.h>

struct word {
    const char *text;
    size_t length;
};

/* The next word of a line in which spaces separate words; length 0 at the end. */
static struct word next_word(const char **at, const char *end)
{
    while (*at < end && **at == ' ')
        ++*at;
    struct word word = {*at, 0};
    while (*at < end && **at != ' ')
        ++*at;
    word.length = (size_t)(*at - word.text);
    return word;
}

static bool is_name(struct word word, const char *more)
{
    for (size_t i = 0; i < word.length; i++) {
        char c = word.text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (!plain && (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return word.length > 0;
}

static bool copy_name(struct word word, const char *more, char *name, size_t size)
{
    if (!is_name(word, more) || word.length >= size)
        return false;
    memcpy(name, word.text, word.length);
    name[word.length] = '\0';
    return true;
}

static bool parse_size(struct word word, size_t *size)
{
    *size = 0;
    for (size_t i = 0; i < word.length; i++) {
        if (word.text[i] < '0' || word.text[i] > '9' || *size > MAX_LIBRARY)
            return false;
        *size = *size * 10 + (size_t)(word.text[i] - '0');
    }
    return word.length > 0 && *size > 0 && *size <= MAX_LIBRARY;
}

static void parse_arguments(const char *at, const char *end, struct job *job)
{
    if (!copy_name(next_word(&at, end), ".", job->function, sizeof job->function)) {
        fail(&job->failure, STATUS_INPUT, "the function name is missing, too long or invalid");
        return;
    }
    for (struct word word; (word = next_word(&at, end)).length > 0;) {
        if (job->argument_count == MAX_ARGUMENTS) {
            fail(&job->failure, STATUS_INPUT, "more than %d arguments", MAX_ARGUMENTS);
            return;
        }
        if (!tensor_type_parse(word.text, word.length, &job->arguments[job->argument_count++], &job->failure))
            return;
    }
}

void job_parse_text(struct job *job)
{
    parse_arguments(job->text, job->text + strlen(job->text), job);
}

bool job_parse(const char *line, size_t length, struct job *job, struct failure *failure)
{
    const char *at = line, *end = line + length;
    *job = (struct job){0};
    struct word keyword = next_word(&at, end);
    if (keyword.length != 3 || memcmp(keyword.text, "job", 3) != 0)
        return fail(failure, STATUS_STREAM, "a frame starts with 'job ID SIZE FUNCTION DTYPE:SHAPE...'");
    if (!copy_name(next_word(&at, end), "-.", job->id, sizeof job->id))
        return fail(failure, STATUS_STREAM, "a job's ID must be 1 to 64 characters of A-Z a-z 0-9 _ - .");
    if (!parse_size(next_word(&at, end), &job->size))
        return fail(failure, STATUS_STREAM, "job %s: SIZE must be from 1 to %zu bytes", job->id, MAX_LIBRARY);
    memcpy(job->text, at, (size_t)(end - at)); /* a line has at most MAX_LINE bytes */
    parse_arguments(at, end, job);
    return true;
}
