"""Export a built executable as one shared library for the board; equal models give identical bytes."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgepack.config.target import Target
from edgepack.lower.emit import cubin
from edgepack.toolchain import cuda, zig


def export(executable: Any, target: Target, out: Path) -> None:
    """Write the executable, its weights and its kernels to ``out``, atomically.

    Raises:
        EdgepackError: A CUDA compiler is needed and not installed, or the linker failed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".edgepack-", dir=out.parent) as folder:
        linked = Path(folder, "model.so")

        def pack(module: Any, _system: bool, _prefix: str, _folder: str) -> str:
            return str(_pack_imports(module, target, Path(folder)))

        def link(output: str, objects: Sequence[str], **_options: Any) -> None:
            zig.link_shared([Path(path) for path in objects], Path(output), target.abi.arch, target.abi.libc)

        executable.export_library(str(linked), fcompile=link, fpack_imports=pack, workspace_dir=folder)
        linked.replace(out)


def use_our_cuda_compiler(target: Target) -> None:
    """Make TVM use our CUDA compiler where TVM compiles CUDA source itself (a TVM built with the CUDA runtime)."""
    import tvm_ffi

    if target.gpu is None:
        return
    arch = target.gpu.arch

    def compile_source(code: str) -> bytes:
        return cuda.compile_cubin(code, arch)

    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compile_source, override=True)


def _pack_imports(module: Any, target: Target, folder: Path) -> Path:
    """Write an assembly file with TVM's packed imports: the VM's bytecode, the weights, the CUDA kernels."""
    from tvm.runtime import _ffi_api

    blob = _ffi_api.ModulePackImportsToTensor(module).numpy().tobytes()
    for device in _imports(module):
        source = device.inspect_source("cuda") if device.kind == "cuda" else ""
        # A TVM built with the CUDA runtime has already compiled it, through use_our_cuda_compiler.
        if target.gpu and source and source.encode() in blob:
            blob = cubin.embed(blob, source, cuda.compile_cubin(source, target.gpu.arch))
    content = folder / "imports.bin"
    content.write_bytes(blob)
    symbol = _ffi_api.ModuleImportsBlobName()
    assembly = folder / "imports.S"
    assembly.write_text(
        f'.section .rodata,"a"\n.balign 64\n.globl {symbol}\n.type {symbol}, %object\n'
        f'{symbol}:\n.incbin "{content}"\n.size {symbol}, .-{symbol}\n'
        '.section .note.GNU-stack,"",%progbits\n',
        encoding="utf-8",
    )
    return assembly


def _imports(module: Any) -> Iterator[Any]:
    for child in module.imports:
        yield child
        yield from _imports(child)
