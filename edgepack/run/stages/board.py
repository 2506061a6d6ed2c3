"""The stages that happen on the board: deploy, and measure through the bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.config.recipe import Bench
from edgepack.engine.events import Advanced
from edgepack.engine.stage import Made, Output, Stage, Work

if TYPE_CHECKING:
    import numpy as np

    from edgepack.bench.accuracy import BoardAccuracy
    from edgepack.config.target import Target
    from edgepack.remote.boards import Boards
    from edgepack.remote.session import Session
    from edgepack.tune import BoardRunner

_MISSING = {
    "accuracy": "the recipe has no labelled data",
    "parity": "an output held NaN or infinity",
}


def tuning_runner(boards: "Boards", name: str) -> "Callable[[Target], BoardRunner]":
    """A way to make the runner that measures candidates on the device ``name``."""

    def make(target: "Target") -> "BoardRunner":
        from edgepack.remote.tools import ensure_tools
        from edgepack.tune import BoardRunner

        def connect() -> "tuple[Session, str]":
            session = boards.new_session(name)
            try:
                return session, ensure_tools(session, target, boards.device(name).work_dir)
            except BaseException:
                session.close()
                raise

        return BoardRunner(
            connect, target.tune, device=target.device_kind, shares_host=boards.place(name).virtual
        )

    return make


def _deploy(work: Work) -> Made:
    """Install the bundle; when the board has it already, only the check is made."""
    from edgepack.remote.install import install

    boards, name = work.resources["boards"], work.spec["device"]
    device = boards.device(name)

    def sent(done: int, total: int) -> None:
        told = Advanced.sent(done, total)
        work.resources["advanced"](told.text, told.share)

    done = install(boards.session(name), work.inputs["bundle"], work_dir=device.work_dir, progress=sent)
    return Made(figures={"digest": done.digest, "changed": done.changed, "bytes_sent": done.bytes_sent})


def _bench(work: Work) -> Made:
    """Latency, accuracy and parity on the board, through the bundle's own agent and runtime."""
    import numpy as np

    from edgepack.bench.measure import measure
    from edgepack.remote.scratch import scratch

    boards, name = work.resources["boards"], work.spec["device"]
    spec = Bench.model_validate_json(json.dumps(work.spec["bench"]))
    session = boards.session(name)
    with np.load(work.inputs["samples"], allow_pickle=False) as archive:
        samples = {key: archive[key] for key in archive.files}
    with scratch(session, work.inputs["bundle"], work_dir=boards.device(name).work_dir) as folder:
        work.resources["advanced"]("measuring latency", None)
        measurement = measure(
            session,
            f"{folder}/bin/edgepack-agent",
            f"{folder}/model/model.so",
            _inputs(samples, slice(0, 1), squeeze=True),
            spec,
            emulated=work.spec["emulated"],
            device=work.spec["device_kind"],
        )
        work.resources["advanced"]("measuring accuracy", None)
        answers = _answers(session, folder, samples, spec, work.spec["device_kind"])
    path = measurement.save(work.scratch / "measurement.json")
    return Made(
        {"measurement": Output(path, "measurement", "measurement.json")},
        {"answers": answers.model_dump(mode="json")},
    )


def _inputs(samples: "dict[str, np.ndarray]", rows: Any, *, squeeze: bool = False) -> "dict[str, np.ndarray]":
    names = [key for key in samples if key.startswith("input_")]
    return {key: samples[key][rows][0] if squeeze else samples[key][rows] for key in names}


def _answers(
    session: "Session", folder: str, samples: "dict[str, np.ndarray]", spec: Bench, device: Any
) -> "BoardAccuracy":
    """Run test samples, evenly spaced over the split, and hold the outputs against onnxruntime's."""
    import numpy as np

    from edgepack.bench.measure import evaluate

    count = len(samples["output_0"])
    rows = np.linspace(0, count - 1, min(spec.accuracy_samples or count, count)).astype(int)
    return evaluate(
        session,
        f"{folder}/bin/edgepack-agent",
        f"{folder}/model/model.so",
        _inputs(samples, rows),
        labels=samples["labels"][rows].reshape(-1) if "labels" in samples else None,
        reference=[samples[name][rows] for name in samples if name.startswith("output_")],
        threads=spec.threads,
        device=device,
    )


def row_figures(measurement: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """A bench record as figures of the report's row."""
    from edgepack.bench.measurement import Measurement

    answers = figures["answers"]
    missing = {
        "accuracy_board" if key == "accuracy" else key: answers["why"] or why
        for key, why in _MISSING.items()
        if answers[key] is None
    }
    return {
        "measurement": Measurement.load(measurement),
        "accuracy_board": answers["accuracy"],
        "accuracy_samples": answers["samples"],
        "parity": answers["parity"],
        "missing": missing,
    }


DEPLOY = Stage("deploy", 1, (), (), _deploy)
BENCH = Stage("bench", 1, ("paramiko",), ("agent", "bench", "run/stages/board.py"), _bench)
