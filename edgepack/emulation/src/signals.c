/* Signals that the emulation explains: the host uses device memory, a thread of a kernel overflows its stack. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <unistd.h>

#include "fibers.h"

enum { STACK_SIZE = 64 << 10 };

static struct sigaction before[NSIG]; /* the handlers that were there before ours */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Of a thread of a kernel: ends the kernel, which also leaves the handler. */
static __attribute__((noreturn)) void kernel_fault(int number, uintptr_t address)
{
    const struct worker *worker = emu_worker;
    if (number == SIGFPE)
        emu_fault("a division of integers by zero, or of the least integer by -1: a GPU's result is unspecified");
    if (address - (uintptr_t)worker->stacks < worker_stacks_size(worker))
        emu_fault("it needs more than %d KiB of stack", EMU_STACK_SIZE >> 10);
    emu_fault_with(CUDA_ILLEGAL_ADDRESS, "an access to the address 0x%llx", (unsigned long long)address);
}

static void explain_device_pointer(uintptr_t address)
{
    char text[160];
    int length = snprintf(text, sizeof text,
                          "emulated GPU: the host used the device pointer 0x%llx; on a Jetson, memory of cudaMalloc "
                          "cannot be used by the CPU\n",
                          (unsigned long long)address);
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        _exit(139);
}

static void caught(int number, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    (void)context;
    if (emu_worker != NULL && emu_worker->inside)
        kernel_fault(number, address);
    if (number == SIGSEGV && memory_is_device(info->si_addr))
        explain_device_pointer(address);
    sigaction(number, &before[number], NULL); /* the instruction is repeated, and fails as it would without us */
}

static void install(void)
{
    /* A kernel's fault does not return from the handler: the signal must not stay blocked. */
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGSEGV, &action, &before[SIGSEGV]);
    sigaction(SIGFPE, &action, &before[SIGFPE]);
}

void signals_catch(void)
{
    pthread_once(&once, install);
}

void signals_own_stack(void)
{
    stack_t stack;
    if (sigaltstack(NULL, &stack) != 0 || !(stack.ss_flags & SS_DISABLE))
        return;
    stack = (stack_t){.ss_sp = malloc(STACK_SIZE), .ss_size = STACK_SIZE}; /* as long as the thread, which never ends */
    if (stack.ss_sp != NULL)
        sigaltstack(&stack, NULL);
}
