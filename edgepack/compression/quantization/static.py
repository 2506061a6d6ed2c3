"""The steps of static quantization: prepare the float model, determine ranges and integers, write Q/DQ."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgepack.compression.method import Context
from edgepack.compression.quantization.encoding import BLOCK_OPSET, Form, encode, form_of
from edgepack.compression.quantization.equalising import equalise
from edgepack.compression.quantization.feeds import Feeds
from edgepack.compression.quantization.halves import store_halves
from edgepack.compression.quantization.judging import Judge
from edgepack.compression.quantization.layers import (
    RECURRENT,
    WEIGHTED,
    WeightConstant,
    arrays,
    readers_of,
    setting,
    weights,
)
from edgepack.compression.quantization.mixed import Precisions, choose, noise_of_each
from edgepack.compression.quantization.options import QuantizeStatic
from edgepack.compression.quantization.qdq import Layout, operators, write_qdq
from edgepack.compression.quantization.ranges import Ranges, activation_ranges
from edgepack.compression.quantization.rounded import RoundedWeight, decibels
from edgepack.compression.quantization.statistics import moments
from edgepack.compression.selection import skipped
from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
from edgepack.onnxfile.encodings import decoders
from edgepack.onnxfile.integers import exact_integers
from edgepack.onnxfile.opset import raised

if TYPE_CHECKING:
    import onnx

_SIXTEEN = "int16"


@dataclass
class Quantization:
    """A float model that is ready to be written in Q/DQ form.

    Attributes:
        path: the prepared model, with shapes inferred.
        folder: for temporary files.
        step: the options.
        feeds: calibration samples.
        found: weights of the model.
        encoded: nodes that decode weights which an earlier step encoded, and those that compute with them.
        ranges: of the activations.
        rounded: weights with their integers.
        metrics: for the report.
    """

    path: Path
    folder: Path
    step: QuantizeStatic
    feeds: Feeds
    found: Mapping[str, WeightConstant]
    encoded: Collection[str] = ()
    ranges: Ranges = field(default_factory=dict)
    rounded: dict[str, RoundedWeight] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def prepare(cls, model: Path, folder: Path, step: QuantizeStatic, feeds: Feeds, context: Context) -> Self:
        """Calibrate the float model, and round its weights."""
        import onnx

        proto = load_onnx(model)
        decode = decoders(proto)
        readers, rearranging = readers_of(proto.graph, decode)
        pairs = equalise(proto) if step.equalise else []
        if _has_sixteen(step):
            proto = raised(proto, BLOCK_OPSET, str(model))
        plain, path = folder / "plain.onnx", folder / "prepared.onnx"
        onnx.save(proto, plain)
        _prepare(plain, path)
        encoded = {*readers, *rearranging, *(name for names in decode.values() for name in names)}
        made = cls(path, folder, step, feeds, weights(proto.graph), encoded)
        made.ranges = activation_ranges(
            path,
            feeds.batches,
            step.calibration,
            percentile=step.percentile,
            symmetric=step.activations.startswith("int"),
            operators=operators(),
            folder=folder,
            progress=context.progress,
        )
        if decode:
            made.metrics["kept_whole"] = dict.fromkeys(readers, "an earlier step has encoded its weights")
        if step.equalise:
            made.metrics["equalised"] = [list(pair) for pair in pairs]
        made._round(onnx.load(path).graph)
        if step.rounding != "nearest" or step.correct_bias:
            made._improve(context)
        return made

    def write(self, left: Collection[str], precisions: Precisions) -> "onnx.ModelProto":
        """Return the model in Q/DQ form; the nodes ``left`` stay as they are, layers may have other precisions."""
        float_nodes = {
            user
            for name, kind in precisions.items()
            if kind in {"fp16", "fp32"}
            for user in self.found[name].users
        }
        wide = {
            self.found[name].node.input[1 - self.found[name].position]
            for name, kind in precisions.items()
            if kind == _SIXTEEN
        }
        excluded = sorted({*left, *float_nodes, *self.encoded})
        tables = [
            name
            for name, weight in self.found.items()
            if weight.operator == "Gather" and not set(weight.users) & set(excluded)
        ]
        layout = Layout(self.step.activations, excluded, sorted(wide), tables)
        written = canonicalise(write_qdq(self.path, self.ranges, self.rounded, layout))
        self._encode_recurrent(written, set(excluded))
        halves = {name for name, kind in precisions.items() if kind == "fp16"}
        if halves:
            store_halves(written, "float16", {}, halves)
        return written

    def mixed(self, left: Collection[str], context: Context) -> Precisions:
        """Return the precisions of layers that must not be int8; adds to the metrics."""
        if self.step.mixed is None:
            return {}
        choice = choose(
            [each.weight for each in self.rounded.values() if not set(each.weight.users) & set(left)],
            self._writer(left),
            Judge.of(self.path, self.feeds, context),
            drop=self.step.mixed.drop,
            higher=self.step.mixed.precisions,
            progress=context.progress,
        )
        self.metrics["mixed"] = choice.metrics
        return choice.precisions

    def sensitive(self, context: Context) -> list[str]:
        """Return the nodes of layers that ``skip`` finds sensitive; adds the reasons to the metrics."""
        judge = Judge.of(self.path, self.feeds, context)

        def noise() -> dict[str, float]:
            shares = noise_of_each(list(self.rounded), self._writer(()), judge, context.progress)
            return {name: decibels(1, share) or math.inf for name, share in shares.items()}

        names = {name: each.weight.names for name, each in self.rounded.items()}
        where = f"compress, {self.step.method}, skip"
        left = skipped(self.step.skip, names, noise, kind="layer or node", where=where)
        self.metrics["kept_whole"] = {**self.metrics.get("kept_whole", {}), **left}
        return [user for name in left for user in self.found[name].users]

    def _writer(self, left: Collection[str]) -> Callable[[Precisions], Path]:
        path = self.folder / "tried.onnx"

        def write(precisions: Precisions) -> Path:
            save_onnx(canonicalise(self.write(left, precisions)), path)
            return path

        return write

    def _form(self, weight: WeightConstant, shape: tuple[int, ...]) -> Form:
        # Channels of several groups share an index of the weight, and biases have a scale per channel.
        shared = weight.operator == "ConvTranspose" and setting(weight.node, "group", 1) > 1
        return form_of(weight, shape) if self.step.per_channel and not shared else Form(shape, None)

    def _round(self, graph: "onnx.GraphProto") -> None:
        """Round the weights of layers whose activations are quantized to the nearest integers."""
        direct = [
            name
            for name, weight in self.found.items()
            if weight.operator in WEIGHTED and weight.node.input[weight.position] == name
        ]
        for name, array in arrays(graph, direct):
            weight = self.found[name]
            self.rounded[name] = RoundedWeight.on(
                weight,
                array,
                self._form(weight, array.shape),
                8,
                symmetric=self.step.weights == "int8",
                fit=self.step.weight_scales,
            )

    def _improve(self, context: Context) -> None:
        """Learn the rounding, and correct the biases."""
        ratios: dict[str, list[float | None]] = {}
        left: list[str] = []
        shifts = {}
        rounded = self.rounded
        shapes = [each.array.shape for each in rounded.values()]
        layers = [each.weight for each in rounded.values()]
        for weight, measured in moments(self.path, layers, shapes, self.feeds.batches, context.progress):
            if measured is None:
                left.append(weight.name)
                continue
            before = after = rounded[weight.name]
            if self.step.rounding == "learned":
                after = before.learned(measured, self.step.iterations)
            elif self.step.rounding == "compensated":
                after = before.compensated(measured)
            rounded[weight.name] = after
            ratios[weight.name] = [before.output_sqnr_db(measured), after.output_sqnr_db(measured)]
            if self.step.correct_bias:
                shifts[weight.name] = after.shift(measured)
        self.metrics |= {"output_sqnr_db": ratios, "kept_nearest": left}
        if self.step.correct_bias:
            self.metrics["corrected"] = self._correct(shifts)

    def _correct(self, shifts: "Mapping[str, Any]") -> list[str]:
        """Subtract from each bias by how much the mean of its outputs moves; returns the layers that have one of their own."""
        import onnx
        from onnx import numpy_helper

        model = onnx.load(self.path)
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        uses = [name for node in model.graph.node for name in node.input]
        corrected = []
        for name, shift in shifts.items():
            node = self.found[name].node
            bias = tensors.get(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004 - data, weights, bias
            if (
                bias is None
                or uses.count(bias.name) > 1
                or uses.count(name) > 1
                or list(bias.dims) != [len(shift)]
            ):
                continue
            value = numpy_helper.to_array(bias) - shift
            bias.CopyFrom(numpy_helper.from_array(value.astype("float32"), bias.name))
            corrected.append(name)
        onnx.save(model, self.path)
        return corrected

    def _encode_recurrent(self, model: "onnx.ModelProto", excluded: Collection[str]) -> None:
        """Store the weights of recurrent layers as int8, in place; their activations stay float32."""
        found = weights(model.graph)
        names = [
            name
            for name, weight in found.items()
            if weight.operator in RECURRENT and not set(weight.users) & set(excluded)
        ]
        for name, array in list(arrays(model.graph, names)):
            form = self._form(found[name], array.shape)
            each = RoundedWeight.on(found[name], array, form, 8, symmetric=True, fit=self.step.weight_scales)
            if each.bytes < array.nbytes:
                encode(model, name, each.integers, each.grid, each.form)


def _has_sixteen(step: QuantizeStatic) -> bool:
    """Whether activations may have 16 bits."""
    return step.activations.endswith("16") or (step.mixed is not None and _SIXTEEN in step.mixed.precisions)


def _prepare(plain: Path, prepared: Path) -> None:
    """Infer shapes, and make integer products in the file exact for the calibrator.

    The calibrator runs the file without graph optimisations, as the reference does, and knows nothing of saturation.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # skip refers to names; onnxruntime's optimiser would fuse and rename nodes.
    quant_pre_process(str(plain), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    if exact_integers(model, prepared):
        onnx.save(model, prepared)
