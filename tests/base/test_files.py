"""Whether a place can be written, asked before the work."""

import os

import pytest

from edgepack.base.files import require_writable
from edgepack.errors import UsageError


@pytest.mark.parametrize("place", [".", "new", "new/below/that"])
def test_a_folder_that_can_be_made_is_writable_and_stays_unmade(tmp_path, place):
    require_writable(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_relative_to_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_writable(tmp_path.relative_to(tmp_path) / "new")


@pytest.mark.parametrize("place", ["file", "file/below", "dangling", "dangling/below", "/proc/nowhere"])
def test_what_is_no_folder_or_takes_no_files_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("taken")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match="cannot write into") as caught:
        require_writable(tmp_path / place)
    assert caught.value.why
    assert caught.value.state == "nothing was run"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_refused(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(UsageError):
        require_writable(closed / "new")
