"""The machine's limits: kernels compute the right results with the right instructions. Never how fast."""

import ctypes
import os
import platform
import re
import shutil
import subprocess

import numpy as np
import pytest

from benchmarks.kit import places
from benchmarks.kit.native import shared_library
from benchmarks.peers import limits
from edgepack.config import host
from edgepack.errors import EdgepackError
from edgepack.toolchain.zig import zig

INSTRUCTIONS = {
    "fma": r"\bvfmadd\w*ps\b|\bfmla\b|\bv?mulps\b",
    "dot": r"\bvpdpbusd\b|\bsdot\b",
    "madd": r"\bv?pmaddwd\b",
}
# On x86, widened operands are exact on every CPU, so they are tested on those with VNNI, too.
WIDENED = tuple(
    limits.Variant(operation, unroll)
    for operation in limits._INT8
    if operation.kind == "madd" and operation.needs in {"sse2", *host.describe()["cpu"]["features"]}
    for unroll in limits.UNROLLS
)
HERE = tuple(dict.fromkeys((*limits.here()["fp32"], *limits.here()["int8"])))


@pytest.mark.parametrize("variant", HERE, ids=lambda variant: variant.name)
def test_kernels_compute_what_they_say(variant):
    check(limits.library(), variant)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instructions of x86")
def test_widened_operands_are_exact(tmp_path, monkeypatch):
    """Full-range u8 by full-range s8, whose pairs saturate in int16."""
    monkeypatch.setattr(places, "CACHE", tmp_path)
    path = shared_library("widened", limits.source(WIDENED), limits.FLAGS)
    for variant in WIDENED:
        check(ctypes.CDLL(str(path)), variant)


def check(library, variant):
    """A thousand steps add the expected values to the accumulators."""
    state = limits.new_state(variant)
    kind = variant.operation.kind
    if kind == "fma":
        vectors = state.view(np.float32).reshape(variant.unroll + 2, -1)
        vectors[0], vectors[1] = 1, 3
        vectors[2:] = np.arange(vectors[2:].size).reshape(variant.unroll, -1)
        expected = vectors[2:] + 3 * 1000
    else:
        together, first, second = {"dot": (4, np.uint8, np.int8), "madd": (2, np.int16, np.int16)}[kind]
        random = np.random.default_rng(0)
        operands = state.reshape(variant.unroll + 2, -1)
        most = 256 if kind == "madd" else 128  # both of SDOT's are signed
        operands[0].view(first)[:] = random.integers(0, most, operands[0].view(first).size)
        operands[1].view(second)[:] = random.integers(-128, 128, operands[1].view(second).size)
        if kind == "madd":
            operands[0].view(first)[:2], operands[1].view(second)[:2] = 255, 127
        vectors = state.view(np.int32).reshape(variant.unroll + 2, -1)
        vectors[2:] = np.arange(vectors[2:].size).reshape(variant.unroll, -1)
        products = operands[0].view(first).astype(int) * operands[1].view(second).astype(int)
        expected = vectors[2:] + 1000 * products.reshape(-1, together).sum(1)
    library[variant.name](ctypes.c_void_p(state.ctypes.data), ctypes.c_long(1000))
    np.testing.assert_array_equal(vectors[2:], expected)


def test_a_step_is_as_many_multiply_adds_as_the_variant_says():
    macs = {op.needs: limits.Variant(op, 4).macs for op in (*limits._FP32, *limits._INT8)}
    assert (macs["avx"], macs["avx512vnni"], macs["avx2"]) == (4 * 8, 4 * 64, 4 * 16)


def test_stream_kernels_compute_what_they_say():
    library = limits.library()
    count = 128 * 40
    random = np.random.default_rng(0)
    a, b, c = (limits.aligned_bytes(4 * count).view(np.float32) for _ in "abc")
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
    for variant in HERE:
        instruction = INSTRUCTIONS[variant.operation.kind]
        assert len(re.findall(instruction, bodies[variant.name])) >= variant.unroll, variant.name


@pytest.mark.parametrize(
    ("features", "fp32", "int8"),
    [
        ({"avx512f", "avx512bw", "avx512vnni", "avx2", "avx"}, {"fma_64_12", "fma_32_12"}, {"dot_64_12"}),
        ({"avx512f", "avx512bw", "avx2", "avx"}, {"fma_64_12", "fma_32_12"}, {"madd_64_12"}),
        ({"avx", "avx2", "fma", "avxvnni"}, {"fma_32_12", "fma_16_12"}, {"dot_32_12"}),
        ({"avx", "avx2", "fma", "sse2"}, {"fma_32_12", "fma_16_12"}, {"madd_32_12"}),
        ({"sse2"}, {"fma_16_12"}, {"madd_16_12"}),
        ({"neon", "dotprod"}, {"fma_16_12"}, {"dot_16_12"}),
        ({"neon"}, {"fma_16_12"}, set()),
    ],
    ids=["avx512-vnni", "avx512", "avx2-vnni", "avx2", "sse4.2", "dotprod", "neon"],
)
def test_variants_follow_the_cpu(features, fp32, int8):
    made = limits.variants(features)
    names = {key: {one.name for one in found if one.unroll == 12} for key, found in made.items()}
    assert names == {"fp32": fp32, "int8": int8}
    code = limits.source([*made["fp32"], *made["int8"]])
    assert all(
        f"void {one.name}(void *state, long steps)" in code for found in made.values() for one in found
    )


@pytest.mark.parametrize("cpu", ["nehalem", "haswell", "skylake_avx512", "icelake_server", "alderlake"])
def test_kernels_compile_for_other_cpus(cpu, tmp_path):
    features = {
        "nehalem": {"sse2"},
        "haswell": {"sse2", "avx", "avx2"},
        "skylake_avx512": {"sse2", "avx", "avx2", "avx512f", "avx512bw"},
        "icelake_server": {"sse2", "avx", "avx2", "avx512f", "avx512bw", "avx512vnni"},
        "alderlake": {"sse2", "avx", "avx2", "avxvnni"},
    }[cpu]
    made = limits.variants(features)
    code = tmp_path / "limits.c"
    code.write_text(limits.source([*made["fp32"], *made["int8"]]))
    flags = [flag for flag in limits.FLAGS if flag not in {"-march=native", "-shared"}]
    target = ["-target", "x86_64-linux-gnu", f"-march={cpu}"]
    subprocess.run([zig(), "cc", "-c", *flags, *target, "-o", tmp_path / "limits.o", code], check=True)


def test_limits_of_this_machine():
    found = limits.measure(1)
    for name in ("fp32", "triad", "read", *(["int8"] if limits.here()["int8"] else [])):
        limit = found[name]
        assert limit["peak"] == max(limit["samples"]) > 0
        assert min(limit["samples"]) <= limit["median"] <= limit["peak"]
        assert limit["spread"] >= 0
    assert (found["int8"] is None) == (not limits.here()["int8"])
    assert found["threads"] == 1


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ValueError, match="may run on"):
        limits.measure(len(os.sched_getaffinity(0)) + 1)


def test_the_canary_tells_its_time():
    assert limits.canary() > 0
    assert limits._canary_state().view(np.float32)[-1] == 2  # x = x / 2 + 1, many times: it ran


def test_a_compiler_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "CACHE", tmp_path)
    monkeypatch.setattr(limits, "FLAGS", ("-march=nosuchcpu",))
    with pytest.raises(EdgepackError, match="zig could not compile") as error:
        limits.build()
    assert "nosuchcpu" in error.value.why
