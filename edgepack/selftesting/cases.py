"""The cases of the self-test as data: small graphs with fixed inputs.

Each case is one output of its net. A body is in ONNX's text syntax; it computes ``y`` from ``x`` and its constants.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Dtype = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Fill:
    """An array of uniform values between ``low`` and ``high``, the same ones each time; one value if both are equal."""

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0
    dtype: Dtype = "float32"


@dataclass(frozen=True)
class KernelCase:
    """One output, compared with the reference.

    Attributes:
        name: Its name.
        checks: What it checks.
        x: The input.
        body: Its nodes.
        constants: Its constants by name.
        tolerance: Largest difference: relative to the largest value of the reference, or with ``each`` to each value.
        each: Whether each value has its own scale.
    """

    name: str
    checks: str
    x: Fill
    body: str
    constants: Mapping[str, Fill] = field(default_factory=dict)
    tolerance: float = 1e-5
    each: bool = False


@dataclass(frozen=True)
class CaseNet:
    """A model whose outputs are cases."""

    name: str
    checks: str
    cases: tuple[KernelCase, ...]
    gpu_only: bool = False


_HALF = 2e-3  # twice the distance of float16 values, relative
_SCALE = Fill((), 0.01, 0.01)
_ZERO = Fill((), 0, 0, "int8")
_QUANTIZED = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"

RELEASE = CaseNet(
    "release",
    "a tiny release: packed, sent, verified, run",
    (
        KernelCase(
            "conv",
            "3x3 convolution, bias and ReLU",
            Fill((1, 4, 12, 12)),
            "c = Conv <pads = [1, 1, 1, 1]> (x, w, b) y = Relu (c)",
            {"w": Fill((8, 4, 3, 3)), "b": Fill((8,))},
        ),
        KernelCase(
            "depthwise-conv",
            "depthwise 3x3 convolution with stride 2",
            Fill((1, 8, 12, 12)),
            "y = Conv <group = 8, strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)",
            {"w": Fill((8, 1, 3, 3))},
        ),
        KernelCase(
            "int8-conv", "quantised convolution (Q/DQ): int8 weights and activations, scales per channel",
            Fill((1, 16, 8, 8), -1.2, 1.2),
            f"{_QUANTIZED} v = DequantizeLinear <axis = 0> (w, t, u) y = Conv (d, v)",
            {
                "s": _SCALE, "z": _ZERO,
                "w": Fill((8, 16, 3, 3), -127, 127, "int8"),
                "t": Fill((8,), 0.002, 0.01), "u": Fill((8,), 0, 0, "int8"),
            },
        ),
        KernelCase(
            "matmul", "matrix product", Fill((4, 48)), "y = MatMul (x, w)", {"w": Fill((48, 24))},
        ),
        KernelCase("softmax", "softmax over 33 values", Fill((4, 33), -8, 8), "y = Softmax <axis = -1> (x)"),
        KernelCase(
            "mean", "mean over two axes", Fill((1, 6, 9, 11)), "y = ReduceMean <keepdims = 0> (x, axes)",
            {"axes": Fill((2,))},
        ),
    ),
)  # fmt: skip

KERNELS = CaseNet(
    "kernels",
    "what GPU kernels of any model use",
    (
        KernelCase(
            "half-add", "float16 sums of two values, below the normal range too: rounded once, to nearest",
            Fill((1, 512), -2e-4, 2e-4, "float16"), "y = Add (x, w)",
            {"w": Fill((1, 512), -2e-4, 2e-4, "float16")}, tolerance=0.0,
        ),
        KernelCase(
            "half-product", "float16 products: rounded once, to nearest",
            Fill((1, 512), -100, 100, "float16"), "y = Mul (x, w)",
            {"w": Fill((1, 512), -100, 100, "float16")}, tolerance=0.0,
        ),
        KernelCase(
            "half-rounding", "float32 to float16 and back",
            Fill((1, 512), -60000, 60000), "h = Cast <to = 10> (x) y = Cast <to = 1> (h)", tolerance=0.0,
        ),
        KernelCase(
            "half-matmul", "float16 matrix product of 3,000 positive terms, summed in float32",
            Fill((3, 3000), 0.25, 0.75, "float16"), "y = MatMul (x, w)",
            {"w": Fill((3000, 8), 0.25, 0.75, "float16")}, tolerance=_HALF,
        ),
        KernelCase(
            "half-conv", "float16 convolution",
            Fill((1, 16, 8, 8), dtype="float16"), "y = Conv <pads = [1, 1, 1, 1]> (x, w)",
            {"w": Fill((16, 16, 3, 3), dtype="float16")}, tolerance=_HALF,
        ),
        KernelCase(
            "int8-dot", "int8 dot products of 256 terms, summed in int32: exact",
            Fill((8, 256), -127, 127, "int8"), "y = MatMulInteger (x, w)",
            {"w": Fill((256, 32), -127, 127, "int8")}, tolerance=0.0,
        ),
        KernelCase(
            "int8-matmul", "quantised matrix product: int8 weights and activations, scales per channel",
            Fill((8, 256), -1.2, 1.2),
            f"{_QUANTIZED} v = DequantizeLinear <axis = 1> (w, t, u) y = MatMul (d, v)",
            {
                "s": _SCALE, "z": _ZERO,
                "w": Fill((256, 32), -127, 127, "int8"),
                "t": Fill((32,), 0.002, 0.01), "u": Fill((32,), 0, 0, "int8"),
            },
        ),
        KernelCase(
            "tiles", "matrix product of 64 x 128 x 64 through tiles in shared memory, with barriers",
            Fill((64, 128)), "y = MatMul (x, w)", {"w": Fill((128, 64))},
        ),
        KernelCase(
            "long-sum", "sums of 5,000 values by the threads of a block: barriers, shuffles",
            Fill((2, 5000)), "y = ReduceSum <keepdims = 0> (x, axes)", {"axes": Fill((1,))},
        ),
        KernelCase(
            "long-softmax", "softmax over 5,000 values: a maximum and a sum by the threads of a block",
            Fill((2, 5000), -8, 8), "y = Softmax <axis = -1> (x)",
        ),
        KernelCase(
            "vectors", "wide loads and stores, in blocks of which the last is not full",
            Fill((1, 4099)), "p = Mul (x, w) y = Add (p, w)", {"w": Fill((1, 4099))},
        ),
        KernelCase("exp", "exp, error of each value", Fill((1, 1024), -20, 20), "y = Exp (x)", each=True),
        KernelCase("tanh", "tanh, error of each value", Fill((1, 1024), -6, 6), "y = Tanh (x)", each=True),
        KernelCase("sigmoid", "sigmoid", Fill((1, 1024), -12, 12), "y = Sigmoid (x)"),
        KernelCase("erf", "erf", Fill((1, 1024), -4, 4), "y = Erf (x)"),
        KernelCase(
            "sqrt-log", "square root and logarithm, error of each value",
            Fill((1, 1024), 1.5, 1e6), "r = Sqrt (x) y = Log (r)", each=True,
        ),
    ),
    gpu_only=True,
)  # fmt: skip

# One output of 1 TiB: no board has that much memory.
TOO_LARGE = CaseNet(
    "too-large",
    "1 TiB of device memory is refused as out of memory",
    (KernelCase("too-large", "", Fill((1, 4096)), "y = Expand (x, shape)", {"shape": Fill((2,))}),),
    gpu_only=True,
)

# Read and written once: more than the caches of a board hold.
COPY = CaseNet(
    "copy",
    "16 MiB read and 16 MiB written by a kernel",
    (KernelCase("copy", "", Fill((1024, 4096)), "y = Neg (x)"),),
)

INDICES = {"mean": (2, 3), "long-sum": (1,), "too-large": (1 << 26, 4096)}
"""Values of the constants ``axes`` and ``shape``."""
