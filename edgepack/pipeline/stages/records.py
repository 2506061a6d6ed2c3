"""Shared by stages that use tuning records: their files, and what affects kernels."""

from types import MappingProxyType

from edgepack.config.target import Target
from edgepack.engine.stage import Ingredients

FILES = ("workload.json", "tuning_record.json")
NAMES = MappingProxyType(
    {f"inputs.{name}": "tuning records" for name in (*FILES, "untuned.json")}
)  # in reasons for a re-run
_TOOLS = ("apache-tvm", "apache-tvm-ffi", "xgboost-cpu", "ziglang", "onnx", "onnxscript", "numpy")
_SOURCES = (
    "executor",
    "lower",
    "onnxfile",
    "pipeline/stages/records.py",
    "schedules",
    "toolchain",
    "weightfile",
)


def ingredients(target: Target, *sources: str) -> Ingredients:
    """What affects the kernels of a target: tools, edgepack's own code, ``sources``, and the CUDA compiler for GPUs."""
    from edgepack.toolchain.cuda import compiler_identity

    identities = {} if target.gpu is None else {"cuda_compiler": compiler_identity()}
    return Ingredients(_TOOLS, (*_SOURCES, *sources), identities)
