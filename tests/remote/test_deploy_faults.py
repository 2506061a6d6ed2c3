"""Power cuts, disks with errors, files that are replaced, and clients that vanish or are ended, during a deploy."""

import itertools
import os
import re
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

from edgepack.bundle.archive import read_manifest
from edgepack.errors import DeployError, IntegrityError, LockedError, PreflightError, UnreachableError
from edgepack.remote import install as installing
from edgepack.remote import lock as locking
from edgepack.remote import publish as publishing
from edgepack.remote.install import install, rollback
from edgepack.remote.preflight import TOOLS
from edgepack.remote.session import connect
from edgepack.remote.staging import unpack_bundle

CUT = 'kill -KILL "$$"\n'


def cuts() -> list[int]:
    """The lines of the script that publishes a release before which the power can fail."""
    lines = publishing._PUBLISH.splitlines(keepends=True)
    found = []
    for index in range(lines.index("point() {\n"), len(lines)):
        text = "".join([*lines[:index], CUT, *lines[index:]])
        if (
            subprocess.run(
                ["/bin/sh", "-n"], input=text.encode(), capture_output=True, check=False
            ).returncode
            == 0
        ):
            found.append(index)
    return found


@pytest.mark.parametrize("action", ["install", pytest.param("rollback", marks=pytest.mark.slow)])
def test_a_power_cut_anywhere_in_the_switch_keeps_a_release_and_a_rollback_target(
    board: Board, tmp_path, monkeypatch, action
):
    whole = publishing._PUBLISH
    lines = whole.splitlines(keepends=True)
    seen = set()
    for index in cuts():
        home = tmp_path / str(index)
        root = board.copy(home)
        monkeypatch.setattr(publishing, "_PUBLISH", "".join([*lines[:index], CUT, *lines[index:]]))
        with suppress(DeployError):
            if action == "install":
                install(LocalSession(home), board.bundles["B"])
            else:
                rollback(LocalSession(home), "digits")
        monkeypatch.setattr(publishing, "_PUBLISH", whole)
        works(home, board.digests)
        now, before = read_manifest_of(root / "current"), (root / "previous").readlink().name
        seen.add((now, before))
        new, old = ("B", "A") if action == "install" else ("Z", "A")
        other = {board.digests[new]: old, board.digests[old]: "Z"}[now]
        assert rollback(LocalSession(home), "digits").digest == board.digests[other], lines[index]
        works(home, board.digests)
    assert len(seen) == 3  # before, between the two links, after


def read_manifest_of(folder: Path) -> str:
    from edgepack.bundle.manifest import Manifest

    return Manifest.load(folder / "manifest.json").digest


SYNC = """#!/bin/sh
case $1 in --help) echo "HELP"; exit 0;; esac
echo x >>COUNT
[ "$(wc -l <COUNT)" -lt NUMBER ] || { echo "sync: error syncing '.': Input/output error" >&2; exit 1; }
"""


@pytest.mark.parametrize("help_text", ["  -f, --file-system", "Usage: sync"])
def test_a_disk_with_errors_fails_the_deploy_and_the_links_stay(board: Board, tmp_path, help_text):
    """`sync` fails at its first, second and third call: after the transfer, before and after the links are moved."""
    for number in (1, 2, 3):
        home, tools = tmp_path / f"home{number}", tmp_path / f"bin{number}"
        root = board.copy(home)
        tools.mkdir()
        text = (
            SYNC.replace("HELP", help_text)
            .replace("COUNT", str(tools / "count"))
            .replace("NUMBER", str(number))
        )
        (tools / "sync").write_text(text)
        (tools / "sync").chmod(0o755)
        session = LocalSession(home, path=f"{tools}:{os.environ['PATH']}")
        with pytest.raises(DeployError) as raised:
            install(session, board.bundles["B"])
        assert raised.value.exit_code == 5
        assert "written to the disk" in (raised.value.why or "")
        assert raised.value.state == f"the current release {board.digests['A'][:12]} is unchanged"
        assert (root / "current").readlink().name == board.digests["A"]
        assert (root / "previous").readlink().name == board.digests["Z"]
        assert not list(root.glob(".link-*"))
        assert install(LocalSession(home), board.bundles["B"]).changed
        works(home, board.digests)


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


def test_a_board_without_getconf_and_ldd_is_recognised(board: Board, tmp_path):
    """As images made with Buildroot and Yocto are: few tools, and glibc without its programs."""
    tools = tmp_path / "bin"
    tools.mkdir()
    needed = (
        *TOOLS,
        "sh",
        "uname",
        "dirname",
        "head",
        "tail",
        "tr",
        "sed",
        "mkdir",
        "rm",
        "rmdir",
        "cat",
        "chmod",
        "sleep",
    )
    for name in set(needed):
        (tools / name).symlink_to(shutil.which(name))
    root = board.copy(tmp_path / "home")
    session = LocalSession(tmp_path / "home", path=str(tools))
    assert install(session, board.bundles["B"]).changed
    assert read_manifest_of(root / "current") == board.digests["B"]
    bundle = small_bundles.make(tmp_path, version="9.0.0", libc="2.999")
    (tools / "find").unlink()
    (tools / "find").write_text("#!/bin/sh\nexit 1\n")  # as busybox's, built without -perm
    (tools / "find").chmod(0o755)
    with pytest.raises(PreflightError) as raised:
        install(session, bundle)
    assert "tools: find with -perm is missing" in (raised.value.why or "")
    assert re.search(r"libc: glibc 2\.\d+, the release needs 2\.999", raised.value.why or "")


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
    monkeypatch.setattr(locking, "SILENCE_S", 2)
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
            text = locking._GUARD + "echo changed"
            done = other.run(["/bin/sh", "-c", text, "edgepack", held.process])
            assert (done.returncode, done.stdout) == (1, b"")
            assert b"the lock was lost" in done.stderr
    proxy.close()
    with suppress(UnreachableError):
        holder.__exit__(None, None, None)
    vanishing.close()


@pytest.mark.slow
def test_a_lock_is_held_for_as_long_as_its_owner_lives(board: Board, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "SILENCE_S", 4)
    monkeypatch.setattr(locking, "HEARTBEAT_S", 0.2)
    board.copy(tmp_path / "home")
    session = LocalSession(tmp_path / "home")
    with locking.lock(session, "edgepack/digits") as held:
        time.sleep(10)
        with pytest.raises(LockedError):
            install(session, board.bundles["B"])
        assert held.script('echo "$1"', "held").strip() == "held"


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
