"""Tensor intrinsics for int8 dot products, registered on demand for targets with the instruction.

TVM's package of intrinsics is not imported: it parses those of every backend, which takes 17 s or more, and
its VNNI intrinsic no longer compiles (LLVM 22 requires vectors of bytes). All of these multiply four adjacent
bytes of one operand with a ``[lanes, 4]`` tile of the other and add each sum to one of ``lanes`` int32.
"""

import importlib.util
import sys
from dataclasses import dataclass
from typing import Any

from edgepack.config.target import Target
from edgepack.schedules.kernel import Block, depends, read_block


@dataclass(frozen=True)
class Dot:
    """A dot product instruction for four bytes per lane."""

    name: str
    feature: str  # as in Target.cpu.features
    lanes: int
    data: str
    weight: str
    accumulator: str
    llvm: str  # takes accumulator, data, weight


DOTS: tuple[Dot, ...] = (
    Dot("edgepack.vpdpbusd_16x4", "avx512vnni", 16, "uint8", "int8", "int32", "llvm.x86.avx512.vpdpbusd.512"),
    Dot("edgepack.sdot_4x4", "dotprod", 4, "int8", "int8", "int32", "llvm.aarch64.neon.sdot.v4i32.v16i8"),
    Dot("edgepack.udot_4x4", "dotprod", 4, "uint8", "uint8", "uint32", "llvm.aarch64.neon.udot.v4i32.v16i8"),
)


def skip_tvms_package() -> None:
    """Prevent imports of TVM's package of intrinsics as a whole: 15 to 50 s of parsing, for every backend.

    MetaSchedule's ``TuneContext`` imports it, and dlight, for matrix products in float16, imports its submodule ``cuda``.
    Submodules remain importable.
    """
    name = "tvm.s_tir.tensor_intrin"
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is not None:
        sys.modules[name] = importlib.util.module_from_spec(spec)


def register(target: Target) -> tuple[Dot, ...]:
    """Register the intrinsics of the target's CPU, once per process."""
    from tvm.s_tir import TensorIntrin

    dots = []
    for dot in DOTS:
        if dot.feature not in target.cpu.features:
            continue
        if TensorIntrin.get(dot.name, allow_missing=True) is None:
            TensorIntrin.register(dot.name, *_functions(dot))
        dots.append(dot)
    return tuple(dots)


def tiling_rule(dot: Dot, tiling: dict[str, Any]) -> Any:
    """Return a multi-level tiling rule with the intrinsic, for kernels whose weights are packed for it.

    MetaSchedule matches loops and types but not strides: with weights in any other layout the
    intrinsic's single vector load would read the wrong bytes.

    Args:
        dot: A registered intrinsic.
        tiling: Options of ``MultiLevelTilingWithIntrin``.
    """
    from tvm.s_tir.meta_schedule import schedule_rule

    inner = schedule_rule.MultiLevelTilingWithIntrin(dot.name, **tiling)

    def apply(sch: Any, rv: Any) -> list[Any]:
        block = read_block(sch, rv)
        return list(inner.apply(sch, rv)) if block and _packed_for(block, dot) else [sch]

    return schedule_rule.schedule_rule._PyScheduleRule(  # noqa: SLF001 - what derived_object wraps
        inner._initialize_with_tune_context,  # noqa: SLF001
        apply,
        lambda: tiling_rule(dot, tiling),
    )


def _packed_for(block: Block, dot: Dot) -> bool:
    """Whether an operand's last two dimensions are the intrinsic's ``[lanes, 4]`` tile."""
    for load in block.loads:
        if len(load.indices) < 2 or str(load.buffer.dtype) != dot.weight:  # noqa: PLR2004 - the tile's dimensions
            continue
        tile = (int(load.buffer.shape[-2]), int(load.buffer.shape[-1]))
        lane, byte = load.indices[-2:]
        across = any(depends(lane, axis.var) for axis in block.spatial)
        if tile == (dot.lanes, 4) and across and any(depends(byte, axis.var) for axis in block.reduced):
            return True
    return False


def _functions(dot: Dot) -> tuple[Any, Any]:
    """Return the intrinsic's description and implementation."""
    from tvm.script import tirx as T  # noqa: N812 - TVMScript's own name

    lanes, four = dot.lanes, dot.lanes * 4
    data, weight, accumulator = dot.data, dot.weight, dot.accumulator
    data_vector, weight_vector, sums = f"{data}x{four}", f"{weight}x{four}", f"{accumulator}x{lanes}"
    intrinsic = dot.llvm

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]  # TVM is untyped
    def describe(
        A: T.Buffer((4,), data, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803 - TVM's names
        B: T.Buffer((lanes, 4), weight, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        C: T.Buffer((lanes,), accumulator, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            for i in T.serial(0, lanes):
                for k in T.serial(0, 4):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(A[vk], accumulator) * T.cast(B[vi, vk], accumulator)

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]  # TVM is untyped
    def implement(
        A: T.Buffer((4,), data, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        B: T.Buffer((lanes, 4), weight, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        C: T.Buffer((lanes,), accumulator, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            word = T.reinterpret(A.vload([0], f"{data}x4"), dtype="int32")
            C[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(intrinsic),
                C.vload([0], sums),
                T.reinterpret(T.broadcast(word, lanes), dtype=data_vector),
                B.vload([0, 0], weight_vector),
                dtype=sums,
            )

    return describe, implement
