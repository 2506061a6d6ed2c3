"""edgepack: from a trained model to a measured release on your own boards."""

import os

__version__ = "0.1.0"

# onnxruntime's Linux wheel reports its use to Microsoft unless this is set; a value that is there stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from edgepack.api import bench, build, check, compile, compress, deploy, report, rollback, run, tune  # noqa: A004 - after the version: the build reads it

__all__ = [
    "__version__",
    "bench",
    "build",
    "check",
    "compile",
    "compress",
    "deploy",
    "report",
    "rollback",
    "run",
    "tune",
]
