"""`measure` of a static agent: candidates are programs, linked with what measures them and with the threads of models."""

import signal
import subprocess
from pathlib import Path

import pytest
from test_agent_measure import answers, children, frame, wait_until

from edgepack.agent.build import build_agent
from edgepack.toolchain.zig import MUSL, compile_c
from edgepack.tuning.link import candidate_linker

KERNELS = """
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

extern int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int);
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void *);
int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int) __attribute__((weak));
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) __attribute__((weak));
int (*__TVMBackendFreeWorkspace)(int, int, void *) __attribute__((weak));

static atomic_int here;

/* Waits until the other task is here, too, on another thread. */
static int task(int number, void *group, void *closure)
{
    atomic_fetch_add(&here, 1);
    for (int i = 0; i < 10000 && atomic_load(&here) < 2; i++)
        usleep(1000);
    return atomic_load(&here) < 2;
}

static int in_threads(void)
{
    void *own = __TVMBackendAllocWorkspace(1, 0, 1000, 0, 8);
    atomic_store(&here, 0);
    int failed = __TVMBackendParallelLaunch(task, NULL, 2);
    __TVMBackendFreeWorkspace(1, 0, own);
    return failed || own == NULL;
}

int edgepack_candidate_main(const float *a, const float *b, const float *c, const float *d, const float *e,
                            const float *f, const float *g, const float *h, const float *i, const float *last)
{
    switch (KIND) {
    case 0: return 0;
    case 1: return *(volatile int *)0;
    case 2: for (;;) pause();
    case 3: exit(7);
    case 4: abort();
    case 5: return 1;
    case 6: return in_threads();
    case 7: return last == NULL || (uintptr_t)last % 64 != 0 || last[4] < -1 || last[4] > 1;
    }
    return 0;
}
"""
KINDS = ("good", "segv", "hang", "exit", "abort", "fails", "threads", "ten")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    (folder / "kernel.c").write_text(KERNELS)
    for number, kind in enumerate(KINDS):
        flags = ("-c", "-O1", "-w", f"-DKIND={number}")
        compiled = compile_c([folder / "kernel.c"], folder / f"{kind}.o", "x86_64", MUSL, flags)
        candidate_linker("x86_64").link(compiled, folder / kind, 2048)
    return folder


def argv(*words):
    return [build_agent("x86_64", MUSL), "measure", *map(str, words)]


def measured(frames, *words):
    done = subprocess.run(
        argv("--repeats", 2, "--min-ms", 0.1, *words),
        input=b"".join(frames),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {answer["id"]: answer for answer in answers(done)}


def test_samples_are_at_least_min_ms_long(programs):
    done = subprocess.run(
        argv("--repeats", 3, "--min-ms", 5), input=frame("a", programs / "good", "float32:8"), capture_output=True,
        timeout=60, check=True,
    )  # fmt: skip
    (answer,) = answers(done)
    assert len(answer["ms"]) == 3
    assert all(ms * answer["calls"] >= 5 for ms in answer["ms"])


def test_a_crashed_candidate_affects_only_itself_and_reports_the_cause(programs):
    bad = ("segv", "hang", "exit", "abort", "fails")
    frames = [
        frame("first", programs / "good"),
        *(frame(kind, programs / kind) for kind in bad),
        frame("wrong-dtype", programs / "good", "float99:64x64"),
        frame("not-a-program", b"\x7fELF and then nothing"),
        frame("last", programs / "good"),
        b"end\n",
    ]
    by_id = measured(frames, "--timeout", 1)
    assert list(by_id) == ["first", *bad, "wrong-dtype", "not-a-program", "last"]
    reasons = {
        "segv": "Segmentation fault",
        "hang": "killed after 1 s",
        "exit": "exited with code 7",
        "abort": "Abort",
        "fails": "the kernel failed",
        "wrong-dtype": "'float99' is not a supported dtype",
        "not-a-program": "no program for this board",
    }
    for name, answer in by_id.items():
        assert answer["ok"] is (name not in reasons), name
        assert reasons.get(name, "") in answer.get("error", ""), name


def test_kernels_have_the_threads_of_models_and_their_own_arrays(programs):
    frames = [frame("two", programs / "threads"), frame("ten", programs / "ten", *["float32:8"] * 10)]
    by_id = measured(frames, "--cores", "0,0")
    assert by_id["two"]["ok"], by_id
    assert by_id["ten"]["ok"], by_id


def test_a_missing_core_is_an_error(programs):
    assert (
        "cannot pin to core 1000" in measured([frame("a", programs / "good")], "--cores", 1000)["a"]["error"]
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_survives_the_agent(programs, number):
    with subprocess.Popen(argv("--timeout", 60), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(frame("a", programs / "hang"))
        process.stdin.flush()
        wait_until(lambda: children(process.pid))
        (child,) = children(process.pid)
        process.send_signal(number)
        assert process.wait(10) == (-9 if number == signal.SIGKILL else 6)
        wait_until(lambda: _gone(child))


def _gone(child):
    status = Path(f"/proc/{child}/status")
    return not status.exists() or "State:\tZ" in status.read_text()
