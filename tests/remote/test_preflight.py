"""All missing requirements are reported together, before anything is written."""

import importlib.util
import platform
import struct
import subprocess
from pathlib import Path

import pytest
import small_bundles
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import lacking

from edgepack.agent.protocol import BoardFacts
from edgepack.base.text import human_size
from edgepack.bundle.archive import read_manifest
from edgepack.errors import IntegrityError, PreflightError
from edgepack.remote.elf import needed_libraries
from edgepack.remote.install import install
from edgepack.remote.preflight import _problems, preflight

JETSON = BoardFacts(
    arch="aarch64",
    bits=64,
    libc="glibc 2.39",
    folder="edgepack",
    writable=True,
    noexec=False,
    free_bytes=10**10,
    features=frozenset(
        ["fp", "asimd", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp", "asimdhp", "asimddp"]
    ),
    libraries=frozenset({"libstdc++.so.6", "libcudart.so.13", "libcuda.so.1"}),
    aside={},
    gpu=True,
    l4t="# R39 (release), REVISION: 2.0",
    soc="tegra234",
)
LIBRARIES = ["libcuda.so.1", "libcudart.so.13", "libstdc++.so.6"]


def check(session, tmp_path, *, size=1000, work_dir=None, libraries=(), **bundle):
    manifest = read_manifest(small_bundles.make(tmp_path, **bundle))
    return preflight(
        session, manifest, size, work_dir=work_dir or str(tmp_path / "work"), libraries=libraries
    )


def complaints(session, tmp_path, **options) -> str:
    with pytest.raises(PreflightError) as raised:
        check(session, tmp_path, **options)
    assert raised.value.exit_code == 5
    assert "was not sent" in (raised.value.state or "")
    assert raised.value.where == "board"
    assert not (tmp_path / "work").exists()
    return raised.value.why or ""


def changed(**fields) -> BoardFacts:
    return JETSON.model_copy(update=fields)


def on_jetson(tmp_path, facts: BoardFacts) -> list[str]:
    features = ("aes", "crc", "dotprod", "fullfp16", "lse", "neon", "sha2")
    bundle = small_bundles.make(tmp_path, arch="aarch64", libc="2.39", gpu=True, features=features)
    return list(_problems(facts, read_manifest(bundle).target, 1000, LIBRARIES, "dynamic"))


def test_a_board_that_has_everything_passes_and_nothing_is_written(session, tmp_path):
    facts = check(session, tmp_path, libraries=["libc.so.6", "libstdc++.so.6", "ld-linux-x86-64.so.2"])
    assert facts.arch == platform.machine()
    assert facts.libc == " ".join(platform.libc_ver())
    assert facts.folder == str(tmp_path)
    assert (facts.free_bytes or 0) > 0
    assert facts.features
    assert not (tmp_path / "work").exists()


def test_another_cpu_is_named_without_the_noise_that_follows_from_it(session, tmp_path):
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    why = complaints(session, tmp_path, arch=other, features=("neon",), gpu=True, libraries=["libx.so.1"])
    assert f"CPU: the board is {platform.machine()}, the release is for {other}" in why
    assert len(why.strip().splitlines()) == 1


def test_all_missing_requirements_are_reported_together(session, tmp_path):
    why = complaints(
        session,
        tmp_path,
        libc="2.999",
        features=("quantum",),
        libraries=["libnothere.so.4", "libc.so.6"],
        size=1 << 50,
    )
    lines = why.strip().splitlines()
    assert [line.split(":")[0].strip(" -") for line in lines] == ["libc", "CPU", "library", "disk"]
    assert "needs 2.999" in lines[0]
    assert "quantum" in lines[1]
    assert "libnothere.so.4" in lines[2]
    assert human_size((1 << 50) + (8 << 20)) in lines[3]


def test_a_small_disk(session, tmp_path, small_disk):
    why = complaints(session, tmp_path, work_dir=str(small_disk / "a/b"), size=3_900_000)
    assert "disk:" in why
    assert str(small_disk) in why


def test_a_read_only_or_noexec_file_system(session, tmp_path, small_disk):
    remounted = subprocess.run(
        ["mount", "-o", "remount,ro,noexec", small_disk], check=False, capture_output=True
    )
    if remounted.returncode != 0:
        lacking("remounting a tmpfs")
    why = complaints(session, tmp_path, work_dir=str(small_disk / "work"))
    assert "is not writable" in why
    assert "noexec" in why


def test_a_relative_work_directory_is_looked_up_from_the_login_directory(session, tmp_path):
    facts = check(session, tmp_path, work_dir="edgepack-that-does-not-exist")
    assert facts.folder == "."


def test_a_jetson_that_fits(tmp_path):
    assert on_jetson(tmp_path, JETSON) == []


@pytest.mark.parametrize("libc", [None, "musl 1.2.3", "glibc 2.5", "glibc"])
def test_a_static_release_needs_no_c_library_of_the_board(tmp_path, libc):
    target = read_manifest(small_bundles.make(tmp_path, arch="aarch64", libc="2.39")).target
    assert list(_problems(changed(libc=libc, bits=32), target, 1000, [], "static")) == []


def test_jetpack_6_is_detected(tmp_path):
    old = changed(
        libraries=frozenset({"libcuda.so.1", "libstdc++.so.6"}),
        l4t="# R36 (release), REVISION: 4.3",
        libc="glibc 2.35",
    )
    libc, cuda = on_jetson(tmp_path, old)
    assert "glibc 2.35" in libc
    assert "libcudart.so.13 is missing" in cuda
    assert "needs CUDA 13.0 (JetPack 7.2)" in cuda
    assert "JetPack 6 (CUDA 12.6): upgrade it" in cuda


def test_cuda_that_the_loader_does_not_find_is_not_called_missing(tmp_path):
    aside = changed(
        libraries=frozenset({"libcuda.so.1", "libstdc++.so.6"}),
        aside={"libcudart.so.13": "/usr/local/cuda-13.0/lib64"},
    )
    (problem,) = on_jetson(tmp_path, aside)
    assert "/usr/local/cuda-13.0/lib64, which is not on the loader's path" in problem
    assert "ldconfig" in problem


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"gpu": False}, "GPU"),
        ({"bits": 32}, "32-bit programs"),
        ({"libc": None}, "the board has no C library, the release needs glibc 2.39"),
        ({"libc": "musl 1.2.3"}, "the board has musl 1.2.3, the release needs glibc 2.39"),
        ({"libraries": frozenset({"libcuda.so.1", "libcudart.so.13"})}, "apt install libstdc++6"),
        (
            {"libraries": frozenset({"libcudart.so.13", "libstdc++.so.6"})},
            "libcuda.so.1 is missing: the NVIDIA driver",
        ),
        (
            {"soc": "tegra194"},
            "tegra194 has compute capability 7.2, and the kernels of jetson-orin are for 8.7 (sm_87)",
        ),
        ({"soc": "tegra264"}, "tegra264 has compute capability 11.0"),
        ({"features": frozenset({"fp", "asimd", "aes", "crc32", "sha2"})}, "dotprod, fullfp16, lse"),
        ({"writable": False}, "edgepack is not writable for the login user"),
        ({"free_bytes": 1000}, "disk: 1.0 kB free"),
    ],
)
def test_one_thing_missing(tmp_path, change, word):
    (problem,) = on_jetson(tmp_path, changed(**change))
    assert word in problem


def test_a_board_that_hides_its_features_is_believed(tmp_path):
    assert on_jetson(tmp_path, changed(features=frozenset())) == []


@pytest.mark.parametrize("soc", [None, "tegra999"])
def test_a_gpu_of_unknown_capability_is_tried(tmp_path, soc):
    assert on_jetson(tmp_path, changed(soc=soc)) == []


def test_needed_libraries_of_real_files(tmp_path):
    folder = Path(importlib.util.find_spec("tvm_ffi").origin).parent / "lib"
    libraries = needed_libraries(folder / "libtvm_ffi.so")
    assert {"libstdc++.so.6", "libc.so.6"} <= set(libraries)
    (tmp_path / "text").write_text("\x7fELF")
    assert needed_libraries(tmp_path / "text") == ()


def elf(needed: list[int], *, names: bytes = b"\0libm.so.6\0", **header: int) -> bytes:
    """An ELF file of one loaded segment, whose dynamic section needs the names at these offsets."""
    entries = [(1, at) for at in needed] + [(5, 64 + 2 * 56)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    at = 64 + 2 * 56 + len(names)
    total = at + len(dynamic)
    fields = {"phoff": 64, "phentsize": 56, "phnum": 2, "offset": at, "length": len(dynamic)} | header
    head = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q", fields["phoff"])
    head = head.ljust(54, b"\0") + struct.pack("<HH", fields["phentsize"], fields["phnum"])
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, total, total, 0)
    section = struct.pack("<IIQQQQQQ", 2, 5, fields["offset"], 0, 0, fields["length"], 0, 0)
    return head.ljust(64, b"\0") + load + section + names + dynamic


def test_fields_of_a_library_may_be_absurd(tmp_path):
    path = tmp_path / "lib.so"
    path.write_bytes(elf([1]))
    assert needed_libraries(path) == ("libm.so.6",)
    big = 2**64 - 1
    for forged in (
        elf([big]),
        elf([1], phnum=65535),
        elf([1], phoff=big),
        elf([1], phentsize=1),
        elf([1], offset=big),
        elf([1], length=big),
        elf([1] * 70_000),
        elf([1], names=b"\0lib\x1b[2J\nlibrary x\0"),
        elf([1], names=b"\0" + b"l" * 300 + b"\0"),
    ):
        path.write_bytes(forged)
        with pytest.raises(ValueError, match=r"lib\.so is a damaged ELF file"):
            needed_libraries(path)


@settings(max_examples=300, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(6, 230), st.integers(0, 255)), max_size=6))
def test_no_change_to_a_library_gives_another_error(tmp_path_factory, edits):
    path = tmp_path_factory.mktemp("elf") / "lib.so"
    data = bytearray(elf([1, 1]))
    for at, value in edits:
        if at < len(data):
            data[at] = value
    path.write_bytes(data)
    try:
        found = needed_libraries(path)
    except ValueError:
        return
    assert all(name.isprintable() and len(name) < 256 for name in found)


def test_a_damaged_library_in_a_bundle_is_a_damaged_bundle(session, tmp_path):
    bundle = small_bundles.make(tmp_path, library=elf([2**40]))
    with pytest.raises(IntegrityError, match=r"lib/libtvm_runtime\.so"):
        install(session, bundle, work_dir=str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_a_damaged_library_is_an_error(tmp_path):
    damaged = tmp_path / "lib.so"
    damaged.write_bytes(b"\x7fELF\x02\x01" + bytes(48) + b"\xff" * 8)
    with pytest.raises(ValueError, match=r"lib\.so is a damaged ELF file"):
        needed_libraries(damaged)
