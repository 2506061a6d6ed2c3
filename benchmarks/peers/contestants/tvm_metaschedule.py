"""Stock TVM tuned with its MetaSchedule: the pipeline ``static_shape_tuning`` of TVM's documentation.

It is first tried as documented. With the builder's timeout of 30 seconds per candidate, no candidate is built on a
slow machine. In this case tuning is restarted as in ``tune_relax``, with a builder that has a
longer timeout. The notes say which one was used.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.kit import metaschedule
from benchmarks.kit.serving import end_with_parent
from benchmarks.peers.contestants import tvm as untuned
from benchmarks.peers.protocol import Assignment, Prepared, Unsupported

_DOCUMENTED = "as documented"
_BUILDER_TIMEOUTS_S = {_DOCUMENTED: metaschedule.BUILD_TIMEOUT_S, "with a builder timeout of 600 s": 600.0}
_TUNING_SHARE = 0.85  # of the minutes; the rest is for importing and compiling


class TvmMetaSchedule(untuned.Tvm):
    """As ``Tvm``, after ``task.trials`` trials of MetaSchedule."""

    title = "TVM, MetaSchedule"
    requirements = (*untuned.REQUIREMENTS, "cloudpickle==3.1.2", "psutil==7.2.2", "xgboost-cpu==3.2.0")

    def prepare(self, task: Assignment) -> Prepared:
        """Tune within the time limit, then compile with the records.

        Raises:
            Unsupported: No candidate ran in that time; the message says how many were tried.
        """
        model, notes = untuned.source(task)
        untuned.import_model(model)  # reports unsupported operators before tuning
        end = time.monotonic() + 60 * _TUNING_SHARE * task.minutes
        attempts = []
        for number, (attempt, timeout_s) in enumerate(_BUILDER_TIMEOUTS_S.items()):
            search = metaschedule.Search(task.folder / f"tuning-{number}")
            program = f"import sys; from {__name__} import tune; tune(*sys.argv[1:])"
            argv = [sys.executable, "-c", program, attempt, str(model), str(search.folder)]
            attempts.append(f"{attempt}: {search.run(argv, task.trials, end, timeout_s)}")
            counts = search.count()
            if counts[True]:
                pipeline = _documented_pipeline(search.folder, trials=0)
                notes |= {
                    "tuning": "; ".join(attempts),
                    "trials": counts.total(),
                    "trials_failed": counts[False],
                    "kernels_tuned": search.kernels(),
                }
                return untuned.build(task, model, notes, pipeline)
        raise Unsupported(f"no candidate ran on {os.cpu_count()} cores; {'; '.join(attempts)}")


def _documented_pipeline(folder: object, trials: int) -> Any:
    import tvm
    from tvm import relax

    target = tvm.target.Target(untuned.target())
    return relax.get_pipeline("static_shape_tuning", target=target, total_trials=trials, work_dir=str(folder))


def tune(attempt: str, model: str, folder: str, trials: str) -> None:
    """Run MetaSchedule's search in a separate process; its records are written to ``folder``."""
    import tvm
    from tvm import relax
    from tvm.s_tir import meta_schedule as ms

    end_with_parent()
    module, target = untuned.import_model(Path(model)), tvm.target.Target(untuned.target())
    if attempt == _DOCUMENTED:
        _documented_pipeline(folder, int(trials))(module)
        return
    passes = (  # those of the pipeline before its tuning
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.get_pipeline("zero"),
    )
    with target:
        module = tvm.transform.Sequential(passes)(module)
    builder = ms.builder.LocalBuilder(timeout_sec=_BUILDER_TIMEOUTS_S[attempt])
    ms.relax_integration.tune_relax(module, {}, target, folder, int(trials), builder=builder)
