"""The self-test: checks of the board, then each net in a scratch folder that is removed, then measurements.

Nothing is installed. A check that fails does not end the test; what cannot be checked after it is skipped.
"""

import posixpath
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.agent.protocol import FIRST_TIMEOUT_S
from edgepack.config.target import Target, load_target
from edgepack.errors import AgentError, DeployError, EdgepackError, TimedOutError, UnreachableError
from edgepack.pipeline.bundle_on_board import loaded_bundle
from edgepack.remote.boards import Boards
from edgepack.selftest import hardware
from edgepack.selftest.board import check_agent, check_board
from edgepack.selftest.cases import COPY, KERNELS, RELEASE, TOO_LARGE, Net
from edgepack.selftest.nets import difference
from edgepack.selftest.release import Built, build
from edgepack.selftest.result import Check, SelfTest, skip

if TYPE_CHECKING:
    import numpy as np

    from edgepack.agent.protocol import BoardModel
    from edgepack.remote.session import Session

EMULATION = "virtual:host-gpu"
Tell = Callable[[str], None]

_AGENT = [("agent", "the agent runs and loads TVM's runtime")]
_OUT_OF_MEMORY = "out of memory"
_EXISTS = 'for path in "$@"; do if [ -e "$path" ]; then echo "$path"; fi; done'
_REMOVE = 'for path in "$@"; do rmdir -- "$path" 2>/dev/null || true; done'


def selftest(device: str, tell: Tell) -> SelfTest:
    """Test a device; ``tell`` is called with each step.

    Raises:
        UsageError: There is no such device.
        UnreachableError: The device does not respond, or the connection was lost.
        DeployError: The board cannot store the tiny release.
        EdgepackError: This machine cannot build for the device's target.
    """
    with Boards() as boards, tempfile.TemporaryDirectory(prefix="edgepack-selftest-") as folder:
        where = boards.device(device)
        target = load_target(where.target)
        test = _Test(boards, device, target, Path(folder), tell)
        return SelfTest(
            device=device, target=target.name, emulated=where.emulated, checks=tuple(test.checks())
        )


class _Test:
    def __init__(self, boards: Boards, device: str, target: Target, folder: Path, tell: Tell) -> None:
        self.boards = boards
        self.device = device
        self.target = target
        self.folder = folder
        self.tell = tell
        self.emulated = boards.device(device).emulated
        self.work_dir = boards.device(device).work_dir
        self.nets = [net for net in (RELEASE, KERNELS) if self.target.gpu or not net.gpu_only]
        self.kernels: list[str] = []

    def checks(self) -> Iterator[Check]:
        """All checks, in order."""
        self.tell("checking the board")
        session = self.boards.session(self.device)
        board = check_board(session, self.target, self.work_dir)
        yield from board
        failed = [check.name for check in board if check.status == "failed"]
        if failed:
            yield from self._nothing_runs(f"the board lacks what a release needs: {', '.join(failed)}")
            return
        done: list[Check] = []
        with _cleared(session, self.work_dir):
            for net in self.nets:
                checks = list(self._run(net))
                yield from checks
                done += checks
            if self.target.gpu:
                yield self._refuses_too_large()
            yield from self._hardware(done)

    def _nothing_runs(self, why: str) -> Iterator[Check]:
        yield from skip("board", _AGENT, why)
        for net in self.nets:
            yield from skip(net.name, _named(net), why)
        if self.target.gpu:
            yield from skip("kernels", [(TOO_LARGE.name, TOO_LARGE.checks)], why)
        yield from skip("hardware", self._measurements(), why)

    def _build(self, net: Net, target: Target) -> Built:
        self.tell(f"building {net.name} for {target.name}")
        return build(net, target, self.folder / f"{net.name}-{target.name}")

    @contextmanager
    def _loaded(self, built: Built, device: str) -> "Iterator[BoardModel]":
        self.tell(f"running {built.net.name} on {device}")
        with loaded_bundle(self.boards, device, built.bundle, threads=1) as on:
            yield replace(on, timeout=FIRST_TIMEOUT_S)

    def _run(self, net: Net) -> Iterator[Check]:
        """Run a net and check each of its outputs; the latency of the release is measured here, too."""
        from edgepack.agent.protocol import info

        built = self._build(net, self.target)
        self.kernels += built.kernels
        with self._loaded(built, self.device) as on:
            if net is RELEASE:
                yield from check_agent(info(on.session, on.agent, work_dir=self.work_dir), self.target)
            outputs, failure = _try(on, built)
            yield _ran(net, failure)
            if outputs is None:
                yield from skip(net.name, _named(net)[1:], f"{net.name} did not run")
                return
            emulation = self._emulation(net)
            yield from _compared(built, outputs, emulation)
            if net is RELEASE and not self.emulated:
                yield hardware.measure_latency(on, built)

    def _emulation(self, net: Net) -> "list[np.ndarray] | str":
        """What the emulated GPU gives for a net, or why it is not known."""
        if self.target.gpu is None:
            return "no GPU"
        if self.emulated:
            return "the board is the emulation"
        try:
            built = self._build(net, load_target(EMULATION.removeprefix("virtual:")))
            with self._loaded(built, EMULATION) as on:
                outputs, failure = _try(on, built)
                return failure if outputs is None else outputs
        except EdgepackError as error:
            return error.message

    def _refuses_too_large(self) -> Check:
        built = self._build(TOO_LARGE, self.target)
        with self._loaded(built, self.device) as on:
            outputs, failure = _try(on, built)
        refused = outputs is None and _OUT_OF_MEMORY in failure
        return Check(
            group="kernels",
            name=TOO_LARGE.name,
            checks=TOO_LARGE.checks,
            status="passed" if refused else "failed",
            detail=failure or "it was allocated",
        )

    def _measurements(self) -> list[tuple[str, str]]:
        gpu = [hardware.MACHINE_CODE] if self.target.gpu else []
        return [hardware.LATENCY, hardware.MEMORY, *gpu]

    def _hardware(self, done: Sequence[Check]) -> Iterator[Check]:
        """What only hardware shows; the latency is measured with the release."""
        if self.emulated:
            yield from skip("hardware", self._measurements(), "emulated")
            return
        measured = {check.name for check in done if check.status == "measured"}
        if hardware.LATENCY[0] not in measured:
            yield from skip("hardware", [hardware.LATENCY], "the release did not run")
        built = self._build(COPY, self.target)
        with self._loaded(built, self.device) as on:
            try:
                yield hardware.measure_memory(on, built)
            except AgentError as error:
                name, what = hardware.MEMORY
                yield Check(group="hardware", name=name, checks=what, status="failed", detail=_why(error))
        if self.target.gpu:
            right = all(check.status in {"passed", "measured"} for check in done if check.group != "board")
            yield hardware.check_machine_code(tuple(self.kernels), self.target.gpu.arch, right=right)


def _named(net: Net) -> list[tuple[str, str]]:
    """The checks of a net: that it runs, and each output."""
    return [(net.name, net.checks), *((case.name, case.checks) for case in net.cases)]


def _try(on: "BoardModel", built: Built) -> "tuple[list[np.ndarray] | None, str]":
    """The outputs of a net on a board; None if it failed, and why."""
    from edgepack.agent.protocol import run

    try:
        return run(on, built.inputs), ""
    except (AgentError, TimedOutError) as error:
        return None, _why(error)


def _why(error: EdgepackError) -> str:
    return f"{error.message}: {error.why}" if error.why else error.message


def _ran(net: Net, failure: str) -> Check:
    return Check(
        group=net.name,
        name=net.name,
        checks=net.checks,
        status="failed" if failure else "passed",
        detail=failure or "sent, verified and run",
    )


def _compared(
    built: Built, outputs: "list[np.ndarray]", emulation: "list[np.ndarray] | str"
) -> Iterator[Check]:
    """Each output against the reference, and against the emulation's if that is known."""
    if len(outputs) != len(built.net.cases):
        why = f"it has {len(outputs)} outputs, not {len(built.net.cases)}"
        yield Check(group=built.net.name, name="outputs", checks="their number", status="failed", detail=why)
        return
    for index, case in enumerate(built.net.cases):
        error = difference(case, outputs[index], built.reference[index])
        known = not isinstance(emulation, str) and len(emulation) == len(outputs)
        other = difference(case, outputs[index], emulation[index]) if known else None  # type: ignore[arg-type]
        wrong = [
            text
            for text, value in (("the reference", error), ("the emulation", other))
            if value is not None and not value <= case.tolerance
        ]
        detail = f"{error:.1e} of {case.tolerance:.0e} allowed"
        if other is not None:
            detail += f", {other:.1e} from the emulation"
        elif built.net.gpu_only or not known:
            detail += "" if emulation == "no GPU" else f"; not compared with the emulation: {emulation}"
        yield Check(
            group=built.net.name,
            name=case.name,
            checks=case.checks,
            status="failed" if wrong else "passed",
            detail=f"it differs from {' and '.join(wrong)}: {detail}" if wrong else detail,
            error=_finite(error),
            tolerance=case.tolerance,
            emulation=_finite(other),
        )


def _finite(value: float | None) -> float | None:
    """None for an infinite difference, which JSON cannot say."""
    return None if value in {None, float("inf")} else value


@contextmanager
def _cleared(session: "Session", work_dir: str) -> Iterator[None]:
    """Remove the folders that the test made on the board, if nothing else is in them."""
    from edgepack.remote.layout import SCRATCH, script, work_path

    base = work_path(work_dir)
    folders = (posixpath.join(base, SCRATCH), base)
    there = script(session, _EXISTS, *folders).splitlines()
    try:
        yield
    finally:
        with suppress(UnreachableError, DeployError):
            script(session, _REMOVE, *(folder for folder in folders if folder not in there))
