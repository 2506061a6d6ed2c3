"""Runs the model of this bundle on .npy files and prints the largest values of its first output.

    python3 infer.py [MODEL.so INPUT.npy...]

Only numpy is needed: the functions of ../include/edgepack.h, which model.so has, are called through ctypes.
"""

# ruff: noqa: T201 - a command-line program prints

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

BUNDLE = Path(__file__).resolve().parent.parent
KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}  # numpy's kinds of elements by DLPack's codes


class Tensor(ctypes.Structure):
    """edgepack_tensor."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("size", ctypes.c_uint64),
        ("scale", ctypes.c_float),
        ("zero_point", ctypes.c_int32),
    ]

    @property
    def dtype(self) -> np.dtype:
        """The type of its elements."""
        return np.dtype(f"{KINDS[self.code]}{self.bits // 8}")


class Model:
    """A model with its weights, which are in the file MODEL.so.weights."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._api = ctypes.CDLL(str(path.resolve()))
        for name in ("edgepack_input_info", "edgepack_output_info"):
            getattr(self._api, name).restype = ctypes.POINTER(Tensor)
        self._api.edgepack_output.restype = ctypes.c_void_p
        net = ctypes.byref(ctypes.c_char.in_dll(self._api, "edgepack_this_net"))
        self._model, why = ctypes.c_void_p(), ctypes.create_string_buffer(4096)
        if self._api.edgepack_open(net, f"{path}.weights".encode(), threads, ctypes.byref(self._model), why):
            raise RuntimeError(why.value.decode())
        self.inputs = self._tensors(net, "input")
        self.outputs = self._tensors(net, "output")

    def _tensors(self, net: object, role: str) -> list[Tensor]:
        count = getattr(self._api, f"edgepack_{role}_count")(net)
        return [getattr(self._api, f"edgepack_{role}_info")(net, i).contents for i in range(count)]

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """One inference: the outputs as arrays."""
        if len(arrays) != len(self.inputs):
            raise ValueError(f"the model has {len(self.inputs)} inputs")
        for number, (array, tensor) in enumerate(zip(arrays, self.inputs)):  # noqa: B905 - strict needs Python 3.10
            shape = tuple(tensor.shape[: tensor.rank])
            if (array.dtype, array.shape) != (tensor.dtype, shape):
                raise ValueError(f"input {number} is to be {tensor.dtype} {shape}")
            data = np.ascontiguousarray(array)
            size = ctypes.c_size_t(data.nbytes)
            self._api.edgepack_set_input(self._model, number, ctypes.c_void_p(data.ctypes.data), size)
        if self._api.edgepack_run(self._model):
            raise MemoryError
        return [self._output(number, tensor) for number, tensor in enumerate(self.outputs)]

    def _output(self, number: int, tensor: Tensor) -> np.ndarray:
        memory = ctypes.string_at(self._api.edgepack_output(self._model, number), tensor.size)
        return np.frombuffer(memory, tensor.dtype).reshape(tensor.shape[: tensor.rank])

    def close(self) -> None:
        """Free its memory and end its threads."""
        self._api.edgepack_close(self._model)


def main() -> None:
    """Run the model on the files named by the arguments, or on the bundle's sample."""
    paths = [Path(word) for word in sys.argv[1:]]
    path, *inputs = paths or [
        BUNDLE / "model" / "model.so",
        *sorted((BUNDLE / "sample").glob("input-*.npy")),
    ]
    model = Model(path)
    output = model(*(np.load(each, allow_pickle=False) for each in inputs))[0].ravel()
    for index in np.argsort(-output.astype(np.float64), kind="stable")[:5]:
        print(f"{index:8d}  {output[index]:g}")
    model.close()


if __name__ == "__main__":
    main()
