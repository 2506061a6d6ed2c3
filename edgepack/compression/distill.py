"""Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531): a student learns from what teachers answer.

The student is the model as the earlier steps left it, the same with fewer channels, or another network. Teachers run
while it is trained, or their outputs were stored before. Besides the outputs, it may learn from the values of inner
layers (FitNets, attention transfer: :mod:`edgepack.torchnet.teaching`).
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.channel_choice import PruneChannels
from edgepack.compression.context import Context, StepFile
from edgepack.compression.lessons import Lessons, lessons
from edgepack.compression.method import (
    Need,
    Step,
    TorchMethod,
    TorchResult,
    Trait,
    require_consistent,
    unused,
)
from edgepack.compression.prune_channels import apply as prune
from edgepack.compression.selection import select
from edgepack.compression.sensitive_modules import SOURCES
from edgepack.errors import InputError
from edgepack.spec import Filled, Reference, Seed, Sha256, Share, Spec, Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.objective import Batch, Objective
    from edgepack.torchnet.teaching import Comparison, Pair, Watched

_NAME = "distill"


class DistillTeacher(Spec):
    """A trained network to learn from."""

    source: Reference | None = Field(
        default=None,
        description="module:callable returning a torch.nn.Module; by default the recipe's own model.",
    )
    weights: Filled | None = Field(
        default=None,
        description="Weights of source: .safetensors or weights-only .pt, relative to the recipe.",
    )
    sha256: Sha256 | None = Field(
        default=None, exclude=True, description="The sum that the weights file must have."
    )
    weight: float = Field(default=1.0, gt=0, description="Its share, relative to that of the other teachers.")


class DistilledLayer(Spec):
    """A layer of the student that learns from one of a teacher."""

    student: Filled = Field(description="Name of the student's layer.")
    teacher: Filled | None = Field(default=None, description="Name of the teacher's layer, if it is another.")
    of: int = Field(default=0, ge=0, description="Which teacher, from 0.")
    weight: float = Field(default=1.0, gt=0, description="Weight of this loss, beside that of the outputs.")


class Distill(Step):
    """Train the model, or a smaller one in its place, to answer as its teachers do."""

    method: Literal["distill"]
    teachers: tuple[DistillTeacher, ...] = Field(
        default=(), description="Networks to learn from; by default the recipe's own model, before all steps."
    )
    outputs: Filled | None = Field(
        default=None,
        description="In place of teachers: an .npz file with their outputs, as output or output_0 …; and the inputs by "
        "name, unless they are those of the recipe.",
    )
    student: Reference | None = Field(
        default=None,
        description="module:callable returning the untrained student; by default the model as it is.",
    )
    width: float | None = Field(
        default=None, gt=0, lt=1, description="Or: the model with this share of its channels as the student."
    )
    initial: Literal["pruned", "new"] = Field(
        default="pruned",
        description="With width: keep the most important channels, or start from new weights.",
    )
    temperature: float = Field(
        default=4.0,
        gt=0,
        le=1000,
        description="Divides class scores before the softmax; higher values show more of small ones.",
    )
    alpha: Share = Field(
        default=0.9,
        description="Weight of the teachers' outputs; the rest is the loss of the labels, if there are any.",
    )
    loss: Literal["auto", "softmax", "mse"] = Field(
        default="auto",
        description="Compare probabilities, or the outputs by their squared error; auto: probabilities where labels are "
        "class numbers.",
    )
    features: tuple[DistilledLayer, ...] = Field(
        default=(), description="Layers whose values are to be those of a teacher's layer."
    )
    attention: tuple[DistilledLayer, ...] = Field(
        default=(), description="Layers whose values are to be large at the same positions as a teacher's."
    )
    fine_tune: Train = Field(default=Train(epochs=30), description="How to train, on the training split.")
    seed: Seed = Field(default=0, description="Seed of a student's new weights.")


def apply(module: "torch.nn.Module", step: Distill, context: Context) -> TorchResult:
    """Train a student in place of ``module``.

    Metrics: ``parameters`` and ``macs`` as ``[before, after]``; ``loss`` of the last epoch; ``score``: the metric of
    ``module`` ``before``, of each of the ``teachers`` that run, and of the student ``initial`` and after ``fine_tune``.

    Raises:
        InputError: a network or a file is missing or does not fit, a layer is unknown, there are no samples, or training
            fails.
    """
    from edgepack.torchnet.layers import count_module, example_inputs
    from edgepack.torchnet.teaching import Watched

    require_consistent(step, _conflicts(step))
    examples = example_inputs(context.inputs)
    given = lessons(context, step.outputs)
    teachers = _teachers(step, context)
    student = _student(module, step, context)
    _require_outputs(student, [module, *teachers] if step.student is None else teachers, examples)
    pairs = _pairs(student, teachers, step)
    scores: dict[str, Any] = {
        "before": context.score(module),
        "teachers": [context.score(each) for each in teachers],
        "initial": context.score(student),
    }
    watched = Watched.of(student, teachers, pairs)
    try:
        objective = _objective(step, context, given, watched, pairs)
        training = replace(context, data=given.splits, samples=None).train(student, step.fine_tune, objective)
    finally:
        watched.close()
    scores["fine_tune"] = context.score(student)
    before, after = count_module(module, examples), count_module(student, examples)
    metrics: dict[str, Any] = {
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "loss": training["loss"],
    }
    if scores["before"] is not None:
        metrics["score"] = scores
    return TorchResult(student, metrics, None if step.student is None else {"student": step.student})


def _student(module: "torch.nn.Module", step: Distill, context: Context) -> "torch.nn.Module":
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step.seed)
        if step.student is not None:
            return context.module(step.student)
        if step.width is None:
            return copy.deepcopy(module)
        narrow = PruneChannels(method="prune-channels", ratio=1 - step.width, round_to=1)
        student = prune(module, narrow, replace(context, data=None, samples=None)).module
        if step.initial == "new":
            for layer in student.modules():
                if callable(getattr(layer, "reset_parameters", None)):
                    layer.reset_parameters()
        return student


def _teachers(step: Distill, context: Context) -> "list[torch.nn.Module]":
    if step.outputs is not None:
        return []
    modules = []
    for each in step.teachers or (DistillTeacher(),):
        if each.source is not None:
            modules.append(context.module(each.source, each.weights))
        elif context.teacher is not None:
            modules.append(context.teacher())
        else:
            raise InputError(
                "there is no original model to learn from", next="name a teacher's source, or outputs"
            )
    return [module.eval() for module in modules]


def _require_outputs(
    student: "torch.nn.Module", others: "list[torch.nn.Module]", examples: "tuple[torch.Tensor, ...]"
) -> None:
    """Refuse a student that returns something else than the networks it learns from."""
    from torch.utils import _pytree

    from edgepack.torchnet.layers import inference

    def shapes(module: "torch.nn.Module") -> list[list[int]]:
        try:
            with inference(module):
                return [list(each.shape) for each in _pytree.tree_leaves(module(*examples))]
        except Exception as error:
            raise InputError(
                f"{type(module).__name__} does not run on the recipe's inputs",
                why=str(error).partition("\n")[0],
            ) from error

    ours = shapes(student)
    for other in others:
        if shapes(other) != ours:
            raise InputError(
                f"the student returns {ours}, and {type(other).__name__} {shapes(other)}",
                where=f"compress, {_NAME}",
                next="give student and teachers the same outputs",
            )


def _pairs(student: "torch.nn.Module", teachers: "list[torch.nn.Module]", step: Distill) -> "list[Pair]":
    from edgepack.torchnet.teaching import Pair

    pairs = []
    asked: tuple[tuple[Literal["features", "attention"], tuple[DistilledLayer, ...]], ...] = (
        ("features", step.features),
        ("attention", step.attention),
    )
    for kind, layers in asked:
        for each in layers:
            names = (each.student, each.teacher or each.student)
            for module, name in zip((student, teachers[each.of]), names, strict=True):
                known = {own: (own,) for own, _ in module.named_modules() if own}
                select(
                    (name,),
                    known,
                    kind=f"layer of {type(module).__name__}",
                    where=f"compress, {_NAME}, {kind}",
                )
            pairs.append(Pair(kind, *names, each.of, each.weight))
    return pairs


def _objective(
    step: Distill,
    context: Context,
    given: Lessons,
    watched: "Watched",
    pairs: "list[Pair]",
) -> "Objective":
    import torch

    from edgepack.torchnet.layers import example_inputs, inference
    from edgepack.torchnet.objective import Objective
    from edgepack.torchnet.teaching import inner_loss, output_loss, projections

    maps = torch.nn.ModuleList()
    if pairs:  # the values of one run say how many channels the layers have
        for module in (watched.student, *watched.teachers):
            with inference(module):
                module(*example_inputs(context.inputs))
        maps = projections(watched, pairs, step.seed)
    how = _comparison(step, given)
    hard = None if not given.targets or step.alpha == 1 else context.loss

    share = 1.0 if hard is None else step.alpha

    def loss(batch: "Batch") -> torch.Tensor:
        labels, stored = given.labels(batch.labels), given.outputs(batch.labels)
        terms = []
        if share > 0:
            taught = (*batch.teachers, stored) if stored else batch.teachers
            axes = _class_axes(batch.outputs, labels, how)
            terms.append(share * output_loss(batch.outputs, taught, how, axes))
        if hard is not None:
            terms.append((1 - share) * hard(replace(batch, labels=labels, teachers=())))
        if pairs:
            terms.append(inner_loss(watched, pairs, maps))
        return torch.stack(terms).sum()

    def optimizer(module: "torch.nn.Module", spec: Train) -> "torch.optim.Optimizer":
        updated = [*module.parameters(), *maps.parameters()]
        return torch.optim.Adam(updated, lr=spec.lr, weight_decay=spec.weight_decay)

    return Objective(
        loss=loss,
        classifies=False,
        teachers=watched.teachers if share > 0 or pairs else (),
        constant_teachers=not pairs,
        optimizer=optimizer,
    )


def _comparison(step: Distill, given: Lessons) -> "Comparison":
    from edgepack.torchnet.teaching import Comparison

    weights = [each.weight for each in step.teachers] or [1.0]
    shares = [weight / sum(weights) for weight in weights]
    auto: Literal["softmax", "mse"] = "softmax" if given.classifies else "mse"
    return Comparison(shares, auto if step.loss == "auto" else step.loss, step.temperature)


def _class_axes(outputs: Any, labels: Any, how: "Comparison") -> list[int]:
    """Of each output with a target, the axis of classes."""
    from torch.utils import _pytree

    from edgepack.scoring.classes import class_axis

    if how.matching == "mse" or labels is None:
        return []
    targets = list(labels.values()) if isinstance(labels, Mapping) else [labels]
    found = zip(_pytree.tree_leaves(outputs), targets, strict=False)
    return [class_axis(tuple(output.shape), tuple(target.shape)) or 1 for output, target in found]


def _needs(step: Distill) -> tuple[Need, ...]:
    needs = [Need("samples", "distillation")]
    if step.outputs is None and not all(each.source for each in step.teachers or (DistillTeacher(),)):
        needs.append(Need("teacher", "the default teacher"))
    return tuple(needs)


def _files(step: Distill) -> tuple[StepFile, ...]:
    files = []
    if step.student is not None:
        files.append(StepFile(("student",), step.student, "callable", builds=True))
    if step.outputs is not None:
        files.append(StepFile(("outputs",), step.outputs, suffixes=(".npz",)))
    for number, teacher in enumerate(step.teachers):
        if teacher.source is not None:
            files.append(StepFile(("teachers", number, "source"), teacher.source, "callable"))
        if teacher.weights is not None:
            weights = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
            option = ("teachers", number, "weights")
            files.append(StepFile(option, teacher.weights, suffixes=weights, sha256=teacher.sha256))
    return tuple(files)


def _conflicts(step: Distill) -> tuple[tuple[str, str], ...]:
    found = []
    if step.student is not None and step.width is not None:
        found.append(("width", "expected one of student and width, got both"))
    if step.initial == "new" and step.width is None:
        found.append(("initial", "a student that is not made by width has its own weights"))
    found += unused(step, "temperature", used=step.loss != "mse", by="class scores: `loss: mse` has none")
    if step.outputs is not None and step.teachers:
        found.append(("outputs", "expected one of teachers and outputs, got both"))
    for key, layers in (("features", step.features), ("attention", step.attention)):
        if step.outputs is not None and layers:
            found.append((key, "stored outputs say nothing about the layers of a teacher"))
        elif any(each.of >= max(len(step.teachers), 1) for each in layers):
            found.append((key, f"`of` is the number of a teacher, below {max(len(step.teachers), 1)}"))
    found += [
        ("teachers", "a teacher with weights needs its source")
        for each in step.teachers
        if each.weights is not None and each.source is None
    ]
    found += [
        ("teachers", "`sha256` is that of a teacher's weights file, and there is none")
        for each in step.teachers
        if each.sha256 is not None and each.weights is None
    ]
    return tuple(found)


def _destroys(step: Distill) -> Mapping[Trait, str]:
    if step.student is not None:
        lost = "the student is another network, so that nothing of the earlier step is left"
        return {"encoded": lost, "fake-quantized": lost, "sparse": lost}
    if step.width is not None:
        narrow = "channels cannot be removed from such layers; distill first"
        return {"encoded": narrow, "fake-quantized": narrow}
    return {}


def _source(change: Mapping[str, Any]) -> str:
    return str(change["student"])


METHOD = TorchMethod(
    spec=Distill,
    apply=apply,
    builds=_source,
    needs=_needs,
    files=_files,
    conflicts=_conflicts,
    destroys=_destroys,
    distributions=("torch", "numpy"),
    sources=(
        *SOURCES,
        "compression/channel_choice.py",
        "compression/distill.py",
        "compression/feeding.py",  # imported by prune_channels.py, as its other parts for .onnx files
        "compression/importance.py",
        "compression/lessons.py",
        "compression/onnx_channels",
        "compression/prune_channels.py",
        "compression/prune_onnx_channels.py",
        "compression/ranking.py",
        "compression/widths.py",
        "onnxfile",
        "torchnet/channels",
        "torchnet/teaching.py",
    ),
)
