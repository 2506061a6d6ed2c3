#include "weights.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"

/* What loading needs. The blocks are read by several threads, each of which takes the next one. */
struct loading {
    const struct weightfile *file;
    const uint8_t **stored; /* the address of each weight of the file, while weights are computed */
    uint8_t **homes;        /* where those that are not used in place are put; NULL for the others */
    bool *later;            /* of each block: it is read when it is fetched */
    atomic_ullong next;
    atomic_flag failed;
    struct weights_problem *problem; /* of the first that has failed */
};

static bool refuse_weight(struct weights_problem *problem, uint32_t number, const char *why)
{
    snprintf(problem->text, sizeof problem->text, "weight %u %s", number, why);
    return false;
}

/* Finds the place of every weight of the file, which may have been made to look like the model's. */
static bool place(struct loading *loading, const struct net_details *net, uint8_t *own)
{
    const struct weightfile *file = loading->file;
    for (uint32_t i = 0; i < net->stored_count; i++) {
        const struct stored_weight *stored = &net->stored[i];
        if (file->weights[i].raw_bytes != stored->size)
            return refuse_weight(loading->problem, i, "has another size than the model's");
        if (stored->place == WEIGHT_LATER) {
            loading->later[file->weights[i].block] = true;
        } else if (stored->place == WEIGHT_IN_PLACE) {
            loading->stored[i] = weightfile_in_place(file, i);
            if (loading->stored[i] == NULL)
                return refuse_weight(loading->problem, i, "is stored in another form than the model's");
        } else {
            loading->stored[i] = loading->homes[i] = own + stored->place;
        }
    }
    for (uint32_t i = 0; i < net->stored_count; i++) /* a block has one weight that is fetched, or none */
        if (net->stored[i].place != WEIGHT_LATER && loading->later[file->weights[i].block])
            return refuse_weight(loading->problem, i, "shares a block with one that it should not share it with");
    return true;
}

static bool read_block(struct loading *loading, uint64_t block, struct weights_problem *problem)
{
    if (!weightfile_read_block(loading->file, block, loading->homes, problem))
        return false;
    if (loading->file->blocks[block].coded)
        weightfile_forget(loading->file, block);
    return true;
}

static int read_blocks(int task, struct group *group, void *data)
{
    struct loading *loading = data;
    struct weights_problem problem = {0};
    (void)task, (void)group;
    for (;;) {
        const uint64_t block = atomic_fetch_add(&loading->next, 1);
        if (block >= loading->file->blocks_count)
            return 0;
        if (loading->later[block] || read_block(loading, block, &problem))
            continue;
        if (!atomic_flag_test_and_set(&loading->failed))
            *loading->problem = problem;
        return -1;
    }
}

const uint8_t *edgepack_fetch(struct loading *loading, uint32_t number, uint8_t *room)
{
    loading->homes[number] = room;
    if (!read_block(loading, loading->file->weights[number].block, loading->problem))
        return NULL;
    return loading->stored[number] = room;
}

/* Computes the weights that are not stored as they are. */
static bool compute(struct loading *loading, const struct net_details *net, uint8_t *own)
{
    uint8_t *arena = memory_new(net->arena_at_load);
    int32_t failed = 1;
    if (arena != NULL)
        failed = net->load(loading, loading->stored, own, arena);
    memory_free(arena, net->arena_at_load);
    if (failed && loading->problem->text[0] == '\0') {
        loading->problem->out_of_memory = true;
        snprintf(loading->problem->text, sizeof loading->problem->text,
                 "the weights cannot be decoded: out of memory");
    }
    return !failed;
}

static bool read_file(struct weights *weights, const struct net_details *net, struct loading *loading)
{
    const struct weightfile *file = loading->file;
    const size_t count = (size_t)net->stored_count + 1;
    loading->stored = calloc(count, sizeof *loading->stored);
    loading->homes = calloc(count, sizeof *loading->homes);
    loading->later = calloc(file->blocks_count + 1, sizeof *loading->later);
    if (loading->stored == NULL || loading->homes == NULL || loading->later == NULL) {
        loading->problem->out_of_memory = true;
        snprintf(loading->problem->text, sizeof loading->problem->text, "out of memory");
        return false;
    }
    return place(loading, net, weights->own) && pool_run(read_blocks, loading) == 0 &&
           compute(loading, net, weights->own);
}

static bool load(struct weights *weights, const struct net_details *net, struct weights_problem *problem)
{
    struct loading loading = {.file = &weights->file, .problem = problem, .failed = ATOMIC_FLAG_INIT};
    const bool good = read_file(weights, net, &loading);
    bool in_place = false;
    for (uint32_t i = 0; good && i < net->weight_count; i++) {
        const struct kept_weight *kept = &net->kept[i];
        weights->kept[i] = kept->stored < 0 ? weights->own + kept->place : loading.stored[kept->stored];
        in_place = in_place || (kept->stored >= 0 && net->stored[kept->stored].place == WEIGHT_IN_PLACE);
    }
    free(loading.stored);
    free(loading.homes);
    free(loading.later);
    if (!good || !in_place)
        weightfile_close(&weights->file);
    return good;
}

bool weights_load(struct weights *weights, const struct net_details *net, struct pool *pool, const char *path,
                  const void *data, uint64_t size, struct weights_problem *problem)
{
    const struct weights_identity expected = {net->stored_count, net->index_crc, net->stored_bytes};
    weights->own = memory_new(net->own_at_load);
    weights->kept = calloc((size_t)net->weight_count + 1, sizeof *weights->kept);
    if (weights->own == NULL || weights->kept == NULL) {
        problem->out_of_memory = true;
        snprintf(problem->text, sizeof problem->text, "out of memory: weights of %llu bytes",
                 (unsigned long long)net->own_at_load);
        return false;
    }
    const bool opened = path != NULL ? weightfile_open(&weights->file, path, &expected, problem)
                                     : weightfile_open_memory(&weights->file, data, size, &expected, problem);
    pool_enter(pool);
    const bool good = opened && load(weights, net, problem);
    pool_leave(pool);
    if (!good)
        return false;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), kept = (net->own + page) / page * page;
    if (kept < net->own_at_load)
        madvise(weights->own + kept, net->own_at_load - kept, MADV_DONTNEED);
    mprotect(weights->own, net->own_at_load + 1, PROT_READ);
    return true;
}

void weights_free(struct weights *weights, const struct net_details *net)
{
    weightfile_close(&weights->file);
    memory_free(weights->own, net->own_at_load);
    free(weights->kept);
}
