"""Virtual boards, used over SSH."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from edgepack.errors import UsageError
from edgepack.remote import virtual
from edgepack.remote.virtual import boards, needs, supervisor
from edgepack.remote.virtual.boards import Board


def _lacks() -> str:
    programs = ("sshd", "qemu-aarch64-static", "qemu-x86_64-static")
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    return ", ".join(missing + (["root"] if os.geteuid() != 0 else []))


pytestmark = pytest.mark.skipif(
    bool(_lacks()) and os.environ.get("CI") != "true", reason=f"emulated boards need {_lacks()}"
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Iterator[Path]:
    """State of this test alone; the cached root file system is shared with every other test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path
    for board in virtual.running():
        virtual.down(board.name)


@contextmanager
def ssh(board: Board) -> Iterator[paramiko.SSHClient]:
    device = board.device
    with paramiko.SSHClient() as client:
        key = paramiko.Ed25519Key(data=base64.b64decode(device.host_key.split()[1]))
        client.get_host_keys().add(f"[{device.host}]:{device.port}", "ssh-ed25519", key)
        client.connect(
            device.host,
            device.port,
            device.user,
            key_filename=device.identity_file,
            allow_agent=False,
            look_for_keys=False,
        )
        yield client


def run(client: paramiko.SSHClient, command: str) -> tuple[int, str]:
    channel = client.get_transport().open_session()
    channel.set_combine_stderr(True)
    channel.exec_command(command)
    output = channel.makefile("rb").read().decode()
    status = channel.recv_exit_status()
    channel.close()
    return status, output.strip()


def eventually(condition, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def listens(board: Board) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", board.device.port)) == 0


def sessions(board: Board) -> list[int]:
    """Processes anywhere on this machine that belong to a session of the board."""
    return list(supervisor.leftovers(str(board.folder), -1))


def nothing_left(board: Board) -> bool:
    mounts = Path("/proc/self/mounts").read_text()
    return not (listens(board) or sessions(board) or str(board.folder) in mounts)


def test_a_raspberry_pi_4_is_an_aarch64_linux_with_a_cortex_a72():
    board = virtual.up("rpi4")
    assert (board.name, board.device.target, board.device.emulated) == ("rpi4", "rpi4", True)
    with ssh(board) as client:
        assert run(client, "uname -m; uname -n") == (0, "aarch64\nrpi4")
        assert run(client, "od -An -tx1 -j18 -N2 /bin/bash") == (0, "b7 00")  # EM_AARCH64
        assert run(client, "whoami; pwd") == (0, "edge\n/home/edge")
        assert "0xd08" in run(client, "cat /proc/cpuinfo")[1]
        assert run(client, "getconf GNU_LIBC_VERSION") == (0, "glibc 2.36")
        assert run(client, "ls /nowhere")[0] == 2
        assert run(client, "touch /etc/not-mine")[0] != 0


@pytest.fixture(scope="module")
def dotprod(tmp_path_factory) -> Path:
    """An aarch64 program that runs one SDOT, which is Armv8.2: Cortex-A76 has it, A72 has not."""
    folder = tmp_path_factory.mktemp("dotprod")
    source, binary = folder / "sdot.c", folder / "sdot"
    # .inst: the word of "sdot v0.4s, v1.16b, v2.16b", so that no assembler flag is needed.
    source.write_text('int main(void) { __asm__(".inst 0x4e829420" ::: "v0"); return 42; }\n')
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "aarch64-linux-gnu.2.27",
        "-o",
        binary,
        source,
    ]
    subprocess.run(command, check=True)
    return binary


@pytest.mark.parametrize(("kind", "status"), [("rpi3", 132), ("rpi4", 132), ("rpi5", 42)])
def test_an_instruction_the_real_core_lacks_traps(kind, status, dotprod):
    with virtual.up(kind) as board, ssh(board) as client:
        with client.open_sftp() as sftp:
            sftp.put(dotprod, "sdot")
            sftp.chmod("sdot", 0o755)
        assert run(client, "./sdot; exit $?")[0] == status  # 132: SIGILL, as the shell says it


def test_an_x86_board_is_a_linux_of_its_own_under_a_native_sshd():
    with virtual.up("x86-64-v2") as board, ssh(board) as client:
        assert (board.device.target, board.device.emulated) == ("x86-64-v2", True)
        assert run(client, "uname -m; uname -n") == (0, "x86_64\nx86-64-v2")
        assert run(client, "whoami; pwd; getconf GNU_LIBC_VERSION") == (0, "edge\n/home/edge\nglibc 2.36")
        flags = run(client, "grep -m1 flags /proc/cpuinfo")[1].split()
        assert {"ssse3", "sse4_1", "sse4_2"} <= set(flags)
        assert not {"avx", "fma"} & set(flags)
        # What a session starts is emulated, at any depth; sshd is not. Nothing is said of it on stderr.
        look = "sleep 9 & ls -l /proc/$!/exe; kill $!"
        assert "/qemu-x86_64-static" in run(client, look)[1]
        assert "/qemu-x86_64-static" in run(client, f"bash -c '{look}'")[1]
        assert "qemu" not in run(client, "cat /proc/1/cmdline")[1]


@pytest.fixture(scope="module")
def instructions(tmp_path_factory) -> Path:
    """An x86-64 program that runs one instruction of the extension it is given."""
    folder = tmp_path_factory.mktemp("instructions")
    source, binary = folder / "one.c", folder / "one"
    cases = "".join(
        f'    if (strcmp(words[1], "{name}") == 0) __asm__("{code}" ::: "xmm0", "rax", "rbx");\n'
        for name, code in INSTRUCTIONS.items()
    )
    source.write_text(
        f"#include <string.h>\nint main(int count, char **words)\n{{\n{cases}    return 40 + count;\n}}\n"
    )
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.27"]
    subprocess.run([*zig, "-o", binary, source], check=True)
    return binary


INSTRUCTIONS = {
    "sse4.2": "pcmpgtq %%xmm0, %%xmm0",
    "avx": "vxorps %%ymm0, %%ymm0, %%ymm0",
    "avx2": "vpaddd %%ymm0, %%ymm0, %%ymm0",
    "fma": "vfmadd231ps %%ymm0, %%ymm0, %%ymm0",
    "f16c": "vcvtph2ps %%xmm0, %%ymm0",
    "bmi2": "mulx %%rax, %%rbx, %%rax",
    "avx512f": "vpaddd %%zmm0, %%zmm0, %%zmm0",
}


@pytest.mark.parametrize(
    ("kind", "runs"),
    [("x86-64-v2", {"sse4.2"}), ("x86-64-v3", {"sse4.2", "avx", "avx2", "fma", "f16c", "bmi2"})],
)
def test_an_instruction_beyond_the_x86_level_traps(kind, runs, instructions):
    with virtual.up(kind) as board, ssh(board) as client:
        with client.open_sftp() as sftp:
            sftp.put(instructions, "one")
            sftp.chmod("one", 0o755)
        found = {name: run(client, f"./one {name}; exit $?")[0] for name in INSTRUCTIONS}
    assert found == {name: 42 if name in runs else 132 for name in INSTRUCTIONS}  # 132: SIGILL


def test_files_stay_on_the_board_over_down_and_up_until_it_is_purged():
    payload = os.urandom(300_000)
    with virtual.up("rpi4", "shelf") as board, ssh(board) as client, client.open_sftp() as sftp:
        with sftp.file("kept.bin", "wb") as file:
            file.write(payload)
        first_key = board.device.host_key
    with virtual.up("rpi4", "shelf") as board, ssh(board) as client, client.open_sftp() as sftp:
        with sftp.file("kept.bin") as file:
            assert file.read() == payload
        assert board.device.host_key == first_key
    with virtual.up("rpi4", "other") as board, ssh(board) as client:
        assert run(client, "ls")[1] == ""
    assert virtual.purge("shelf")
    assert not board.folder.with_name("shelf").exists()
    assert not virtual.purge("shelf")


def test_two_boards_have_separate_names_ports_keys_and_files():
    with virtual.up("rpi4") as first, virtual.up("rpi4") as second, virtual.up("host") as host:
        assert [first.name, second.name, host.name] == ["rpi4", "rpi4-2", "host"]
        assert len({b.device.port for b in (first, second, host)}) == 3
        assert len({b.device.host_key for b in (first, second, host)}) == 3
        assert {b.name for b in virtual.running()} == {"rpi4", "rpi4-2", "host"}
        with ssh(first) as one, ssh(second) as two:
            run(one, "echo one > mine")
            assert run(two, "cat mine")[0] == 1
            assert run(two, "uname -n")[1] == "rpi4-2"
    assert virtual.running() == []


def test_the_host_board_is_this_machine_with_a_separate_home():
    with virtual.up("host") as board, ssh(board) as client:
        assert not board.device.emulated
        assert run(client, "uname -m")[1] == os.uname().machine
        assert run(client, 'test -f "$0" || command -v sh')[0] == 0
        if board.mode == "namespace":  # not in a container that refuses them
            assert run(client, "pwd")[1] == str(board.folder / "home")
        run(client, f"echo kept > {board.device.work_dir}/file")
        assert (Path(board.device.work_dir) / "file").read_text() == "kept\n"


@pytest.mark.parametrize("kind", ["host", "rpi4", "x86-64-v2"])
def test_down_leaves_nothing_not_even_what_a_session_put_into_the_background(kind):
    board = virtual.up(kind)
    with ssh(board) as client:
        run(client, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & sleep 0.2")
        assert sessions(board)
        assert virtual.down(board.name)
    assert nothing_left(board)
    assert not virtual.down(board.name)
    assert virtual.running() == []


OWNER = """
    import sys, time
    from edgepack.remote import virtual
    board = virtual.up(sys.argv[1], owned=True)
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["host", "rpi4"])
def test_a_killed_owner_takes_its_board_with_it(kind):
    command = [sys.executable, "-c", textwrap.dedent(OWNER), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout.readline() == b"up\n"
            [board] = virtual.running()
            assert board.owned
            with ssh(board) as client:
                run(client, "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
                assert sessions(board)
                owner.kill()
                assert eventually(lambda: nothing_left(board) and virtual.running() == [])
        finally:
            owner.kill()  # a failure must not wait for it
    assert not (board.folder / "board.json").exists()


def test_a_killed_supervisor_takes_its_board_with_it_and_the_list_is_right():
    board = virtual.up("rpi4")
    [pid, _] = _processes(board)["supervisor"]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: nothing_left(board))
    assert (board.folder / "board.json").exists()  # nobody could remove it
    assert eventually(lambda: virtual.running() == [])
    assert not (board.folder / "board.json").exists()
    with virtual.up("rpi4") as again:
        assert again.name == "rpi4"


def test_a_killed_sshd_ends_its_board():
    board = virtual.up("host")
    [pid, _] = _processes(board)["sshd"]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not (board.folder / "board.json").exists())
    assert nothing_left(board)


def test_a_state_file_from_before_a_reboot_is_not_taken_for_a_running_board(home):
    board = virtual.up("host")
    state, known = (board.folder / "board.json").read_text(), _processes(board)
    virtual.down("host")
    # Another process has the number now: this one.
    for pid, started in (known["supervisor"], known["sshd"]):
        state = state.replace(f"[{pid}, {started}]", f"[{os.getpid()}, {started}]")
    (board.folder / "board.json").write_text(state)
    assert virtual.running() == []  # and this process is still alive to say so


def test_of_many_that_want_the_same_name_one_gets_it():
    outcomes: list[str] = []

    def claim() -> None:
        try:
            outcomes.append(virtual.up("host", "wanted").name)
        except UsageError as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["wanted", *["virtual board 'wanted' is already running"] * 3])


@pytest.fixture
def no_namespaces(monkeypatch):
    """As in a container without CAP_SYS_ADMIN: not permitted by the kernel."""
    launch = boards._launch

    def refuse(plan):
        return (supervisor.REFUSED, "no") if plan["mode"] == "namespace" else launch(plan)

    monkeypatch.setattr(boards, "_launch", refuse)


@pytest.mark.parametrize("end", ["down", "kill"])
def test_without_namespaces_the_host_board_still_works_and_leaves_nothing(end, no_namespaces):
    board = virtual.up("host")
    assert board.mode == "plain"
    with ssh(board) as client:
        run(client, "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
        assert sessions(board)
        if end == "down":
            assert virtual.down("host")
        else:
            os.kill(_processes(board)["supervisor"][0], signal.SIGKILL)
            assert eventually(lambda: not listens(board) and virtual.running() == [])
    assert nothing_left(board)


def test_a_process_that_turns_into_another_program_is_seen_all_the_same(home):
    script = home / "again"
    script.write_text('exec sh "$0"\n')
    marked = {**os.environ, supervisor.MARKER: str(home)}
    with subprocess.Popen(["sh", script], env=marked) as restless:
        try:
            for _ in range(200):  # the kernel shows no environment in about one look of twenty
                assert list(supervisor.leftovers(str(home), -1)) == [restless.pid]
        finally:
            restless.kill()


IN_AN_OVERLAY = """
    cd "$1" && mkdir lower upper work state
    mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work state || exit 77
    XDG_STATE_HOME="$1/state" exec "$2" -c "$3"
"""
WRITE_AND_LOOK = """
    from edgepack.remote import virtual
    with virtual.up("rpi4", owned=True) as board:
        print(sorted(p.name for p in board.folder.iterdir() if p.is_dir()))
        print((board.folder / "root/home/edge").is_dir())
"""


def test_where_the_kernel_refuses_an_overlay_the_board_gets_a_copy(home):
    # Overlays do not stack on overlays: the state directory of a container.
    script, code = textwrap.dedent(IN_AN_OVERLAY), textwrap.dedent(WRITE_AND_LOOK)
    command = ["unshare", "--mount", "sh", "-c", script, "sh", home, sys.executable, code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "'root'" in result.stdout
    assert result.stdout.endswith("True\n")


def test_a_strict_umask_does_not_lock_the_board_user_out():
    before = os.umask(0o077)
    try:
        board = virtual.up("rpi4")
    finally:
        os.umask(before)
    with ssh(board) as client:
        assert run(client, "whoami; touch mine && ls") == (0, "edge\nmine")


def test_a_board_that_cannot_start_reports_why_and_leaves_nothing(home, monkeypatch):
    find = needs.programs.find
    monkeypatch.setattr(
        needs.programs, "find", lambda name, package: "/lost/qemu" if "qemu" in name else find(name, package)
    )
    with pytest.raises(UsageError) as failed:
        virtual.up("rpi4")
    assert failed.value.why.startswith(
        "register qemu in a user namespace, which takes Linux 6.7: No such file"
    )
    assert list(supervisor.leftovers(str(home / "edgepack/virtual/rpi4"), -1)) == []
    assert not (home / "edgepack/virtual/rpi4/board.json").exists()
    assert str(home) not in Path("/proc/self/mounts").read_text()


def test_wrong_names_are_refused_with_the_right_ones():
    with pytest.raises(UsageError) as unknown:
        virtual.up("rpi6")
    assert "rpi5" in unknown.value.why
    with pytest.raises(UsageError, match="is not a valid board name"):
        virtual.up("host", "../escape")
    assert not virtual.down("../escape")
    assert not virtual.purge("..")


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name, **_: None if "qemu" in name else f"/usr/bin/{name}")
    with pytest.raises(UsageError) as missing:
        virtual.up("rpi4")
    assert "qemu-user-static" in missing.value.next


def _processes(board: Board) -> dict:
    return json.loads((board.folder / "board.json").read_text())
