"""Rules that convert a node to the next version of its operator.

Sources: the changelog of operators, https://github.com/onnx/onnx/blob/main/docs/Changelog.md; where it does not say what
an old version computes, the rule follows onnxruntime, which is the reference.
"""

from math import prod

from edgepack.onnxfile.opset.site import RefusedError, Rule, Site

RE_EXPORT = "export the model with opset 18"
"""What to do about a form that another opset lacks."""
INFERENCE = "export the model for inference: model.eval(), or training=TrainingMode.EVAL"
"""What to do about a model exported for training."""


def same(site: Site) -> None:
    """Do nothing: the new version adds element types, inputs or attributes whose default is the old meaning."""


def renamed(operator: str) -> Rule:
    """Return the rule for an operator that continues under another name."""

    def rule(site: Site) -> None:
        site.node.op_type = operator

    return rule


def as_inputs(*attributes: str) -> Rule:
    """Return the rule for attributes that become inputs, in this order; they are lists of integers."""

    def rule(site: Site) -> None:
        values = [site.take(name) for name in attributes]
        inputs = [site.tensor(list(value)) if value else "" for value in values]
        site.inputs(site.node.input[0], *inputs)

    return rule


def with_default(**attributes: object) -> Rule:
    """Return the rule for attributes whose default in the new version is not what the old version computed."""

    def rule(site: Site) -> None:
        for name, value in attributes.items():
            if site.attribute(name) is None:
                site.give(**{name: value})

    return rule


def renamed_modes(**modes: str) -> Rule:
    """Return the rule for an operator whose modes have other names; the default is the first of them."""

    def rule(site: Site) -> None:
        mode = site.take("mode", next(iter(modes)))
        site.give(mode=modes.get(mode, mode))

    return rule


def kept_unless(attribute: str) -> Rule:
    """Return the rule for an operator that computes something else if ``attribute`` is set."""

    def rule(site: Site) -> None:
        if site.attribute(attribute):
            raise RefusedError(f"{attribute} means something else in a newer opset", RE_EXPORT)

    return rule


def refused(why: str, next_step: str = RE_EXPORT) -> Rule:
    """Return the rule for an operator whose old form cannot be expressed."""

    def rule(site: Site) -> None:
        del site
        raise RefusedError(why, next_step)

    return rule


def limits_as_inputs(site: Site) -> None:
    """Clip 11: the attributes ``min`` and ``max`` become scalar inputs."""
    lowest, highest = site.take("min"), site.take("max")
    bounds = ["" if bound is None else site.like(bound) for bound in (lowest, highest)]
    site.inputs(site.node.input[0], *bounds)


def pads_as_inputs(site: Site) -> None:
    """Pad 11: the attributes ``pads`` and ``value`` become inputs."""
    pads, value = site.take("pads"), site.take("value", 0.0)
    site.inputs(site.node.input[0], site.tensor(list(pads)), site.like(value) if value else "")


def count_as_input(site: Site) -> None:
    """TopK 10: the attribute ``k`` becomes an input."""
    site.inputs(site.node.input[0], site.tensor([site.take("k")]))


def counted_outputs(site: Site) -> None:
    """Split 18: without sizes, the number of outputs is an attribute."""
    if len(site.node.input) < 2 or not site.node.input[1]:  # noqa: PLR2004 - data and sizes
        site.give(num_outputs=len(site.node.output))


def over_flattened(site: Site) -> None:
    """Softmax, LogSoftmax and Hardmax 13: ``axis`` was where the input was flattened to a matrix, by default 1."""
    axis, shape, data = site.take("axis", 1), site.shape(), site.node.input[0]
    if shape is None or None in shape[axis:]:
        flat = site.add("Flatten", data, axis=axis)
        target = site.add("Shape", data)
    else:
        first = axis + len(shape) if axis < 0 else axis
        wide = [i for i in range(first, len(shape)) if shape[i] != 1]
        if len(wide) <= 1 and first < len(shape):  # the other flattened axes have size 1
            site.give(axis=wide[0] if wide else first)
            return
        width = prod(size or 0 for size in shape[first:])
        flat = site.add("Reshape", data, site.tensor([-1, width]))
        target = site.add("Shape", data) if None in shape else site.tensor(shape)
    normalised = site.add(site.node.op_type, flat, axis=-1)
    site.replace("Reshape", normalised, target)


def no_dropout(site: Site) -> None:
    """Dropout 10 and 12: until 11 it was the identity; what its mask was in that case is not defined."""
    if site.used(1):
        raise RefusedError("the mask of Dropout is undefined outside of training", INFERENCE)
    site.outputs(1)
    site.replace("Identity", site.node.input[0])


def per_element(site: Site) -> None:
    """BatchNormalization 9: ``spatial=0`` had statistics for each element instead of each channel."""
    if site.take("spatial", 1):
        return
    if any(site.named(i) for i in range(1, 5)):
        raise RefusedError("it normalises each element, in training form", INFERENCE)
    x, scale, bias, mean, variance = site.node.input
    epsilon = site.like(site.attribute("epsilon", 1e-5))
    deviation = site.add("Sqrt", site.add("Add", variance, epsilon))
    normal = site.add("Div", site.add("Sub", x, mean), deviation)
    site.outputs(1)
    site.replace("Add", site.add("Mul", normal, scale), bias)


def with_statistics(site: Site) -> None:
    """BatchNormalization 14: until then, further outputs meant training."""
    if any(site.named(i) for i in range(1, 5)):
        if site.used(3) or site.used(4):
            raise RefusedError("the batch's saved statistics have no equivalent in later opsets", INFERENCE)
        site.give(training_mode=1)
        site.outputs(3)
    else:
        site.outputs(1)


def integer_modulo(site: Site) -> None:
    """Mod 28: it divides floating-point numbers also with ``fmod=0``, which was for integers before."""
    import onnx

    if not site.attribute("fmod", 0) and onnx.helper.tensor_dtype_to_np_dtype(site.kind()).kind not in "iu":
        raise RefusedError("fmod=0 was for integers until opset 27", "export the model with fmod=1")
