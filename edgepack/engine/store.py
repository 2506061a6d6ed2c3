"""The content-addressed store: files by sha256, and the results of stages by cache key.

Layout under the root::

    blobs/ab/abcdef…        a file, read-only, named by its sha256
    stages/KEY.json         the result of the stage with the cache key KEY
    unfinished/KEY/         what this stage has done so far, if it was interrupted
    last/SCOPE.json         the ingredients of the stage's last run, to explain a cache miss

Everything is written to a temporary name, flushed and renamed, so a crash leaves either the old state
or the new one. A blob that does not match its digest is treated as missing.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from edgepack.base.files import CHUNK, canonical_json, sha256_file, write_atomic
from edgepack.base.paths import cache_dir
from edgepack.engine.artifact import Artifact
from edgepack.engine.stage import F
from edgepack.spec import Spec

_KEPT_SECONDS = 30 * 24 * 3600  # of what a killed stage left behind


@contextmanager
def _lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's flock, which the kernel releases when the process exits for any reason.

    Raises:
        BlockingIOError: ``wait`` is False and another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _abandoned(folder: Path) -> bool:
    try:
        with _lock(folder, wait=False):
            return True
    except OSError:  # in use, or removed in the meantime
        return False


def _remove_old(root: Path, key: str) -> None:
    """Remove the folders of other keys that have not changed for weeks and are not in use."""
    for left in root.iterdir():
        if left.name != key and time.time() - left.stat().st_mtime > _KEPT_SECONDS and _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True)
class StageRecord(Generic[F]):
    """The result of a stage, with figures of the stage's own type."""

    artifacts: Mapping[str, Artifact]
    figures: F
    seconds: float


class Record(Spec):
    """The stored result of a stage: files by role, figures as JSON values, duration in seconds."""

    artifacts: dict[str, Artifact]
    figures: dict[str, Any]
    seconds: float

    def typed(self, figures: type[F]) -> StageRecord[F]:
        """The record with figures of the stage's type."""
        # Through JSON, because pydantic's strict mode takes lists for tuples from JSON only.
        return StageRecord(
            self.artifacts, figures.model_validate_json(json.dumps(self.figures)), self.seconds
        )


class Store:
    """The artifact store under ``root`` (default: the user's cache directory)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_dir() / "store"

    def path(self, artifact: Artifact) -> Path:
        """The artifact's file; read-only."""
        return self.root / "blobs" / artifact.sha256[:2] / artifact.sha256

    def add(
        self, source: Path, *, kind: str, name: str, made_by: str, parents: tuple[str, ...] = ()
    ) -> Artifact:
        """Copy a file into the store."""
        digest = sha256_file(source)
        artifact = Artifact(
            kind=kind, name=name, sha256=digest, size=source.stat().st_size, made_by=made_by, parents=parents
        )
        blob = self.path(artifact)
        if not self._intact(artifact):
            blob.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=blob.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as to, source.open("rb") as origin:
                    shutil.copyfileobj(origin, to, CHUNK)
                    to.flush()
                    os.fsync(to.fileno())
                Path(temporary).chmod(0o444)
                Path(temporary).replace(blob)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        return artifact

    def find(self, key: str) -> Record | None:
        """The result with this key, if all of its files are present and intact."""
        path = self.root / "stages" / f"{key}.json"
        try:
            record = Record.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return record if all(self._intact(a) for a in record.artifacts.values()) else None

    def save(self, key: str, record: Record) -> Record:
        """Store a stage's result; its artifacts must have been added.

        Returns the record exactly as ``find`` will return it later.
        """
        data = record.model_dump_json().encode()
        write_atomic(self.root / "stages" / f"{key}.json", data)
        return Record.model_validate_json(data)

    def last(self, scope: str) -> dict[str, Any] | None:
        """The ingredients of the last run of this scope."""
        try:
            value = json.loads(self._last_path(scope).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def remember(self, scope: str, ingredients: dict[str, Any]) -> None:
        """Store the ingredients of this scope, to explain the next cache miss."""
        write_atomic(self._last_path(scope), canonical_json(ingredients).encode())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder on the store's file system, removed afterwards, or by the next run after a crash."""
        self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with _lock(
                self.root
            ):  # no other process can mistake a folder that is not locked yet for an abandoned one
                for left in self.root.glob(".work-*"):
                    if _abandoned(left):
                        shutil.rmtree(left, ignore_errors=True)
                folder = Path(
                    stack.enter_context(tempfile.TemporaryDirectory(dir=self.root, prefix=".work-"))
                )
                stack.enter_context(_lock(folder))
            yield folder

    @contextmanager
    def unfinished(self, key: str, *, fresh: bool = False) -> Iterator[Path | None]:
        """A folder for what the stage with this key has done so far; removed when the block ends without an error.

        None if another process is in the same stage. ``fresh`` empties the folder. Those that were left for weeks are removed.
        """
        root = self.root / "unfinished"
        root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with _lock(root):
                _remove_old(root, key)
                (root / key).mkdir(exist_ok=True)
                try:
                    stack.enter_context(_lock(root / key, wait=False))
                    in_use = False
                except BlockingIOError:
                    in_use = True
            if in_use:
                yield None
                return
            for file in (root / key).iterdir() if fresh else ():
                file.unlink()
            try:
                yield root / key
            except BaseException:
                with _lock(root), suppress(OSError):  # there is something to keep
                    (root / key).rmdir()
                raise
            with _lock(root):
                shutil.rmtree(root / key)

    def has_unfinished(self, key: str) -> bool:
        """Whether the stage with this key was interrupted after it had done something that it can continue from."""
        folder = self.root / "unfinished" / key
        return folder.is_dir() and any(folder.iterdir())

    def _last_path(self, scope: str) -> Path:
        return self.root / "last" / f"{hashlib.sha256(scope.encode()).hexdigest()[:32]}.json"

    def _intact(self, artifact: Artifact) -> bool:
        blob = self.path(artifact)
        try:
            return blob.stat().st_size == artifact.size and sha256_file(blob) == artifact.sha256
        except FileNotFoundError:
            return False
