"""``recall``: the best earlier tuning records for this kind of board, without measuring."""

from edgepack.config.target import Target
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import TargetStage
from edgepack.pipeline.fingerprint import of_user
from edgepack.pipeline.stages import records
from edgepack.pipeline.state import Resources, TargetRun
from edgepack.spec import Spec


class RecallSpec(Spec):
    """The kind of board."""

    target: Target
    emulated: bool


class RecallFigures(Spec):
    """Whether there are records for the model's kernels."""

    has_records: bool


class RecallStage(TargetStage[RecallSpec, RecallFigures]):
    """Provides records to ``compile`` if nothing was tuned in this run."""

    name = "recall"
    figures = RecallFigures
    names = records.NAMES

    def ingredients(self, spec: RecallSpec) -> Ingredients:
        """The code that names kernels."""
        return records.ingredients(spec.target, "agent/build.py", "pipeline/stages/recall.py", "tuning")

    def request(self, at: TargetRun) -> Request[RecallSpec] | None:
        """A look-up, if ``tune`` did not run and there are earlier records."""
        from edgepack.tuning.store import RecordStore

        files = RecordStore.of_user(emulated=at.emulated).files(at.target.target)
        measured = {name: of_user(path) for name, path in files.items()}
        if measured and records.FILES[0] not in at.artifacts:
            spec = RecallSpec(target=at.target.target.kernels, emulated=at.emulated)
            return Request(spec, {"onnx": at.model.artifacts["onnx"], **measured})
        return None

    def run(self, work: Work[RecallSpec, Resources]) -> StageResult[RecallFigures]:
        """Select the best records for the model's kernels, from tuning any model."""
        from edgepack.tuning import RecordStore, best_records

        store = RecordStore.of_user(emulated=work.spec.emulated)
        best = best_records(work.inputs["onnx"], work.spec.target, store)
        if best is None or not (best / records.FILES[1]).stat().st_size:
            return StageResult(RecallFigures(has_records=False))
        files = {name: Output(best / name, "tuning-records", name) for name in records.FILES}
        return StageResult(RecallFigures(has_records=True), files)
