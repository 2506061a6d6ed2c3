"""Layer normalisation in its variants, and the embeddings before it."""

from collections.abc import Sequence

from edgepack.onnxfile.contrib.emitter import Emitter
from edgepack.onnxfile.opset.site import RefusedError

_EPSILON = 1e-12  # default of the operators of com.microsoft
_STANDARD_EPSILON = 1e-5
_LAYER_NORMALIZATION = 17  # opset of the standard operator


def _statistics(e: Emitter, x: str, axes: Sequence[int], epsilon: float) -> tuple[str, str, str]:
    """Return the mean, the inverse standard deviation, and the normalised value, in float32."""
    wide = e.float32(x)
    mean = e.reduce("ReduceMean", wide, axes)
    centred = e.op("Sub", wide, mean)
    variance = e.reduce("ReduceMean", e.op("Mul", centred, centred), axes)
    deviation = e.op("Sqrt", e.op("Add", variance, e.scalar(epsilon, wide)))
    return mean, e.op("Reciprocal", deviation), e.op("Div", centred, deviation)


def normalise(e: Emitter, x: str, gamma: str, beta: str, epsilon: float) -> str:
    """Layer normalisation over the last axis."""
    if e.opset >= _LAYER_NORMALIZATION:
        return e.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)
    normal = e.cast(_statistics(e, x, [-1], epsilon)[2], e.kind(x))
    scaled = e.op("Mul", normal, gamma)
    return e.op("Add", scaled, beta) if beta else scaled


def _by_root_mean_square(
    e: Emitter, x: str, gamma: str, axes: Sequence[int], epsilon: float
) -> tuple[str, str]:
    """Return the value divided by its root mean square and scaled, and the inverse of that root."""
    wide = e.float32(x)
    square = e.reduce("ReduceMean", e.op("Mul", wide, wide), axes)
    root = e.op("Sqrt", e.op("Add", square, e.scalar(epsilon, wide)))
    normal = e.cast(e.op("Div", wide, root), e.kind(gamma))
    return e.op("Mul", normal, gamma), e.op("Reciprocal", root)


def layer_normalization(e: Emitter) -> Sequence[str]:
    """LayerNormalization in a model whose opset is too old for the standard one; its outputs are the same."""
    x, gamma, beta = (e.input(i) for i in range(3))
    epsilon = e.attribute("epsilon", _STANDARD_EPSILON)
    mean, inverse, normal = _statistics(e, x, _last_axes(e, x), epsilon)
    scaled = e.op("Mul", e.cast(normal, e.kind(gamma)), gamma)
    return [e.op("Add", scaled, beta) if beta else scaled, mean, inverse]


def simplified(e: Emitter) -> Sequence[str]:
    """SimplifiedLayerNormalization: division by the root mean square."""
    x = e.input(0)
    epsilon = e.attribute("epsilon", _STANDARD_EPSILON)
    return _by_root_mean_square(e, x, e.input(1), _last_axes(e, x), epsilon)


def _last_axes(e: Emitter, x: str) -> list[int]:
    axis = e.attribute("axis", -1)
    return list(range(axis if axis < 0 else axis - e.rank(x), 0))


def _skipped(e: Emitter, bias: str) -> str:
    total = e.op("Add", e.input(0), e.input(1))
    return e.op("Add", total, bias) if bias else total


def skip_layer(e: Emitter) -> Sequence[str]:
    """SkipLayerNormalization: of ``input + skip + bias``."""
    total = _skipped(e, e.input(4))
    epsilon = e.attribute("epsilon", _EPSILON)
    mean, inverse = ("", "")
    if e.wants(1) or e.wants(2):
        mean, inverse, _ = _statistics(e, total, [-1], epsilon)
    return [normalise(e, total, e.input(2), e.input(3), epsilon), mean, inverse, total]


def skip_simplified(e: Emitter) -> Sequence[str]:
    """SkipSimplifiedLayerNormalization: of ``input + skip + bias``."""
    total = _skipped(e, e.input(3))
    normal, inverse = _by_root_mean_square(e, total, e.input(2), [-1], e.attribute("epsilon", _EPSILON))
    return [normal, "", inverse, total]


def embed_layer(e: Emitter) -> Sequence[str]:
    """EmbedLayerNormalization: the sum of embeddings of words, positions and segments, normalised."""
    tables = [e.input(i) for i in range(2, 5)]
    return _embedded(e, tables, (e.input(5), e.input(6)), (e.input(7), e.input(8)))


def quantized_embed_layer(e: Emitter) -> Sequence[str]:
    """QEmbedLayerNormalization: with tables, scale and bias quantized per tensor."""

    def decoded(index: int, scale: int, zero_point: int) -> str:
        if not e.input(index):
            return ""
        return e.op("DequantizeLinear", e.input(index), e.input(scale), e.input(zero_point))

    tables = [decoded(2, 8, 13), decoded(3, 9, 14), decoded(4, 10, 15)]
    affine = (decoded(5, 11, 16), decoded(6, 12, 17))
    return _embedded(e, tables, affine, (e.input(7), ""))


def _embedded(
    e: Emitter, tables: Sequence[str], affine: tuple[str, str], mask_and_positions: tuple[str, str]
) -> Sequence[str]:
    import onnx

    words, segments = e.input(0), e.input(1)
    mask, positions = mask_and_positions
    total = e.op("Gather", tables[0], words)
    if positions:
        places = e.op("Gather", tables[1], positions)
    else:
        shape = e.shape(words)
        if shape is None or shape[-1] is None:
            raise RefusedError(
                f"the number of tokens in {words!r} is open, and it has no position_ids",
                "save the model with a fixed number of tokens",
            )
        places = e.slice(tables[1], 0, 0, shape[-1])
    total = e.op("Add", total, places)
    if segments:
        total = e.op("Add", total, e.op("Gather", tables[2], segments))
    normal = normalise(e, total, *affine, e.attribute("epsilon", _EPSILON))
    counts = ""
    if e.wants(1):
        if mask and e.attribute("mask_index_type", 1):
            counts = e.reduce("ReduceSum", e.cast(mask, onnx.TensorProto.INT32), [1], keepdims=False)
        else:
            like = e.reduce("ReduceMax", e.cast(words, onnx.TensorProto.INT32), [1], keepdims=False)
            counts = e.op("Mul", like, e.scalar(0, like))
    return [normal, counts, total]
