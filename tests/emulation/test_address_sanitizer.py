"""Kernels under the real address sanitizer, natively, instead of the emulation's own checks."""

import hashlib
import os
import shutil
import subprocess

import pytest
from gpu_models import RunError, compiled
from gpu_process import LIBC

from edgepack.emulation import modules
from edgepack.emulation.driver import DRIVER, SOURCES
from edgepack.emulation.rewrite import rewrite
from edgepack.toolchain.zig import triple, zig

pytestmark = pytest.mark.slow
LANGUAGE = (
    "-O1",
    "-g",
    "-fPIC",
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-ftls-model=initial-exec",
    *modules._LANGUAGE,
)
SANITIZER = ("-Xclang", "-fsanitize=address", "-Xclang", "-mllvm", "-Xclang", "-asan-use-after-return=never")


def runtime():
    """The libraries to preload for the sanitizer of the machine's gcc; None if it has none."""
    if shutil.which("gcc") is None or os.uname().machine != "x86_64":
        return None
    found = []
    for name in ("libasan.so", "libstdc++.so.6"):  # the second, since it must be there when the first starts
        asked = ["gcc", f"-print-file-name={name}"]
        found.append(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    return " ".join(found) if all(path.startswith("/") for path in found) else None


@pytest.fixture(scope="module")
def softmax(tmp_path_factory):
    if runtime() is None:
        pytest.skip("gcc has no address sanitizer here")
    folder = tmp_path_factory.mktemp("sanitizer")
    model = compiled(folder, "Softmax")
    model.run(model.source)  # with the emulation's own checks
    head = (SOURCES / "kernel.h").read_text().replace('#include "checks.h"', "")
    (folder / "own_kernel.h").write_text(head.replace("kernel-address", "address"))
    return model


def run(model, source):
    folder = model.folder
    text = rewrite(source).replace('#include "kernel.h"', '#include "own_kernel.h"')
    (folder / "m.cpp").write_text(text)
    module = folder / "modules" / f"{hashlib.sha256(model.cubin).hexdigest()}.so"
    machine = ("-target", triple("x86_64", LIBC), f"-mcpu={modules._cpu('x86_64')}")
    objects = ("-c", "-o", str(folder / "m.o"), str(folder / "m.cpp"), f"-I{SOURCES}", f"-I{folder}")
    compiling = [str(zig()), "c++", *machine, *LANGUAGE, *SANITIZER, *objects]
    subprocess.run(compiling, check=True, close_fds=False)
    linking = ["gcc", "-shared", "-fsanitize=address", "-o", module, folder / "m.o", folder / DRIVER]
    subprocess.run(linking, check=True)
    options = "detect_leaks=0:detect_stack_use_after_return=0:handle_segv=0"
    return model.start(LD_PRELOAD=runtime(), ASAN_OPTIONS=options)


def test_a_correct_kernel_has_no_report(softmax):
    assert abs(run(softmax, softmax.source).sum(axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("index", ["softmax_norm_ptr[", "staging_ptr[", "x_ptr["])
def test_an_index_off_by_one_is_reported(softmax, index):
    assert index in softmax.source
    body = softmax.source.rindex("__global__")
    wrong = softmax.source[:body] + softmax.source[body:].replace(index + "(", index + "1 + (")
    assert wrong != softmax.source
    with pytest.raises(RunError, match=r"AddressSanitizer: (use-after-poison|stack-buffer-overflow)"):
        run(softmax, wrong)
