"""Attention in the forms of onnxruntime's transformer optimizer."""

import itertools
from collections.abc import Sequence

from edgepack.onnxfile.contrib.emitter import Emitter
from edgepack.onnxfile.opset.site import RefusedError

_FILTER = -10000.0  # added to the scores of masked tokens by default
_GENERATION = "export the model without key-value caches for generation, for a fixed number of tokens"


def attention(e: Emitter) -> Sequence[str]:
    """Attention: projections of one input to query, key and value, and attention over its heads.

    Input [batch, tokens, channels], weights [channels, q + k + v channels].
    """
    projected = e.op("MatMul", e.input(0), e.input(1))
    return _self_attention(e, projected, e.input(2), (e.input(3), e.input(4), e.input(5)))


def quantized_attention(e: Emitter) -> Sequence[str]:
    """QAttention: with the input and the weights quantized."""
    product = e.float32(e.op("MatMulInteger", e.input(0), e.input(1), e.input(6), e.input(7)))
    projected = e.op("Mul", product, e.op("Mul", e.input(3), e.input(4)))
    return _self_attention(e, projected, e.input(2), (e.input(5), e.input(8), ""))


def _self_attention(e: Emitter, projected: str, bias: str, others: tuple[str, str, str]) -> Sequence[str]:
    mask, past, scores_bias = others
    _refuse_generation(e, 6 if e.node.op_type == "Attention" else 99)
    if bias:
        projected = e.op("Add", projected, bias)
    sizes = e.attribute("qkv_hidden_sizes") or [_channels(e, projected) // 3] * 3
    bounds = [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]
    q, k, v = (_heads(e, e.slice(projected, 2, start, end)) for start, end in itertools.pairwise(bounds))
    present = ""
    if past:
        before = [e.squeeze(e.slice(past, 0, i, i + 1), [0]) for i in range(2)]
        k, v = e.op("Concat", before[0], k, axis=2), e.op("Concat", before[1], v, axis=2)
    if e.wants(1):
        present = e.op("Concat", e.unsqueeze(k, [0]), e.unsqueeze(v, [0]), axis=0)
    return [_attend(e, (q, k, v), mask, scores_bias), present]


def multi_head_attention(e: Emitter) -> Sequence[str]:
    """MultiHeadAttention: of query, key and value that are projected already, with their biases in one vector.

    Query [batch, tokens, channels]; key and value the same, or [batch, heads, tokens, head channels].
    """
    _refuse_generation(e, 8)
    query, key, value, bias = (e.input(i) for i in range(4))
    if not key or not value or e.rank(query) != 3 or e.rank(key) not in (3, 4):  # noqa: PLR2004 - see above
        raise RefusedError(
            "query, key and value are packed into one tensor",
            "optimise the model for CPUs: packed tensors are for GPUs, onnxruntime cannot run them on a CPU either",
        )
    parts = [query, key, value]
    if bias:
        channels = _channels(e, query)
        width = _size(e, bias, 0)
        bounds = [0, channels, 2 * channels, width]
        ranges = itertools.pairwise(bounds)
        biases = [e.slice(bias, 0, start, end) for start, end in ranges]
        flat = [i for i, part in enumerate(parts) if e.rank(part) == 3]  # noqa: PLR2004 - see above
        for i in flat:
            parts[i] = e.op("Add", parts[i], biases[i])
    q, k, v = (_heads(e, part) if e.rank(part) == 3 else part for part in parts)  # noqa: PLR2004 - see above
    if e.input(6):
        k, v = e.op("Concat", e.input(6), k, axis=2), e.op("Concat", e.input(7), v, axis=2)
    return [_attend(e, (q, k, v), e.input(4), e.input(5)), k, v]


def _refuse_generation(e: Emitter, first: int) -> None:
    if any(e.node.input[first:]) or e.attribute("do_rotary") or e.attribute("past_present_share_buffer"):
        raise RefusedError("it has inputs or attributes for the generation of text", _GENERATION)


def _heads(e: Emitter, name: str) -> str:
    """Split the channels: [batch, tokens, channels] to [batch, heads, tokens, head channels]."""
    heads = e.attribute("num_heads")
    return e.transpose(e.reshape(name, [0, 0, heads, _channels(e, name) // heads]), 0, 2, 1, 3)


def _attend(e: Emitter, qkv: tuple[str, str, str], mask: str, bias: str) -> str:
    """``softmax(q k^T * scale + masks) v``, with the heads joined again."""
    q, k, v = qkv
    scale = e.attribute("scale") or _size(e, q, 3) ** -0.5
    scores = e.op("Mul", e.op("MatMul", q, e.transpose(k, 0, 1, 3, 2)), e.scalar(scale, q))
    for added in (_padding(e, mask, q, k) if mask else "", _future(e, q, k), bias):
        if added:
            scores = e.op("Add", scores, added)
    weights = e.cast(e.op("Softmax", e.float32(scores), axis=-1), e.kind(v))
    joined = e.transpose(e.op("MatMul", weights, v), 0, 2, 1, 3)
    return e.reshape(joined, [0, 0, e.attribute("num_heads") * _size(e, v, 3)])


def _padding(e: Emitter, mask: str, q: str, k: str) -> str:
    """Return what is added to the scores for a mask of 0 and 1, or for the numbers of tokens that count."""
    import numpy as np
    import onnx

    rank = e.rank(mask)
    if rank == 1:
        tokens = _size(e, k, 2)
        batch, entries = _size(e, q, 0), _size(e, mask, 0)
        places = e.tensor(np.arange(tokens, dtype=np.int32)[None], np.int32)
        ends = e.unsqueeze(e.slice(mask, 0, 0, batch), [1])
        kept = e.op("Less", places, ends)
        if entries == 2 * batch:
            starts = e.unsqueeze(e.slice(mask, 0, batch, 2 * batch), [1])
            kept = e.op("And", kept, e.op("Not", e.op("Less", places, starts)))
        elif entries != batch:
            raise RefusedError(
                f"its mask has {entries} entries for {batch} samples", "save the model with a mask of 0 and 1"
            )
        kept, axes = e.cast(kept, onnx.TensorProto.FLOAT), [1, 2]
    elif rank in (2, 3):
        kept = e.cast(e.cast(mask, onnx.TensorProto.BOOL), onnx.TensorProto.FLOAT)
        axes = [1, 2] if rank == 2 else [1]  # noqa: PLR2004 - [batch, tokens], or with a row for each query
    else:
        raise RefusedError(
            f"its mask has {rank} axes", "save the model with a mask of 0 and 1 for each token"
        )
    one, weight = e.scalar(1, kept), e.scalar(e.attribute("mask_filter_value", _FILTER), kept)
    return e.cast(e.unsqueeze(e.op("Mul", e.op("Sub", one, kept), weight), axes), e.kind(q))


def _future(e: Emitter, q: str, k: str) -> str:
    """Return what is added to the scores if a token sees only those before it."""
    import numpy as np
    import onnx

    if not e.attribute("unidirectional", 0):
        return ""
    rows, columns = _size(e, q, 2), _size(e, k, 2)
    later = np.triu(np.ones((rows, columns), bool), columns - rows + 1)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(e.kind(q))
    return e.tensor(np.where(later, np.finfo(dtype).min / 2, 0), dtype)


def _size(e: Emitter, name: str, axis: int) -> int:
    shape = e.shape(name)
    size = None if shape is None else shape[axis]
    if size is None:
        raise RefusedError(
            f"the size of axis {axis} of {name!r} is open",
            "save the model with fixed input shapes: symbolic_shape_infer, or make_dynamic_shape_fixed of onnxruntime",
        )
    return size


def _channels(e: Emitter, name: str) -> int:
    return _size(e, name, 2)


def rotary_embedding(e: Emitter) -> Sequence[str]:
    """RotaryEmbedding: pairs of channels are turned by the angles of their tokens' positions.

    Input [batch, tokens, channels] or [batch, heads, tokens, head channels]; the caches have a row for each position.
    """
    import numpy as np

    x, positions, cosines, sines = (e.input(i) for i in range(4))
    rank, half = e.rank(x), _size(e, cosines, 1)
    if e.attribute("is_packed_batching") or e.attribute("scale", 1.0) != 1:
        raise RefusedError("its batches are packed, or it is scaled", _GENERATION)
    heads = e.attribute("num_heads", 0)
    turned = e.attribute("rotary_embedding_dim", 0) or 2 * half
    split = x
    if rank == 3:  # noqa: PLR2004 - see above
        size = 2 * half if not heads else _channels(e, x) // heads
        split = e.transpose(e.reshape(x, [0, 0, -1, size]), 0, 2, 1, 3)
    width = _size(e, split, 3)
    if _size(e, positions, 0) == 1 and e.rank(positions) == 1:
        tokens = e.tensor(np.arange(_size(e, split, 2)), np.int64)
        positions = e.unsqueeze(e.op("Add", tokens, positions), [0])
    cosine, sine = (e.unsqueeze(e.op("Gather", cache, positions), [1]) for cache in (cosines, sines))
    part = e.slice(split, 3, 0, turned) if turned < width else split
    interleaved = bool(e.attribute("interleaved", 0))
    if interleaved:
        order = np.arange(turned)
        first, second = (e.op("Gather", part, e.tensor(order[i::2]), axis=3) for i in range(2))
    else:
        first, second = e.slice(part, 3, 0, half), e.slice(part, 3, half, turned)
    real = e.op("Sub", e.op("Mul", first, cosine), e.op("Mul", second, sine))
    imaginary = e.op("Add", e.op("Mul", first, sine), e.op("Mul", second, cosine))
    made = e.op("Concat", real, imaginary, axis=3)
    if interleaved:
        back = np.arange(turned).reshape(2, half).T.reshape(-1)
        made = e.op("Gather", made, e.tensor(back), axis=3)
    if turned < width:
        made = e.op("Concat", made, e.slice(split, 3, turned, width), axis=3)
    if rank == 3:  # noqa: PLR2004 - see above
        made = e.reshape(e.transpose(made, 0, 2, 1, 3), [0, 0, _channels(e, x)])
    return [made]
