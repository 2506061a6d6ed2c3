"""Write the outputs of edgepack's exact reference to a file, computed in a separate process.

    python -m benchmarks.kit.reference MODEL SAMPLES OUT

so that onnxruntime and its threads are not in the process that measures.
"""

import math
import sys
from functools import partial
from pathlib import Path

from benchmarks.kit import places
from benchmarks.kit.correctness import EXACT_S, rows, save_outputs
from benchmarks.kit.processes import run
from edgepack.onnxfile.sessions import open_session

_LIMIT_S = 900


def write(model: Path, samples: Path, out: Path, limit_s: float = math.inf) -> Path:
    """Run the reference on the rows of ``samples``, as many as ``limit_s`` permits, and write the outputs to ``out``."""
    return save_outputs(out, partial(open_session(model).run, None), rows(samples), limit_s)


def write_apart(model: Path, samples: Path, out: Path) -> Path:
    """Call ``write`` in a separate process, within the time limit for exact outputs.

    Raises:
        ProcessFailed: onnxruntime cannot run the model.
    """
    run([sys.executable, "-m", __name__, model, samples, out], cwd=places.ROOT, timeout_s=_LIMIT_S)
    return out


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]), limit_s=EXACT_S)
