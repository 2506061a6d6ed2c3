"""Logging in with keys of ssh-agent, public halves, certificates, and identity files that are none."""

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from loopback import Sshd, keygen, need, public

from edgepack.config.device import Device
from edgepack.errors import UnreachableError, UsageError
from edgepack.remote import agentkeys, sshconfig
from edgepack.remote.identities import identities
from edgepack.remote.session import connect


@contextlib.contextmanager
def ssh_agent(path: Path, *keys: Path):
    process = subprocess.Popen([need("ssh-agent"), "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if keys:
            environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
            subprocess.run([need("ssh-add"), "-q", *keys], check=True, env=environment)
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def agent(tmp_path, keys):
    """The socket of an agent that has the user's key."""
    with ssh_agent(tmp_path / "agent", keys / "user"):
        yield tmp_path / "agent"


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class HardwareAgent(threading.Thread):
    """An agent with the key of a security key (FIDO), whose signatures have a flag and a counter of their own."""

    TYPE = b"sk-ssh-ed25519@openssh.com"

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.secret = Ed25519PrivateKey.generate()
        self.blob = string(self.TYPE) + string(self.secret.public_key().public_bytes_raw()) + string(b"ssh:")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                while head := file.read(4):
                    connection.sendall(string(self.answer(file.read(int.from_bytes(head, "big")))))

    def answer(self, request: bytes) -> bytes:
        if request[0] == 11:  # which keys there are
            return b"\x0c" + (1).to_bytes(4, "big") + string(self.blob) + string(b"a token")
        data = request[1 + len(string(self.blob)) + 4 :][
            : int.from_bytes(request[1 + len(string(self.blob)) :][:4], "big")
        ]
        touched = b"\x01" + (7).to_bytes(4, "big")
        signed = hashlib.sha256(b"ssh:").digest() + touched + hashlib.sha256(data).digest()
        return b"\x0e" + string(string(self.TYPE) + string(self.secret.sign(signed)) + touched)


def configure(home, text: str) -> None:
    (home / ".ssh/config").write_text(text)


def reason(device) -> str:
    with pytest.raises(UnreachableError) as raised:
        connect("pi", device).close()
    assert raised.value.where == "pi"
    assert raised.value.next
    return raised.value.why or ""


def test_a_public_key_whose_private_half_is_in_the_agent_logs_in(sshd, home, keys, agent, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    board = home / ".ssh/board.pub"
    board.write_text(f"{public(keys / 'user')} a comment\n")
    connect("pi", sshd.device(identity_file=str(board))).close()  # the file itself
    connect(
        "pi", sshd.device(identity_file=str(home / ".ssh/board"))
    ).close()  # named by the private half, as ssh can
    configure(home, "Host *\n  IdentitiesOnly yes\n  IdentityFile ~/.ssh/board.pub\n")
    connect("pi", sshd.device(identity_file=None)).close()


def test_a_public_key_that_the_agent_does_not_have_is_named(sshd, home, keys, agent, monkeypatch):
    board = home / "board.pub"
    board.write_text(public(keys / "other"))
    assert f"{board}: a public key" in reason(sshd.device(identity_file=str(board)))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    assert "not in ssh-agent" in reason(sshd.device(identity_file=str(board)))


def test_with_identities_only_no_other_key_of_the_agent_is_offered(sshd, home, keys, agent, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    configure(home, f"IdentitiesOnly yes\nIdentityFile {keys / 'other'}\n")
    assert "ssh-agent" not in reason(sshd.device(identity_file=None))


@pytest.mark.parametrize(
    "setting", ["{agent}", "SSH_AUTH_SOCK", "$BOARD_AGENT", "${{BOARD_AGENT}}", "~/agent"]
)
def test_identity_agent_says_which_agent_is_asked(sshd, home, agent, monkeypatch, setting):
    variable = {"S": "SSH_AUTH_SOCK", "$": "BOARD_AGENT"}.get(setting[0], "UNUSED")
    monkeypatch.setenv(variable, str(agent))
    (home / "agent").symlink_to(agent)
    configure(home, f"IdentityAgent {setting.format(agent=agent)}\n")
    connect("pi", sshd.device(identity_file=None)).close()


@pytest.mark.parametrize("setting", ["none", "$NOT_SET_HERE", "/no/such/agent"])
def test_identity_agent_replaces_the_usual_agent(sshd, home, agent, monkeypatch, setting):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    configure(home, f"IdentityAgent {setting}\n")
    reason(sshd.device(identity_file=None))


def test_the_agent_also_holds_the_key_of_an_encrypted_file(sshd, home, keys, agent, monkeypatch):
    path = home / "locked"
    shutil.copy(keys / "user", path)
    subprocess.run([need("ssh-keygen"), "-q", "-p", "-N", "a passphrase", "-f", path], check=True)
    assert "encrypted" in reason(sshd.device(identity_file=str(path)))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    connect("pi", sshd.device(identity_file=str(path))).close()  # its public half is not encrypted


def test_an_agent_that_does_not_answer_is_left_out(sshd, home, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(agentkeys, "_LIST_TIMEOUT_S", 0.3)
    with ssh_agent(tmp_path / "stopped", keys / "user") as process:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "stopped"))
        process.send_signal(signal.SIGSTOP)
        connect("pi", sshd.device()).close()  # by its file
        assert "does not answer" in reason(sshd.device(identity_file=None))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\0",
        string(b"\x05"),
        string(b"\x0c\xff\xff\xff\xff"),
        string(b"\x0c\0\0\0\1" + string(b"x") + string(b"")),
        b"\xff\xff\xff\xff\x0c",
        b"",
    ],
)
def test_a_socket_that_is_no_agent_is_left_out(sshd, home, tmp_path, monkeypatch, answer):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "other"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "other"))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(100)
                    peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        connect("pi", sshd.device()).close()
        reason(sshd.device(identity_file=None))
        thread.join(10)


def damaged_files(tmp_path: Path) -> Iterator[bytes]:
    """Private keys in each format, with one byte changed, or cut off."""
    for kind, form in (("ed25519", "RFC4716"), ("rsa", "RFC4716"), ("ecdsa", "PEM"), ("rsa", "PKCS8")):
        path = tmp_path / f"{kind}-{form}"
        command = [need("ssh-keygen"), "-q", "-t", kind, "-m", form, "-N", "", "-f", path]
        subprocess.run([*command, "-b", "2048"] if kind == "rsa" else command, check=True)
        data = path.read_bytes()
        for at in range(0, len(data), 37):
            yield data[:at]
            yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_damaged_private_key_is_a_reason_and_no_failure(home, tmp_path):
    key = home / "key"
    hop = sshconfig.resolve(Device(host="board", target="rpi4", identity_file=str(key)))
    read = 0
    for data in damaged_files(tmp_path):
        key.write_bytes(data)
        tried: list[str] = []
        with contextlib.ExitStack() as stack:
            offered = list(identities(hop, tried, stack))
        assert offered or tried[0].startswith(f"{key}: ")
        read += bool(offered)
    assert read  # a change in a comment harms nothing


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_private_keys_in_each_format_of_ssh_keygen_log_in(sshd, home, keys, tmp_path, form):
    path = keygen(home / "mine", "ecdsa")
    subprocess.run([need("ssh-keygen"), "-q", "-p", "-m", form, "-N", "", "-f", path], check=True)
    server = Sshd(tmp_path / "sshd", path, keys / "host").start()
    try:
        connect("pi", server.device()).close()
    finally:
        server.stop()


def test_a_key_file_of_a_hardware_token_is_explained(sshd, home):
    kind = b"sk-ssh-ed25519@openssh.com"
    public_half = string(kind) + string(b"x" * 32) + string(b"ssh:")
    secret = b"abcdabcd" + public_half + b"\1" + string(b"handle") + string(b"") + string(b"a token")
    secret += bytes(range(1, 1 - len(secret) % 8 + 8)) if len(secret) % 8 else b""
    blob = (
        b"openssh-key-v1\0"
        + string(b"none") * 2
        + string(b"")
        + b"\0\0\0\1"
        + string(public_half)
        + string(secret)
    )
    text = base64.encodebytes(blob).decode()
    for path in (home / "token", home / ".ssh/id_ed25519_sk"):
        path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n")
    assert "hardware token" in reason(sshd.device(identity_file=str(home / "token")))
    assert "hardware token" in reason(sshd.device(identity_file=None))


def test_an_agent_that_refuses_to_sign_costs_one_attempt(sshd, home, keys, tmp_path, monkeypatch):
    with ssh_agent(tmp_path / "agent") as process:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent"), "SSH_ASKPASS": "/bin/false"}
        # -c: the agent asks for leave, and gets none without a terminal.
        subprocess.run([need("ssh-add"), "-q", "-c", keys / "user"], check=True, env=environment)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        assert process.poll() is None
        assert "did not sign" in reason(sshd.device(identity_file=None))
        configure(home, f"IdentityFile {keys / 'other'}\nIdentityFile {home}/mine\n")
        (home / "mine").write_bytes(keygen(home / "unknown").read_bytes())
        why = reason(sshd.device(identity_file=None))
        assert str(keys / "other") in why  # keys after the refused one were tried
        assert str(home / "mine") in why


def test_a_security_key_in_the_agent_logs_in_by_its_public_half(home, keys, tmp_path, monkeypatch):
    agent = HardwareAgent(tmp_path / "agent")
    agent.start()
    public_half = home / "token.pub"
    public_half.write_text(f"{agent.TYPE.decode()} {base64.b64encode(agent.blob).decode()} a token\n")
    server = Sshd(tmp_path / "sshd", home / "token", keys / "host").start()
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        connect("pi", server.device(identity_file=str(public_half))).close()
        connect("pi", server.device(identity_file=None)).close()
    finally:
        server.stop()
        agent.listener.close()


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/zero", "/dev/null", "socket"])
def test_an_identity_file_that_is_no_file(sshd, home, agent, kind):
    path = home / "identity"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = agent if kind == "socket" else Path(kind)
    assert f"{path}: " in reason(sshd.device(identity_file=str(path)))


def test_an_identity_file_of_no_user_is_a_usage_error(sshd, home):
    with pytest.raises(UsageError, match="identity_file"):
        connect("pi", sshd.device(identity_file="~no-such-user/key"))


def test_public_key_authentication_can_be_switched_off(sshd, home):
    configure(home, "PubkeyAuthentication no\n")
    assert "PubkeyAuthentication is no" in reason(sshd.device())


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return keygen(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def believer(tmp_path_factory, keys, authority):
    """A server that takes keys that the authority signed, and no others."""
    folder = tmp_path_factory.mktemp("believer")
    server = Sshd(folder, keys / "other", keys / "host", extra=f"TrustedUserCAKeys {authority}.pub").start()
    yield server
    server.stop()


def certify(authority: Path, key: Path, user: str = "") -> Path:
    """Sign a key for a user; the certificate is beside it."""
    names = user or subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    command = [need("ssh-keygen"), "-q", "-s", authority, "-I", "test", "-n", names, f"{key}.pub"]
    subprocess.run(command, check=True, capture_output=True)
    return key.with_name(f"{key.name}-cert.pub")


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_user_certificate_beside_its_key_logs_in(believer, home, authority, kind):
    key = keygen(home / "mine", kind)
    reason(believer.device(identity_file=str(key)))
    certify(authority, key)
    connect("pi", believer.device(identity_file=str(key))).close()


def test_a_certificate_file_is_offered_with_the_key_that_it_certifies(
    believer, home, authority, tmp_path, monkeypatch
):
    key = keygen(home / "mine")
    certificate = certify(authority, key).rename(home / "signed")
    configure(home, f"IdentityFile {key}\nCertificateFile {certificate}\n")
    connect("pi", believer.device(identity_file=None)).close()
    with ssh_agent(tmp_path / "agent", key):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        key.unlink()  # its private half is in the agent only
        connect("pi", believer.device(identity_file=None)).close()


def test_a_certificate_in_the_agent_logs_in(believer, home, authority, tmp_path, monkeypatch):
    key = keygen(home / "mine")
    certify(authority, key)
    with ssh_agent(tmp_path / "agent", key):  # ssh-add takes the certificate along
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        connect("pi", believer.device(identity_file=None)).close()


def test_a_certificate_for_someone_else_is_named(believer, home, authority):
    key = keygen(home / "mine")
    certificate = certify(authority, key, user="somebody-else")
    assert str(certificate) in reason(believer.device(identity_file=str(key)))
