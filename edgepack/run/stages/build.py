"""The stages that build for a target: tune on the board, compile, package."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.paths import data_dir
from edgepack.config.recipe import Recipe, Tune
from edgepack.config.target import Target
from edgepack.engine.artifact import Artifact
from edgepack.engine.stage import Made, Output, Stage, Work
from edgepack.run.fingerprint import of_user
from edgepack.spec import Input, Preprocess, Text

if TYPE_CHECKING:
    from edgepack.bundle.manifest import InputInfo
    from edgepack.tune.events import TuneEvent
    from edgepack.tune.result import TuneResult

RECORD_FILES = ("workload.json", "tuning_record.json")


def record_root(*, emulated: bool) -> Path:
    """Where tuning records live. What an emulated board measured is never served to a real one."""
    return data_dir() / ("records-emulated" if emulated else "records")


def _target(work: Work) -> Target:
    return Target.model_validate_json(json.dumps(work.spec["target"]))


def _tune(work: Work) -> Made:
    """Measure candidates for the model's kernels on the board; records of earlier runs count."""
    from edgepack.tune import RecordStore, tune

    target = _target(work)
    # `edgepack tune` may spend more than the recipe asks for; the result stands for the recipe's budget too.
    asked = Tune.model_validate_json(json.dumps(work.spec["tune"]))
    budget = work.resources.get("budget") or asked
    with work.resources["runner"](target) as runner:
        result = tune(
            work.inputs["onnx"],
            target,
            runner,
            trials=budget.trials or None,
            minutes=budget.minutes,
            seed=budget.seed,
            store=RecordStore(record_root(emulated=work.spec["emulated"])),
            progress=lambda event: _tell(work, event),
        )
    files = {name: Output(result.records / name, "tuning-records", name) for name in RECORD_FILES}
    # A smaller budget than the recipe's does not answer for the recipe's: the next run measures the rest.
    keep = work.resources.get("budget") is None or _suffices(result, asked)
    return Made(files, tuning_figures(result), keep=keep)


def _suffices(result: "TuneResult", asked: Tune) -> bool:
    trials = asked.trials > 0 and result.trials >= asked.trials
    minutes = asked.minutes is not None and result.seconds >= 60 * asked.minutes
    return trials or minutes or result.stopped == "exhausted"


def measured(target: Target, *, emulated: bool) -> dict[str, Artifact]:
    """What was measured for this target so far, as inputs of RECALL; empty where nothing was."""
    from edgepack.tune import RecordStore

    folder = RecordStore(record_root(emulated=emulated)).path(target)
    files = {name: folder / name for name in (*RECORD_FILES, "untuned.json")}
    return {name: of_user(path) for name, path in files.items() if path.is_file()}


def _recall(work: Work) -> Made:
    """The best records measured so far for the model's kernels, by tuning of whichever model."""
    from edgepack.tune import RecordStore, best_records

    store = RecordStore(record_root(emulated=work.spec["emulated"]))
    records = best_records(work.inputs["onnx"], _target(work), store)
    if records is None or not (records / RECORD_FILES[1]).stat().st_size:
        return Made()
    return Made({name: Output(records / name, "tuning-records", name) for name in RECORD_FILES})


def tuning_figures(result: "TuneResult") -> dict[str, Any]:
    """A tuning's outcome as JSON values, in the report's terms."""
    total = result.predicted_ms or 1.0
    return {
        "trials": result.trials,
        "new_trials": result.new_trials,
        "failed": result.failed,
        "seconds": result.seconds,
        "stopped": result.stopped,
        "tuned_share": min(1.0, max(0.0, result.tuned_share)),  # a sum of floats may miss 0 or 1 by a hair
        "predicted_ms": result.predicted_ms,
        "untuned_ms": result.untuned_ms,
        "curve": [
            {"seconds": p.seconds, "trials": p.trials, "predicted_ms": p.predicted_ms} for p in result.curve
        ],
        "kernels": [
            {
                "name": kernel.name,
                "tuned": kernel.tuned,
                "best_ms": kernel.best_ms if kernel.tuned else kernel.untuned_ms,
                "share": min(1.0, kernel.predicted_ms / total),
            }
            for kernel in result.kernels
        ],
    }


def _tell(work: Work, event: "TuneEvent") -> None:
    from edgepack.tune.events import (
        BatchMeasured,
        ConnectionLost,
        Reconnected,
        TuningStarted,
        UntunedMeasured,
    )

    advanced = work.resources["advanced"]
    if isinstance(event, BatchMeasured):
        wanted = f"/{event.trials_wanted}" if event.trials_wanted else ""
        left = "" if event.seconds_left is None else f", {_clock(event.seconds_left)} left"
        share = event.trials / event.trials_wanted if event.trials_wanted else None
        advanced(
            f"{event.trials}{wanted} trials, {event.untuned_ms:.3g} → {event.predicted_ms:.3g} ms predicted, "
            f"{event.tuned_share:.0%} of runtime tuned{left}",
            None if share is None else min(share, 1.0),
        )
    elif isinstance(event, UntunedMeasured):
        advanced(f"{event.done}/{event.kernels} kernels timed untuned", None)
    elif isinstance(event, TuningStarted):
        advanced(f"{event.kernels} kernels, {event.trials_done} trials on record", None)
    elif isinstance(event, ConnectionLost):
        advanced(f"connection lost ({event.why}); attempt {event.attempt} in {event.wait_s:.0f} s", None)
    elif isinstance(event, Reconnected):
        advanced(f"connected again, {event.retried} candidates are retried", None)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _compile(work: Work) -> Made:
    """ONNX to a shared library, with the records measured so far and the fallback for the rest."""
    from edgepack.lower import compile_model

    records = None
    if "tuning_record.json" in work.inputs:
        records = work.scratch / "records"
        records.mkdir()
        for name in RECORD_FILES:
            (records / name).symlink_to(work.inputs[name])
    out = work.scratch / "model.so"
    compiled = compile_model(
        work.inputs["onnx"], _target(work), out, records=records, progress=work.resources["advanced"]
    )
    figures = {
        "kernels": [
            {"name": k.name, "workload": k.workload, "tuned": k.tuned, "calls": k.calls}
            for k in compiled.kernels
        ],
        "inputs": [_tensor(t) for t in compiled.inputs],
        "outputs": [_tensor(t) for t in compiled.outputs],
    }
    return Made({"model": Output(out, "compiled-model", "model.so")}, figures)


def _tensor(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}


def _package(work: Work) -> Made:
    """The bundle: model, runtime, agent, examples, a sample, and the manifest that names it all."""
    import numpy as np

    from edgepack.agent.build import build_agent
    from edgepack.agent.protocol import PROTOCOL
    from edgepack.bundle.archive import pack
    from edgepack.bundle.examples import example_files
    from edgepack.bundle.manifest import Accuracy, Contents, ModelFigures, RecipeInfo, TargetInfo, TensorInfo
    from edgepack.bundle.runtime import needs_extra, runtime_libs

    target = _target(work)
    recipe = Recipe.model_validate_json(json.dumps(work.spec["recipe"]))
    figures = work.spec["figures"]
    contents = Contents(
        name=recipe.name,
        version=recipe.version,
        variant=work.spec["variant"],
        agent_protocol=PROTOCOL,
        recipe=RecipeInfo.of(recipe),
        target=TargetInfo.of(target),
        tools=work.spec["tools"],
        inputs=tuple(_input_info(recipe, tensor, figures["vocabulary"]) for tensor in figures["inputs"]),
        outputs=tuple(TensorInfo.model_validate_json(json.dumps(t)) for t in figures["outputs"]),
        classes=tuple(figures["classes"]) or None,
        compression=tuple(
            ModelFigures.model_validate_json(json.dumps(step)) for step in figures["compression"]
        ),
        accuracy=Accuracy(**figures["accuracy"]),
    )
    files: dict[str, Path | bytes] = {
        "model/model.so": work.inputs["model"],
        "bin/edgepack-agent": build_agent(target.abi.arch, target.abi.libc),
    }
    libraries = runtime_libs(
        target.abi.arch, cuda=target.device_kind == "cuda", extra=needs_extra(work.inputs["model"])
    )
    files |= {f"lib/{name}": path for name, path in libraries.items()}
    files |= {f"examples/{name}": path for name, path in example_files().items()}
    with np.load(work.inputs["samples"], allow_pickle=False) as samples:
        for name in samples.files:
            kind, _, index = name.partition("_")
            if index:
                files[f"sample/{kind}-{index}.npy"] = _npy(samples[name][0])
    out = pack(work.scratch / contents.filename, contents, files)
    manifest_digest = _digest(out)
    return Made({"bundle": Output(out, "bundle", contents.filename)}, {"digest": manifest_digest})


def _digest(bundle: Path) -> str:
    from edgepack.bundle.archive import read_manifest

    return read_manifest(bundle).digest


def _npy(array: Any) -> bytes:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _input_info(recipe: Recipe, tensor: Any, vocabulary: list[str]) -> "InputInfo":
    """An input with what the application must do to fill it, where the recipe's data block tells."""
    from edgepack.bundle.manifest import InputInfo, Tokenizer

    given = Input.model_validate_json(json.dumps(tensor))
    preprocess: Preprocess | None = None
    tokenizer: Tokenizer | None = None
    if recipe.data is not None and recipe.data.images is not None:
        preprocess = recipe.data.images.preprocess
    text: Text | None = None if recipe.data is None else recipe.data.csv or recipe.data.jsonl
    if text is not None:
        tokenizer = Tokenizer(kind=text.tokenizer, length=text.length, vocabulary=tuple(vocabulary))
    return InputInfo(
        name=given.name, shape=given.shape, dtype=given.dtype, preprocess=preprocess, tokenizer=tokenizer
    )


_TVM = ("apache-tvm", "apache-tvm-ffi")

TUNE = Stage(
    "tune",
    1,
    (*_TVM, "xgboost-cpu", "ziglang", "onnx", "onnxscript"),
    ("agent", "lower", "toolchain", "onnxfile", "schedules", "run/stages/build.py", "tune"),
    _tune,
)
RECALL = Stage("tune", 1, TUNE.tools, TUNE.code, _recall)
COMPILE = Stage(
    "compile",
    1,
    (*_TVM, "ziglang", "onnx", "onnxscript", "numpy"),
    ("lower", "toolchain", "onnxfile", "schedules", "run/stages/build.py"),
    _compile,
)
PACKAGE = Stage(
    "package",
    1,
    (*_TVM, "ziglang", "zstandard"),
    ("agent", "bundle", "toolchain", "run/stages/build.py"),
    _package,
)
