"""Packed vectors of eight values, which CUDA has no functions for, in the code of kernels."""

import pytest

from edgepack.lower.emit.vectors import complete
from edgepack.toolchain import cuda, nvrtc

HEAD = 'extern "C" __global__ void __launch_bounds__(1) pack'
SOURCES = {
    "int": HEAD
    + "(longlong4* y, int* x) { *y = make_longlong4(x[0], 3, 3, (x[1], 4), x[2], x[1], x[0], 9); }",
    "float": HEAD
    + "(ulonglong4* y, float* x) { *y = make_ulonglong4(x[0], x[1], x[2], x[3], x[0], x[0], x[0], x[0]); }",
    "short": HEAD
    + "(uint4* y, short* x) { *y = make_uint4(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]); }",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_functions_that_cuda_lacks_are_added(source):
    if not (cuda.nvcc() or nvrtc.library()):
        pytest.skip("no CUDA compiler: pip install 'edgepack[cuda]'")
    completed = complete(source)
    assert completed.endswith(source)
    assert cuda.compile_cubin(completed, "sm_87").startswith(b"\x7fELF")


def test_other_code_stays_as_it_is():
    source = HEAD + "(int4* y, int* x) { *y = make_int4(x[0], max(x[1], x[2]), x[1], f(1, 2, 3, 4, 5, 6)); }"
    assert complete(source) == source
