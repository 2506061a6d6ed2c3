"""How a case is run: with edgepack from the .onnx file to the agent's output, and with stock TVM's importer and VM.

Both return `status` and, unless it is `passed`, `why`:

`refused`   not compiled, with a message that it is not supported: InputError of edgepack, OpNotImplemented of TVM
`failed`    an unexpected error
`wrong`     compiled and run, but the outputs differ from the expected ones
"""

import contextlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.coverage.boards import LocalBoard
from benchmarks.coverage.cases import Case, bind
from benchmarks.coverage.pool import Tell
from benchmarks.kit.processes import last_line
from edgepack.errors import EdgepackError, InputError
from edgepack.lower import compile_model

TARGET = "x86-64-v3"
GPU_TARGET = "host-gpu"
ROUNDING = (
    0.01  # relative to the largest value: smaller differences are distinguished from other wrong values
)


def preload() -> None:
    """Import the contestants' requirements once, before processes are forked."""
    for name in ("onnxscript.optimizer", "tvm.relax.backend.cpu_generic", "tvm.relax.frontend.onnx"):
        import_module(name)
    for name in ("agent.protocol", "export", "lower.deep", "schedules"):
        import_module(f"edgepack.{name}")


def edgepack(case: Case, tell: Tell, *, board: LocalBoard) -> dict[str, Any]:
    """Run a case as a user's .onnx file: import, lower, link, run with the agent on the board."""
    from edgepack.agent import protocol
    from edgepack.lower.deep import examine
    from edgepack.onnxfile.importing import import_onnx

    model, inputs = bind(case)
    with tempfile.TemporaryDirectory(prefix="edgepack-coverage-") as name:
        folder = Path(name)
        onnx.save(model, folder / "case.onnx")
        examined = examine(folder / "case.onnx")
        deep = "; ".join(f"{o.message}: {o.why}" for o in examined.model_problems)
        tell({"deep": deep.replace(f"{folder}/", "")})
        try:
            tell({"step": "import"})
            taken = import_onnx(folder / "case.onnx", (), folder / "model.onnx")
            tell({"step": "compile"})
            compiled = compile_model(folder / "model.onnx", board.target, folder / "model.so")
            arrays = {spec.name: inputs[spec.name] for spec in taken}
            with board.model(compiled) as on:
                tell({"step": "run"})
                outputs = protocol.run(on, arrays)
        except EdgepackError as error:
            why = "; ".join(part for part in (error.message, error.why) if part)
            status = "refused" if isinstance(error, InputError) else "failed"
            return {"status": status, "why": why.replace(f"{folder}/", "")}
    return verdict(case, outputs)


def stock(case: Case, tell: Tell, *, bound: bool) -> dict[str, Any]:
    """Run a case with stock TVM in this process: importer, pipeline and virtual machine with their defaults."""
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    model, inputs = bind(case) if bound else (case.model, case.values())
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        try:
            tell({"step": "import"})
            mod = relax.transform.DecomposeOpsForInference()(from_onnx(model))
            tell({"step": "compile"})
            machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target("llvm")), tvm.cpu())
            tell({"step": "run"})
            given = machine["main"](*[tvm.runtime.tensor(np.asarray(value)) for value in inputs.values()])
        except NotImplementedError as error:  # tvm.error.OpNotImplemented is one
            return {"status": "refused", "why": last_line(error) or "no message"}
        except Exception as error:  # noqa: BLE001 - an importer's asserts, type errors and internal errors alike
            return {"status": "failed", "why": f"{type(error).__name__}: {last_line(error) or 'no message'}"}
    outputs = [given] if hasattr(given, "numpy") else list(given)
    return verdict(case, [output.numpy() for output in outputs])


def verdict(case: Case, outputs: Sequence[np.ndarray]) -> dict[str, Any]:
    """Compare the outputs with those of the case: number, shapes, element types, and values within its tolerance.

    The tolerance is at least one rounding of the output's largest value.
    """
    why = _difference(case, outputs, [np.asarray(value) for value in case.outputs])
    return {"status": "wrong", "why": why} if why else {"status": "passed"}


def _difference(case: Case, outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> str | None:
    if len(outputs) != len(expected):
        return f"{len(outputs)} outputs instead of {len(expected)}"
    for index, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        form, wanted = f"{got.dtype}{list(got.shape)}", f"{want.dtype}{list(want.shape)}"
        if form != wanted:
            return f"output {index} is {form} instead of {wanted}"
        close = np.isclose(got, want, rtol=case.rtol, atol=max(case.atol, _step(want)), equal_nan=True)
        if not close.all():
            count = f"{int((~close).sum())} of {close.size} values"
            return f"output {index}: {count} are not as expected: {_how(got, want)}"
    return None


def _step(want: np.ndarray) -> float:
    """One rounding of the largest value: some cases' tolerances are below it, and their own values off by as much."""
    if want.dtype.kind != "f":
        return 0.0
    finite = np.abs(want[np.isfinite(want)].astype("float64"))
    return float(np.finfo(want.dtype).eps * finite.max(initial=0.0))


def _how(got: np.ndarray, want: np.ndarray) -> str:
    if got.dtype.kind == "f":
        if (np.isfinite(got) != np.isfinite(want)).any():
            return "infinite or not a number"
        finite = np.isfinite(want)
        got, want = got[finite].astype("float64"), want[finite].astype("float64")
        if np.abs(got - want).max() < ROUNDING * np.abs(want).max():
            return f"off by less than {ROUNDING:.0%} of the largest"
    return "other values"


def contestants(board: LocalBoard, gpu: LocalBoard) -> Mapping[str, Any]:
    """Return the contestants by their name in the results."""
    return {
        "edgepack": lambda case, tell: edgepack(case, tell, board=board),
        "gpu": lambda case, tell: edgepack(case, tell, board=gpu),
        "stock": lambda case, tell: stock(case, tell, bound=False),
        "stock_bound": lambda case, tell: stock(case, tell, bound=True),
    }
