"""``recall``: without measuring anything, the best of what was measured earlier for this kind of board."""

from edgepack.config.target import Target
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import TargetStage
from edgepack.pipeline.fingerprint import of_user
from edgepack.pipeline.stages import records
from edgepack.pipeline.state import Resources, TargetRun
from edgepack.spec import Spec


class RecallSpec(Spec):
    """For which kind of board."""

    target: Target
    emulated: bool


class RecallFigures(Spec):
    """Whether anything was found for the model's kernels."""

    found: bool


class RecallStage(TargetStage[RecallSpec, RecallFigures]):
    """Where nothing was tuned in this run; its result is the records that compile reads."""

    name = "recall"
    figures = RecallFigures
    names = records.NAMES

    def ingredients(self, spec: RecallSpec) -> Ingredients:
        """All that names kernels."""
        return records.ingredients(spec.target, "pipeline/stages/recall.py", "tuning")

    def request(self, at: TargetRun) -> Request[RecallSpec] | None:
        """A look-up, where ``tune`` was left out and something was measured before."""
        from edgepack.tuning.store import RecordStore

        files = RecordStore.of_user(emulated=at.emulated).files(at.target.target)
        measured = {name: of_user(path) for name, path in files.items()}
        if measured and records.FILES[0] not in at.artifacts:
            spec = RecallSpec(target=at.target.target.kernels, emulated=at.emulated)
            return Request(spec, {"onnx": at.model.artifacts["onnx"], **measured})
        return None

    def run(self, work: Work[RecallSpec, Resources]) -> StageResult[RecallFigures]:
        """The best records measured so far for the model's kernels, by tuning of whichever model."""
        from edgepack.tuning import RecordStore, best_records

        store = RecordStore.of_user(emulated=work.spec.emulated)
        best = best_records(work.inputs["onnx"], work.spec.target, store)
        if best is None or not (best / records.FILES[1]).stat().st_size:
            return StageResult(RecallFigures(found=False))
        files = {name: Output(best / name, "tuning-records", name) for name in records.FILES}
        return StageResult(RecallFigures(found=True), files)
