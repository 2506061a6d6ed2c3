"""Endpoints from ~/.ssh/config."""

import getpass

import pytest

from edgepack.config.device import Device
from edgepack.errors import UsageError
from edgepack.remote.sshconfig import resolve


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
