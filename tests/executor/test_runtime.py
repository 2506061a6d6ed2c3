"""The runtime of compiled models, under sanitizers: threads, forks, wrong arguments, damaged files, too little memory."""

import resource

import pytest
from executor_kit import run

OWNER = 40  # where the header has the checksum of the index, which says whose file it is


@pytest.mark.parametrize(
    "command", ["arguments", "binding", "threads", "own", "handed-on", "busy", "pool", "fork", "sources"]
)
def test_under_address_sanitizer(driver, weights, command):
    run(driver("address"), command, weights)


@pytest.mark.parametrize("command", ["threads", "own", "handed-on", "busy", "pool"])
def test_under_thread_sanitizer(driver, weights, command):
    run(driver("thread"), command, weights)


def test_kernels_are_timed_by_name(driver, weights):
    lines = run(driver("address"), "profile", weights).splitlines()
    names = [line.split()[0] for line in lines]
    assert sum("conv2d" in name for name in names) == 2
    assert any("softmax" in name for name in names)
    assert all(int(line.split()[1]) < 10**10 for line in lines)


def test_waiting_threads_sleep(driver, weights):
    run(driver("plain"), "idle", weights)


def test_an_inference_calls_the_system_only_to_wake_threads(driver, weights):
    assert run(driver("plain"), "system-calls", weights) == "good\n"


def test_with_too_little_memory_it_says_so_and_keeps_none(driver, weights):
    def small_stacks():
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, 1 << 18))

    run(driver("plain"), "memory", weights, preexec_fn=small_stacks)


def spoil(data, place):
    data[place] ^= 1
    return data


SPOILT = {
    "missing": (lambda _: None, "it cannot be opened: No such file or directory"),
    "empty": (lambda _: b"", "it is shorter than its header"),
    "of another kind": (lambda data: b"ELF" + data, "it is not a weights file of version"),
    "of another model": (lambda data: spoil(data, OWNER), "it belongs to another model"),
    "index damaged": (lambda data: spoil(data, 50), "its index is damaged"),
    "weights damaged": (lambda data: spoil(data, len(data) - 5), "is damaged"),
    "cut": (lambda data: data[:-1], "its header does not match its size"),
    "too long": (lambda data: data + b"\0", "its header does not match its size"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_weights_file_that_is_not_the_models_is_refused_in_words(driver, weights, tmp_path, case):
    change, why = SPOILT[case]
    path = tmp_path / "w"
    data = change(bytearray(weights.read_bytes()))
    if data is not None:
        path.write_bytes(data)
    status, _, text = run(driver("address"), "open", path).partition(" ")
    assert status == "2"
    assert text.startswith(f"{path}: ")
    assert why in text


def test_a_folder_is_no_weights_file(driver, tmp_path):
    assert "it is not a regular file" in run(driver("address"), "open", tmp_path)


def fuzz(program, weights, folder, seconds):
    refused, accepted = map(int, run(program, "fuzz", weights, folder / "fuzzed", str(seconds)).split())
    assert refused > 10 * accepted
    assert refused > 20


def test_altered_weights_files_for_two_seconds(driver, weights, tmp_path):
    fuzz(driver("address"), weights, tmp_path, 2)


@pytest.mark.slow
def test_altered_weights_files_for_a_minute(driver, weights, tmp_path):
    fuzz(driver("address"), weights, tmp_path, 60)
