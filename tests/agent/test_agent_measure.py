"""`measure`: many candidates over one stream; a crash affects one candidate only and is reported."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SQUARE = ("float32:64x64",) * 3


def frame(name, library, *arguments, function="main"):
    body = library if isinstance(library, bytes) else Path(library).read_bytes()
    return " ".join(["job", name, str(len(body)), function, *arguments]).encode() + b"\n" + body


def answers(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_samples_are_at_least_min_ms_long(bundle):
    done = bundle.run(
        "measure",
        "--repeats",
        4,
        "--min-ms",
        5,
        "--cores",
        0,
        stdin=frame("a", bundle.library("kernel"), *SQUARE),
    )
    (answer,) = answers(done)
    assert (done.returncode, answer["ok"], len(answer["ms"])) == (0, True, 4)
    assert all(ms * answer["calls"] >= 5 for ms in answer["ms"])


def test_a_crashed_candidate_affects_only_itself_and_reports_the_cause(bundle, bad_kernels):
    good = bundle.library("kernel")
    stream = [
        frame("first", good, *SQUARE),
        *(frame(kind, library) for kind, library in bad_kernels.items()),
        frame("no-function", good, *SQUARE, function="other"),
        frame("wrong-count", good, SQUARE[0]),
        frame("wrong-dtype", good, "float99:64x64"),
        frame("not-a-library", b"\x7fELF and then nothing"),
        frame("last", good, *SQUARE),
        b"end\n",
    ]
    done = bundle.run(
        "measure", "--timeout", 1, "--repeats", 2, "--min-ms", 1, "--cores", 0, stdin=b"".join(stream)
    )
    assert done.returncode == 0, done.stderr
    by_id = {answer["id"]: answer for answer in answers(done)}
    assert next(iter(by_id)) == "first"
    assert list(by_id)[-1] == "last"
    assert by_id["first"]["ok"]
    assert by_id["last"]["ok"]
    reasons = {
        "segv": "Segmentation fault",
        "hang": "killed after 1 s",
        "exit": "exited with code 7",
        "abort": "Aborted",
        "no-function": "no function other",
        "wrong-count": "Expected 3 arguments",
        "wrong-dtype": "'float99' is not a supported dtype",
        "not-a-library": "cannot load the model",
    }
    for name, reason in reasons.items():
        assert by_id[name]["ok"] is False
        assert reason in by_id[name]["error"], name


def test_each_result_is_written_before_the_next_frame_arrives(bundle):
    with subprocess.Popen(
        bundle.argv("measure", "--min-ms", 1), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        for name in ("one", "two"):
            process.stdin.write(frame(name, bundle.library("kernel"), *SQUARE))
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == name
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"hello\n", "a frame starts with"),
        (b"job a 99999999999999999999 main\n", "SIZE must be from 1"),
        (b"job a 0 main\n", "SIZE must be from 1"),
        (b"job ../a 10 main\n", "ID must be 1 to 64"),
        (b"job a 10 main\nshort", "the stream ended in the middle of a frame"),
        (b"x" * 20000, "a header line is longer"),
        (b"job a 10", "or truncated"),
    ],
)
def test_an_invalid_stream_has_its_own_exit_code(bundle, stream, text):
    done = bundle.run("measure", stdin=stream)
    assert done.returncode == 6
    assert text in answers(done)[-1]["error"]


def test_a_missing_core_is_an_error(bundle):
    done = bundle.run("measure", "--cores", "1000", stdin=frame("a", bundle.library("kernel"), *SQUARE))
    assert "cannot pin to core 1000" in answers(done)[0]["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_child_survives_the_agent(bundle, bad_kernels, number):
    with subprocess.Popen(
        bundle.argv("measure", "--timeout", 60), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        process.stdin.write(frame("a", bad_kernels["hang"]))
        process.stdin.flush()
        wait_until(lambda: children(process.pid))
        (child,) = children(process.pid)
        process.send_signal(number)
        assert process.wait(10) == (-9 if number == signal.SIGKILL else 6)
        wait_until(
            lambda: (
                not Path(f"/proc/{child}").exists()
                or "State:\tZ" in Path(f"/proc/{child}/status").read_text()
            )
        )


def test_it_exits_when_the_reader_of_results_exits(bundle, bad_kernels):
    reading, writing = os.pipe()
    with subprocess.Popen(
        bundle.argv("measure", "--timeout", 60), stdin=subprocess.PIPE, stdout=writing
    ) as process:
        os.close(writing)
        process.stdin.write(frame("a", bad_kernels["hang"]))
        process.stdin.flush()
        wait_until(lambda: children(process.pid))
        os.close(reading)
        assert process.wait(10) == 6


def test_it_leaves_nothing_behind(bundle, tmp_path):
    done = subprocess.run(
        bundle.argv("measure", "--min-ms", 1),
        input=frame("a", bundle.library("kernel"), *SQUARE),
        capture_output=True,
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path)},
        check=True,
    )
    assert answers(done)[0]["ok"]
    assert list(tmp_path.iterdir()) == []


def test_the_parent_starts_no_threads(bundle, bad_kernels):
    with subprocess.Popen(
        bundle.argv("measure", "--timeout", 60, "--cores", "0,1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        process.stdin.write(frame("a", bundle.library("kernel"), *SQUARE) + frame("b", bad_kernels["hang"]))
        process.stdin.flush()
        wait_until(lambda: children(process.pid))
        assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1
        process.terminate()


def test_the_arm_agent_measures(arm_bundle):
    done = arm_bundle.run(
        "measure", "--repeats", 2, "--min-ms", 1, stdin=frame("a", arm_bundle.library("kernel"), *SQUARE)
    )
    assert answers(done)[0]["ok"], done
