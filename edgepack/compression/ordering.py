"""Where steps run, and which make no sense after which others."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgepack.compression.method import Level, Method, Step


def levels_of(
    steps: Sequence[Step], methods: Mapping[str, Method[Any]], *, torch: bool = True
) -> tuple[Level, ...]:
    """Return the level at which each step runs: on the torch module until one needs the .onnx file, then on the file.

    A method for torch modules alone has the level ``torch`` wherever it stands.

    Args:
        steps: the steps of a recipe, in order.
        methods: the methods by name.
        torch: whether the model is a torch module at first.
    """
    levels: list[Level] = []
    for step in steps:
        possible = methods[step.method].levels
        level: Level = "torch" if "torch" in possible and (torch or "onnx" not in possible) else "onnx"
        torch = torch and level == "torch"
        levels.append(level)
    return tuple(levels)


def misplaced(steps: Sequence[Step], methods: Mapping[str, Method[Any]]) -> Iterator[tuple[int, str]]:
    """The number of each step that destroys what an earlier one left, and the reason."""
    for number, step in enumerate(steps):
        for earlier in steps[:number]:
            lost = [
                why
                for trait, why in methods[step.method].destroyed_by(step).items()
                if trait in methods[earlier.method].leaves
            ]
            if lost:
                yield number, f"{step.method} makes no sense after {earlier.method}: {lost[0]}"
                break


def step_labels(steps: Sequence[Step]) -> tuple[str, ...]:
    """A name for each step: its method's, numbered from 1 if a method occurs more than once."""
    several = {name for name, count in Counter(step.method for step in steps).items() if count > 1}
    seen: Counter[str] = Counter()
    labels = []
    for step in steps:
        seen[step.method] += 1
        labels.append(f"{step.method}-{seen[step.method]}" if step.method in several else step.method)
    return tuple(labels)
