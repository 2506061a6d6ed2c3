"""A board that is a local process, and a small network to tune."""

import dataclasses
import itertools
import queue
import subprocess
import threading
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import Target
from edgepack.errors import UnreachableError
from edgepack.tuning import BoardRunner
from edgepack.tuning.builder import Built
from edgepack.tuning.runner import Measured

CRASHING_KERNEL = """
int edgepack_candidate_main(void) {
    volatile int *nowhere = 0;
    return *nowhere;
}
"""


def target(name="x86-64-v3", **changes):
    """An x86-64-v3 target that measures quickly."""
    fields = {
        "edgepack": 1,
        "name": name,
        "title": "for tests",
        "family": "x86",
        "abi": {"arch": "x86_64", "libc": "2.31"},
        "tvm": {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3", "num-cores": 1},
        "cpu": {"name": "any", "cores": 1, "vector_bits": 256, "l1d_kib": 32, "l2_kib": 256},
        "memory_mib": 1024,
        "tune": {"timeout_s": 20.0, "repeats": 2, "min_repeat_ms": 1},
    }
    return Target.model_validate({**fields, **changes}, strict=False)


def two_convolutions(path):
    """3x3 with ReLU, then 1x1: two kernels."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.standard_normal((16, 8, 3, 3)).astype("float32"),
        "w2": random.standard_normal((16, 16, 1, 1)).astype("float32"),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two_convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 16, 16])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return Path(path)


class LocalProcess:
    """A local process with the interface of one on a board."""

    def __init__(self, argv):
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.stdin = self
        self.answers = 0

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    @property
    def stderr(self):
        return b""

    def write(self, data):
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except ValueError as error:  # we closed it
            raise BrokenPipeError(str(error)) from error
        return len(data)

    def readline(self, timeout=None):
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty as error:
            raise TimeoutError from error
        self.answers += bool(line)
        return line

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()


class LocalBoard:
    """Connects to a local agent, which can be killed after some answers, or stay unreachable."""

    def __init__(self, agent, *, dies_after=(), refuses=0):
        self.agent = str(agent)
        self.connections = 0
        self._dies_after = list(dies_after)
        self._refuses = refuses

    def connect(self):
        self.connections += 1
        if self._refuses and self.connections > 1:
            self._refuses -= 1
            raise UnreachableError("the board is away")
        return self, self.agent

    def stream(self, argv):
        process = LocalProcess(argv)
        if self._dies_after:
            process = _Mortal(process, self._dies_after.pop(0))
        return process

    def close(self):
        pass


def is_fallback(candidate):
    """Whether the candidate is the kernel's fallback schedule."""
    return candidate.file.name.startswith("fallback")


class SlowFallback(BoardRunner):
    """A real board on which fallback schedules are a thousand times slower, so that any candidate beats them."""

    def start(self, results, notices):
        def slower(measured):
            ms = tuple(1000 * ms for ms in measured.ms) if measured.id in self._slow else measured.ms
            results(dataclasses.replace(measured, ms=ms))

        self._slow = set()
        super().start(slower, notices)

    def submit(self, candidate):
        if is_fallback(candidate):
            self._slow.add(candidate.id)
        super().submit(candidate)


class NoBuilder:
    """A builder that builds nothing: for boards that do not read libraries."""

    def __init__(self, done, _target, **_):
        self._done = done

    def submit(self, job, _mod, _out):
        self._done(Built(job))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class ScriptedBoard:
    """Answers immediately: ``fallback`` and ``candidate`` return ms, given the arguments and the number of calls so far."""

    failure = None
    shares_host = False

    def __init__(self, fallback, candidate):
        self._ms = {True: fallback, False: candidate}
        self._counts = {True: itertools.count(), False: itertools.count()}
        self._lock = threading.Lock()

    def start(self, results, notices):
        self._results = results

    def submit(self, candidate):
        kind = is_fallback(candidate)
        with self._lock:
            number = next(self._counts[kind])
        self._results(Measured(candidate.id, (self._ms[kind](candidate.arguments, number),)))

    def close(self):
        pass


class _Mortal:
    """Kills the agent after this many answers; what it has written by then is lost."""

    def __init__(self, process, answers):
        self._process = process
        self._left = answers

    def __getattr__(self, name):
        return getattr(self._process, name)

    def readline(self, timeout=None):
        if self._left == 0:
            self._process.kill()
            return b""
        self._left -= 1
        return self._process.readline(timeout)
