"""Temporary folders: gone after the block, and after the process was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.base.temporary import temporary_folder

_HOLD = """
import sys, time
from pathlib import Path
from edgepack.base.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1]), "t-") as folder:
    (folder / "big").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path):
    """Starts processes that use a temporary folder; returns each with its folder."""
    started = []

    def start() -> tuple[subprocess.Popen[str], Path]:
        argv = [sys.executable, "-c", _HOLD, str(tmp_path)]
        process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_is_empty_and_goes_away(tmp_path):
    with temporary_folder(tmp_path, "t-") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path, "t-"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(hold, tmp_path):
    dead, left = hold()
    _, used = hold()
    dead.kill()
    dead.wait()
    assert (left / "big").exists()
    with temporary_folder(tmp_path, "t-"):
        assert not left.exists()
        assert (used / "big").exists()


def test_a_folder_of_somebody_else_is_left_alone_whatever_its_name(hold, tmp_path):
    _, used = hold()
    mark = next(path.name for path in used.parent.iterdir() if path.name.startswith("."))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / mark).touch()
    for name in ("plain", "linked", "piped", "folder"):
        (tmp_path / f"t-{name}").mkdir()
        (tmp_path / f"t-{name}/keep").write_text("mine")
    (tmp_path / "t-linked" / mark).symlink_to(elsewhere / mark)
    os.mkfifo(tmp_path / "t-piped" / mark)
    (tmp_path / "t-folder" / mark).mkdir()
    (tmp_path / "t-link").symlink_to(elsewhere)
    before = sorted(path for path in tmp_path.rglob("*"))
    with temporary_folder(tmp_path, "t-"):
        pass
    assert sorted(path for path in tmp_path.rglob("*")) == before
