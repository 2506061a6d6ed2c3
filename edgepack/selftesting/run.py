"""The self-test: checks of the board, then each net in a scratch folder that is removed, then measurements.

Nothing is installed. A check that fails does not end the test; what cannot be checked after it is skipped.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.agent.protocol import FIRST_TIMEOUT_S
from edgepack.base.temporary import temporary_folder
from edgepack.base.text import suggestion
from edgepack.config.device import VIRTUAL_PREFIX
from edgepack.config.target import Target, load_target
from edgepack.engine.events import Advanced, Listener, ignore
from edgepack.errors import (
    AgentError,
    DeployError,
    EdgepackError,
    TimedOutError,
    UnreachableError,
    UsageError,
)
from edgepack.pipeline.bundle_on_board import loaded_bundle
from edgepack.remote.boards import Boards
from edgepack.selftesting import hardware
from edgepack.selftesting.board import agent_check, check_agent, check_board
from edgepack.selftesting.cases import COPY, KERNELS, RELEASE, TOO_LARGE, CaseNet
from edgepack.selftesting.compare import compared
from edgepack.selftesting.release import BuiltNet, build
from edgepack.selftesting.result import Check, SelfTest, skip

if TYPE_CHECKING:
    import numpy as np

    from edgepack.agent.protocol import BoardModel
    from edgepack.remote.session import Session

NETS = (RELEASE, KERNELS, TOO_LARGE)
EMULATION = f"{VIRTUAL_PREFIX}host-gpu"

_HANGS = "a kernel before it did not end"
_OUT_OF_MEMORY = "out of memory"


def selftest(device: str, listener: Listener = ignore, cases: Sequence[str] = ()) -> SelfTest:
    """Test a device; each step is told to the listener.

    With ``cases``, only these are run after the checks of the board, and nothing is measured.

    Raises:
        UsageError: There is no such device or case.
        UnreachableError: The device does not respond, or the connection was lost.
        DeployError: The board cannot store the tiny release.
        EdgepackError: This machine cannot build for the device's target.
    """
    with Boards() as boards, temporary_folder(prefix="edgepack-selftest-") as folder:
        where = boards.device(device)
        target = load_target(where.target)
        nets = _chosen([net for net in NETS if target.gpu or not net.gpu_only], cases, target)
        test = _Test(boards, device, target, nets, Path(folder), listener, measures=not cases)
        return SelfTest(
            device=device, target=target.name, emulated=where.emulated, checks=tuple(test.checks())
        )


def _chosen(nets: list[CaseNet], names: Sequence[str], target: Target) -> list[CaseNet]:
    """The nets with only the cases of these names, or all."""
    if not names:
        return nets
    known = [case.name for net in nets for case in net.cases]
    for name in names:
        if name not in known:
            raise UsageError(
                f"no case {name} for {target.name}",
                next=suggestion(name, known, otherwise=f"the cases are {', '.join(known)}"),
            )
    chosen = [replace(net, cases=tuple(case for case in net.cases if case.name in names)) for net in nets]
    return [net for net in chosen if net.cases]


@dataclass
class _Test:
    boards: Boards
    device: str
    target: Target
    nets: list[CaseNet]
    folder: Path  # here, for what is built
    listener: Listener
    measures: bool
    kernels: list[str] = field(default_factory=list)
    hangs: bool = False
    knows_agent: bool = False

    @property
    def emulated(self) -> bool:
        """Whether the device is emulated."""
        return self.boards.device(self.device).emulated

    @property
    def work_dir(self) -> str:
        """The folder for releases on the board."""
        return self.boards.device(self.device).work_dir

    def checks(self) -> Iterator[Check]:
        """All checks, in order."""
        self._tell("checking the board")
        session = self.boards.session(self.device)
        board = check_board(session, self.target, self.work_dir)
        yield from board
        failed = [check.name for check in board if check.status == "failed"]
        if failed:
            why = f"the board lacks what a release needs: {', '.join(failed)}"
            yield from skip("board", [agent_check(self.target)], why)
            for net in self.nets:
                yield from skip(_group(net), _named(net), why)
            yield from self._not_measured(why)
            return
        done: list[Check] = []
        with _cleared(session, self.work_dir):
            for net in self.nets:
                if self.hangs:
                    yield from skip(_group(net), _named(net), _HANGS)
                else:
                    for check in self._run(net):
                        yield check
                        done.append(check)
            if self.hangs or self.emulated:
                yield from self._not_measured(_HANGS if self.hangs else "emulated")
            elif self.measures:
                yield from self._hardware(done)

    def _not_measured(self, why: str) -> list[Check]:
        gpu = [hardware.MACHINE_CODE] if self.target.gpu else []
        wanted = [hardware.LATENCY, hardware.MEMORY, *gpu] if self.measures else []
        return skip("hardware", wanted, why)

    def _tell(self, text: str) -> None:
        self.listener(Advanced(text=text))

    def _build(self, net: CaseNet, target: Target) -> BuiltNet:
        self._tell(f"building {net.name} for {target.name}")
        return build(net, target, Path(tempfile.mkdtemp(dir=self.folder)))

    @contextmanager
    def _loaded(self, built: BuiltNet, device: str) -> "Iterator[BoardModel]":
        self._tell(f"running {built.net.name} on {device}")
        with loaded_bundle(self.boards, device, built.bundle, threads=1) as on:
            yield replace(on, timeout=FIRST_TIMEOUT_S)

    def _run(self, net: CaseNet) -> Iterator[Check]:
        """Run a net and check each of its outputs; the latency of the release is measured here, too."""
        from edgepack.agent.protocol import info

        built = self._build(net, self.target)
        self.kernels += built.kernels
        with self._loaded(built, self.device) as on:
            if not self.knows_agent:
                yield from check_agent(info(on.session, on.agent, work_dir=self.work_dir), self.target)
                self.knows_agent = True
            outputs, failure = self._try(on, built)
            if net.name == TOO_LARGE.name:
                yield _refused(net, failure)
                return
            yield _ran(net, failure)
            if outputs is None:
                yield from skip(net.name, _named(net)[1:], f"{net.name} did not run")
                return
            emulation = self._emulation(net) if self.target.gpu else None
            yield from compared(built, outputs, emulation)
            if net.name == RELEASE.name and self.measures and not self.emulated:
                yield hardware.measure_latency(on, built)

    def _try(self, on: "BoardModel", built: BuiltNet) -> "tuple[list[np.ndarray] | None, str]":
        """The outputs of a net on a board; None if it failed, and why."""
        from edgepack.agent.protocol import run

        try:
            return run(on, built.inputs), ""
        except TimedOutError as error:
            self.hangs = True
            return None, _why(error)
        except AgentError as error:
            return None, _why(error)

    def _emulation(self, net: CaseNet) -> "list[np.ndarray] | str":
        """What the emulated GPU gives for a net, or why it is not known."""
        from edgepack.agent.protocol import run

        if self.emulated:
            return "the board is emulated"
        try:
            built = self._build(net, load_target(EMULATION.removeprefix(VIRTUAL_PREFIX)))
            with self._loaded(built, EMULATION) as on:
                return run(on, built.inputs)
        except EdgepackError as error:
            return _why(error)

    def _hardware(self, done: Sequence[Check]) -> Iterator[Check]:
        """What only hardware shows; the latency is measured with the release."""
        if not any(check.name == hardware.LATENCY[0] for check in done):
            yield from skip("hardware", [hardware.LATENCY], "the release did not run")
        built = self._build(COPY, self.target)
        with self._loaded(built, self.device) as on:
            try:
                yield hardware.measure_memory(on, built)
            except AgentError as error:
                name, what = hardware.MEMORY
                yield Check(group="hardware", name=name, checks=what, status="failed", detail=_why(error))
        if self.target.gpu:
            right = not any(check.status == "failed" for check in done if check.group != "board")
            yield hardware.check_machine_code(tuple(self.kernels), self.target.gpu.arch, right=right)


def _group(net: CaseNet) -> str:
    return KERNELS.name if net.gpu_only else net.name


def _named(net: CaseNet) -> list[tuple[str, str]]:
    """The checks of a net: that it runs, and each output that can be compared."""
    outputs = () if net.name == TOO_LARGE.name else net.cases
    return [(net.name, net.checks), *((case.name, case.checks) for case in outputs)]


def _why(error: EdgepackError) -> str:
    return f"{error.message}: {error.why}" if error.why else error.message


def _ran(net: CaseNet, failure: str) -> Check:
    return Check(
        group=net.name,
        name=net.name,
        checks=net.checks,
        status="failed" if failure else "passed",
        detail=failure or "sent, verified and run",
    )


def _refused(net: CaseNet, failure: str) -> Check:
    refused = _OUT_OF_MEMORY in failure
    return Check(
        group=_group(net),
        name=net.name,
        checks=net.checks,
        status="passed" if refused else "failed",
        detail="refused: out of memory" if refused else failure or "it was allocated",
    )


@contextmanager
def _cleared(session: "Session", work_dir: str) -> Iterator[None]:
    """Remove the folder that the test made on the board, if nothing else is in it."""
    from edgepack.remote.layout import SCRATCH
    from edgepack.remote.store import ask, remove
    from edgepack.remote.workdir import work_path

    base = work_path(work_dir)
    there = any(line.get("entry") == SCRATCH for line in ask(session, "list", base, SCRATCH, ""))
    try:
        yield
    finally:
        if not there:
            with suppress(UnreachableError, DeployError):
                remove(session, base, [f"folder {SCRATCH}"])
