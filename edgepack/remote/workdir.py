"""The device's ``work_dir`` as a path on the board."""

import posixpath

TOOLS = ".tools"  # the folder in it that has edgepack's programs


def work_path(work_dir: str) -> str:
    """``work_dir`` as a path for programs on the board: relative paths start in the login directory."""
    path = posixpath.normpath(work_dir.removeprefix("~/") if work_dir != "~" else ".")
    return f"./{path}" if path.startswith("-") else path
