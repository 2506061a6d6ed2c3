"""The examples of a bundle, built and run as in their README."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agent_kit import LIBC, mlp
from programs import need

from edgepack.bundle.examples import example_files
from edgepack.toolchain.zig import compile_c


def unpack(bundle, root):
    """A bundle as unpacked on a board, with a sample; returns the sample's five largest outputs."""
    shutil.copytree(bundle.root / "lib", root / "lib")
    for folder in ("model", "sample", "examples"):
        (root / folder).mkdir()
    shutil.copy(bundle.library("mlp"), root / "model/model.so")
    for name, path in example_files("vm").items():
        shutil.copy(path, root / "examples" / name)
    x = np.random.default_rng(6).standard_normal((1, 64)).astype(np.float32)
    np.save(root / "sample/input-0.npy", x)
    out = mlp()[1](x).ravel()
    return [(int(index), out[index]) for index in np.argsort(-out)[:5]]


def check(text, expected):
    printed = [(int(a), float(b)) for a, b in re.findall(r"^ *(\d+)  (\S+)$", text, re.MULTILINE)]
    assert [index for index, _ in printed] == [index for index, _ in expected]
    np.testing.assert_allclose([value for _, value in printed], [value for _, value in expected], rtol=1e-4)


def test_the_c_example(bundle, tmp_path):
    expected = unpack(bundle, tmp_path)
    need("cc", "gcc")
    (command,) = re.findall(r"^    (cc .*)$", (tmp_path / "examples/README.md").read_text(), re.MULTILINE)
    subprocess.run(
        ["sh", "-ec", f"{command} -Wextra -Werror && ./infer > out.txt"],
        cwd=tmp_path / "examples",
        check=True,
    )
    check((tmp_path / "examples/out.txt").read_text(), expected)


def test_the_c_example_on_arm(arm_bundle, tmp_path):
    expected = unpack(arm_bundle, tmp_path)
    libraries = [tmp_path / "lib/libtvm_ffi.so", tmp_path / "lib/libtvm_runtime.so"]
    flags = ("-O2", "-Wl,--no-as-needed,-rpath,$ORIGIN/../lib")
    compile_c(
        [tmp_path / "examples/infer.c", *libraries], tmp_path / "examples/infer", "aarch64", LIBC, flags
    )
    done = subprocess.run(
        [*arm_bundle.prefix, "./infer"], cwd=tmp_path / "examples", capture_output=True, text=True, check=True
    )
    check(done.stdout, expected)


def test_the_python_example_without_tvm(bundle, tmp_path):
    expected = unpack(bundle, tmp_path)
    # numpy alone, as on a board: nothing else of this environment can be imported
    (tmp_path / "site").mkdir()
    packages = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):
        (tmp_path / "site" / name).symlink_to(packages / name)
    done = subprocess.run(
        [sys.executable, "-S", str(tmp_path / "examples/infer.py")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(tmp_path / "site")},
    )
    check(done.stdout, expected)


@pytest.mark.parametrize("language", ["c", "py"])
def test_an_error_of_tvm_is_shown(bundle, tmp_path, language):
    unpack(bundle, tmp_path)
    np.save(tmp_path / "sample/input-0.npy", np.zeros((1, 65), np.float32))
    examples = tmp_path / "examples"
    if language == "c":
        flags = ("-O2", "-Wl,--no-as-needed,-rpath,$ORIGIN/../lib")
        libraries = [tmp_path / "lib/libtvm_ffi.so", tmp_path / "lib/libtvm_runtime.so"]
        compile_c([examples / "infer.c", *libraries], examples / "infer", "x86_64", LIBC, flags)
    argv = ["./infer"] if language == "c" else [sys.executable, "infer.py"]
    done = subprocess.run(argv, cwd=examples, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "65" in done.stderr
