"""Linear operators as arrays in float64, and the exact operator for two of them in sequence or summed."""

from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

OperatorKind = Literal["affine", "conv", "deconv", "matmul"]


@dataclass(frozen=True)
class Linear:
    """``y = W x + b``.

    Attributes:
        kind: a scale and shift per channel, a convolution, a transposed one, or a product with a matrix.
        weight: ``[C]`` (affine; ``[1]`` for one number), ``[co, ci/groups, *k]``, ``[ci, co/groups, *k]``, ``[ci, co]``.
        bias: ``[C]`` or ``[co]``.
        axis: axis of the channels; None for an affine operator with one number.
        strides: and the following, of convolutions, one per axis of the kernel.
        begins: padding before the first element.
        ends: padding after the last element.
        dilations: distance between the taps.
        groups: of channels.
        extra: output padding of a transposed convolution.
    """

    kind: OperatorKind
    weight: "np.ndarray"
    bias: "np.ndarray"
    axis: int | None = 1
    strides: tuple[int, ...] = ()
    begins: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    extra: tuple[int, ...] = ()

    @property
    def kernel(self) -> tuple[int, ...]:
        """Size of the kernel."""
        return self.weight.shape[2:]

    @property
    def padded(self) -> bool:
        """Whether a convolution reads zeros around its input."""
        return any((*self.begins, *self.ends))

    @property
    def pointwise(self) -> bool:
        """Whether each output position reads one input position, and is next to that of its neighbour."""
        return prod(self.kernel) == 1 and set(self.strides) <= {1} and not (self.padded or any(self.extra))

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero; affine operators have none."""
        import numpy as np

        return 0 if self.kind == "affine" else int(np.count_nonzero(self.weight))

    @property
    def is_identity(self) -> bool:
        """Whether it returns its input."""
        return self.kind == "affine" and bool((self.weight == 1).all() and (self.bias == 0).all())


def in_sequence(first: Linear, second: Linear) -> Linear | str:
    """Return the operator that applies ``first``, then ``second``; or why there is none that is exact."""
    if "affine" in (first.kind, second.kind):
        plain = second if first.kind == "affine" else first
        scale = first if first.kind == "affine" else second
        if None not in (plain.axis, scale.axis) and plain.axis != scale.axis:
            return "they scale along another axis"
        if first.kind == second.kind:
            axis = second.axis if first.axis is None else first.axis
            return replace(
                second,
                weight=first.weight * second.weight,
                bias=second.weight * first.bias + second.bias,
                axis=axis,
            )
        return _scaled_output(first, second) if second.kind == "affine" else _scaled_input(first, second)
    if first.kind == second.kind == "matmul":
        return replace(
            second, weight=first.weight @ second.weight, bias=first.bias @ second.weight + second.bias
        )
    if "matmul" in (first.kind, second.kind):
        return "one is a convolution, the other a product of matrices"
    return _convolved(first, second)


def _scaled_output(first: Linear, second: Linear) -> Linear:
    """``first``, then a scale and shift of its output channels."""
    import numpy as np

    if first.kind == "conv":
        weight = first.weight * second.weight.reshape(-1, *(1 for _ in first.weight.shape[1:]))
    elif first.kind == "deconv":
        ci, per_group = first.weight.shape[:2]
        scale = np.broadcast_to(second.weight, (first.groups * per_group,)).reshape(
            first.groups, 1, per_group
        )
        split = first.weight.reshape(first.groups, ci // first.groups, per_group, -1)
        weight = (split * scale[..., None]).reshape(first.weight.shape)
    else:
        weight = first.weight * second.weight
    return replace(first, weight=weight, bias=first.bias * second.weight + second.bias)


def _scaled_input(first: Linear, second: Linear) -> Linear | str:
    """A scale and shift of the input channels, then ``second``."""
    import numpy as np

    shifts = bool((first.bias != 0).any())
    if second.kind == "matmul":
        ci = len(second.weight)
        scale, shift = (np.broadcast_to(part, (ci,)) for part in (first.weight, first.bias))
        return replace(
            second, weight=second.weight * scale[:, None], bias=second.bias + shift @ second.weight
        )
    if shifts and second.padded:
        return "the zeros of its padding are not shifted"
    if second.kind == "deconv":
        if shifts and not second.pointwise:
            return "the outputs of a transposed convolution sum different numbers of shifts"
        ci, per_group = second.weight.shape[:2]
        scale, shift = (np.broadcast_to(part, (ci,)) for part in (first.weight, first.bias))
        ones = tuple(1 for _ in second.kernel)
        moved = (second.weight.reshape(ci, per_group, -1).sum(2) * shift[:, None]).reshape(
            second.groups, -1, per_group
        )
        return replace(
            second,
            weight=second.weight * scale.reshape(-1, 1, *ones),
            bias=second.bias + moved.sum(1).reshape(-1),
        )
    co, per_group = second.weight.shape[:2]
    ci = per_group * second.groups
    scale, shift = (
        np.broadcast_to(part, (ci,)).reshape(second.groups, 1, per_group, 1)
        for part in (first.weight, first.bias)
    )
    split = second.weight.reshape(second.groups, co // second.groups, per_group, -1)
    return replace(
        second,
        weight=(split * scale).reshape(second.weight.shape),
        bias=second.bias + (split * shift).sum((2, 3)).reshape(-1),
    )


def _convolved(first: Linear, second: Linear) -> Linear | str:
    import numpy as np

    if first.kind == "deconv" or second.kind == "deconv":
        return _with_transposed(first, second)
    if first.groups > 1 or second.groups > 1:
        return "their channels are in groups"
    biased = bool((first.bias != 0).any())
    exact = not second.padded or (
        prod(first.kernel) == 1 and not biased and not first.padded and set(first.strides) <= {1}
    )
    if not exact:
        return "the second reads zeros around the output of the first"
    if prod(first.kernel) > 1 < prod(second.kernel) and {*first.dilations, *second.dilations} != {1}:
        return "their taps are apart"
    # Tap j of the second is j * stride of the first away, in elements of the input.
    steps = [
        stride * (dilation if size > 1 else 1)
        for stride, dilation, size in zip(first.strides, second.dilations, second.kernel, strict=True)
    ]
    spread = first.dilations if prod(first.kernel) > 1 else tuple(steps)
    units = [step // wide if prod(first.kernel) > 1 else 1 for step, wide in zip(steps, spread, strict=True)]
    kernel = [k1 + (k2 - 1) * unit for k1, k2, unit in zip(first.kernel, second.kernel, units, strict=True)]
    weight = np.zeros((second.weight.shape[0], first.weight.shape[1], *kernel))
    flat = second.weight.reshape(*second.weight.shape[:2], -1)
    for number, tap in enumerate(product(*map(range, second.kernel))):
        part = np.tensordot(flat[:, :, number], first.weight, axes=1)
        place = tuple(
            slice(t * unit, t * unit + k1) for t, unit, k1 in zip(tap, units, first.kernel, strict=True)
        )
        weight[(slice(None), slice(None), *place)] += part
    bias = second.bias + second.weight.reshape(*second.weight.shape[:2], -1).sum(2) @ first.bias
    return replace(
        first,
        weight=weight,
        bias=bias,
        strides=tuple(a * b for a, b in zip(first.strides, second.strides, strict=True)),
        begins=second.begins if second.padded else first.begins,
        ends=second.ends if second.padded else first.ends,
        dilations=tuple(spread),
    )


def _with_transposed(first: Linear, second: Linear) -> Linear | str:
    """A transposed convolution before or after a pointwise one."""
    import numpy as np

    if first.groups > 1 or second.groups > 1:
        return "their channels are in groups"
    if first.kind == "deconv" and second.kind == "conv" and second.pointwise:
        matrix = second.weight.reshape(second.weight.shape[:2])
        weight = np.moveaxis(np.tensordot(first.weight, matrix, axes=([1], [1])), -1, 1)
        return replace(first, weight=weight, bias=matrix @ first.bias + second.bias)
    if first.kind == "conv" and second.kind == "deconv" and first.pointwise and not first.bias.any():
        matrix = first.weight.reshape(first.weight.shape[:2])
        return replace(second, weight=np.tensordot(matrix.T, second.weight, axes=1))
    return "one of them is a transposed convolution"


def summed(a: Linear, b: Linear, read: tuple[int, ...], written: tuple[int, ...]) -> Linear | str:
    """Return the operator for ``a(x) + b(x)``, or why there is none.

    Args:
        a: an operator.
        b: another on the same input.
        read: shape of the input.
        written: shape of both outputs.
    """
    if a.kind == "affine" and (b.kind != "affine" or a.axis is None):
        a, b = b, a
    if b.kind == "affine":
        wide = _widened(b, a, read)
        if isinstance(wide, str):
            return wide
        b = wide
    if a.kind != b.kind:
        return "they are of different kinds"
    if a.kind in {"affine", "matmul"}:
        return replace(a, weight=a.weight + b.weight, bias=a.bias + b.bias)
    if (a.strides, a.groups, a.extra) != (b.strides, b.groups, b.extra):
        return "their strides or groups differ"
    if a.kind == "deconv":
        if (a.kernel, a.begins, a.ends, a.dilations) != (b.kernel, b.begins, b.ends, b.dilations):
            return "their kernels differ"
        return replace(a, weight=a.weight + b.weight, bias=a.bias + b.bias)
    return _united(a, b, read, written)


def _widened(scale: Linear, like: Linear, read: tuple[int, ...]) -> Linear | str:
    """A scale and shift of the channels in the form of ``like``."""
    import numpy as np

    axis = like.axis if like.axis is not None else scale.axis
    if axis is None:
        return scale
    if scale.axis not in (None, axis):
        return "they scale along another axis"
    channels = read[axis]
    weight, bias = (np.broadcast_to(part, (channels,)) for part in (scale.weight, scale.bias))
    if like.kind == "affine":
        return replace(scale, weight=weight, bias=bias, axis=axis)
    if like.kind == "matmul":
        return replace(like, weight=np.diag(weight), bias=bias)
    if like.kind == "deconv" or set(like.strides) != {1}:
        return "one of them moves positions"
    per_group = channels // like.groups
    wide = np.zeros((channels, per_group, *(1 for _ in like.kernel)))
    wide[np.arange(channels), np.arange(channels) % per_group] = weight.reshape(-1, *(1 for _ in like.kernel))
    none = tuple(0 for _ in like.kernel)
    return replace(like, weight=wide, bias=bias, begins=none, ends=none)


def _united(a: Linear, b: Linear, read: tuple[int, ...], written: tuple[int, ...]) -> Linear | str:
    """Two convolutions as one whose kernel has the taps of both."""
    import numpy as np

    begins, ends, kernel, dilations = [], [], [], []
    offsets: dict[str, list[int]] = {"a": [], "b": []}
    for i in range(len(a.kernel)):
        spread = {d for each in (a, b) if each.kernel[i] > 1 for d in (each.dilations[i],)} or {1}
        begin = max(a.begins[i], b.begins[i])
        (apart,) = spread if len(spread) == 1 else (0,)
        if not apart or any((begin - each.begins[i]) % apart for each in (a, b)):
            return "their taps are apart"
        own = {name: (begin - each.begins[i]) // apart for name, each in (("a", a), ("b", b))}
        size = max(own["a"] + a.kernel[i], own["b"] + b.kernel[i])
        covered = apart * (size - 1) + 1
        end = max((written[2 + i] - 1) * a.strides[i] + covered - read[2 + i] - begin, 0)
        if (read[2 + i] + begin + end - covered) // a.strides[i] + 1 != written[2 + i]:
            return "their outputs do not line up"
        begins.append(begin)
        ends.append(end)
        kernel.append(size)
        dilations.append(apart)
        for name, offset in own.items():
            offsets[name].append(offset)
    weight = np.zeros((*a.weight.shape[:2], *kernel))
    for name, each in (("a", a), ("b", b)):
        place = tuple(slice(o, o + k) for o, k in zip(offsets[name], each.kernel, strict=True))
        weight[(slice(None), slice(None), *place)] += each.weight
    return replace(
        a,
        weight=weight,
        bias=a.bias + b.bias,
        begins=tuple(begins),
        ends=tuple(ends),
        dilations=tuple(dilations),
    )


def macs(operator: Linear, read: tuple[int, ...], written: tuple[int, ...]) -> int:
    """Multiply-accumulates of an operator between tensors of these shapes; none for a scale and shift."""
    if operator.kind == "affine":
        return 0
    if operator.kind == "deconv":
        return prod(read) * prod(operator.weight.shape[1:])
    if operator.kind == "conv":
        return prod(written) * prod(operator.weight.shape[1:])
    return prod(written) * len(operator.weight)


def options(operator: Linear) -> dict[str, Any]:
    """The attributes of a convolution node."""
    found: dict[str, Any] = {
        "kernel_shape": list(operator.kernel),
        "strides": list(operator.strides),
        "pads": [*operator.begins, *operator.ends],
        "dilations": list(operator.dilations),
        "group": operator.groups,
    }
    if operator.kind == "deconv" and any(operator.extra):
        found["output_padding"] = list(operator.extra)
    return found
