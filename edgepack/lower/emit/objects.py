"""Machine code for a model's CPU kernels: generated in several parts at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PARTS = 8  # not the number of cores: a model gives the same bytes on every machine


def object_files(kernels: Any, tvm_target: Any, folder: Path, pipeline: str) -> dict[Path, list[str]]:
    """Compile kernels into object files; returns these with the names of their kernels.

    The kernels are divided into ``PARTS`` of similar size, which depend on the kernels alone. TVM releases the
    interpreter's lock while it compiles, so each core compiles a part.

    Args:
        kernels: An IRModule of scheduled PrimFuncs that do not call each other.
        tvm_target: TVM's target, a CPU.
        folder: An existing folder for the object files.
        pipeline: The name of TVM's pipeline for TIR.
    """
    import tvm

    def compile_part(numbered: tuple[int, list[Any]]) -> tuple[Path, list[str]]:
        number, variables = numbered
        part = tvm.IRModule({var: kernels[var] for var in variables}, attrs=kernels.attrs)
        with tvm.transform.PassContext(opt_level=3):
            built = tvm.tirx.build(part, target=tvm_target, pipeline=pipeline)
        path = folder / f"kernels{number}.o"
        built.write_to_file(str(path))
        return path, [var.name_hint for var in variables]

    parts = divide({var: len(function.script()) for var, function in kernels.functions.items()}, PARTS)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="edgepack-codegen") as pool:
        return dict(pool.map(compile_part, enumerate(parts)))


def divide(sizes: dict[Any, int], count: int) -> list[list[Any]]:
    """Divide variables into at most ``count`` non-empty parts whose sizes add up to about the same.

    Args:
        sizes: By variable. Equal sizes are ordered by the variables' ``name_hint``.
        count: At least 1.
    """
    parts: list[list[Any]] = [[] for _ in range(count)]
    totals = [0] * count
    for var in sorted(sizes, key=lambda var: (-sizes[var], var.name_hint)):
        smallest = totals.index(min(totals))
        parts[smallest].append(var)
        totals[smallest] += sizes[var]
    return [part for part in parts if part]
