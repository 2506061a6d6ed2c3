"""Whatever lies in the work directory: what edgepack did not make stays as it is, and a release that works stays current.

Foreign files, links, FIFOs and folders, with names of their own and with those that edgepack gives, lie at random places;
a release is then deployed, fails its test, is killed at any step, or is rolled back.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_session import Board, Killed, LocalSession, works

from edgepack.bundle.manifest import Manifest
from edgepack.errors import DeployError, EdgepackError, LockedError
from edgepack.remote.install import install, rollback
from edgepack.remote.lock import lock
from edgepack.remote.scratch import scratch

PLACES = (
    "golden", "notes.txt", "releases/golden", "releases/{A} backup", "releases/{A}.bak", "releases/{A}.1",
    "releases/{A}\n{B}", "releases/-rf", "releases/.mine", "releases/.incoming-mine", "releases/.incoming-{B}",
    "releases/.incoming-{B}/model", "releases/.incoming-{B}/keep", "releases/.incoming-{B}/model/.model.so.0123abcd.part",
    "releases/.incoming-{X}", "releases/.incoming-{X}/model/model.so", "releases/.gone-{A}", "releases/.gone-{X}/x",
    "releases/{B}", "releases/{B}/model/model.so", "releases/{X}", "releases/{X}/manifest.json", "releases/{A}/notes",
    "releases/{B}.1", "releases/{A}/sample/x y", "releases/{Z}/mine", "releases/.smoke-mine", "releases/.smoke-0123abcd/mine",
    "releases/{B}.smoke", "releases/.incoming-{B}.smoke", "releases/$(touch x)", "releases/*", ".link-mine",
    ".current.new", ".previous.new", "current.bak", "releases/.{A}.part",
    "../.scratch/mine", "../.scratch/0123456789abcdef-01234567/mine", "../.scratch/{A}", "../digits-old/releases/{A}/x",
)  # fmt: skip
BLOCKING = ("current", "previous", "history", ".lock", "releases")
KINDS = ("file", "empty folder", "folder", "FIFO", "link", "dangling link")


@dataclass(frozen=True)
class Foreign:
    """Something that edgepack did not make. In ``path``, below the release's folder, A, B, X and Z stand for digests."""

    path: str
    kind: str

    def put(self, root: Path, digests: dict[str, str], elsewhere: Path) -> Path | None:
        """Make it if nothing is in its place; returns its path."""
        path = root / (self.path.format(**digests) if "{" in self.path else self.path)
        if os.path.lexists(path) or any(
            p.is_symlink() or (p.exists() and not p.is_dir()) for p in path.parents
        ):
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        match self.kind:
            case "file":
                path.write_text(f"mine {self.path}")
                path.chmod(0o640)
            case "empty folder":
                path.mkdir()
            case "folder":
                path.mkdir()
                (path / "keep").write_text("mine")
                (path / "edgepack-agent").write_text("mine")
            case "FIFO":
                os.mkfifo(path)
            case "link":
                path.symlink_to(elsewhere)
            case _:
                path.symlink_to("nowhere")
        return path


def look(path: Path) -> dict[str, tuple[object, ...]]:
    """A path and every entry below it: kind, mode, and contents or target."""
    found: dict[str, tuple[object, ...]] = {}
    for entry in (path, *sorted(path.rglob("*"))) if not path.is_symlink() else (path,):
        about = entry.lstat()
        what: object = None
        if stat.S_ISREG(about.st_mode):
            what = entry.read_bytes()
        elif stat.S_ISLNK(about.st_mode):
            what = str(entry.readlink())
        found[str(entry)] = (about.st_mode, what)
    return found


def act(session: LocalSession, action: str, bundles: dict[str, Path]) -> None:
    """Deploy, roll back or measure; errors that edgepack tells are as good as success."""
    try:
        if action == "rollback":
            rollback(session, "digits")
        elif action == "scratch":
            with scratch(session, bundles["B"]):
                session.run(["true"])
        else:
            install(session, bundles[action], keep=1)
    except (EdgepackError, Killed):
        return


@dataclass(frozen=True)
class Example:
    """Foreign things on the board, what is done, and at which step the client is killed."""

    things: list[Foreign]
    action: str
    die_at: int | None

    def try_on(self, board: Board, home: Path) -> int:
        """Do it on a copy of the board; returns the number of steps that it took."""
        root, elsewhere = board.copy(home), home / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "keep").write_text("mine")
        put = [thing.put(root, board.digests, elsewhere) for thing in self.things]
        paths = [path for path in (*put, elsewhere) if path is not None]
        before = {path: look(path) for path in paths}
        session = LocalSession(home, die_at=self.die_at)
        act(session, self.action, board.bundles)
        assert {path: look(path) for path in paths} == before
        works(home, board.digests)
        act(LocalSession(home), "B", board.bundles)  # it neither fails nor harms anything, whatever happened
        assert {path: look(path) for path in paths} == before
        works(home, board.digests)
        assert Manifest.load(root / "current/manifest.json").digest == board.digests["B"]
        return session.steps


examples = st.builds(
    Example,
    st.lists(st.builds(Foreign, st.sampled_from(PLACES), st.sampled_from(KINDS)), max_size=6),
    st.sampled_from(["B", "bad", "A", "rollback", "scratch"]),
    st.none() | st.integers(1, 20),
)
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=12, **QUIET)
@given(example=examples)
def test_nothing_foreign_is_changed_or_removed(board, tmp_path, example):
    example.try_on(board, tmp_path / "home")


@pytest.mark.slow
@settings(max_examples=200, **QUIET)
@given(example=examples)
def test_nothing_foreign_is_changed_or_removed_in_many_layouts(board, tmp_path, example):
    example.try_on(board, tmp_path / "home")


@pytest.mark.parametrize(
    "action",
    ["B", *(pytest.param(action, marks=pytest.mark.slow) for action in ("bad", "rollback", "scratch"))],
)
def test_what_a_client_leaves_that_is_killed_at_any_step_is_removed_by_the_next(board, tmp_path, action):
    steps = Example([], action, None).try_on(board, tmp_path / "home")
    for step in range(1, steps + 1):
        home = tmp_path / f"{action}-{step}"
        Example([], action, step).try_on(board, home)
        root = home / "edgepack"
        for path in (root / ".scratch").glob("*"):
            os.utime(path, (0, 0))  # one with a lock file alone is left to its owner for a minute
        act(LocalSession(home), "scratch", board.bundles)  # removes what a killed measurement left
        left = {path.name for path in (root / "digits/releases").iterdir()}
        assert left <= set(board.digests.values()), step
        assert not any((root / ".scratch").iterdir()), step
        assert not list(root.rglob("*.part")), step
        own = {"current", "previous", "history", "releases", ".lock"}
        assert {path.name for path in (root / "digits").iterdir()} == own


ALLOWED = {("history", "file"), (".lock", "file"), ("releases", "folder"), ("releases", "empty folder")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BLOCKING)
def test_what_is_in_the_place_of_edgepacks_own_files_is_named_and_left_alone(board, tmp_path, name, kind):
    if (name, kind) in ALLOWED:
        return
    home = tmp_path / "home"
    root, elsewhere = board.copy(home), home / "elsewhere"
    elsewhere.mkdir()
    if os.path.lexists(root / name):
        (root / name).rename(elsewhere / name)
    Foreign(name, kind).put(root, board.digests, elsewhere)
    before = look(home)
    for do in (
        lambda: install(LocalSession(home), board.bundles["B"]),
        lambda: rollback(LocalSession(home), "digits"),
    ):
        with pytest.raises(DeployError) as raised:
            do()
        assert f"{name} " in (raised.value.why or "")
        assert look(home) == before


def test_a_lock_file_with_other_text_is_locked_and_not_overwritten(board, tmp_path):
    root = board.copy(tmp_path / "home")
    (root / ".lock").write_text("my notes\n")
    session = LocalSession(tmp_path / "home")
    with lock(session, "edgepack/digits"), pytest.raises(LockedError):
        install(session, board.bundles["B"])
    assert (root / ".lock").read_text() == "my notes\n"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a mode", lambda release: (release / "bin/edgepack-agent").chmod(0o644)),
        ("another mode", lambda release: (release / "model/model.so").chmod(0o600)),
        ("contents", lambda release: (release / "model/model.so").write_bytes(b"bit rot")),
        ("a missing file", lambda release: (release / "sample/input-0.npy").unlink()),
        ("a link to the same contents", lambda release: as_link(release / "model/model.so")),
        ("a FIFO", lambda release: as_fifo(release / "model/model.so")),
        ("a folder", lambda release: as_folder(release / "model/model.so")),
        ("an extra file", lambda release: (release / "model/.model.so.0123abcd.part").write_bytes(b"half")),
        ("a folder that is a link", lambda release: as_link(release / "sample")),
        ("no manifest", lambda release: (release / "manifest.json").unlink()),
    ],
)
def test_damage_of_any_kind_is_told_and_a_new_copy_replaces_the_release(board, tmp_path, name, damage):
    root = board.copy(tmp_path / "home")
    release = (root / "current").resolve()
    damage(release)
    before = look(release)
    done = install(LocalSession(tmp_path / "home"), board.bundles["A"])
    assert done.changed
    assert any("was damaged" in note for note in done.notes), name
    assert (root / "current").resolve() != release
    works(tmp_path / "home", board.digests)
    if release.exists():  # what edgepack cannot have made keeps it there
        assert look(release) == before
    assert install(LocalSession(tmp_path / "home"), board.bundles["A"]).changed is False
    assert rollback(LocalSession(tmp_path / "home"), "digits").digest == board.digests["Z"]


def as_link(path: Path) -> None:
    path.rename(path.parents[3] / "moved")
    path.symlink_to(path.parents[3] / "moved")


def as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_a_damaged_release_is_not_what_a_rollback_restores(board, tmp_path):
    for damage in ("manifest.json", "model/model.so"):
        root = board.copy(tmp_path / "home")
        (root / "current" / damage).unlink()
        session = LocalSession(tmp_path / "home")
        assert install(session, board.bundles["B"]).previous == board.digests["Z"]
        assert rollback(session, "digits").digest == board.digests["Z"]


def test_a_file_beside_a_releases_own_does_not_stop_a_rollback(board, tmp_path):
    root = board.copy(tmp_path / "home")
    notes = (root / "previous").resolve() / "notes.txt"
    notes.write_text("mine")
    session = LocalSession(tmp_path / "home")
    assert rollback(session, "digits").digest == board.digests["Z"]
    assert rollback(session, "digits").digest == board.digests["A"]
    assert notes.read_text() == "mine"
