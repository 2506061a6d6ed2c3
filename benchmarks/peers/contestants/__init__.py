"""All contestants. Each file imports its runtime inside its methods, so that importing this list is cheap."""

from benchmarks.peers.contestants.edgepack import Edgepack
from benchmarks.peers.contestants.executorch import Executorch
from benchmarks.peers.contestants.litert import Litert
from benchmarks.peers.contestants.mnn import Mnn
from benchmarks.peers.contestants.ncnn import Ncnn
from benchmarks.peers.contestants.onnxruntime import Onnxruntime, OnnxruntimePrecise
from benchmarks.peers.contestants.openvino import Openvino, OpenvinoPrecise
from benchmarks.peers.contestants.torch_compile import TorchCompile
from benchmarks.peers.contestants.tvm import Tvm
from benchmarks.peers.contestants.tvm_metaschedule import TvmMetaSchedule
from benchmarks.peers.protocol import Contestant

CONTESTANTS: dict[str, Contestant] = {
    "edgepack": Edgepack(),
    "tvm": Tvm(),
    "tvm_metaschedule": TvmMetaSchedule(),
    "onnxruntime": Onnxruntime(),
    "onnxruntime_precise": OnnxruntimePrecise(),
    "openvino": Openvino(),
    "openvino_precise": OpenvinoPrecise(),
    "executorch": Executorch(),
    "ncnn": Ncnn(),
    "mnn": Mnn(),
    "litert": Litert(),
    "torch_compile": TorchCompile(),
}
