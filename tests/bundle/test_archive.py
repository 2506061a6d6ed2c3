import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from bundles import FILES, contents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.bundle import frame, ustar
from edgepack.bundle.archive import extract, pack, read_file, read_manifest, verify
from edgepack.errors import EdgepackError, InputError, IntegrityError, UsageError


@pytest.fixture
def bundle(tmp_path):
    return pack(tmp_path / "digits.edgepack", contents(), FILES)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


def tar_of(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


def bundle_of(path: Path, tar: bytes) -> Path:
    path.write_bytes(frame.compressor().compress(tar))
    return path


def members(tar: bytes) -> list[bytes]:
    """The members, header and padded data together."""
    found, at = [], 0
    while tar[at : at + 512] != bytes(512):
        size = ustar.parse(tar[at : at + 512]).size
        end = at + 512 + size + -size % 512
        found.append(tar[at:end])
        at = end
    return found


def refused(path: Path, tmp_path: Path) -> str:
    """Why verify and extract reject it; no files may be left."""
    dest = tmp_path / "out" / "dest"
    with pytest.raises(IntegrityError) as first:
        verify(path)
    with pytest.raises(IntegrityError) as second:
        extract(path, dest)
    assert first.value.why == second.value.why
    assert list((tmp_path / "out").iterdir()) == []
    assert first.value.exit_code == 6
    return str(first.value.why)


def test_round_trip(bundle, tmp_path):
    manifest = extract(bundle, tmp_path / "dest")
    assert manifest == read_manifest(bundle) == verify(bundle)
    assert tree(tmp_path / "dest") == FILES | {"manifest.json": manifest.to_bytes()}
    assert (tmp_path / "dest/bin/edgepack-agent").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "dest/model/model.so").stat().st_mode & 0o7777 == 0o644
    assert bundle.stat().st_mode & 0o7777 == 0o644


def test_one_file_is_read_and_checked(bundle, tmp_path):
    for name, content in FILES.items():
        assert read_file(bundle, name) == content
    with pytest.raises(InputError, match=r"no file model/other\.so"):
        read_file(bundle, "model/other.so")
    tar = tar_of(bundle)
    at = tar.index(FILES["lib/libtvm_runtime.so"])
    damaged = bundle_of(tmp_path / "damaged.edgepack", tar[:at] + b"x" + tar[at + 1 :])
    with pytest.raises(IntegrityError) as caught:
        read_file(damaged, "lib/libtvm_runtime.so")
    assert "lib/libtvm_runtime.so has sha256" in caught.value.why


def test_same_inputs_give_the_same_bytes_from_disk_or_memory(bundle, tmp_path):
    files = {}
    for index, (path, data) in enumerate(reversed(FILES.items())):
        files[path] = tmp_path / f"source-{index}"
        files[path].write_bytes(data)
        files[path].chmod(0o600)
        os.utime(files[path], (index, index))
    assert pack(tmp_path / "again", contents(), files).read_bytes() == bundle.read_bytes()


def test_other_tools_can_open_it(bundle, tmp_path):
    with tarfile.open(fileobj=BytesIO(tar_of(bundle))) as tar:
        assert tar.getnames() == ["manifest.json", *sorted(FILES)]
        assert all((m.mtime, m.uid, m.gid) == (0, 0, 0) for m in tar.getmembers())
    (tmp_path / "plain.tar").write_bytes(tar_of(bundle))
    (tmp_path / "gnu").mkdir()
    done = subprocess.run(
        ["tar", "-xf", tmp_path / "plain.tar", "-C", tmp_path / "gnu"], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert tree(tmp_path / "gnu").keys() == FILES.keys() | {"manifest.json"}


def test_the_digest_is_that_of_the_manifests_bytes(bundle, tmp_path):
    manifest = extract(bundle, tmp_path / "dest")
    assert manifest.digest == hashlib.sha256((tmp_path / "dest/manifest.json").read_bytes()).hexdigest()


def test_an_empty_folder_is_filled(bundle, tmp_path):
    (tmp_path / "dest").mkdir()
    extract(bundle, tmp_path / "dest")
    assert tree(tmp_path / "dest").keys() == FILES.keys() | {"manifest.json"}


def test_a_destination_that_cannot_be_written_is_a_usage_error(bundle, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write"):
        extract(bundle, tmp_path / "file" / "dest")


def test_another_release_is_detected_by_its_digest(bundle):
    assert verify(bundle, digest=read_manifest(bundle).digest).name == "digits"
    with pytest.raises(IntegrityError, match="damaged") as caught:
        verify(bundle, digest="0" * 64)
    assert "release digest" in str(caught.value.why)


def test_a_disk_that_is_too_small_is_told_before_the_first_file(bundle, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UsageError) as caught:
        extract(bundle, tmp_path / "out/it")
    assert "10 B are free, and its files take 2.3 kB" in (caught.value.why or "")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_folder_is_left_alone(bundle, tmp_path):
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "mine").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        extract(bundle, dest)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not an empty folder"):
        extract(bundle, tmp_path / "link")
    assert tree(dest) == {"mine": b"keep"}
    assert not (tmp_path / "elsewhere").exists()


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.edgepack")
    with pytest.raises(InputError) as caught:
        verify(tmp_path / "a.edgepack")
    assert "not a regular file" in (caught.value.why or "")


def test_a_file_that_was_replaced_since_its_manifest_was_read_is_refused(bundle, tmp_path):
    digest = read_manifest(bundle).digest
    pack(bundle, contents(version="6.6.6"), FILES)
    for use in (
        lambda: verify(bundle, digest=digest),
        lambda: extract(bundle, tmp_path / "out", digest=digest),
        lambda: read_file(bundle, "model/model.so", digest=digest),
    ):
        with pytest.raises(IntegrityError) as caught:
            use()
        assert "was replaced while it was in use" in (caught.value.why or "")
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
from edgepack.bundle import archive
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
archive._place = archive._write_member = die
from pathlib import Path
"""


@pytest.mark.parametrize("work", ["extract", "pack"])
def test_what_a_killed_process_left_is_removed_by_the_next(bundle, tmp_path, work):
    calls = {
        "extract": "archive.extract(Path(sys.argv[1]), Path(sys.argv[2]))",
        "pack": "from bundles import FILES, contents; archive.pack(Path(sys.argv[2]), contents(), FILES)",
    }
    out = tmp_path / "out" / "it"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", KILLED + calls[work], bundle, out]
    for _ in range(2):
        assert subprocess.run(argv, env=environment, check=False).returncode == -9
        assert len(list((tmp_path / "out").iterdir())) == 1
    (tmp_path / "out/.it.mine").mkdir()
    if work == "extract":
        extract(bundle, out)
    else:
        pack(out, contents(), FILES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".it.mine", "it"]


@pytest.mark.parametrize("call", [read_manifest, verify])
def test_what_cannot_be_read_is_an_input_error(call, tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError):
            call(path)


def test_a_missing_file_fails_the_pack_and_leaves_no_bundle(tmp_path):
    with pytest.raises(InputError, match=r"cannot pack model/model\.so"):
        pack(tmp_path / "out/a.edgepack", contents(), {"model/model.so": tmp_path / "none"})
    assert not (tmp_path / "out").exists()


def test_truncation_is_found_at_every_length(bundle, tmp_path):
    data = bundle.read_bytes()
    cut = tmp_path / "cut"
    for length in range(0, len(data), 7):
        cut.write_bytes(data[:length])
        assert refused(cut, tmp_path)


@pytest.mark.parametrize("tail", [b"\0", b"x" * 600, zstandard.ZstdCompressor().compress(b"more")])
def test_bytes_after_the_end_are_found(bundle, tmp_path, tail):
    bundle.write_bytes(bundle.read_bytes() + tail)
    assert refused(bundle, tmp_path) == f"{len(tail)} bytes after its end"


def test_a_flipped_byte_in_any_file_is_found(bundle, tmp_path):
    tar = tar_of(bundle)
    at = tar.index(b"RUNTIME")
    assert "lib/libtvm_runtime.so has sha256" in refused(
        bundle_of(bundle, tar[:at] + b"Runtime" + tar[at + 7 :]), tmp_path
    )


def test_extra_missing_swapped_and_repeated_members_are_found(bundle, tmp_path):
    parts = members(tar_of(bundle))
    extra = ustar.header(ustar.Header("zzz", 0, 0o644))
    cases = {
        "'zzz' is not in the manifest": [*parts, extra],
        "appears twice": [*parts, parts[-1]],
        "sample/input-0.npy is missing": parts[:-1],
        "where the manifest has 'bin/edgepack-agent'": [parts[0], parts[2], parts[1], *parts[3:]],
        "its first member is 'bin/edgepack-agent'": parts[1:],
    }
    for says, case in cases.items():
        assert says in refused(bundle_of(tmp_path / "case", b"".join(case) + ustar.END), tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a symbolic link"),
        ({"type": tarfile.LNKTYPE, "linkname": "manifest.json"}, "a hard link"),
        ({"type": tarfile.CHRTYPE}, "a character device"),
        ({"type": tarfile.BLKTYPE}, "a block device"),
        ({"type": tarfile.FIFOTYPE}, "a FIFO"),
        ({"type": tarfile.DIRTYPE}, "a directory"),
        ({"type": tarfile.CONTTYPE}, "not allowed in a bundle"),
        ({"name": "long/" * 40}, "not allowed in a bundle"),
        ({"uid": 1000}, "not allowed in a bundle"),
        ({"mtime": 1}, "not allowed in a bundle"),
        ({"uname": "root"}, "not allowed in a bundle"),
    ],
)
def test_members_of_another_kind_or_place_are_refused(bundle, tmp_path, change, says):
    first, second, *rest = members(tar_of(bundle))
    info = tarfile.TarInfo("bin/edgepack-agent")
    info.size, info.mode = len(FILES["bin/edgepack-agent"]), 0o755
    for name, value in change.items():
        setattr(info, name, value)
    header = info.tobuf(tarfile.USTAR_FORMAT)
    tar = b"".join([first, header, second[512:], *rest, ustar.END])
    assert says in refused(bundle_of(bundle, tar), tmp_path)


@pytest.mark.parametrize(
    ("name", "mode", "says"),
    [
        ("/etc/cron.d/x", 0o755, "where the manifest has"),
        ("../x", 0o755, "where the manifest has"),
        ("bin/edgepack-agent", 0o4755, "mode 4755"),
        ("bin/edgepack-agent", 0o644, "mode 644"),
    ],
)
def test_the_manifest_alone_says_where_a_member_goes(bundle, tmp_path, name, mode, says):
    first, second, *rest = members(tar_of(bundle))
    header = ustar.header(ustar.Header(name, len(FILES["bin/edgepack-agent"]), mode))
    assert says in refused(
        bundle_of(bundle, b"".join([first, header, second[512:], *rest, ustar.END])), tmp_path
    )


def test_hidden_bytes_are_found(bundle, tmp_path):
    tar = tar_of(bundle)
    assert refused(bundle_of(bundle, tar + bytes(512)), tmp_path) == "hidden bytes after the last member"
    at = tar.index(b"RUNTIME") + 20
    assert "between two members" in refused(bundle_of(bundle, tar[:at] + b"!" + tar[at + 1 :]), tmp_path)


def test_a_bundle_of_a_newer_edgepack_is_not_called_damaged(bundle):
    tar = tar_of(bundle)
    first = members(tar)[0]
    newer = first[512:].replace(b'"edgepack": 4,\n  "executor"', b'"edgepack": 7,\n  "executor"')
    bundle_of(bundle, first[:512] + newer + tar[len(first) :])
    with pytest.raises(
        InputError, match="newer edgepack: manifest version 7, this one reads up to 4; update"
    ) as caught:
        verify(bundle)
    assert caught.value.exit_code == 2


def test_a_bomb_is_refused_before_it_opens(bundle, tmp_path):
    with pytest.raises(IntegrityError) as caught:
        verify(bundle, max_bytes=10)
    assert "above the limit of 10" in str(caught.value.why)
    header = ustar.header(ustar.Header("manifest.json", 1 << 32, 0o644))
    assert "above the limit" in refused(bundle_of(bundle, header + bytes(1 << 24)), tmp_path)
    parts = members(tar_of(pack(bundle, contents(), FILES)))
    tail = zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(parts) + bytes(1 << 28))
    bundle.write_bytes(tail)
    assert refused(bundle, tmp_path) == "hidden bytes after the last member"


def test_a_frame_that_wants_much_memory_or_has_no_checksum_is_refused(bundle, tmp_path):
    tar = tar_of(bundle)
    params = zstandard.ZstdCompressionParameters(window_log=27, write_checksum=1, write_content_size=0)
    stream = zstandard.ZstdCompressor(compression_params=params).compressobj()
    bundle.write_bytes(stream.compress(tar) + stream.flush())
    assert "zstd window" in refused(bundle, tmp_path)
    bundle.write_bytes(zstandard.ZstdCompressor(write_checksum=False).compress(tar))
    assert "no checksum" in refused(bundle, tmp_path)


@pytest.fixture(scope="module")
def seed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    return folder, pack(folder / "seed", contents(), FILES).read_bytes()


def survives(folder: Path, changed: bytes) -> None:
    """Under mutation: an edgepack error, or exactly the packed files; never a file elsewhere."""
    path, dest = folder / "fuzzed", folder / "out" / "dest"
    path.write_bytes(changed)
    before = {p.name for p in folder.iterdir()} | {"out"}
    try:
        extract(path, dest)
    except EdgepackError:
        assert not dest.exists()
    else:
        assert tree(dest).items() >= FILES.items()
        for item in sorted(dest.rglob("*"), reverse=True):
            item.rmdir() if item.is_dir() else item.unlink()
        dest.rmdir()
    assert list((folder / "out").iterdir()) == []
    assert {p.name for p in folder.iterdir()} == before


edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "insert", "delete"]), st.floats(0, 1), st.binary(min_size=1, max_size=8)
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    out = bytearray(data)
    for kind, where, new in changes:
        at = int(where * len(out))
        if kind == "flip":
            out[at : at + len(new)] = new[: max(0, len(out) - at)]
        elif kind == "insert":
            out[at:at] = new
        else:
            del out[at : at + len(new)]
    return bytes(out)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=edits)
def test_any_change_to_the_file_is_found_or_harmless(seed, changes):
    folder, data = seed
    survives(folder, edited(data, changes))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=edits)
def test_any_change_to_the_archive_inside_is_found_or_harmless(seed, changes):
    folder, data = seed
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    survives(folder, frame.compressor().compress(edited(tar, changes)))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=2000))
def test_no_bytes_cause_another_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    (folder / "a").write_bytes(data)
    with pytest.raises(
        (IntegrityError, InputError)
    ):  # InputError names another kind of file, such as a model
        verify(folder / "a")
    bundle_of(folder / "b", data)
    with pytest.raises(IntegrityError):
        verify(folder / "b")


names = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True)


@settings(max_examples=50, deadline=None)
@given(files=st.dictionaries(names, st.binary(max_size=3000), max_size=6))
def test_packed_files_are_extracted_unchanged(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("trip")
    if any(parent in files for name in files for parent in name.split("/")[:-1]):
        with pytest.raises(ValueError, match="lies inside the file"):
            pack(folder / "a", contents(), files)
        return
    path = pack(folder / "a", contents(), files)
    manifest = extract(path, folder / "dest")
    assert tree(folder / "dest") == files | {"manifest.json": manifest.to_bytes()}
