"""Everyone who competes. Each file imports its runtime inside its methods, so that this list costs nothing."""

from benchmarks.peers.contestants.onnxruntime import Onnxruntime
from benchmarks.peers.protocol import Contestant

CONTESTANTS: dict[str, Contestant] = {
    "onnxruntime": Onnxruntime(),
}
