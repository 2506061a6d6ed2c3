"""Power cuts, disks with errors, files that are replaced, and clients that vanish or are ended, during a deploy."""

import itertools
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import small_bundles
from local_session import Board, LocalSession, works
from store_program import build_store

from edgepack.bundle.archive import read_manifest
from edgepack.errors import DeployError, IntegrityError, LockedError, UnreachableError
from edgepack.remote import install as installing
from edgepack.remote import lock as locking
from edgepack.remote import store
from edgepack.remote.install import install, rollback
from edgepack.remote.scratch import scratch
from edgepack.remote.session import connect
from edgepack.remote.staging import unpack_bundle


@pytest.fixture(scope="module")
def store_program(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("action", ["install", pytest.param("rollback", marks=pytest.mark.slow)])
def test_a_power_cut_anywhere_in_the_switch_keeps_a_release_and_a_rollback_target(
    board: Board, tmp_path, store_program, action
):
    seen = set()
    for number in itertools.count(1):
        home = tmp_path / str(number)
        root = board.copy(home)
        cut = LocalSession(home, store=store_program, faults={"publish": f"cut {number}"})
        done = False
        with suppress(DeployError):
            if action == "install":
                install(cut, board.bundles["B"])
            else:
                rollback(cut, "digits")
            done = True
        works(home, board.digests)
        now, before = read_manifest_of(root / "current"), (root / "previous").readlink().name
        seen.add((now, before))
        new, old = ("B", "A") if action == "install" else ("Z", "A")
        other = {board.digests[new]: old, board.digests[old]: "Z"}[now]
        assert rollback(LocalSession(home), "digits").digest == board.digests[other], number
        works(home, board.digests)
        if done:
            break
    assert len(seen) == 3  # before, between the two links, after


def read_manifest_of(folder: Path) -> str:
    from edgepack.bundle.manifest import Manifest

    return Manifest.load(folder / "manifest.json").digest


@pytest.mark.parametrize(
    ("action", "number"), [("check", 1), ("check", 3), ("publish", 1), ("publish", 2), ("publish", 5)]
)
def test_a_disk_with_errors_fails_the_deploy_and_the_links_stay(
    board: Board, tmp_path, store_program, action, number
):
    """After the transfer, before and after the links are moved."""
    root = board.copy(tmp_path / "home")
    session = LocalSession(tmp_path / "home", store=store_program, faults={action: f"disk {number}"})
    with pytest.raises(DeployError) as raised:
        install(session, board.bundles["B"])
    assert raised.value.exit_code == 5
    assert "written to the disk" in (raised.value.why or "")
    assert raised.value.state == f"the current release {board.digests['A'][:12]} is unchanged"
    assert (root / "current").readlink().name == board.digests["A"]
    assert (root / "previous").readlink().name == board.digests["Z"]
    assert not list(root.glob(".link-*"))
    assert install(LocalSession(tmp_path / "home"), board.bundles["B"]).changed
    works(tmp_path / "home", board.digests)


@pytest.mark.parametrize("fault", ["old", "links"])
def test_an_old_kernel_and_a_file_system_without_hard_links_do(board: Board, tmp_path, store_program, fault):
    root = board.copy(tmp_path / "home")
    faults = dict.fromkeys(("fill", "check", "publish", "remove"), fault)
    session = LocalSession(tmp_path / "home", store=store_program, faults=faults)
    assert install(session, board.bundles["B"]).bytes_sent < 5000  # the model and the manifest
    assert (root / "current/lib/libtvm_runtime.so").stat().st_nlink == (1 if fault == "links" else 2)
    assert rollback(session, "digits").digest == board.digests["A"]
    works(tmp_path / "home", board.digests)


def test_the_state_in_an_error_is_what_the_board_has(board: Board, tmp_path):
    """Another program moves ``current``, or damages it, while a deploy fails."""
    for do, says in (
        (lambda root: (root / "current").unlink(), "the current release is none, and was"),
        (
            lambda root: (root / "current/model/model.so").write_bytes(b"x"),
            "is still current, and is damaged: model/model.so",
        ),
    ):
        home = tmp_path / says[:25]
        root = board.copy(home)

        class Meddled(LocalSession):
            def run(self, argv, **options):
                if any("--output-dir" in word for word in argv):
                    do(root)  # noqa: B023 - it is called in this iteration
                return super().run(argv, **options)

        with pytest.raises(DeployError) as raised:
            install(Meddled(home), board.bundles["bad"])
        assert says in (raised.value.state or "")


def test_the_history_takes_any_name_and_recovers_from_a_cut_line(board: Board, tmp_path, monkeypatch):
    root = board.copy(tmp_path / "home")
    history = root / "history"
    history.write_text(history.read_text() + "2026-01-01T00:00:00Z install 01234")
    monkeypatch.setenv("LOGNAME", "CORP\\carl\\c\n\x1b[2J")
    session = LocalSession(tmp_path / "home")
    install(session, board.bundles["B"])
    rollback(session, "digits")
    lines = history.read_text().splitlines()
    assert [line.split()[1:3] for line in lines[-2:]] == [
        ["install", board.digests["B"]],
        ["rollback", board.digests["A"]],
    ]
    assert all(line.isprintable() for line in lines)
    assert "by CORP\\carl\\c" in lines[-1]


@pytest.mark.parametrize(
    "replace", [shutil.copy, lambda new, old: Path(shutil.copy(new, f"{old}.new")).replace(old)]
)
@pytest.mark.parametrize("when", ["survey", "preflight", "lock"])
def test_a_bundle_that_is_replaced_meanwhile_installs_what_it_held_first_or_nothing(
    board: Board, tmp_path, monkeypatch, replace, when
):
    root = board.copy(tmp_path / "home")
    bundle = tmp_path / "release.edgepack"
    shutil.copy(board.bundles["B"], bundle)
    real = getattr(installing, when)

    def meddled(*arguments, **options):
        replace(board.bundles["Z"], bundle)
        return real(*arguments, **options)

    monkeypatch.setattr(installing, when, meddled)
    if when == "survey":  # before it is unpacked
        with pytest.raises(IntegrityError, match="damaged") as raised:
            install(LocalSession(tmp_path / "home"), bundle)
        assert "was replaced while it was in use" in (raised.value.why or "")
        assert read_manifest_of(root / "current") == board.digests["A"]
    else:
        assert install(LocalSession(tmp_path / "home"), bundle).digest == board.digests["B"]
        assert read_manifest_of(root / "current") == board.digests["B"]
    with pytest.raises(IntegrityError, match="replaced"):
        install(LocalSession(tmp_path / "home"), board.bundles["B"], digest=board.digests["Z"])
    with pytest.raises(IntegrityError), unpack_bundle(board.bundles["B"], board.digests["Z"]):
        pytest.fail("the block must not run")


def test_a_board_without_any_program_but_the_agents_will_do(board: Board, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cp", "dirname"):  # the small bundles' agent is a script, which needs them
        (tools / name).symlink_to(shutil.which(name))
    root = board.copy(tmp_path / "home")
    session = LocalSession(tmp_path / "home", path=str(tools))
    assert install(session, board.bundles["B"]).changed
    assert read_manifest_of(root / "current") == board.digests["B"]
    assert rollback(session, "digits").digest == board.digests["A"]
    with scratch(session, board.bundles["B"]):
        assert list((tmp_path / "home/edgepack/.scratch").iterdir())
    assert not list((tmp_path / "home/edgepack/.scratch").iterdir())


def test_cdpath_of_the_login_does_not_lead_elsewhere(board: Board, tmp_path):
    root = board.copy(tmp_path / "home")
    shutil.copytree(tmp_path / "home/edgepack", tmp_path / "other/edgepack", symlinks=True)
    before = sorted((tmp_path / "other").rglob("*"))
    session = LocalSession(tmp_path / "home")
    session.environment["CDPATH"] = str(tmp_path / "other")
    assert install(session, board.bundles["B"]).changed
    assert read_manifest_of(root / "current") == board.digests["B"]
    assert sorted((tmp_path / "other").rglob("*")) == before


class Proxy:
    """Forwards one port to another, until it is frozen: then it keeps its connections and forwards nothing."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.frozen = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        client, _ = self._server.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        self._sockets += [client, server]
        other = {client: server, server: client}
        while not self.frozen.is_set():
            for ready in select.select(list(other), [], [], 0.1)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                if not self.frozen.is_set():
                    other[ready].sendall(data)

    def close(self) -> None:
        for each in (self._server, *self._sockets):
            each.close()


def until_free(session, root: str) -> None:
    """Take the lock as soon as it is free."""
    for _ in itertools.count():
        try:
            with locking.lock(session, root):
                return
        except LockedError:
            time.sleep(0.2)


def test_the_lock_of_a_client_that_vanished_without_a_word_is_released(sshd, home, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SILENCE_S", 2)
    monkeypatch.setattr(locking, "HEARTBEAT_S", 0.1)
    proxy, root = Proxy(sshd.port), str(tmp_path / "work/digits")
    vanishing = connect("board", sshd.device(port=proxy.port))
    with connect("board", sshd.device()) as other:
        holder = locking.lock(vanishing, root)
        held = holder.__enter__()
        with pytest.raises(LockedError), locking.lock(other, root):
            pytest.fail("it is held")
        proxy.frozen.set()
        until_free(other, root)
        with locking.lock(other, root):
            (tmp_path / "work/digits/x").touch()
            with pytest.raises(DeployError) as raised:
                store.remove(other, root, ["file x"], lock=(root, held.process))
            assert "the lock was lost" in (raised.value.why or "")
            assert (tmp_path / "work/digits/x").exists()
    proxy.close()
    with suppress(UnreachableError):
        holder.__exit__(None, None, None)
    vanishing.close()


@pytest.mark.slow
def test_a_lock_is_held_for_as_long_as_its_owner_lives(board: Board, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SILENCE_S", 4)
    monkeypatch.setattr(locking, "HEARTBEAT_S", 0.2)
    board.copy(tmp_path / "home")
    session = LocalSession(tmp_path / "home")
    with locking.lock(session, "edgepack/digits") as held:
        time.sleep(10)
        with pytest.raises(LockedError):
            install(session, board.bundles["B"])
        assert held.remove(["file none"]) == []


DEPLOY = """
import sys
from edgepack.cli import main
main(["deploy", sys.argv[1], "board"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_deploy_that_is_ended_by_a_signal_leaves_nothing_here_and_no_test_on_the_board(
    sshd, home, tmp_path, number
):
    board, temporary = tmp_path / "board", tmp_path / "tmp"
    temporary.mkdir()
    bundle = small_bundles.make(tmp_path, body="sleep 60")
    device = sshd.device(work_dir=str(board)).model_dump(mode="json", exclude_none=True, exclude={"emulated"})
    (home / "config/edgepack").mkdir(parents=True)
    lines = "".join(f"    {key}: {value!r}\n" for key, value in device.items())
    (home / "config/edgepack/devices.yaml").write_text(f"edgepack: 1\ndevices:\n  board:\n{lines}")
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", DEPLOY, bundle]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not list(board.glob("digits/releases/.smoke-*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        assert list(temporary.iterdir())
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert list(temporary.iterdir()) == []
    left = [path.name for path in (board / "digits/releases").iterdir()]
    assert left == [f".incoming-{read_manifest(bundle).digest}"]  # resumed by the next deploy
    assert not list(board.rglob("*.part"))
