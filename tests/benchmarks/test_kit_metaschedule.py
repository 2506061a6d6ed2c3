"""Stock MetaSchedule's search process: killed with its children, its records kept. TVM is not needed."""

import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kit import metaschedule, processes
from benchmarks.kit.metaschedule import Search

SLEEPER = """
import os, subprocess, sys, time
pids = sys.argv[1]
print("Sending", sys.argv[2], "sample(s) to builder", flush=True)
worker = subprocess.Popen(["sleep", "600"])
with open(pids + ".new", "w") as file:
    file.write(f"{os.getpid()} {worker.pid}")
os.rename(pids + ".new", pids)
time.sleep(600)
"""


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def pids(tmp_path):
    """The file with the two processes of a search that sends candidates to a worker and never gets an answer."""
    return tmp_path / "pids"


def program(pids):
    return [sys.executable, "-c", SLEEPER, str(pids)]


class Clock:
    """A clock that stands at 0 until the tuning and its worker run; then it jumps."""

    def __init__(self, pids, jump_s):
        self._pids, self._jump_s = pids, jump_s
        self._seen = 0

    def monotonic(self):
        self._seen += self._pids.exists()
        return self._seen * self._jump_s


@pytest.mark.parametrize(("jump_s", "minutes"), [(80, 1), (10, 600)], ids=["deadline", "hopeless"])
def test_tuning_ends_with_all_its_processes(tmp_path, pids, monkeypatch, jump_s, minutes):
    clock = Clock(pids, jump_s)
    for module in (metaschedule, processes):
        monkeypatch.setattr(module, "time", clock)
    told = Search(tmp_path / "tuning").run(program(pids), 64, 60 * minutes)
    assert told.startswith("64 candidates sent to the builder, at least 0 built, 0 ran")
    found = [int(word) for word in pids.read_text().split()]
    assert len(found) == 2
    for _ in range(1000):  # a signal takes its time on a busy machine
        if not any(alive(pid) for pid in found):
            break
        time.sleep(0.02)
    assert not any(alive(pid) for pid in found)
    assert (clock.monotonic() > 60 * minutes) == (minutes == 1)  # the other one gave up long before


def test_records_of_an_earlier_run_count_and_a_half_written_one_goes(tmp_path, pids):
    folder = tmp_path / "tuning"
    folder.mkdir()
    records = [json.dumps([0, [[], [seconds], {}, []]]) for seconds in (0.001, 1e10, 0.002)]
    (folder / metaschedule.RECORDS).write_text("\n".join(records) + "\n[1, [[], [0.0")
    (folder / metaschedule.WORKLOADS).write_text("[]\n[")
    search = Search(folder)
    search.run(program(pids), 3, time.monotonic() + 300)
    assert not pids.exists()  # nothing was left to tune
    assert (search.count()[True], search.count()[False]) == (2, 1)
    assert search.kernels() == 1
    assert (folder / metaschedule.RECORDS).read_text() == "\n".join(records) + "\n"
    assert (folder / metaschedule.WORKLOADS).read_text() == "[]\n"
