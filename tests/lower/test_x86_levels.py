"""Libraries for a level of x86-64 use no instruction beyond it, and give correct results if the CPU supports them."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgepack.config.rows import misfit
from edgepack.config.target import load_target
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.schedules.tiles import Machine, machine

LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
MODELS = ("network", "quantized_network")
# Mnemonics of AVX and later begin with v, those of BMI are listed here; registers of AVX-512 and its masks have these names.
AVX = re.compile(r"v(?!err|erw|mcall|mlaunch)\w+")
BMI = {
    "andn", "bextr", "blsi", "blsmsk", "blsr", "bzhi", "lzcnt", "movbe", "mulx", "pdep", "pext", "rorx", "sarx",
    "shlx", "shrx",
}  # fmt: skip
AVX512 = re.compile(r"%zmm\d|%k[0-7]\b|%[xy]mm(1[6-9]|2\d|3[01])")
VNNI = re.compile(r"vpdp(bu|ws)s?d")


@pytest.fixture(scope="module")
def library(request, tmp_path_factory):
    """Libraries by model and level, compiled once."""
    folder, made = tmp_path_factory.mktemp("levels"), {}

    def compiled(model, level):
        if (model, level) not in made:
            path = folder / f"{model}-{level}.so"
            made[model, level] = compile_model(request.getfixturevalue(model), load_target(level), path).path
        return made[model, level]

    return compiled


def instructions(library: Path) -> list[tuple[str, str]]:
    """Return the library's instructions: mnemonic and operands."""
    objdump = shutil.which("objdump")
    if objdump is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "missing: objdump (Debian: binutils)"
        )
    command = [objdump, "-d", "--no-show-raw-insn", "--section=.text", library]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t")[1].split(maxsplit=1) for line in text.splitlines() if line.count("\t") == 1]
    return [(words[0], words[1] if len(words) > 1 else "") for words in lines]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("level", LEVELS)
def test_no_instruction_is_beyond_the_level(library, model, level):
    found = instructions(library(model, level))
    assert len(found) > 1000
    beyond = {f"{name} {operands}" for name, operands in found if VNNI.match(name)}
    if level != "x86-64-v4":
        beyond |= {f"{name} {operands}" for name, operands in found if AVX512.search(operands)}
    if level == "x86-64-v2":
        beyond |= {name for name, _ in found if AVX.fullmatch(name) or name.rstrip("lqw") in BMI}
    assert not beyond


@pytest.mark.parametrize(
    ("level", "register"), [("x86-64-v2", "%xmm"), ("x86-64-v3", "%ymm"), ("x86-64-v4", "%zmm")]
)
def test_the_level_is_used(library, level, register):
    found = instructions(library("network", level))
    products = [operands for name, operands in found if name.startswith(("mulps", "vfmadd"))]
    assert any(register in operands for operands in products)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("level", LEVELS)
def test_it_answers_right_where_the_cpu_has_the_level(request, library, model, level):
    # x86-64-v2 and v3 run on emulated CPUs too: tests/cli/test_x86_boards.py.
    if platform.machine() != "x86_64" or misfit("host", load_target("host"), load_target(level)):
        pytest.skip(f"this CPU is not of the level {level}")

    vm = open_on_host(library(model, level))
    random = np.random.default_rng(4)
    for _ in range(4):
        value = random.normal(size=(1, 3, 15, 15)).astype("float32")
        [expected] = run_onnx(request.getfixturevalue(model), {"x": value})
        difference = np.abs(vm(value)[0] - expected)
        # The quantum of the activations is 0.05: other summation orders may round to an adjacent one.
        assert np.median(difference) < 1e-5
        assert difference.max() < (1e-5 * np.abs(expected).max() if model == "network" else 0.2)


def test_what_a_multiply_add_costs_follows_from_the_target():
    assert machine(load_target("x86-64-v2")) == Machine(
        16, 16, 2, multiply_add=3, broadcast=2, features=frozenset({"sse4.1", "sse4.2", "ssse3"})
    )
    for name, registers in (("x86-64-v3", 16), ("x86-64-v4", 32), ("rpi4", 32), ("arm64", 32)):
        found = machine(load_target(name))
        assert (found.multiply_add, found.broadcast, found.registers) == (1, 1, registers)
