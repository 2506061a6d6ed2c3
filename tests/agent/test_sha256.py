"""The agent's SHA-256, with and without the CPU's instructions for it, against hashlib."""

import hashlib
import random
import subprocess
from pathlib import Path

import pytest
from programs import need

from edgepack.agent.build import SOURCES
from edgepack.toolchain.zig import MUSL, compile_c

# What runs a program: this CPU, one without the instructions, one of another architecture with them, one without.
CPUS = {
    "native": ("x86_64", ()),
    "Haswell": ("x86_64", ("qemu-x86_64-static", "-cpu", "Haswell")),
    "max": ("aarch64", ("qemu-aarch64-static", "-cpu", "max")),
    "cortex-a53": ("aarch64", ("qemu-aarch64-static", "-cpu", "cortex-a53")),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sha256")
    sources = [Path(__file__).with_name("sha256_sum.c"), SOURCES / "sha256.c"]
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", f"-I{SOURCES}")
    return {arch: compile_c(sources, folder / arch, arch, MUSL, flags) for arch in ("x86_64", "aarch64")}


@pytest.mark.parametrize("kind", CPUS)
def test_sums_are_those_of_hashlib(programs, kind):
    arch, runs = CPUS[kind]
    for word in runs[:1]:
        need(word, "qemu-user-static")
    lengths = (
        [*range(130), 1000, 65_535, 65_536, 65_537, 1_000_003]
        if not runs
        else [0, 3, 55, 56, 64, 119, 120, 300_001]
    )
    for length in lengths:
        data = random.Random(length).randbytes(length)
        done = subprocess.run([*runs, programs[arch]], input=data, capture_output=True, check=True)
        assert done.stdout.decode().strip() == hashlib.sha256(data).hexdigest(), length
