"""Runs the model of this bundle on .npy files and prints the largest values of its first output.

    python3 infer.py [MODEL.so INPUT.npy...]

Only numpy is needed: the runtime in ../lib is called through ctypes and its stable C ABI. The part used
here is declared below; see tvm/ffi/c_api.h of apache-tvm-ffi for the rest.
"""

# ruff: noqa: T201 - a command-line program prints

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

BUNDLE = Path(__file__).resolve().parent.parent
NONE, INTEGER, BOOL, TENSOR_POINTER, TEXT, ARRAY = 0, 1, 2, 7, 8, 71
CPU = 1
HEADER = 24  # size of every object's header in bytes; the payload follows
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLPack type codes by numpy dtype kind


class Bytes(ctypes.Structure):
    """TVMFFIByteArray."""

    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class Value(ctypes.Union):
    """The eight bytes of an Any."""

    _fields_ = [("integer", ctypes.c_int64), ("text", ctypes.c_char_p), ("pointer", ctypes.c_void_p)]


class Any(ctypes.Structure):
    """TVMFFIAny: a type and a value."""

    _fields_ = [("type", ctypes.c_int32), ("zero", ctypes.c_uint32), ("value", Value)]


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


ffi = ctypes.CDLL(str(BUNDLE / "lib" / "libtvm_ffi.so"), mode=ctypes.RTLD_GLOBAL)
ctypes.CDLL(str(BUNDLE / "lib" / "libtvm_runtime.so"), mode=ctypes.RTLD_GLOBAL)


def any_of(value: Any | int | str | Tensor) -> Any:
    """A Python value as an argument: an Any, an int, a bool, a str or a Tensor."""
    if isinstance(value, Any):
        return value
    if isinstance(value, bool):
        return Any(BOOL, 0, Value(integer=value))
    if isinstance(value, int):
        return Any(INTEGER, 0, Value(integer=value))
    if isinstance(value, str):
        return Any(TEXT, 0, Value(text=value.encode()))
    return Any(TENSOR_POINTER, 0, Value(pointer=ctypes.addressof(value)))


def call(function: int, *values: Any | int | str | Tensor) -> Any:
    """Call a function of the runtime; an error of TVM becomes a RuntimeError."""
    arguments = (Any * len(values))(*map(any_of, values))
    result = Any()
    if ffi.TVMFFIFunctionCall(ctypes.c_void_p(function), arguments, len(values), ctypes.byref(result)):
        error = ctypes.c_void_p()
        ffi.TVMFFIErrorMoveFromRaised(ctypes.byref(error))
        message = (Bytes * 3).from_address(int(error.value or 0) + HEADER)[1]  # kind, message, backtrace
        raise RuntimeError(message.data[: message.size].decode())
    return result


def global_function(name: str) -> int:
    """A function of the runtime by its name."""
    function = ctypes.c_void_p()
    key = Bytes(name.encode(), len(name))
    if ffi.TVMFFIFunctionGetGlobal(ctypes.byref(key), ctypes.byref(function)) or not function.value:
        raise RuntimeError(f"this runtime has no function {name}")
    return function.value


def function_of(module: Any, name: str) -> int:
    """The function ``name`` of a module."""
    found = call(global_function("ffi.ModuleGetFunction"), module, name, True)
    if found.type == NONE:
        raise RuntimeError(f"the model has no function {name}")
    return int(found.value.pointer)


def load(path: Path, inputs: int) -> int:
    """Load a model with its weights, which are in MODEL.so.weights; returns it as a function of its inputs."""
    library = call(global_function("ffi.ModuleLoadFromFile"), str(path))
    opened = call(function_of(library, "open_model"), library, f"{path}.weights", inputs, CPU, 0)
    return int(opened.value.pointer)


def tensor_of(array: np.ndarray) -> Tensor:
    """An array as a Tensor whose data is aligned to 64 bytes, as compiled code requires."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    data = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    data[...] = array
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    strides = (ctypes.c_int64 * array.ndim)(*(step // array.itemsize for step in data.strides))
    bits = array.itemsize * 8
    tensor = Tensor(data.ctypes.data, CPU, 0, array.ndim, CODES[array.dtype.kind], bits, 1, shape, strides, 0)
    tensor.memory = memory  # kept alive as long as the tensor
    return tensor


def array_of(tensor: Tensor) -> np.ndarray:
    """A copy of a Tensor's contents."""
    kind = next(kind for kind, code in CODES.items() if code == tensor.code)
    dtype = np.dtype(f"{kind}{tensor.bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    memory = ctypes.string_at(tensor.data + tensor.byte_offset, int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(memory, dtype).reshape(shape)


def infer(model: int, inputs: list[np.ndarray]) -> np.ndarray:
    """One inference: the model's first output as an array."""
    tensors = [tensor_of(np.ascontiguousarray(array).reshape(array.shape)) for array in inputs]
    result = call(model, *tensors)
    whole = result.value.pointer
    if result.type == ARRAY:
        result = call(global_function("ffi.ArrayGetItem"), result, 0)
    output = array_of(Tensor.from_address(result.value.pointer + HEADER))
    for owned in {whole, result.value.pointer}:
        ffi.TVMFFIObjectDecRef(ctypes.c_void_p(owned))
    return output


def main() -> None:
    """Run the model on the files named by the arguments, or on the bundle's sample."""
    paths = [Path(word) for word in sys.argv[1:]]
    model, *inputs = paths or [
        BUNDLE / "model" / "model.so",
        *sorted((BUNDLE / "sample").glob("input-*.npy")),
    ]
    output = infer(load(model, len(inputs)), [np.load(path, allow_pickle=False) for path in inputs]).ravel()
    for index in np.argsort(-output.astype(np.float64), kind="stable")[:5]:
        print(f"{index:8d}  {output[index]:g}")


if __name__ == "__main__":
    main()
