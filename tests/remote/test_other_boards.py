"""Boards that are not Debian: no libraries at all, musl, dropbear, other login shells, a root that is read-only …

Each is informed about, deployed to, measured and rolled back through the public functions.
"""

import json
import platform
from pathlib import Path

import pytest
from board_roots import Board, BoardKind, make_root
from loopback import lacking, need

from edgepack import api
from edgepack.base.paths import config_dir
from edgepack.config.target import load_target
from edgepack.selftesting.cases import CaseNet, Fill, KernelCase
from edgepack.selftesting.release import NAME, build

MUSL_LOADER = "/lib/ld-musl-x86_64.so.1"
READ_ONLY = 'mount -t tmpfs -o mode=777 tmpfs "$B/data"; mount -o remount,ro,bind "$B"'
# BusyBox before 1.31 has no -T.
OLD_MV = '#!/bin/sh\nfor word; do case $word in -*T*) echo "mv: invalid option -- T" >&2; exit 1;; esac; done\nexec busybox mv "$@"\n'


def shell(name: str, **more) -> BoardKind:
    program = need(name)
    return BoardKind(shell=program, programs=(program,), **more)


# What a board is, made when it is needed, since programs may be missing.
QUICK = {
    "glibc without getconf and ldd, dropbear without SFTP": lambda: BoardKind(server="dropbear"),
    "bash that prints": lambda: shell("bash", files={"/home/pi/.bashrc": "echo Welcome; date >&2; set -x\n"}),
    "a static busybox alone, its root read-only, a small /tmp": lambda: BoardKind(
        work_dir="/data/edgepack", mounts=f'mount -t tmpfs -o size=16k tmpfs "$B/tmp"; {READ_ONLY}'
    ),
}
SLOW = {
    "a static busybox alone": BoardKind,
    "musl": lambda: BoardKind(programs=(musl(),)),
    "mv without -T": lambda: BoardKind(files={"/bin/mv": OLD_MV}),
    "no coreutils": lambda: BoardKind(without=FEW),
    "tcsh": lambda: shell("tcsh", files={"/home/pi/.cshrc": "echo Welcome\n"}),
    "fish": lambda: shell("fish", files={"/home/pi/.config/fish/config.fish": "echo Welcome\n"}),
    "ksh": lambda: shell("ksh"),
    "dash": lambda: shell("dash"),
    "dropbear, read-only": lambda: BoardKind(
        server="dropbear", work_dir="/data/edgepack", mounts=READ_ONLY
    ),
    "a work directory with blanks and quotes": lambda: BoardKind(work_dir="my work's \"dir\" $HOME"),
}  # fmt: skip
FEW = tuple(
    f"/bin/{it}"
    for it in (
        "sha256sum", "flock", "readlink", "ln", "cp", "sync", "df", "find", "head", "tail", "rmdir", "mktemp", "getconf",
        "ls", "rm", "mv", "sleep", "dirname", "sed", "tr", "test", "[", "printf",
    )
)  # fmt: skip


def musl() -> str:
    if not Path(MUSL_LOADER).exists():
        lacking("musl is not installed: apt-get install musl")
    return MUSL_LOADER


@pytest.fixture(scope="session")
def releases(tmp_path_factory):
    """Two releases of one name for this machine's architecture."""
    if platform.machine() != "x86_64":
        lacking("needs an x86-64 machine")
    made = []
    for number, body in enumerate(("y = Relu (x)", "y = Add (x, x)")):
        folder = tmp_path_factory.mktemp("release")
        net = CaseNet(f"net{number}", "it runs", (KernelCase("y", "it runs", Fill((1, 16)), body),))
        made.append(build(net, load_target("x86-64-v3"), folder).bundle)
    return made


@pytest.fixture
def start(tmp_path, keys, home):
    boards: list[Board] = []

    def one(kind: BoardKind) -> Board:
        folder = tmp_path / "board"
        folder.mkdir()
        root = make_root(folder / "root", kind)
        boards.append(Board(folder, root, kind, keys / "user", keys / "host").start())
        fields = boards[-1].device().model_dump(exclude_defaults=True) | {"target": "x86-64-v3"}
        config_dir().mkdir(parents=True, exist_ok=True)
        (config_dir() / "devices.yaml").write_text(json.dumps({"edgepack": 1, "devices": {"pi": fields}}))
        return boards[-1]

    yield one
    for board in boards:
        board.stop()


def use(board: Board, releases: list[Path]) -> None:
    """All that is done with a board."""
    assert api.device_info("pi")["releases"] == {}
    first, second = (api.deploy(bundle, "pi") for bundle in releases)
    assert (first.changed, second.changed) == (True, True)
    assert not api.deploy(releases[1], "pi").changed
    measured = api.bench(releases[1], "pi", runs=3, warmup=1)
    assert measured.latency.p50 > 0
    assert api.rollback(NAME, "pi").digest == first.digest
    (held,) = api.device_info("pi")["releases"].values()
    assert {one["digest"]: one["current"] for one in held} == {first.digest: True, second.digest: False}


@pytest.mark.parametrize("kind", QUICK)
def test_a_board(start, releases, kind):
    use(start(QUICK[kind]()), releases)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOW)
def test_another_board(start, releases, kind):
    use(start(SLOW[kind]()), releases)
