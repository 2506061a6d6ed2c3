"""Fixtures of the SSH tests: a server per session, and a home directory per test."""

import os
import platform
import subprocess

import pytest
import small_bundles
from local_session import Board, LocalSession
from loopback import Sshd, keygen, lacking

from edgepack.agent.build import build_agent
from edgepack.base.paths import cache_dir
from edgepack.bundle.archive import read_manifest
from edgepack.remote.install import install
from edgepack.remote.session import SSHSession, connect
from edgepack.toolchain.zig import MUSL


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A folder with the user's key and the host's keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("user", "host", "other"):
        keygen(folder / name)
    return folder


@pytest.fixture(scope="session")
def sshd(tmp_path_factory, keys):
    server = Sshd(tmp_path_factory.mktemp("sshd"), keys / "user", keys / "host").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def built_agents():
    """The cache of agents, with the one for boards on this machine."""
    build_agent(platform.machine(), MUSL)
    return cache_dir() / "agent"


@pytest.fixture
def home(tmp_path_factory, monkeypatch, built_agents):
    """A separate home directory: no test reads or writes the user's ~/.ssh, agent or XDG files, but built agents."""
    folder = tmp_path_factory.mktemp("home")
    (folder / ".ssh").mkdir(mode=0o700)
    (folder / "cache/edgepack").mkdir(parents=True)
    (folder / "cache/edgepack/agent").symlink_to(built_agents)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
    return folder


@pytest.fixture
def session(sshd, home):
    with connect("board", sshd.device()) as opened:
        yield opened


@pytest.fixture
def open_session(sshd, home):
    """Opens further sessions; all are closed at the end."""
    opened: list[SSHSession] = []

    def open_one(**changes: object) -> SSHSession:
        opened.append(connect("board", sshd.device(**changes)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def own_sshd(tmp_path_factory, keys, home):
    """A server for one test, which may kill or stop it."""
    server = Sshd(tmp_path_factory.mktemp("own"), keys / "user", keys / "host").start()
    yield server
    server.stop()


@pytest.fixture
def own_session(own_sshd):
    with connect("board", own_sshd.device()) as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    if os.geteuid() != 0:
        lacking("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        lacking(f"mounting a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="session")
def board(tmp_path_factory):
    folder, home = tmp_path_factory.mktemp("bundles"), tmp_path_factory.mktemp("home")
    tiny = {"model": b"model" * 100, "library": b"library" * 100}
    bundles = {
        "Z": small_bundles.make(folder, version="0.0.1", **tiny),
        "A": small_bundles.make(folder, version="1.0.0", **tiny),
        "B": small_bundles.make(folder, version="2.0.0", **tiny | {"model": b"new" * 100}),
        "bad": small_bundles.make(folder, version="3.0.0", body=small_bundles.CRASHES, **tiny),
    }
    for name in ("Z", "A"):
        install(LocalSession(home), bundles[name])
    digests = {name: read_manifest(path).digest for name, path in bundles.items()}
    return Board(bundles, digests | {"X": "0123456789abcdef" * 4}, home)
