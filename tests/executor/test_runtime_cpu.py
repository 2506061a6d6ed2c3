"""A model is not run on a CPU that lacks instructions that it was compiled for."""

import re
from pathlib import Path

import cpus
import pytest
from executor_kit import HERE, INCLUDES, RUNTIME, WARNINGS, compile_with_clang, run
from programs import need

from edgepack.config import host
from edgepack.config.target import list_targets
from edgepack.executor import cpu
from edgepack.executor.cpu import features_to_check
from edgepack.lower.emit.aot.source import feature_rows
from edgepack.toolchain.zig import compile_c

CPUINFO = {  # where LLVM's name without dots is not Linux's
    "sse3": "pni",
    "lzcnt": "abm",
    "bmi": "bmi1",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "avxvnni": "avx_vnni",
    **{
        f"avx512{name}": f"avx512_{name}" for name in ("vbmi2", "vnni", "bitalg", "vpopcntdq", "fp16", "bf16")
    },
}


def define(arch, names):
    return f"-DFEATURES={feature_rows(features_to_check(arch, names))}"


def every(arch):
    return [each.name for each in cpu.FEATURES[arch]]


def test_every_feature_that_a_target_names_is_known():
    for target in list_targets():
        known = {each.name for each in features_to_check(target.abi.arch, target.cpu.features)}
        assert known == set(target.cpu.features)
    assert set(host.X86_FEATURES.values()) <= set(every("x86_64"))
    assert set(host.ARM_FEATURES.values()) <= set(every("aarch64"))


@pytest.fixture(scope="module")
def x86_program(tmp_path_factory):
    """Says which of all features are missing."""
    out = tmp_path_factory.mktemp("cpu") / "features"
    sources = (HERE / "features.c", HERE / "made.c", *RUNTIME)
    return compile_with_clang(out, sources, "plain", define("x86_64", every("x86_64")))


def test_it_finds_what_linux_finds(x86_program):
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith("flags")).split()
    missing = run(x86_program).strip()
    expected = [name for name in every("x86_64") if CPUINFO.get(name, name) not in flags]
    assert missing.split(", ") == (expected or [""])


@pytest.mark.parametrize(
    ("kind", "has", "lacks"), [("Haswell", "avx2", "avx512f"), ("Nehalem", "sse4.2", "avx")]
)
def test_it_finds_what_emulated_cpus_lack(x86_program, kind, has, lacks):
    missing = run(*cpus.command(kind, str(x86_program))).strip().split(", ")
    assert has not in missing
    assert lacks in missing


def test_a_model_is_refused_by_a_cpu_without_its_instructions(driver, weights):
    argv = cpus.command("Nehalem", str(driver("plain")), "open", str(weights))
    assert run(*argv).startswith("6 small was compiled for a CPU with ")
    assert {"avx2", "fma", "bmi2"} <= set(re.split(r"\W+", run(*argv)))
    assert run(*cpus.command("Haswell", *argv[3:])) == "0 \n"


@pytest.fixture(scope="module")
def arm_command(tmp_path_factory):
    """The words before the name of an aarch64 CPU, and those after it, for the same program on that CPU."""
    from edgepack.remote.virtual import rootfs

    qemu = need("qemu-aarch64-static", "qemu-user-static")
    out = tmp_path_factory.mktemp("cpu") / "features"
    sources = (HERE / "features.c", HERE / "made.c", *RUNTIME)
    flags = ("-std=c11", "-D_GNU_SOURCE", *WARNINGS, *INCLUDES, define("aarch64", every("aarch64")))
    compile_c(sources, out, "aarch64", "2.27", flags)
    return (qemu, "-L", str(rootfs.ensure("aarch64", "bookworm")), "-cpu"), (str(out),)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("cortex-a53", "lse, fullfp16, rdm, rcpc, dotprod, sve, fp16fml, sve2, i8mm, bf16"),
        ("cortex-a76", "sve, fp16fml, sve2, i8mm, bf16"),
        ("max", ""),
    ],
)
def test_it_finds_what_arm_cpus_lack(arm_command, kind, missing):
    before, after = arm_command
    assert run(*before, kind, *after).strip() == missing
