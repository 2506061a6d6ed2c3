"""What the stages that deal in tuning records share: the files, and what shapes kernels."""

from types import MappingProxyType

from edgepack.config.target import Target
from edgepack.engine.stage import Ingredients

FILES = ("workload.json", "tuning_record.json")
NAMES = MappingProxyType(
    {f"inputs.{name}": "tuning records" for name in (*FILES, "untuned.json")}
)  # in reasons
_TOOLS = ("apache-tvm", "apache-tvm-ffi", "xgboost-cpu", "ziglang", "onnx", "onnxscript", "numpy")
_SOURCES = ("lower", "onnxfile", "pipeline/stages/records.py", "schedules", "toolchain")


def ingredients(target: Target, *sources: str) -> Ingredients:
    """What makes kernels for a target: tools, our own code and ``sources``, the CUDA compiler for GPUs."""
    from edgepack.toolchain.cuda import compiler_identity

    identities = {} if target.gpu is None else {"cuda_compiler": compiler_identity()}
    return Ingredients(_TOOLS, (*_SOURCES, *sources), identities)
