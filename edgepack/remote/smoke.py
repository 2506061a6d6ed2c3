"""The smoke test: one inference on the board with the bundle's own agent and sample."""

import posixpath
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from edgepack.agent.protocol import GPU_HANGS, BoardModel, explain, failure_of
from edgepack.base.npy import parse_npy
from edgepack.bundle.layout import AGENT, sample_input, sample_output
from edgepack.bundle.manifest import Manifest
from edgepack.errors import DeployError, EdgepackError, InputError, TimedOutError
from edgepack.remote.lock import BoardLock
from edgepack.remote.session import Session
from edgepack.remote.store import command

if TYPE_CHECKING:
    import numpy as np

# Largest difference from the sample's output, relative to its largest magnitude. Deliberately wide: int8
# kernels may round differently from onnxruntime, and parity is checked by the recipe's gates. A wrong
# library, a wrong CPU or a damaged model differs much more, or does not run.
TOLERANCE = 0.05
TIMEOUT_S = 300.0  # timeout for the first inference of a large model under emulation


def smoke(held: BoardLock, manifest: Manifest, folder: str) -> None:
    """Run the release that is unpacked in ``folder`` on the board once, and compare its outputs.

    The outputs are in a folder of their own beside it, which is removed.

    Raises:
        DeployError: The agent failed, or an output differs.
        InputError: The bundle has no sample, or one that cannot fail.
        UnreachableError: The connection was lost.
    """
    paths = {entry.path for entry in manifest.files}
    inputs = [sample_input(index) for index in range(len(manifest.inputs))]
    outputs = [sample_output(index) for index in range(len(manifest.outputs))]
    lacking = {AGENT, *inputs, *outputs} - paths
    if lacking:
        raise InputError(
            f"the bundle cannot be tested on the board: it has no {', '.join(sorted(lacking))}",
            where=manifest.filename,
            next="rebuild it: edgepack package",
        )
    session, folder = held.session, posixpath.normpath(folder)
    out = f".smoke-{secrets.token_hex(4)}"
    beside = posixpath.join(posixpath.dirname(folder), out)
    expected = {path: _load(session, posixpath.join(folder, path)) for path in outputs}
    _require_telling(expected, manifest.filename)
    # In the release's folder, as an application would run it.
    on = BoardModel(session, f"./{AGENT}", manifest.model, device=manifest.target.device_kind)
    words = [word for path in inputs for word in ("--input", path)]
    argv = on.command("run", *words, "--output-dir", f"../{out}")
    names = [posixpath.basename(path) for path in outputs]
    try:
        place = (held.root, held.process, held.below(folder), f"../{out}")
        _run(session, manifest, command(session, "try", *place, *argv))
        for path, name in zip(outputs, names, strict=True):
            actual = _load(session, posixpath.join(beside, name))
            if difference := compare(actual, expected[path]):
                raise _failed(session, manifest, f"{name}: {difference}")
    finally:
        with suppress(EdgepackError):  # if the connection is lost, the next install removes it
            there = held.below(beside)
            held.remove([*(f"file {there}/{name}" for name in names), f"folder {there}"])


def _run(session: Session, manifest: Manifest, argv: Sequence[str]) -> None:
    """Run the agent.

    Raises:
        DeployError: It failed, or did not end in time.
    """
    try:
        completed = session.run(argv, timeout=TIMEOUT_S)
    except TimedOutError as error:
        why = f"the test inference did not end within {TIMEOUT_S:g} s; it was killed"
        step = GPU_HANGS if manifest.target.device_kind == "cuda" else None
        raise _failed(session, manifest, why, step) from error
    if completed.returncode != 0:
        failure = failure_of(completed.stdout.splitlines())
        said = (completed.stderr + completed.stdout).decode(errors="replace").strip()[-800:]
        why, step = explain(failure, completed.stderr) if failure else (said, None)
        of_gpu = manifest.target.device_kind == "cuda"
        code = _describe_exit(completed.returncode)
        raise _failed(session, manifest, f"the agent ended with {code}: {why}", step if of_gpu else None)


def compare(actual: "np.ndarray", expected: "np.ndarray") -> str | None:
    """Why an output is wrong, or None. Both may have any shape and dtype; NaN and infinities must be the same."""
    import numpy as np

    if (actual.shape, actual.dtype) != (expected.shape, expected.dtype):
        return f"got {actual.dtype} {actual.shape}, expected {expected.dtype} {expected.shape}"
    got, want = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(want)
    if not np.isfinite(got[finite]).all():
        return "it contains NaN or Inf where the sample has numbers"
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return "the sample's NaN and infinities are not at the same places"
    largest = float(np.abs(want[finite]).max(initial=0.0))
    difference = float(np.abs(got[finite] - want[finite]).max(initial=0.0))
    if difference > TOLERANCE * largest:
        return f"it differs by {difference:.3g}; the sample's largest value is {largest:.3g}"
    return None


def _require_telling(expected: "dict[str, np.ndarray]", where: str) -> None:
    """Raise an error if any result would do: no output of the sample holds a number."""
    import numpy as np

    if not any(np.isfinite(output).any() for output in expected.values()):
        kinds = {"empty" if not output.size else "NaN or infinite" for output in expected.values()}
        raise InputError(
            f"the bundle cannot be tested on the board: its sample's outputs are {' or '.join(sorted(kinds))}",
            where=f"{where}, {', '.join(expected)}",
            why="any result would pass",
            next="rebuild it with inputs for which the model's outputs are numbers: samples: inputs.npz",
        )


def _load(session: Session, path: str) -> "np.ndarray":
    data = session.read(path)
    try:
        return parse_npy(data or b"")
    except ValueError as error:
        raise DeployError(
            f"{posixpath.normpath(path)} is not an array",
            where=session.name,
            why="there is no such file" if data is None else str(error),
        ) from error


def _describe_exit(code: int) -> str:
    return f"signal {code - 128}" if code > 128 else f"exit code {code}"  # noqa: PLR2004 - the shell's convention


def _failed(session: Session, manifest: Manifest, why: str, step: str | None = None) -> DeployError:
    return DeployError(
        f"{manifest.name} {manifest.version} does not pass its test inference on this board",
        where=session.name,
        why=why,
        next=step
        or "deploy it to another board of its target; edgepack run tests it on the machine that built it",
    )
