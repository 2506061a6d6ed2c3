"""The C source of a compiled model: its kernels called one after the other, and what the runtime has to know of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template

from edgepack.base.text import c_literal
from edgepack.executor.cpu import CpuFeature
from edgepack.lower.emit.aot.dtypes import dlpack_type
from edgepack.lower.emit.aot.layout import PlacedWeight, WeightLayout
from edgepack.lower.emit.aot.plan import Arena
from edgepack.lower.emit.aot.program import COPY, Buffer, KernelCall, Program
from edgepack.onnxfile.quantized import LinearScale
from edgepack.spec import Tensor

_SOURCE = Template("""\
#include <string.h>
#include <time.h>

#include "edgepack_net.h"

$prototypes
$embedding

/* Sets what has passed since a time, both in nanoseconds; returns the time. */
static uint64_t lap(uint64_t *passed, uint64_t since)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    const uint64_t now = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
    *passed = now - since;
    return now;
}

/* Made twice: without the times there is nothing of them left in the code. */
static inline __attribute__((always_inline)) int32_t calls(void *const *in, void *const *out,
                                                           const uint8_t *const *weights, uint8_t *arena,
                                                           uint64_t *times)
{
    uint64_t since = 0;
    (void)in, (void)out, (void)weights, (void)arena;
    if (times != NULL)
        since = lap(&(uint64_t){0}, 0);
$infer
    return 0;
}

static int32_t infer(void *const *in, void *const *out, const uint8_t *const *weights, uint8_t *arena)
{
    return calls(in, out, weights, arena, NULL);
}

static int32_t profile(void *const *in, void *const *out, const uint8_t *const *weights, uint8_t *arena, uint64_t *times)
{
    return calls(in, out, weights, arena, times);
}

static int32_t load(struct loading *loading, const uint8_t *const *stored, uint8_t *own, uint8_t *arena)
{
    (void)loading, (void)stored, (void)own, (void)arena;
$load
    return 0;
}

$shapes
static const edgepack_tensor inputs[] = {$inputs};
static const edgepack_tensor outputs[] = {$outputs};
static const struct stored_weight stored[] = {$stored};
static const struct kept_weight kept[] = {$kept};
static const edgepack_feature features[] = {$features};
static const char *const kernels[] = {$kernels};

static const struct net_details details = {
    .name = $name,
    .runtime = &edgepack_runtime,
    .features = features,
    .input_count = $input_count,
    .output_count = $output_count,
    .inputs = inputs,
    .outputs = outputs,
    .infer = infer,
    .profile = profile,
    .kernel_count = $kernel_count,
    .kernels = kernels,
    .load = load,
    .arena = $arena,
    .arena_at_load = $arena_at_load,
    .workspace = $workspace,
    .own = $own,
    .own_at_load = $own_at_load,
    .stored_count = $stored_count,
    .weight_count = $weight_count,
    .stored = stored,
    .kept = kept,
    .stored_bytes = $stored_bytes,
    .index_crc = $index_crc,
    .embedded = $embedded,
    .embedded_size = $embedded_size,
};

__attribute__((visibility("default"))) const edgepack_net $symbol = {EDGEPACK_NET_VERSION, &details};
""")


@dataclass(frozen=True)
class CompiledGraph:
    """All that the source of a model is made of.

    Attributes:
        name: of the model.
        symbol: of the constant that describes it.
        prefix: of its kernels' symbols.
        main: what an inference does.
        arena: the plan of its buffers.
        layout: of the weights.
        inputs: the model's.
        outputs: the model's.
        scales: of those that are quantized, by name.
        embedded: the symbol of the weights file in the library, if it is there.
        embedded_size: bytes of that file.
        features: of the CPU, which kernels use.
        workspace: bytes that a kernel's own arrays take at the most.
        stored_bytes: of all weights in the file, decoded.
        index_crc: of the weights file's index, which says that it is the file of this model.
    """

    name: str
    symbol: str
    prefix: str
    main: Program
    arena: Arena
    layout: WeightLayout
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    scales: Mapping[str, LinearScale]
    embedded: str | None
    embedded_size: int
    features: Sequence[CpuFeature]
    workspace: int
    stored_bytes: int
    index_crc: int


def source_of(graph: CompiledGraph) -> str:
    """Return the C source of a model."""
    layout = graph.layout
    calls = [*graph.main.calls, *layout.decoding]
    kernels = {
        call.kernel: len(call.buffers) for call in calls if call.kernel != COPY and call.function is None
    }
    prototypes = (
        f"int32_t {graph.prefix}{name}({', '.join(['const void *'] * count)});"
        for name, count in sorted(kernels.items())
    )
    return _SOURCE.substitute(
        prototypes="\n".join(prototypes),
        infer="\n".join(_timed(_calls(graph.prefix, graph.main.calls, _at_inference(graph)))),
        load="\n".join(_at_load(graph.prefix, layout)),
        kernel_count=len(graph.main.calls),
        kernels=", ".join(c_literal(call.kernel or "copy") for call in graph.main.calls) or "0",
        shapes="\n".join(_shapes("input", graph.inputs) + _shapes("output", graph.outputs)),
        inputs=_tensors("input", graph.inputs, graph.scales),
        outputs=_tensors("output", graph.outputs, graph.scales),
        embedded=graph.embedded or "NULL",
        embedding="" if graph.embedded is None else f"extern const uint8_t {graph.embedded}[];",
        embedded_size=graph.embedded_size,
        stored=", ".join(map(_placed, layout.stored)) or "{0}",
        kept=", ".join(f"{{{-1 if source is None else source}, {place}}}" for source, place in layout.kept)
        or "{0}",
        features=feature_rows(graph.features),
        symbol=graph.symbol,
        name=c_literal(graph.name),
        input_count=len(graph.inputs),
        output_count=len(graph.outputs),
        arena=graph.arena.size,
        arena_at_load=layout.arena.size,
        workspace=graph.workspace,
        own=layout.own,
        own_at_load=layout.own_at_load,
        stored_count=len(layout.stored),
        weight_count=len(layout.kept),
        stored_bytes=graph.stored_bytes,
        index_crc=graph.index_crc,
    )


Address = Callable[[Buffer], str]


def _at_inference(graph: CompiledGraph) -> Address:
    def address(buffer: Buffer) -> str:
        if buffer.kind == "input":
            return f"in[{buffer.number}]"
        if buffer.kind == "output":
            return f"out[{buffer.number}]"
        if buffer.kind == "weight":
            return f"weights[{buffer.number}]"
        return f"arena + {graph.arena.offsets[buffer]}"

    return address


def _at_load(prefix: str, layout: WeightLayout) -> Iterator[str]:
    """Yield the statements that compute weights; what is fetched is fetched before the first call that needs it."""

    def address(buffer: Buffer) -> str:
        if buffer.kind == "input":
            return f"stored[{buffer.number}]"
        if buffer.kind == "output":
            return f"own + {layout.kept[buffer.number][1]}"
        return f"arena + {layout.arena.offsets[buffer]}"

    fetched = set()
    for call in layout.decoding:
        for buffer in call.buffers:
            if buffer.kind == "fetched" and buffer not in fetched:
                fetched.add(buffer)
                yield f"    if (edgepack_fetch(loading, {buffer.number}, {address(buffer)}) == NULL)\n        return 1;"
        yield from _calls(prefix, [call], address)


def _placed(weight: PlacedWeight) -> str:
    place = {"in place": "WEIGHT_IN_PLACE", "later": "WEIGHT_LATER"}.get(weight.when, str(weight.place))
    return f"{{{weight.size}, {place}}}"


def _timed(calls: Iterable[str]) -> Iterator[str]:
    for number, call in enumerate(calls):
        yield call
        yield f"    if (times != NULL)\n        since = lap(&times[{number}], since);"


def _calls(prefix: str, calls: Iterable[KernelCall], address: Address) -> list[str]:
    """Return the statements of each call."""
    lines = []
    for call in calls:
        given = ["NULL" if buffer.kind == "none" else address(buffer) for buffer in call.buffers]
        if call.kernel == COPY:
            lines.append(f"    memcpy({given[1]}, {given[0]}, {call.buffers[0].size});")
            continue
        name = call.function or f"{prefix}{call.kernel}"
        lines.append(
            f"    if ({name}({', '.join((*given, *map(str, call.numbers)))}) != 0)\n        return 1;"
        )
    return lines


def feature_rows(features: Sequence[CpuFeature]) -> str:
    """Return features as the elements of a C array of ``edgepack_feature``, with the one that ends it."""
    rows = (
        f"{{{c_literal(each.name)}, {each.leaf}u, {each.subleaf}, {each.register}, {each.mask}u, {each.state}}}"
        for each in features
    )
    return ", ".join([*rows, "{0}"])


def _shapes(role: str, tensors: Sequence[Tensor]) -> list[str]:
    return [
        f"static const int64_t {role}{number}[] = {{{', '.join(map(str, tensor.shape)) or '0'}}};"
        for number, tensor in enumerate(tensors)
    ]


def _tensors(role: str, tensors: Sequence[Tensor], scales: Mapping[str, LinearScale]) -> str:
    rows = []
    for number, tensor in enumerate(tensors):
        code, bits = dlpack_type(tensor.dtype)
        count = 1
        for extent in tensor.shape:
            count *= extent
        linear = scales.get(tensor.name, LinearScale(0, 0))
        rows.append(
            f"{{{c_literal(tensor.name)}, {code}, {bits}, {len(tensor.shape)}, {role}{number}, "
            f"{count * bits // 8}, {linear.scale!r}, {linear.zero_point}}}"
        )
    return ", ".join(rows) or "{0}"
