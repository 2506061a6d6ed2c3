#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "beneath.h"
#include "json.h"

static const struct action {
    const char *name;
    int words;
    bool more; /* further words may follow */
    bool (*act)(char **words, struct failure *failure);
} ACTIONS[] = {
    {"survey", 2, false, store_survey}, {"list", 3, false, store_list}, {"use", 2, false, store_use}, {"names", 1, false, store_names},
    {"lock", 3, false, store_lock},     {"open", 4, false, store_open}, {"fill", 3, false, store_fill},
    {"check", 3, false, store_check},   {"try", 5, true, store_try},    {"publish", 9, false, store_publish},
    {"remove", 3, false, store_remove}, {"receive", 3, false, store_receive},
};

bool store(int count, char **words, struct failure *failure)
{
    const char *name = count > 0 ? words[0] : "";
    for (size_t i = 0; i < sizeof ACTIONS / sizeof ACTIONS[0]; i++) {
        const struct action *action = &ACTIONS[i];
        if (strcmp(action->name, name) != 0)
            continue;
        if (count - 1 < action->words || (count - 1 > action->words && !action->more))
            return fail(failure, STATUS_USAGE, "store %s needs %d words (got %d)", name, action->words,
                        count - 1);
        return action->act(words + 1, failure);
    }
    return fail(failure, STATUS_USAGE, "store has no action '%.100s'", name);
}

bool flush(int folder, struct failure *failure)
{
    if (syncfs(folder) == 0)
        return true;
    if (errno != ENOSYS)
        return fail(failure, STATUS_OUTPUT, "the files could not be written to the disk: %s",
                    strerror(errno));
    sync();
    return true;
}

int rename_new(int from_folder, const char *from, int to_folder, const char *to)
{
    enum { NO_REPLACE = 1 };
    if (syscall(SYS_renameat2, from_folder, from, to_folder, to, NO_REPLACE) == 0)
        return 0;
    if (errno != ENOSYS && errno != EINVAL)
        return -1;
    /* An old kernel, or a file system without this flag. */
    if (kind_at(to_folder, to, NULL) != KIND_NONE) {
        errno = EEXIST;
        return -1;
    }
    return renameat(from_folder, from, to_folder, to);
}

bool write_all(int file, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t count = write(file, data, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return false;
        data += count;
        size -= (size_t)count;
    }
    return true;
}

char *order_line(void)
{
    static char *line;
    static size_t size;
    ssize_t length = getline(&line, &size, stdin);
    if (length <= 0)
        return NULL;
    if (line[length - 1] == '\n')
        line[length - 1] = '\0';
    return line;
}

bool store_done(struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}
