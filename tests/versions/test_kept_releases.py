"""Bundles of each version on a board: deployed, measured, and rolled back to."""

import hashlib
import json
import platform
from pathlib import Path

import kept
import pytest

from edgepack import api
from edgepack.bundle.archive import read_manifest
from edgepack.bundle.layout import MANIFEST
from edgepack.remote import virtual
from edgepack.remote.install import install, releases, rollback
from edgepack.remote.session import connect
from edgepack.spec import SchemaVersionError

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the bundles are for x86-64")
OLDER = [path for path in kept.BUNDLES if path != kept.NEWEST]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A virtual board that is this machine behind a real sshd."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{kind}_HOME", str(tmp_path_factory.mktemp(kind.lower())))
        with virtual.up("host", "kept", owned=True) as up:
            yield up


@pytest.fixture
def session(board):
    with connect(board.name, board.device) as opened:
        yield opened


@pytest.mark.parametrize("older", OLDER, ids=lambda path: path.stem)
def test_an_older_bundle_is_deployed_measured_and_rolled_back_to(older, board):
    digest = read_manifest(older).digest
    assert api.deploy(older, board.name).digest == digest
    assert not api.deploy(older, board.name).changed
    assert len(api.bench(older, board.name, runs=30).samples_ns) >= 30
    api.deploy(kept.NEWEST, board.name)
    back = api.rollback("digits", board.name)
    assert (back.digest, back.changed) == (digest, True)
    assert api.rollback("digits", board.name).digest == read_manifest(kept.NEWEST).digest


def test_a_board_that_an_older_edgepack_left_can_go_back(session, tmp_path):
    history = (kept.FILES / "history-1").read_text()
    digest = history.split()[2]
    root = tmp_path / "digits"
    older = kept.unpack(kept.FILES / "bundle-1.edgepack")
    for path, (data, mode) in older.items():
        target = root / "releases" / digest / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(mode)
    (root / "current").symlink_to(f"releases/{digest}")
    (root / "history").write_text(history)
    assert [(one.version, one.current) for one in releases(session, "digits", str(tmp_path))] == [
        ("1.0.0", True)
    ]
    done = install(session, kept.NEWEST, work_dir=str(tmp_path))
    assert done.previous == digest
    new = [data for path, (data, mode) in kept.unpack(kept.NEWEST).items() if older.get(path) != (data, mode)]
    assert done.bytes_sent == sum(map(len, new))  # what the older release has already is linked
    assert rollback(session, "digits", str(tmp_path)).digest == digest


def test_a_release_of_a_newer_edgepack_is_named_as_such(session, tmp_path):
    first = install(session, OLDER[0], work_dir=str(tmp_path))
    install(session, kept.NEWEST, work_dir=str(tmp_path))
    path = Path(first.path) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"edgepack": 5}))
    newer = hashlib.sha256(path.read_bytes()).hexdigest()
    path.parent.rename(path.parent.with_name(newer))
    (tmp_path / "digits/previous").unlink()
    (tmp_path / "digits/previous").symlink_to(f"releases/{newer}")
    with pytest.raises(SchemaVersionError) as caught:
        rollback(session, "digits", str(tmp_path))
    assert "manifest version 5, this one reads up to 4; update edgepack" in caught.value.message
    assert caught.value.state.endswith("is unchanged")
    assert (tmp_path / "digits/current").readlink().name != first.digest
    install(session, OLDER[1], work_dir=str(tmp_path))  # one more beside it does not mind
