"""The cases: those that the onnx package generates for each operator, and the light models in its wheel.

A case is a model, its inputs and the expected outputs. Some are left out, each with a reason
(`left_out`); in the others, inputs that determine shapes are bound as constants (`bind`), because
exporters write them as constants and an ahead-of-time compiler needs them before run time.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.coverage.results import NETWORKS
from edgepack.spec.model import DType

SHAPING: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),  # size
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),  # shape
    "Col2Im": (1, 2),  # image_shape, block_shape
    "ConstantOfShape": (0,),
    "CumProd": (1,),  # axis
    "CumSum": (1,),  # axis
    "DFT": (1, 2),  # dft_length, axis
    "Dropout": (1, 2),  # ratio, training_mode
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "Loop": (0,),  # trip count
    "MaxUnpool": (2,),  # output_shape
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (2, 3, 4),  # max_output_boxes_per_class, thresholds
    "OneHot": (1,),  # depth
    "Pad": (1, 2, 3),  # pads, constant_value, axes
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),  # roi, scales, sizes
    "STFT": (1, 3),  # frame_step, frame_length
    "Slice": (1, 2, 3, 4),  # starts, ends, axes, steps
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),  # k
    "Trilu": (1,),  # k
    "Unsqueeze": (1,),
    "Upsample": (1,),  # scales
} | {
    f"Reduce{kind}": (1,)  # axes
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
}
"""Inputs of each operator that affect shapes or attributes of the computation, by position."""

PLAIN = {helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in get_args(DType)}
RANDOM = {f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")}
RANDOM |= {"Bernoulli", "Multinomial"}
LOSSES = {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}
TRAINING_DOMAIN, ML_DOMAIN = "ai.onnx.preview.training", "ai.onnx.ml"


@dataclass(frozen=True)
class Case:
    """A model, its inputs in the model's order, and its expected outputs."""

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: tuple[object, ...]
    outputs: tuple[object, ...]
    rtol: float
    atol: float
    shaping: frozenset[str] = field(default_factory=frozenset)  # inputs that `bind` makes constants

    @property
    def expanded(self) -> bool:
        """Whether the operator is replaced by the primitives of its definition."""
        return "_expanded" in self.name

    def values(self) -> dict[str, np.ndarray]:
        """Inputs by name, in the model's order."""
        constants = {tensor.name for tensor in self.model.graph.initializer}
        names = [value.name for value in self.model.graph.input if value.name not in constants]
        return dict(zip(names, self.inputs, strict=True))


def collect(pattern: str = "") -> list[Case]:
    """Return all cases whose name matches the regular expression, sorted by name, the networks last."""
    cases = [*sorted(_node_cases(), key=lambda case: case.name), *_light_models()]
    return [case for case in cases if re.search(pattern, case.name)]


def spread(cases: Sequence[Case]) -> list[Case]:
    """Sort cases so that a run that ends early has some of every operator; expanded ones come last."""
    seen: Counter[tuple[bool, str]] = Counter()
    ranks = {}
    for case in cases:
        kind = (case.expanded, case.operator)
        ranks[case.name] = (case.expanded, seen[kind])
        seen[kind] += 1
    return sorted(cases, key=lambda case: ranks[case.name])


def _node_cases() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # its reference code divides by zero on purpose
        warnings.simplefilter("ignore")
        generated = collect_testcases(None)
    plain = {case.name: case.model.graph for case in generated if len(case.model.graph.node) == 1}
    for case in generated:
        base = plain.get(re.sub(r"_expanded(_ver\d+)?$", "", case.name), case.model.graph)
        ((inputs, outputs),) = case.data_sets
        yield Case(
            name=case.name,
            operator=base.node[0].op_type,
            model=case.model,
            inputs=tuple(map(_array, inputs)),
            outputs=tuple(map(_array, outputs)),
            rtol=case.rtol,
            atol=case.atol,
            shaping=_shaping(base),
        )


def _array(value: object) -> object:
    """Convert a value, which some cases give as a protobuf message."""
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _shaping(graph: onnx.GraphProto) -> frozenset[str]:
    """Return names of the graph's inputs that `bind` makes constants."""
    shaping = {
        node.input[index]
        for node in graph.node
        for index in SHAPING.get(node.op_type, ())
        if index < len(node.input)
    }
    return frozenset(shaping & {value.name for value in graph.input})


def _light_models() -> Iterator[Case]:
    """Yield real networks of the wheel, with constant weights, and the tolerances and inputs of its own runner."""
    from onnx.backend.test.case.model import collect_testcases

    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    for case in collect_testcases():
        if case.kind != "real":
            continue
        path = folder / f"light_{case.model_name}.onnx"
        model = onnx.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        (value,) = (each for each in model.graph.input if each.name not in constants)
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        data = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
        expected = TensorProto()
        expected.ParseFromString(path.with_name(f"{path.stem}_output_0.pb").read_bytes())
        outputs = (numpy_helper.to_array(expected),)
        yield Case(path.stem, NETWORKS, model, (data,), outputs, case.rtol, case.atol)


def left_out(case: Case) -> str | None:
    """Return why a case is not counted, or None if it is."""
    domains = {node.domain for node in case.model.graph.node}
    if TRAINING_DOMAIN in domains or case.operator in LOSSES or _trains(case):
        return "training"
    if ML_DOMAIN in domains:
        return f"classical machine learning, domain {ML_DOMAIN}"
    around = [value.type for value in (*case.model.graph.input, *case.model.graph.output)]
    kinds = {kind.WhichOneof("value") for kind in around}
    if "sequence_type" in kinds:
        return "sequences"
    if "optional_type" in kinds:
        return "optional types"
    types = {kind.tensor_type.elem_type for kind in around}
    if TensorProto.STRING in types:
        return "strings"
    if types - PLAIN:
        return "element types that .npy files and boards' inputs do not have: bfloat16, float8, 4 and 2 bits"
    if set(case.values()) <= case.shaping:
        return "constants: nothing is computed once the shaping inputs are known"
    if case.operator in RANDOM:
        return "random outputs: the case cannot say what is right"
    return None


def _trains(case: Case) -> bool:
    attributes = [attribute for node in case.model.graph.node for attribute in node.attribute]
    if any(attribute.name == "training_mode" and attribute.i for attribute in attributes):
        return True
    switch = [value for name, value in case.values().items() if name in {"t", "training_mode"}]
    return case.operator == "Dropout" and bool(switch) and bool(np.all(switch))


def bind(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return the model with its shaping inputs as constants, and the remaining inputs."""
    values = case.values()
    if not case.shaping & set(values):
        return case.model, values
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = max(model.ir_version, 4)  # earlier versions require initializers to be inputs
    kept = [value for value in case.model.graph.input if value.name not in case.shaping]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for name in sorted(case.shaping):
        model.graph.initializer.append(numpy_helper.from_array(values.pop(name), name))
    return model, values
