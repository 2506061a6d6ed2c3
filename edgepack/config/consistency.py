"""Contradictions in a recipe whose keys are all valid."""

from collections.abc import Iterator
from math import prod

from edgepack.base.text import near_miss
from edgepack.compression import Need
from edgepack.compression.method import Level
from edgepack.compression.ordering import levels_of, misplaced, step_labels
from edgepack.compression.registry import METHODS
from edgepack.config.gates import OF_METRIC, ON_BOARD, StepGates
from edgepack.config.problems import DataProblem, Location
from edgepack.config.recipe import Recipe
from edgepack.spec import Data, Model, RecipeInput, Text

ONE_INPUT = "samples of images and text are of one input; for several inputs use `source` or `npz`"
_OF_SOURCE = ("sqnr", "agreement")


def contradictions(recipe: Recipe) -> Iterator[DataProblem]:
    """All contradictions in a recipe, each with its location."""
    yield from _model(recipe.model)
    if recipe.data is not None:
        yield from _data(recipe.data)
        if recipe.samples is not None:
            message = "expected data or samples, not both: with labels, the test split serves as samples"
            yield DataProblem(("samples",), message, on_key=True)
    else:
        yield from _needs_data(recipe)
    yield from _task(recipe)
    yield from _gates(recipe)
    yield from _robustness(recipe)
    yield from _needs_torch(recipe)
    yield from _sample_problems(recipe)
    yield from _steps(recipe)
    yield from _rows(recipe)


def _model(model: Model) -> Iterator[DataProblem]:
    here = ("model",)
    if (model.source is None) == (model.onnx is None):
        both = model.source is not None
        sources = ((*here, "source"), (*here, "onnx"))
        yield DataProblem(
            here, f"expected source or onnx{', not both' if both else ''}", on_key=True, depends=sources
        )
        return
    if model.onnx is not None:
        for key in ("weights", "train"):
            if getattr(model, key) is not None:
                yield DataProblem(
                    (*here, key),
                    f"`{key}` needs a torch source; an .onnx file includes its weights",
                    on_key=True,
                )
    elif model.sha256 is not None and model.weights is None:
        message = "`sha256` is that of a file: `onnx` or `weights`; of a source, all code counts without it"
        yield DataProblem((*here, "sha256"), message, on_key=True, depends=((*here, "weights"),))
    if model.source is not None and not model.inputs:
        message = "missing key `inputs` in `model`: a torch source does not define its input shapes"
        yield DataProblem(here, message, on_key=True, depends=((*here, "inputs"),))
    if model.weights is not None and model.train is not None:
        yield DataProblem((*here, "train"), "expected weights or train, not both", on_key=True)
    yield from _inputs(model)


def _inputs(model: Model) -> Iterator[DataProblem]:
    here = ("model",)
    seen: set[str] = set()
    for index, entry in enumerate(model.inputs):
        if entry.name in seen:
            yield DataProblem((*here, "inputs", index, "name"), f"duplicate input `{entry.name}`")
        seen.add(entry.name)
        if entry.value is not None:
            message = _misfit(entry, of_torch=model.source is not None)
            if message:
                yield DataProblem((*here, "inputs", index, "value"), message)


def _misfit(entry: RecipeInput, *, of_torch: bool) -> str:
    """What is wrong with the value of an input; empty if nothing is."""
    if of_torch:
        return "`value` needs an .onnx file; set a torch source's argument in forward()"
    items = entry.value if isinstance(entry.value, tuple) else (entry.value,)
    count = prod(entry.shape)
    if isinstance(entry.value, tuple) and len(items) != count:
        return f"expected {count} elements for shape {list(entry.shape)}, got {len(items)}"
    wanted = "true or false" if entry.dtype == "bool" else "a whole number"
    for item in items:
        if isinstance(item, bool) != (entry.dtype == "bool"):
            return (
                f"expected {wanted if entry.dtype == 'bool' else 'a number'} for {entry.dtype}, got {item!r}"
            )
        if "int" in entry.dtype and not (isinstance(item, int) and _in_range(item, entry.dtype)):
            return f"expected {wanted} in the range of {entry.dtype}, got {item!r}"
    return ""


def _in_range(value: int, dtype: str) -> bool:
    bits = int(dtype.rpartition("int")[2])
    low = 0 if dtype.startswith("u") else -(1 << bits - 1)
    return low <= value < low + (1 << bits)


def _data(data: Data) -> Iterator[DataProblem]:
    kinds = ("source", "npz", "images", "idx", "csv", "jsonl")
    given = [kind for kind in kinds if getattr(data, kind) is not None]
    if len(given) != 1:
        got = f", got {' and '.join(given)}" if given else ""
        yield DataProblem(
            ("data",),
            f"expected exactly one of {', '.join(kinds)}{got}",
            on_key=True,
            depends=tuple(("data", k) for k in kinds),
        )
    if data.images is None:
        return
    preprocess = data.images.preprocess
    channels = 1 if preprocess.color == "gray" else 3
    for key in ("mean", "std"):
        count = len(getattr(preprocess, key))
        if count not in (1, channels):
            message = f"{count} values for {channels} channel{'s' * (channels > 1)} ({preprocess.color})"
            yield DataProblem(("data", "images", "preprocess", key), message)
    if 0.0 in preprocess.std:
        yield DataProblem(("data", "images", "preprocess", "std"), "`std` must not contain 0")
    if preprocess.crop and min(preprocess.crop) < 1:
        yield DataProblem(
            ("data", "images", "preprocess", "crop"), "height and width must be at least 1 pixel"
        )


def _task(recipe: Recipe) -> Iterator[DataProblem]:
    """The metric and the loss."""
    own = recipe.metric is not None and ":" in recipe.metric
    if own and recipe.higher_is_better is None:
        message = "say which of two values is better: set `higher_is_better` to true or false"
        yield DataProblem(("metric",), message, depends=(("metric",), ("higher_is_better",)))
    if not own and recipe.higher_is_better is not None:
        known = recipe.metric or "the default metric"
        message = f"`higher_is_better` is known of {known}; set it with a metric of your own only"
        yield DataProblem(
            ("higher_is_better",), message, on_key=True, depends=(("metric",), ("higher_is_better",))
        )
    if recipe.metric is not None and recipe.data is None:
        if recipe.metric not in _OF_SOURCE:
            yield DataProblem(("metric",), f"{recipe.metric} needs `data`", depends=(("metric",), ("data",)))
        elif recipe.samples is None:
            message = f"{recipe.metric} needs `data` or `samples`"
            yield DataProblem(("metric",), message, depends=(("metric",), ("data",), ("samples",)))
    trains = recipe.model.train is not None or any(
        getattr(step, "fine_tune", None) is not None for step in recipe.compress
    )
    if recipe.loss is not None and not trains and recipe.data is None:
        yield DataProblem(("loss",), "training needs `data`", on_key=True, depends=(("loss",), ("data",)))


def _sample_problems(recipe: Recipe) -> Iterator[DataProblem]:
    """Check that samples of the data block match the model's input."""
    if recipe.data is None:
        return
    one = any(getattr(recipe.data, kind) is not None for kind in ("images", "idx", "csv", "jsonl"))
    if one and len({entry.name for entry in recipe.model.fed}) > 1:
        yield DataProblem(("model", "inputs", 1), ONE_INPUT)
    if len(recipe.model.fed) != 1:
        return
    gives: tuple[list[int], str] | None = None
    for kind in ("csv", "jsonl"):
        text: Text | None = getattr(recipe.data, kind)
        if text is not None:
            gives = [text.length], "int64"
    images = recipe.data.images
    if images is not None and images.preprocess.crop is not None:
        channels = 1 if images.preprocess.color == "gray" else 3
        crop = list(images.preprocess.crop)
        gives = [channels, *crop] if images.preprocess.layout == "nchw" else [*crop, channels], "float32"
    takes = recipe.model.fed[0]
    if gives is not None and (list(takes.shape[1:]), takes.dtype) != gives:
        shape, dtype = gives
        message = f"samples are {dtype} with shape {shape}, but the input is {takes.dtype} with shape {list(takes.shape[1:])}"
        here: Location = ("model", "inputs", [each.name for each in recipe.model.inputs].index(takes.name))
        yield DataProblem((*here, "shape"), message, depends=(here, ("data",)))


def _needs_data(recipe: Recipe) -> Iterator[DataProblem]:
    missing = (("data",),)
    if recipe.model.train is not None:
        yield DataProblem(("model", "train"), "training needs `data`", on_key=True, depends=missing)
    for index, need in _needs(recipe):
        if need.kind == "labels" or (need.kind == "samples" and recipe.samples is None):
            where, on_key = ("compress", index, need.option), need.option != "method"
            wanted = "`data`" if need.kind == "labels" else "`data` or `samples`"
            yield DataProblem(where, f"{need.purpose} needs {wanted}", on_key=on_key, depends=missing)
    if recipe.bench.accuracy_samples is not None:
        message = "measuring the metric needs `data`"
        yield DataProblem(("bench", "accuracy_samples"), message, on_key=True, depends=missing)


def _robustness(recipe: Recipe) -> Iterator[DataProblem]:
    if recipe.robustness is not None:
        if recipe.data is None:
            message = "measuring robustness needs `data`"
            yield DataProblem(("robustness",), message, on_key=True, depends=(("data",),))
        if recipe.robustness.fgsm is not None and recipe.model.source is None:
            message = "FGSM needs gradients, and with them a torch model: model.source"
            yield DataProblem(("robustness", "fgsm"), message, on_key=True)
        return
    blocks = {"": recipe.gates, "each_step": recipe.gates.each_step, **recipe.gates.steps}
    for name, block in blocks.items():
        if block is not None and block.robustness_drop is not None:
            at = ("gates", *(["steps"] if name in recipe.gates.steps else []), *([name] if name else []))
            message = "robustness is not measured; add `robustness: {}` with its settings"
            yield DataProblem((*at, "robustness_drop"), message, on_key=True)


def _gates(recipe: Recipe) -> Iterator[DataProblem]:
    """Gates on figures that the recipe does not measure."""
    gates, here = recipe.gates, ("gates",)
    blocks: list[tuple[Location, StepGates]] = [(here, gates)]
    if gates.each_step is not None:
        blocks.append(((*here, "each_step"), gates.each_step))
    labels = step_labels(recipe.compress)
    for name, block in gates.steps.items():
        blocks.append(((*here, "steps", name), block))
        if name not in labels:
            hint = near_miss(name, labels, say="the recipe's steps are:") or "; the recipe compresses nothing"
            yield DataProblem((*here, "steps", name), f"no step `{name}`{hint}", on_key=True)
    measured = recipe.data is not None or (recipe.samples is not None and recipe.metric in _OF_SOURCE)
    for at, block in blocks:
        for key in OF_METRIC:
            if getattr(block, key, None) is None:
                continue
            place: Location = (*at, key)
            if not measured:
                message = "measuring the metric needs `data`"
                yield DataProblem(place, message, on_key=True, depends=(("data",), ("samples",)))
            elif key.startswith("accuracy") and recipe.metric not in {None, "accuracy"}:
                other = "metric_drop" if key == "accuracy_drop" else "metric_limit"
                message = f"the metric is {recipe.metric}: use `{other}`"
                yield DataProblem(place, message, on_key=True, depends=(("metric",),))


def _needs_torch(recipe: Recipe) -> Iterator[DataProblem]:
    levels = _levels(recipe)
    for index, need in _needs(recipe):
        if need.kind == "gradients" and levels[index] == "onnx" and recipe.model.source is not None:
            method = recipe.compress[index].method
            message = f"{need.purpose} needs the torch module, but {method} runs on the .onnx file here: put it before {recipe.compress[levels.index('onnx')].method}"
            yield DataProblem(("compress", index, need.option), message, on_key=need.option != "method")
        elif need.kind in {"teacher", "gradients"} and recipe.model.source is None:
            where, on_key = ("compress", index, need.option), need.option != "method"
            message = f"{need.purpose} needs a torch model: model.source"
            yield DataProblem(where, message, on_key=on_key, depends=(("model", "source"), ("model", "onnx")))


def _needs(recipe: Recipe) -> Iterator[tuple[int, Need]]:
    """The needs of each step, with the step's index."""
    for index, (step, level) in enumerate(zip(recipe.compress, _levels(recipe), strict=True)):
        for need in METHODS[step.method].on(level).needs(step):
            yield index, need


def _levels(recipe: Recipe) -> tuple[Level, ...]:
    """The level at which each step runs."""
    return levels_of(recipe.compress, METHODS, torch=recipe.model.source is not None)


def _steps(recipe: Recipe) -> Iterator[DataProblem]:
    on_onnx = None
    for index, (step, level) in enumerate(zip(recipe.compress, _levels(recipe), strict=True)):
        here = ("compress", index, "method")
        if level == "onnx":
            on_onnx = on_onnx or step.method
            continue
        if recipe.model.onnx is not None and recipe.model.source is None:
            message = (
                f"{step.method} changes a torch module, but the model is an .onnx file; it needs model.source"
            )
            yield DataProblem(here, message, depends=(("model", "source"), ("model", "onnx")))
        if on_onnx is not None:
            message = f"{step.method} changes the torch module, so it must come before {on_onnx}, which changes the ONNX graph"
            yield DataProblem(here, message)

    for index, message in misplaced(recipe.compress, METHODS):
        yield DataProblem(("compress", index, "method"), message)
    for index, step in enumerate(recipe.compress):
        for option, message in METHODS[step.method].conflicts(step):
            here, step_itself = ("compress", index, option), ("compress", index)
            yield DataProblem(here, message, on_key=option != "method", depends=(step_itself,))


def _rows(recipe: Recipe) -> Iterator[DataProblem]:
    seen: set[str] = set()
    for index, entry in enumerate(recipe.targets):
        if entry.target in seen:
            hint = (
                "a release is built once per target; list more boards in `devices`, or use `edgepack deploy`"
            )
            yield DataProblem(("targets", index), f"duplicate target `{entry.target}`: {hint}")
        seen.add(entry.target)
        if entry.device is not None and entry.devices:
            yield DataProblem(
                ("targets", index, "devices"), "expected device or devices, not both", on_key=True
            )
    if not any(entry.boards for entry in recipe.targets):
        for key in ON_BOARD:
            if getattr(recipe.gates, key) is not None:
                message = "is measured on a board, but no target of the recipe has a `device`"
                yield DataProblem(("gates", key), f"`{key}` {message}", on_key=True, depends=(("targets",),))
