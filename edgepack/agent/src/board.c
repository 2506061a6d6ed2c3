#include "board.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "decimal.h"
#include "matching.h"
#include "regular.h"

enum { PATH_SIZE = MAX_ROOT + 512, TEXT_SIZE = 256 };

/* ROOT/PATH in `full`; false if it does not fit. */
static bool below(const char *root, const char *path, char *full, size_t size)
{
    return snprintf(full, size, "%s%s", root, path) < (int)size;
}

FILE *board_open(const char *root, const char *path)
{
    char full[PATH_SIZE];
    struct failure ignored; /* what a board does not have is left out */
    return below(root, path, full, sizeof full) ? regular_open(full, &ignored) : NULL;
}

bool board_read(const char *root, const char *path, char *text, size_t size)
{
    FILE *file = board_open(root, path);
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, size - 1, file);
    bool good = !ferror(file); /* suspended thermal zones return EAGAIN */
    fclose(file);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\0'))
        length--;
    text[length] = '\0';
    return good;
}

bool board_field(const char *text, const char *key, char *value, size_t size)
{
    size_t key_length = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, key_length) != 0)
            continue;
        const char *at = line + key_length + strspn(line + key_length, " \t");
        if (*at != ':')
            continue;
        at += 1 + strspn(at + 1, " \t");
        snprintf(value, size, "%.*s", (int)strcspn(at, "\n"), at);
        return true;
    }
    return false;
}

int64_t board_kib(const char *root, const char *path, const char *key)
{
    char text[4096], value[64];
    if (!board_read(root, path, text, sizeof text) || !board_field(text, key, value, sizeof value))
        return -1;
    return strtoll(value, NULL, 10);
}

/* Reads the file NAME in the directory `path`. */
static bool read_in(const char *root, const char *path, const char *name, char *text, size_t size)
{
    char full[PATH_SIZE];
    if (snprintf(full, sizeof full, "%s/%s", path, name) >= (int)sizeof full)
        return false;
    return board_read(root, full, text, size);
}

static void add_text(const char *root, const char *path, void *json)
{
    char text[TEXT_SIZE];
    if (board_read(root, path, text, sizeof text))
        json_text(json, NULL, text);
}

static void add_number(const char *root, const char *path, void *json)
{
    char text[TEXT_SIZE];
    if (board_read(root, path, text, sizeof text))
        json_integer(json, NULL, strtoll(text, NULL, 10));
}

static void add_temperature(const char *root, const char *path, void *json)
{
    char type[TEXT_SIZE], degrees[TEXT_SIZE];
    if (!read_in(root, path, "type", type, sizeof type) ||
        !read_in(root, path, "temp", degrees, sizeof degrees))
        return;
    json_open(json, NULL, '{');
    json_text(json, "zone", type);
    json_real(json, "celsius", (double)strtoll(degrees, NULL, 10) / 1000);
    json_close(json, '}');
}

static void add_sum(const char *root, const char *path, void *sum)
{
    char text[TEXT_SIZE];
    if (board_read(root, path, text, sizeof text))
        if (__builtin_add_overflow(*(int64_t *)sum, strtoll(text, NULL, 10), (int64_t *)sum))
            *(int64_t *)sum = INT64_MAX;
}

/* Devices that throttle the CPU or GPU; a running fan is not throttling. */
static void add_cooling(const char *root, const char *path, void *json)
{
    char type[TEXT_SIZE], state[TEXT_SIZE];
    if (!read_in(root, path, "type", type, sizeof type) ||
        !read_in(root, path, "cur_state", state, sizeof state))
        return;
    if (strtoll(state, NULL, 10) > 0 && strstr(type, "fan") == NULL)
        json_text(json, NULL, type);
}

/* The Raspberry Pi's under-voltage alarm, from the hwmon driver rpi_volt. */
static void add_undervoltage(const char *root, const char *path, void *alarm)
{
    char text[TEXT_SIZE];
    if (read_in(root, path, "name", text, sizeof text) && strcmp(text, "rpi_volt") == 0 &&
        read_in(root, path, "in0_lcrit_alarm", text, sizeof text))
        *(int64_t *)alarm = strtoll(text, NULL, 10);
}

static void add_throttling(struct json *json, const char *root)
{
    char flags[TEXT_SIZE];
    int64_t undervoltage = -1, events = 0;
    json_open(json, "throttling", '{');
    /* Bits as of `vcgencmd get_throttled`: 0 under-voltage, 1 capped, 2 throttled, 16.. since boot. */
    if (board_read(root, "/sys/devices/platform/soc/soc:firmware/get_throttled", flags, sizeof flags))
        json_integer(json, "raspberry_pi_flags", strtoll(flags, NULL, 16));
    each_match(root, "/sys/class/hwmon/hwmon*", add_undervoltage, &undervoltage);
    if (undervoltage >= 0)
        json_bool(json, "undervoltage", undervoltage != 0);
    each_match(root, "/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count", add_sum,
             &events);
    json_integer(json, "events", events);
    if (board_read(root, "/sys/class/thermal/cooling_device0/type", flags, sizeof flags)) {
        json_open(json, "cooling", '[');
        each_match(root, "/sys/class/thermal/cooling_device*", add_cooling, json);
        json_close(json, ']');
    }
    json_close(json, '}');
}

/* A file that holds one number; -1 if it cannot be read. */
static int64_t number_in(const char *root, const char *path, const char *name)
{
    char text[TEXT_SIZE];
    return read_in(root, path, name, text, sizeof text) ? strtoll(text, NULL, 10) : -1;
}

static void add_rail(struct json *json, const char *rail, int64_t milliwatts)
{
    json_open(json, NULL, '{');
    json_text(json, "rail", rail);
    json_integer(json, "milliwatts", milliwatts);
    json_close(json, '}');
}

/* Power monitors of Texas Instruments (drivers ina3221, ina238 ...): a label, mV and mA per channel, or the label of
 * the whole chip and its power in microwatts. An unconnected channel is called NC. */
static void add_power(const char *root, const char *path, void *json)
{
    enum { CHANNELS = 3 }; /* of an INA3221; those behind are sums */
    char chip[TEXT_SIZE], rail[TEXT_SIZE], name[32];
    if (!read_in(root, path, "name", chip, sizeof chip) || strncmp(chip, "ina", 3) != 0)
        return;
    for (int channel = 1; channel <= CHANNELS; channel++) {
        snprintf(name, sizeof name, "in%d_label", channel);
        if (!read_in(root, path, name, rail, sizeof rail) || strcmp(rail, "NC") == 0)
            continue;
        snprintf(name, sizeof name, "in%d_input", channel);
        int64_t millivolts = number_in(root, path, name);
        snprintf(name, sizeof name, "curr%d_input", channel);
        int64_t milliamperes = number_in(root, path, name);
        int64_t product;
        if (millivolts >= 0 && milliamperes >= 0 &&
            !__builtin_mul_overflow(millivolts, milliamperes, &product))
            add_rail(json, rail, product / 1000);
    }
    int64_t microwatts = number_in(root, path, "power1_input");
    if (microwatts >= 0 && read_in(root, path, "label", rail, sizeof rail))
        add_rail(json, rail, microwatts / 1000);
}

/* A GPU's clock (devfreq, in Hz). */
static void add_gpu(const char *root, const char *path, void *json)
{
    char governor[TEXT_SIZE];
    int64_t now = number_in(root, path, "cur_freq"), most = number_in(root, path, "max_freq");
    if (now < 0 || most < 0 || !read_in(root, path, "governor", governor, sizeof governor))
        return;
    json_open(json, NULL, '{');
    json_text(json, "name", strrchr(path, '/') + 1);
    json_text(json, "governor", governor);
    json_integer(json, "frequency_khz", now / 1000);
    json_integer(json, "frequency_max_khz", most / 1000);
    json_close(json, '}');
}

/* The power mode of a Jetson, as `nvpmodel -q` names it: its number is in the status file, its name in the
 * configuration. */
static bool power_mode(const char *root, char *name, size_t size)
{
    static char modes[65536]; /* the file has the clocks of every mode */
    char status[TEXT_SIZE], key[64];
    if (!board_read(root, "/var/lib/nvpmodel/status", status, sizeof status) ||
        strncmp(status, "pmode:", 6) != 0)
        return false;
    int number = snprintf(key, sizeof key, "< POWER_MODEL ID=%lld NAME=", strtoll(status + 6, NULL, 10));
    const char *at = board_read(root, "/etc/nvpmodel.conf", modes, sizeof modes) ? strstr(modes, key) : NULL;
    if (at == NULL)
        return false;
    at += number;
    snprintf(name, size, "%.*s", (int)strcspn(at, " >\n"), at);
    return true;
}

static void add_list(struct json *json, const char *key, const char *root, const char *pattern,
                     void (*each)(const char *root, const char *path, void *json))
{
    json_open(json, key, '[');
    each_match(root, pattern, each, json);
    json_close(json, ']');
}

void board_state(struct json *json, const char *key, const char *root)
{
    /* Orin, by driver; Thor's first graphics cluster. */
    static const char *const GPUS[] = {"/sys/class/devfreq/*.gpu", "/sys/class/devfreq/*.ga10b",
                                       "/sys/class/devfreq/gpu-gpc-0"};
    char load[TEXT_SIZE], mode[64];
    const char *end;
    double value;
    json_open(json, key, '{');
    add_list(json, "governor", root, "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor", add_text);
    add_list(json, "frequency_khz", root, "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
             add_number);
    add_list(json, "frequency_max_khz", root, "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq",
             add_number);
    add_list(json, "temperature", root, "/sys/class/thermal/thermal_zone*", add_temperature);
    json_text(json, "power_mode", power_mode(root, mode, sizeof mode) ? mode : NULL);
    add_list(json, "power", root, "/sys/class/hwmon/hwmon*", add_power);
    json_open(json, "gpu", '[');
    for (size_t i = 0; i < sizeof GPUS / sizeof GPUS[0]; i++)
        each_match(root, GPUS[i], add_gpu, json);
    json_close(json, ']');
    add_throttling(json, root);
    if (board_read(root, "/proc/loadavg", load, sizeof load))
        json_real(json, "load_1min", decimal_parse(load, &end, &value) ? value : NAN);
    else
        json_null(json, "load_1min");
    json_integer(json, "memory_available_kib", board_kib(root, "/proc/meminfo", "MemAvailable"));
    json_close(json, '}');
}
