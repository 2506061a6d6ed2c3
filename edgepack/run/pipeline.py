"""The run: the stages as one visible tuple, and what flows from one to the next.

The model stages run once; the target stages run for each target, for two variants: ``baseline``, the model
as it came, and ``release``, after every compression step. A row that fails ends there; the others go on.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from edgepack.bundle.manifest import ModelFigures
from edgepack.compress import METHODS
from edgepack.config.plan import Plan, Row, dump
from edgepack.config.recipe import Tune
from edgepack.engine.artifact import Artifact
from edgepack.engine.outcome import Variant
from edgepack.engine.runner import Runner, Stopped
from edgepack.engine.stage import Stage, tool_version
from edgepack.engine.store import Record
from edgepack.errors import UsageError
from edgepack.remote.boards import Boards
from edgepack.report.document import TuningRow, Until
from edgepack.report.figures import BUILT
from edgepack.run import fingerprint
from edgepack.run.stages import board, build, model

STAGES: tuple[Stage, ...] = (
    model.TRAIN,  #           the recipe's own first step, or
    model.LOAD,  #            a torch source with weights, or an .onnx file
    model.COMPRESS_TORCH,  #  each torch-level step: prune, …
    model.EXPORT,  #          torch → ONNX, parity with onnxruntime
    model.COMPRESS_ONNX,  #   each ONNX-level step: quantize, …
    model.EVALUATE,  #        accuracy in onnxruntime, counts, samples with expected outputs
    build.TUNE,  #            kernels, on the board, or
    build.RECALL,  #          what was measured for such boards before
    build.COMPILE,  #         ONNX → Relax → shared library
    build.PACKAGE,  #         the bundle
    board.DEPLOY,  #          install over SSH; never cached: the board is asked
    board.BENCH,  #           measure on the board through the bundle
)

_NO_BASELINE = "the recipe's bench.baseline is false"
_MANIFEST_TOOLS = ("edgepack", "apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "torch", "ziglang")


@dataclass
class ModelLine:
    """A variant after the model stages."""

    variant: Variant
    onnx: Artifact
    inputs: list[dict[str, Any]]
    torch_accuracy: float | None
    evaluated: Record
    steps: list[ModelFigures] = field(default_factory=list)


def run(
    plan: Plan, runner: Runner, boards: Boards, *, until: Until = "bench", budget: Tune | None = None
) -> list[Artifact]:
    """Do a plan's stages up to ``until``; returns the release's bundles, or its ONNX model for ``evaluate``.

    Failures are in the runner's report; only KeyboardInterrupt leaves.
    """
    try:
        lines = _Models(plan, runner).lines()
    except Stopped:
        return []
    for row in plan.rows:
        for line in lines:
            _known(runner, boards, row, line)
    if until == "evaluate":
        return [line.onnx for line in lines if line.variant == "release"]
    bundles = []
    for row in plan.rows:
        targets = _Targets(plan, runner, boards, row, until=until, budget=budget)
        for line in lines:
            if line.variant == "baseline" and not plan.recipe.bench.baseline:
                runner.report.missing(row.target.name, "baseline", _NO_BASELINE, *BUILT)
                continue
            with suppress(Stopped):  # in the report already; the next row goes on
                bundle = targets.line(line)
                if bundle is not None and line.variant == "release":
                    bundles.append(bundle)
    return bundles


def require_stages(names: Sequence[str]) -> None:
    """Refuse names that are no stages.

    Raises:
        UsageError: with the near miss.
    """
    known = [*(stage.name for stage in STAGES), *METHODS]  # a step's outcome bears its method's name
    for name in names:
        if name not in (*known, "all"):
            near = get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"stages: {', '.join(dict.fromkeys(known))}, or all"
            )
            raise UsageError(f"there is no stage {name}", next=hint)


class _Models:
    """The stages that do not know any target."""

    def __init__(self, plan: Plan, runner: Runner) -> None:
        self._plan = plan
        self._runner = runner
        recipe = plan.recipe
        self._model = dump(recipe.model)
        self._data = None if recipe.data is None else dump(recipe.data)
        self._model_files = fingerprint.model_inputs(recipe.model, plan.base)
        self._data_files = fingerprint.data_inputs(recipe.data, plan.base)
        self._resources = {"base": plan.base}

    def lines(self) -> list[ModelLine]:
        """The baseline, where there is something to compare, and the release."""
        recipe = self._plan.recipe
        source = self._source()
        if not recipe.compress:
            self._runner.skip(model.COMPRESS_TORCH, "the recipe compresses nothing", variant="release")
            return [self._plain("release", source)]
        baseline = self._plain("baseline", source)
        return [baseline, self._compressed(source, baseline.steps)]

    def _source(self) -> Record:
        stage = model.LOAD if self._plan.recipe.model.train is None else model.TRAIN
        return self._do(stage, {**self._model_files, **self._data_files})

    def _plain(self, variant: Variant, source: Record) -> ModelLine:
        """The model as it came. Torch says what it is at once, an .onnx file when it has been evaluated."""
        in_torch = "checkpoint" in source.artifacts
        steps = [self._compression("source", source)] if in_torch else []
        exported = self._onnx(source, variant)
        line = self._evaluated(variant, source, exported.artifacts["onnx"], steps)
        if not in_torch:
            line.steps.append(self._compression("source", line.evaluated))
        return line

    def _compressed(self, source: Record, before: list[ModelFigures]) -> ModelLine:
        """The model after every step of the recipe: torch steps, export, ONNX steps."""
        steps = list(before)
        at = source
        pending = list(self._plan.recipe.compress)
        while pending and METHODS[pending[0].method].STAGE == "torch":
            step = pending.pop(0)
            files = {**self._model_files, **self._data_files, "checkpoint": at.artifacts["checkpoint"]}
            at = self._do(model.COMPRESS_TORCH, files, step=dump(step), label=step.method)
            steps.append(self._compression(step.method, at))
        onnx = self._onnx(at, "release").artifacts["onnx"]
        for step in pending:
            files = {**self._data_files, "onnx": onnx}
            inputs = self._inputs(source)
            done = self._do(model.COMPRESS_ONNX, files, label=step.method, step=dump(step), inputs=inputs)
            onnx = done.artifacts["onnx"]
            steps.append(self._compression(step.method, done))
        return self._evaluated("release", at, onnx, steps, source=source)

    def _onnx(self, at: Record, variant: Variant) -> Record:
        if "onnx" in at.artifacts:
            return at
        files = {**self._model_files, "checkpoint": at.artifacts["checkpoint"]}
        return self._do(model.EXPORT, files, variant=variant)

    def _evaluated(
        self,
        variant: Variant,
        at: Record,
        onnx: Artifact,
        steps: list[ModelFigures],
        source: Record | None = None,
    ) -> ModelLine:
        inputs = self._inputs(source or at)
        record = self._do(model.EVALUATE, {**self._data_files, "onnx": onnx}, variant=variant, inputs=inputs)
        return ModelLine(variant, onnx, inputs, at.figures.get("accuracy"), record, steps)

    def _compression(self, name: str, record: Record) -> ModelFigures:
        """Tell the report of the model after a step; at once, for the next step may fail."""
        figures = record.figures
        sizes = [a.size for a in record.artifacts.values() if a.kind in {"checkpoint", "onnx"}]
        after = ModelFigures(
            stage=name,
            parameters=figures.get("parameters"),
            macs=figures.get("macs"),
            size=figures.get("size", sizes[0] if sizes else None),
            accuracy=figures.get("accuracy"),
        )
        self._runner.report.compression(after)
        return after

    def _inputs(self, source: Record) -> list[dict[str, Any]]:
        """The model's inputs: an .onnx file brings its own, a torch source has the recipe's."""
        inputs: list[dict[str, Any]] = source.figures.get("inputs") or self._model["inputs"]
        return inputs

    def _do(
        self,
        stage: Stage,
        files: dict[str, Artifact],
        *,
        variant: Variant | None = None,
        label: str | None = None,
        step: dict[str, Any] | None = None,
        inputs: list[dict[str, Any]] | None = None,
    ) -> Record:
        given = self._model["inputs"] if inputs is None else inputs
        spec = {"model": self._model, "data": self._data, "inputs": given, "step": step}
        return self._runner.do(
            stage, spec=spec, inputs=files, variant=variant, label=label, resources=self._resources
        )


def _known(runner: Runner, boards: Boards, row: Row, line: ModelLine) -> None:
    """Fill in what is known of a row before anything is built for its target."""
    figures = line.evaluated.figures
    runner.report.row(
        row.target.name,
        line.variant,
        device=row.device,
        emulated=row.device is not None and boards.place(row.device).emulated,
        onnx_size=figures["size"],
        parameters=figures["parameters"],
        macs=figures["macs"],
        accuracy_torch=line.torch_accuracy,
        accuracy_onnxruntime=figures["accuracy"],
    )
    if figures["accuracy"] is None:
        labels = "the recipe has no labelled data"
        runner.report.missing(row.target.name, line.variant, labels, "accuracy_torch", "accuracy_onnxruntime")
    elif line.torch_accuracy is None:
        never = "the model came as ONNX"
        runner.report.missing(row.target.name, line.variant, never, "accuracy_torch")


class _Targets:
    """The stages of one row: one target and its device."""

    def __init__(
        self,
        plan: Plan,
        runner: Runner,
        boards: Boards,
        row: Row,
        *,
        until: Until,
        budget: Tune | None,
    ) -> None:
        self._plan = plan
        self._runner = runner
        self._boards = boards
        self._row = row
        self._until = until
        self._budget = budget

    def line(self, line: ModelLine) -> Artifact | None:
        """Tune, compile, package, deploy and measure one variant; returns its bundle."""
        from edgepack.toolchain.cuda import compiler_identity

        records = self._tuned(line)
        if self._until == "tune":
            return None
        spec: dict[str, Any] = {"target": dump(self._row.target)}
        if self._row.target.gpu is not None:
            spec["cuda_compiler"] = compiler_identity()
        compiled = self._do(build.COMPILE, line, spec, {"onnx": line.onnx, **records})
        self._figures(line, compiled_size=compiled.artifacts["model"].size)
        packaged = self._packaged(line, compiled)
        bundle = packaged.artifacts["bundle"]
        self._figures(line, bundle_size=bundle.size, bundle_digest=packaged.figures["digest"])
        if self._until == "package" or self._row.device is None:
            for stage in (board.DEPLOY, board.BENCH) if self._until == "bench" else ():
                self._skip(stage, line, "the recipe names no device for this target")
            return bundle
        self._on_board(line, bundle)
        return bundle

    def _tuned(self, line: ModelLine) -> dict[str, Artifact]:
        row = self._row
        # More or less than the recipe asks for, this once; the search is the recipe's.
        budget = self._budget and self._budget.model_copy(update={"seed": row.tune.seed})
        if not (budget or row.tune).trials and (budget or row.tune).minutes is None:
            return self._recalled(line, "the budget is 0 trials")
        if row.device is None:
            return self._recalled(line, "the recipe names no device for this target: nothing to measure on")
        emulated = self._boards.place(row.device).emulated
        done = self._do(
            build.TUNE,
            line,
            {"target": dump(row.target), "tune": dump(row.tune), "emulated": emulated},
            {"onnx": line.onnx},
            resources={"runner": board.tuning_runner(self._boards, row.device), "budget": budget},
        )
        fields = ("trials", "seconds", "tuned_share", "curve", "kernels")
        self._runner.report.tuning(
            TuningRow.model_validate_json(
                json.dumps(
                    {
                        "target": row.target.name,
                        "variant": line.variant,
                        "emulated": emulated,
                        **{name: done.figures[name] for name in fields},
                    }
                )
            )
        )
        return done.artifacts

    def _recalled(self, line: ModelLine, why: str) -> dict[str, Artifact]:
        """Without measuring anything: the best of what was measured earlier for this kind of board."""
        row = self._row
        emulated = row.device is not None and self._boards.place(row.device).emulated
        measured = {} if self._until == "tune" else build.measured(row.target, emulated=emulated)
        if not measured:
            self._skip(build.TUNE, line, f"{why}; every kernel has its family's schedule")
            return {}
        spec = {"target": dump(row.target), "emulated": emulated}
        return self._do(build.RECALL, line, spec, {"onnx": line.onnx, **measured}).artifacts

    def _packaged(self, line: ModelLine, compiled: Record) -> Record:
        figures = line.evaluated.figures
        spec = {
            "target": dump(self._row.target),
            "recipe": dump(self._plan.recipe),
            "variant": line.variant,
            "tools": {name: tool_version(name) for name in _MANIFEST_TOOLS},
            "figures": {
                "inputs": compiled.figures["inputs"],
                "outputs": compiled.figures["outputs"],
                "classes": figures["classes"],
                "vocabulary": figures["vocabulary"],
                "compression": [dump(step) for step in line.steps],
                "accuracy": {
                    "samples": figures["samples"] if figures["accuracy"] is not None else None,
                    "torch": line.torch_accuracy,
                    "onnxruntime": figures["accuracy"],
                },
            },
        }
        files = {"model": compiled.artifacts["model"], "samples": line.evaluated.artifacts["samples"]}
        return self._do(build.PACKAGE, line, spec, files)

    def _on_board(self, line: ModelLine, bundle: Artifact) -> None:
        name = self._row.device or ""
        place = self._boards.place(name)
        resources = {"boards": self._boards}
        spec: dict[str, Any] = {"device": name}
        if line.variant == "release":
            self._do(board.DEPLOY, line, spec, {"bundle": bundle}, resources=resources, cached=False)
        spec |= {
            "host": place.host,
            "port": place.port,
            "emulated": place.emulated,
            "device_kind": self._row.target.device_kind,
            "bench": dump(self._plan.recipe.bench),
        }
        samples = line.evaluated.artifacts["samples"]
        done = self._do(board.BENCH, line, spec, {"bundle": bundle, "samples": samples}, resources=resources)
        measured = self._runner.store.path(done.artifacts["measurement"])
        self._figures(line, **board.row_figures(measured, done.figures))

    def _figures(self, line: ModelLine, **figures: Any) -> None:
        self._runner.report.row(self._row.target.name, line.variant, **figures)

    def _skip(self, stage: Stage, line: ModelLine, why: str) -> None:
        self._runner.skip(stage, why, target=self._row.target.name, variant=line.variant)

    def _do(
        self,
        stage: Stage,
        line: ModelLine,
        spec: dict[str, Any],
        inputs: dict[str, Artifact],
        *,
        resources: dict[str, Any] | None = None,
        cached: bool = True,
    ) -> Record:
        return self._runner.do(
            stage,
            spec=spec,
            inputs=inputs,
            target=self._row.target.name,
            variant=line.variant,
            resources=resources,
            cached=cached,
        )
