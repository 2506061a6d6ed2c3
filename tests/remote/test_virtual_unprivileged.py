"""Virtual boards as a normal user: the host kind works, the others report what they need."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import edgepack
from edgepack.agent.build import build_agent
from edgepack.toolchain.zig import MUSL

USER = 61184  # no account has this number
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = pytest.mark.skipif(
    SSHD is None and os.environ.get("CI") != "true", reason="needs openssh-server"
)


@pytest.fixture
def as_user(tmp_path_factory):
    """Runs Python code as an unprivileged user, even if the test is run as root."""
    root = os.geteuid() == 0
    user = {"user": USER, "group": USER, "extra_groups": []} if root else {}
    home = Path("/tmp" if root else tmp_path_factory.mktemp("home")) / f"edgepack-test-{os.getpid()}"
    home.mkdir(mode=0o700)
    for arch in {os.uname().machine, "aarch64"}:  # the user's cache is empty, and zig takes long to fill it
        built = build_agent(arch, MUSL).parent
        shutil.copytree(built, home / ".cache/edgepack/agent" / built.name)
    if root:
        for path in (home, *home.rglob("*")):
            os.chown(path, USER, USER)
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
            return run("import edgepack.config.device", python).returncode == 0
        except OSError:
            return False

    usable = [p for p in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}") if runnable(p)]
    try:
        if not usable:
            pytest.skip("no Python that an unprivileged user can run and that sees edgepack")
        yield lambda code: run(code, usable[0])
    finally:
        shutil.rmtree(home)


def test_the_host_kind_works(as_user):
    result = as_user("""
        import base64, os, paramiko
        from edgepack.remote import virtual
        with virtual.up("host", owned=True) as board, paramiko.SSHClient() as client:
            if board.mode == "plain":
                print("plain")
                raise SystemExit
            device = board.device
            key = paramiko.Ed25519Key(data=base64.b64decode(device.host_key.split()[1]))
            client.get_host_keys().add(f"[{device.host}]:{device.port}", "ssh-ed25519", key)
            client.connect(device.host, device.port, device.user, key_filename=device.identity_file,
                           allow_agent=False, look_for_keys=False)
            print(client.exec_command("id -u; touch edgepack/mine; ls edgepack")[1].read().decode())
        assert virtual.running() == []
    """)
    assert result.returncode == 0, result.stderr
    if result.stdout == "plain\n":
        pytest.skip("no namespaces here, and a user without an account can log in only inside one")
    assert result.stdout.split() == [str(USER if os.geteuid() == 0 else os.geteuid()), "mine"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="host-gpu is for x86-64 machines")
def test_the_host_kind_with_a_gpu_works(as_user):
    result = as_user("""
        import os
        from edgepack.errors import UsageError
        from edgepack.remote import virtual
        from edgepack.remote.session import connect
        os.environ["LOGNAME"] = "someone"  # the user has no account
        try:
            board = virtual.up("host-gpu", owned=True)
        except UsageError as error:
            print("refused" if "namespaces" in error.next else error.render())
            raise SystemExit
        with board, connect(board.name, board.device) as session:
            look = "ldconfig -p || /sbin/ldconfig -p; ls /dev/nvidia0 /dev/null; cat $EDGEPACK_GPU/gpu.conf"
            print(session.run(["sh", "-c", look]).stdout.decode())
    """)
    assert result.returncode == 0, result.stderr
    if result.stdout == "refused\n":
        pytest.skip("no namespaces here")
    assert "gpu-libraries/libcuda.so.1\n" in result.stdout
    assert "/dev/null\n/dev/nvidia0\nname Orin\n" in result.stdout


@pytest.mark.skipif(
    shutil.which("qemu-aarch64-static") is None and os.environ.get("CI") != "true",
    reason="needs qemu-user-static",
)
@pytest.mark.skipif(os.uname().machine == "aarch64", reason="emulates ARM on other machines")
def test_an_emulated_kind_works(as_user):
    result = as_user("""
        from edgepack.errors import UsageError
        from edgepack.remote import virtual
        from edgepack.remote.session import connect
        try:
            board = virtual.up("rpi4", owned=True)
        except UsageError as error:
            print("refused" if "namespaces" in error.next else error.render())
            raise SystemExit
        with board, connect(board.name, board.device) as session:
            say = "uname -mn; id -un; pwd; grep -c Pi.4 /proc/cpuinfo; echo > /dev/null"
            print(session.run(["sh", "-c", "mkdir -p edgepack && cd edgepack && " + say]).stdout.decode())
            session.put_bytes(b"as a file", "edgepack/sent")
            print(session.run(["cat", "edgepack/sent"]).stdout.decode())
        assert virtual.running() == []
        with virtual.up("rpi4", owned=True) as board, connect(board.name, board.device) as session:
            print(session.run(["cat", "edgepack/sent"]).stdout.decode())
    """)
    assert result.returncode == 0, result.stderr
    if result.stdout == "refused\n":
        pytest.skip("no namespaces here")
    assert result.stdout.startswith("rpi4 aarch64\nedge\n/home/edge/edgepack\n1\n"), result.stdout
    assert result.stdout.endswith("as a file\nas a file\n"), result.stdout
