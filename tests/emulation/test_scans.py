"""Prefix sums on the emulated GPU, whose threads run in any order: no thread may rely on what another has just written."""

import numpy as np
import pytest
from gpu_models import built_for_gpu
from onnx import helper, numpy_helper

FIRST = ((2, 300), 1, "int32", {"exclusive": 1})
MORE = [
    ((3, 33, 5), 1, "float32", {"reverse": 1}),
    ((1, 1), 1, "float32", {}),
    ((2, 3), 0, "float64", {}),
    ((4097,), 0, "int64", {}),
    ((2, 2100), 1, "float16", {}),
]


@pytest.mark.parametrize(
    ("shape", "axis", "dtype", "options"),
    [FIRST, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE)],
)
def test_prefix_sums_in_every_order(shape, axis, dtype, options, tmp_path):
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    ends = {
        name: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), shape)
        for name in "xy"
    }
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], **options)
    graph = helper.make_graph(
        [node], "g", [ends["x"]], [ends["y"]], [numpy_helper.from_array(np.array(axis), "axis")]
    )
    model = built_for_gpu(graph, tmp_path)
    along = np.flip(x, axis) if options.get("reverse") else x
    wanted = along.astype("float64").cumsum(axis) - (along if options.get("exclusive") else 0)
    wanted = np.flip(wanted, axis) if options.get("reverse") else wanted
    for order in ("forward", "reverse"):
        np.testing.assert_array_equal(model.run(order=order, x=x), wanted.astype(dtype))
