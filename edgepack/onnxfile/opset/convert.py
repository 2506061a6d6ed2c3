"""Convert a model's standard operators to an opset between ``LOWEST`` and ``HIGHEST``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edgepack.errors import ModelProblem, UnsupportedError
from edgepack.onnxfile.inlining import STANDARD, inline_functions, is_function
from edgepack.onnxfile.opset.applying import apply_rules
from edgepack.onnxfile.opset.older import older_form
from edgepack.onnxfile.opset.rules import same
from edgepack.onnxfile.opset.site import Known, Rule, known_of
from edgepack.onnxfile.opset.versions import BETWEEN, HIGHEST, LOWEST, VERSIONS
from edgepack.onnxfile.protos import graphs

if TYPE_CHECKING:
    import onnx


def to_opset(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Return the model in an opset from ``LOWEST`` to ``HIGHEST``; itself if it is in one.

    Its local functions are converted, too. More old forms can be converted if the inputs' shapes are fixed.

    Raises:
        UnsupportedError: with every node whose form cannot be expressed in that opset.
    """
    opsets = {part.opset for part in _parts(model)}
    if any(opset > HIGHEST for opset in opsets):
        model = _in_older(model, where)
    if any(0 < opset < LOWEST for opset in opsets):
        model = _changed(model, where, _upgrade)
    return model


def raised(model: "onnx.ModelProto", opset: int, where: str) -> "onnx.ModelProto":
    """Return the model in ``opset`` or a newer one, for element types that older opsets lack; itself if it is in one.

    The model's opset must be at least ``LOWEST``, and ``opset`` at most ``HIGHEST``.

    Raises:
        UnsupportedError: with every node that computes something else in that opset.
    """
    if all(not 0 < part.opset < opset for part in _parts(model)):
        return model
    return _changed(model, where, partial(_raise, opset))


def _in_older(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Convert to ``HIGHEST``; operators that it lacks are replaced by their definition where they have one."""
    import onnx

    opset = _parts(model)[0].opset
    while True:
        try:
            return _changed(model, where, _downgrade)
        except UnsupportedError as error:
            problems = error.model_problems
            defined = {each.operator for each in problems if is_function(each.operator, opset)}
            typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
            plain = inline_functions(typed, defined, opset) if defined else None
            left = graphs(plain.graph) if plain is not None else ()
            if plain is None or defined & {node.op_type for graph in left for node in graph.node}:
                raise
            model = plain


def _changed(
    model: "onnx.ModelProto", where: str, change: "Callable[[_Part, Known], list[ModelProblem]]"
) -> "onnx.ModelProto":
    """Return a copy of the model with each part changed in place."""
    changed = type(model)()
    changed.CopyFrom(model)
    known = known_of(changed)
    problems = [problem for part in _parts(changed) for problem in change(part, known)]
    if problems:
        raise UnsupportedError(
            where, list(dict.fromkeys(problems))
        )  # each version's rule may refuse the node
    return changed


def _upgrade(part: "_Part", known: Known) -> list[ModelProblem]:
    opset = part.opset
    if not 0 < opset < LOWEST:
        return []
    problems = []
    for version in range(opset + 1, LOWEST + 1):

        def rule_of(node: "onnx.NodeProto", version: int = version) -> Rule | None:
            rule = VERSIONS.get(node.op_type, {}).get(version) if node.domain in STANDARD else None
            return None if rule is same else rule

        problems += apply_rules(part.nodes, rule_of, known, opset)
    part.set_opset(LOWEST)
    return problems


def _raise(opset: int, part: "_Part", known: Known) -> list[ModelProblem]:
    before = part.opset
    if not 0 < before < opset:
        return []
    problems = []
    for version in range(before + 1, opset + 1):

        def rule_of(node: "onnx.NodeProto", version: int = version) -> Rule | None:
            return BETWEEN.get(node.op_type, {}).get(version) if node.domain in STANDARD else None

        problems += apply_rules(part.nodes, rule_of, known, before)
    part.set_opset(opset)
    return problems


def _downgrade(part: "_Part", known: Known) -> list[ModelProblem]:
    opset = part.opset
    if opset <= HIGHEST:
        return []
    problems = apply_rules(part.nodes, lambda node: older_form(node, opset, HIGHEST), known, opset)
    part.set_opset(HIGHEST)
    return problems


@dataclass(frozen=True)
class _Part:
    """The model's graph, or one of its functions, with the opsets that it imports."""

    nodes: "onnx.GraphProto | onnx.FunctionProto"
    imports: "Sequence[onnx.OperatorSetIdProto]"

    @property
    def opset(self) -> int:
        """The opset of the standard operators; 0 if there are none."""
        return next((int(each.version) for each in self.imports if each.domain in STANDARD), 0)

    def set_opset(self, opset: int) -> None:
        """Set the opset of the standard operators."""
        for each in self.imports:
            if each.domain in STANDARD:
                each.version = opset


def _parts(model: "onnx.ModelProto") -> list[_Part]:
    """Return the model's graph, then its functions, which may have other opsets."""
    functions = [_Part(function, function.opset_import) for function in model.functions]
    return [_Part(model.graph, model.opset_import), *functions]
