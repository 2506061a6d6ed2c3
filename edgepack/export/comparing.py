"""Compare two forms of a model in onnxruntime: their outputs, and the tensors inside that both have."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import ImportDiffersError, InputError
from edgepack.onnxfile.sampling import made_up
from edgepack.onnxfile.sessions import open_session, run_session
from edgepack.spec import Input

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Feed = Mapping[str, np.ndarray]

DRAWS = 3  # made-up inputs that both forms are run on
_TOLERANCE = 1e-4  # relative, as difference() has it: above the rounding of fp32 sums in another order
_HALF_TOLERANCE = 2e-2  # the same for models that compute in 16 bits
_NUDGE = 1e-6  # relative change of the inputs, to measure how rounding affects this model's outputs
_AMPLIFIED = 10  # the import may change an output by this factor more than a nudge does
_CHANNEL = 16  # elements from which a channel has a largest value of its own
_SMALLEST_CHANNEL = 0.01  # of the tensor's largest value: below, sums of larger numbers cancel
_WIDE = 4.0  # standard deviation of the inputs that are outside of what the model is made for
_AT_ONCE = 2**28  # bytes of inner tensors to hold at a time


def require_same(
    path: Path, imported: Path, inputs: Sequence[Input], *, tolerance: float | None = None
) -> bool:
    """Raise an error if the imported model computes something else than the original, by more than rounding.

    Both are run on made-up inputs, and once on numbers from a wide range. Outputs that would hardly show a
    difference, because they are NaN, all equal, or no floating-point numbers, are supplemented by the tensors inside.
    ``tolerance`` is relative to a tensor's largest value, by default that of the model's element types.

    Returns:
        Whether a difference would have shown: False if no output and no inner tensor tells anything.

    Raises:
        InputError: if onnxruntime cannot run the original file.
        ImportDiffersError: with the first tensor that differs, and its node.
    """
    pair = _Pair(path, imported, tolerance)
    told: list[list[np.ndarray]] = []
    feeds = pair.feeds(inputs)
    for feed in feeds:
        expected = pair.expected(feed)
        actual = pair.actual(feed)
        for index, (got, want) in enumerate(zip(actual, expected, strict=True)):
            if not pair.within(difference(got, want), feed, pair.outputs[index], want):
                raise pair.differs(difference(got, want), feed)
        told.append(expected)
    columns = list(zip(*told, strict=True))
    if all(tells(column) and column[0].dtype.kind == "f" for column in columns):
        return True
    inside = False
    for feed in (feeds[0], feeds[-1]):
        for name, got, want in pair.inner(feed):
            if want.dtype.kind == "f":
                inside |= tells([want])
                if not pair.within(difference(got, want), feed, name, want):
                    raise pair.differs(difference(got, want), feed)
    return inside or any(tells(column) for column in columns)


def difference(actual: "np.ndarray", expected: "np.ndarray") -> float:
    """Return the largest relative difference. NaN equals NaN, and infinities themselves.

    It is relative to the largest expected value, or that of the element's channel, if that is smaller: boxes and their
    scores are often one tensor. Infinite if the shapes, the dtypes or the places of NaN and infinities differ.
    """
    import numpy as np

    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return inf
    if actual.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(actual, expected) else inf
    ours, theirs = actual.astype(np.float64), expected.astype(np.float64)
    usual = np.isfinite(theirs)
    if not np.array_equal(ours[~usual], theirs[~usual], equal_nan=True):
        return inf
    ours[~usual] = theirs[~usual] = 0
    return float((np.abs(ours - theirs) / _scale(np.abs(theirs))).max(initial=0.0))


def _scale(sizes: "np.ndarray") -> "np.ndarray":
    """Return what each element's difference is relative to, of a shape that fits ``sizes``, their absolute values."""
    import numpy as np

    largest = sizes.max(initial=0.0)
    scale = np.full((1,) * sizes.ndim, largest)
    for channels in {1, sizes.ndim - 1} if sizes.ndim > 1 else ():
        if sizes.shape[channels] and sizes.size // sizes.shape[channels] >= _CHANNEL:
            others = tuple(axis for axis in range(sizes.ndim) if axis != channels)
            scale = np.minimum(scale, sizes.max(axis=others, keepdims=True))
    return np.maximum(scale, _SMALLEST_CHANNEL * largest) if largest else np.ones_like(scale)


def tells(values: "Iterable[np.ndarray]") -> bool:
    """Whether the finite elements of these arrays, the same tensor for several inputs, are not all equal."""
    import numpy as np

    seen: set[float] = set()
    for array in values:
        wide = array.astype(np.float64) if array.dtype.kind in "fiub" else np.zeros(0)
        finite = wide[np.isfinite(wide)]
        if finite.size:
            seen |= {float(finite.min()), float(finite.max())}
    return len(seen) > 1


@dataclass(frozen=True)
class _Pair:
    """The original and the imported model."""

    path: Path
    imported: Path
    given: float | None  # the tolerance, if it is not that of the element types

    @cached_property
    def _sessions(self) -> tuple[Any, Any]:
        return open_session(self.path), open_session(self.imported)

    @cached_property
    def outputs(self) -> list[str]:
        """The names of the outputs."""
        return [str(output.name) for output in self._sessions[0].get_outputs()]

    def feeds(self, inputs: Sequence[Input]) -> "list[Feed]":
        """Made-up inputs, and others from a wide range, if the original is defined for them."""
        import numpy as np

        feeds: list[Feed] = [sample.inputs for sample in made_up(self.path, inputs, DRAWS)]
        rng = np.random.default_rng(DRAWS)
        wide = {
            name: (rng.standard_normal(value.shape) * _WIDE).astype(value.dtype)
            for name, value in feeds[0].items()
            if value.dtype.kind == "f"
        }
        try:
            outputs = self.expected({**feeds[0], **wide})
        except InputError:
            return feeds
        finite = all(value.dtype.kind != "f" or np.isfinite(value).all() for value in outputs)
        return [*feeds, {**feeds[0], **wide}] if wide and finite else feeds

    def expected(self, feed: "Feed") -> "list[np.ndarray]":
        """The original's outputs."""
        return run_session(self._sessions[0], feed, self.path)

    def actual(self, feed: "Feed") -> "list[np.ndarray]":
        """The imported model's outputs."""
        try:
            return run_session(self._sessions[1], feed, self.imported)
        except InputError as error:
            message = "the imported model cannot be run"
            raise ImportDiffersError(message, where=str(self.path), why=error.why, next=error.next) from error

    def within(self, size: float, feed: "Feed", name: str, expected: "np.ndarray") -> bool:
        """Whether a difference of a tensor is rounding: small, or of the size that a nudge of the inputs makes."""
        return size <= self._tolerance or size <= _AMPLIFIED * self._noise(feed, name, expected)

    @cached_property
    def _tolerance(self) -> float:
        if self.given is not None:
            return self.given
        import onnx
        from onnx import TensorProto

        graph = onnx.load_model(self.imported, load_external_data=False).graph
        values = (*graph.input, *graph.value_info, *graph.output)
        half = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
        return _HALF_TOLERANCE if any(v.type.tensor_type.elem_type in half for v in values) else _TOLERANCE

    def _noise(self, feed: "Feed", name: str, expected: "np.ndarray") -> float:
        """Return how much a change of the inputs by ``_NUDGE`` changes a tensor: quantization amplifies it."""
        import numpy as np

        session = self._sessions[0] if name in self.outputs else open_session(self.path, also=[name])
        worst = 0.0
        for seed in range(DRAWS):
            rng = np.random.default_rng(seed)
            nudged = {}
            for each, value in feed.items():
                nudge = 1 + max(_NUDGE, _resolution(value)) * rng.standard_normal(value.shape)
                nudged[each] = (value * nudge).astype(value.dtype) if value.dtype.kind == "f" else value
            (changed,) = session.run([name], nudged)
            worst = max(worst, difference(changed, expected))
        return worst

    @cached_property
    def _makers(self) -> "dict[str, onnx.NodeProto]":
        """The nodes of the original by the tensors that they compute, in order, if the imported model has them, too."""
        import onnx

        original = onnx.load_model(self.path, load_external_data=False).graph
        graph = onnx.load_model(self.imported, load_external_data=False).graph
        known = {name for node in graph.node for name in node.output if name}
        return {name: node for node in original.node for name in node.output if name in known}

    @cached_property
    def _inner_sessions(self) -> tuple[Any, Any]:
        names = [name for name in self._makers if name not in self.outputs]
        return open_session(self.path, also=names), open_session(self.imported, also=names)

    def inner(self, feed: "Feed") -> "Iterator[tuple[str, np.ndarray, np.ndarray]]":
        """Yield the tensors that both models compute, in the original's order, outputs included: name, ours, theirs."""
        import numpy as np

        try:
            theirs, ours = self._inner_sessions
        except InputError:  # onnxruntime does not make an output of each tensor
            return
        given = {name: np.asarray(value) for name, value in feed.items()}  # a drawn scalar is no array
        renamed = {self.outputs[i]: str(o.name) for i, o in enumerate(self._sessions[1].get_outputs())}
        for names in self._groups():
            here = [renamed.get(name, name) for name in names]
            both = zip(names, ours.run(here, given), theirs.run(names, given), strict=True)
            yield from (each for each in both if all(hasattr(value, "dtype") for value in each[1:]))

    def _groups(self) -> Iterator[list[str]]:
        """Yield the names of these tensors in groups that fit into memory."""
        import onnx

        graph = onnx.load_model(self.imported, load_external_data=False).graph
        sizes = {
            value.name: prod(dim.dim_value for dim in value.type.tensor_type.shape.dim) * 8
            for value in (*graph.value_info, *graph.output)
        }
        group: list[str] = []
        held = 0
        for name in dict.fromkeys((*self._makers, *self.outputs)):
            if group and held + sizes.get(name, 0) > _AT_ONCE:
                yield group
                group, held = [], 0
            group.append(name)
            held += sizes.get(name, 0)
        yield group

    def differs(self, size: float, feed: "Feed") -> ImportDiffersError:
        """Return the error for a difference of this size, with the first tensor that differs."""
        by = f", by up to {size:.1%}" if size < inf else ""
        return ImportDiffersError(
            f"importing the model changes what it computes{by}",
            where=str(self.path),
            why=self._first(feed),
            next="re-export the model with opset 18 or later, or report it with this node",
        )

    def _first(self, feed: "Feed") -> str:
        """Describe the first tensor of the original file, in its order, that differs in the imported one."""
        for name, got, want in self.inner(feed):
            size = difference(got, want)
            if size > self._tolerance:
                shown = f"by {size:.1%}" if size < inf else "in its shape, dtype or NaN"
                return f"the first tensor that differs is {name!r}, {shown}{_origin(self._makers.get(name))}"
        return "each single tensor differs only by rounding"


def _resolution(value: "np.ndarray") -> float:
    import numpy as np

    return float(np.finfo(value.dtype).eps) if value.dtype.kind == "f" else 0.0


def _origin(node: "onnx.NodeProto | None") -> str:
    if node is None:
        return ""
    named = f" {node.name!r}" if node.name else ""
    return f", computed by node{named} ({node.op_type})"
