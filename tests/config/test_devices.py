"""devices.yaml: the user's boards."""

import pytest

from edgepack.config.device import VIRTUAL_KINDS, Device, devices_path, load_devices
from edgepack.config.target import target_names
from edgepack.errors import ConfigError
from edgepack.remote.virtual import KINDS


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    devices_path().parent.mkdir(parents=True)


def test_no_file_means_no_devices():
    assert load_devices().devices == {}


def test_a_file_that_is_named_has_to_exist(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_devices(tmp_path / "boards.yaml")
    assert [p.message for p in caught.value.problems] == ["cannot be read: no such file"]


def test_devices_are_read_from_the_users_own_file():
    devices_path().write_text(
        "edgepack: 1\ndevices:\n  kitchen: {host: 10.0.0.7, target: rpi4, port: 2222, user: pi}\n"
    )
    assert load_devices().devices == {"kitchen": Device(host="10.0.0.7", target="rpi4", port=2222, user="pi")}


def test_all_problems_are_reported_together():
    devices_path().write_text(
        "edgepack: 1\ndevices:\n  a: {host: h, target: rpi4, port: 99999}\n  b: {host: h, taget: rpi4}\n  c: {host: 7, target: ''}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_devices()
    assert [f"{p.line}:{p.column}: {p.message}" for p in caught.value.problems] == [
        "3:36: expected a number at most 65535, got the number 99999",
        "4:16: unknown key `taget`; did you mean `target`?",
        "5:13: expected text, got the number 7; quote it if it is meant as text",
        "5:24: expected text that is not empty, got the text ''",
    ]


def test_virtual_kinds_are_those_of_the_virtual_boards_and_stand_for_targets():
    assert set(VIRTUAL_KINDS) == set(KINDS)
    assert all(KINDS[kind].target == kind for kind in VIRTUAL_KINDS)
    assert set(VIRTUAL_KINDS) <= set(target_names())
