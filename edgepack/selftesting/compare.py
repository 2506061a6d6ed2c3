"""Compare what a board computes with the reference, and a real GPU also with the emulated one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgepack.selftesting.nets import difference
from edgepack.selftesting.release import BuiltNet
from edgepack.selftesting.result import Check

if TYPE_CHECKING:
    import numpy as np

_EMULATION = ("emulation", "a real GPU and the emulated one give the same")


def compared(
    built: BuiltNet, outputs: "list[np.ndarray]", emulation: "list[np.ndarray] | str | None"
) -> Iterator[Check]:
    """A check for each output, and for a GPU one of the emulation.

    Args:
        built: The net and its reference.
        outputs: The board's.
        emulation: The emulated GPU's outputs, or why they are not known; None for a CPU.
    """
    net = built.net
    if len(outputs) != len(net.cases):
        why = f"it has {len(outputs)} outputs, not {len(net.cases)}"
        yield Check(group=net.name, name="outputs", checks="their number", status="failed", detail=why)
        return
    others = emulation if isinstance(emulation, list) else None
    differs = []
    for index, case in enumerate(net.cases):
        error = difference(case, outputs[index], built.reference[index])
        other = None if others is None else difference(case, outputs[index], others[index])
        if other is not None and other > case.tolerance:
            differs.append(case.name)
        wrong = error > case.tolerance
        detail = f"{error:.1e}, limit {case.tolerance:.0e}"
        yield Check(
            group=net.name,
            name=case.name,
            checks=case.checks,
            status="failed" if wrong else "passed",
            detail=f"wrong result: the largest error is {detail}" if wrong else f"largest error {detail}",
            error=_finite(error),
            tolerance=case.tolerance,
            emulation=_finite(other),
        )
    if emulation is not None:
        yield _emulation_check(net.name, emulation, differs)


def _emulation_check(group: str, emulation: "list[np.ndarray] | str", differs: list[str]) -> Check:
    name, what = _EMULATION
    if isinstance(emulation, str):
        return Check(group=group, name=name, checks=what, status="skipped", detail=emulation)
    return Check(
        group=group,
        name=name,
        checks=what,
        status="failed" if differs else "passed",
        detail=f"different results: {', '.join(differs)}" if differs else "within the same limits",
    )


def _finite(value: float | None) -> float | None:
    """None for an infinite difference, which JSON cannot say."""
    return None if value == float("inf") else value
