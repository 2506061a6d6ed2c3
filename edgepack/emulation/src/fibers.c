#include "fibers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Thread_local struct worker *emu_worker;
__thread struct emu_bounds emu_bounds;

/* emu_switch(&from, to): keeps the registers that a call preserves on the current stack, and takes those of the other.
 * ucontext would do the same with two system calls. */
void emu_switch(void **from, void *to);
#if defined(__x86_64__)
enum { FRAME_WORDS = 8, FRAME_ENTRY = 6 };
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch, @function\nemu_switch:\n"
        " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n"
        ".size emu_switch, . - emu_switch\n");
#elif defined(__aarch64__)
enum { FRAME_WORDS = 20, FRAME_ENTRY = 11 };
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch, %function\nemu_switch:\n"
        " sub sp, sp, #160\n"
        " stp x19, x20, [sp, #0]\n stp x21, x22, [sp, #16]\n stp x23, x24, [sp, #32]\n"
        " stp x25, x26, [sp, #48]\n stp x27, x28, [sp, #64]\n stp x29, x30, [sp, #80]\n"
        " stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n stp d12, d13, [sp, #128]\n"
        " stp d14, d15, [sp, #144]\n"
        " mov x9, sp\n str x9, [x0]\n mov sp, x1\n"
        " ldp x19, x20, [sp, #0]\n ldp x21, x22, [sp, #16]\n ldp x23, x24, [sp, #32]\n"
        " ldp x25, x26, [sp, #48]\n ldp x27, x28, [sp, #64]\n ldp x29, x30, [sp, #80]\n"
        " ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n ldp d12, d13, [sp, #128]\n"
        " ldp d14, d15, [sp, #144]\n"
        " add sp, sp, #160\n ret\n"
        ".size emu_switch, . - emu_switch\n");
#else
#error "no context switch for this architecture"
#endif

static char *stack_of(const struct worker *worker, size_t index)
{
    return worker->stacks + index * (EMU_STACK_SIZE + worker->page) + worker->page;
}

size_t worker_stacks_size(const struct worker *worker)
{
    return EMU_MAX_THREADS * (EMU_STACK_SIZE + worker->page);
}

struct worker *worker_new(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct worker *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->page = page;
    made->fibers = aligned_alloc(16, EMU_MAX_THREADS * sizeof *made->fibers);
    for (size_t i = 0; made->fibers && i < EMU_MAX_THREADS; i++)
        made->fibers[i].copies = NULL;
    made->order = calloc(2 * EMU_MAX_THREADS, sizeof *made->order);
    made->position_of = made->order + EMU_MAX_THREADS;
    made->shared = aligned_alloc(128, SHARED_SIZE);
    made->stacks = mmap(NULL, worker_stacks_size(made), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (!made->fibers || !made->order || !made->shared || made->stacks == MAP_FAILED)
        return NULL; /* the process is about to fail: what was allocated does not matter */
    for (size_t i = 0; i < EMU_MAX_THREADS; i++)
        mprotect(stack_of(made, i) - page, page, PROT_NONE);
    return made;
}

/* --- waiting --------------------------------------------------------------------------------------------- */

static void run_fiber(struct worker *worker, uint32_t position)
{
    struct fiber *from = worker->current, *to = &worker->fibers[worker->order[position]];
    worker->position = position;
    worker->current = to;
    emu_bounds.stack = (uintptr_t)stack_of(worker, (size_t)(to - worker->fibers));
    if (to != from)
        emu_switch(&from->stack_pointer, to->stack_pointer);
}

static const char *waits_for(enum state state)
{
    return state == AT_BARRIER ? "__syncthreads()" : "a warp's barrier, vote or shuffle";
}

/* All threads wait or have returned, and none can go on. */
static void stuck(struct worker *worker)
{
    const struct fiber *waiting = NULL, *other = NULL;
    for (uint32_t i = 0; i < worker->threads; i++) {
        const struct fiber *fiber = &worker->fibers[i];
        if (waiting == NULL && fiber->state != RETURNED)
            waiting = fiber;
        else if (waiting && (fiber->state != waiting->state || fiber->site != waiting->site))
            other = fiber;
    }
    for (uint32_t i = 0; other == NULL && i < worker->threads; i++)
        if (worker->fibers[i].state == RETURNED)
            other = &worker->fibers[i];
    worker->current = (struct fiber *)waiting;
    const struct emu_index *at = other ? &other->thread.thread : NULL;
    if (other == NULL)
        emu_fault("%s in line %d waits for threads that never come", waits_for(waiting->state), waiting->site);
    if (other->state == RETURNED)
        emu_fault("%s in line %d is not reached by all threads: thread (%u,%u,%u) has returned",
                  waits_for(waiting->state), waiting->site, at->x, at->y, at->z);
    emu_fault("%s in line %d is not reached by all threads: thread (%u,%u,%u) waits at %s in line %d",
              waits_for(waiting->state), waiting->site, at->x, at->y, at->z, waits_for(other->state), other->site);
}

static void set_ready(struct worker *worker, uint32_t number, bool ready)
{
    uint32_t position = worker->position_of[number];
    if (ready)
        worker->ready[position / 64] |= (uint64_t)1 << position % 64;
    else
        worker->ready[position / 64] &= ~((uint64_t)1 << position % 64);
}

static void set_state(struct worker *worker, struct fiber *fiber, enum state state)
{
    fiber->state = state;
    set_ready(worker, fiber->thread.number, state == READY);
}

/* Runs the next thread that can run, in the order; returns when the caller's thread can. */
static void wait_turn(struct worker *worker)
{
    uint32_t words = (worker->threads + 63) / 64, start = worker->position + 1;
    uint64_t later = start % 64 ? ~(uint64_t)0 << start % 64 : ~(uint64_t)0;
    for (uint32_t i = 0; i <= words; i++) {
        uint32_t word = (start / 64 + i) % words;
        uint64_t ready = worker->ready[word] & (i == 0 && start / 64 < words ? later : ~(uint64_t)0);
        if (ready != 0) {
            run_fiber(worker, 64 * word + (uint32_t)__builtin_ctzll(ready));
            return;
        }
    }
    stuck(worker);
}

/* If all threads that have not returned wait at one barrier, lets them go on. */
static bool release_block(struct worker *worker)
{
    if (worker->waiting < worker->threads || worker->returned > 0)
        return false;
    int site = worker->fibers[0].site;
    for (uint32_t i = 1; i < worker->threads; i++)
        if (worker->fibers[i].site != site)
            return false;
    for (uint32_t i = 0; i < worker->threads; i++)
        set_state(worker, &worker->fibers[i], READY);
    worker->waiting = 0;
    return true;
}

/* If all lanes of the mask that have not returned wait at one barrier of the warp, lets them go on. */
static bool release_lanes(struct worker *worker, uint32_t number, uint32_t mask, int site)
{
    struct warp *warp = &worker->warps[number / EMU_WARP];
    struct fiber *lanes = &worker->fibers[number / EMU_WARP * EMU_WARP];
    uint32_t members = mask & warp->alive;
    if ((warp->waiting & members) != members)
        return false;
    for (uint32_t left = members; left != 0; left &= left - 1) {
        const struct fiber *lane = &lanes[__builtin_ctz(left)];
        if (lane->site != site || lane->mask != mask)
            return false;
    }
    for (uint32_t left = members; left != 0; left &= left - 1) {
        struct fiber *lane = &lanes[__builtin_ctz(left)];
        lane->took = lane->from < EMU_WARP && (members >> lane->from & 1);
        if (lane->took)
            memcpy(lane->got, lanes[lane->from].slot, sizeof lane->got);
        set_state(worker, lane, READY);
    }
    warp->waiting &= ~members;
    return true;
}

/* A thread returns: barriers of its warp no longer wait for it. */
static void leave(struct worker *worker, struct fiber *fiber)
{
    uint32_t number = fiber->thread.number;
    struct warp *warp = &worker->warps[number / EMU_WARP];
    set_state(worker, fiber, RETURNED);
    worker->returned++;
    warp->alive &= ~(1u << number % EMU_WARP);
    for (uint32_t left = warp->waiting; left != 0; left &= left - 1) {
        const struct fiber *lane = &worker->fibers[number / EMU_WARP * EMU_WARP + (uint32_t)__builtin_ctz(left)];
        if (lane->state == AT_WARP_BARRIER)
            release_lanes(worker, number, lane->mask, lane->site);
    }
}

void emu_barrier(int site)
{
    struct worker *worker = emu_worker;
    worker->current->site = site;
    set_state(worker, worker->current, AT_BARRIER);
    worker->waiting++;
    if (release_block(worker))
        run_fiber(worker, 0); /* the order begins anew */
    else
        wait_turn(worker);
}

static void wait_for_lanes(struct worker *worker, uint32_t mask, int site, uint32_t from)
{
    struct fiber *self = worker->current;
    uint32_t number = self->thread.number;
    if (!(mask >> number % EMU_WARP & 1))
        emu_fault("a warp operation in line %d has the mask 0x%08x, without the thread that calls it", site, mask);
    self->site = site;
    self->mask = mask;
    self->from = from;
    set_state(worker, self, AT_WARP_BARRIER);
    worker->warps[number / EMU_WARP].waiting |= 1u << number % EMU_WARP;
    if (!release_lanes(worker, number, mask, site))
        wait_turn(worker);
}

void emu_warp_barrier(uint32_t mask, int site)
{
    wait_for_lanes(emu_worker, mask, site, EMU_WARP);
}

bool emu_exchange(uint32_t mask, int site, uint32_t from, void *value, size_t size)
{
    struct worker *worker = emu_worker;
    struct fiber *self = worker->current;
    memcpy(self->slot, value, size);
    wait_for_lanes(worker, mask, site, from);
    if (self->took)
        memcpy(value, self->got, size);
    return self->took;
}

uint32_t emu_active_lanes(void)
{
    const struct worker *worker = emu_worker;
    return worker->warps[worker->current->thread.number / EMU_WARP].alive;
}

void *emu_lane(uint32_t lane)
{
    struct worker *worker = emu_worker;
    uint32_t number = worker->current->thread.number / EMU_WARP * EMU_WARP + lane;
    return lane < EMU_WARP && number < worker->threads ? worker->fibers[number].slot : NULL;
}

struct emu_thread *emu_self(void)
{
    return &emu_worker->current->thread;
}

/* --- blocks ---------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void order_fill(uint32_t *order, uint32_t count, const struct launch *launch, uint64_t stream)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = launch->order == ORDER_REVERSE ? count - 1 - i : i;
    if (launch->order != ORDER_RANDOM)
        return;
    uint64_t state = launch->seed * 0x2545f4914f6cdd1du + stream;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)(next_random(&state) % i), kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

static void set_order(struct worker *worker, uint64_t stream)
{
    order_fill(worker->order, worker->threads, worker->launch, stream);
    for (uint32_t i = 0; i < worker->threads; i++)
        worker->position_of[worker->order[i]] = i;
}

void worker_begin(struct worker *worker, const struct launch *launch)
{
    worker->launch = launch;
    emu_bounds = (struct emu_bounds){
        .memory = memory_base,
        .memory_size = memory_span,
        .owner = memory_owner,
        .limit = memory_limits,
        .slots = (uintptr_t)worker->fibers,
        .slots_end = (uintptr_t)(worker->fibers + EMU_MAX_THREADS),
    };
    memory_forbid((uintptr_t)worker->shared, SHARED_SIZE);
    worker->shared_used = worker->static_used = 0;
    worker->threads = launch->block.x * launch->block.y * launch->block.z;
    worker->failed = false;
    set_order(worker, 0);
}

static void enter(void)
{
    struct worker *worker = emu_worker;
    const struct launch *launch = worker->launch;
    if (launch->kernel->run_block != NULL) {
        launch->kernel->run_block(&worker->current->thread, launch->parameters,
                                  launch->order == ORDER_FORWARD ? NULL : worker->order);
    } else {
        launch->kernel->run_thread(&worker->current->thread, launch->parameters);
        leave(worker, worker->current);
        if (worker->returned < worker->threads)
            wait_turn(worker);
    }
    emu_switch(&worker->current->stack_pointer, worker->host_stack_pointer);
    __builtin_trap(); /* a fiber that has returned is not run again */
}

static void prepare(struct worker *worker, uint32_t number, struct emu_index block)
{
    const struct emu_index *size = &worker->launch->block;
    struct fiber *fiber = &worker->fibers[number];
    /* Stacks at equal distances would share the same lines of the caches. */
    size_t colour = 256 * (number % 16);
    void **top = (void **)(stack_of(worker, number) + EMU_STACK_SIZE - 64 - colour);
    memset(top - FRAME_WORDS, 0, FRAME_WORDS * sizeof *top);
    top -= FRAME_WORDS;
    top[FRAME_ENTRY] = (void *)enter;
    fiber->stack_pointer = top;
    fiber->copying = false;
    fiber->thread = (struct emu_thread){
        .thread = {number % size->x, number / size->x % size->y, number / size->x / size->y},
        .block = block,
        .block_size = *size,
        .grid_size = worker->launch->grid,
        .number = number,
    };
    set_state(worker, fiber, READY);
    worker->warps[number / EMU_WARP].alive |= 1u << number % EMU_WARP;
}


bool worker_run(struct worker *worker, struct emu_index block, uint64_t block_number)
{
    bool plain = worker->launch->kernel->run_block != NULL;
    emu_worker = worker;
    worker->waiting = worker->returned = 0;
    memset(worker->ready, 0, sizeof worker->ready);
    memset(worker->warps, 0, sizeof worker->warps);
    for (int i = 0; i < emu_bounds.array_count; i++)
        memset((void *)emu_bounds.arrays[i].start, 0xff, emu_bounds.arrays[i].end - emu_bounds.arrays[i].start);
    if (worker->launch->order == ORDER_RANDOM)
        set_order(worker, block_number + 1);
    for (uint32_t i = 0; i < (plain ? 1 : worker->threads); i++)
        prepare(worker, i, block);
    uint32_t first = plain ? 0 : worker->order[0];
    worker->position = 0;
    worker->current = &worker->fibers[first];
    emu_bounds.stack = (uintptr_t)stack_of(worker, first);
    worker->inside = true;
    emu_switch(&worker->host_stack_pointer, worker->current->stack_pointer);
    worker->inside = false;
    return !worker->failed;
}

/* Gives the block up: the fibers' stacks are left as they are. */
static void give_up(struct worker *worker)
{
    void *unused;
    worker->failed = true;
    emu_switch(&unused, worker->host_stack_pointer);
    __builtin_unreachable();
}

static __attribute__((format(printf, 2, 0), noreturn)) void fault(int error, const char *format, va_list arguments)
{
    struct worker *worker = emu_worker;
    const struct emu_thread *at = &worker->current->thread;
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    gpu_poison(error, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): %s", worker->launch->name, at->block.x,
               at->block.y, at->block.z, at->thread.x, at->thread.y, at->thread.z, text);
    give_up(worker);
    __builtin_unreachable();
}

void emu_fault(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fault(CUDA_LAUNCH_FAILED, format, arguments);
}

void emu_fault_with(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fault(error, format, arguments);
}
