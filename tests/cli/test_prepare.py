"""`edgepack devices prepare` makes what a virtual board needs for its first run."""

from command_line import lacking

from edgepack.config.device import VIRTUAL_KINDS


def test_what_a_board_needs_is_in_the_cache_afterwards(cli):
    lacking("sshd")
    cache = cli.home / "cache" / "edgepack"
    for folder in list(cache.iterdir()):
        folder.unlink()  # links to what the tests share
    done = cli("devices", "prepare", "host-gpu")
    assert done.code == 0, done.err
    assert done.out == "ready: host-gpu\n"
    assert list(cache.glob("agent/x86_64-*/edgepack-agent"))
    assert {path.name for path in cache.glob("gpu/driver-x86_64-*/*")} == {"libcuda.so.1", "libcudart.so.13"}


def test_an_unknown_kind_is_a_usage_error_that_names_the_kinds(cli):
    done = cli("devices", "prepare", "pdp11")
    assert done.code == 2
    assert all(kind in done.err for kind in VIRTUAL_KINDS)
