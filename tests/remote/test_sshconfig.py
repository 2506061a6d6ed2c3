"""Endpoints from ~/.ssh/config."""

import contextlib
import getpass
import hashlib
import os
import socket
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import need

from edgepack.config.device import Device
from edgepack.errors import ConfigError, EdgepackError, UnreachableError, UsageError
from edgepack.remote.sshconfig import canonical, criteria, endpoint
from edgepack.remote.sshconfig.endpoint import look_up, resolve
from edgepack.remote.sshconfig.reader import ConfigFile
from edgepack.remote.sshconfig.words import matches


@pytest.fixture
def config(home):
    return home / ".ssh/config"


def device(host: str = "pi", **fields) -> Device:
    return Device(host=host, target="rpi4", **fields)


def test_without_a_configuration_the_host_is_its_name(home):
    endpoint = resolve(device("board.lan"))
    assert (endpoint.host, endpoint.port, endpoint.user) == ("board.lan", 22, getpass.getuser())
    assert endpoint.key_name == "board.lan"
    assert endpoint.identity_files[0] == home / ".ssh/id_ed25519"
    assert endpoint.user_known_hosts[0] == home / ".ssh/known_hosts"
    assert str(endpoint.global_known_hosts[0]) == "/etc/ssh/ssh_known_hosts"
    assert not endpoint.jumps


def test_an_alias_brings_all_its_options(config, home):
    config.write_text(
        "Host pi\n  HostName 192.0.2.7\n  User maker\n  Port 2222\n  IdentityFile ~/.ssh/pi\n"
        "  IdentitiesOnly yes\n  ConnectTimeout 3\nHost *\n  User nobody\n"
    )
    endpoint = resolve(device())
    assert str(endpoint) == "maker@192.0.2.7:2222"
    assert endpoint.key_name == "[192.0.2.7]:2222"
    assert endpoint.identity_files == (home / ".ssh/pi",)
    assert endpoint.identities_only
    assert endpoint.timeout == 3


def test_what_the_device_sets_wins(config, tmp_path):
    config.write_text("Host pi\n  HostName 192.0.2.7\n  User maker\n  Port 2222\n  IdentityFile ~/.ssh/pi\n")
    endpoint = resolve(device(user="root", port=22, identity_file=str(tmp_path / "key")))
    assert str(endpoint) == "root@192.0.2.7"
    assert endpoint.key_name == "192.0.2.7"
    assert endpoint.identity_files == (tmp_path / "key",)
    assert endpoint.identities_only


def test_a_host_key_alias_names_the_key_whatever_the_port(config):
    config.write_text("Host pi\n  HostKeyAlias lab-pi\n  Port 2222\n")
    assert resolve(device()).key_name == "lab-pi"
    assert resolve(device(port=2223)).key_name == "lab-pi"


def test_jump_hosts_come_in_the_order_of_travel(config):
    config.write_text(
        "Host pi\n  ProxyJump middle,root@last:2200\n"
        "Host middle\n  HostName middle.lan\n  ProxyJump first\nHost first\n  Port 2022\n"
    )
    hops = resolve(device()).jumps
    assert [hop.host for hop in hops] == ["first", "middle.lan", "last"]
    assert (hops[0].port, hops[2].port, hops[2].user) == (2022, 2200, "root")
    assert hops[2].key_name == "[last]:2200"


@pytest.mark.parametrize(
    ("jump", "host", "port"),
    [
        ("[2001:db8::1]:2200", "2001:db8::1", 2200),
        ("2001:db8::1", "2001:db8::1", 22),
        ("ssh://u@h:1", "h", 1),
    ],
)
def test_jump_addresses(config, jump, host, port):
    config.write_text(f"Host pi\n  ProxyJump {jump}\n")
    (hop,) = resolve(device()).jumps
    assert (hop.host, hop.port) == (host, port)


def test_proxy_jump_none_jumps_nowhere(config):
    config.write_text("Host pi\n  ProxyJump none\nHost *\n  ProxyJump first\n")
    assert resolve(device()).jumps == ()


def test_includes_are_followed_and_do_not_leak_their_blocks(config, home):
    (home / ".ssh/conf.d").mkdir()
    (home / ".ssh/conf.d/pi").write_text("Host pi\n  HostName 192.0.2.7\n")
    config.write_text("Include conf.d/*\nUser maker\n")
    endpoint = resolve(device())
    assert str(endpoint) == "maker@192.0.2.7"
    assert str(resolve(device("other"))) == "maker@other"


@pytest.mark.parametrize(
    "text",
    [
        "Host pi\n  ProxyJump pi\n",
        "Host pi\n  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump a\n",
        "Host pi\n  ProxyJump a:port\n",
        "Host pi\n  Port 0\n",
        "Host 'pi\n",
    ],
)
def test_an_invalid_configuration_is_a_usage_error(config, text):
    config.write_text(text)
    with pytest.raises(UsageError) as raised:
        resolve(device())
    assert raised.value.next


def says(config, text: str, host: str = "pi") -> str:
    """The user that a configuration gives a host."""
    config.write_text(text)
    return resolve(device(host)).user


@pytest.mark.parametrize(
    ("criteria", "applies"),
    [
        ("tagged lab", True),
        ("tagged l*,x", True),
        ("!tagged lab", False),
        ('tagged ""', False),
        ("tagged=lab", True),
        ("localnetwork 127.0.0.0/8", True),
        ("localnetwork 203.0.113.0/24", False),
        ("localnetwork 203.0.113.0/24,127.0.0.0/8", True),
        ("localnetwork 2001:db8::/32", False),
        ("!localnetwork 203.0.113.0/24", True),
        ("sessiontype shell", True),
        ("sessiontype exec,subsystem", False),
        ('command ""', True),
        ("command rsync*", False),
        ("host=pi user=nobody", False),
        ("host pi localuser *", True),
        ("version OpenSSH_*", True),
        ("version OpenSSH_1.*", False),
    ],
)
def test_newer_criteria(config, criteria, applies):
    if "version" in criteria:
        need("ssh")
    assert (
        says(config, f"Tag lab\nMatch {criteria}\n  User other\nHost *\n  User pi\n") == "other"
    ) == applies


@pytest.mark.parametrize(
    "criteria",
    [
        "localnetwork 10.0.0.1/8",
        "localnetwork lan",
        "colour red",
        "tagged",
        "host pi colour red",
        "!colour red",
        "localnetwork",
    ],
)
def test_a_criterion_that_cannot_be_read_is_an_error_with_its_line(config, criteria):
    with pytest.raises(ConfigError) as raised:
        says(config, f"User pi\n\n  Match {criteria}\n")
    (problem,) = raised.value.problems
    assert (problem.file, problem.line, problem.column) == (str(config), 3, 3)


def test_match_version_without_ssh_is_refused(config, monkeypatch):
    monkeypatch.setattr(criteria, "openssh_version", lambda: None)
    with pytest.raises(ConfigError, match="1 problem"):
        says(config, "Match version OpenSSH_9*\n  User pi\n")
    assert says(config, "Match !final\n  User pi\n") == "pi"


def test_all_problems_of_a_file_are_listed(config):
    with pytest.raises(ConfigError) as raised:
        says(config, "Port x\nColour red\nUser\nHost other\n  ConnectTimeout 5 minutes\n")
    assert [problem.line for problem in raised.value.problems] == [1, 2, 3, 5]


def test_match_exec_runs_what_ssh_runs(config, home, monkeypatch):
    text = 'HostName pi.lan\nPort 2222\nMatch exec "{}"\n  User other\nHost *\n  User me\n'
    assert says(config, text.format("test %h-%n-%p-%r-%d = pi.lan-pi-2222-%u-$HOME")) == "other"
    assert says(config, text.format("test -t 0 -o -t 1")) == "me"
    assert says(config, text.format(f"touch {home}/ran; false")) == "me"
    assert (home / "ran").exists()
    (home / "ran").unlink()
    says(config, f'Match host other exec "touch {home}/ran"\n')
    assert not (home / "ran").exists()
    monkeypatch.setattr(criteria, "_EXEC_TIMEOUT_S", 0.2)
    with pytest.raises(ConfigError) as raised:
        says(config, text.format("sleep 60"))
    assert "still ran" in raised.value.problems[0].message


def test_canonical_names(config, monkeypatch):
    names = {"pi.lab.lan.": "pi.lab.lan", "www.lab.lan.": "pi-7.hosting.lan", "pi.": "pi"}

    def resolve_name(host, _port, *_options, flags):
        if host not in names or flags != socket.AI_CANONNAME:
            raise OSError("unknown")
        return [(2, 1, 6, names[host], ("192.0.2.1", 0))]

    monkeypatch.setattr(canonical.socket, "getaddrinfo", resolve_name)
    head = "CanonicalizeHostname yes\nCanonicalDomains none.lan lab.lan\n"
    tail = "Host pi.lab.lan\n  User other\nMatch canonical\n  Port 2222\n"

    def host(text: str, name: str = "pi") -> str:
        config.write_text(text)
        endpoint = resolve(device(name))
        return f"{endpoint.user if endpoint.user == 'other' else ''}@{endpoint.host}:{endpoint.port}"

    assert host(head + tail) == "other@pi.lab.lan:2222"
    assert host(head + tail, "PI") == "other@pi.lab.lan:2222"
    assert host(head + tail, "pi.") == "@pi:2222"
    assert host(head + tail, "a.b.c") == "@a.b.c:2222"  # too many dots to be completed
    assert host(f"{head}CanonicalizeMaxDots 3\nCanonicalizeFallbackLocal yes\n", "a.b.c") == "@a.b.c:22"
    assert host("CanonicalDomains lab.lan\n" + tail) == "@pi:22"
    assert host(head, "www") == "@www.lab.lan:22"
    assert (
        host(f"{head}CanonicalizePermittedCNAMEs *.lab.lan:*.hosting.lan\n", "www") == "@pi-7.hosting.lan:22"
    )
    assert host(f"{head}CanonicalizePermittedCNAMEs *.x:*\n", "www") == "@www.lab.lan:22"
    assert host(f"{head}Host pi\n  ProxyJump gate\n") == "@pi:22"
    assert host("CanonicalizeHostname always\nCanonicalDomains lab.lan\nProxyCommand x\n") == "@pi.lab.lan:22"
    config.write_text(f"{head}CanonicalizeFallbackLocal no\n")
    with pytest.raises(UnreachableError, match="CanonicalDomains"):
        resolve(device("unknown"))


def test_includes_are_relative_to_their_kind_of_configuration(config, home, tmp_path, monkeypatch):
    system = tmp_path / "etc"
    (system / "conf.d").mkdir(parents=True)
    monkeypatch.setattr(endpoint, "SYSTEM_FOLDER", system)
    (system / "ssh_config").write_text("Include conf.d/*.conf\nUser system\n")
    (system / "conf.d/a.conf").write_text("Port 2222\n")
    (system / "conf.d/.hidden.conf").write_text("Port 1\n")
    (home / ".ssh/conf.d").mkdir()
    (home / ".ssh/conf.d/a").write_text("Host pi\n  HostName 192.0.2.7\n")
    assert says(config, "Include conf.d/* missing ~/.ssh/missing\n") == "system"
    assert str(resolve(device())) == "system@192.0.2.7:2222"
    (system / "ssh_config").write_text("Include ~/.ssh/conf.d/a\n")
    with pytest.raises(ConfigError) as raised:
        resolve(device())
    assert raised.value.problems[0].file == str(system / "ssh_config")


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "config", "unreadable", "writable"])
def test_an_include_that_cannot_be_read_is_an_error_with_its_line(config, home, kind):
    path = Path(kind) if kind.startswith("/") else home / ".ssh" / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind in {"unreadable", "writable"}:
        path.write_text("User pi\n")
        path.chmod(0o000 if kind == "unreadable" else 0o666)
    if kind == "unreadable" and os.geteuid() == 0:
        return  # root reads everything
    with pytest.raises(ConfigError) as raised:
        says(config, f"Port 22\nInclude {path}\n")
    assert len(raised.value.problems) == 1
    assert str(path) in str(raised.value.problems[0])


@pytest.mark.parametrize("kind", ["folder", "none"])
def test_an_include_of_nothing_is_nothing(config, home, kind):
    (home / "folder").mkdir()
    assert says(config, f"Include {home / kind}\nUser pi\n") == "pi"


@pytest.mark.parametrize("kind", ["fifo", "link to /dev/zero", "writable", "huge"])
def test_a_configuration_that_is_no_trusted_file_is_refused(config, kind):
    if kind == "fifo":
        os.mkfifo(config)
    elif kind == "writable":
        config.write_text("User pi\n")
        config.chmod(0o664)
    elif kind == "huge":
        config.touch()
        os.truncate(config, 1 << 33)  # sparse
    else:
        config.symlink_to("/dev/zero")
    with pytest.raises(ConfigError) as raised:
        resolve(device())
    assert raised.value.next


def test_a_device_names_the_user_and_port_as_the_command_line_does(config):
    config.write_text(
        "Match user root\n  HostName 192.0.2.1\nMatch user pi\n  HostName 192.0.2.2\nUserKnownHostsFile /k/%p-%r\n"
    )
    found = resolve(device(user="root", port=2222))
    assert found.host == "192.0.2.1"
    config.write_text("UserKnownHostsFile /k/%p-%r\n")
    assert resolve(device(user="root", port=2222)).user_known_hosts == (Path("/k/2222-root"),)


def test_tokens_and_variables_in_paths(config, home, monkeypatch):
    monkeypatch.setenv("LAB", "lab 7")
    config.write_text(
        "HostName pi.lan\nUser %u\nIdentityFile ~/%h/%n\nIdentityFile ${LAB}/%%\nIdentityFile %d/%i\n"
        "UserKnownHostsFile ~/.ssh/%k ~/.ssh/%L\nRevokedHostKeys ~/%C\nHostKeyAlias Lab\n"
    )
    found = resolve(device())
    here = socket.gethostname()
    assert found.user == getpass.getuser()
    assert found.identity_files == (home / "pi.lan/pi", Path("lab 7/%"), home / str(os.getuid()))
    assert found.user_known_hosts == (home / ".ssh/lab", home / ".ssh" / here.partition(".")[0])
    digest = hashlib.sha1(f"{here}pi.lan22{found.user}".encode(), usedforsecurity=False).hexdigest()
    assert found.revoked_host_keys == (home / digest,)


@given(st.text(), st.text(max_size=6))
def test_patterns_are_those_of_fnmatch_without_brackets(name, pattern):
    assert matches(name, name.replace("?", "*"))
    assert matches(name, "*")
    expected = fnmatchcase(name, pattern.replace("[", "[[]"))
    assert matches(name, pattern) == expected


def test_a_pattern_of_many_stars_takes_no_time():
    assert not matches("a" * 500, "*a" * 60 + "b")
    assert matches("a" * 500, "*a" * 60 + "*")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_an_error(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config"
        path.write_bytes(data)
        with contextlib.suppress(EdgepackError):
            look_up("pi", None, None, [ConfigFile(path, Path(folder), own=True, checked=True)])
