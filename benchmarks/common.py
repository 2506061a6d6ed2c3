"""What the benchmarks beside ``peers`` share: the network they take, and a description of the machine."""

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgepack.config.host import describe


def network(name: str, scratch: Path) -> Path:
    """A network as an .onnx file: a key of ``edgepack.zoo.NETS``, made in ``scratch``, or the user's own file.

    It is made in a process of its own, so that torch and its threads are not in the one that measures.

    Raises:
        SystemExit: There is neither such a network nor such a file.
    """
    if Path(name).suffix == ".onnx":
        if not Path(name).is_file():
            raise SystemExit(f"there is no file {name}")
        return Path(name).resolve()
    from edgepack.zoo import NETS

    if name not in NETS:
        raise SystemExit(f"there is no network {name}: give an .onnx file or one of {', '.join(NETS)}")
    path = scratch / f"{name}.onnx"
    program = "import sys; from pathlib import Path; from edgepack.zoo import NETS; NETS[sys.argv[1]].export(Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", program, name, str(path)], check=True)
    return path


def machine(*programs: Sequence[str]) -> dict[str, Any]:
    """This machine, as far as it matters to a figure; ``programs`` are commands that print their version."""
    described = describe()
    return {
        "cpu": described["cpu"],
        "tvm_target": described["tvm"],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("apache-tvm", "apache-tvm-ffi", "paramiko", "xgboost-cpu")
        },
        "programs": {argv[0]: _first_line(argv) for argv in programs},
    }


def _first_line(argv: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return None  # not installed; whoever needs it says so
    return next(iter((done.stdout + done.stderr).strip().splitlines()), None)
