"""What all contestants are given: each net as files, made once and kept in the cache.

    python -m benchmarks.kit.nets NET FOLDER

makes them in a process of its own, so that torch stays out of the benchmark's.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kit.places import CACHE, ROOT
from edgepack.base.files import sha256_json
from edgepack.engine.stage import code_digest, tool_version
from edgepack.errors import EdgepackError

CALIBRATION_SAMPLES = 32
INPUT_SAMPLES = 3  # outputs are compared on all of them, timed on the last
_SEEDS = {"weights": 0, "calibration": 1, "inputs": 2}
_LIMIT_S = 900


@dataclass(frozen=True)
class Artifacts:
    """The files of one net."""

    net: str
    title: str
    macs: int  # of one inference, as published
    folder: Path

    @property
    def onnx(self) -> Path:
        """The fp32 model, canonical ONNX."""
        return self.folder / "model.onnx"

    @property
    def weights(self) -> Path:
        """The torch module's state_dict."""
        return self.folder / "weights.pt"

    @property
    def calibration(self) -> Path:
        """For quantization: by input name, ``[samples, *shape]``."""
        return self.folder / "calibration.npz"

    @property
    def inputs(self) -> Path:
        """What is inferred, compared and timed: by input name, ``[samples, *shape]``."""
        return self.folder / "inputs.npz"

    @property
    def reference(self) -> Path:
        """The fp32 outputs of onnxruntime for ``inputs``: ``output_0`` and so on, ``[samples, *shape]``."""
        return self.folder / "reference.npz"


def artifacts(net: str) -> Artifacts:
    """The files of ``edgepack.zoo.NETS[net]``, made if they are not there or of other sources.

    Raises:
        EdgepackError: They cannot be made.
    """
    from edgepack.zoo import NETS

    folder = CACHE / "nets" / net
    found = Artifacts(net, NETS[net].title, NETS[net].macs, folder)
    key = _key()
    if not _made_from(folder, key):
        fresh = folder.with_name(f"{net}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        _make_apart(net, fresh)
        (fresh / "made.json").write_text(json.dumps({"key": key}) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return found


def _key() -> str:
    tools = {name: tool_version(name) for name in ("python", "numpy", "onnx", "onnxruntime", "torch")}
    code = code_digest(("zoo", "export", "onnxfile"))
    return sha256_json(
        {"tools": tools, "code": code, "seeds": _SEEDS, "samples": [CALIBRATION_SAMPLES, INPUT_SAMPLES]}
    )


def _made_from(folder: Path, key: str) -> bool:
    made = folder / "made.json"
    return made.is_file() and json.loads(made.read_text())["key"] == key


def _make_apart(net: str, folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.kit.nets", net, str(folder)]
    try:
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().splitlines()
        raise EdgepackError(
            "the net cannot be exported", where=net, why=words[-1] if words else f"exit {error.returncode}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EdgepackError("the export did not end", where=net, why=f"after {_LIMIT_S} s") from error


def make(net: str, folder: Path) -> None:
    """Write the files of ``net`` into ``folder``."""
    import numpy as np
    import torch

    from edgepack.zoo import NETS

    definition = NETS[net]
    folder.mkdir(parents=True)
    made = Artifacts(net, definition.title, definition.macs, folder)
    definition.export(made.onnx, seed=_SEEDS["weights"])
    torch.save(definition.network(_SEEDS["weights"]).state_dict(), made.weights)
    np.savez(made.calibration, **definition.samples(CALIBRATION_SAMPLES, _SEEDS["calibration"]))
    np.savez(made.inputs, **definition.samples(INPUT_SAMPLES, _SEEDS["inputs"]))
    write_reference(made)


def write_reference(made: Artifacts) -> None:
    """Run onnxruntime on ``made.inputs`` and write ``made.reference``."""
    import numpy as np

    from benchmarks.peers.protocol import rows
    from edgepack.export.runtime import open_session

    session = open_session(made.onnx)
    outputs = [session.run(None, row) for row in rows(made.inputs)]
    stacked = {f"output_{i}": np.stack(column) for i, column in enumerate(zip(*outputs, strict=True))}
    np.savez(made.reference, **stacked)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
