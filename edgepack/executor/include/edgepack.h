/* Running a compiled model. No global state: everything belongs to a model that was opened.
 *
 *     #include <edgepack.h>
 *     extern const edgepack_net digits;              // from libdigits.a
 *
 *     edgepack_model *model = NULL;
 *     char why[EDGEPACK_TEXT];
 *     if (edgepack_open(&digits, "digits.weights", 1, &model, why) != EDGEPACK_OK)
 *         fail(why);
 *     edgepack_set_input(model, 0, pixels, sizeof pixels);
 *     edgepack_run(model);
 *     const float *scores = edgepack_output(model, 0);
 *     edgepack_close(model);
 *
 * A model is used by one thread at a time; two threads open it twice. A process that is forked may use and close its copy
 * of an open model, on one thread; for several it opens the model anew. */
#ifndef EDGEPACK_H
#define EDGEPACK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define EDGEPACK_API 2 /* of this header */

enum { EDGEPACK_TEXT = 4096 };

typedef enum {
    EDGEPACK_OK = 0,
    EDGEPACK_ARGUMENT = 1, /* NULL, a number that is no input's, a wrong size */
    EDGEPACK_WEIGHTS = 2,  /* the weights file is missing, damaged, or another model's */
    EDGEPACK_MEMORY = 3,
    EDGEPACK_OTHER_RUNTIME = 4, /* the model was compiled for another version of the runtime */
    EDGEPACK_BUSY = 5,    /* another thread uses the model */
    EDGEPACK_CPU = 6      /* the CPU lacks instructions that the model was compiled for */
} edgepack_status;

/* A tensor's name, element type (DLPack's code: 0 signed, 1 unsigned, 2 float, 4 bfloat, 6 bool), shape, and bytes. If it
 * is quantized, an integer q stands for scale * (q - zero_point); else the scale is 0. */
typedef struct {
    const char *name;
    uint8_t code, bits;
    int32_t rank;
    const int64_t *shape;
    uint64_t size;
    float scale;
    int32_t zero_point;
} edgepack_tensor;

typedef struct edgepack_net edgepack_net;     /* a compiled model */
typedef struct edgepack_model edgepack_model; /* one that is open */

/* Makes the model ready, with the weights in a file. `threads` is at least 1. On failure `why` says what is wrong. The
 * file is mapped: while the model is open, it may be replaced or removed, but not written to or cut. With NULL for the
 * file, the model uses the weights that are part of its library, if they are. */
edgepack_status edgepack_open(const edgepack_net *net, const char *weights, int threads, edgepack_model **model,
                              char why[EDGEPACK_TEXT]);

/* The same, with the contents of the weights file in memory, which stays as it is until the model is closed. It is not
 * copied if it is aligned to 64 bytes. */
edgepack_status edgepack_open_memory(const edgepack_net *net, const void *weights, size_t size, int threads,
                                     edgepack_model **model, char why[EDGEPACK_TEXT]);

void edgepack_close(edgepack_model *model);

int edgepack_input_count(const edgepack_net *net);
int edgepack_output_count(const edgepack_net *net);

/* NULL if there is no input or output of this number. */
const edgepack_tensor *edgepack_input_info(const edgepack_net *net, int number);
const edgepack_tensor *edgepack_output_info(const edgepack_net *net, int number);

/* Copies an input of exactly this size into the model. */
edgepack_status edgepack_set_input(edgepack_model *model, int number, const void *data, size_t size);

/* Lets the model read an input from, or write an output to, memory of the caller's, aligned to 64 bytes, until it is
 * bound anew; NULL for the model's own again. */
edgepack_status edgepack_bind_input(edgepack_model *model, int number, const void *data, size_t size);
edgepack_status edgepack_bind_output(edgepack_model *model, int number, void *data, size_t size);

/* One inference. */
edgepack_status edgepack_run(edgepack_model *model);

/* The kernels that an inference calls, in order; NULL if there is none of this number. */
int edgepack_kernel_count(const edgepack_net *net);
const char *edgepack_kernel_name(const edgepack_net *net, int number);

/* One inference, with the time that each kernel took in `nanoseconds`, an array with room for edgepack_kernel_count. */
edgepack_status edgepack_profile(edgepack_model *model, uint64_t *nanoseconds);

/* The output of the last run, where it is bound to; NULL if there is none of this number. */
const void *edgepack_output(const edgepack_model *model, int number);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
