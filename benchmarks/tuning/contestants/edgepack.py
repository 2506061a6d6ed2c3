"""Tune with edgepack: through a virtual board on this machine, its sshd and the agent."""

import sys
from pathlib import Path
from typing import Any

from benchmarks.tuning.log import TuningJob, Writer, run_tuner


def main(job: TuningJob, log: Writer) -> None:
    """Tune; imports and starting the board count towards the time limit."""
    from edgepack.config.target import load_target
    from edgepack.remote.session import connect
    from edgepack.remote.tools import ensure_tools
    from edgepack.remote.virtual import up
    from edgepack.tuning import BatchMeasured, BoardRunner, CandidateMeasured, PhaseEnded, RecordStore, tune

    target = load_target(job.target)

    def listen(event: Any) -> None:
        if isinstance(event, CandidateMeasured):
            log.write(trial=event.workload, at=log.now, ms=event.ms)
            log.write(recorded=1)  # its record is written before the event
        elif isinstance(event, PhaseEnded):
            log.write(phase=event.phase, began=began + event.began, ended=began + event.ended)
        elif isinstance(event, BatchMeasured):
            print(f"  {log.now:6.0f} s {event.trials:5} trials {event.predicted_ms:8.3f} ms", file=sys.stderr)

    with up("host", owned=True) as board:

        def open_session() -> Any:
            session = connect(board.name, board.device)
            return session, ensure_tools(session, target, board.device.work_dir)

        runner = BoardRunner(open_session, target.tune, shares_host=True)
        began = log.now
        result = tune(
            Path(job.net),
            target,
            runner,
            trials=job.trials,
            minutes=max(0.0, job.minutes - began / 60),
            seed=job.seed,
            store=RecordStore(Path(job.folder)),
            progress=listen,
        )
    for why, count in result.errors[:3]:
        log.write(note=f"{count} candidates failed: {why}")


if __name__ == "__main__":
    run_tuner(main)
