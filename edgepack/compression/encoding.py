"""What the methods have in common that store weights as codes: choosing weights, replacing them, fine-tuning, metrics."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgepack.compression.method import Context, Need, Step, TorchResult
from edgepack.compression.selection import Skip, skipped
from edgepack.compression.sensitive import samples_for
from edgepack.compression.sensitive_modules import SOURCES as SENSITIVE
from edgepack.compression.sensitive_modules import noise_of_modules
from edgepack.errors import InputError
from edgepack.spec import Seed, Train

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgepack.torchnet.encodable import EncodableWeight, StoredForm
    from edgepack.torchnet.learned_steps import QuantizedWeight

SOURCES = (
    *SENSITIVE,
    "compression/encoding.py",
    "torchnet/codebooks.py",
    "torchnet/encodable.py",
    "torchnet/learned_steps.py",
    "torchnet/stored.py",
)
"""Code that these methods share."""

_UNPACKING = 128  # bytes of the constants that unpack codes in a file: shapes, shifts, factors of hashes


class EncodingStep(Step):
    """Options of all steps that store weights as codes."""

    skip: Skip = Field(
        default=(),
        description="Layers or weights that are not encoded: names, with * and ? as wildcards; auto or a limit in dB, by "
        "sensitivity.",
    )
    fine_tune: Train | None = Field(
        default=None, description="Train what decodes the weights afterwards, on the training split."
    )
    seed: Seed = Field(default=0, description="Seed for all random choices.")


@dataclass(frozen=True)
class Encoded:
    """How one weight is stored.

    Attributes:
        record: JSON values from which ``build`` makes the forms again.
        forms: the parametrizations that decode it, with its codes.
        stored: what the first of them reads: tables, scales.
    """

    record: Mapping[str, Any]
    forms: "Sequence[StoredForm]"
    stored: "Sequence[torch.Tensor]"


Encoder = Callable[["torch.Tensor", int], Encoded | str]
"""Encodes a weight, given its number among all; or returns the reason why it is left alone."""

QuantizedEncoder = Callable[["QuantizedWeight", "torch.Tensor"], Encoded]
"""Encodes the integers of a quantizer with learned steps, for the values that it rounds."""

Builder = Callable[[Mapping[str, Any], tuple[int, ...]], "Sequence[StoredForm]"]
"""Makes the forms for a record and a weight's shape, with codes that are zero."""


def encode_weights(
    module: "nn.Module",
    step: EncodingStep,
    context: Context,
    encoder: Encoder,
    quantized: QuantizedEncoder | None = None,
) -> TorchResult:
    """Encode the weights of a copy of ``module`` where that saves bytes, and fine-tune it.

    Metrics: ``layers``: weight to bytes ``[before, after]`` in an .onnx file; ``weight_bytes``, their sums; ``zeros``: number
    of weights that are zero ``[before, after]``; ``kept_whole``: weight to the reason why it was left alone; with data,
    ``score``: the metric ``before``, ``encoded`` and after ``fine_tune``.

    Raises:
        InputError: no weight becomes smaller, a ``skip`` name is unknown, or training fails.
    """
    from edgepack.torchnet.encodable import dense_bytes, encodable_weights, stored_bytes

    changed = copy.deepcopy(module).eval()
    weights, kept = encodable_weights(changed)
    rounded = _rounded(changed, kept) if quantized is not None else {}
    weights += rounded

    def chosen(weight: "EncodableWeight", number: int) -> _Plan:
        value = weight.of(changed).detach()
        if quantized is not None and weight in rounded:
            return _Plan(weight, _smaller(quantized(*rounded[weight]), value), rounded=True)
        return _Plan(weight, _smaller(encoder(value, number), value), rounded=False)

    records: list[dict[str, Any]] = []
    sizes: dict[str, list[int]] = {}
    zeros = [0, 0]
    for name, plan in _plans(changed, weights, kept, chosen, step=step, context=context).items():
        if isinstance(plan.encoded, str):
            kept[name] = plan.encoded
            continue
        value = plan.weight.of(changed).detach()
        plan.carry_out(changed)
        records.append({**plan.encoded.record, "places": [list(place) for place in plan.weight.places]})
        sizes[name] = [dense_bytes(value), stored_bytes(plan.encoded.forms, *plan.encoded.stored)]
        zeros = [zeros[0] + _zeros(value), zeros[1] + _zeros(plan.weight.of(changed))]
    if not records:
        raise _nothing(module, step, kept)
    metrics: dict[str, Any] = {
        "layers": sizes,
        "weight_bytes": [sum(each) for each in zip(*sizes.values(), strict=True)],
        "zeros": zeros,
        "kept_whole": kept,
    }
    before = context.score(module)
    if before is not None:
        metrics["score"] = {"before": before, "encoded": context.score(changed)}
    if step.fine_tune is not None:
        context.train(changed, step.fine_tune)
        metrics.setdefault("score", {})["fine_tune"] = context.score(changed)
    return TorchResult(changed, metrics, {"weights": records})


@dataclass(frozen=True)
class _Plan:
    """What becomes of a weight: its encoding, or why it is left alone; and whether a quantizer rounds it so far."""

    weight: "EncodableWeight"
    encoded: Encoded | str
    rounded: bool

    @property
    def encodes(self) -> bool:
        return not isinstance(self.encoded, str)

    def carry_out(self, module: "nn.Module") -> None:
        """Encode the weight in ``module``, in place."""
        from edgepack.torchnet.encodable import encode, without_quantizers

        if isinstance(self.encoded, str):
            return
        if self.rounded:
            without_quantizers(module, self.weight.places)
        encode(module, self.weight.places, self.encoded.forms, *self.encoded.stored)


def _plans(
    module: "nn.Module",
    weights: "Sequence[EncodableWeight]",
    kept: dict[str, str],
    chosen: "Callable[[EncodableWeight, int], _Plan]",
    *,
    step: EncodingStep,
    context: Context,
) -> dict[str, _Plan]:
    """Return what becomes of the weights that ``skip`` does not leave alone; those that it does are added to ``kept``."""

    def plan() -> dict[str, _Plan]:
        found = {}
        for number, weight in enumerate(weights):
            if weight.name not in kept:
                found[weight.name] = chosen(weight, number)
                context.progress(f"weight {number + 1}/{len(weights)}", (number + 1) / len(weights))
        return found

    planned: dict[str, _Plan] = {}

    def noise() -> dict[str, float]:
        planned.update(plan())
        alone = {name: partial(_alone, module, each) for name, each in planned.items() if each.encodes}
        return noise_of_modules(module, alone, context)

    names = {weight.name: weight.names for weight in weights}
    kept |= skipped(step.skip, names, noise, kind="layer or weight", where=f"compress, {step.method}, skip")
    return {name: each for name, each in (planned or plan()).items() if name not in kept}


def _alone(module: "nn.Module", plan: _Plan) -> "nn.Module":
    """Return a copy of ``module`` with one weight encoded."""
    changed = copy.deepcopy(module)
    copy.deepcopy(plan).carry_out(changed)
    return changed


def rebuild_weights(module: "nn.Module", change: Mapping[str, Any], build: Builder) -> "nn.Module":
    """Give the recorded weights their forms again; codes and tables are loaded later."""
    import torch

    from edgepack.torchnet.encodable import ZeroMask, encode, quantized_weights, without_quantizers

    rounded = {weight.places for weight in quantized_weights(module)}
    for record in change["weights"]:
        places = [(str(layer), str(own)) for layer, own in record["places"]]
        if tuple(places) in rounded:
            without_quantizers(module, places)
        layer, own = places[0]
        value = getattr(module.get_submodule(layer), own)
        forms = [*build(record, tuple(value.shape))]
        if record.get("mask"):
            forms.append(ZeroMask(torch.zeros_like(value)))
        empty = forms[0].right_inverse(value.detach())
        encode(module, places, forms, *(empty if isinstance(empty, tuple) else (empty,)))
    return module


def needs(step: EncodingStep) -> tuple[Need, ...]:
    """Require labels for fine-tuning, and samples for ``skip`` by sensitivity."""
    trained = (Need("labels", "fine-tuning", "fine_tune"),) if step.fine_tune is not None else ()
    return (*trained, *samples_for(step.skip))


def masked(encoded: Encoded, weight: "torch.Tensor") -> Encoded:
    """Add a mask where ``weight`` has zeros that the decoded weight has not, so that pruned weights stay zero."""
    import torch

    from edgepack.torchnet.encodable import ZeroMask

    zeros = weight == 0
    with torch.no_grad():
        decoded = encoded.forms[0](*encoded.stored)
    if not zeros.any() or zeros.all() or not (decoded[zeros] != 0).any():
        return encoded
    return Encoded({**encoded.record, "mask": True}, [*encoded.forms, ZeroMask(~zeros)], encoded.stored)


def _rounded(
    module: "nn.Module", kept: dict[str, str]
) -> "dict[EncodableWeight, tuple[QuantizedWeight, torch.Tensor]]":
    """Return quantized weights with their quantizers and what these round, and remove them from ``kept``."""
    from edgepack.torchnet.encodable import quantized_weights

    found = {}
    for weight in quantized_weights(module):
        layer, own = weight.places[0]
        chain = module.get_submodule(layer).parametrizations[own]
        found[weight] = chain[0], chain.original.detach()
        for name in weight.names:
            kept.pop(name, None)
    return found


def _smaller(encoded: Encoded | str, weight: "torch.Tensor") -> Encoded | str:
    from edgepack.torchnet.encodable import dense_bytes, stored_bytes

    if isinstance(encoded, str):
        return encoded
    before, after = dense_bytes(weight), stored_bytes(encoded.forms, *encoded.stored)
    return encoded if after + _UNPACKING < before else f"it would take {after} bytes in place of {before}"


def _zeros(weight: "torch.Tensor") -> int:
    return int((weight == 0).sum())


def _nothing(module: "nn.Module", step: EncodingStep, kept: Mapping[str, str]) -> InputError:
    return InputError(
        f"{step.method} would make no weight of {type(module).__name__} smaller",
        why="; ".join(f"{name}: {why}" for name, why in list(kept.items())[:4])
        or "it has no weights of two axes or more",
        where=f"compress, {step.method}",
        next="change the step's options, skip fewer layers, or remove this step",
    )
