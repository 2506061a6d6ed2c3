"""Export a built executable as one shared library for the board; equal models give identical bytes."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgepack.base.temporary import temporary_folder
from edgepack.config.target import Abi, Target
from edgepack.errors import EdgepackError
from edgepack.lower.emit import cubin, vectors
from edgepack.lower.phase import Facts, Lowering
from edgepack.lower.result import CudaModule
from edgepack.toolchain import cuda, zig
from edgepack.weightfile.file import weights_path
from edgepack.weightfile.loader import IDENTITY, build_loader

INDEX_RANGES = "edgepack_index_ranges"
"""The symbol with the ranges, which the agent reads."""

BUILD_ID = "edgepack_build_id"
"""The symbol with the build ID of the model's library, for the agent that the model is linked with."""


class CudaCompiler:
    """Compiles CUDA sources for a target, and keeps each with its cubin in ``modules``."""

    def __init__(self, target: Target) -> None:
        self.modules: list[CudaModule] = []
        self._gpu = target.gpu

    def __call__(self, source: str) -> bytes:
        """Compile a source to a cubin.

        Raises:
            EdgepackError: No CUDA compiler is installed, or it failed.
        """
        if self._gpu is None:
            raise EdgepackError("a model for a target without a GPU has CUDA kernels", next="report this")
        source = vectors.complete(source)
        module = CudaModule(source, cuda.compile_cubin(source, self._gpu.arch))
        self.modules.append(module)
        return module.cubin


def export(
    executable: Any,
    target: Target,
    out: Path,
    compiler: CudaCompiler | None = None,
    facts: Facts | None = None,
) -> None:
    """Write the executable and its kernels to ``out`` and the weights beside it, each atomically.

    Args:
        executable: What TVM built.
        target: The target.
        out: The shared library.
        compiler: Compiles the CUDA sources that TVM has left in the executable, if there are any.
        facts: Of the model: its weights; its inputs and their ranges, which the library states to the agent.

    Raises:
        EdgepackError: A CUDA compiler is needed and not installed, or the linker failed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(out.parent, ".edgepack-") as folder:
        linked = Path(folder, "model.so")

        def pack(module: Any, _system: bool, _prefix: str, _folder: str) -> str:
            return str(_pack_imports(module, compiler or CudaCompiler(target), Path(folder)))

        def link(output: str, objects: Sequence[str], **_options: Any) -> None:
            files = [*map(Path, objects), *build_loader(target.abi.arch, target.abi.libc)]
            files.append(_embed(Path(folder), "ranges", INDEX_RANGES, _ranges(facts)))
            if facts and facts.weights:
                files.append(_embed(Path(folder), "weights", IDENTITY, facts.weights.identity))
            zig.link_shared(files, Path(output), target.abi.arch, target.abi.libc)

        executable.export_library(str(linked), fcompile=link, fpack_imports=pack, workspace_dir=folder)
        if facts and facts.weights:
            facts.weights.write(weights_path(out))
        linked.replace(out)


def link(
    objects: Sequence[Path], runtime: Sequence[Path], out: Path, lowering: Lowering, exports: Path
) -> None:
    """Link a model's objects and the runtime to ``out``, and write the weights beside it, each atomically.

    The library has the ranges of index inputs, and a build ID that tells models apart. So have ``lowering.objects``, which
    the runtime is not in.

    Args:
        objects: The model's.
        runtime: The runtime's.
        out: The shared library.
        lowering: Of the model.
        exports: The linker's version script.

    Raises:
        EdgepackError: The linker failed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    facts, abi = lowering.facts, lowering.target.abi
    with temporary_folder(out.parent, ".edgepack-") as folder:
        linked = folder / "model.so"
        ranges = _embedded(folder, INDEX_RANGES, _ranges(facts), abi)
        own = [*objects, ranges]
        build_id = _digest(own)
        zig.link_shared([*own, *runtime], linked, abi.arch, abi.libc, exports=exports, build_id=build_id)
        if lowering.objects:
            named = _embedded(folder, BUILD_ID, build_id, abi)
            zig.archive([*own, named], folder / "model.a").replace(lowering.objects)
        if facts.weights:
            facts.weights.write(weights_path(out))
        linked.replace(out)


def _digest(files: Sequence[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.digest()[:16]


def archive(
    objects: Sequence[Path], target: Target, out: Path, facts: Facts, embedded: str | None = None
) -> None:
    """Write the static library ``out``, atomically, and the weights: into it as the symbol ``embedded``, or beside it.

    Raises:
        EdgepackError: The assembler or the archiver failed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(out.parent, ".edgepack-") as folder:
        parts = list(objects)
        if facts.weights and embedded:
            assembly = _embed(Path(folder), "weights", embedded, facts.weights.data)
            parts.append(assembly.with_suffix(".o"))
            zig.compile_c([assembly], parts[-1], target.abi.arch, target.abi.libc, ["-c"])
        made = zig.archive(parts, Path(folder, "model.a"))
        if facts.weights and not embedded:
            facts.weights.write(weights_path(out))
        made.replace(out)


def use_our_cuda_compiler(target: Target) -> CudaCompiler:
    """Make TVM use our CUDA compiler where TVM compiles CUDA source itself (a TVM built with the CUDA runtime).

    Returns the compiler, which ``export`` uses for other sources: in the end it has all CUDA modules of the model.
    """
    import tvm_ffi

    compiler = CudaCompiler(target)
    if target.gpu is not None:
        tvm_ffi.register_global_func("tvm_callback_cuda_compile", compiler.__call__, override=True)
    return compiler


def _pack_imports(module: Any, compiler: CudaCompiler, folder: Path) -> Path:
    """Write an assembly file with TVM's packed imports: the VM's bytecode, the weights, the CUDA kernels."""
    from tvm.runtime import _ffi_api

    blob = _ffi_api.ModulePackImportsToTensor(module).numpy().tobytes()
    for device in _imports(module):
        source = device.inspect_source("cuda") if device.kind == "cuda" else ""
        # A TVM built with the CUDA runtime has already compiled it, through use_our_cuda_compiler.
        if source and source.encode() in blob:
            blob = cubin.embed(blob, source, compiler(source))
    return _embed(folder, "imports", _ffi_api.ModuleImportsBlobName(), blob)


def _ranges(facts: Facts | None) -> bytes:
    """Return a line per input that is an index: its number, the smallest and largest valid value, its name."""
    ranges, names = (facts.index_ranges, facts.inputs) if facts else ({}, ())
    lines = [
        f"{number} {low} {high} {''.join(c if c.isprintable() else '?' for c in tensor.name)}\n"
        for number, tensor in enumerate(names)
        if tensor.name in ranges
        for low, high in [ranges[tensor.name]]
    ]
    return "".join(lines).encode() + b"\0"


def _embed(folder: Path, name: str, symbol: str, blob: bytes) -> Path:
    """Write an assembly file that defines a symbol with this content."""
    content = folder / f"{name}.bin"
    content.write_bytes(blob)
    assembly = folder / f"{name}.S"
    assembly.write_text(
        f'.section .rodata,"a"\n.balign 64\n.globl {symbol}\n.type {symbol}, %object\n'
        f'{symbol}:\n.incbin "{content}"\n.size {symbol}, .-{symbol}\n'
        '.section .note.GNU-stack,"",%progbits\n',
        encoding="utf-8",
    )
    return assembly


def _embedded(folder: Path, symbol: str, blob: bytes, abi: Abi) -> Path:
    """Write an object file that defines a symbol with this content."""
    source = _embed(folder, symbol, symbol, blob)
    return zig.compile_c([source], folder / f"{symbol}.o", abi.arch, abi.libc, ["-c", "-g0"])


def _imports(module: Any) -> Iterator[Any]:
    for child in module.imports:
        yield child
        yield from _imports(child)
