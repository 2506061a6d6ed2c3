"""The static agent reaches the board through any login shell, whole, and once."""

import os
import platform
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from loopback import lacking, need

from edgepack.agent.build import build_agent
from edgepack.errors import DeployError, PreflightError
from edgepack.remote.boardagent import place_agent
from edgepack.remote.launch import launched, plain
from edgepack.remote.process import Completed
from edgepack.toolchain.zig import MUSL

SHELLS = ("dash", "bash", "busybox ash", "tcsh", "fish", "ksh")
DAY_S = 86_400


class LoginShell:
    """Runs scripts as sshd does: the user's shell gets the line."""

    def __init__(self, shell: str, home: Path, path: str | None = None) -> None:
        program, *words = shell.split()
        self.argv = [need(program), *words, "-c"]
        self.home = home
        self.environment = os.environ | {"HOME": str(home)} | ({"PATH": path} if path else {})
        self.calls = 0

    def __call__(self, script: str, stdin: bytes, timeout: float) -> Completed:
        self.calls += 1
        launch = plain(script)
        done = subprocess.run(
            [*self.argv, launch.line],
            input=stdin,
            timeout=timeout,
            capture_output=True,
            check=False,
            cwd=self.home,
            env=self.environment,
        )
        before, mark, output = done.stdout.partition(f"{launch.mark}\n".encode())
        assert (before, mark) == (b"", f"{launch.mark}\n".encode())
        errors = done.stderr.partition(f"{launch.mark} ".encode())[2].partition(b"\n")[2]
        return Completed(done.returncode, output, errors)


def right(path: Path) -> bool:
    return path.read_bytes() == build_agent(platform.machine(), MUSL).read_bytes()


@pytest.mark.parametrize("work_dir", ["edgepack", "a b/it's $HOME \\ö!\"`"])
@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_takes_the_agent(shell, work_dir, tmp_path):
    login = LoginShell(shell, tmp_path)
    path = place_agent("pi", login, work_dir)
    assert (login.calls, right(tmp_path / path)) == (3, True)
    assert place_agent("pi", login, work_dir) == path
    assert login.calls == 4
    answer = subprocess.run([tmp_path / path, "info"], capture_output=True, check=True)
    assert b'"ok":true' in answer.stdout
    assert [it.name for it in (tmp_path / path).parent.iterdir()] == ["edgepack-agent"]
    words = ["printf", "%s.", "a b", "", "$HOME", "'", '"', "*", "\\n", "a\nb", ";true", "!!", "-n", "ü"]
    launch = launched(path, words)
    done = subprocess.run(
        [*login.argv, launch.line],
        input=launch.header,
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=login.environment,
    )
    assert done.stdout.decode() == f"{launch.mark}\n" + "".join(f"{word}." for word in words[2:])
    assert done.stderr.decode().startswith(f"{launch.mark} ")


def test_the_login_shell_sees_plain_words_alone():
    launch = launched("edgepack/.tools/0a/edgepack-agent", ["a b", "$HOME", "\n"])
    assert re.fullmatch(r"exec edgepack/\.tools/0a/edgepack-agent exec [0-9a-f]{16}", launch.line)
    assert launch.stop("12") == "exec edgepack/.tools/0a/edgepack-agent stop 12"
    for wrong in ("echo 'a'", "a\nb", "!!", r"\\"):
        with pytest.raises(ValueError, match="all shells"):
            plain(wrong)


def test_a_session_sends_it_once(session, sshd):
    path = Path(session.agent())
    assert path == Path(session.agent())
    assert path.is_relative_to(sshd.folder / "board")
    assert session.run([str(path), "info"]).returncode == 0


def damage_contents(path):
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))


def damage_size(path):
    path.write_bytes(path.read_bytes()[:50_000])


def damage_mode(path):
    path.chmod(0o644)


def damage_kind(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [damage_contents, damage_size, damage_mode, damage_kind])
def test_a_damaged_agent_is_replaced(tmp_path, damage):
    login = LoginShell("dash", tmp_path)
    path = tmp_path / place_agent("pi", login, "edgepack")
    damage(path)
    assert tmp_path / place_agent("pi", login, "edgepack") == path
    assert right(path)
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("kept", [0, 3, 100_000])
def test_what_a_cut_leaves_is_not_trusted(tmp_path, kept):
    """The connection ends during the transfer: cat ends without an error."""
    login = LoginShell("dash", tmp_path)

    def cut(script: str, stdin: bytes, timeout: float) -> Completed:
        return login(script, stdin[:kept], timeout)

    with pytest.raises(DeployError, match="does not run" if kept else "does not arrive"):
        place_agent("pi", cut, "edgepack")
    (folder,) = (tmp_path / "edgepack/.tools").iterdir()
    assert not list(folder.iterdir())
    assert right(tmp_path / place_agent("pi", login, "edgepack"))


def test_two_runs_at_once_both_have_it(tmp_path):
    login = LoginShell("dash", tmp_path)
    found: list[str] = []
    runs = [
        threading.Thread(target=lambda: found.append(place_agent("pi", login, "edgepack"))) for _ in range(4)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert right(tmp_path / found[0])


def test_forgotten_agents_go_and_nothing_else(tmp_path):
    login = LoginShell("dash", tmp_path)
    own = (tmp_path / place_agent("pi", login, "edgepack")).parent
    tools = own.parent
    old, with_more, fresh, other = (tools / name for name in ("0" * 32, "1" * 32, "2" * 32, "notes"))
    for folder in (old, with_more, fresh, other):
        folder.mkdir()
        (folder / "edgepack-agent").write_text("x")
    (with_more / "mine").write_text("x")
    (old / ".edgepack-agent.01234567.part").write_text("x")
    (own / ".edgepack-agent.01234567.part").write_text("x")
    (own / ".edgepack-agent.89abcdef.part").write_text("x")
    yesterday = time.time() - 2 * DAY_S
    for path in (
        old / ".edgepack-agent.01234567.part",
        own / ".edgepack-agent.01234567.part",
        old,
        with_more,
        other,
    ):
        os.utime(path, (yesterday, yesterday))
    place_agent("pi", login, "edgepack")
    assert sorted(path.name for path in tools.iterdir()) == sorted([own.name, "1" * 32, "2" * 32, "notes"])
    assert sorted(path.name for path in own.iterdir()) == [".edgepack-agent.89abcdef.part", "edgepack-agent"]
    assert (with_more / "mine").exists()
    assert (fresh / "edgepack-agent").exists()
    assert (other / "edgepack-agent").exists()


@pytest.mark.parametrize(("says", "why"), [
    ("Linux armv7l", "it runs Linux armv7l"),
    ("FreeBSD x86_64", "it runs FreeBSD x86_64"),
])  # fmt: skip
def test_a_board_of_another_kind_is_named(tmp_path, says, why):
    system, machine = says.split()
    uname = tmp_path / "uname"
    uname.write_text(f"#!/bin/sh\ncase $1 in -s) echo {system};; *) echo {machine};; esac\n")
    uname.chmod(0o755)
    login = LoginShell("dash", tmp_path, path=f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PreflightError, match="no program for this board") as raised:
        place_agent("pi", login, "edgepack")
    assert why in (raised.value.why or "")


def test_a_file_or_a_link_in_the_place_of_the_folder_is_named(tmp_path):
    login = LoginShell("dash", tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeployError, match="cannot be stored"):
        place_agent("pi", login, "file")
    (tmp_path / "board").mkdir()
    (tmp_path / "board/.tools").symlink_to(tmp_path)
    with pytest.raises(DeployError, match="cannot be stored") as raised:
        place_agent("pi", login, "board")
    assert "is a link" in (raised.value.why or "")


@pytest.mark.parametrize(("options", "message", "why"), [
    ("size=64k", "cannot be stored", "the disk is full"),
    ("size=4m,noexec", "does not run", "noexec"),
    ("size=4m,ro", "cannot be stored", "read-only"),
])  # fmt: skip
def test_a_folder_that_cannot_hold_programs_is_named(tmp_path, options, message, why):
    if os.geteuid() != 0:
        lacking("mounting a small file system needs root")
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        lacking("a tmpfs cannot be mounted")
    try:
        with pytest.raises(DeployError, match=message) as raised:
            place_agent("pi", LoginShell("dash", tmp_path), str(folder / "edgepack"))
        assert why in (raised.value.why or "")
        assert "work_dir" in (raised.value.next or "")
        assert not list(folder.rglob("*.part"))
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
