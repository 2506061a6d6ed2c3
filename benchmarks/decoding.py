"""Do kernels that decode int8 weights get slower? Single layers, untuned, on one thread of this machine.

    python -m benchmarks.decoding [--target x86-64-v3] [--only PATTERN] [--rounds 9]

Each layer is built twice: with its weights decoded in the kernel, regardless of the target's rule, and decoded during
the build. The two run in separate processes, in blocks, in turns in a random order and its mirror image. The
ratio is that of the medians of all samples, build-time decoding over decoding in the kernel; its spread is the
interquartile range of the ratios of neighbouring blocks. The last column shows the rule's choice for the layer.
"""

import random
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.kit import command, machine
from benchmarks.kit.documents import plain
from benchmarks.kit.interleaving import TimedBlock, TimingPlan
from benchmarks.kit.libraries import build_decoding, build_without, measure_blocks
from edgepack.config.target import Target, load_target
from edgepack.lower import compile_model
from edgepack.spec import Tensor


@dataclass(frozen=True)
class IntegerLayer:
    """A single convolution or matrix product: ``weight`` is ``[O, I, *taps]`` or ``[I, O]``, ``data`` its input."""

    weight: tuple[int, ...]
    data: tuple[int, ...]

    @property
    def operator(self) -> str:
        """ONNX operator of the layer."""
        return "Conv" if len(self.data) > 2 and len(self.weight) == len(self.data) else "MatMul"

    @property
    def name(self) -> str:
        """E.g. ``3x3 64 -> 128 at 28x28`` or ``MatMul 256 -> 1024, 1 row``."""
        if self.operator == "MatMul":
            rows = int(np.prod(self.data[:-1]))
            return f"MatMul {self.weight[0]} -> {self.weight[1]}, {rows} row{'s' if rows > 1 else ''}"
        taps = "x".join(map(str, self.weight[2:]))
        size = "x".join(map(str, self.data[2:]))
        return f"{taps} {self.weight[1]} -> {self.weight[0]} at {size}"

    def write(self, path: Path) -> None:
        """Write an ONNX model: int8 weights with per-channel scales, dequantized; the layer; bias and ReLU.

        Bias and ReLU are included because nearly all layers of a network have them, and they affect how a kernel stores.
        """
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        chance = np.random.default_rng(0)
        axis = 0 if self.operator == "Conv" else 1
        constants = {
            "elements": chance.integers(-127, 128, self.weight).astype("int8"),
            "scale": chance.uniform(0.01, 0.03, self.weight[axis]).astype("float32"),
            "zero": np.zeros(self.weight[axis], "int8"),
        }
        bias = chance.standard_normal(self.weight[axis]).astype("float32")
        taps = self.weight[2:] if self.operator == "Conv" else ()
        settings = {"pads": [tap // 2 for tap in taps] * 2} if taps else {}
        graph = helper.make_graph(
            [
                helper.make_node("DequantizeLinear", list(constants), ["w"], axis=axis),
                helper.make_node(self.operator, ["x", "w"], ["sum"], **settings),
                helper.make_node("Add", ["sum", "bias"], ["biased"]),
                helper.make_node("Relu", ["biased"], ["y"]),
            ],
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.data)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [
                *(numpy_helper.from_array(value, name) for name, value in constants.items()),
                numpy_helper.from_array(bias.reshape(-1, *[1] * len(taps)), "bias"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)


def _convolution(taps: int, inputs: int, outputs: int, size: int) -> IntegerLayer:
    return IntegerLayer((outputs, inputs, taps, taps), (1, inputs, size, size))


def _product(inputs: int, outputs: int, rows: int) -> IntegerLayer:
    return IntegerLayer((inputs, outputs), (rows, inputs))


LAYERS = (
    *(_convolution(1, *sizes) for sizes in ((16, 96, 112), (16, 96, 56), (144, 24, 56))),
    *(_convolution(1, *sizes) for sizes in ((32, 64, 28), (64, 64, 28), (128, 128, 28), (96, 576, 14))),
    *(_convolution(1, *sizes) for sizes in ((512, 512, 14), (64, 64, 7), (512, 512, 7))),
    *(_convolution(3, *sizes) for sizes in ((3, 32, 56), (64, 64, 56), (32, 32, 32), (8, 16, 28))),
    *(_convolution(3, *sizes) for sizes in ((64, 64, 28), (64, 64, 7), (256, 256, 7))),
    *(_product(*sizes) for sizes in ((64, 32, 1), (640, 128, 1), (1024, 1024, 1))),
    *(_product(*sizes) for sizes in ((128, 512, 8), (128, 512, 128), (768, 768, 14))),
)


def ratios(blocks: Sequence[TimedBlock], above: str, below: str) -> list[float]:
    """Return ratios of the medians of adjacent blocks in a round: the first half's, then the second's."""
    medians: dict[tuple[int, bool], dict[str, float]] = {}
    for block in blocks:
        half = (block.round, block.position < 2)
        medians.setdefault(half, {})[block.contestant] = statistics.median(block.samples_ns)
    return [each[above] / each[below] for each in medians.values() if len(each) > 1]


def row(layer: IntegerLayer, target: Target, rounds: int) -> tuple[str, ...]:
    """Build and measure a layer; returns a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "layer.onnx")
        layer.write(model)
        rule = compile_model(model, target, Path(folder, "rule.so"))
        paths = {"kernel": Path(folder, "kernel.so"), "build": Path(folder, "build.so")}
        build_decoding(model, target, paths["kernel"])
        build_without("decode-in-kernels", model, target, paths["build"])
        inputs = [Tensor(name="x", shape=layer.data, dtype="float32")]
        plan = TimingPlan(rounds=rounds, least_rounds=rounds, block_ns=30_000_000, most_runs=2000)
        blocks = measure_blocks(paths, inputs, plan, random.Random(0))  # noqa: S311 - an order, no secret
    samples = {name: [ns for b in blocks if b.contestant == name for ns in b.samples_ns] for name in paths}
    build, kernel = (statistics.median(samples[name]) / 1e6 for name in ("build", "kernel"))
    low, middle, high = statistics.quantiles(ratios(blocks, "build", "kernel"), n=4)
    does = "kernel" if any(constant.decoded == "kernel" for constant in rule.constants) else "build"
    return (layer.name, f"{build:.4f}", f"{kernel:.4f}", f"{middle:.2f}", f"{low:.2f}-{high:.2f}", does)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command.parser("decoding", __doc__)
    parser.add_argument(
        "--target", default="host", help="for this machine's instruction set, or a subset of it"
    )
    parser.add_argument(
        "--only", type=command.pattern, default="", metavar="PATTERN", help="only layers whose names match"
    )
    parser.add_argument("--rounds", type=command.whole(2), default=9, help="rounds of four blocks per layer")
    options = parser.parse_args(argv)
    target = load_target(options.target)
    layers = [layer for layer in LAYERS if re.search(options.only, layer.name)]
    print(f"int8 weights decoded during the build or in the kernel: {target.name}, one thread")
    print(machine.summary()["cpu"])
    head = ("layer", "build, ms", "kernel, ms", "speed-up", "p25-p75", "rule")
    rows = [head]
    for number, layer in enumerate(layers, 1):
        rows.append(row(layer, target, options.rounds))
        print(f"{number}/{len(layers)}: {'  '.join(rows[-1])}", file=sys.stderr, flush=True)
    print(plain(rows))


if __name__ == "__main__":
    sys.exit(command.finish(main))
