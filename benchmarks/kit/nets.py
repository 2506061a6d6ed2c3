"""The measured networks as files, created once and cached.

    python -m benchmarks.kit.nets NET FOLDER

creates them in a separate process, so that torch and its threads are not in the one that measures.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.kit import places, reference
from benchmarks.kit.processes import ProcessFailed, last_line, run
from edgepack.base.files import sha256_json
from edgepack.base.text import near_miss
from edgepack.base.versions import tool_version
from edgepack.engine.keys import code_digest
from edgepack.errors import EdgepackError, UsageError
from edgepack.zoo import NETS

CALIBRATION_SAMPLES = 32
INPUT_SAMPLES = 3  # outputs of all of them are compared; the last one is timed
_SEEDS = {"weights": 0, "calibration": 1, "inputs": 2}
_FILES = (
    "model.onnx",
    "weights.pt",
    "calibration.npz",
    "inputs.npz",
    "reference.npz",
    "calibration-reference.npz",
)
_LIMIT_S = 900


@dataclass(frozen=True)
class Artifacts:
    """The files of one net; arrays are named by input or output, ``[samples, *shape]``."""

    net: str
    title: str
    macs: int  # per inference, as published
    onnx: Path  # the fp32 model, canonical ONNX
    weights: Path  # the torch module's state_dict
    calibration: Path  # for quantization
    inputs: Path  # inputs of the compared and timed inferences
    reference: Path  # onnxruntime's fp32 outputs for them: ``output_0`` etc.
    calibration_reference: Path  # the same for the calibration samples

    @classmethod
    def below(cls, folder: Path, net: str, title: str, macs: int) -> "Artifacts":
        """Return the files of a net in its folder."""
        return cls(net, title, macs, *(folder / name for name in _FILES))


def network(name: str) -> Path:
    """Return a network as an .onnx file: a key of ``edgepack.zoo.NETS``, or the user's own file.

    Raises:
        UsageError: There is no such network or file.
    """
    path = Path(name)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise UsageError(f"no such file: {name}")
        return path.resolve()
    if name not in NETS:
        known = near_miss(name, NETS, say="give an .onnx file or one of")
        raise UsageError(f"there is no network {name}{known}")
    return artifacts(name).onnx


def artifacts(net: str) -> Artifacts:
    """Return the files of ``edgepack.zoo.NETS[net]``, created if missing or outdated.

    Raises:
        EdgepackError: They cannot be created.
    """
    folder = places.CACHE / "nets" / net
    net_files, key = folder / "made.json", _key()
    if not net_files.is_file() or json.loads(net_files.read_text())["key"] != key:
        fresh = folder.with_name(f"{net}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            run([sys.executable, "-m", __name__, net, fresh], cwd=places.ROOT, timeout_s=_LIMIT_S)
        except ProcessFailed as error:
            why = last_line(error.said) or error.how
            raise EdgepackError("the net cannot be exported", where=net, why=why) from error
        (fresh / "made.json").write_text(json.dumps({"key": key}) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return Artifacts.below(folder, net, NETS[net].title, NETS[net].macs)


def _key() -> str:
    tools = {name: tool_version(name) for name in ("python", "numpy", "onnx", "onnxruntime", "torch")}
    code = [code_digest(part) for part in ("zoo", "export", "onnxfile")]
    samples = [CALIBRATION_SAMPLES, INPUT_SAMPLES]
    return sha256_json({"tools": tools, "code": code, "seeds": _SEEDS, "samples": samples, "files": _FILES})


def make(net: str, folder: Path) -> None:
    """Write the files of ``net`` to ``folder``."""
    import torch

    definition = NETS[net]
    folder.mkdir(parents=True)
    net_files = Artifacts.below(folder, net, definition.title, definition.macs)
    definition.export(net_files.onnx, seed=_SEEDS["weights"])
    torch.save(definition.network(_SEEDS["weights"]).state_dict(), net_files.weights)
    np.savez(net_files.calibration, **definition.samples(CALIBRATION_SAMPLES, _SEEDS["calibration"]))
    np.savez(net_files.inputs, **definition.samples(INPUT_SAMPLES, _SEEDS["inputs"]))
    write_references(net_files)


def write_references(net_files: Artifacts) -> None:
    """Run onnxruntime on ``net_files.inputs`` and ``net_files.calibration``."""
    reference.write(net_files.onnx, net_files.inputs, net_files.reference)
    reference.write(net_files.onnx, net_files.calibration, net_files.calibration_reference)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
