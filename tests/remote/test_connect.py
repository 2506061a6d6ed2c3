"""Connecting, and errors if it fails."""

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from loopback import Sshd, free_port, keygen, need, public

from edgepack.errors import TrustError, UnreachableError, UsageError
from edgepack.remote import auth, connection
from edgepack.remote.publickey import HostKey
from edgepack.remote.session import connect, trust

PASSPHRASE = "correct horse"  # noqa: S105 - of keys made for one test


def fingerprint(path: Path) -> str:
    return HostKey.parse(public(path)).fingerprint


def configure(home, text: str) -> None:
    (home / ".ssh/config").write_text(f"{text}\nHost *\n  HashKnownHosts no\n")


def refused(name, device, kind):
    """The error of a connection that must fail, with its next step."""
    with pytest.raises(kind) as raised:
        connect(name, device).close()
    error = raised.value
    assert error.where == name
    assert error.why
    assert error.next
    return error


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_command_that_trusts_it(sshd, home, keys):
    error = refused("pi", sshd.device(host_key=None), TrustError)
    assert error.exit_code == 6
    assert fingerprint(keys / "host") in error.message
    assert "edgepack devices trust pi" in (error.next or "")
    assert not (home / ".ssh/known_hosts").exists()


def test_trust_stores_the_key_and_connect_accepts_it(sshd, home, keys):
    configure(home, "")
    device = sshd.device(host_key=None)
    assert trust("pi", device) == fingerprint(keys / "host")
    expected = f"[127.0.0.1]:{sshd.port} {public(keys / 'host')}\n"
    assert (home / ".ssh/known_hosts").read_text() == expected
    assert trust("pi", device) == fingerprint(keys / "host")  # known already: nothing is added
    assert (home / ".ssh/known_hosts").read_text() == expected
    with connect("pi", device) as session:
        assert session.run(["echo", "in"]).stdout == b"in\n"


def test_trust_accepts_only_the_given_fingerprint(sshd, home, keys):
    device = sshd.device(host_key=None)
    with pytest.raises(TrustError, match="has a different host key"):
        trust("pi", device, fingerprint=fingerprint(keys / "other"))
    assert not (home / ".ssh/known_hosts").exists()
    assert trust("pi", device, fingerprint=fingerprint(keys / "host")) == fingerprint(keys / "host")


def test_a_changed_host_key_is_refused_loudly_and_never_overwritten(sshd, home, keys):
    known = home / ".ssh/known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {public(keys / 'other')}\n")
    before = known.read_bytes()
    device = sshd.device(host_key=None)
    error = refused("pi", device, TrustError)
    assert "HAS BEEN CHANGED" in error.message
    assert fingerprint(keys / "host") in error.message
    assert fingerprint(keys / "other") in (error.why or "")
    assert "ssh-keygen -R" in (error.next or "")
    with pytest.raises(TrustError, match="HAS BEEN CHANGED"):
        trust("pi", device)
    assert known.read_bytes() == before


def test_the_pinned_key_is_the_only_one_taken(sshd, home, keys):
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {public(keys / 'host')}\n")
    device = sshd.device(host_key=public(keys / "other"))
    assert "devices.yaml" in (refused("pi", device, TrustError).next or "")
    with pytest.raises(TrustError):
        trust("pi", device)


def test_the_known_key_type_is_requested_if_a_server_has_several(tmp_path, home, keys):
    ecdsa = keygen(tmp_path / "ecdsa", "ecdsa")
    server = Sshd(tmp_path / "both", keys / "user", keys / "host", extra=f"HostKey {ecdsa}").start()
    try:
        for key in (ecdsa, keys / "host"):
            (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {public(key)}\n")
            connect("pi", server.device(host_key=None)).close()
    finally:
        server.stop()


def test_an_rsa_host_key_is_compared_as_one(tmp_path, home, keys):
    rsa = keygen(tmp_path / "rsa", "rsa")
    server = Sshd(tmp_path / "rsa-only", keys / "user", rsa).start()
    try:
        (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {public(rsa)}\n")
        connect("pi", server.device(host_key=None)).close()
    finally:
        server.stop()


def test_the_ssh_configuration_is_enough(sshd, home, keys):
    configure(
        home,
        f"Host lab\n  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {keys / 'user'}\n"
        f"  UserKnownHostsFile {home}/known\n",
    )
    (home / "known").write_text(f"[127.0.0.1]:{sshd.port} {public(keys / 'host')}\n")
    device = sshd.device(host="lab", port=None, user=None, identity_file=None, host_key=None)
    with connect("pi", device) as session:
        assert session.run(["true"]).returncode == 0


def test_default_identities_are_tried(sshd, home, keys):
    (home / ".ssh/id_ed25519").write_bytes((keys / "user").read_bytes())
    connect("pi", sshd.device(identity_file=None)).close()


def test_a_key_of_the_agent_is_taken(sshd, home, keys, monkeypatch, tmp_path):
    path = str(tmp_path / "agent")
    agent = subprocess.Popen([need("ssh-agent"), "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        while not Path(path).exists():
            time.sleep(0.02)
        subprocess.run([need("ssh-add"), "-q", keys / "user"], check=True)
        connect("pi", sshd.device(identity_file=None)).close()
        # Named alone, a key whose private half only the agent has is found by its public half.
        (home / "mine").write_bytes((keys / "user").read_bytes())
        (home / "mine").chmod(0o600)
        subprocess.run([need("ssh-keygen"), "-q", "-p", "-N", PASSPHRASE, "-f", home / "mine"], check=True)
        connect("pi", sshd.device(identity_file=str(home / "mine"))).close()
    finally:
        agent.terminate()
        agent.wait(10)


def test_a_key_the_server_does_not_know(sshd, home, keys):
    error = refused("pi", sshd.device(identity_file=str(keys / "other")), UnreachableError)
    assert "rejected the login" in error.message
    assert str(keys / "other") in (error.why or "")
    assert "ssh-copy-id" in (error.next or "")


def test_no_key_at_all(sshd, home):
    assert "no key to offer" in (refused("pi", sshd.device(identity_file=None), UnreachableError).why or "")


@pytest.mark.parametrize("kind", ["missing", "encrypted", "no key"])
def test_an_identity_file_that_cannot_be_used_is_named(sshd, home, kind):
    path = home / "identity"
    if kind == "encrypted":
        keygen(path, passphrase=PASSPHRASE)
    elif kind == "no key":
        path.write_text("hello\n")
    error = refused("pi", sshd.device(identity_file=str(path)), UnreachableError)
    assert str(path) in (error.why or "")
    if kind == "encrypted":
        assert "ssh-add" in (error.why or "")


def test_a_name_that_does_not_exist(sshd, home):
    error = refused("pi", sshd.device(host="no-such-board.invalid"), UnreachableError)
    assert "no-such-board.invalid" in error.message
    assert error.exit_code == 4


def test_a_closed_port(sshd, home):
    port = free_port()
    error = refused("pi", sshd.device(port=port), UnreachableError)
    assert f"refused the connection on port {port}" in error.message


def test_a_host_that_does_not_answer(sshd, home):
    configure(home, "Host 127.0.0.1\n  ConnectTimeout 1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):  # fill the backlog: further connections get no answer
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        error = refused("pi", sshd.device(port=port), UnreachableError)
        for filler in fillers:
            filler.close()
    assert "did not respond" in error.message
    assert "within 1 s" in error.message


def test_a_server_that_is_not_ssh(sshd, home):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = refused("pi", sshd.device(port=listener.getsockname()[1]), UnreachableError)
        thread.join(10)
    assert "no SSH connection" in error.message


def test_a_server_that_does_not_respond(sshd, home, monkeypatch):
    monkeypatch.setattr(connection, "_HANDSHAKE_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused("pi", sshd.device(port=listener.getsockname()[1]), UnreachableError)


def jump_to(home, target: Sshd, jump: Sshd, keys) -> None:
    configure(
        home,
        f"Host inner\n  HostName 127.0.0.1\n  Port {target.port}\n  ProxyJump gate\n"
        f"Host gate\n  HostName 127.0.0.1\n  Port {jump.port}\n  IdentityFile {keys / 'user'}\n",
    )


@pytest.fixture
def inner(sshd):
    return sshd.device(host="inner", port=None)


def test_a_jump_host_leads_to_the_device(sshd, own_sshd, home, keys, inner):
    jump_to(home, sshd, own_sshd, keys)
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{own_sshd.port} {public(keys / 'host')}\n")
    with connect("pi", inner) as session:
        port = session.run(["sh", "-c", "echo $SSH_CONNECTION"]).stdout.split()[3]
        assert int(port) == sshd.port
        assert session.run(["cat"], stdin=b"x" * 500_000).stdout == b"x" * 500_000
        own_sshd.kill_sessions()
        with pytest.raises(UnreachableError):
            session.run(["true"], timeout=20)


def test_a_jump_host_must_be_trusted_like_any_other(sshd, own_sshd, home, keys, inner):
    jump_to(home, sshd, own_sshd, keys)
    error = refused("pi", inner, TrustError)
    assert str(own_sshd.port) in error.message
    assert "ssh gate" in (error.next or "")


def test_a_jump_host_that_cannot_reach_the_device(sshd, own_sshd, home, keys, inner):
    jump_to(home, sshd, own_sshd, keys)
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{own_sshd.port} {public(keys / 'host')}\n")
    error = refused("pi", inner.model_copy(update={"port": free_port()}), UnreachableError)
    assert "jump host" in error.message


def test_a_proxy_command_is_run(sshd, home, keys):
    script = (
        f"import socket, sys, threading, os; s = socket.create_connection(('127.0.0.1', {sshd.port})); "
        "t = threading.Thread(target=lambda: [s.sendall(d) for d in iter(lambda: os.read(0, 65536), b'')], daemon=True); "
        "t.start(); [os.write(1, d) for d in iter(lambda: s.recv(65536), b'')]"
    )
    (home / "proxy.py").write_text(script)
    configure(home, f"Host proxied\n  ProxyCommand {need('python3')} {home}/proxy.py")
    with connect("pi", sshd.device(host="proxied")) as session:
        assert session.run(["echo", "through"]).stdout == b"through\n"


def test_a_broken_configuration_is_a_usage_error(sshd, home):
    configure(home, "Host 'x")
    with pytest.raises(UsageError) as raised:
        connect("pi", sshd.device())
    assert raised.value.exit_code == 2


def test_a_dead_peer_is_noticed_by_the_kernel(session):
    sock = session._connection.transport.sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == connection.TCP_USER_TIMEOUT_MS


def test_a_server_that_hangs_is_noticed_by_the_heartbeat(own_sshd, home, monkeypatch):
    monkeypatch.setattr(connection, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(connection, "HEARTBEAT_PATIENCE_S", 4.0)
    with connect("pi", own_sshd.device()) as session, session.stream(["sleep", "600"]) as process:
        time.sleep(1.5)
        assert process.poll() is None  # a healthy server passes many heartbeats
        stopped = own_sshd.sessions()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)  # its kernel still acknowledges every packet
        try:
            with pytest.raises(UnreachableError, match="connection was lost"):
                process.wait(30)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)


def test_closing_leaves_no_thread_behind(sshd, home):
    before = threading.active_count()
    for _ in range(3):
        with connect("pi", sshd.device()) as session:
            session.run(["true"])
            session.read("/etc/hostname")
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.mark.parametrize(("setting", "why"), [
    ("HostKeyAlgorithms ssh-rsa", "ssh-rsa, with SHA-1"),
    ("KexAlgorithms diffie-hellman-group1-sha1", "key exchanges that are no longer safe"),
])  # fmt: skip
def test_a_server_that_knows_only_old_algorithms_is_told_so(home, keys, tmp_path, setting, why):
    host = keygen(tmp_path / "host", "rsa")
    server = Sshd(tmp_path / "old", keys / "user", host, extra=setting).start()
    try:
        error = refused("pi", server.device(), UnreachableError)
    finally:
        server.stop()
    assert why in (error.why or "")
    assert "update the board's SSH server" in (error.next or "")


def test_a_setting_that_leaves_no_host_key_is_named(sshd, home):
    configure(home, "HostKeyAlgorithms rsa-sha2-512")
    assert "HostKeyAlgorithms is rsa-sha2-512" in (refused("pi", sshd.device(), UnreachableError).why or "")


@pytest.mark.parametrize(("extensions", "said"), [
    ({}, "may accept only ssh-rsa"),
    ({"server-sig-algs": b"ssh-ed25519,ssh-rsa"}, "accepts only ssh-rsa"),
    ({"server-sig-algs": b"ssh-rsa,rsa-sha2-256"}, None),
])  # fmt: skip
def test_a_refused_rsa_key_may_be_the_servers_age(tmp_path, extensions, said):
    import paramiko

    key = paramiko.RSAKey.from_private_key_file(str(keygen(tmp_path / "key", "rsa")))
    about = auth._about_rsa(SimpleNamespace(server_extensions=extensions), key)
    assert (said in about) if said else about == ""
