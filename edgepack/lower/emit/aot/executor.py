"""The executor ``aot``: a model's kernels, their calls in C, and the runtime in one shared library that needs libc alone."""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edgepack.config.target import Target
from edgepack.executor.build import EXPORTS, FLAGS, build_runtime
from edgepack.executor.cpu import features_to_check
from edgepack.lower.conditions import kernels
from edgepack.lower.emit import library, objects
from edgepack.lower.emit.aot.errors import NeedsMachineError
from edgepack.lower.emit.aot.kernels import PIPELINE, register
from edgepack.lower.emit.aot.layout import lay_out
from edgepack.lower.emit.aot.plan import arena_of
from edgepack.lower.emit.aot.program import Program, program_of
from edgepack.lower.emit.aot.sorting import SortCall, sort_call
from edgepack.lower.emit.aot.source import CompiledGraph, source_of
from edgepack.lower.emit.vm import CALLS, SEQUENCE
from edgepack.lower.graph.lifting import LOAD
from edgepack.lower.phase import Executor, Facts, Lowering, Module
from edgepack.lower.result import Emitted
from edgepack.spec.memory import MemoryPlan
from edgepack.toolchain import zig

NET = "edgepack_this_net"
"""The symbol that describes the model."""

_OURS = {b"__TVMBackendParallelLaunch", b"__TVMBackendAllocWorkspace", b"__TVMBackendFreeWorkspace"}


@dataclass(frozen=True)
class _Symbols:
    """The symbol that describes the model, what those of its kernels begin with, and that of weights in the library."""

    net: str = NET
    kernels: str = "edgepack_kernel_"
    weights: str = "edgepack_embedded"

    @classmethod
    def of(cls, name: str | None) -> Self:
        """The symbols of a shared library, or of the static library with this name."""
        return cls() if name is None else cls(name, f"{name}_kernel_", f"{name}_weights")


def build(mod: Module, lowering: Lowering, out: Path, progress: Callable[[str], None]) -> Emitted:
    """Generate code and link the library ``out``; returns the plan of its memory.

    Raises:
        NeedsMachineError: The model is not a fixed sequence of kernels.
        EdgepackError: The code generator or the linker failed.
    """
    found = {str(var.name_hint): sort_call(function) for var, function in kernels(mod)}
    sorts = {name: sort for name, sort in found.items() if sort is not None}
    main, loader = _programs(mod, lowering.facts, sorts)
    target, names = lowering.target, _Symbols.of(lowering.static)
    progress("build")
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        workspaces = register(target, names.kernels)
        files = objects.object_files(
            _without_symbols(mod, sorts), lowering.tvm_target, Path(folder), PIPELINE
        )
        _check_calls(files)
        graph = _graph(lowering, names, main, loader, max(workspaces, default=0))
        progress("link")
        source = Path(folder, "model.c")
        source.write_text(source_of(graph), encoding="utf-8")
        compiled = Path(folder, "model.o")
        zig.compile_c([source], compiled, target.abi.arch, target.abi.libc, [*FLAGS, "-c"])
        runtime = build_runtime(target.abi.arch, target.abi.libc)
        if lowering.static is None:
            library.link([*files, compiled], runtime, out, lowering, EXPORTS)
        else:
            library.archive(
                [*files, compiled, *runtime],
                target,
                out,
                lowering.facts,
                names.weights if lowering.embed else None,
            )
    return Emitted(memory=_memory(graph))


def _programs(mod: Module, facts: Facts, sorts: Mapping[str, SortCall]) -> tuple[Program, Program | None]:
    names = {var.name_hint for var in mod.functions}
    loader = mod[LOAD] if LOAD in names else None
    return (
        program_of(mod["main"], len(facts.inputs), sorts),
        None if loader is None else program_of(loader, len(loader.params), sorts),
    )


def _check_calls(files: Iterable[Path]) -> None:
    """Refuse kernels that call functions of TVM's runtime that this one lacks: pointers to them are in the object files."""
    names = {name for file in files for name in re.findall(rb"__TVM\w+", file.read_bytes())} - _OURS
    if names:
        called = ", ".join(sorted(name.decode() for name in names))
        raise NeedsMachineError(f"its kernels call {called}")


def _graph(
    lowering: Lowering, names: _Symbols, main: Program, loader: Program | None, workspace: int
) -> CompiledGraph:
    import tvm

    facts = lowering.facts
    features = tvm.get_global_func("target.llvm_get_cpu_features")(lowering.tvm_target)
    identity = facts.weights.identity if facts.weights else bytes(16)
    return CompiledGraph(
        name=lowering.static or lowering.model.stem,
        symbol=names.net,
        prefix=names.kernels,
        main=main,
        arena=arena_of(main.calls),
        layout=lay_out(main.weights, loader, facts.weights),
        inputs=facts.inputs,
        outputs=facts.outputs,
        scales=facts.scales,
        embedded=names.weights if lowering.embed and facts.weights else None,
        embedded_size=len(facts.weights.data) if facts.weights else 0,
        features=features_to_check(
            lowering.target.abi.arch, [*lowering.target.cpu.features, *map(str, features)]
        ),
        workspace=workspace,
        stored_bytes=int.from_bytes(identity[8:16], "little"),
        index_crc=int.from_bytes(identity[4:8], "little"),
    )


def _memory(graph: CompiledGraph) -> MemoryPlan:
    return MemoryPlan(
        weights=graph.layout.size,
        arena=graph.arena.size,
        arena_least=graph.arena.least,
        workspace=graph.workspace,
    )


def _without_symbols(mod: Module, sorts: Mapping[str, SortCall]) -> Any:
    """The kernels that are compiled; the pipeline gives them their symbols."""
    import tvm

    compiled = {
        var: function.without_attr("global_symbol")
        for var, function in kernels(mod)
        if str(var.name_hint) not in sorts
    }
    return tvm.IRModule(compiled, attrs=mod.attrs)


def _runtime(_target: Target, _facts: Facts) -> tuple[str, ...]:
    return ()


EXECUTOR = Executor(name="aot", phases=(SEQUENCE, CALLS), build=build, runtime=_runtime, file="model.so")
