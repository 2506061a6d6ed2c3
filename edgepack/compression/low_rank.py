"""Low rank: a layer becomes two or three smaller ones in sequence, a linear autoencoder of its channels.

Linear layers, 1x1 convolutions and the input weights of recurrent layers: truncated singular value decomposition (Denil
et al. 2013, arXiv:1306.0543; Xue et al. 2013). Convolutions: Tucker-2 (Kim et al. 2016, arXiv:1511.06530), CP (Lebedev et
al. 2015, arXiv:1412.6553), or SVD of the unfolded kernel. The layers are in edgepack/torchnet/lowrank.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.batches import BATCH, training_feeds
from edgepack.compression.calibration import tensors
from edgepack.compression.context import Context
from edgepack.compression.method import (
    Need,
    Step,
    TorchMethod,
    TorchResult,
    one_of,
    require_consistent,
    unused,
)
from edgepack.compression.selection import Skip, skipped
from edgepack.compression.sensitive import samples_for
from edgepack.compression.sensitive_modules import SOURCES, noise_of_modules
from edgepack.errors import InputError
from edgepack.spec import Seed, Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.lowrank.forms import Choice
    from edgepack.torchnet.lowrank.network import Factorable

_WHERE = "compress, low-rank"


class LowRank(Step):
    """Replace layers by sequences of smaller layers of a lower rank, where that saves multiply-accumulates."""

    method: Literal["low-rank"]
    rank: int | None = Field(
        default=None, ge=1, description="The same rank for every layer. Give one of rank, energy and macs."
    )
    energy: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the energy (squared singular values) that every layer keeps at least, by the lowest such rank.",
    )
    macs: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the model's MACs that is left at most; ranks are chosen to lose the least energy in total.",
    )
    conv: Literal["tucker", "cp", "svd"] = Field(
        default="tucker", description="Decomposition of convolutions with a kernel larger than 1."
    )
    data_aware: bool = Field(
        default=False,
        description="Minimise the error of the layers' outputs on samples instead of that of the weights (not with cp).",
    )
    samples: int = Field(default=256, ge=1, description="Training samples for data_aware and skip: auto.")
    skip: Skip = Field(
        default=(),
        description="Layers that stay whole: names, with * and ? as wildcards; auto or a limit in dB, by sensitivity.",
    )
    fine_tune: Train | None = Field(default=None, description="Fine-tune afterwards, on the training split.")
    seed: Seed = Field(default=0, description="Seed for choosing the samples.")


def apply(module: "torch.nn.Module", step: LowRank, context: Context) -> TorchResult:
    """Factor the layers of a copy of ``module``, and fine-tune it.

    Metrics: ``parameters`` and ``macs`` as ``[before, after]``; ``layers``: name to ranks ``[full, chosen]``; ``energy``:
    the share that each of them keeps, of its outputs with ``data_aware``, else of its weights; ``kept_whole``: name to
    the reason; with data, ``score`` ``before``, ``factored`` and after ``fine_tune``.

    Raises:
        InputError: not one of ``rank``, ``energy`` and ``macs`` is given; no layer can be factored so that MACs are saved; the budget cannot be met; a ``skip`` name is unknown;
            ``forward`` reads the weights of a layer.
    """
    from edgepack.torchnet.layers import count_module, example_inputs
    from edgepack.torchnet.lowrank.network import Factorable
    from edgepack.torchnet.training import threads_for

    require_consistent(step, _conflicts(step))
    examples = example_inputs(context.inputs)
    before = count_module(module, examples)
    with threads_for(module):
        network = Factorable(module, examples, step.conv)
        feeds = training_feeds(context, step.samples, step.seed, batch=BATCH) if step.data_aware else []
        network.measure([tensors(feed) for feed in feeds])
        context.progress("weights decomposed", 0.3)
        kept = skipped(
            step.skip,
            network.names,
            lambda: _noise(network, step, context, before.macs),
            kind="layer",
            where=f"{_WHERE}, skip",
        )
        choices = _choose(network, step, before.macs, set(kept))
    chosen = {name: choice for name, choice in choices.items() if choice is not None}
    why = {name: _whole(step) for name, choice in choices.items() if choice is None}
    kept = {**network.kept, **kept, **why}
    if not chosen:
        raise InputError(
            f"{type(module).__name__} has no layer of which a lower rank saves multiply-accumulates",
            where=_WHERE,
            why="; ".join(f"{name}: {reason}" for name, reason in list(kept.items())[:4]) or None,
            next="lower rank, energy or macs, or remove this step",
        )
    factored, change = network.replaced(chosen)
    after = _count_checked(factored, module, examples)
    metrics: dict[str, Any] = {
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "layers": {name: [list(network.forms[name].full), list(c.ranks)] for name, c in chosen.items()},
        "energy": {name: round(c.energy, 4) for name, c in chosen.items()},
        "kept_whole": kept,
    }
    if context.data is not None:
        metrics["score"] = {"before": context.score(module), "factored": context.score(factored)}
    if step.fine_tune is not None:
        context.train(factored, step.fine_tune)
        metrics["score"]["fine_tune"] = context.score(factored)
    return TorchResult(factored, metrics, change)


def rebuild(module: "torch.nn.Module", change: Mapping[str, Any]) -> "torch.nn.Module":
    """Replace the recorded layers by new ones."""
    from edgepack.torchnet.lowrank.network import rebuild as replace

    return replace(module, change)


def _conflicts(step: LowRank) -> tuple[tuple[str, str], ...]:
    samples = unused(
        step,
        "samples",
        used=step.data_aware or not isinstance(step.skip, tuple),
        by="`data_aware: true`, or `skip` by sensitivity",
    )
    return (*one_of(step, "rank", "energy", "macs"), *samples)


def _needs(step: LowRank) -> tuple[Need, ...]:
    needs = []
    if step.fine_tune is not None:
        needs.append(Need("labels", "fine-tuning", "fine_tune"))
    if step.data_aware:
        needs.append(Need("samples", "the statistics of activations", "data_aware"))
    return (*needs, *samples_for(step.skip))


METHOD = TorchMethod(
    spec=LowRank,
    apply=apply,
    rebuild=rebuild,
    needs=_needs,
    conflicts=_conflicts,
    destroys={
        "sparse": "the factors of a sparse weight have no zeros",
        "encoded": "layers that store codes cannot be factored; factor them first",
        "fake-quantized": "layers with learned quantizers cannot be factored; factor them first",
    },
    distributions=("torch",),
    sources=(*SOURCES, "compression/low_rank.py", "torchnet/lowrank"),
)


def _choose(
    network: "Factorable", step: LowRank, total: int, without: set[str]
) -> "dict[str, Choice | None]":
    """Return the choice for each layer; None where the layer stays whole. ``total`` are the model's MACs."""
    from edgepack.torchnet.lowrank.choosing import by_budget, by_energy, by_rank

    forms = {name: form for name, form in network.forms.items() if name not in without}
    if step.macs is not None:
        others = total - sum(form.whole for form in forms.values())
        return by_budget(forms, int(step.macs * total) - others)
    if step.rank is not None:
        return {name: by_rank(form, step.rank) for name, form in forms.items()}
    return {name: by_energy(form, step.energy or 0) for name, form in forms.items()}


def _whole(step: LowRank) -> str:
    if step.macs is not None:
        return "other layers save more for the energy they lose"
    wanted = (
        f"rank {step.rank}" if step.rank is not None else f"a rank that keeps {step.energy:.4g} of the energy"
    )
    return f"{wanted} saves no multiply-accumulates"


def _noise(network: "Factorable", step: LowRank, context: Context, total: int) -> dict[str, float]:
    """The signal-to-noise ratio of the outputs, in dB, if one layer alone is factored as it would be."""
    chosen = {name: c for name, c in _choose(network, step, total, set()).items() if c is not None}
    alone = {name: partial(_alone, network, {name: choice}) for name, choice in chosen.items()}
    whole = network.replaced({})[0]
    return noise_of_modules(whole, alone, context, samples=step.samples, seed=step.seed)


def _alone(network: "Factorable", choice: "Mapping[str, Choice]") -> "torch.nn.Module":
    return network.replaced(choice)[0]


def _count_checked(
    factored: "torch.nn.Module", module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]"
) -> Any:
    """Count the new module; it must run, with outputs of the same shapes."""
    import torch
    from torch.utils import _pytree

    from edgepack.torchnet.layers import count_module, inference

    try:
        counted = count_module(factored, examples)
        with inference(module), torch.no_grad():
            shapes = [
                [x.shape for x in _pytree.tree_leaves(each(*examples)) if isinstance(x, torch.Tensor)]
                for each in (module, factored)
            ]
    except (AttributeError, RuntimeError, TypeError) as error:
        raise InputError(
            "the model does not run with factored layers",
            where=_WHERE,
            why=f"forward() uses a layer other than by calling it: {str(error).strip()}",
            next="skip that layer",
        ) from error
    if shapes[0] != shapes[1]:
        raise InputError(
            "the factored model has outputs of other shapes", where=_WHERE, next="remove this step"
        )
    return counted
