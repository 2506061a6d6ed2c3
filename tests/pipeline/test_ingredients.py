"""Every stage declares exactly the code that affects its result."""

import ast
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.base.paths import PACKAGE
from edgepack.compression.registry import BUILT_IN, METHODS
from edgepack.config.recipe import Bench, Tune
from edgepack.config.target import load_target
from edgepack.engine import keys
from edgepack.engine.keys import ingredients_of, key_of
from edgepack.engine.stage import Request
from edgepack.pipeline.pipeline import STAGES
from edgepack.pipeline.stages.bench import BenchSpec
from edgepack.pipeline.stages.compile import CompileSpec
from edgepack.pipeline.stages.compress_onnx import OnnxStepSpec
from edgepack.pipeline.stages.compress_torch import TorchStepSpec
from edgepack.pipeline.stages.deploy import DeploySpec
from edgepack.pipeline.stages.evaluate import EvaluateSpec
from edgepack.pipeline.stages.export import ExportSpec
from edgepack.pipeline.stages.load import LoadSpec
from edgepack.pipeline.stages.package import PackageSpec
from edgepack.pipeline.stages.recall import RecallSpec
from edgepack.pipeline.stages.robustness import RobustnessSpec
from edgepack.pipeline.stages.torch_models import Rebuilt
from edgepack.pipeline.stages.train import TrainSpec
from edgepack.pipeline.stages.tune import TuneSpec
from edgepack.spec import Metric, Model, Robustness, Train

RPI4, ORIN = load_target("rpi4"), load_target("jetson-orin")
SOURCE = "edgepack.zoo.digits:network"
OPTIONS = {
    "low-rank": {"rank": 2},
    "prune-blocks": {"ratio": 0.5},
    "prune-channels": {"ratio": 0.5},
    "prune-layers": {"count": 1},
    "prune-weights": {"ratio": 0.5},
}  # those without a default
STEPS = {name: method.spec(method=name, **OPTIONS.get(name, {})) for name, method in BUILT_IN.items()}
TORCH_STEP = TorchStepSpec(
    source=SOURCE, inputs=(), data=None, step=STEPS["prune-channels"], rebuilt=Rebuilt()
)
ONNX_STEP = OnnxStepSpec(inputs=(), data=None, step=STEPS["quantize-static"])
BENCH = BenchSpec(
    device="pi", host="pi", port=None, emulated=False, bench=Bench()
)  # fmt: skip
ROBUSTNESS = RobustnessSpec(
    level="torch", of="source", source=SOURCE, inputs=(), data=None, metric=Metric(), loss=None, rebuilt=Rebuilt(), settings=Robustness(fgsm=0.1)
)  # fmt: skip
SPECS = {
    "TrainStage": TrainSpec(source=SOURCE, inputs=(), train=Train(epochs=1), data=None),
    "LoadStage": LoadSpec(model=Model(source=SOURCE), data=None),
    "CompressTorchStage": TORCH_STEP,
    "ExportStage": ExportSpec(source=SOURCE, inputs=(), rebuilt=Rebuilt()),
    "CompressOnnxStage": ONNX_STEP,
    "RobustnessStage": ROBUSTNESS,
    "EvaluateStage": EvaluateSpec(inputs=(), data=None, original=None),
    "TuneStage": TuneSpec(target=RPI4, tune=Tune(trials=1), emulated=False),
    "RecallStage": RecallSpec(target=RPI4, emulated=False),
    "CompileStage": CompileSpec(target=RPI4),
    "PackageStage": PackageSpec.model_construct(contents=None, runtime=()),
    "DeployStage": DeploySpec(device="pi"),
    "BenchStage": BENCH,
}
ALSO = {
    "RobustnessStage": (ROBUSTNESS.model_copy(update={"level": "onnx"}),),
    "LoadStage": (LoadSpec(model=Model(onnx="model.onnx"), data=None),),  # it takes either
    "TuneStage": (TuneSpec(target=ORIN, tune=Tune(trials=1), emulated=True),),
    "CompileStage": (CompileSpec(target=ORIN),),
    "BenchStage": (BENCH.model_copy(update={"emulated": True, "emulated_gpu": True}),),
}

# What a stage imports and its result does not depend on: the nouns (their values are in the spec), errors, how stages
# are called, and what moves bytes. Everything else that a stage's work reaches has to be part of its key.
NOUNS = (
    "base/", "config/", "engine/", "errors.py", "spec/", "pipeline/candidates.py", "pipeline/contract.py", "pipeline/figures.py",
    "pipeline/fingerprint.py", "pipeline/state.py", "remote/boards.py", "compression/registry.py", "compression/__init__.py",
    "compression/context.py", "compression/method.py", "lower/result.py",
)  # fmt: skip
MOVERS = {
    "tune": ("bundle", "remote"),
    "deploy": (
        "agent",
        "bundle",
        "data",
        "emulation",
        "executor",
        "lower",
        "measuring",
        "pipeline",
        "remote",
        "scoring",
        "toolchain",
        "weightfile",
    ),
    "bench": ("bundle", "executor", "remote", "weightfile"),
}


def _file(module):
    path = PACKAGE.joinpath(*module.split(".")[1:])
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _imports(node):
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and child.module:
            inner = {f"{child.module}.{alias.name}" for alias in child.names}
            found |= {name for name in inner if name.startswith("edgepack.") and _file(name)} or {
                child.module
            }
        found |= _imports(child)
    return {name for name in found if name.startswith("edgepack.")}


def _reached(path, entry):
    """The source files of edgepack that a function or class imports, directly or indirectly."""
    tree = ast.parse(path.read_text())
    defined = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    at_top = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                at_top[alias.asname or alias.name] = inner if _file(inner) else node.module
    wanted, pending, modules = set(), [entry], set()
    while pending:
        name = pending.pop()
        if name in wanted:
            continue
        wanted.add(name)
        if name in defined:
            modules |= _imports(defined[name])
            pending += [n.id for n in ast.walk(defined[name]) if isinstance(n, ast.Name)]
        elif at_top.get(name, "").startswith("edgepack."):
            modules.add(at_top[name])
    files, queue = {path}, list(modules)
    while queue:
        found = _file(queue.pop())
        if found is None or found in files or found.relative_to(PACKAGE).as_posix().startswith(NOUNS):
            continue
        files.add(found)
        queue += _imports(ast.parse(found.read_text()))
    return {file.relative_to(PACKAGE).as_posix() for file in files}


def _covered(path, parts):
    return any(path == part or path.startswith(f"{part}/") for part in parts)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: type(stage).__name__)
def test_a_stage_declares_the_code_that_shapes_its_result(stage, monkeypatch):
    name = type(stage).__name__
    parts = [part for spec in (SPECS[name], *ALSO.get(name, ())) for part in stage.ingredients(spec).sources]
    if name == "CompressOnnxStage":  # a step that names files, which may be modules and their weights
        with monkeypatch.context() as patch:
            naming = replace(METHODS["quantize-static"], files=lambda _: ("teacher.safetensors",))
            patch.setitem(METHODS, "quantize-static", naming)
            parts += stage.ingredients(SPECS[name]).sources
    for part in parts:
        assert (PACKAGE / part).exists()
    missing = {
        path
        for path in _reached(Path(inspect.getfile(type(stage))), name)
        if not _covered(path, parts) and path.split("/")[0] not in MOVERS.get(stage.name, ())
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("name", "level"), [(name, level) for name, method in BUILT_IN.items() for level in method.levels]
)
def test_a_method_declares_the_code_that_shapes_its_result(name, level):
    method = BUILT_IN[name].on(level)
    stage = next(s for s in STAGES if type(s).__name__ == f"Compress{level.capitalize()}Stage")
    spec = TORCH_STEP if level == "torch" else ONNX_STEP
    parts = stage.ingredients(spec.model_copy(update={"step": STEPS[name]})).sources
    own = Path(inspect.getfile(method.apply))
    assert {path for path in _reached(own, "apply") if not _covered(path, parts)} == set()


def changed_by_editing(monkeypatch, path):
    """The stages whose keys an edit of a source file changes."""
    before = {type(stage).__name__: _key(stage) for stage in STAGES}
    with monkeypatch.context() as patch:
        digest = keys.code_digest
        patch.setattr(
            keys, "code_digest", lambda part: f"{digest(part)}{' edited' * _covered(path, (str(part),))}"
        )
        return {type(stage).__name__ for stage in STAGES if _key(stage) != before[type(stage).__name__]}


def _key(stage):
    spec = SPECS[type(stage).__name__]
    if type(stage).__name__ == "PackageStage":
        request = Request(DeploySpec(device="stands in: the manifest is tested elsewhere"), {})
        return key_of(ingredients_of(stage, request))
    return key_of(ingredients_of(stage, Request(spec, {})))


KERNELS = {"TuneStage", "RecallStage", "CompileStage"}
MODEL = {name for name in SPECS if name.endswith(("TrainStage", "LoadStage", "ExportStage", "EvaluateStage"))}


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("bundle/archive.py", {"PackageStage"}),
        ("pipeline/stages/package.py", {"PackageStage"}),
        ("agent/src/measure.c", {"TuneStage", "PackageStage", "BenchStage"}),
        ("pipeline/stages/compile.py", {"CompileStage"}),
        ("pipeline/stages/tune.py", {"TuneStage"}),
        ("tuning/search.py", {"TuneStage", "RecallStage"}),
        ("schedules/rules.py", KERNELS),
        ("toolchain/zig.py", {*KERNELS, "PackageStage"}),
        ("compression/prune_channels.py", {"LoadStage", "CompressTorchStage"}),
        ("torchnet/channels/graph.py", {"LoadStage", "CompressTorchStage"}),
        ("compression/quantize_static.py", {"CompressOnnxStage"}),
        ("measuring/stats.py", {"BenchStage"}),
        ("pipeline/stages/evaluate.py", {"EvaluateStage"}),
        ("reporting/html.py", set()),
        ("cli/work.py", set()),
        ("pipeline/pipeline.py", set()),
    ],
)
def test_an_edit_only_re_runs_what_depends_on_it(path, stages, monkeypatch):
    assert changed_by_editing(monkeypatch, path) == stages


def test_the_cuda_compiler_counts_for_every_stage_that_uses_it(tmp_path, monkeypatch):
    nvcc = tmp_path / "nvcc"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    gpu = {
        "TuneStage": TuneSpec(target=ORIN, tune=Tune(trials=1), emulated=False),
        "RecallStage": RecallSpec(target=ORIN, emulated=False),
        "CompileStage": CompileSpec(target=ORIN),
    }
    seen = []
    for release in ("13.0", "13.0", "13.1"):
        nvcc.write_text(f"#!/bin/sh\necho release {release}\n")
        nvcc.chmod(0o755)
        seen.append(
            {
                type(stage).__name__: tuple(
                    key_of(ingredients_of(stage, Request(spec[type(stage).__name__], {})))
                    for spec in (gpu, SPECS)
                )
                for stage in STAGES
                if type(stage).__name__ in gpu
            }
        )
    first, again, other = seen
    assert first == again
    for name in gpu:
        assert first[name][0] != other[name][0], name
        assert first[name][1] == other[name][1], name
