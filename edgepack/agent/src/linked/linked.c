#include "linked.h"

/* What the model's object files have. */
extern const edgepack_net edgepack_this_net;
extern const char edgepack_index_ranges[];
extern const unsigned char edgepack_build_id[BUILD_ID];

const struct linked_model linked_model = {
    .build_id = edgepack_build_id,
    .functions = {
        .net = &edgepack_this_net,
        .index_ranges = edgepack_index_ranges,
        .open = edgepack_open,
        .close = edgepack_close,
        .input_count = edgepack_input_count,
        .output_count = edgepack_output_count,
        .input_info = edgepack_input_info,
        .output_info = edgepack_output_info,
        .set_input = edgepack_set_input,
        .run = edgepack_run,
        .profile = edgepack_profile,
        .kernel_count = edgepack_kernel_count,
        .kernel_name = edgepack_kernel_name,
        .output = edgepack_output,
    },
};
