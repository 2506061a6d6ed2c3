"""Launch kernels of CUDA source on the emulated GPU: each launch in a process of its own, as an error ends the device's use.

Run as a program, it does one launch: ``launching.py FOLDER NAME``, with what ``Launcher.run`` puts into the folder.
"""

import ctypes
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cubins import HEAD, cubin

I = "int i = blockIdx.x * blockDim.x + threadIdx.x;"  # noqa: E741
BLOCK = 256


class LaunchError(Exception):
    """The emulated GPU reported an error."""


@dataclass
class Launcher:
    """Builds modules in a folder and launches their kernels."""

    folder: Path

    def run(self, source, kernel, arrays, grid=(1,), block=(1,), dynamic=0):  # noqa: PLR0917
        """Launch a kernel whose parameters are pointers to the arrays, and return the arrays after it."""
        from edgepack.emulation import EmulatedGpu, build_module, install_driver

        arch, libc = os.uname().machine, "2.28" if os.uname().machine == "x86_64" else "2.36"
        image = cubin(source)
        install_driver(self.folder, arch, libc)
        EmulatedGpu("test", "8.7", 256, 1).write(self.folder)
        build_module(source, hashlib.sha256(image).hexdigest(), self.folder, arch, libc)
        sizes = [*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3], dynamic]
        (self.folder / "launch.json").write_text(
            json.dumps({"kernel": kernel, "sizes": sizes, "image": image.hex()})
        )
        np.savez(self.folder / "in.npz", *(np.ascontiguousarray(array).view(np.uint8) for array in arrays))
        done = subprocess.run(
            [sys.executable, __file__, str(self.folder)],
            env={**os.environ, "EDGEPACK_GPU": str(self.folder), "LD_LIBRARY_PATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LaunchError(done.stdout + done.stderr)
        with np.load(self.folder / "out.npz") as out:
            after = [out[f"arr_{i}"] for i in range(len(arrays))]
        return [got.view(a.dtype).reshape(a.shape) for got, a in zip(after, arrays, strict=True)]


def elementwise(gpu, types, body, inputs, outputs):
    """Run ``body`` for each element ``i`` of the arrays a, b, c ... (inputs) and r, s, t (outputs)."""
    count = len(inputs[0])
    padded = -(-count // BLOCK) * BLOCK
    names = [*"abcd"[: len(inputs)], *"rstu"[: len(outputs)]]
    parameters = ", ".join(f"{kind}* {name}" for kind, name in zip(types, names, strict=True))
    source = f"{HEAD}kernel({parameters}) {{ {I}\n{body}\n}}"
    arrays = [np.concatenate([x, np.zeros(padded - count, x.dtype)]) for x in inputs]
    arrays += [np.zeros(padded, kind) for kind in outputs]
    after = gpu.run(source, "kernel", arrays, (padded // BLOCK,), (BLOCK,))
    return [x[:count] for x in after[len(inputs) :]]


class _Config(ctypes.Structure):
    _fields_ = (
        ("sizes", ctypes.c_uint * 7),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


def _main(folder):
    driver = ctypes.CDLL(str(folder / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
    runtime = ctypes.CDLL(str(folder / "libcudart.so.13"))
    runtime.cudaGetErrorString.restype = ctypes.c_char_p

    def check(error):
        if error:
            sys.exit(f"error {error}: {runtime.cudaGetErrorString(error).decode()}")

    def copy(to, source, size, kind):
        check(runtime.cudaMemcpyAsync(to, source, ctypes.c_size_t(size), kind, None))

    spec = json.loads((folder / "launch.json").read_text())
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    check(driver.cuModuleLoadData(ctypes.byref(module), bytes.fromhex(spec["image"])))
    check(driver.cuModuleGetFunction(ctypes.byref(function), module, spec["kernel"].encode()))
    with np.load(folder / "in.npz") as given:
        arrays = [np.ascontiguousarray(given[f"arr_{i}"]) for i in range(len(given.files))]
    places = [ctypes.c_void_p() for _ in arrays]
    for array, place in zip(arrays, places, strict=True):
        check(runtime.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(array.nbytes)))
        copy(place, ctypes.c_void_p(array.ctypes.data), array.nbytes, 1)
    config = _Config((ctypes.c_uint * 7)(*spec["sizes"]), None, None, 0)
    parameters = (ctypes.c_void_p * len(places))(*(ctypes.addressof(place) for place in places))
    check(driver.cuLaunchKernelEx(ctypes.byref(config), function, parameters, None))
    for array, place in zip(arrays, places, strict=True):
        copy(ctypes.c_void_p(array.ctypes.data), place, array.nbytes, 2)
    np.savez(folder / "out.npz", *arrays)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
