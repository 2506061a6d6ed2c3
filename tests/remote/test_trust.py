"""Which hosts are trusted, beside what ssh makes of the same files: certificates and revoked keys."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Sshd, keygen, need, public

from edgepack.config.device import Device
from edgepack.errors import TrustError, UnreachableError, UsageError
from edgepack.remote.knownhosts import read
from edgepack.remote.publickey import Certificate, HostKey, chosen
from edgepack.remote.session import connect, trust


def sign(authority: Path, key: Path, *options: str) -> HostKey:
    """A certificate of a copy of a public key."""
    copy = authority.parent / f"copy{time.monotonic_ns()}.pub"
    shutil.copy(f"{key}.pub", copy)
    subprocess.run(
        [need("ssh-keygen"), "-q", "-s", authority, "-I", "a board", *options, copy],
        check=True,
        capture_output=True,
    )
    return HostKey.parse(copy.with_name(f"{copy.stem}-cert.pub").read_text())


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return keygen(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def certified(tmp_path_factory, keys, authority):
    """A server whose key is certified for 127.0.0.1 and for board.lan."""
    folder = tmp_path_factory.mktemp("certified")
    certificate = folder / "host-cert.pub"
    certificate.write_text(f"{sign(authority, keys / 'host', '-h', '-n', '127.0.0.1,board.lan')}\n")
    server = Sshd(
        folder / "sshd", keys / "user", keys / "host", extra=f"HostCertificate {certificate}"
    ).start()
    yield server
    server.stop()


HOST, OTHER, AUTHORITY = "{host}", "{other}", "{authority}"
NAME = "[127.0.0.1]:{port}"
CASES = {  # known_hosts, then the configuration
    "known": (f"{NAME} {HOST}", ""),
    "nothing is known": ("", ""),
    "another key is known": (f"{NAME} {OTHER}", ""),
    "another type of key is known": (NAME + " {rsa}", ""),
    "revoked": (f"{NAME} {HOST}\n@revoked {NAME} {HOST}", ""),
    "revoked for all": (f"@revoked * {HOST}\n{NAME} {HOST}", ""),
    "another key is revoked": (f"@revoked * {OTHER}\n{NAME} {HOST}", ""),
    "an authority": (f"@cert-authority {NAME} {AUTHORITY}", ""),
    "an authority for all": (f"@cert-authority * {AUTHORITY}", ""),
    "an authority of other hosts": (f"@cert-authority *.lan {AUTHORITY}", ""),
    "an authority by the plain name": (f"@cert-authority 127.0.0.1 {AUTHORITY}", ""),
    "another authority": (f"@cert-authority * {OTHER}", ""),
    "the key itself as an authority": (f"@cert-authority * {HOST}", ""),
    "the authority as a key": (f"{NAME} {AUTHORITY}", ""),
    "another authority, but the key is known": (f"@cert-authority * {OTHER}\n{NAME} {HOST}", ""),
    "an authority that is revoked": (f"@cert-authority * {AUTHORITY}\n@revoked * {AUTHORITY}", ""),
    "an authority, but the key is revoked": (f"@cert-authority * {AUTHORITY}\n@revoked * {HOST}", ""),
    "an authority by an alias": (f"@cert-authority board.lan {AUTHORITY}", "HostKeyAlias board.lan"),
    "an alias without a certificate": (f"@cert-authority pi.lan {AUTHORITY}", "HostKeyAlias pi.lan"),
    "known by an alias": (f"board.lan {HOST}", "HostKeyAlias board.lan"),
    "RevokedHostKeys with the key": (f"{NAME} {HOST}", "RevokedHostKeys {folder}/revoked-host"),
    "RevokedHostKeys with another": (f"{NAME} {HOST}", "RevokedHostKeys {folder}/revoked-other"),
    "RevokedHostKeys with the authority": (
        f"@cert-authority * {AUTHORITY}",
        "RevokedHostKeys {folder}/revoked-ca",
    ),
    "RevokedHostKeys with the key of a certificate": (
        f"@cert-authority * {AUTHORITY}",
        "RevokedHostKeys {folder}/revoked-host",
    ),
    "RevokedHostKeys without a file": (f"{NAME} {HOST}", "RevokedHostKeys {folder}/none"),
    "RevokedHostKeys that is a folder": (f"{NAME} {HOST}", "RevokedHostKeys {folder}"),
    "RevokedHostKeys none": (f"{NAME} {HOST}", "RevokedHostKeys none"),
    "a revocation list with the key": (f"{NAME} {HOST}", "RevokedHostKeys {folder}/krl-host"),
    "a revocation list with another": (f"{NAME} {HOST}", "RevokedHostKeys {folder}/krl-other"),
    "a revocation list with the certificate": (
        f"@cert-authority * {AUTHORITY}",
        "RevokedHostKeys {folder}/krl-cert",
    ),
    "a revocation list that is damaged": (f"{NAME} {HOST}", "RevokedHostKeys {folder}/krl-damaged"),
    "no certificates, by HostKeyAlgorithms": (
        f"@cert-authority * {AUTHORITY}",
        "HostKeyAlgorithms ssh-ed25519",
    ),
    "certificates, by HostKeyAlgorithms": (
        f"@cert-authority * {AUTHORITY}",
        "HostKeyAlgorithms *25519-cert*",
    ),
    "the signature is not allowed": (f"@cert-authority * {AUTHORITY}", "CASignatureAlgorithms rsa-sha2-512"),
    "no global file": (f"{NAME} {HOST}", "GlobalKnownHostsFile none"),
    "no file of the user": (f"{NAME} {HOST}", "UserKnownHostsFile none"),
    "the null device": (f"{NAME} {HOST}", "UserKnownHostsFile /dev/null"),
    "a line for the global file": (
        f"{NAME} {HOST}",
        "UserKnownHostsFile none\nGlobalKnownHostsFile ~/.ssh/known_hosts",
    ),
    "no algorithm that the server has": (f"{NAME} {HOST}", "HostKeyAlgorithms rsa-sha2-512"),
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory, keys, authority, certified):
    """Files of revoked keys."""
    folder = tmp_path_factory.mktemp("revoked")
    for name, key in (("host", keys / "host"), ("other", keys / "other"), ("ca", authority)):
        (folder / f"revoked-{name}").write_text(f"# stolen\n\n{public(key)} a comment\n")
        subprocess.run(
            [need("ssh-keygen"), "-q", "-k", "-f", folder / f"krl-{name}", f"{key}.pub"], check=True
        )
    certificate = certified.folder.parent / "host-cert.pub"
    subprocess.run([need("ssh-keygen"), "-q", "-k", "-f", folder / "krl-cert", certificate], check=True)
    (folder / "krl-damaged").write_bytes((folder / "krl-host").read_bytes()[:30])
    return folder


def ssh_trusts(config: Path, known: Path, server: Sshd) -> bool:
    """Whether ssh connects; its home directory is not that of the test."""
    text = config.read_text().replace("~/.ssh/known_hosts", str(known))
    if "UserKnownHostsFile" not in text:
        text += f"\nUserKnownHostsFile {known}\n"
    own = config.with_name("for-ssh")
    own.write_text(text)
    command = [
        need("ssh"),
        "-F",
        own,
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-i",
        server.identity,
    ]
    done = subprocess.run(
        [*command, "-p", str(server.port), "127.0.0.1", "true"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


def edgepack_trusts(device: Device) -> bool:
    try:
        connect("pi", device).close()
    except (TrustError, UnreachableError) as error:
        return not error.next
    return True


@pytest.fixture(scope="module")
def values(keys, authority, certified, lists, tmp_path_factory) -> dict[str, str]:
    """What stands in the cases for the keys, the port and the folder of lists."""
    named = {"host": keys / "host", "other": keys / "other", "authority": authority}
    named["rsa"] = keygen(tmp_path_factory.mktemp("rsa") / "rsa", "rsa")
    return {name: public(key) for name, key in named.items()} | {
        "port": str(certified.port),
        "folder": str(lists),
    }


@pytest.mark.parametrize("case", CASES)
def test_a_host_is_trusted_if_ssh_trusts_it(certified, home, values, case):
    lines, options = (text.format(**values) for text in CASES[case])
    known, config = home / ".ssh/known_hosts", home / ".ssh/config"
    known.write_text(lines + "\n")
    config.write_text(options + "\n")
    device = certified.device(host_key=None)
    trusted = edgepack_trusts(device)
    assert trusted == ssh_trusts(config, known, certified)
    if not trusted:
        before = known.read_text()
        if "revo" in case.lower():
            with pytest.raises(TrustError):
                trust("pi", device)
        assert known.read_text() == before


@pytest.mark.parametrize("setting", ["no", "off", "accept-new", "ask", "yes"])
def test_no_strict_host_key_checking_makes_an_unknown_key_known(sshd, home, keys, setting):
    (home / ".ssh/config").write_text(
        f"StrictHostKeyChecking {setting}\nNoHostAuthenticationForLocalhost yes\n"
    )
    for lines in ("", f"[127.0.0.1]:{sshd.port} {public(keys / 'other')}\n"):
        (home / ".ssh/known_hosts").write_text(lines)
        with pytest.raises(TrustError):
            connect("pi", sshd.device(host_key=None))
        assert (home / ".ssh/known_hosts").read_text() == lines


def test_a_pinned_key_that_is_revoked_is_refused(sshd, home, keys):
    connect("pi", sshd.device()).close()
    (home / ".ssh/known_hosts").write_text(f"@revoked * {public(keys / 'host')}\n")
    with pytest.raises(TrustError, match="REVOKED") as raised:
        connect("pi", sshd.device())
    assert f"{home}/.ssh/known_hosts:1" in (raised.value.why or "")


def test_a_revocation_list_without_ssh_keygen_is_refused_by_name(sshd, home, keys, lists, monkeypatch):
    (home / ".ssh/config").write_text(f"RevokedHostKeys {lists}/krl-other\n")
    connect("pi", sshd.device()).close()
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(TrustError, match="krl-other") as raised:
        connect("pi", sshd.device())
    assert "openssh-client" in (raised.value.next or "")


def test_trust_keeps_the_key_of_a_certificate(certified, home, keys, authority):
    (home / ".ssh/known_hosts").write_text(f"@cert-authority * {public(authority)}\n")
    shown = trust("pi", certified.device(host_key=None))
    assert shown == HostKey.parse(public(keys / "host")).fingerprint


def test_a_missing_certificate_is_said(sshd, home, keys, authority):
    (home / ".ssh/known_hosts").write_text(f"@cert-authority * {public(authority)}\n")
    with pytest.raises(TrustError) as raised:
        connect("pi", sshd.device(host_key=None))
    assert "the server has no certificate" in (raised.value.why or "")


@pytest.mark.parametrize(
    "option",
    ["KnownHostsCommand /bin/echo %H", "BindInterface lo", "ProxyUseFdpass yes\nProxyCommand nc %h %p"],
)
def test_what_is_not_supported_is_refused_by_name(sshd, home, option):
    (home / ".ssh/config").write_text(f"{option}\n")
    with pytest.raises(UsageError) as raised:
        connect("pi", sshd.device())
    assert option.split()[0].lower() in raised.value.message


def test_host_key_algorithms_without_one_that_is_supported(sshd, home):
    (home / ".ssh/config").write_text("HostKeyAlgorithms sk-ssh-ed25519@openssh.com\n")
    with pytest.raises(UsageError, match="HostKeyAlgorithms"):
        connect("pi", sshd.device())


def fault(
    authority: Path, keys: Path, *options: str, name: str = "board.lan", algorithms: str | None = None
) -> str:
    """Why a certificate does not count; empty if it does."""
    certificate = Certificate.parse(sign(authority, keys / "host", *options))
    assert certificate.public == HostKey.parse(public(keys / "host"))
    return certificate.fault_for(name, algorithms) or ""


def test_a_certificate_is_for_its_names_its_time_and_its_kind(keys, authority):
    assert fault(authority, keys, "-h", "-n", "board.lan") == ""
    assert fault(authority, keys, "-h", "-n", "*.lan,other") == ""
    assert "not for board.lan" in fault(authority, keys, "-h", "-n", "other")
    assert "for no host" in fault(authority, keys, "-h")
    assert "not a host's" in fault(authority, keys, "-n", "board.lan")
    assert "expired" in fault(authority, keys, "-h", "-n", "board.lan", "-V", "20200101:20210101")
    assert "only from" in fault(authority, keys, "-h", "-n", "board.lan", "-V", "20990101:20990102")
    assert "critical option" in fault(authority, keys, "-h", "-n", "board.lan", "-O", "critical:x@y=z")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_authorities_of_all_kinds_sign(keys, tmp_path, kind):
    own = keygen(tmp_path / "ca", kind)
    assert fault(own, keys, "-h", "-n", "board.lan") == ""
    assert "does not allow" in fault(own, keys, "-h", "-n", "board.lan", algorithms="-*")


def test_a_signature_with_sha1_is_refused(keys, tmp_path):
    own = keygen(tmp_path / "ca", "rsa")
    assert "ssh-rsa" in fault(own, keys, "-h", "-n", "board.lan", "-t", "ssh-rsa")


@pytest.fixture(scope="module")
def certificate(keys, authority):
    return sign(authority, keys / "host", "-h", "-n", "board.lan")


@given(at=st.integers(min_value=0), change=st.integers(1, 255))
def test_a_certificate_with_any_byte_changed_does_not_count(certificate, at, change):
    assert Certificate.parse(certificate).fault_for("board.lan", None) is None
    blob = bytearray(certificate.blob)
    blob[at % len(blob)] ^= change
    try:
        damaged = Certificate.parse(HostKey(certificate.type, bytes(blob)))
    except ValueError:
        return
    if (
        damaged.signed != Certificate.parse(certificate).signed
        or damaged.signature[-64:] != certificate.blob[-64:]
    ):
        other = damaged.authority != Certificate.parse(certificate).authority
        assert other or damaged.fault_for("board.lan", None)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, ["a", "b"]),
        ("b", ["b"]),
        ("c,a", ["c", "a"]),
        ("+c", ["a", "b", "c"]),
        ("-a", ["b"]),
        ("^c,b", ["c", "b", "a"]),
        ("*", ["a", "b", "c"]),
        ("x", []),
    ],
)
def test_lists_of_algorithms(setting, expected):
    assert chosen(setting, ["a", "b"], ["a", "b", "c"]) == expected


def test_only_the_keys_of_the_host_are_read_from_a_large_file(home, keys, monkeypatch):
    known = home / ".ssh/known_hosts"
    line = f"h{'x' * 60} {public(keys / 'other')}\n"
    known.write_text(f"{line * 2000}board.lan {public(keys / 'host')}\n{line}")
    parsed = []
    parse = HostKey.parse
    monkeypatch.setattr(HostKey, "parse", lambda text: parsed.append(text) or parse(text))
    (entry,), _ = read([known], ["board.lan"])
    assert entry.source == f"{known}:2001"
    assert len(parsed) == 1
