"""A process that builds candidate kernels: it imports TVM once and runs forked workers.

``python -m edgepack.tuning.build_server TARGET_JSON WORKERS TIMEOUT_S [GPU]`` reads pickled ``(id, module JSON,
out)`` from stdin and writes pickled ``(id, error or None, (began, ended))`` to stdout as builds finish. GPU is the
folder of a virtual board's emulated GPU: modules of the candidates' CUDA kernels are put there. A worker that crashes or times out fails only its candidate: it is replaced by a new fork, which takes
milliseconds, while a new interpreter would import TVM again. The server ends at EOF on stdin.
"""

import os
import selectors
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.tuning.link import PREFIX, candidate_linker

Job = tuple[int, str, str]
_BUILDS_PER_WORKER = 200  # LLVM and TVM leak a little memory with every build


@dataclass
class Worker:
    """A forked child, its current job, and the deadline."""

    pid: int
    pipe: Connection
    job: int | None = None
    began: float = 0.0  # time.monotonic(), the same clock for all processes of a machine
    deadline: float = 0.0
    builds: int = field(default=0)


def build(module: str, target: Target, out: str, gpu: Path | None = None) -> None:
    """Compile a scheduled module, given as TVM's JSON, and link it into ``out``: for a CPU an executable, for a GPU a library.

    With ``gpu``, the folder of an emulated GPU, modules for it are built from the CUDA sources.
    """
    import tvm
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    from edgepack.lower.emit import arithmetic, library
    from edgepack.schedules import tvm_target

    mod = tvm.ir.load_json(module)
    # Weights are already in the layout of the schedule, as in the compiled model; this is not timed.
    mod = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(mod)
    if not target.gpu:
        _build_program(mod, target, Path(out))
        return
    compiler = library.use_our_cuda_compiler(target)
    built = tvm.tirx.build(mod, target=tvm_target(target), pipeline=arithmetic.register(target))
    library.export(built, target, Path(out), compiler)
    if gpu is not None:
        from edgepack.emulation import build_module
        from edgepack.emulation.sources import digest_of

        for source, cubin in compiler.modules:
            build_module(source, digest_of(cubin), gpu, target.abi.arch, target.abi.libc)


def _build_program(mod: Any, target: Target, out: Path) -> None:
    """Build a candidate for a CPU in the way of the kernels of compiled models."""
    import tvm

    from edgepack.lower.emit.aot.kernels import PIPELINE, register
    from edgepack.schedules import tvm_target

    workspaces = register(target, PREFIX)
    kernels = {var: function.without_attr("global_symbol") for var, function in mod.functions.items()}
    with tvm.transform.PassContext(opt_level=3):
        built = tvm.tirx.build(
            tvm.IRModule(kernels, attrs=mod.attrs), target=tvm_target(target), pipeline=PIPELINE
        )
    compiled = out.with_name(f"{out.name}.o")
    try:
        built.write_to_file(str(compiled))
        candidate_linker(target.abi.arch).link(compiled, out, max(workspaces, default=0))
    finally:
        compiled.unlink(missing_ok=True)


def work(pipe: Connection, target: Target, gpu: Path | None) -> None:
    """Main loop of a worker: build the received modules and report errors."""
    while True:
        try:
            job, module, out = pipe.recv()
        except EOFError:
            return
        try:
            build(module, target, out, gpu)
        except Exception as error:  # noqa: BLE001 - TVM raises what it likes; the candidate is dead, not the worker
            pipe.send((job, describe(error)))
        else:
            pipe.send((job, None))


def describe(error: Exception) -> str:
    """Return an error as one line: ours with its reason, any other with its last line."""
    if isinstance(error, EdgepackError):
        return f"{error.message}: {error.why}".replace("\n", " ") if error.why else error.message
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"


def spawn(target: Target, gpu: Path | None) -> Worker:
    """Fork a worker. The server is single-threaded and has imported TVM, so the child is ready immediately."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)  # stdout carries the server's protocol; redirect prints to stderr
            work(theirs, target, gpu)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    return Worker(pid, ours)


class Server:
    """The server's loop: distribute jobs, collect results, replace dead workers."""

    def __init__(self, target: Target, workers: int, timeout_s: float, gpu: Path | None) -> None:
        self._target = target
        self._gpu = gpu
        self._timeout_s = timeout_s
        if not target.gpu:
            candidate_linker(target.abi.arch)  # for all workers
        self._waiting: deque[Job] = deque()
        self._workers = [spawn(target, gpu) for _ in range(workers)]
        self._jobs = Connection(os.dup(0), writable=False)
        self._answers = Connection(os.dup(1), readable=False)

    def serve(self) -> None:
        """Run until EOF on stdin."""
        while True:
            for worker in self._workers:
                if worker.job is None and self._waiting:
                    self._start(worker, self._waiting.popleft())
            for ready in self._wait():
                if ready is self._jobs:
                    try:
                        self._waiting.append(self._jobs.recv())
                    except EOFError:
                        return
                else:
                    self._finish(next(w for w in self._workers if w.pipe is ready))
            now = time.monotonic()
            for worker in self._workers:
                if worker.job is not None and now > worker.deadline:
                    self._replace(worker, f"the build took longer than {self._timeout_s:.0f} s")

    def stop(self) -> None:
        """Kill and reap the workers."""
        for worker in self._workers:
            _kill(worker)

    def _wait(self) -> list[Any]:
        deadlines = [worker.deadline for worker in self._workers if worker.job is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        with selectors.DefaultSelector() as selector:
            for source in (self._jobs, *(worker.pipe for worker in self._workers)):
                selector.register(source, selectors.EVENT_READ)
            return [key.fileobj for key, _ in selector.select(timeout)]

    def _start(self, worker: Worker, job: Job) -> None:
        worker.job, worker.began = job[0], time.monotonic()
        worker.deadline = worker.began + self._timeout_s
        worker.builds += 1
        worker.pipe.send(job)

    def _finish(self, worker: Worker) -> None:
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(worker, "the compiler crashed")
            return
        self._answer(worker, *answer)
        if worker.builds >= _BUILDS_PER_WORKER:
            self._replace(worker, None)

    def _answer(self, worker: Worker, job: int, error: str | None) -> None:
        worker.job = None
        self._answers.send((job, error, (worker.began, time.monotonic())))

    def _replace(self, worker: Worker, error: str | None) -> None:
        if worker.job is not None:
            self._answer(worker, worker.job, error)
        _kill(worker)
        self._workers[self._workers.index(worker)] = spawn(self._target, self._gpu)


def _kill(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    os.waitpid(worker.pid, 0)
    worker.pipe.close()


def main(target: str, workers: str, timeout_s: str, gpu: str | None = None) -> None:
    """Serve requests from stdin on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is sent to the whole group; the parent handles it
    import tvm  # noqa: F401 - once, for all workers

    folder = None if gpu is None else Path(gpu)
    server = Server(Target.model_validate_json(target), int(workers), float(timeout_s), folder)
    try:
        server.serve()
    finally:
        server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
