#include "cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "board.h"

/* "CPU part" numbers of Arm Ltd (implementer 0x41) and NVIDIA (0x4e); Arm's technical reference
 * manuals, register MIDR_EL1. */
static const struct {
    unsigned implementer, part;
    const char *name;
} CORES[] = {
    {0x41, 0xD03, "Cortex-A53"},  {0x41, 0xD04, "Cortex-A35"},  {0x41, 0xD05, "Cortex-A55"},
    {0x41, 0xD07, "Cortex-A57"},  {0x41, 0xD08, "Cortex-A72"},  {0x41, 0xD09, "Cortex-A73"},
    {0x41, 0xD0A, "Cortex-A75"},  {0x41, 0xD0B, "Cortex-A76"},  {0x41, 0xD0C, "Neoverse-N1"},
    {0x41, 0xD40, "Neoverse-V1"}, {0x41, 0xD41, "Cortex-A78"},  {0x41, 0xD42, "Cortex-A78AE"},
    {0x41, 0xD49, "Neoverse-N2"}, {0x41, 0xD4F, "Neoverse-V2"}, {0x41, 0xD83, "Neoverse-V3AE"},
    {0x4E, 0x003, "Denver-2"},    {0x4E, 0x004, "Carmel"},
};

/* Bits of AT_HWCAP and AT_HWCAP2 on aarch64: Linux, arch/arm64/include/uapi/asm/hwcap.h. */
static const struct {
    unsigned long type;
    unsigned bit;
    const char *name;
} HWCAPS[] = {
    {AT_HWCAP, 0, "fp"},       {AT_HWCAP, 1, "asimd"},     {AT_HWCAP, 3, "aes"},
    {AT_HWCAP, 4, "pmull"},    {AT_HWCAP, 5, "sha1"},      {AT_HWCAP, 6, "sha2"},
    {AT_HWCAP, 7, "crc32"},    {AT_HWCAP, 8, "atomics"},   {AT_HWCAP, 9, "fphp"},
    {AT_HWCAP, 10, "asimdhp"}, {AT_HWCAP, 12, "asimdrdm"}, {AT_HWCAP, 20, "asimddp"},
    {AT_HWCAP, 22, "sve"},     {AT_HWCAP, 23, "asimdfhm"}, {AT_HWCAP2, 1, "sve2"},
    {AT_HWCAP2, 13, "i8mm"},   {AT_HWCAP2, 14, "bf16"},
};

static const char *core_name(unsigned implementer, unsigned part, char *unknown, size_t size)
{
    for (size_t i = 0; i < sizeof CORES / sizeof CORES[0]; i++)
        if (CORES[i].implementer == implementer && CORES[i].part == part)
            return CORES[i].name;
    snprintf(unknown, size, "implementer 0x%x part 0x%x", implementer, part);
    return unknown;
}

/* The distinct cores of an Arm /proc/cpuinfo, joined by " + ": big.LITTLE boards have several. */
static bool arm_cores(const char *cpuinfo, char *cores, size_t size)
{
    char implementer[32] = "", part[32], unknown[64];
    cores[0] = '\0';
    board_field(cpuinfo, "CPU implementer", implementer, sizeof implementer);
    for (const char *at = strstr(cpuinfo, "CPU part"); at != NULL; at = strstr(at + 1, "CPU part")) {
        if (!board_field(at, "CPU part", part, sizeof part))
            continue;
        const char *name = core_name((unsigned)strtoul(implementer, NULL, 0),
                                     (unsigned)strtoul(part, NULL, 0), unknown, sizeof unknown);
        size_t used = strlen(cores);
        if (strstr(cores, name) == NULL)
            snprintf(cores + used, size - used, "%s%s", used > 0 ? " + " : "", name);
    }
    return cores[0] != '\0';
}

static void add_words(struct json *json, char *words)
{
    char *rest = NULL;
    for (char *word = strtok_r(words, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        json_text(json, NULL, word);
}

/* An aarch64 program under qemu-user sees the host's /proc/cpuinfo, and the right auxiliary vector. */
static void add_hwcaps(struct json *json)
{
    for (size_t i = 0; i < sizeof HWCAPS / sizeof HWCAPS[0]; i++)
        if (getauxval(HWCAPS[i].type) >> HWCAPS[i].bit & 1)
            json_text(json, NULL, HWCAPS[i].name);
}

void cpu_describe(struct json *json, const char *root)
{
    static char cpuinfo[65536]; /* the first cores are enough; big servers have megabytes */
    char name[256], features[8192] = "";
    bool have = board_read(root, "/proc/cpuinfo", cpuinfo, sizeof cpuinfo);
    bool arm = have && arm_cores(cpuinfo, name, sizeof name);
#if defined(__aarch64__)
    bool foreign = root[0] == '\0' && !arm;
#else
    bool foreign = false;
#endif
    bool named = arm || (have && !foreign && board_field(cpuinfo, "model name", name, sizeof name));
    json_text(json, "cpu", named ? name : NULL);
    json_open(json, "features", '[');
    if (foreign)
        add_hwcaps(json);
    else if (have && (board_field(cpuinfo, "Features", features, sizeof features) ||
                      board_field(cpuinfo, "flags", features, sizeof features)))
        add_words(json, features);
    json_close(json, ']');
}
