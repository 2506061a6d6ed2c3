"""ProxyCommand, ProxyJump, and names that must never reach a shell."""

import shlex
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import need, public

from edgepack.config.device import Device
from edgepack.errors import EdgepackError, UnreachableError, UsageError
from edgepack.remote import connection, sshconfig
from edgepack.remote.session import connect

RELAY = """\
import os, socket, sys, threading
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def send():
    while data := os.read(0, 65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := s.recv(65536):
    os.write(1, data)
"""


@pytest.fixture
def relay(sshd, home, keys) -> str:
    """A command whose input and output are a connection with the server."""
    (home / "relay.py").write_text(RELAY)
    (home / ".ssh/known_hosts").write_text(f"board {public(keys / 'host')}\n")
    return f"{need('python3')} {home}/relay.py {sshd.port}"


def configure(home, text: str) -> None:
    (home / ".ssh/config").write_text(f"Host board\n  HostKeyAlias board\n{text}\n")


def board(sshd, **changes):
    return sshd.device(**{"host": "board", "port": None, "host_key": None, **changes})


def ends(pid: int) -> bool:
    """Whether the process ends. Somebody else's child that was killed may take a moment to go."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    "command", ["{relay}", "exec {relay}", "true; {relay}", "{relay} # %h", "cd / && {relay}", "( {relay} )"]
)
def test_a_proxy_command_is_a_command_line_of_the_shell(sshd, home, relay, command):
    configure(home, f"  ProxyCommand {command.format(relay=relay)}")
    with connect("pi", board(sshd)) as session:
        assert session.run(["echo", "through"]).stdout == b"through\n"


def test_a_proxy_command_that_ignores_the_end_is_ended(sshd, home, relay):
    script = home / "proxy.sh"
    script.write_text(
        f"trap '' TERM HUP\necho $$ >{home}/pid\n{relay}\nsleep 600 &\necho $! >{home}/child\nwait\n"
    )
    configure(home, f"  ProxyCommand sh {script}")
    with connect("pi", board(sshd)) as session:
        session.run(["true"])
    assert ends(int((home / "pid").read_text()))
    if (home / "child").exists():
        assert ends(int((home / "child").read_text()))


def test_a_proxy_command_that_fails_is_quoted(sshd, home, relay):
    configure(home, "  ProxyCommand echo the tunnel is closed >&2; exit 3")
    with pytest.raises(UnreachableError) as raised:
        connect("pi", board(sshd))
    assert "exit code 3: the tunnel is closed" in (raised.value.why or "")
    assert "ProxyCommand" in (raised.value.next or "")


def test_a_silent_proxy_command_is_given_up(sshd, home, relay, monkeypatch):
    monkeypatch.setattr(connection, "_HANDSHAKE_TIMEOUT_S", 0.5)
    configure(home, f"  ProxyCommand echo $$ >{home}/pid; exec sleep 600")
    with pytest.raises(UnreachableError) as raised:
        connect("pi", board(sshd))
    assert "no answer within 0.5 s" in (raised.value.why or "")
    assert ends(int((home / "pid").read_text()))


def test_the_tokens_of_a_proxy_command(home):
    configure(home, "  HostName 192.0.2.7\n  Port 2222\n  User pi\n  ProxyCommand x %h %n %p %r %k %%h")
    endpoint = sshconfig.resolve(Device(host="board", target="rpi4"))
    assert endpoint.proxy_command == "x 192.0.2.7 board 2222 pi board %h"


def test_the_first_jump_host_may_have_a_proxy_command(sshd, own_sshd, home, keys, relay):
    (home / ".ssh/known_hosts").write_text(f"gate {public(keys / 'host')}\nboard {public(keys / 'host')}\n")
    configure(
        home,
        f"  HostName 127.0.0.1\n  Port {own_sshd.port}\n  ProxyJump gate\nHost gate\n  HostName unreachable.invalid\n"
        f"  HostKeyAlias gate\n  IdentityFile {keys / 'user'}\n  ProxyCommand {relay}",
    )
    with connect("pi", board(sshd)) as session:
        port = session.run(["sh", "-c", "echo $SSH_CONNECTION"]).stdout.split()[3]
        assert int(port) == own_sshd.port


def test_whichever_of_jump_and_command_comes_first_is_used(home):
    configure(home, "  ProxyJump gate\nHost *\n  ProxyCommand x %h\n")
    endpoint = sshconfig.resolve(Device(host="board", target="rpi4"))
    assert endpoint.proxy_command is None
    assert [hop.proxy_command for hop in endpoint.jumps] == ["x gate"]
    configure(home, "  ProxyCommand x %h\nHost board\n  ProxyJump gate\n")
    endpoint = sshconfig.resolve(Device(host="board", target="rpi4"))
    assert endpoint.proxy_command == "x board"
    assert endpoint.jumps == ()


HOSTILE = (
    "x`touch {mark}`y",
    "x$(touch {mark})",
    "x;touch {mark}",
    "x|touch {mark}",
    "x&touch {mark}",
    "x\ntouch {mark}",
    "-oProxyCommand=touch {mark}",
    "x' ;touch {mark};'",
    'x"',
    "x\\",
    "x>{mark}",
    "$HOME",
    "*",
    "\x1b[2J",
    "a b",
    "a\0b",
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "text",
    [
        "Host *\n  ProxyCommand echo %h %n %k %p %r\n",
        'Match exec "echo %h %n %k %p %r"\n  User pi\n',
        "Host board\n  HostName 127.0.0.1\n  ProxyJump {name}\n",
    ],
)
def test_names_with_shell_characters_reach_no_shell(home, tmp_path, name, text):
    mark = tmp_path / "mark"
    name = name.format(mark=mark)
    (home / ".ssh/config").write_text(text.replace("{name}", name.replace("\n", " ")))
    host = "board" if "{name}" in text else name
    with pytest.raises(EdgepackError) as raised:
        connect("pi", Device(host=host, target="rpi4"))
    assert raised.value.exit_code in {2, 4}
    assert raised.value.next
    assert not mark.exists()


@pytest.mark.parametrize("user", [*HOSTILE[:8], "a b", "$USER", "x\\"])
@pytest.mark.parametrize("text", ["Host *\n  ProxyCommand echo %r\n", 'Match exec "echo %r"\n  Port 1\n'])
def test_users_with_shell_characters_reach_no_shell(home, tmp_path, user, text):
    mark = tmp_path / "mark"
    (home / ".ssh/config").write_text(text)
    with pytest.raises(UnreachableError):
        connect("pi", Device(host="127.0.0.1", port=9, target="rpi4", user=user.format(mark=mark)))
    assert not mark.exists()


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
def test_whatever_reaches_the_shell_is_one_word(tmp_path_factory, host, user):
    home = tmp_path_factory.getbasetemp() / "words"
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    (home / ".ssh/config").write_text("ProxyCommand printf '%%s\\n' %n %r\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        try:
            endpoint = sshconfig.resolve(Device.model_construct(host=host, user=user, target="rpi4"))
        except UnreachableError:
            return
    done = subprocess.run(
        ["/bin/sh", "-c", endpoint.proxy_command or ""], capture_output=True, check=True, cwd=home
    )
    assert done.stdout.decode() == f"{host}\n{user}\n"


@pytest.mark.parametrize(
    "host",
    ["a..b", ".", "x" * 300, "é" * 64, "::1%no-such-interface", "256.0.0.1", "1.2.3", "[::1]", "host:22"],
)
def test_a_name_that_no_host_has_is_unreachable(sshd, home, host):
    with pytest.raises(UnreachableError) as raised:
        connect("pi", sshd.device(host=host, port=9))
    assert raised.value.where == "pi"
    assert raised.value.next


def test_a_user_name_of_any_length_is_rejected_by_the_server(sshd, home):
    with pytest.raises(UnreachableError) as raised:
        connect("pi", sshd.device(user="r" * 60_000))
    assert len(raised.value.message) < 200
    with pytest.raises(UnreachableError) as raised:
        connect("pi", sshd.device(user="ro\not\x1b[2J"))
    assert raised.value.message.isprintable()


def test_the_commands_in_messages_can_be_pasted(sshd, home):
    with pytest.raises(UnreachableError) as raised:
        connect("pi", sshd.device(user="no body's"))
    assert shlex.split((raised.value.next or "").partition(": ")[2])[-1] == "no body's@127.0.0.1"


@pytest.mark.parametrize(
    "text",
    [
        "ProxyCommand -",
        "ProxyCommand x %z",
        "HostName %z",
        "IdentityFile ${NOT_SET}",
        "UserKnownHostsFile ~no-such-user/x",
    ],
)
def test_what_cannot_be_expanded_is_a_usage_error(home, text):
    (home / ".ssh/config").write_text(f"{text}\n")
    with pytest.raises(UsageError) as raised:
        sshconfig.resolve(Device(host="board", target="rpi4"))
    assert raised.value.next
