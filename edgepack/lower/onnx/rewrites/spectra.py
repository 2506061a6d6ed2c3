"""DFT and STFT of constant size, as products with a constant basis.

The result for one frame is a linear function of the frame, so that ``[n, c] -> [K, 2]`` (c is 1 for real and 2 for complex
signals) is one matrix of ``n * c`` rows and ``K * 2`` columns; a constant window is part of it. A product takes ``n * K``
operations where a fast Fourier transform takes ``n log n``: for the frames of speech (400 to 1,024 samples) products on
all frames at once use the same kernels as a network's layers.
"""

from typing import Any

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch


def rewrite_dft(node: Node, patch: Patch) -> list[str] | None:
    """DFT along one axis, of constant length; None if the length or the axis is not constant."""
    kind = node.input_type(0)
    axis, length = _constant_scalar(node, 2), _constant_scalar(node, 1)
    if kind is None or (node.input(1) and length is None) or (node.input(2) and axis is None):
        return None
    dtype, shape = kind
    rank = len(shape)
    if axis is None:  # the attribute, up to opset 19
        axis = node.attribute("axis", -2 if patch.opset >= 20 else 1)  # noqa: PLR2004 - the opset that moved it
    axis %= rank
    inverse, onesided = bool(node.attribute("inverse", 0)), bool(node.attribute("onesided", 0))
    if axis == rank - 1 or shape[-1] not in {1, 2} or (onesided and (inverse or shape[-1] != 1)):
        return None
    length = shape[axis] if length is None else length
    count = length // 2 + 1 if onesided else length
    basis = _basis(shape[axis], length, count, shape[-1], inverse=inverse)
    # The axis last but one, then one axis of n * c.
    perm = [*(each for each in range(rank - 1) if each != axis), axis, rank - 1]
    outer = [shape[each] for each in perm[:-2]]
    moved = patch.transpose(node.input(0), perm)
    rows = patch.reshape(moved, [*outer, shape[axis] * shape[-1]])
    if dtype != "float64":  # sums in float32 would show in bins that cancel to 0
        rows = patch.cast(rows, "float64")
    product = patch.op("MatMul", rows, patch.constant(basis.reshape(len(basis), -1), "float64"))
    if dtype != "float64":
        product = patch.cast(product, dtype)
    spectrum = patch.reshape(product, [*outer, count, 2])
    return [patch.transpose(spectrum, [perm.index(each) for each in range(rank)])]


def rewrite_stft(node: Node, patch: Patch) -> list[str] | None:
    """STFT with constant step and frame length; the window may be computed."""
    import numpy as np

    kind, step = node.input_type(0), _constant_scalar(node, 1)
    length, window = _constant_scalar(node, 3), node.constant(2)
    if kind is None or len(kind[1]) != 3 or step is None or (node.input(3) and length is None):  # noqa: PLR2004 - batch, time, parts
        return None
    dtype, (batch, samples, parts) = kind
    if length is None:
        given = node.input_type(2)
        if node.input(2) and given is None:
            return None
        length = given[1][0] if given else samples
    onesided = bool(node.attribute("onesided", 1))
    frames = (samples - length) // step + 1
    if parts not in {1, 2} or (onesided and parts != 1) or frames < 1:
        return None
    count = length // 2 + 1 if onesided else length
    basis = _basis(length, length, count, parts, inverse=False).reshape(length, parts, -1)
    if window is not None:
        basis *= window.astype(np.float64)[:, None, None]
    at = np.arange(frames)[:, None] * step + np.arange(length)
    framed = patch.op(
        "Gather", node.input(0), patch.constant(at, "int64"), axis=1
    )  # [batch, frames, length, parts]
    if window is None and node.input(2):
        framed = patch.op("Mul", framed, patch.reshape(node.input(2), [length, 1]))
    rows = patch.reshape(framed, [batch, frames, length * parts])
    product = patch.op("MatMul", rows, patch.constant(basis.reshape(length * parts, -1), dtype))
    return [patch.reshape(product, [batch, frames, count, 2])]


def _basis(size: int, length: int, count: int, parts: int, *, inverse: bool) -> Any:
    """Return the matrix ``[size * parts, count, 2]`` that maps a signal to its spectrum, in float64.

    A signal longer than ``length`` is cut, a shorter one is padded with zeros.
    """
    import numpy as np

    at, frequency = np.arange(min(size, length)), np.arange(count)
    # Reduced before the division, so that the angle of a large product is exact.
    angle = 2 * np.pi * (np.outer(at, frequency) % length) / length
    wave = np.exp((1j if inverse else -1j) * angle) / (length if inverse else 1)
    basis = np.zeros((size, parts, count, 2))
    basis[: len(at), 0] = np.stack([wave.real, wave.imag], -1)
    if parts == 2:  # noqa: PLR2004 - the imaginary part
        basis[: len(at), 1] = np.stack([-wave.imag, wave.real], -1)
    return basis.reshape(size * parts, count, 2)


def _constant_scalar(node: Node, index: int) -> int | None:
    value = node.constant(index)
    return None if value is None or value.size != 1 else int(value.reshape(-1)[0])
