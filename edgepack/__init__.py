"""edgepack: from a trained model to a measured release on your own boards."""

import os

__version__ = "0.1.0"

# onnxruntime's Linux wheel reports its use to Microsoft unless this is set; a value that is there stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # typing takes 10 ms to import, in which Ctrl-C would be a traceback
if TYPE_CHECKING:
    from edgepack.api import (
        bench,
        build,
        check,
        compile,  # noqa: A004 - as edgepack.compile
        compress,
        deploy,
        profile,
        report,
        rollback,
        run,
        tune,
    )

__all__ = [
    "__version__",
    "bench",
    "build",
    "check",
    "compile",
    "compress",
    "deploy",
    "profile",
    "report",
    "rollback",
    "run",
    "tune",
]


def __getattr__(name: str) -> object:
    """The public functions, imported when they are first used: the command line must start at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgepack import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
