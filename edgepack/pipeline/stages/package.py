"""``package``: the bundle with the compiled model and all that it needs on the board."""

from types import MappingProxyType
from typing import TYPE_CHECKING

from edgepack.agent.protocol import PROTOCOL, linking
from edgepack.base.versions import tool_version
from edgepack.bundle.manifest import Contents, InputInfo, RecipeInfo, Scores, TargetInfo, Tokenizer
from edgepack.config.recipe import Recipe
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import TargetStage
from edgepack.pipeline.figures import CompileFigures, EvaluateFigures
from edgepack.pipeline.state import Resources, TargetRun
from edgepack.spec import Spec, Tensor

if TYPE_CHECKING:
    from edgepack.pipeline.stages.compile import CompileStage
    from edgepack.pipeline.stages.evaluate import EvaluateStage

_MANIFEST_TOOLS = ("edgepack", "apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "torch", "ziglang")


class PackageSpec(Spec):
    """The manifest without its files, and the runtime libraries to include."""

    contents: Contents
    runtime: tuple[str, ...]


class PackageFigures(Spec):
    """The release digest."""

    digest: str


class PackageStage(TargetStage[PackageSpec, PackageFigures]):
    """Packs the bundle of a release."""

    name = "package"
    figures = PackageFigures
    derived = (
        "inputs.calls",
        "inputs.objects",
        "inputs.samples",
        "inputs.weights",
        "spec.contents.classes",
        "spec.contents.compression",
        "spec.contents.constants",
        "spec.contents.inputs",
        "spec.contents.outputs",
        "spec.contents.recipe.digest",
        "spec.contents.scores",
        "spec.runtime",
    )
    names = MappingProxyType(
        {"spec.contents.": "", "spec.contents.recipe.content.": "", "spec.contents.tools.": ""}
    )

    def __init__(self, evaluate: "EvaluateStage", compile_: "CompileStage") -> None:
        self._evaluate = evaluate
        self._compile = compile_

    def ingredients(self, spec: PackageSpec) -> Ingredients:
        """The code that packs the bundle and builds its agent."""
        del spec
        tools = ("apache-tvm", "apache-tvm-ffi", "ziglang", "zstandard")
        return Ingredients(
            tools,
            (
                "agent",
                "bundle",
                "executor",
                "pipeline/stages/package.py",
                "toolchain",
                "weightfile/loader.py",
                "weightfile/src",
            ),
        )

    def request(self, at: TargetRun) -> Request[PackageSpec]:
        """The request, for every candidate."""
        compiled = at.of(self._compile)
        evaluated = at.model.of(self._evaluate)
        contents = _contents(at, compiled.figures, evaluated.figures)
        files = {"model": compiled.artifacts["model"], "samples": evaluated.artifacts["samples"]}
        others = ("calls", "weights", "objects")
        files |= {role: compiled.artifacts[role] for role in others if role in compiled.artifacts}
        return Request(PackageSpec(contents=contents, runtime=compiled.figures.runtime), files)

    def run(self, work: Work[PackageSpec, Resources]) -> StageResult[PackageFigures]:
        """Gather the files and pack them."""
        from edgepack.bundle.archive import pack, read_manifest
        from edgepack.bundle.files import release_files

        contents = work.spec.contents
        files = release_files(
            contents.target,
            work.inputs["model"],
            work.inputs["samples"],
            weights=work.inputs.get("weights"),
            kernels=work.inputs["calls"],
            objects=work.inputs.get("objects"),
            executor=contents.executor,
            runtime=work.spec.runtime,
        )
        out = pack(work.scratch / contents.filename, contents, files)
        figures = PackageFigures(digest=read_manifest(out).digest)
        return StageResult(figures, {"bundle": Output(out, "bundle", contents.filename)})


def _contents(at: TargetRun, compiled: CompileFigures, evaluated: EvaluateFigures) -> Contents:
    """The manifest of a build, with the part of the recipe that affects it."""
    recipe = at.model.plan.recipe
    return Contents(
        name=recipe.name,
        version=recipe.version,
        candidate=at.candidate.name,
        agent_protocol=PROTOCOL,
        agent_linking=linking(compiled.executor),
        recipe=RecipeInfo.of(recipe, at.candidate.steps),
        target=TargetInfo.of(at.target.target),
        tools={name: tool_version(name) for name in _MANIFEST_TOOLS},
        inputs=tuple(_input(recipe, tensor, evaluated.vocabulary) for tensor in compiled.inputs),
        outputs=compiled.outputs,
        classes=evaluated.classes or None,
        compression=tuple(at.model.figures),
        constants=compiled.constants,
        executor=compiled.executor,
        executor_reason=compiled.executor_reason,
        memory=compiled.memory,
        scores=Scores(torch=at.model.torch_score, onnxruntime=evaluated.score),
    )


def _input(recipe: Recipe, tensor: Tensor, vocabulary: tuple[str, ...]) -> InputInfo:
    """An input with its preprocessing, if the recipe's data block defines it."""
    data = recipe.data
    text = None if data is None else data.csv or data.jsonl
    tokenizer = None
    if text is not None:
        tokenizer = Tokenizer(kind=text.tokenizer, length=text.length, vocabulary=vocabulary)
    return InputInfo(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        preprocess=None if data is None else data.preprocess(tensor.shape),
        tokenizer=tokenizer,
    )
