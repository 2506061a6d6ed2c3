"""``compile``: ONNX to a library and its weights file, with tuning records and schedules for untuned kernels.

The kernels and their calls are listed in the file ``calls``.

The object files of a model with its own runtime are another file, ``objects``: the bundle's agent is linked with them.

For a GPU, the sources of the CUDA kernels are a second file, ``kernels``. Only emulated GPUs need it: a bundle contains
the kernels compiled, never their source.
"""

from edgepack.config.target import Target
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import TargetStage
from edgepack.pipeline.figures import CompileFigures
from edgepack.pipeline.stages import records
from edgepack.pipeline.state import Resources, TargetRun
from edgepack.spec import Spec


class CompileSpec(Spec):
    """The target."""

    target: Target


class CompileStage(TargetStage[CompileSpec, CompileFigures]):
    """Compiles the model for a target."""

    name = "compile"
    figures = CompileFigures
    derived = tuple(records.NAMES)
    names = records.NAMES

    def ingredients(self, spec: CompileSpec) -> Ingredients:
        """The code that generates kernels and the library."""
        sources = ("emulation/sources.py",) if spec.target.gpu else ()
        return records.ingredients(spec.target, "pipeline/stages/compile.py", *sources)

    def request(self, at: TargetRun) -> Request[CompileSpec]:
        """The compilation; records of ``tune`` or ``recall`` are inputs if there are any."""
        found = {name: at.artifacts[name] for name in records.FILES if name in at.artifacts}
        return Request(
            CompileSpec(target=at.target.target.kernels), {"onnx": at.model.artifacts["onnx"], **found}
        )

    def run(self, work: Work[CompileSpec, Resources]) -> StageResult[CompileFigures]:
        """Lower, build, link."""
        from edgepack.emulation.sources import write as write_sources
        from edgepack.lower import compile_model
        from edgepack.lower.phases import executors_for

        folder = None
        if records.FILES[1] in work.inputs:
            folder = work.scratch / "records"
            folder.mkdir()
            for name in records.FILES:
                (folder / name).symlink_to(work.inputs[name])
        out = work.scratch / executors_for(work.spec.target)[0].file
        compiled = compile_model(
            work.inputs["onnx"],
            work.spec.target,
            out,
            records=folder,
            objects=work.scratch / "model.a",
            progress=lambda step: work.progress(step, None),
        )
        figures = CompileFigures(
            kernels=compiled.kernels,
            inputs=compiled.inputs,
            outputs=compiled.outputs,
            constants=compiled.constants,
            executor=compiled.executor,
            executor_reason=compiled.executor_reason,
            memory=compiled.memory,
            runtime=compiled.runtime,
            warnings=compiled.warnings,
        )
        files = {"model": Output(out, "compiled-model", out.name)}
        if compiled.weights:
            files["weights"] = Output(compiled.weights, "weights", compiled.weights.name)
        listed = compiled.calls.save(work.scratch / "kernels.json")
        files["calls"] = Output(listed, "kernels", listed.name)
        if compiled.objects:
            files["objects"] = Output(compiled.objects, "objects", compiled.objects.name)
        if work.spec.target.gpu:
            sources = work.scratch / "kernels.cu"
            write_sources(sources, compiled.sources)
            files["kernels"] = Output(sources, "kernel-sources", sources.name)
        return StageResult(figures, files)
