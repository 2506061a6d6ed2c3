"""The content-addressed store: files by sha256, and which stage made which from what.

Layout under the root::

    blobs/ab/abcdef…        a file, read-only, named by its sha256
    stages/KEY.json         what a stage made when its ingredients hashed to KEY
    last/SCOPE.json         the ingredients a stage last ran with, to explain a miss

Everything is written to a temporary name, flushed and renamed, so that a crash leaves either the old
state or the new one. A blob that no longer matches its digest counts as missing.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from edgepack.base.files import CHUNK, canonical_json, sha256_file, write_atomic
from edgepack.base.paths import cache_dir
from edgepack.engine.artifact import Artifact
from edgepack.engine.stage import F
from edgepack.spec import Spec


@contextmanager
def _lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's flock, which the kernel lets go of when this process ends, however it ends.

    Raises:
        BlockingIOError: not ``wait``, and somebody else holds it.
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
    except OSError:  # at work, or removed meanwhile
        return False


@dataclass(frozen=True)
class StageRecord(Generic[F]):
    """What one stage made, its figures as the stage's own type."""

    artifacts: Mapping[str, Artifact]
    figures: F
    seconds: float


class Record(Spec):
    """What one stage made, as it is stored: its files by role, its figures as JSON values, how long it took."""

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
        """Where the artifact's bytes are; read-only."""
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
        """What the stage with this key made, if all of it is still here, byte for byte."""
        path = self.root / "stages" / f"{key}.json"
        try:
            record = Record.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return record if all(self._intact(a) for a in record.artifacts.values()) else None

    def save(self, key: str, record: Record) -> Record:
        """Remember what a stage made; its artifacts were added before.

        Returns the record as ``find`` will: a run that did the work goes on with what a later one is told.
        """
        data = record.model_dump_json().encode()
        write_atomic(self.root / "stages" / f"{key}.json", data)
        return Record.model_validate_json(data)

    def last(self, scope: str) -> dict[str, Any] | None:
        """The ingredients this scope last ran with."""
        try:
            value = json.loads(self._last_path(scope).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def remember(self, scope: str, ingredients: dict[str, Any]) -> None:
        """Keep the ingredients of this scope, to explain the next miss."""
        write_atomic(self._last_path(scope), canonical_json(ingredients).encode())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder on the store's file system, removed afterwards; by the next run after a crash."""
        self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with _lock(self.root):  # nobody takes a folder that is not locked yet for an abandoned one
                for left in self.root.glob(".work-*"):
                    if _abandoned(left):
                        shutil.rmtree(left, ignore_errors=True)
                folder = Path(
                    stack.enter_context(tempfile.TemporaryDirectory(dir=self.root, prefix=".work-"))
                )
                stack.enter_context(_lock(folder))
            yield folder

    def _last_path(self, scope: str) -> Path:
        return self.root / "last" / f"{hashlib.sha256(scope.encode()).hexdigest()[:32]}.json"

    def _intact(self, artifact: Artifact) -> bool:
        blob = self.path(artifact)
        try:
            return blob.stat().st_size == artifact.size and sha256_file(blob) == artifact.sha256
        except FileNotFoundError:
            return False
