/* Runs the model of this bundle on .npy files and prints the largest values of its first output.
 *
 *     cc -O2 -Wall infer.c -o infer -I../include ../model/model.so -Wl,-rpath,'$ORIGIN/../model'
 *     ./infer [INPUT.npy...] */
#include <edgepack.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHTS "../model/model.so.weights" /* from the folder in which the program runs */

extern const edgepack_net edgepack_this_net; /* in model.so */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "infer: %s: %s\n", what, why);
    exit(1);
}

/* Reads the elements of a C-ordered little-endian .npy file of version 1. */
static void read_npy(const char *path, void *data, size_t size)
{
    unsigned char head[10];
    FILE *file = fopen(path, "rb");
    if (file == NULL || fread(head, 1, 10, file) != 10 || memcmp(head, "\x93NUMPY\x01", 7) != 0)
        die(path, "not a .npy file of version 1");
    if (fseek(file, head[8] + 256L * head[9], SEEK_CUR) != 0 || fread(data, 1, size, file) != size ||
        fgetc(file) != EOF)
        die(path, "its size is not that of the model's input");
    fclose(file);
}

static double element(const edgepack_tensor *type, const void *data, size_t i)
{
    if (type->code == 2 && type->bits == 32)
        return ((const float *)data)[i];
    if (type->code == 0 && type->bits == 64)
        return (double)((const int64_t *)data)[i];
    if (type->code == 0 && type->bits == 32)
        return ((const int32_t *)data)[i];
    die("the output", "has an element type that this example does not print");
    return 0;
}

static void print_largest(const edgepack_tensor *type, const void *data)
{
    const size_t count = type->size * 8 / type->bits;
    size_t before = count;
    for (int rank = 0; rank < 5; rank++) {
        size_t best = count;
        for (size_t i = 0; i < count; i++) { /* the next one in the order of value, then index */
            const double value = element(type, data, i);
            if (before < count && !(value < element(type, data, before)) &&
                !(value == element(type, data, before) && i > before))
                continue;
            if (value == value && (best == count || value > element(type, data, best)))
                best = i;
        }
        if (best == count)
            return;
        printf("%8zu  %g\n", best, element(type, data, best));
        before = best;
    }
}

int main(int count, char **words)
{
    char *sample[] = {words[0], "../sample/input-0.npy"};
    char why[EDGEPACK_TEXT];
    edgepack_model *model;
    if (count < 2) {
        count = 2;
        words = sample;
    }
    if (edgepack_input_count(&edgepack_this_net) != count - 1)
        die("the model", "it has another number of inputs");
    if (edgepack_open(&edgepack_this_net, WEIGHTS, 1, &model, why) != EDGEPACK_OK)
        die("the model", why);
    for (int i = 0; i < count - 1; i++) {
        const size_t size = edgepack_input_info(&edgepack_this_net, i)->size;
        void *data = malloc(size + 1);
        if (data == NULL)
            die(words[i + 1], "out of memory");
        read_npy(words[i + 1], data, size);
        edgepack_set_input(model, i, data, size);
        free(data);
    }
    if (edgepack_run(model) != EDGEPACK_OK)
        die("the model", "out of memory");
    print_largest(edgepack_output_info(&edgepack_this_net, 0), edgepack_output(model, 0));
    edgepack_close(model);
    return 0;
}
