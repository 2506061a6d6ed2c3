"""Virtual boards as a normal user: the host kind works, the others say what they need."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import edgepack

NOBODY = 65534

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs openssh-client")


@pytest.fixture
def as_user(tmp_path_factory):
    """Runs Python code as a user without any right, wherever this test itself may do more."""
    root = os.geteuid() == 0
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}
    home = Path("/tmp" if root else tmp_path_factory.mktemp("home")) / f"edgepack-test-{os.getpid()}"
    home.mkdir(mode=0o700)
    if root:
        os.chown(home, NOBODY, NOBODY)
    # The interpreter of a root-only installation cannot be run by others; the system's same version can.
    packages = [p for p in sys.path if p.endswith("site-packages")]
    environment = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(Path(edgepack.__file__).parents[1]), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(code: str, python: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-c", textwrap.dedent(code)],
            env=environment,
            cwd="/",
            text=True,
            capture_output=True,
            check=False,
            **user,
        )

    def runnable(python: str) -> bool:
        try:
            return run("import edgepack.device", python).returncode == 0
        except OSError:
            return False

    usable = [p for p in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}") if runnable(p)]
    if not usable:
        pytest.skip("no Python that an unprivileged user can run and that sees edgepack")
    yield lambda code: run(code, usable[0])
    shutil.rmtree(home)


def test_the_host_kind_works(as_user):
    result = as_user("""
        import os, subprocess
        from edgepack.remote import virtual
        with virtual.up("host", owned=True) as board:
            device = board.device
            hosts = board.folder / "known_hosts"
            hosts.write_text(f"[{device.host}]:{device.port} {device.host_key}\\n")
            command = ["ssh", "-F", "none", "-p", str(device.port), "-i", device.identity_file,
                       "-o", f"UserKnownHostsFile={hosts}", "-o", "IdentitiesOnly=yes",
                       f"{device.user}@{device.host}", "-T", "/bin/sh", "-c", "'id -u; uname -m'"]
            print(board.mode)
            found = subprocess.run(command, capture_output=True, text=True)
            print(found.stdout, found.stderr)
            assert str(os.geteuid()) in found.stdout or "not available" in found.stdout + found.stderr
        assert virtual.running() == []
    """)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_emulated_kind_says_that_it_needs_root_and_what_works_without(as_user):
    result = as_user("""
        from edgepack.remote import virtual
        virtual.up("rpi4")
    """)
    assert "UsageError: virtual board 'rpi4' needs root" in result.stderr
    result = as_user("""
        from edgepack.errors import UsageError
        from edgepack.remote import virtual
        try:
            virtual.up("rpi4")
        except UsageError as error:
            print(error.next)
    """)
    assert "'host'" in result.stdout
