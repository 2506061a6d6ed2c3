"""Paths used by the benchmarks, and cached files."""

import fcntl
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgepack.base.paths import cache_dir

ROOT = Path(__file__).resolve().parents[2]  # of the checkout: other processes import from it
CACHE = cache_dir() / "benchmarks"
RESULTS = ROOT / "benchmarks"


def make_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return ``path``, whose name must identify its content; if missing, it is created atomically by one process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with tempfile.TemporaryDirectory(prefix="building-", dir=path.parent) as folder:
                result = Path(folder, path.name)
                make(result)
                result.rename(path)
    return path
