"""The C headers of TVM's stable ABI, from the wheel of apache-tvm-ffi."""

import importlib.util
from pathlib import Path

from edgepack.errors import EdgepackError


def tvm_headers() -> Path:
    """Return the folder with ``tvm/ffi/c_api.h`` and ``dlpack/dlpack.h``.

    Raises:
        EdgepackError: They are not installed.
    """
    spec = importlib.util.find_spec("tvm_ffi")  # finds the package without importing it
    folder = Path(spec.origin).parent / "include" if spec and spec.origin else None
    if folder is None or not (folder / "tvm/ffi/c_api.h").is_file():
        raise EdgepackError(
            "TVM's C headers are not installed",
            why="no apache-tvm-ffi package in this Python, or one without its include folder",
            next="reinstall edgepack in this environment: pip install --force-reinstall edgepack",
        )
    return folder
