"""Host keys as ssh-keygen writes them."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import keygen, need, public

from edgepack.config.device import Device
from edgepack.errors import TrustError
from edgepack.remote.hostkeys import Keyring, KeyVerdict, remember
from edgepack.remote.knownhosts import read
from edgepack.remote.publickey import HostKey
from edgepack.remote.sshconfig import resolve


@pytest.fixture
def known_hosts(home) -> Path:
    return home / ".ssh/known_hosts"


@pytest.fixture
def key(keys) -> HostKey:
    return HostKey.parse(public(keys / "host"))


@pytest.fixture
def other(keys) -> HostKey:
    return HostKey.parse(public(keys / "other"))


def endpoint(port: int = 22, host: str = "board.lan"):
    return resolve(Device(host=host, target="rpi4", port=port))


def judge(key: HostKey, port: int = 22, **options) -> KeyVerdict:
    return Keyring(endpoint(port), device="pi", **options).judge(key)


def test_the_fingerprint_is_the_one_ssh_keygen_prints(keys, key):
    printed = subprocess.run(
        [need("ssh-keygen"), "-lf", keys / "host.pub"], check=True, capture_output=True, text=True
    ).stdout
    assert key.fingerprint in printed.split()


def test_a_key_in_known_hosts_is_known_and_another_is_a_change(known_hosts, key, other):
    known_hosts.write_text(f"# mine\n\nelsewhere {other}\nboard.lan,192.0.2.7 {key} comment\n")
    assert judge(key) is KeyVerdict.KNOWN
    assert judge(other) is KeyVerdict.CHANGED


def test_without_a_line_the_key_is_unknown(known_hosts, key):
    assert judge(key) is KeyVerdict.UNKNOWN
    known_hosts.write_text(f"other.lan {key}\n")
    assert judge(key) is KeyVerdict.UNKNOWN


def test_names_hashed_by_ssh_keygen_are_found(known_hosts, key):
    known_hosts.write_text(f"board.lan {key}\n[board.lan]:2222 {key}\n")
    subprocess.run([need("ssh-keygen"), "-q", "-H", "-f", known_hosts], check=True, capture_output=True)
    assert "board" not in known_hosts.read_text()
    assert judge(key) is KeyVerdict.KNOWN
    assert judge(key, port=2222) is KeyVerdict.KNOWN
    assert Keyring(endpoint(host="board.wan"), device="pi").judge(key) is KeyVerdict.UNKNOWN


def test_another_port_has_its_own_name_and_may_use_the_plain_one(known_hosts, key, other):
    known_hosts.write_text(f"[board.lan]:2222 {key}\n")
    assert judge(key, port=2222) is KeyVerdict.KNOWN
    assert judge(key, port=22) is KeyVerdict.UNKNOWN
    known_hosts.write_text(f"board.lan {key}\n")
    assert judge(key, port=2222) is KeyVerdict.KNOWN  # as ssh does
    assert judge(other, port=2222) is KeyVerdict.UNKNOWN  # another port may be another machine
    known_hosts.write_text(f"![board.lan]:2222,* {key}\n")
    assert (
        judge(key, port=2222) is KeyVerdict.UNKNOWN
    )  # unlike ssh: the line excludes this server by its name


@pytest.mark.parametrize(
    ("patterns", "known"),
    [
        ("*.lan", True),
        ("BOARD.lan", True),
        ("boar?.lan", True),
        ("*.lan,!board.lan", False),
        ("!board.lan,*.lan", False),
        ("board.l[a]n", False),  # brackets are no pattern in known_hosts
    ],
)
def test_patterns(known_hosts, key, patterns, known):
    known_hosts.write_text(f"{patterns} {key}\n")
    assert judge(key) is (KeyVerdict.KNOWN if known else KeyVerdict.UNKNOWN)


def test_a_revoked_key_is_refused_even_where_it_is_known(known_hosts, key):
    known_hosts.write_text(f"board.lan {key}\n@revoked * {key}\n")
    assert judge(key) is KeyVerdict.REVOKED
    with pytest.raises(TrustError, match="REVOKED"):
        Keyring(endpoint(), device="pi").check(key)


def test_certificate_authorities_and_damaged_lines_are_ignored(known_hosts, key):
    damaged = str(key)[:-9]
    known_hosts.write_text(
        f"@cert-authority *.lan {key}\nboard.lan ssh-rsa {damaged.split()[1]}\nboard.lan {key.type}\n"
        f"board.lan ssh-rsa {str(key).split()[1]}\nboard.lan\n|1|x|y {key}\n"
    )
    assert judge(key) is KeyVerdict.UNKNOWN


def test_the_pinned_key_overrides_known_hosts(known_hosts, key, other):
    known_hosts.write_text(f"board.lan {key}\n")
    assert judge(key, pinned=str(other)) is KeyVerdict.CHANGED
    assert judge(other, pinned=f"{other} root@board") is KeyVerdict.KNOWN


@pytest.mark.parametrize("pinned", ["", "ssh-ed25519", "ssh-ed25519 ???", "ssh-rsa {blob}"])
def test_a_pinned_key_that_is_none_is_refused(key, pinned):
    with pytest.raises(TrustError, match="pinned host_key") as raised:
        Keyring(endpoint(), device="pi", pinned=pinned.format(blob=str(key).split()[1]))
    assert raised.value.exit_code == 6


def test_known_types_are_requested_first(known_hosts, key, tmp_path):
    ecdsa = HostKey.parse(public(keygen(tmp_path / "ecdsa", "ecdsa")))
    known_hosts.write_text(f"board.lan {ecdsa}\n")
    offered = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"]
    assert Keyring(endpoint(), device="pi").preferred(offered)[0] == "ecdsa-sha2-nistp256"
    assert Keyring(endpoint(), device="pi", pinned=str(key)).preferred(offered) == offered


def test_remember_only_appends(home, known_hosts, key, other):
    (home / ".ssh/config").write_text("HashKnownHosts no\n")  # Debian's /etc/ssh/ssh_config says yes
    before = f"elsewhere {other}"  # and no newline at its end
    known_hosts.write_text(before)
    assert remember(endpoint(2222), key) == known_hosts
    assert known_hosts.read_text() == f"{before}\n[board.lan]:2222 {key}\n"
    assert judge(key, port=2222) is KeyVerdict.KNOWN


def test_remember_creates_a_private_file_and_hashes_names_if_configured(home, key):
    (home / ".ssh/config").write_text("HashKnownHosts yes\nUserKnownHostsFile ~/.ssh/deep/known\n")
    path = remember(endpoint(), key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_text().startswith("|1|")
    found = subprocess.run(
        [need("ssh-keygen"), "-F", "board.lan", "-f", path], capture_output=True, check=False
    )
    assert found.returncode == 0
    assert judge(key) is KeyVerdict.KNOWN


def test_remember_without_a_file_names_the_other_way(key):
    with pytest.raises(TrustError) as raised:
        remember(replace(endpoint(), user_known_hosts=()), key)
    assert "host_key" in (raised.value.next or "")


def test_files_that_cannot_be_read_hold_nothing(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    files = [tmp_path / "none", tmp_path, tmp_path / "fifo", Path("/dev/zero"), Path("/dev/null")]
    entries, faults = read(files, ["board.lan"])
    assert entries == []
    assert faults == [
        f"{tmp_path}: it is a folder",
        f"{tmp_path}/fifo: it is not a regular file",
        "/dev/zero: it is not a regular file",
    ]


@pytest.mark.parametrize("alias", ["*", "lab,*", "!lab", "a b", "@revoked"])
def test_remember_writes_no_line_about_other_hosts(home, known_hosts, key, alias):
    (home / ".ssh/config").write_text(f'HostKeyAlias "{alias}"\n')
    with pytest.raises(TrustError, match="no line can be added"):
        remember(endpoint(), key)
    assert not known_hosts.exists()
