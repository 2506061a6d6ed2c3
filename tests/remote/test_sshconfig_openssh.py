"""The SSH configuration beside ``ssh -G``: generated files, compared option by option."""

import os
import pwd
import re
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import need

from edgepack.errors import EdgepackError
from edgepack.remote.sshconfig.context import local_user
from edgepack.remote.sshconfig.endpoint import CONNECT_TIMEOUT_S, ConfigFile, look_up
from edgepack.remote.sshconfig.options import split_hop

HOSTS = ("board", "Board", "pi-1", "pi-2.lan", "192.0.2.5", "127.1", "::1", "other")
USERS = ("pi", "root", "maker")


@pytest.fixture(autouse=True, scope="module")
def own_home():
    """ssh takes the home directory from the user database, edgepack from HOME."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
        patch.setenv("BOARD_KEYS", "/keys of mine")
        patch.setenv("SSH_AUTH_SOCK", "/run/agent")
        patch.delenv("NOT_SET", raising=False)
        yield


def ssh_says(config: Path, host: str, user: str | None, port: int | None) -> dict[str, object] | None:
    """What ``ssh -G`` prints, of the options that edgepack uses; None if ssh refuses the file."""
    options = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
    done = subprocess.run(
        [need("ssh"), "-F", config, *options, "-G", "--", host],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        return None
    printed: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        printed.setdefault(name, []).append(value)
    one = {name: values[0] for name, values in printed.items()}
    jump = one.get("proxyjump")
    return {
        "user": one["user"],
        "host": one["hostname"],
        "port": int(one["port"]),
        "family": one["addressfamily"],
        "timeout": one["connecttimeout"],
        "identities_only": one["identitiesonly"] == "yes",
        "identity_files": printed["identityfile"],
        "certificate_files": printed.get("certificatefile", []),
        "agent": one.get("identityagent"),
        "public_keys": one["pubkeyauthentication"] not in {"false", "no"},
        "user_known_hosts": one["userknownhostsfile"],
        "global_known_hosts": one["globalknownhostsfile"],
        "revoked_host_keys": one.get("revokedhostkeys"),
        "hash_known_hosts": one["hashknownhosts"] == "yes",
        "host_key_alias": one.get("hostkeyalias"),
        "bind_address": one.get("bindaddress"),
        "proxy_command": None if jump or one.get("proxycommand") == "none" else one.get("proxycommand"),
        "proxy_jump": jump,
    }


def edgepack_says(config: Path, host: str, user: str | None, port: int | None) -> dict[str, object] | None:
    """The same options of edgepack's endpoint, in the words of ``ssh -G``."""
    home = os.environ["HOME"]
    try:
        endpoint, hops = look_up(
            host, user, port, [ConfigFile(config, Path(home) / ".ssh", own=True, checked=False)]
        )
    except EdgepackError:
        return None
    known = f"[{endpoint.host}]:{endpoint.port}" if endpoint.port != 22 else endpoint.host
    return {
        "user": endpoint.user,
        "host": endpoint.host,
        "port": endpoint.port,
        "family": {socket.AF_UNSPEC: "any", socket.AF_INET: "inet", socket.AF_INET6: "inet6"}[
            endpoint.family
        ],
        "timeout": "none" if endpoint.timeout == CONNECT_TIMEOUT_S else f"{endpoint.timeout or 0:g}",
        "identities_only": endpoint.identities_only,
        "identity_files": endpoint.identity_files if endpoint.identities_named else None,
        "certificate_files": endpoint.certificate_files,
        "agent": endpoint.agent,
        "public_keys": endpoint.public_keys,
        "user_known_hosts": endpoint.user_known_hosts,
        "global_known_hosts": endpoint.global_known_hosts,
        "revoked_host_keys": endpoint.revoked_host_keys,
        "hash_known_hosts": endpoint.hash_known_hosts,
        "host_key_alias": None if endpoint.key_name == known else endpoint.key_name,
        "bind_address": endpoint.bind_address,
        "proxy_command": endpoint.proxy_command,
        "proxy_jump": hops,
    }


def in_our_words(said: dict[str, object]) -> dict[str, object]:
    """What ``ssh -G`` says as the values of an endpoint: it prints some tokens and names as they are written."""
    tokens = {"h": said["host"], "n": said["asked"], "r": said["user"], "p": said["port"], "%": "%"}
    tokens |= {"u": local_user(), "d": os.environ["HOME"], "i": os.getuid()}
    tokens |= {"k": said["host_key_alias"] or said["asked"]}

    def path(text: str) -> Path:
        text = re.sub(r"%(.)", lambda token: str(tokens[token[1]]), text)
        return Path(os.path.expandvars(text)).expanduser()

    def paths(texts: list[str]) -> tuple[Path, ...]:
        return tuple(path(text) for text in texts if text.lower() != "none")

    agent = said["agent"]
    if agent in {None, "SSH_AUTH_SOCK"}:
        agent = os.environ["SSH_AUTH_SOCK"]
    elif agent == "none":
        agent = None
    elif agent.startswith("$"):
        agent = os.environ.get(agent[1:])
    default = len(said["identity_files"]) > len(OWN_KEYS) and not set(OWN_KEYS) & set(said["identity_files"])
    command = said["proxy_command"]
    jump = said["proxy_jump"]
    revoked = said["revoked_host_keys"]
    return {name: value for name, value in said.items() if name != "asked"} | {
        "identity_files": None if default else paths(said["identity_files"]),
        "certificate_files": paths(said["certificate_files"]),
        "agent": agent and Path(agent),
        "user_known_hosts": paths(said["user_known_hosts"].split()),
        "global_known_hosts": paths(said["global_known_hosts"].split()),
        "revoked_host_keys": paths([revoked] if revoked else []),
        "proxy_command": command and re.sub(r"%(.)", lambda token: str(tokens[token[1]]), command),
        "proxy_jump": [split_hop(hop) for hop in jump.split(",")] if jump not in {None, "none"} else [],
    }


OWN_KEYS = ("~/.ssh/mine", "/keys/%h", "/keys/%r@%n", "${BOARD_KEYS}/a", "none", "/a b")
VALUES = {
    "AddressFamily": ("inet", "inet6", "any", "ANY"),
    "BindAddress": ("127.0.0.1",),
    "CanonicalDomains": ("none",),
    "CanonicalizeHostname": ("yes", "no", "always", "true"),
    "CertificateFile": ("/keys/%h-cert.pub", "~/cert"),
    "Compression": ("yes",),
    "ConnectTimeout": ("5", "1m", "1h30", "2M10s", "none", "0", "1w2d"),
    "GlobalKnownHostsFile": ("/etc/known", "none", "/a /b", "~/known"),
    "HashKnownHosts": ("yes", "NO", "True", "false"),
    "HostKeyAlias": ("Alias", "lab-pi"),
    "HostName": ("192.0.2.5", "%h.lan", "Board.LAN", "127.1", "::1", "%%", "pi-2.lan"),
    "IdentitiesOnly": ("yes", "no", "TRUE"),
    "IdentityAgent": (
        "none",
        "SSH_AUTH_SOCK",
        "~/agent",
        "/run/%r/agent",
        "$BOARD_KEYS",
        "${BOARD_KEYS}",
        "$NOT_SET",
    ),
    "IdentityFile": OWN_KEYS,
    "IgnoreUnknown": ("Colour,Use*",),
    "Port": ("22", "2222", "ssh", "022"),
    "ProxyCommand": ("nc %h %p", "none", "ssh -W [%h]:%p gate", "sh -c 'echo # %n'", "nc %%", 'echo "a b"'),
    "ProxyJump": ("gate", "none", "pi@gate:2222,last", "ssh://pi@gate:22", "[::1]:2222", "gate # x"),
    "PubkeyAuthentication": ("yes", "no", "unbound", "host-bound"),
    "RevokedHostKeys": ("~/revoked", "/revoked/%h", "none"),
    "User": USERS,
    "UserKnownHostsFile": ("~/.ssh/known", "/a /known/%k", "none"),
}
patterns = st.sampled_from(
    (
        "*",
        "board",
        "pi-*",
        "pi-?",
        "!board",
        "!pi-1",
        "192.0.2.*",
        "127.0.0.1",
        "other",
        "BOARD",
        "?oard",
        "*.lan",
    )
)
users = st.sampled_from(("pi", "r*", "!root", "*", "maker,pi", "nobody"))
commands = st.sampled_from(
    ("true", "false", "test %h = board", "test %n = board", "test %p -eq 22", "test %r = pi", "test %% = %u")
)


def quoted(value: str) -> st.SearchStrategy[str]:
    """Spellings of one word."""
    plain = [value] if not re.search(r"[ \t]", value) else []
    return st.sampled_from([*plain, f'"{value}"'])


@st.composite
def criteria(draw: st.DrawFn) -> str:
    """A Match line, now and then one that cannot be read."""
    kinds = {
        "all": st.just("all"),
        "canonical": st.just("canonical"),
        "final": st.just("final"),
        "host": st.lists(patterns, min_size=1, max_size=3).map(lambda names: f"host {','.join(names)}"),
        "originalhost": st.lists(patterns, min_size=1, max_size=3).map(
            lambda names: f"originalhost {','.join(names)}"
        ),
        "user": users.map("user {}".format),
        "localuser": users.map("localuser {}".format),
        "exec": commands.flatmap(quoted).map("exec {}".format),
    }
    weights = [*kinds, *("host", "user", "final", "exec", "originalhost") * 2]
    chosen = [draw(kinds[draw(st.sampled_from(weights))]) for _ in range(draw(st.integers(1, 3)))]
    return " ".join(draw(st.sampled_from(("", "", "", "!"))) + one for one in chosen)


@st.composite
def option(draw: st.DrawFn) -> str:
    """One option, in any spelling."""
    name = draw(st.sampled_from(sorted(VALUES)))
    value = draw(st.sampled_from(VALUES[name]))
    if name not in {"ProxyCommand", "ProxyJump", "GlobalKnownHostsFile", "UserKnownHostsFile"}:
        value = draw(quoted(value))
    keyword = draw(st.sampled_from((name, name.lower(), name.upper())))
    separator = draw(st.sampled_from((" ", " ", "=", " = ", "\t", "  ")))
    comment = draw(st.sampled_from(("", "", "", " # a comment"))) if name != "ProxyCommand" else ""
    return f"{draw(st.sampled_from(('', '  ', chr(9))))}{keyword}{separator}{value}{comment}"


host_line = st.lists(patterns, min_size=1, max_size=3).map(lambda names: f"Host {' '.join(names)}")
DOUBTFUL = (
    "",
    "# a comment",
    "   ",
    "Colour red",
    "Colour",
    "Host",
    "Match",
    'User "pi',
    "Nonsense 1",
    "Include",
    'User ""',
    "Host *",
    "UseKeychain yes",
    "AddressFamily ipv4",
    "CanonicalizeHostname maybe",
    "ConnectTimeout -1",
    "ConnectTimeout 5 minutes",
    "ConnectTimeout 1.5",
    "ConnectTimeout x",
    "ConnectTimeout 99999999999",
    "HashKnownHosts 1",
    "HostName %x",
    "HostName",
    "IdentitiesOnly on",
    "IdentityAgent ${NOT_SET}",
    "IdentityAgent $a-b",
    "Port 0",
    "Port 65536",
    "Port -5",
    "Port 22a",
    "Port +22",
    "ProxyJump gate:x",
    "ProxyJump @gate",
    "ProxyJump",
    "User pi root",
    "UserKnownHostsFile none /a",
    "Match colour red",
    "Match host",
    "Match exec",
    "Match user",
    "Match all host board",
    "Match host board all",
    'Match exec "test %y"',
    'Match host "board',
    "Match all # a comment",
    "Match",
    "Match ! host board",
    "Host # board",
    "Host !board",
    'Host ""',
    '"User" pi',
    "User = = pi",
    "User == pi",
    "User='pi'",
    "\\",
    "Include {folder}",
    "User pi\f",
    "Port 22 ",
    'UserKnownHostsFile "/a',
    "ProxyCommand 'nc",
    "CertificateFile",
    "ConnectTimeout",
    "BindAddress",
)
include = st.sampled_from(
    ("Include {folder}/one", "Include {folder}/t*", 'Include "{folder}/none" {folder}/one')
)
bodies = st.lists(
    st.one_of(option(), option(), option(), option(), host_line, criteria().map("Match {}".format), include),
    max_size=8,
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str, str]:
    """A configuration, and two files that it may include."""
    lines = draw(bodies) + draw(bodies)
    if draw(st.integers(0, 3)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(DOUBTFUL)))
    inner = ["\n".join(line for line in draw(bodies) if "Include" not in line) for _ in range(2)]
    return "\n".join(lines) + "\n", inner[0], inner[1]


def compare(texts: tuple[str, str, str], host: str, user: str | None, port: int | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in zip(("config", "one", "two"), texts, strict=True):
            (folder / file).write_text(text.replace("{folder}", name))
        said = ssh_says(folder / "config", host, user, port)
        expected = said and in_our_words(said | {"asked": host})
        assert edgepack_says(folder / "config", host, user, port) == expected


@settings(max_examples=100, deadline=None)
@given(
    files(),
    st.sampled_from(HOSTS),
    st.sampled_from((None, None, "maker")),
    st.sampled_from((None, None, 2022)),
)
def test_a_configuration_means_what_ssh_makes_of_it(texts, host, user, port):
    compare(texts, host, user, port)


@pytest.mark.parametrize("line", DOUBTFUL)
def test_a_line_that_ssh_refuses_is_refused(line):
    compare((f"IgnoreUnknown Use*\nHost board\nPort 2222\n{line}\n", "", ""), "board", None, None)
    compare((f"Host other\n{line}\nHost *\nUser pi\n", "", ""), "board", None, None)
