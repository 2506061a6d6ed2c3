"""Rewrite CUDA source as TVM writes it into C++ for the CPU: one function per kernel, and a table that describes it.

Lines keep their numbers, so that errors at run time name lines of the CUDA source.
"""

import re
from dataclasses import dataclass

from edgepack.emulation import ptx
from edgepack.errors import EdgepackError

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.MULTILINE)
_KERNEL = re.compile(
    r'(?:extern\s+"C"\s+)?__global__\s+void\s+(?:__launch_bounds__\((?P<bounds>\d+)[^)]*\)\s*)?(?P<name>\w+)\s*'
    r"\((?P<parameters>[^()]*)\)\s*(?P<end>[;{])"
)
_SHARED = re.compile(
    r"(?P<extern>extern\s+)?__shared__\s+(?:(?:alignas|__align__)\((?P<alignment>\d+)\)\s+)?"
    r"(?P<type>[\w:]+(?:\s+[\w:]+)*?)\s+(?P<name>\w+)\s*\[(?P<size>[^\]]*)\]\s*;"
)
# What a kernel needs other threads for; without any of it, a block's threads run one after the other.
_WAITS = re.compile(r"__syncthreads|_sync\b|__syncwarp|wmma::|\bemu_ptx_\w*(?:sync|ldmatrix)")


@dataclass(frozen=True)
class _Kernel:
    """A kernel's name, the type and name of each parameter, its launch bounds (0 if none), and its needs."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    bounds: int
    waits: bool


def rewrite(source: str) -> str:
    """Return the C++ source of a module.

    Args:
        source: CUDA source with kernels of C linkage.

    Raises:
        EdgepackError: The source has no kernel, or inline assembly that the emulation does not know.
    """
    source = ptx.rewrite(_INCLUDE.sub("", source))
    heads = [match for match in _KERNEL.finditer(source) if match["end"] == "{"]
    if not heads:
        raise EdgepackError("the CUDA source has no kernel", next="report this")
    ends = [match.start() for match in heads[1:]] + [len(source)]
    kernels = [_kernel(head, source[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    source = _SHARED.sub(_shared, _KERNEL.sub(_head, source))
    tables = "\n".join(_table(kernel) for kernel in kernels)
    return f'#include "device/cuda.h"\n#include "kernel.h"\n#line 1 "kernels.cu"\n{source}\n{tables}\n'


def _kernel(head: "re.Match[str]", body: str) -> _Kernel:
    parameters = tuple(_parameter(text, head["name"]) for text in _split(head["parameters"]))
    return _Kernel(head["name"], parameters, int(head["bounds"] or 0), _WAITS.search(body) is not None)


def _split(parameters: str) -> list[str]:
    return [text.strip() for text in parameters.split(",") if text.strip()]


def _parameter(text: str, kernel: str) -> tuple[str, str]:
    if "__grid_constant__" in text or "CUtensorMap" in text:
        raise EdgepackError(
            f"the emulation has no tensor maps, which kernel {kernel} takes", where=text, next="report this"
        )
    text = re.sub(r"\b__restrict__\b", " ", text)
    kind, name = re.fullmatch(r"(.*[\s*])(\w+)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return " ".join(kind.split()), name


def _head(match: "re.Match[str]") -> str:
    """Return a kernel's head as that of a function; a mere declaration is dropped. Line breaks stay."""
    lines = "\n" * match[0].count("\n")
    if match["end"] == ";":
        return lines
    parameters = [
        f"{kind} {name}"
        for kind, name in (_parameter(text, match["name"]) for text in _split(match["parameters"]))
    ]
    names = ("threadIdx", "blockIdx", "blockDim", "gridDim")
    every = ", ".join([*(f"const emu_index {name}" for name in names), *parameters])
    return f"static void {match['name']}({every}) {{{lines}"


def _shared(match: "re.Match[str]") -> str:
    kind, name = match["type"], match["name"]
    if match["extern"]:
        return f"{kind} *{name} = ({kind} *)emu_dynamic_shared();"
    size = match["size"]
    alignment = match["alignment"] or f"alignof({kind})"
    site = match.start()  # tells the arrays of a kernel apart
    return f"{kind} (&{name})[{size}] = *({kind} (*)[{size}])emu_shared({site}, sizeof({kind}[{size}]), {alignment});"


def _table(kernel: _Kernel) -> str:
    name = kernel.name
    kinds = [kind for kind, _ in kernel.parameters]
    values = "".join(f", p{i}" for i in range(len(kinds)))
    loads = " ".join(f"{kind} p{i} = *({kind} *)parameters[{i}];" for i, kind in enumerate(kinds))
    entry = "run_thread" if kernel.waits else "run_block"
    if kernel.waits:
        signature = "emu_thread *self, void *const *parameters"
        call = f"{name}(self->thread, self->block, self->block_size, self->grid_size{values});"
    else:
        signature = "emu_thread *self, void *const *parameters, const uint32_t *order"
        call = (
            "EMU_EACH_THREAD(self, order) "
            f"{name}(self->thread, self->block, self->block_size, self->grid_size{values});"
        )
    sizes = ", ".join([*(f"sizeof({kind})" for kind in kinds), "0"])
    pointers = ", ".join([*("1" if "*" in kind else "0" for kind in kinds), "0"])
    return f"""
EMU_UNCHECKED static void {name}__run({signature}) {{ {loads} {call} }}
static const uint8_t {name}__sizes[] = {{{sizes}}}, {name}__pointers[] = {{{pointers}}};
extern "C" __attribute__((visibility("default"))) const emu_kernel {name}__emu = {{
    .{entry} = {name}__run, .parameter_count = {len(kinds)},
    .max_threads = {kernel.bounds},
    .parameter_sizes = {name}__sizes, .is_pointer = {name}__pointers}};"""
