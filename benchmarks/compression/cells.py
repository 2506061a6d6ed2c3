"""What is measured: the compression steps of each cell, and the claims that the cells are to meet."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.compression.registry import METHODS

Step = Mapping[str, Any]

SOURCE = "source"
"""The cell without steps: the bundle of the model as it was trained."""

SMALLEST = "prune-weights, distill, cluster"
"""The cell with the smallest weights."""

SECOND_TEACHER = "resnet20"
"""The network that teaches beside the student's own model, where there are two teachers."""

_FASHION = ("vgg", "resnet20", "separable")
_RECURRENT = ("lstm", "gru")
_TEXT = (*_RECURRENT, "transformer")


@dataclass(frozen=True)
class CompressionCell:
    """One way to compress a network.

    Attributes:
        net: the key of the network.
        name: of the cell; those of a curve are ``method: setting``.
        steps: of the recipe, without seeds.
        group: the table or curve that it belongs to.
    """

    net: str
    name: str
    steps: tuple[Step, ...]
    group: str


@dataclass(frozen=True)
class Claim:
    """A row of the first table: what the cells of a group are to reach.

    Attributes:
        text: what is compressed, and how.
        group: its cells, one per network.
        only: only the cell of this network or name, of those in the group.
        drop: percentage points of the metric that may be lost: must, aim.
        smaller: how many times smaller the weights in the bundle are to be: must, aim; None if that is not the point.
        macs: share of the multiply-accumulates that may be left.
    """

    text: str
    group: str
    drop: tuple[float, float]
    smaller: tuple[float, float] | None = None
    macs: float | None = None
    only: str | None = None


def _tuned(epochs: int, lr: float) -> dict[str, Any]:
    return {"epochs": epochs, "lr": lr, "batch_size": 128}


def _taught(epochs: int) -> Step:
    """Fine-tuning with the answers of the source model."""
    return {"method": "distill", "alpha": 0.7, "fine_tune": _tuned(epochs, 0.001)}


_TAUGHT = _taught(4)
_TAUGHT_EPOCHS = {"vgg": 4, "resnet20": 8, "separable": 8}  # after half of the MACs or most blocks are gone


def _blocks(net: str, *, taught: bool) -> CompressionCell:
    pruned = {"method": "prune-blocks", "ratio": 0.75, "schedule": "gradual", "fine_tune": _tuned(4, 0.001)}
    if not taught:
        return CompressionCell(net, "prune-blocks: 75 %", (pruned,), "tried")
    steps = ({**pruned, "scope": "global"}, _taught(_TAUGHT_EPOCHS[net]))
    return CompressionCell(net, "prune-blocks: 75 %, distill", steps, "blocks")


def _deep(net: str, name: str, ratio: float, taught: Step | None, clustered: int) -> CompressionCell:
    """Deep Compression (Han et al. 2016, arXiv:1510.00149): prune, share values, code; perhaps with a teacher between."""
    pruned = {"ratio": ratio, "scope": "global", "schedule": "gradual", "fine_tune": _tuned(4, 0.001)}
    steps = (
        {"method": "prune-weights", **pruned},
        *([taught] if taught is not None else []),
        {"method": "cluster", "clusters": 16, "fine_tune": _tuned(clustered, 0.0003)},
    )
    return CompressionCell(net, name, steps, "smallest" if name == SMALLEST else "tried")


def _few_bits(net: str, bits: int) -> list[CompressionCell]:
    """All weights in so many bits, with states in float32: rounded after training, and trained so."""
    trained = {"weights": bits, "first_last": bits, "activations": "float", "fine_tune": _tuned(4, 0.001)}
    return [
        CompressionCell(net, f"{method}: {bits} bits", ({"method": method, **options},), "tried")
        for method, options in (("quantize-weights", {"bits": bits}), ("train-quantized", trained))
    ]


def _four_bits(net: str) -> CompressionCell:
    """Weights of 4 bits; of a network with many scales, those of the first and last layer too."""
    many = net == "separable"
    step = {"method": "train-quantized", "weights": 4, "fine_tune": _tuned(4 if many else 2, 0.0005)}
    return CompressionCell(
        net, "train-quantized: 4 bits", ({**step, **({"first_last": 4} if many else {})},), "4 bits"
    )


def _student(name: str, **options: Any) -> CompressionCell:
    step = {"method": "distill", "width": 0.36, "initial": "new", "fine_tune": _tuned(30, 0.003), **options}
    return CompressionCell("vgg", name, (step,), "students")


def _curve(net: str, method: str) -> list[CompressionCell]:
    epochs, lr = _CURVE_TRAINING[method][net]
    size = 128 if net in _FASHION else 64
    return [
        CompressionCell(
            net,
            f"{method}: {', '.join(f'{key} {value}' for key, value in setting.items())}",
            ({"method": method, **setting, "fine_tune": {**_tuned(epochs, lr), "batch_size": size}},),
            method,
        )
        for setting in _SETTINGS[method]
    ]


STUDENT_ALONE, STUDENT = "student alone", "student of its model"
STUDENT_OF_SECOND, STUDENT_OF_TWO = "student of the ResNet-20", "student of both"
SECOND_WEIGHTS = "second.safetensors"
_SECOND = {"source": "edgepack.zoo.fashion:resnet20", "weights": SECOND_WEIGHTS}
PLAIN_INT8 = {"method": "quantize-static", "samples": 512}

_SETTINGS: Mapping[str, Sequence[Step]] = {
    "cluster": [{"clusters": n} for n in (256, 16, 8, 4, 2)],
    "product-quantize": [
        {"entries": 256, "size": 4},
        {"entries": 256, "size": 8},
        {"entries": 64, "size": 8},
        {"entries": 16, "size": 8},
        {"entries": 16, "size": 16},
    ],
    "hash-weights": [{"ratio": r} for r in (0.5, 0.25, 0.125, 0.0625, 0.03125)],
    "pulse-quantize": [{"pulses": p} for p in (2.0, 1.0, 0.5, 0.25, 0.125)],
    "low-rank": [{"energy": e} for e in (0.95, 0.85, 0.7, 0.5, 0.3)],
    "binarize": [
        {"weights": "ternary"},
        {"weights": "binary"},
        {"weights": "ternary", "first_last": True},
        {"weights": "binary", "first_last": True},
        {"weights": "binary", "activations": "binary"},
    ],
}

_CURVE_TRAINING: Mapping[str, Mapping[str, tuple[int, float]]] = {  # epochs and learning rate
    "cluster": {"vgg": (1, 0.0005), "digits": (6, 0.001)},
    "product-quantize": {"vgg": (1, 0.0005), "digits": (8, 0.001)},
    "hash-weights": {"vgg": (2, 0.002), "digits": (20, 0.004)},
    "pulse-quantize": {"vgg": (1, 0.0005), "digits": (6, 0.001)},
    "low-rank": {"vgg": (1, 0.001), "digits": (10, 0.001)},
    "binarize": {"vgg": (2, 0.002), "digits": (10, 0.002)},
}

CURVES = tuple(_SETTINGS)
"""Methods whose size and accuracy are traced over several settings."""

CURVE_NETS = ("vgg", "digits")


def curve(net: str, method: str) -> list[CompressionCell]:
    """The cells of a method's curve for a network, from the largest file to the smallest as a rule."""
    return [cell for cell in CELLS if cell.net == net and cell.group == method]


CELLS: tuple[CompressionCell, ...] = (
    *(CompressionCell(net, SOURCE, (), SOURCE) for net in (*_FASHION, "digits", *_TEXT)),
    _deep("vgg", SMALLEST, 0.92, _TAUGHT, 1),
    _deep("vgg", "prune-weights, cluster", 0.95, None, 2),
    _deep("resnet20", SMALLEST, 0.92, _TAUGHT, 1),
    _deep("resnet20", "prune-weights: 85 %, distill, cluster", 0.85, _TAUGHT, 1),
    CompressionCell(
        "vgg",
        "prune-channels: half the MACs",
        ({"method": "prune-channels", "macs": 0.5, "scope": "global", "fine_tune": _tuned(4, 0.001)},),
        "tried",
    ),
    *(
        CompressionCell(net, "quantize-static", (PLAIN_INT8,), "int8")
        for net in (*_FASHION, "digits", "transformer")
    ),
    *(
        CompressionCell(net, "quantize-weights", ({"method": "quantize-weights"},), "int8")
        for net in _RECURRENT
    ),
    *(_four_bits(net) for net in _FASHION),
    *(cell for net in _RECURRENT for bits in (4, 2) for cell in _few_bits(net, bits)),
    *(
        CompressionCell(
            net,
            "prune-channels: half the MACs, distill",
            (
                {"method": "prune-channels", "macs": 0.5, "scope": "global", "fine_tune": _tuned(2, 0.001)},
                _taught(epochs),
            ),
            "half the MACs",
        )
        for net, epochs in _TAUGHT_EPOCHS.items()
    ),
    *(_blocks(net, taught=taught) for net in ("vgg", "resnet20") for taught in (False, True)),
    _student(STUDENT_ALONE, alpha=0.0),
    _student(STUDENT),
    _student(STUDENT_OF_SECOND, teachers=[_SECOND]),
    _student(STUDENT_OF_TWO, teachers=[{}, _SECOND]),
    *(cell for net in CURVE_NETS for method in CURVES for cell in _curve(net, method)),
)

CLAIMS: tuple[Claim, ...] = (
    Claim("pruned, shared and coded weights, VGG-like", "smallest", (0.5, 0.5), (35, 60), only="vgg"),
    Claim(
        "pruned, shared and coded weights, ResNet-20-like", "smallest", (1.0, 1.0), (20, 30), only="resnet20"
    ),
    Claim("int8 after training", "int8", (0.3, 0.1), (3.9, 3.9)),
    Claim("4-bit weights, trained", "4 bits", (0.5, 0.2), (7.5, 7.5)),
    Claim("half the MACs by channels", "half the MACs", (0.5, 0.2), macs=0.5),
    Claim("75 % of the blocks pruned", "blocks", (1.0, 0.5)),
    Claim("a student, 8 times smaller", "students", (1.0, 0.5), (8, 8), only=STUDENT),
)


def chosen(nets: Sequence[str], pattern: str) -> list[CompressionCell]:
    """The cells of these networks whose names match, sources first."""
    found = [cell for cell in CELLS if cell.net in nets and re.search(pattern, f"{cell.net}/{cell.name}")]
    return sorted(found, key=lambda cell: cell.group != SOURCE)


def of_claim(claim: Claim) -> list[CompressionCell]:
    """The cells of a claim."""
    found = [cell for cell in CELLS if cell.group == claim.group]
    return [cell for cell in found if claim.only in {None, cell.net, cell.name}]


def seeded(cell: CompressionCell, seed: int) -> list[dict[str, Any]]:
    """The steps with their seeds; ``seed`` is also that of their training."""
    steps = []
    for step in cell.steps:
        fields = METHODS[step["method"]].spec.model_fields
        own = {"seed": seed} if "seed" in fields else {}
        tuned = {"fine_tune": {**step["fine_tune"], "seed": seed}} if "fine_tune" in step else {}
        steps.append({**step, **own, **tuned})
    return steps
