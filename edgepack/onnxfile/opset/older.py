"""Write a node of a newer opset in the form of an older one."""

from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.inlining import STANDARD
from edgepack.onnxfile.opset.rules import RE_EXPORT
from edgepack.onnxfile.opset.site import RefusedError, Rule, Site
from edgepack.onnxfile.opset.versions import NEWER

if TYPE_CHECKING:
    import onnx


def older_form(node: "onnx.NodeProto", opset: int, target: int) -> Rule | None:
    """Return the rule that writes a node of ``opset`` in the form of ``target``; None if that is the same.

    New attributes are dropped if they have their default. Other attributes, inputs and element types that ``target``
    lacks are refused, and so are operators that it lacks.
    """
    import onnx

    if node.domain not in STANDARD:
        return None
    new = onnx.defs.get_schema(node.op_type, opset)
    if new.since_version <= target:
        return None

    def rule(site: Site) -> None:
        try:
            old = onnx.defs.get_schema(node.op_type, target)
        except onnx.defs.SchemaError:
            raise RefusedError(f"opset {target} has no such operator", RE_EXPORT) from None
        steps = NEWER.get(node.op_type, {})
        if new.since_version not in steps:
            raise RefusedError(f"its form of opset {new.since_version} is not known", RE_EXPORT)
        for version in sorted(steps, reverse=True):
            if target < version <= opset:
                steps[version](site)
        _drop_new_attributes(site, new, old)
        _check_ports(site, old)

    return rule


def _drop_new_attributes(site: Site, new: Any, old: Any) -> None:
    import onnx

    for name in [attribute.name for attribute in site.node.attribute]:
        if name in old.attributes:
            continue
        default = new.attributes[name].default_value
        usual = onnx.helper.get_attribute_value(default) if default.name else None
        usual = usual.decode() if isinstance(usual, bytes) else usual
        if site.take(name) != usual:
            raise RefusedError(f"its attribute {name} is new in opset {new.since_version}", RE_EXPORT)


def _check_ports(site: Site, old: Any) -> None:
    """Refuse inputs and outputs that the old schema lacks, and element types that it does not allow."""
    import onnx

    allowed = {each.type_param_str: set(each.allowed_type_strs) for each in old.type_constraints}
    for names, ports in ((site.node.input, old.inputs), (site.node.output, old.outputs)):
        variadic = bool(ports) and ports[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
        for index, name in enumerate(names):
            if not name:
                continue
            if index >= len(ports) and not variadic:
                raise RefusedError(f"{name!r} is an input or output that it did not have before", RE_EXPORT)
            kind, _ = site.known.types.get(name, (0, None))
            if name in site.known.constants:
                kind = site.known.constants[name].data_type
            port = ports[min(index, len(ports) - 1)]
            text = f"tensor({onnx.TensorProto.DataType.Name(kind).lower()})" if kind else ""
            if text and text not in allowed.get(port.type_str, {port.type_str}):
                raise RefusedError(f"{name!r} is a {text}, which it did not take before", RE_EXPORT)
