"""Debian packages for virtual boards: what is missing or fails is named, and nothing half-built stays."""

import os
import shutil

import pytest

from edgepack.errors import UsageError
from edgepack.remote.virtual import debian, rootfs

pytestmark = pytest.mark.skipif(
    shutil.which("apt-get") is None and os.environ.get("CI") != "true", reason="needs apt-get"
)


def test_without_debians_keys_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "no-keyring.gpg")
    with pytest.raises(UsageError, match="keys") as caught:
        debian.unpack(tmp_path / "tree", "arm64", "bookworm", ["bash"], tmp_path)
    assert "debian-archive-keyring" in caught.value.next
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not debian.KEYRING.exists() and os.environ.get("CI") != "true", reason="needs debian-archive-keyring"
)
def test_a_mirror_that_cannot_be_reached_leaves_no_partial_root(tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "MIRROR", "http://127.0.0.1:9/debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("http_proxy", raising=False)
    with pytest.raises(UsageError, match="could not be built") as caught:
        rootfs.ensure("aarch64", "bookworm")
    assert caught.value.where == "apt-get"
    assert "127.0.0.1" in caught.value.why
    made = rootfs.location("aarch64", "bookworm").parent
    assert [path.name for path in made.iterdir()] == ["rootfs.lock"]
