"""No leaks over a thousand inferences; no crashes on malformed arguments, files and streams."""

import json
import random
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import zstandard
from agent_kit import headers
from programs import need

from edgepack.agent.build import SOURCES
from edgepack.executor.build import HEADERS

EXIT_CODES = {0, 2, 3, 4, 5, 6, 7, 8}
FUZZED = (
    "npy",
    "dtype",
    "job",
    "fail",
    "elf_check",
    "json",
    "board",
    "regular",
    "zstd",
    "entropy",
    "decimal",
    "matching",
)


@pytest.fixture(scope="module")
def x(tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs") / "x.npy"
    np.save(path, np.ones((1, 64), np.float32))
    return path


def in_use(bundle, x, runs):
    """Valgrind's figures after ``runs`` inferences: bytes lost, and bytes in use at exit."""
    argv = bundle.argv("bench", "--model", bundle.library("mlp"), "--input", x, "--warmup", 0, "--runs", runs)
    options = ("--leak-check=full", "--show-leak-kinds=definite,indirect,possible", "--error-exitcode=99")
    done = subprocess.run(
        [need("valgrind", "valgrind"), *options, *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # of both processes: the one that works, and the one that waits for it
    lost = [
        int(n.replace(",", ""))
        for n in re.findall(r"(?:definitely|indirectly|possibly) lost: ([\d,]+) bytes", done.stderr)
    ]
    kept = [int(n.replace(",", "")) for n in re.findall(r"in use at exit: ([\d,]+) bytes", done.stderr)]
    return sum(lost), max(kept)


def test_a_thousand_inferences_lose_no_byte_and_grow_by_none(bundle, x):
    lost, kept = in_use(bundle, x, 1000)
    assert lost == 0
    _, kept_after_few = in_use(bundle, x, 10)
    assert kept == kept_after_few


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    clang = need("clang", "clang libclang-rt-14-dev")
    sanitizers = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined")
    sources = [
        __file__.replace("test_agent_hardening.py", "fuzz.c"),
        *(str(SOURCES / f"{name}.c") for name in FUZZED),
    ]
    options = (
        "-std=c11",
        "-D_GNU_SOURCE",
        "-O1",
        "-g",
        *sanitizers,
        f"-I{SOURCES}",
        f"-I{headers()}",
        f"-I{HEADERS}",
    )
    subprocess.run([clang, *options, *sources, "-o", str(folder / "fuzz")], check=True)
    return folder / "fuzz"


def fuzz(fuzzer, bundle, x, seconds):
    """Run libFuzzer for ``seconds`` on seeds of every kind."""
    corpus = fuzzer.parent / "corpus"
    corpus.mkdir(exist_ok=True)
    text = Path(__file__).read_bytes()
    seeds = [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 224, 224), }",
        x.read_bytes(),
        b"job a-1 123 main float32:1x64 int8:4 bool:",
        bundle.library("mlp").read_bytes()[:3000],
        b"Features\t: fp asimd\nerror: \xc3\xa9\xff",
        len(text).to_bytes(2, "little") + zstandard.ZstdCompressor(level=19).compress(text),
    ]
    for kind, seed in enumerate(seeds):
        (corpus / f"seed-{kind}").write_bytes(bytes([kind]) + seed)
    words = (f"-max_total_time={seconds}", "-max_len=4096", f"-artifact_prefix={fuzzer.parent}/", str(corpus))
    done = subprocess.run([fuzzer, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(re.search(r"Done (\d+) runs", done.stderr)[1]) > 1000


def test_parsers_stand_a_short_fuzzing(fuzzer, bundle, x):
    fuzz(fuzzer, bundle, x, 5)


@pytest.mark.slow
def test_parsers_stand_a_minute_of_fuzzing(fuzzer, bundle, x):
    fuzz(fuzzer, bundle, x, 60)


WORDS = (
    *(
        "info",
        "run",
        "bench",
        "measure",
        "--model",
        "--input",
        "--output-dir",
        "--each",
        "--threads",
        "--device",
    ),
    *(
        "--warmup",
        "--runs",
        "--timeout",
        "--repeats",
        "--min-ms",
        "--cooldown-ms",
        "--cores",
        "--root",
        "--work-dir",
    ),
    *(
        "",
        "-1",
        "0",
        "3",
        "1e9",
        "nan",
        "99999999999999999999",
        "0,1",
        "0,,1",
        ",",
        "cpu",
        "cuda",
        "\xff",
        "%n%s",
        "a" * 9000,
    ),
)


def arguments(rng, model, x, folder):
    """Valid arguments, with some replaced, dropped, doubled or swapped."""
    words = rng.choice(
        [
            ["run", "--model", model, "--input", x, "--output-dir", folder],
            ["bench", "--model", model, "--input", x, "--runs", "3"],
            ["measure", "--repeats", "2", "--min-ms", "1", "--cores", "0"],
            ["info", "--work-dir", folder],
            [rng.choice(WORDS) for _ in range(rng.randrange(8))],
        ]
    )
    words = [str(word) for word in words]
    for _ in range(rng.randrange(4)):
        if not words:
            break
        at = rng.randrange(len(words))
        words[at : at + 1] = rng.choice(
            [[], [rng.choice(WORDS)], [words[at], words[at]], [words[at], rng.choice(WORDS)]]
        )
    return [word.replace("\0", "") for word in words]


def torment_arguments(sanitized, bundle, x, seconds):
    rng = random.Random(seconds)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        words = arguments(rng, bundle.library("mlp"), x, x.parent)
        done = subprocess.run(
            [sanitized, *words],
            cwd=x.parent,  # words may name the folder for outputs
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode in EXIT_CODES - {8}, (words, done.stderr.decode()[-3000:])
        assert b"Sanitizer" not in done.stderr, (words, done.stderr.decode()[-3000:])


def test_malformed_arguments_are_refused_in_words(sanitized, bundle, x):
    torment_arguments(sanitized, bundle, x, 5)


@pytest.mark.slow
def test_malformed_arguments_for_a_minute(sanitized, bundle, x):
    torment_arguments(sanitized, bundle, x, 60)


def torment_files(bundle, x, folder, seconds):
    """Damage the model and the input at random positions: the agent must print a line and exit with a known code."""
    rng = random.Random(seconds)
    deadline = time.monotonic() + seconds
    whole = {"model.so": bundle.library("mlp").read_bytes(), "x.npy": x.read_bytes()}
    seen = set()
    while time.monotonic() < deadline:
        damaged = rng.choice(list(whole))
        for name, content in whole.items():
            data = bytearray(content)
            if name == damaged:
                for _ in range(rng.choice([1, 4, 64])):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                data = data[: rng.choice([len(data), rng.randrange(len(data))])]
            (folder / name).write_bytes(data)
        words = ("--model", folder / "model.so", "--input", folder / "x.npy", "--output-dir", folder)
        try:
            done = bundle.run("run", *words, timeout=10)
        except subprocess.TimeoutExpired:
            continue  # damaged code may loop: only whoever started it can know that this is too long
        seen.add(done.returncode)
        assert done.returncode in EXIT_CODES, (done.returncode, done.stderr)
        assert json.loads(done.stdout.splitlines()[-1])["ok"] is (done.returncode == 0)
    return seen


def test_damaged_files_give_an_error_line_and_a_known_exit_code(bundle, x, tmp_path):
    assert 3 in torment_files(bundle, x, tmp_path, 4)


@pytest.mark.slow
def test_damaged_files_for_a_minute(bundle, x, tmp_path):
    assert {0, 3, 4, 8} <= torment_files(bundle, x, tmp_path, 60)
