"""Files that are built on the board from what it has: whole and right, whatever is cut off or damaged."""

import dataclasses
import hashlib
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_session import LocalSession

from edgepack.bundle.manifest import FileEntry
from edgepack.errors import DeployError
from edgepack.remote.chunks import MAX
from edgepack.remote.deltas import FRAME, Frames, Receiver, make_plans, send


class Site:
    """New files here, a folder on a board for them, and older ones beside it.

    Args:
        root: An empty folder.
        new: The contents of the new files by name; those that end with x are executable.
        old: The contents of what is on the board.
    """

    def __init__(self, root, new: dict[str, bytes], old: dict[str, bytes]):
        self.new = new
        self.here, self.there = root / "here", root / "board/new"
        for folder, files in ((self.here, new), (root / "board", old)):
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)
        self.there.mkdir(exist_ok=True)
        self.donors = {name: f"../{name}" if name in old else f"../{next(iter(old))}" for name in new if old}
        session = LocalSession(root / "board")
        self.board = Receiver(
            session, session.agent(), "new", [session.agent(), "receive", "--work-dir", "new"]
        )
        self.announced, self.sent = [], []

    @property
    def files(self):
        return {
            self.here / name: FileEntry(
                path=name,
                sha256=hashlib.sha256(data).hexdigest(),
                size=len(data),
                mode=0o755 if name.endswith("x") else 0o644,
            )
            for name, data in self.new.items()
        }

    def send(self, board=None):
        send(board or self.board, self.files, self.donors, self.announced.append, self.sent.append)

    def plans(self):
        return make_plans(self.board, self.files, self.donors)

    def orders(self) -> bytes:
        out = bytearray()
        frames = Frames(out.extend)
        for plan in self.plans():
            frames.file(plan, lambda _: None)
        frames.end()
        return bytes(out)

    def receive(self, orders: bytes):
        return subprocess.run(
            [*self.board.receive[:-1], self.there], input=orders, capture_output=True, check=False
        )

    def check(self):
        assert {path.name: path.read_bytes() for path in self.there.iterdir()} == self.new
        for path, entry in self.files.items():
            assert (self.there / path.name).stat().st_mode & 0o7777 == entry.mode


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "replace", "move", "repeat"]),
        st.integers(0, 200_000),
        st.integers(0, 60_000),
    ),
    max_size=4,
)


def edited(data: bytes, edits) -> bytes:
    for kind, at, size in edits:
        begin, piece, end = data[:at], data[at : at + size], data[at + size :]
        data = {
            "insert": begin + noise(size, at) + piece + end,
            "delete": begin + end,
            "replace": begin + noise(size, at) + end,
            "move": end + piece + begin,
            "repeat": begin + piece + end + piece,
        }[kind]
    return data


@settings(max_examples=20, deadline=None)
@given(edits=EDITS, others=st.lists(st.binary(max_size=300), max_size=3))
def test_edited_files_arrive_as_they_are(tmp_path_factory, built_agents, edits, others):
    old = noise(200_000)
    new = {"model": edited(old, edits), "again.x": edited(old, edits[:2])}
    new |= {f"small-{index}": data for index, data in enumerate(others)}
    site = Site(tmp_path_factory.mktemp("site"), new, {"model": old})
    site.send()
    site.check()
    assert site.announced == [sum(site.sent)]


def test_of_a_changed_layer_little_more_than_the_layer_is_sent(tmp_path, built_agents):
    old = noise(4_000_000)
    layer = slice(1_234_567, 1_259_567)
    new = old[: layer.start] + noise(25_000, 1) + old[layer.stop :]
    site = Site(tmp_path, {"model": new}, {"model": old})
    assert len(site.orders()) < 25_000 + 2 * MAX
    (plan,) = site.plans()
    assert [piece.source for piece in plan.pieces] == ["../model", None, "../model"]
    site.send()
    site.check()


def test_what_two_new_files_share_is_sent_once(tmp_path, built_agents):
    shared = noise(700_000)
    site = Site(tmp_path, {"agent.x": noise(100_000, 1) + shared, "model": shared}, {})
    site.send()
    site.check()
    assert sum(site.sent) < 800_000 + 2 * MAX


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_that_is_cut_anywhere_is_continued(tmp_path, built_agents, seed):
    old = noise(1_000_000)
    new = {"a": old[:400_000] + noise(2_500_000, 1) + old[500_000:], "b.x": noise(700_000, 2), "empty": b""}
    site = Site(tmp_path, new, {"old": old})
    orders = site.orders()
    cut = int(np.random.default_rng(seed).integers(0, len(orders)))
    done = site.receive(orders[:cut])
    assert done.returncode == 6
    for path in site.there.iterdir():  # what has its name is whole
        assert path.name.endswith(".part") or path.read_bytes() == new[path.name]
    plans = site.plans()
    arrived = sum(path.stat().st_size for path in site.there.glob(".*.part"))
    assert sum(plan.kept for plan in plans) >= arrived - 2 * MAX
    site.send()
    site.check()
    if cut > 2 * FRAME:
        assert sum(site.sent) < 3_200_000 - FRAME


def test_what_was_kept_is_compared_and_damage_in_it_sent_again(tmp_path, built_agents):
    site = Site(tmp_path, {"model": noise(2_500_000)}, {})
    site.receive(site.orders()[: 2 * FRAME + 100])
    (part,) = site.there.iterdir()
    data = bytearray(part.read_bytes())
    assert len(data) > FRAME / 2
    data[300_000] ^= 1
    part.write_bytes(data)
    assert 300_000 - MAX <= site.plans()[0].kept <= 300_000
    site.send()
    site.check()


class Meddling:
    """A session on which something happens before each start of ``receive``."""

    def __init__(self, session, do):
        self._session, self._do = session, do

    def stream(self, argv):
        process = self._session.stream(argv)
        self._do(process)
        return process

    def __getattr__(self, name):
        return getattr(self._session, name)


def test_a_donor_that_changes_meanwhile_is_not_used(tmp_path, built_agents):
    old = noise(300_000)
    new = {"model": old + b"new", "other": b"other"}
    for number, do in enumerate(
        (
            lambda path: path.write_bytes(noise(300_000, 1)),
            lambda path: path.write_bytes(old[:1000]),
            lambda path: path.unlink(missing_ok=True),
        )
    ):
        site = Site(tmp_path / str(number), new, {"model": old})
        session = Meddling(site.board.session, lambda _, do=do, site=site: do(site.there.parent / "model"))
        site.send(dataclasses.replace(site.board, session=session))
        site.check()
        assert len(site.announced) == 2
        assert site.announced[1] == len(new["model"])


def test_bytes_that_change_on_the_way_never_become_a_file(tmp_path, built_agents):
    site = Site(tmp_path, {"model": noise(300_000)}, {})
    orders = bytearray(site.orders())
    for position in (*range(0, 120, 7), 20_000, len(orders) - 1):
        damaged = bytes(orders[:position]) + bytes([orders[position] ^ 4]) + bytes(orders[position + 1 :])
        done = site.receive(damaged)
        assert done.returncode in {0, 5, 6}, done.stderr
        for path in site.there.iterdir():
            assert path.name != "model" or path.read_bytes() == site.new["model"]
            path.unlink()


def test_a_board_that_cannot_store_a_file_says_why(tmp_path, built_agents):
    site = Site(tmp_path, {"model": noise(3_000_000)}, {})
    (site.there / "model").mkdir()
    with pytest.raises(DeployError) as raised:
        site.send()
    assert "model cannot be written" in (raised.value.why or "")
    assert [path.name for path in site.there.iterdir()] == ["model"]
    shutil.rmtree(site.there)
    with pytest.raises(DeployError, match="cannot store"):
        site.send()
