"""What the stages that deal in tuning records share: the files, what was measured so far, what shapes kernels."""

from edgepack.config.target import Target
from edgepack.engine.artifact import Artifact
from edgepack.engine.stage import Ingredients
from edgepack.run.fingerprint import of_user

FILES = ("workload.json", "tuning_record.json")
_TOOLS = ("apache-tvm", "apache-tvm-ffi", "xgboost-cpu", "ziglang", "onnx", "onnxscript", "numpy")
_SOURCES = ("lower", "onnxfile", "run/stages/records.py", "schedules", "toolchain")


def ingredients(target: Target, *sources: str) -> Ingredients:
    """What makes kernels for a target: tools, our own code and ``sources``, the CUDA compiler for GPUs."""
    from edgepack.toolchain.cuda import compiler_identity

    identities = {} if target.gpu is None else {"cuda_compiler": compiler_identity()}
    return Ingredients(_TOOLS, (*_SOURCES, *sources), identities)


def measured(target: Target, *, emulated: bool) -> dict[str, Artifact]:
    """What was measured for this target so far, by any model's tuning: inputs of ``recall``; empty where nothing was."""
    from edgepack.tune.store import RecordStore

    folder = RecordStore.of_user(emulated=emulated).path(target)
    files = {name: folder / name for name in (*FILES, "untuned.json")}
    return {name: of_user(path) for name, path in files.items() if path.is_file()}
