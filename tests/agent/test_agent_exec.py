"""Programs and files of a board by the agent, with sanitizers: exec, stop, write-file, read-file, folders, facts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NONCE = "0123456789abcdef"
# Ignores SIGTERM, and has a child; both print their number.
STUBBORN = "trap '' TERM; sleep 600 & echo $!; echo $$; while :; do sleep 1; done"


def header(*words: str) -> bytes:
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    return f"{NONCE} {len(text)}\n".encode() + text


def start(agent: Path, *words: str, stdin: bytes = b"") -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([agent, "exec", NONCE], stdin=pipe, stdout=pipe, stderr=pipe)
    process.stdin.write(header(*words) + stdin)
    process.stdin.flush()
    return process


def execute(agent: Path, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    process = start(agent, *words, stdin=stdin)
    out, err = process.communicate(timeout=60)
    assert out.startswith(f"edgepack-{NONCE}\n".encode())
    assert err.startswith(f"edgepack-{NONCE} ".encode())
    return process.returncode, out.partition(b"\n")[2], err.partition(b"\n")[2]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 30
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_gets_its_words_and_the_rest_of_the_input(sanitized):
    words = ["a b", "", "$HOME", "'\n\"", "ü"]
    code = "import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(3)"
    assert execute(sanitized, sys.executable, "-c", code, *words, stdin=b"in") == (
        3,
        f"{words} in\n".encode(),
        b"",
    )


@pytest.mark.parametrize(("words", "code", "said"), [
    (["kill"], 137, b""),
    (["/no/such"], 127, b"/no/such: No such file"),
    (["/etc/passwd"], 126, b"/etc/passwd: Permission denied"),
])  # fmt: skip
def test_how_a_command_ends_is_the_exit_code(sanitized, words, code, said):
    if words == ["kill"]:
        words = ["sh", "-c", "kill -KILL $$"]
    found = execute(sanitized, *words)
    assert found[0] == code
    assert said in found[2]


@pytest.mark.parametrize("end", ["stdout", "signal", "stop", "parent"])
def test_the_whole_group_ends(sanitized, end):
    """The reader of the output goes, the agent gets a signal, another agent says so, or the agent is killed."""
    process = start(
        sanitized, "sh", "-c", "sleep 600 & echo $!; echo $$; wait" if end == "parent" else STUBBORN
    )
    assert process.stdout.readline() == f"edgepack-{NONCE}\n".encode()
    child, shell = int(process.stdout.readline()), int(process.stdout.readline())
    group = int(process.stderr.readline().split()[1])
    assert group == shell
    assert os.getpgid(child) == group
    if end == "stdout":
        process.stdout.close()
    elif end == "signal":
        process.terminate()
    elif end == "stop":
        subprocess.run([sanitized, "stop", str(group)], check=True, timeout=30)
    else:
        process.kill()
        wait_until_gone(shell)
        os.kill(child, signal.SIGKILL)  # only the first process is told by the kernel
    wait_until_gone(child, shell)
    code = process.wait(30)
    assert code == (-9 if end == "parent" else 137)
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


@pytest.mark.parametrize("sent", [
    b"", b"\n", b"what a start-up file left\n", f"{NONCE}\n".encode(), f"{NONCE} 5\nab".encode(),
    f"{NONCE} 2\nab".encode(), f"{NONCE} 99999999999\n".encode(), f"{NONCE} -1\n\0".encode(), b"x" * 300,
])  # fmt: skip
def test_an_input_that_begins_with_something_else_starts_nothing(sanitized, sent):
    done = subprocess.run(
        [sanitized, "exec", NONCE], input=sent, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 6
    assert f"edgepack-{NONCE}".encode() not in done.stdout + done.stderr
    assert b"start-up file" in done.stderr


@pytest.mark.parametrize("words", [
    ["exec"], ["stop"], ["stop", "1"], ["stop", "-5"], ["stop", "x"], ["write-file", "a"], ["write-file", "a", "9", "1"],
    ["write-file", "a", "644", "-1"], ["read-file"], ["make-folder"], ["remove-folder"], ["settle"], ["facts", "/"],
])  # fmt: skip
def test_wrong_words_are_refused(sanitized, words):
    done = subprocess.run([sanitized, *words], capture_output=True, check=False, timeout=30)
    assert (done.returncode, json.loads(done.stdout)["kind"]) == (2, "usage")


@pytest.mark.parametrize("size", [0, 1, 200_001])
def test_a_file_is_written_whole_or_not_at_all(sanitized, tmp_path, size):
    data = os.urandom(size)
    path = tmp_path / "file"
    words = [sanitized, "write-file", str(path), "640", str(size)]
    subprocess.run(words, input=data, check=True, capture_output=True, timeout=30)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (data, 0o640)
    assert subprocess.run([sanitized, "read-file", path], capture_output=True, check=True).stdout == data
    if size:
        cut = subprocess.run(words, input=data[:-1], check=False, capture_output=True, timeout=30)
        assert (cut.returncode, json.loads(cut.stdout)["kind"]) == (6, "stream")
        assert path.read_bytes() == data
    assert [it.name for it in tmp_path.iterdir()] == ["file"]


def test_only_regular_files_are_read(sanitized, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "none", "."):
        done = subprocess.run(
            [sanitized, "read-file", tmp_path / name], capture_output=True, check=False, timeout=30
        )
        assert done.returncode == 3


def test_a_folder_is_made_and_removed_with_its_files(sanitized, tmp_path):
    folder = tmp_path / "data"
    subprocess.run([sanitized, "make-folder", folder], check=True, capture_output=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (
        subprocess.run([sanitized, "make-folder", folder], check=False, capture_output=True).returncode == 5
    )
    (folder / "a").write_text("x")
    (folder / "inner").mkdir()
    assert (
        subprocess.run([sanitized, "remove-folder", folder], check=False, capture_output=True).returncode == 5
    )
    (folder / "inner").rmdir()
    subprocess.run([sanitized, "remove-folder", folder], check=True, capture_output=True)
    assert not folder.exists()


GLIBC = b"\0GNU C Library (Debian GLIBC 2.31-13) stable release version 2.31.\nCopyright"
LIBRARY = b"\x7fELF\x02\x01\x01" + bytes(9)  # the rest is added: a shared library without segments


def library(text: bytes = b"") -> bytes:
    machine = {"x86_64": 62, "aarch64": 183}[os.uname().machine]
    head = LIBRARY + (3).to_bytes(2, "little") + machine.to_bytes(2, "little") + (1).to_bytes(4, "little")
    return head + bytes(30) + (56).to_bytes(2, "little") + bytes(8) + text


def facts(agent: Path, root: Path, *libraries: str) -> dict:
    done = subprocess.run(
        [agent, "facts", root, "x/y", *libraries], capture_output=True, check=True, timeout=30
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("text", "said"), [
    (GLIBC, "glibc 2.31"), (b"", "glibc"), (b"release version ", "glibc"), (b"release version 2.3", "glibc 2.3"),
])  # fmt: skip
def test_glibc_is_recognised_by_its_file(sanitized, tmp_path, text, said):
    loader = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}[
        os.uname().machine
    ]
    for path, data in ((loader, b"x"), ("usr/lib/libc.so.6", library(text))):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    assert facts(sanitized, tmp_path)["libc"] == said


@pytest.mark.parametrize(("text", "said"), [
    (b"\0musl libc\0001.2.3\0more", "musl 1.2.3"), (b"", "musl"), (b"\0001.2.", "musl"), (b"\0001.2.3", "musl"),
])  # fmt: skip
def test_musl_is_recognised_by_its_file(sanitized, tmp_path, text, said):
    (tmp_path / "lib").mkdir()
    (tmp_path / f"lib/ld-musl-{os.uname().machine}.so.1").write_bytes(library(text))
    assert facts(sanitized, tmp_path)["libc"] == said


def test_libraries_are_found_where_the_loader_finds_them(sanitized, tmp_path):
    for path in (
        "usr/lib/libplain.so.1",
        "opt/own/libcached.so.2",
        "usr/local/cuda-13.0/lib64/libcudart.so.13",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(library())
    (tmp_path / "usr/lib/libother.so.1").write_bytes(b"\x7fELF\x01 of another kind")
    (tmp_path / "etc").mkdir()
    cache = b"glibc-ld.so.cache1.1\0libcached.so.2\0/opt/own/libcached.so.2\0libgone.so.1\0/opt/own/libgone.so.1\0"
    (tmp_path / "etc/ld.so.cache").write_bytes(cache)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").write_bytes(b"\x7fELF\x01" + bytes(20))
    names = ("libplain.so.1", "libcached.so.2", "libgone.so.1", "libother.so.1", "libcudart.so.13", "x" * 300)
    found = facts(sanitized, tmp_path, *names)
    assert found["libraries"] == ["libplain.so.1", "libcached.so.2"]
    assert found["aside"] == {"libcudart.so.13": "/usr/local/cuda-13.0/lib64"}
    assert (found["libc"], found["bits"], found["folder"]) == (None, 32, ".")


def test_a_jetson_is_recognised(sanitized, tmp_path):
    for path, text in {
        "etc/nv_tegra_release": "# R39 (release), REVISION: 2.0\nmore\n",
        "sys/firmware/devicetree/base/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
        "dev/nvgpu": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = facts(sanitized, tmp_path)
    assert (found["l4t"], found["soc"], found["gpu"]) == ("# R39 (release), REVISION: 2.0", "tegra234", True)
