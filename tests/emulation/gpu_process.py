"""A process that uses the emulated driver and runtime, one call at a time, as a test says; errors are results.

``with GpuProcess(folder) as gpu: address = gpu.malloc(16)``. Run as a program, it is that process.
"""

import ctypes
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

from cubins import cubin

LIBC = "2.28" if os.uname().machine == "x86_64" else "2.36"
TO_DEVICE, TO_HOST, ON_DEVICE = 1, 2, 3


class DiedError(Exception):
    """The process ended by itself: its return code, and what it wrote."""


class CudaError(Exception):
    """A call failed: ``number`` and ``text``."""

    def __init__(self, number, text):
        super().__init__(number, text)
        self.number, self.text = number, text


def prepare(folder, *sources, **configuration):
    """Put the driver, a configuration and the modules of CUDA sources into a folder."""
    from edgepack.emulation import EmulatedGpu, build_module, install_driver

    arch = os.uname().machine
    install_driver(folder, arch, LIBC)
    gpu = {"name": "test", "compute": "8.7", "memory_mib": 64, "multiprocessors": 1, **configuration}
    EmulatedGpu(**gpu).write(folder)
    for source in sources:
        build_module(source, hashlib.sha256(cubin(source)).hexdigest(), folder, arch, LIBC)


class GpuProcess:
    """Calls methods of ``_Calls`` in a process of its own."""

    def __init__(self, folder, **environment):
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**os.environ, "EDGEPACK_GPU": str(folder), "LD_LIBRARY_PATH": str(folder), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def __getattr__(self, name):
        return lambda *given, **named: self._call(name, given, named)

    def _call(self, name, given, named):
        pickle.dump((name, given, named), self._process.stdin)
        self._process.stdin.flush()
        try:
            result, error = pickle.load(self._process.stdout)  # noqa: S301 - our own process
        except EOFError:
            raise DiedError(self._process.wait(), self._process.stderr.read().decode()) from None
        if error is not None:
            raise error
        return result


class _Config(ctypes.Structure):
    _fields_ = (
        ("sizes", ctypes.c_uint * 7),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


class _Calls:
    def __init__(self, folder):
        self.driver = ctypes.CDLL(str(folder / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
        self.runtime = ctypes.CDLL(str(folder / "libcudart.so.13"))
        self.runtime.cudaGetErrorString.restype = ctypes.c_char_p
        self.functions = {}

    def check(self, error):
        if error:
            raise CudaError(error, self.runtime.cudaGetErrorString(error).decode())

    def malloc(self, size):
        place = ctypes.c_void_p()
        self.check(self.runtime.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(size)))
        return place.value

    def free(self, address):
        self.check(self.runtime.cudaFree(ctypes.c_void_p(address)))

    def copy(self, to, source, size, kind):
        pointers = (ctypes.c_void_p(to), ctypes.c_void_p(source))
        self.check(self.runtime.cudaMemcpyAsync(*pointers, ctypes.c_size_t(size), kind, None))

    def upload(self, data):
        place = self.malloc(len(data))
        self.write(place, data)
        return place

    def write(self, place, data):
        self.copy(place, ctypes.cast(data, ctypes.c_void_p).value, len(data), TO_DEVICE)

    def download(self, place, size):
        data = ctypes.create_string_buffer(size)
        self.copy(ctypes.addressof(data), place, size, TO_HOST)
        return data.raw

    def download_fresh(self, size):
        return self.download(self.malloc(size), size)

    def host_buffer(self, size):
        self.buffer = ctypes.create_string_buffer(size)
        return ctypes.addressof(self.buffer)

    def function(self, source, kernel, image=None):
        key = (source, kernel)
        if key not in self.functions:
            module, function = ctypes.c_void_p(), ctypes.c_void_p()
            self.check(self.driver.cuModuleLoadData(ctypes.byref(module), image or cubin(source)))
            self.check(self.driver.cuModuleGetFunction(ctypes.byref(function), module, kernel.encode()))
            self.functions[key] = (module, function)
        return self.functions[key][1]

    def launch(self, source, kernel, *values, grid=(1,), block=(1,), dynamic=0, image=None):
        """Launch a kernel; integers are pointers. Its own errors come with the next call."""
        function = self.function(source, kernel, image)
        config = _Config((ctypes.c_uint * 7)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3], dynamic), None, None, 0)
        held = [ctypes.c_void_p(value) for value in values]
        parameters = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
        self.check(self.driver.cuLaunchKernelEx(ctypes.byref(config), function, parameters, None))

    def synchronize(self):
        self.check(self.runtime.cudaStreamSynchronize(None))

    def allow_dynamic(self, source, kernel, size, image=None):
        self.check(self.driver.cuFuncSetAttribute(self.function(source, kernel, image), 8, size))

    def driver_call(self, name, *values):
        """Call any function with pointers and integers."""
        library = self.driver if name.startswith("cu") and not name.startswith("cuda") else self.runtime
        self.check(getattr(library, name)(*values))

    def unload(self, source, kernel):
        self.check(self.driver.cuModuleUnload(self.functions[source, kernel][0]))

    def last_errors(self):
        return self.runtime.cudaPeekAtLastError(), self.runtime.cudaGetLastError()

    def touch(self, address, write=False):
        if write:
            ctypes.memset(address, 0, 1)
        return ctypes.string_at(address, 1)

    def memory(self):
        unused, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.check(self.runtime.cudaMemGetInfo(ctypes.byref(unused), ctypes.byref(total)))
        return unused.value, total.value

    def pinned(self, size):
        place = ctypes.c_void_p()
        self.check(self.runtime.cudaMallocHost(ctypes.byref(place), ctypes.c_size_t(size)))
        return place.value

    def in_child(self, name, *given):
        """Do a call in a forked child, and return its result and error."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, pickle.dumps(self.answer(name, given, {})))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        status = os.waitpid(child, 0)[1]
        return pickle.loads(data) if data else (None, status)  # noqa: S301

    def answer(self, name, given, named):
        try:
            return getattr(self, name)(*given, **named), None
        except CudaError as error:
            return None, error


def _main(folder):
    calls = _Calls(folder)
    sys.modules["gpu_process"] = sys.modules["__main__"]
    CudaError.__module__ = "gpu_process"
    out = sys.stdout.buffer
    while True:
        try:
            name, given, named = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        out.write(pickle.dumps(calls.answer(name, given, named)))
        out.flush()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
