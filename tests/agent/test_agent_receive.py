"""`receive`: orders from a stream, its compressed frames, and what is refused, under AddressSanitizer."""

import hashlib
import json
import os
import random
import subprocess

import numpy as np
import pytest
import zstandard

from edgepack.remote.deltas import FRAME, number


def frame(data: bytes, level: int | None = None) -> bytes:
    stored = data if level is None else zstandard.ZstdCompressor(level=level).compress(data)
    if len(stored) >= len(data):
        stored = data
    return len(data).to_bytes(4, "little") + len(stored).to_bytes(4, "little") + stored


def begin(path: bytes, data: bytes, *, kept: int = 0, mode: int = 0, size: int | None = None) -> bytes:
    head = b"F" + number(len(path)) + path + bytes([mode]) + number(len(data) if size is None else size)
    return head + hashlib.sha256(data).hexdigest().encode() + number(kept)


def whole(path: bytes, data: bytes) -> bytes:
    return begin(path, data) + b"B" + number(len(data)) + data + b"E"


@pytest.fixture
def receive(sanitized, tmp_path):
    def run(stream: bytes):
        argv = [sanitized, "receive", "--work-dir", tmp_path]
        done = subprocess.run(argv, input=stream, capture_output=True, check=False, timeout=60)
        assert b"Sanitizer" not in done.stderr, done.stderr
        assert done.returncode in {0, 5, 6}, done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    return run


def samples() -> list[bytes]:
    """Data that uses all of the format: codes of all kinds, repeats, long lengths, few and many symbols."""
    choose = random.Random(1)
    found = [b"x", b"ab" * 60_000, bytes(300_000), os.urandom(5000), os.urandom(300) * 9]
    found += [np.random.default_rng(0).normal(size=50_000).astype("f4").tobytes()]
    found += [np.arange(40_000, dtype="<i4").tobytes()]
    for _ in range(12):
        symbols, size = choose.randint(1, 256), choose.choice([30, 300, 3000, 70_000])
        weights = [choose.random() ** 5 + 1e-9 for _ in range(symbols)]
        found.append(bytes(choose.choices(range(symbols), weights, k=size)))
    return found


def test_frames_of_every_level_are_decompressed(receive, tmp_path):
    data, stream = b"", b""
    for sample in samples():
        for level in (-5, 1, 3, 9, 19):
            data += sample
            stream += frame(b"B" + number(len(sample)) + sample, level)
    stream = frame(begin(b"file", data)) + stream + frame(b"EZ")
    assert receive(stream) == (0, [{"path": "file", "why": None}, {"ok": True}])
    assert (tmp_path / "file").read_bytes() == data


def test_damaged_frames_are_refused(receive):
    choose = random.Random(2)
    chosen = samples()
    for _ in range(40):
        sample = choose.choice(chosen)[:20_000]
        good = frame(whole(b"file", sample) + b"Z", choose.choice([1, 3, 19]))
        damaged = bytearray(good)
        for _ in range(choose.randint(1, 4)):
            damaged[choose.randrange(8, len(damaged))] ^= 1 << choose.randrange(8)
        code, lines = receive(bytes(damaged))
        assert code in {5, 6} or lines[0]["why"] or bytes(damaged) == good


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"", "cut off"),
        (bytes(8), "a frame of 0 bytes"),
        ((FRAME + 1).to_bytes(4, "little") + b"\1\0\0\0x", "a frame of 1048577"),
        (b"\1\0\0\0\2\0\0\0xx", "a frame of 1 bytes is announced with 2"),
        (b"\2\0\0\0\1\0\0\0x", "a compressed frame is damaged"),
        (frame(b"?"), "unknown order 63"),
        (frame(b"E"), "the end of no file"),
        (frame(b"B\1x"), "bytes of no file"),
        (frame(b"C\0\0\1"), "a copy from source 0"),
        (frame(b"S\0"), "a path of 0 bytes"),
        (frame(b"S\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"), "more than 63 bits"),
        (frame(begin(b"../x", b"")), "is not a file to build"),
        (frame(begin(b"/x", b"")), "is not a file to build"),
        (frame(begin(b"a/./x", b"")), "is not a file to build"),
        (frame(begin(b"x/", b"")), "is not a file to build"),
        (frame(begin(b"x", b"", mode=2)), "is not a file to build"),
        (frame(begin(b"x", b"ab", kept=3)), "is not a file to build"),
        (frame(begin(b"x", b"ab") + b"B\3abc"), "gets more bytes"),
        (frame(begin(b"x", b"ab") + begin(b"y", b"")), "within another one"),
        (frame(b"S\1x" * 4097), "more than 4096 sources"),
    ],
)
def test_orders_that_make_no_sense_are_refused(receive, stream, why):
    code, lines = receive(stream)
    assert code == 6
    assert why in lines[-1]["error"]


def test_wrong_files_are_removed_and_the_others_stay(receive, tmp_path):
    (tmp_path / "donor").write_bytes(b"0123456789")
    orders = b"S\5donor" + begin(b"short", b"0123456789", size=11) + b"C\0\0\x0aE"
    orders += begin(b"other", b"0123456789") + b"C\0\0\x09B\1xE"
    orders += begin(b"beyond", b"0123456789") + b"C\0\x09\2E" + begin(b"kept", b"0123456789", kept=5) + b"E"
    orders += begin(b"right", b"0123456789", mode=1) + b"C\0\0\5C\0\5\5E"
    code, lines = receive(frame(orders + b"Z"))
    assert code == 0
    assert [line.get("why") for line in lines] == [
        "its contents differ from what was sent",
        "its contents differ from what was sent",
        "donor cannot be read",
        "what was kept of it is shorter",
        None,
        None,
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"donor", "right"}
    assert (tmp_path / "right").stat().st_mode & 0o7777 == 0o755


def test_nothing_is_written_through_links_and_fifos(receive, tmp_path):
    part = f".x.{hashlib.sha256(b'ab').hexdigest()[:8]}.part"
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / part).symlink_to("elsewhere")
    assert receive(frame(whole(b"x", b"ab") + b"Z"))[0] == 5
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    (tmp_path / part).unlink()
    os.mkfifo(tmp_path / part)
    assert receive(frame(whole(b"x", b"ab") + b"Z"))[0] == 5
    (tmp_path / part).unlink()
    (tmp_path / "x").symlink_to("elsewhere")
    assert receive(frame(whole(b"x", b"ab") + b"Z"))[0] == 0
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
