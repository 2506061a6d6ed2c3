"""Run a compiled model in this process, for tests and benchmarks; boards run it with the agent."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgepack.errors import EdgepackError
from edgepack.lower.emit.aot.executor import NET
from edgepack.weightfile.file import weights_path

if TYPE_CHECKING:
    import numpy as np

_TEXT = 4096  # EDGEPACK_TEXT in edgepack.h
_DTYPES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}  # by DLPack's code


class HostModel(Protocol):
    """A compiled model that is open in this process."""

    def __call__(self, *inputs: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs for these inputs."""

    def bind(self, *inputs: "np.ndarray") -> Callable[[], Any]:
        """Return a function that does one inference on these inputs, for timing."""


def open_on_host(library: Path, device: Any = None, threads: int = 1) -> HostModel:
    """Load a compiled model with its weights.

    Args:
        library: built for this machine.
        device: of TVM; the CPU if None.
        threads: of a model with its own runtime; TVM's virtual machine has as many as the environment says.

    Raises:
        EdgepackError: the model's own runtime refuses it.
    """
    own = ctypes.CDLL(str(library)) if device is None and _has_runtime(library) else None
    return _OnMachine(library, device) if own is None else _OnRuntime(own, library, threads)


def _has_runtime(library: Path) -> bool:
    return NET.encode() in library.read_bytes()


class _OnMachine:
    """A model that TVM's virtual machine executes."""

    def __init__(self, library: Path, device: Any) -> None:
        import tvm

        self._device = device or tvm.cpu()
        module = tvm.runtime.load_module(str(library))
        opening = module.get_function("open_model", query_imports=True)
        where = self._device
        self._entry = opening(module, str(weights_path(library)), -1, where.dlpack_device_type(), where.index)

    def __call__(self, *inputs: "np.ndarray") -> "list[np.ndarray]":
        got = self.bind(*inputs)()
        return [each.numpy() for each in ([got] if hasattr(got, "numpy") else got)]

    def bind(self, *inputs: "np.ndarray") -> Callable[[], Any]:
        import tvm

        given = [tvm.runtime.tensor(each, self._device) for each in inputs]
        return lambda: self._entry(*given)


class _TensorInfo(ctypes.Structure):
    """``edgepack_tensor`` in edgepack.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("size", ctypes.c_uint64),
    )

    def array(self) -> "np.ndarray":
        """An empty array of this type."""
        import ml_dtypes
        import numpy as np

        kind = _DTYPES[self.code]
        name = kind if kind == "bool" else f"{kind}{self.bits}"
        dtype = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
        return np.zeros(self.shape[: self.rank], dtype)


class _OnRuntime:
    """A model with its own runtime."""

    def __init__(self, api: ctypes.CDLL, library: Path, threads: int) -> None:
        api.edgepack_input_info.restype = api.edgepack_output_info.restype = ctypes.POINTER(_TensorInfo)
        api.edgepack_output.restype = ctypes.c_void_p
        self._api, self._model = api, ctypes.c_void_p()
        net = ctypes.byref(ctypes.c_char.in_dll(api, NET))
        why = ctypes.create_string_buffer(_TEXT)
        weights = str(weights_path(library)).encode()
        if api.edgepack_open(net, weights, threads, ctypes.byref(self._model), why):
            raise EdgepackError("cannot open the model", where=str(library), why=why.value.decode())
        self._inputs = [api.edgepack_input_info(net, n)[0] for n in range(api.edgepack_input_count(net))]
        self._outputs = [api.edgepack_output_info(net, n)[0] for n in range(api.edgepack_output_count(net))]

    def __call__(self, *inputs: "np.ndarray") -> "list[np.ndarray]":
        self.bind(*inputs)()
        results = [each.array() for each in self._outputs]
        for number, result in enumerate(results):
            ctypes.memmove(result.ctypes.data, self._api.edgepack_output(self._model, number), result.nbytes)
        return results

    def bind(self, *inputs: "np.ndarray") -> Callable[[], Any]:
        self._check(inputs)
        for number, value in enumerate(inputs):
            data = value.tobytes()  # in C order
            self._api.edgepack_set_input(self._model, number, data, ctypes.c_size_t(len(data)))
        return self._infer

    def _infer(self) -> None:
        if self._api.edgepack_run(self._model):
            raise EdgepackError("the inference failed: out of memory")

    def _check(self, inputs: "Sequence[np.ndarray]") -> None:
        given = [(value.shape, value.dtype) for value in inputs]
        wanted = [(each.shape, each.dtype) for each in (info.array() for info in self._inputs)]
        if given != wanted:
            raise EdgepackError("inputs of another shape or type", why=f"{given} in place of {wanted}")

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._api.edgepack_close(self._model)
