"""Shared by the agent's tests: a bundle's layout, and small models compiled by TVM."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgepack.toolchain.zig import compile_c
from edgepack.weightfile.loader import build_loader

LIBC = "2.27"
TARGETS = {
    # valgrind 3.19 knows AVX2 and not AVX-512
    "x86_64": {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3", "num-cores": 2},
    "aarch64": {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 4},
}

BAD_KERNEL = """
#include <stdlib.h>
#include <unistd.h>
int __tvm_ffi_main(void *self, const void *arguments, int count, void *result)
{
    switch (KIND) {
    case 0: return *(volatile int *)0;
    case 1: for (;;) pause();
    case 2: exit(7);
    case 3: abort();
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Bundle:
    """An unpacked bundle: ``bin``, ``lib``, and models and kernels by name."""

    root: Path
    arch: str
    prefix: tuple[str, ...] = ()  # what runs a program of this architecture here

    @property
    def agent(self):
        return self.root / "bin" / "edgepack-agent"

    def library(self, name):
        return self.root / "model" / f"{name}.so"

    def argv(self, *words):
        return [*self.prefix, str(self.agent), *map(str, words)]

    def run(self, *words, stdin=b"", timeout=120, cwd=None):
        return subprocess.run(
            self.argv(*words), input=stdin, capture_output=True, timeout=timeout, check=False, cwd=cwd
        )


def export(module, target, path):
    import tvm

    def link(output, objects, **options):
        arch = target["mtriple"].partition("-")[0]
        compile_c([*objects, *build_loader(arch, LIBC)], Path(output), arch, LIBC, ("-shared", "-fPIC"))

    link.output_format = "so"
    tvm.compile(module, target=tvm.target.Target(target)).export_library(str(path), fcompile=link)


def mlp():
    """64 floats in, 10 out, with reproducible weights; and the same in numpy."""
    import numpy as np
    from tvm import relax

    rng = np.random.default_rng(0)
    w1, b1 = rng.standard_normal((64, 32), np.float32), rng.standard_normal(32, np.float32)
    w2, b2 = rng.standard_normal((32, 10), np.float32), rng.standard_normal(10, np.float32)
    op, const = relax.op, relax.const
    module = one_block(
        [relax.Var("x", relax.TensorType((1, 64), "float32"))],
        lambda emit, x: emit(
            op.add(
                op.matmul(emit(op.nn.relu(op.add(op.matmul(x, const(w1)), const(b1)))), const(w2)), const(b2)
            )
        ),
    )
    return module, lambda x: np.maximum(x @ w1 + b1, 0) @ w2 + b2


def one_block(inputs, body):
    """A module whose main is one dataflow block: ``body(emit, *inputs)`` gives its output or outputs."""
    from tvm import relax

    builder = relax.BlockBuilder()
    with builder.function("main", inputs):
        with builder.dataflow():
            result = body(builder.emit, *inputs)
            outputs = result if isinstance(result, list) else [result]
            outputs = [builder.emit_output(output) for output in outputs]
        builder.emit_func_output(relax.Tuple(outputs) if isinstance(result, list) else outputs[0])
    return builder.get()


def zoo_of_dtypes():
    """One input and one output of each dtype; the float ones go through a logarithm."""
    from tvm import relax

    def through(name, var):
        if name.startswith("float"):
            return relax.op.log(var)
        return relax.op.logical_not(var) if name == "bool" else relax.op.add(var, var)

    names = ("float32", "float16", "int8", "uint8", "int32", "int64", "bool")
    inputs = [relax.Var(f"in_{name}", relax.TensorType((2, 3), name)) for name in names]
    return one_block(
        inputs, lambda emit, *values: [emit(through(*pair)) for pair in zip(names, values, strict=True)]
    )


def sorting():
    """argsort, which is in the extra runtime library."""
    from tvm import relax

    x = relax.Var("x", relax.TensorType((1, 8), "float32"))
    return one_block([x], lambda emit, x: emit(relax.op.argsort(x, dtype="int32")))


def matmul_kernel(size=64):
    """A PrimFunc as built by MetaSchedule: C = A · B, with outputs as arguments."""
    import tvm
    from tvm import te

    a, b = (te.placeholder((size, size), "float32", name) for name in "AB")
    k = te.reduce_axis((0, size), "k")
    c = te.compute((size, size), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), "C")
    return tvm.IRModule({"main": te.create_prim_func([a, b, c]).with_attr("global_symbol", "main")})


def headers():
    """The folder of TVM's C headers."""
    import tvm_ffi

    return Path(tvm_ffi.__file__).parent / "include"
