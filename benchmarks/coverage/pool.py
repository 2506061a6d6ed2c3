"""One process per job: it is killed after its time limit, and a crash affects only its own job.

The processes are forked from this one, which has imported everything: starting one takes about ten
milliseconds, and they are isolated from each other.
"""

import gc
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from benchmarks.kit.processes import describe_status

Job = TypeVar("Job")
Tell = Callable[[dict[str, Any]], None]
Work = Callable[[Any, Tell], dict[str, Any]]


@dataclass
class _Running:
    job: Any
    process: Any
    pipe: Connection
    started: float
    seconds: float  # until its time limit
    partial: dict[str, Any] = field(default_factory=dict)


def run_all(
    jobs: Iterable[Job], work: Work, *, processes: int, limit: Callable[[Job], float]
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Run `work(job, tell)` for every job in its own process; yields the outcomes as they finish.

    `limit` returns a job's time limit in seconds. Results passed to `tell` before a crash or timeout are kept, with
    `status` `crashed` or `timed out`; an uncaught exception gives `failed`.
    """
    context = multiprocessing.get_context("fork")
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page of this process
    waiting = iter(jobs)
    running: list[_Running] = []
    try:
        while True:
            free = processes - len(running)
            running.extend(_start(context, job, work, limit(job)) for job in islice(waiting, free))
            if not running:
                return
            wait([each.pipe for each in running], timeout=0.5)
            for each in list(running):
                result = _look(each)
                if result is not None:
                    running.remove(each)
                    yield each.job, result
    finally:
        for each in running:
            _kill(each)
        gc.unfreeze()


def _start(context: Any, job: Any, work: Work, seconds: float) -> _Running:
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, job, there))
    process.start()
    there.close()
    return _Running(job, process, here, time.monotonic(), seconds)


def _child(work: Work, job: Any, pipe: Connection) -> None:
    os.setpgid(0, 0)  # its children are killed with it
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    try:
        result = work(job, lambda partial: pipe.send({"partial": partial}))
    except Exception as error:  # noqa: BLE001 - whatever it is belongs into the table
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})"  # noqa: PTH119
        result = {"status": "failed", "why": why}
    pipe.send({"result": result})
    pipe.close()
    os._exit(0)  # no destructors: TVM's threads may be in any state


def _look(each: _Running) -> dict[str, Any] | None:
    """Return the outcome of a process, or None while it runs."""
    while each.pipe.poll():
        try:
            message = each.pipe.recv()
        except EOFError:
            each.process.join()
            return {**each.partial, "status": "crashed", "why": describe_status(each.process.exitcode)}
        if "result" in message:
            _kill(each)
            return {**each.partial, **message["result"]}
        each.partial.update(message["partial"])
    if time.monotonic() - each.started > each.seconds:
        _kill(each)
        return {**each.partial, "status": "timed out", "why": f"not done after {each.seconds:g} s"}
    return None


def _kill(each: _Running) -> None:
    """Kill the process and its children."""
    try:
        os.killpg(each.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        each.process.kill()  # it has no process group yet
    each.process.join()
    each.pipe.close()
