"""The runtime's sort: the order of every type, of equal values, of NaN; and models that sort."""

import ctypes
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepack.config.target import load_target
from edgepack.executor.build import FLAGS, SOURCES
from edgepack.toolchain.zig import compile_c

CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
TYPES = [
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    out = tmp_path_factory.mktemp("sort") / "sort.so"
    target = load_target("host")
    visible = [flag for flag in FLAGS if flag != "-fvisibility=hidden"]
    compile_c([SOURCES / "sort.c"], out, target.abi.arch, target.abi.libc, [*visible, "-shared"])
    return ctypes.CDLL(str(out))


def run(library, data, kept, index_type, *, ascending):
    """Sort ``[outer, count, inner]`` along the middle; returns the first ``kept`` values and indices."""
    outer, count, inner = data.shape
    values, indices = (np.zeros((outer, kept, inner), kind) for kind in (data.dtype, index_type))
    scratch = np.zeros(2 * count + 1, "complex128")
    pointers = (each.ctypes.data_as(ctypes.c_void_p) for each in (data, values, indices, scratch))
    sizes = (ctypes.c_int64(each) for each in (outer, count, inner, kept))
    kinds = (each for kind in (data.dtype, indices.dtype) for each in (CODES[kind.kind], kind.itemsize * 8))
    assert library.edgepack_sort(*pointers, *sizes, *kinds, int(ascending)) == 0
    return values, indices


@given(values=st.data(), kept=st.integers(0, 80), ascending=st.booleans(), dtype=st.sampled_from(TYPES))
@settings(max_examples=150, deadline=None)
def test_the_order_is_that_of_a_stable_sort(library, values, kept, ascending, dtype):
    shape = st.tuples(st.integers(1, 3), st.integers(1, 80), st.integers(1, 3))
    few = st.integers(0, 3).map(lambda each: np.dtype(dtype).type(each))
    elements = st.one_of(few, arrays.from_dtype(np.dtype(dtype)))
    data = values.draw(arrays.arrays(dtype, shape, elements=elements))
    kept = min(kept, data.shape[1])
    index_type = values.draw(st.sampled_from(["int32", "int64", "float32"]))
    found, places = run(library, data, kept, index_type, ascending=ascending)
    # Python's numbers compare exactly; NaN after all others, zeros equal.
    for row in np.ndindex(data.shape[0], data.shape[2]):
        column = data[row[0], :, row[1]].tolist()
        keys = [(math.isnan(each), 0 if math.isnan(each) else each) for each in column]
        order = sorted(range(len(keys)), key=keys.__getitem__, reverse=not ascending)
        assert places[row[0], :, row[1]].tolist() == order[:kept]
        want = np.asarray([data[row[0], place, row[1]] for place in order[:kept]], dtype)
        assert found[row[0], :, row[1]].tobytes() == want.tobytes()
