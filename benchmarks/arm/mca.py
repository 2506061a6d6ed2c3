"""llvm-mca's predictions for loops: cycles per iteration, and the share of the multiply-add units' peak.

llvm-mca assumes that every load hits L1, every branch is predicted, and instruction fetch is free: the result is a
lower bound. It models a core only by LLVM's scheduling model. LLVM schedules the Cortex-A72 and, for lack of its own
model, the Cortex-A76 with the Cortex-A57's (AArch64Processors.td), which starts one 128-bit multiply-add per cycle. For
the A72 this agrees with OSACA's machine model, which was measured (RRZE-HPC/OSACA, osaca/data/a72.yml: fmla 1.0). The
A76 starts two, on its pipelines V0 and V1 (Arm, Cortex-A76 Software Optimization Guide); the Neoverse N1 is its server
variant, has a model since LLVM 16 (two per cycle, as in OSACA's n1.yml), and is used in its place. Both are shown.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.arm import tools
from benchmarks.arm.loops import InnerLoop, Instruction
from edgepack.errors import EdgepackError

ITERATIONS = 200
TRIPLE = "aarch64-linux-gnu"

# Cores for which a target's loops are predicted, by LLVM's names: the target's own, then its replacement.
CORES: Mapping[str, tuple[str, ...]] = {"rpi4": ("cortex-a72",), "rpi5": ("cortex-a76", "neoverse-n1")}

# Multiply-adds per instruction, by mnemonic and arrangement of the destination.
_VECTOR = re.compile(r"^v\d+\.(\w+)")
_MACS = {
    "fma": ({"fmla", "fmls"}, {"4s": 4, "2s": 2, "8h": 8, "4h": 4, "2d": 2}),
    "dot": ({"sdot", "udot"}, {"4s": 16, "2s": 8}),
    "mlal": ({"smlal", "umlal", "smlal2", "umlal2"}, {"8h": 8, "4s": 4, "2d": 2}),
}
_SCALAR = {"fmadd", "fmsub", "fnmadd", "fnmsub"}
_WIDEST = {
    "fma": "fmla v{i}.4s, v30.4s, v31.4s",
    "dot": "sdot v{i}.4s, v30.16b, v31.16b",
    "mlal": "smlal v{i}.4s, v30.4h, v31.4h",
}
_WIDEST_MACS = {"fma": 4, "dot": 16, "mlal": 4}
_PEAK_UNROLL = 24


@dataclass(frozen=True)
class Prediction:
    """Prediction for one loop on one core."""

    loop: InnerLoop
    core: str
    model: str  # the scheduling model, by the prefix of its resources: A57, N1
    kind: str  # fma, dot, mlal: the dominant kind of multiply-add
    macs: int  # of that kind, per iteration
    cycles: float  # per iteration
    peak: float  # maximum multiply-adds per cycle in the same model

    @property
    def share(self) -> float:
        """Share of the unit's peak."""
        return self.macs / (self.cycles * self.peak)


def macs(instruction: Instruction) -> tuple[str, int]:
    """Return the kind of multiply-add of an instruction, and how many it performs; ``("", 0)`` for others."""
    if instruction.mnemonic in _SCALAR:
        return "fma", 1
    arrangement = _VECTOR.match(instruction.operands)
    for kind, (mnemonics, lanes) in _MACS.items():
        if instruction.mnemonic in mnemonics:
            return kind, lanes.get(arrangement.group(1), 1) if arrangement else 1
    return "", 0


def work(loop: InnerLoop) -> tuple[str, int]:
    """Return the dominant kind of multiply-add of a loop, and how many an iteration performs."""
    sums: Counter[str] = Counter()
    for kind, count in map(macs, loop.body):
        sums[kind] += count
    return max(sums.items(), key=lambda item: item[1])


def predict(loops: Sequence[InnerLoop], core: str) -> list[Prediction]:
    """Predict straight loops with multiply-adds.

    Raises:
        EdgepackError: llvm-mca rejected the code; its output is in ``why``.
    """
    if not loops:
        return []
    kinds = sorted({work(loop)[0] for loop in loops})
    regions = {f"peak-{kind}": _peak(kind) for kind in kinds}
    regions |= {f"loop-{index}": assembly(loop) for index, loop in enumerate(loops)}
    text = "".join(f"# LLVM-MCA-BEGIN {name}\n{code}# LLVM-MCA-END\n" for name, code in regions.items())
    options = [f"-mtriple={TRIPLE}", f"-mcpu={core}", f"-iterations={ITERATIONS}", "-json", "-"]
    model, cycles = parse(tools.output([tools.llvm("llvm-mca"), *options], text))
    peaks = {kind: _PEAK_UNROLL * _WIDEST_MACS[kind] / cycles[f"peak-{kind}"] for kind in kinds}
    predictions = []
    for index, loop in enumerate(loops):
        kind, count = work(loop)
        predictions.append(Prediction(loop, core, model, kind, count, cycles[f"loop-{index}"], peaks[kind]))
    return predictions


def _peak(kind: str) -> str:
    """Return only independent multiply-adds, enough to hide any latency."""
    return "".join(f"{_WIDEST[kind].format(i=i)}\n" for i in range(_PEAK_UNROLL))


def assembly(loop: InnerLoop) -> str:
    """Return a loop's body as llvm-mca input: the final branch jumps to itself, since targets are ignored."""
    lines = [f"{step.mnemonic} {step.operands}".strip() for step in loop.body[:-1]]
    last = loop.body[-1]
    operands = re.sub(r"0x[0-9a-f]+(?: <[^>]*>)?$", ".", last.operands)
    return "\n".join([*lines, f"{last.mnemonic} {operands}"]) + "\n"


def parse(text: str) -> tuple[str, dict[str, float]]:
    """Parse the scheduling model's name and the cycles per iteration of each region from llvm-mca's JSON.

    Raises:
        EdgepackError: The text is not llvm-mca's output.
    """
    try:
        document = json.loads(text)
        resources = document["TargetInfo"]["Resources"]
        model = resources[0].partition("Unit")[0]
        summaries = {region["Name"]: region["SummaryView"] for region in document["CodeRegions"]}
        return model, {name: view["TotalCycles"] / view["Iterations"] for name, view in summaries.items()}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise EdgepackError(
            "unexpected output of llvm-mca",
            why=f"{type(error).__name__}: {error}",
            next="this benchmark supports LLVM 16 to 19: apt-get install llvm-19",
        ) from error
