"""Versions of the tools that shape results."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

ABSENT = "absent"  # the version of a tool that is not installed


@cache
def tool_version(distribution: str) -> str:
    """The installed version of a distribution, or of ``python``; ABSENT when it is not installed."""
    if distribution == "python":
        return platform.python_version()
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ABSENT
