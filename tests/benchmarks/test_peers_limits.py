"""The machine's limits: the kernels compute what they say, with the instructions they say. Never how fast."""

import ctypes
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from benchmarks.kit import places
from benchmarks.peers import limits
from edgepack.config import host
from edgepack.errors import EdgepackError

FMA, DOT = r"\bvfmadd\w*ps\b|\bfmla\b", r"\bvpdpbusd\b|\bsdot\b"


def _run(variant, state, steps):
    library = limits.library()
    library[variant.name](ctypes.c_void_p(state.ctypes.data), ctypes.c_long(steps))


@pytest.mark.parametrize("variant", limits.here(), ids=lambda variant: variant.name)
def test_kernels_compute_what_they_say(variant):
    state = limits.new_state(variant)
    if variant.kind == "fma":
        vectors = state.view(np.float32).reshape(variant.unroll + 2, -1)
        vectors[0], vectors[1] = 1, 3
        vectors[2:] = np.arange(vectors[2:].size).reshape(variant.unroll, -1)
        expected = vectors[2:] + 3 * 1000
    else:
        operands = state.reshape(variant.unroll + 2, -1)
        random = np.random.default_rng(0)
        operands[0] = random.integers(0, 128, variant.bytes)  # both of SDOT's are signed
        operands[1] = random.integers(-128, 128, variant.bytes).astype(np.int8).view(np.uint8)
        vectors = state.view(np.int32).reshape(variant.unroll + 2, -1)
        vectors[2:] = np.arange(vectors[2:].size).reshape(variant.unroll, -1)
        products = operands[0].astype(int) * operands[1].view(np.int8).astype(int)
        expected = vectors[2:] + 1000 * products.reshape(-1, 4).sum(1)
    _run(variant, state, 1000)
    np.testing.assert_array_equal(vectors[2:], expected)


def test_a_step_is_as_many_multiply_adds_as_the_variant_says():
    fma, dot = limits.Variant("fma", 32, 4), limits.Variant("dot", 64, 8)
    assert (fma.macs, dot.macs) == (4 * 8, 8 * 64)


def test_stream_kernels_compute_what_they_say():
    library = limits.library()
    count = 128 * 40
    random = np.random.default_rng(0)
    a, b, c = (limits.aligned(4 * count).view(np.float32) for _ in "abc")
    for array in (a, b, c):
        array[:] = random.integers(0, 100, count)  # sums stay exact
    state = limits.Stream(a.ctypes.data, b.ctypes.data, c.ctypes.data, count, 0.0)
    library.read_all(ctypes.byref(state), ctypes.c_long(2))
    assert state.sum == 2 * a.sum(dtype=np.float64)
    library.triad(ctypes.byref(state), ctypes.c_long(2))
    np.testing.assert_array_equal(a, b + 3 * c)


def test_the_compiler_kept_the_work():
    objdump = shutil.which("objdump")
    if objdump is None:
        assert os.environ.get("CI") != "true", "needs objdump: apt-get install binutils"
        pytest.skip("needs objdump: apt-get install binutils")
    argv = [objdump, "-d", "--no-show-raw-insn", str(limits.build())]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    bodies = dict(re.findall(r"^\w+ <(\w+)>:\n((?:.+\n)+)", text, re.MULTILINE))
    if not {"fma", "neon"} & set(host.describe()["cpu"]["features"]):
        pytest.skip("this CPU has no fused multiply-add")
    for variant in limits.here():
        instruction = {"fma": FMA, "dot": DOT}[variant.kind]
        assert len(re.findall(instruction, bodies[variant.name])) >= variant.unroll, variant.name


@pytest.mark.parametrize(
    ("features", "bits", "names"),
    [
        ({"avx512f", "avx512vnni"}, 512, {"fma_64_12", "fma_32_12", "dot_64_12"}),
        ({"avx2", "fma", "avxvnni"}, 256, {"fma_32_12", "fma_16_12", "dot_32_12"}),
        ({"avx2", "fma"}, 256, {"fma_32_12", "fma_16_12"}),
        ({"neon", "dotprod"}, 128, {"fma_16_12", "dot_16_12"}),
        ({"neon"}, 128, {"fma_16_12"}),
    ],
)
def test_variants_follow_the_cpu(features, bits, names):
    made = limits.variants(features, bits)
    assert {variant.name for variant in made if variant.unroll == 12} == names
    code = limits.source(made)
    assert all(f"void {variant.name}(void *state, long steps)" in code for variant in made)


def test_limits_of_this_machine():
    found = limits.measure(1)
    for name in ("fp32", "triad", "read"):
        limit = found[name]
        assert limit["peak"] == max(limit["samples"]) > 0
        assert min(limit["samples"]) <= limit["median"] <= limit["peak"]
        assert limit["spread"] >= 0
    assert (found["int8"] is None) == all(variant.kind == "fma" for variant in limits.here())
    assert found["threads"] == 1


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ValueError, match="may run on"):
        limits.measure(len(os.sched_getaffinity(0)) + 1)


def test_the_canary_tells_its_time():
    assert limits.canary() > 0
    _, state = limits._canary_state()
    assert state.view(np.float32)[-1] == 2  # x = x / 2 + 1, many times: it ran


def test_a_compiler_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "CACHE", tmp_path)
    monkeypatch.setattr(limits, "FLAGS", ("-march=nosuchcpu",))
    with pytest.raises(EdgepackError, match="zig could not compile") as error:
        limits.build()
    assert "nosuchcpu" in error.value.why
