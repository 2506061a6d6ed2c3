"""Experimental operators of opsets 7 to 9, which ONNX has withdrawn and onnxruntime still runs.

They have no schema, so that ONNX's checker refuses them. Source: the operators' definitions in ONNX 1.2 to 1.4.
"""

from typing import TYPE_CHECKING

from edgepack.onnxfile.inlining import STANDARD
from edgepack.onnxfile.opset.applying import apply_rules
from edgepack.onnxfile.opset.site import Rule, Site, known_of
from edgepack.onnxfile.protos import graphs

if TYPE_CHECKING:
    import onnx

_LAST = 9  # opset 10 has none of them; ThresholdedRelu is a normal operator there
_SMALLEST_VARIANCE = 1e-9


def replace_withdrawn(model: "onnx.ModelProto", opset: int) -> None:
    """Replace withdrawn operators, in place, by those that define them."""
    if opset <= _LAST and any(_rule(node, opset) for graph in graphs(model.graph) for node in graph.node):
        apply_rules(model.graph, lambda node: _rule(node, opset), known_of(model), opset)


def _rule(node: "onnx.NodeProto", opset: int) -> Rule | None:
    if node.op_type == "MeanVarianceNormalization" and opset == _LAST:
        return None  # a normal operator, too, with other attributes
    return _RULES.get(node.op_type) if node.domain in STANDARD else None


def _number(site: Site, name: str, default: float) -> str:
    return site.tensor(site.take(name, default), "float32")


def _affine(site: Site) -> None:
    scaled = site.add("Mul", site.node.input[0], _number(site, "alpha", 1.0))
    site.replace("Add", scaled, _number(site, "beta", 0.0))


def _scale(site: Site) -> None:
    site.replace("Mul", site.node.input[0], _number(site, "scale", 1.0))


def _image_scaler(site: Site) -> None:
    """Each channel has its own bias."""
    import numpy as np

    scaled = site.add("Mul", site.node.input[0], _number(site, "scale", 1.0))
    bias = np.reshape(site.take("bias", [0.0]), (1, -1, 1, 1))
    site.replace("Add", scaled, site.tensor(bias, "float32"))


def _scaled(function: str) -> Rule:
    """The function of the input times ``beta``, times ``alpha``."""

    def rule(site: Site) -> None:
        inner = site.add("Mul", site.node.input[0], _number(site, "beta", 1.0))
        site.replace("Mul", site.add(function, inner), _number(site, "alpha", 1.0))

    return rule


def _thresholded(site: Site) -> None:
    """The input where it is larger than ``alpha``, else 0; no infinity is multiplied by 0."""
    alpha, data = site.take("alpha", 1.0), site.node.input[0]
    above = site.add("Cast", site.add("Greater", data, site.tensor(alpha, "float32")), to=1)  # to float
    positive = site.add("Relu", data)
    if alpha >= 0:
        site.replace("Mul", positive, above)
        return
    limited = site.add("Clip", site.add("Neg", data), max=-alpha)
    negative = site.add("Mul", site.add("Relu", limited), above)
    site.replace("Sub", site.add("Mul", positive, above), negative)


def _crop(site: Site) -> None:
    """``border`` is left, top, right, bottom; ``scale`` is the height and width to keep, then right and bottom are not used."""
    left, top, right, bottom = site.take("border")
    size = site.take("scale")
    ends = [-bottom or 2**31 - 1, -right or 2**31 - 1] if not size else [top + size[0], left + size[1]]
    site.replace("Slice", site.node.input[0], axes=[2, 3], starts=[top, left], ends=ends)


def _mean_variance(site: Site) -> None:
    axes = [0, 1, 2, 3] if site.take("across_channels", 0) else [0, 2, 3]
    data = site.node.input[0]
    center = site.add("ReduceMean", data, axes=axes, keepdims=1)
    if not site.take("normalize_variance", 1):
        site.replace("Sub", data, center)
        return
    centered = site.add("Sub", data, center)
    variance = site.add("ReduceMean", site.add("Mul", centered, centered), axes=axes, keepdims=1)
    above = site.add("Add", variance, site.tensor(_SMALLEST_VARIANCE, "float32"))
    site.replace("Div", centered, site.add("Sqrt", above))


_RULES: dict[str, Rule] = {
    "Affine": _affine,
    "Crop": _crop,
    "ImageScaler": _image_scaler,
    "MeanVarianceNormalization": _mean_variance,
    "ParametricSoftplus": _scaled("Softplus"),
    "Scale": _scale,
    "ScaledTanh": _scaled("Tanh"),
    "ThresholdedRelu": _thresholded,
}
