"""The zoo's networks on an emulated GPU, in each precision, against onnxruntime on the same file.

The first of the benchmarks' samples is inferred. onnxruntime sums fp16 in fp32, and computes Q/DQ graphs as they are
written. Where another order of summation rounds a value to the other side, outputs in fp16 and int8 differ: by no more
than the precision itself changes them.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from benchmarks.coverage.boards import LocalBoard
from benchmarks.coverage.candidates import write_records
from benchmarks.kit import nets, places
from benchmarks.kit.correctness import distance, rows
from benchmarks.kit.half import to_half
from edgepack.compression import Context, quantize_static
from edgepack.data import Splits
from edgepack.errors import EdgepackError, InputError
from edgepack.spec import Input

Precision = Literal["fp32", "fp16", "int8"]
NETWORKS = (  # by cost
    "digits",
    "ds_cnn",
    "autoencoder",
    "bert_tiny",
    "lstm",
    "gru",
    "mobilenet_v3_large",
    "mobilenet_v2",
    "resnet18",
    "resnet50",
    "vgg16",
)
FP32_BOUND = 1e-4  # of the relative error
# Of the difference from the fp32 network that the precision itself makes. Two computations in fp16 round different
# values, so that they differ from each other by as much as from fp32, or a little more.
SHARES: dict[Precision, float] = {"fp16": 2.0, "int8": 1.0}


@dataclass(frozen=True)
class ZooModel:
    """A network in a precision, untuned or with records (``candidates``)."""

    net: str
    precision: Precision
    tuned: bool = False

    @property
    def name(self) -> str:
        """Its name in the results."""
        return f"{self.net}_{self.precision}{'_tuned' * self.tuned}"


_TUNED = ("digits", "ds_cnn", "autoencoder", "bert_tiny", "mobilenet_v2")  # the others take long to search
VARIANTS = tuple(
    ZooModel(net, precision, tuned)
    for tuned in (False, True)
    for net in (_TUNED if tuned else NETWORKS)
    for precision in get_args(Precision)
)


def model(variant: ZooModel, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Return the network in a precision as an .onnx file, and its inputs.

    Raises:
        InputError: The network has no such form.
    """
    fp32, calibration, inputs = _digits() if variant.net == "digits" else _zoo(variant.net)
    if variant.precision == "fp16":
        halves = {
            name: array.astype("float16") if array.dtype == np.float32 else array
            for name, array in inputs.items()
        }
        return to_half(fp32, folder / "half.onnx"), halves
    if variant.precision == "int8":
        return _quantized(fp32, calibration, folder), dict(inputs)
    return fp32, dict(inputs)


def _quantized(fp32: Path, calibration: Mapping[str, np.ndarray], folder: Path) -> Path:
    samples = next(iter(calibration.values()))
    x = samples.reshape(-1, *samples.shape[2:])  # a data set has no batch axis
    y = np.zeros(len(x), np.int64)  # calibration does not use labels
    step = quantize_static.QuantizeStatic(method="quantize-static", samples=len(x))
    out = folder / "quantized.onnx"
    quantize_static.apply(fp32, out, step, Context(inputs=(), data=Splits(x, y, x, y)))
    return out


def _zoo(net: str) -> tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    files = nets.artifacts(net)
    with np.load(files.calibration, allow_pickle=False) as arrays:
        calibration = {name: arrays[name] for name in arrays.files}
    return files.onnx, calibration, rows(files.inputs)[0]


def _digits() -> tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    from edgepack.export import to_onnx
    from edgepack.zoo import digits

    def export(path: Path) -> None:
        to_onnx(digits.network().eval(), (Input(name="image", shape=(1, 1, 8, 8)),), path)

    path = places.make_once(places.CACHE / "nets" / "untrained-digits.onnx", export)
    images = digits.splits().x_train[: nets.CALIBRATION_SAMPLES + 1, None]
    return path, {"image": images[1:]}, {"image": images[0]}


def measure(board: LocalBoard, variant: ZooModel, folder: Path, *, limit_s: float) -> dict[str, Any]:
    """Compile a network, run it once on the board, and compare its outputs; see ``contestants`` for ``status``."""
    from edgepack.agent import protocol
    from edgepack.export.reference import run_onnx
    from edgepack.lower import compile_model

    row: dict[str, Any] = asdict(variant)
    start = time.monotonic()
    try:
        path, inputs = model(variant, folder)
        start = time.monotonic()
        records = folder / "records" if variant.tuned else None
        if records is not None:
            row["records"] = write_records(path, board.target, records)
        compiled = compile_model(path, board.target, folder / "model.so", records=records)
        row["kernels"] = len(compiled.kernels)
        with board.model(compiled, timeout=limit_s) as on:
            row["build_s"] = round(time.monotonic() - start, 1)
            start = time.monotonic()
            outputs = protocol.run(on, {spec.name: inputs[spec.name] for spec in compiled.inputs})
            row["run_s"] = round(time.monotonic() - start, 2)
    except EdgepackError as error:
        status = "refused" if isinstance(error, InputError) else "failed"
        why = "; ".join(part for part in (error.message, error.why) if part)
        return {**row, "status": status, "why": why.replace(f"{folder}/", "")}
    exact = run_onnx(path, inputs)
    got = distance(outputs, exact)
    bound = _bound(variant, exact, folder)
    same = [np.mean(a == b) for a, b in zip(outputs, exact, strict=True)]
    row |= {"error": got.relative, "bound": bound, "same": round(float(min(same)), 4)}
    if got.problem is None and got.relative is not None and got.relative <= bound:
        return {**row, "status": "passed"}
    return {**row, "status": "wrong", "why": got.problem or f"relative error above {bound:.1e}"}


def _bound(variant: ZooModel, exact: Sequence[np.ndarray], folder: Path) -> float:
    """Return the largest relative error that counts as right."""
    from edgepack.export.reference import run_onnx

    if variant.precision == "fp32":
        return FP32_BOUND
    path, inputs = model(replace(variant, precision="fp32"), folder)
    own = distance(exact, run_onnx(path, inputs)).relative
    return SHARES[variant.precision] * (own or 0.0)
