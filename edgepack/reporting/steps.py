"""The section of the HTML report on the model after each compression step."""

from collections.abc import Callable

from pydantic import JsonValue

from edgepack.reporting import charts
from edgepack.reporting import format as fmt
from edgepack.reporting.document import ModelRow, Report
from edgepack.reporting.elements import grid, section
from edgepack.reporting.figures import corruption_lines, origin_lines
from edgepack.reporting.markup import Markup, el


def compression(report: Report) -> Markup | None:
    """The model after each compression step."""
    if not report.compression:
        return None
    kinds: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("Parameters", "parameters", fmt.count),
        ("Parameters other than zero", "nonzeros", fmt.count),
        ("Multiply-accumulates", "macs", fmt.count),
        ("Size", "size", fmt.size),
        ("Weights in a bundle, about", "weights_size", fmt.size),
        ("Weights in memory, decoded", "weights_memory", fmt.size),
    )
    panels = []
    for title, name, show in kinds:
        values = [(stage.stage, getattr(stage, name)) for stage in report.compression]
        items = [(stage, value, fmt.DASH if value is None else show(value)) for stage, value in values]
        machine = (el("data", value=repr(value)) for _, value in values if value is not None)
        panels.append(el("div", el("h3", title), charts.bars(f"{title} by stage", items), *machine))
    if scored := [stage for stage in report.compression if stage.score is not None]:
        panels.append(_scores(scored))
    for stage in report.compression:
        if stage.robustness is not None:
            lines = (el("li", line) for line in corruption_lines(stage.robustness))
            panels.append(el("div", el("h3", f"{stage.stage} under corruption"), el("ul", *lines)))
    encoded = [
        el(
            "li",
            f"{stage.stage}: {fmt.encodings(stage.encodings)}",
            *(el("data", value=repr(value)) for value in stage.encodings.values()),
        )
        for stage in report.compression
        if stage.encodings
    ]
    if encoded:
        panels.append(el("div", el("h3", "Weights by encoding"), el("ul", *encoded)))
    panels += [
        el(
            "div",
            el("h3", stage.stage),
            el(
                "ul",
                *(
                    el("li", f"{name}: {fmt.metric(value)}", *_machine(value))
                    for name, value in stage.metrics.items()
                ),
                *(el("li", line) for line in origin_lines(stage)),
            ),
            *_machine(stage.model_dump(mode="json", include={"seeds", "trainings"})),
        )
        for stage in report.compression
        if stage.metrics or origin_lines(stage)
    ]
    return section(
        "The model, stage by stage",
        "The source model and the model after each compression step.",
        grid(*panels),
    )


def _scores(stages: list[ModelRow]) -> Markup:
    """The metric after each stage, with its 95 % interval."""
    title = fmt.metric_title(next(stage.score.metric for stage in stages if stage.score))
    found = [(stage.stage, stage.score) for stage in stages if stage.score is not None]
    items = [(stage, score.value, fmt.score_value(score, score.value)) for stage, score in found]
    rows = [
        el(
            "li",
            f"{stage}: {fmt.score(score)}",
            *(el("data", value=repr(v)) for v in (score.value, score.low, score.high) if v is not None),
        )
        for stage, score in found
    ]
    shown = charts.bars(f"{title} by stage", items) if all(score.value >= 0 for _, score in found) else None
    return el("div", el("h3", title), shown, el("ul", *rows))


def _machine(value: JsonValue) -> list[Markup]:
    """All numbers in a method's metric, exactly."""
    if isinstance(value, dict):
        return [found for each in value.values() for found in _machine(each)]
    if isinstance(value, list):
        return [found for each in value for found in _machine(each)]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return [el("data", value=repr(value))] if number else []
