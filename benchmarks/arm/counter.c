/* A qemu plugin that counts how often each translated block of a user-mode guest runs.
 *
 * qemu-aarch64 -plugin counter.so,out=FOLDER PROGRAM ... writes, at the end of each process,
 *   PID.counts  threads that ever were (u64), and a record a block that ran: address, runs, instructions (u64 each),
 *               then the instructions (u32 each)
 *   PID.maps    /proc/PID/maps, anew whenever code ran that it did not have yet: where each file was loaded, though
 *               it may have been unloaded since
 *
 * A guest that calls getsid at least twice is counted between its last two calls; others from start to end. The
 * counters are plain additions in the translated code: exact for a guest with one thread. A forked process has those
 * of its parent up to the fork.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is used here of qemu's plugin interface, version 1 (docs/devel/tcg-plugins): no package has its header. */
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum inline_op { INLINE_ADD_U64 };
enum { GETSID = 156 }; /* aarch64's number */
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*translated)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum inline_op op, void *at, uint64_t value);
void qemu_plugin_register_vcpu_init_cb(plugin_id id, void (*started)(plugin_id, unsigned index));
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id,
                                          void (*called)(plugin_id, unsigned index, int64_t number, uint64_t,
                                                         uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                         uint64_t, uint64_t));
void qemu_plugin_register_atexit_cb(plugin_id id, void (*ended)(plugin_id, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

int qemu_plugin_version = 1;

struct block {
    struct block *next;
    uint64_t runs;        /* from the start */
    uint64_t mark, kept;  /* runs at the last mark, and between the last two */
    uint64_t address, length;
    uint32_t words[];
};
static struct block *blocks;
static struct range {
    uint64_t start, end;
} *ranges;
static size_t range_count;
static char *out, *maps;
static size_t maps_size;
static uint64_t threads, marks;

static void add_range(uint64_t start, uint64_t end)
{
    ranges = realloc(ranges, (range_count + 1) * sizeof *ranges);
    if (ranges == NULL)
        abort();
    ranges[range_count++] = (struct range){start, end};
}

static bool known(uint64_t address)
{
    for (size_t i = 0; i < range_count; i++)
        if (ranges[i].start <= address && address < ranges[i].end)
            return true;
    return false;
}

static void read_maps(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while (file != NULL && (length = getline(&line, &room, file)) > 0) {
        uint64_t start, end;
        if (strchr(line, '/') == NULL || sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
            continue;
        add_range(start, end);
        maps = realloc(maps, maps_size + (size_t)length);
        if (maps == NULL)
            abort();
        memcpy(maps + maps_size, line, (size_t)length);
        maps_size += (size_t)length;
    }
    free(line);
    if (file != NULL)
        fclose(file);
}

static void locate(uint64_t address)
{
    if (known(address))
        return;
    read_maps();
    if (!known(address))
        add_range(address & ~UINT64_C(4095), (address | 4095) + 1); /* in no file: not asked again */
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t length = qemu_plugin_tb_n_insns(tb);
    struct block *block = calloc(1, sizeof *block + length * sizeof block->words[0]);
    (void)id;
    if (block == NULL)
        abort();
    block->address = qemu_plugin_tb_vaddr(tb);
    block->length = length;
    locate(block->address);
    for (size_t i = 0; i < length; i++)
        memcpy(&block->words[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof block->words[0]);
    block->next = blocks; /* qemu translates under a lock */
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &block->runs, 1);
}

static void started(plugin_id id, unsigned index)
{
    (void)id, (void)index;
    threads++;
}

static void called(plugin_id id, unsigned index, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)index, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != GETSID)
        return;
    marks++;
    for (struct block *block = blocks; block != NULL; block = block->next) {
        block->kept = block->runs - block->mark;
        block->mark = block->runs;
    }
}

static FILE *create(const char *suffix)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%ld.%s", out, (long)getpid(), suffix);
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        perror(path);
    return file;
}

static void ended(plugin_id id, void *data)
{
    (void)id, (void)data;
    FILE *file = create("counts");
    if (file != NULL)
        fwrite(&threads, sizeof threads, 1, file);
    for (struct block *block = blocks; file != NULL && block != NULL; block = block->next) {
        uint64_t head[] = {block->address, marks >= 2 ? block->kept : block->runs, block->length};
        if (head[1] > 0) {
            fwrite(head, sizeof head[0], 3, file);
            fwrite(block->words, sizeof block->words[0], block->length, file);
        }
    }
    bool good = file != NULL && !ferror(file) && fclose(file) == 0;
    /* The map comes last and tells the reader that all is there. */
    file = good ? create("maps") : NULL;
    if (file == NULL || fwrite(maps, 1, maps_size, file) != maps_size || fclose(file) != 0)
        perror(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc,
                                                               char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        fprintf(stderr, "counter: expected out=FOLDER\n");
        return 1;
    }
    out = argv[0] + 4;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_init_cb(id, started);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
