"""Releases on a board: installed completely or not at all."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import small_bundles

from edgepack.bundle.archive import read_manifest
from edgepack.errors import (
    DeployError,
    InputError,
    IntegrityError,
    LockedError,
    PreflightError,
    UnreachableError,
    UsageError,
)
from edgepack.remote.install import install, releases, rollback
from edgepack.remote.lock import lock
from edgepack.remote.scratch import scratch
from edgepack.remote.smoke import compare


@pytest.fixture
def work(tmp_path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def deploy(session, tmp_path, work):
    """Packs a bundle and installs it."""

    def run(version: str = "1.0.0", *, keep: int = 3, progress=None, built_here=False, **bundle):
        packed = small_bundles.make(tmp_path, version=version, **bundle)
        return install(
            session, packed, work_dir=str(work), keep=keep, progress=progress, built_here=built_here
        )

    return run


def version(work: Path) -> str:
    """The current version."""
    return read_installed(work / "digits/current").version


def read_installed(folder: Path):
    from edgepack.bundle.manifest import Manifest

    return Manifest.load(folder / "manifest.json")


def model(text: str) -> bytes:
    return text.encode() * 50_000


def leftovers(work: Path) -> list[str]:
    """Files that must not be on the board after an install."""
    return [path.name for path in (work / "digits/releases").iterdir() if len(path.name) != 64]


class Counting:
    """A session that counts its round trips by command."""

    def __init__(self, session):
        self._session = session
        self.commands = 0

    def run(self, *args, **options):
        self.commands += 1
        return self._session.run(*args, **options)

    def stream(self, *args, **options):
        self.commands += 1
        return self._session.stream(*args, **options)

    def __getattr__(self, name):
        return getattr(self._session, name)


def test_a_first_install(deploy, work, tmp_path):
    seen = []
    done = deploy(progress=lambda sent, total: seen.append((sent, total)))
    bundle = tmp_path / "1.0.0-release.edgepack"
    digest = read_manifest(bundle).digest
    assert (done.digest, done.changed, done.previous) == (digest, True, None)
    assert done.path == f"{work}/digits/releases/{digest}"
    current = work / "digits/current"
    assert str(current.readlink()) == f"releases/{digest}"
    assert read_installed(current).digest == digest
    assert (current / "bin/edgepack-agent").stat().st_mode & 0o777 == 0o755
    assert (current / "model/model.so").stat().st_mode & 0o777 == 0o644
    assert seen[-1] == (done.bytes_sent, done.bytes_sent)
    assert leftovers(work) == []


def test_an_unchanged_release_costs_one_round_trip_and_no_byte(deploy, session, work, tmp_path):
    first = deploy()
    counting = Counting(session)
    again = install(counting, tmp_path / "1.0.0-release.edgepack", work_dir=str(work))
    assert (again.changed, again.bytes_sent, again.digest) == (False, 0, first.digest)
    assert counting.commands == 1
    assert len((work / "digits/history").read_text().splitlines()) == 1


def test_only_new_files_are_sent_and_the_old_ones_are_shared(deploy, work):
    first = deploy("1.0.0")
    second = deploy("1.1.0", model=model("b"))
    assert second.previous == first.digest
    assert second.bytes_sent < 60_000  # the model and the manifest
    library = work / "digits/current/lib/libtvm_runtime.so"
    assert library.stat().st_nlink == 2
    assert version(work) == "1.1.0"


def test_damage_to_the_current_release_is_reported_and_a_new_copy_replaces_it(deploy, work):
    first = deploy()
    current = work / "digits/current"
    damaged = current.resolve()
    (current / "model/model.so").write_bytes(b"bit rot")
    (current / "sample/input-0.npy").unlink()
    repaired = deploy()
    assert (repaired.changed, repaired.digest) == (True, first.digest)
    (note,) = repaired.notes
    assert "model/model.so has other contents; sample/input-0.npy is missing" in note
    assert 0 < repaired.bytes_sent < 200_000
    assert current.resolve() != damaged
    assert (current / "model/model.so").read_bytes() == b"\x00model" * 20_000
    assert deploy().changed is False
    assert leftovers(work) == [current.resolve().name]  # the damaged copy is gone


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (small_bundles.CRASHES, "signal 11"),
        (small_bundles.COMPUTES_NONSENSE, "differs by"),
        ("echo no such model >&2; exit 3", "exit code 3: no such model"),
        ("exit 0", "is not an array"),
    ],
)
def test_a_release_that_does_not_work_never_becomes_current(deploy, work, body, why):
    deploy("1.0.0")
    before = sorted(path.name for path in (work / "digits/releases").iterdir())
    with pytest.raises(DeployError) as raised:
        deploy("2.0.0", body=body)
    assert why in f"{raised.value.message} {raised.value.why}"
    assert raised.value.exit_code == 5
    assert "is unchanged" in (raised.value.state or "")
    assert version(work) == "1.0.0"
    assert sorted(path.name for path in (work / "digits/releases").iterdir()) == before


def test_a_release_built_here_is_tried_here_before_the_board_is_blamed(deploy, work):
    """Whether the error asks for the board's target depends on what the same files do on this machine."""
    only_there = f"case $PWD in {work}*) {small_bundles.COMPUTES_NONSENSE};; *) {small_bundles.WORKS};; esac"
    for body, built_here, message, why in (
        (only_there, True, "does not work on this board", "the same files give the right result on this machine"),
        (small_bundles.COMPUTES_NONSENSE, True, "fails on this machine, too", "on this machine: output-0.npy: it differs by"),
        (small_bundles.CRASHES, True, "fails on this machine, too", "on this machine: its agent ended with"),
        (small_bundles.COMPUTES_NONSENSE, False, "does not pass its test inference", "differs by"),
    ):  # fmt: skip
        with pytest.raises(DeployError) as raised:
            deploy("2.0.0", body=body, built_here=built_here)
        error = raised.value
        assert message in error.message
        assert why in error.why
        assert ("is the device's target the board" in error.next) == (body is only_there)
        assert not work.exists() or "digits" not in {path.name for path in work.glob("digits/current")}


def test_preflight_runs_before_anything_is_sent(deploy, work):
    with pytest.raises(PreflightError, match="1 problem"):
        deploy(libc="2.999")
    assert not work.exists()


def test_libraries_are_read_out_of_the_bundle(deploy, work):
    """A release linked to a library that neither it nor the board has is rejected before it is sent."""
    needs = bytearray(Path("/bin/true").read_bytes())
    assert b"libc.so.6" in needs
    missing = bytes(needs.replace(b"libc.so.6\0", b"libq.so.7\0"))
    with pytest.raises(PreflightError) as raised:
        deploy(library=missing)
    assert "libq.so.7 is missing" in (raised.value.why or "")
    assert not work.exists()


def test_a_second_rollback_undoes_the_first(deploy, session, work):
    first, second = deploy("1.0.0"), deploy("2.0.0")
    back = rollback(session, "digits", str(work))
    assert (back.digest, back.previous, back.changed) == (first.digest, second.digest, True)
    assert version(work) == "1.0.0"
    forward = rollback(session, "digits", str(work))
    assert forward.digest == second.digest
    assert version(work) == "2.0.0"
    assert leftovers(work) == []


@pytest.mark.parametrize("installed", [0, 1])
def test_rollback_without_a_previous_release_is_an_error(deploy, session, work, installed):
    for _ in range(installed):
        deploy()
    with pytest.raises(DeployError, match="no previous release of digits to roll back to") as raised:
        rollback(session, "digits", str(work))
    assert raised.value.exit_code == 5
    assert raised.value.state
    assert work.exists() == bool(installed)  # asking changes nothing


def test_rollback_to_a_damaged_release_is_refused(deploy, session, work):
    first, _ = deploy("1.0.0"), deploy("2.0.0", model=model("b"))
    (work / "digits/releases" / first.digest / "model/model.so").write_bytes(b"bit rot")
    with pytest.raises(DeployError, match="is damaged"):
        rollback(session, "digits", str(work))
    assert version(work) == "2.0.0"


def test_rollback_to_a_release_that_does_not_run_any_more_is_refused(deploy, session, work, tmp_path):
    flag = tmp_path / "the board was upgraded"
    deploy("1.0.0", body=f'[ ! -e "{flag}" ] || exit 9; {small_bundles.WORKS}')
    deploy("2.0.0")
    flag.touch()
    with pytest.raises(DeployError) as raised:
        rollback(session, "digits", str(work))
    assert "exit code 9" in (raised.value.why or "")
    assert version(work) == "2.0.0"
    assert leftovers(work) == []


def test_old_releases_go_and_the_one_before_always_stays(deploy, session, work):
    for number in range(4):
        deploy(f"1.{number}.0", model=model(str(number)))
    listed = releases(session, "digits", str(work))
    assert [(release.version, release.current, release.previous) for release in listed] == [
        ("1.3.0", True, False),
        ("1.2.0", False, True),
        ("1.1.0", False, False),
    ]
    assert all(release.installed for release in listed)
    rollback(session, "digits", str(work))  # to 1.2.0: now 1.3.0 is the one before
    deploy("1.4.0", keep=1)
    assert [release.version for release in releases(session, "digits", str(work))] == ["1.4.0", "1.2.0"]


def test_a_release_that_is_still_on_the_board_is_not_sent_again(deploy, session, work):
    first = deploy("1.0.0")
    deploy("2.0.0")
    again = deploy("1.0.0")
    assert (again.digest, again.changed, again.bytes_sent) == (first.digest, True, 0)
    assert version(work) == "1.0.0"
    versions = [release.version for release in releases(session, "digits", str(work))]
    assert versions == ["1.0.0", "2.0.0"]


def test_releases_of_a_board_that_has_none(session, work):
    assert releases(session, "digits", str(work)) == []


def test_the_baseline_and_other_names_have_separate_folders(deploy, work):
    deploy()
    deploy(candidate="baseline")
    deploy(name="faces")
    assert sorted(path.name for path in work.iterdir()) == ["digits", "digits-baseline", "faces"]


def test_one_installer_at_a_time(deploy, session, open_session, work):
    deploy("1.0.0")
    other = open_session()
    with lock(other, str(work / "digits")):
        with pytest.raises(LockedError) as raised:
            deploy("2.0.0")
        assert deploy("1.0.0").changed is False  # looking needs no lock
        with pytest.raises(LockedError):
            rollback(session, "digits", str(work))
    assert raised.value.exit_code == 75
    assert "since" in (raised.value.why or "")
    assert version(work) == "1.0.0"
    assert deploy("2.0.0").changed


def test_the_lock_of_a_dead_installer_is_free(deploy, own_sshd, own_session, work):
    deploy("1.0.0")
    holder = lock(own_session, str(work / "digits"))
    holder.__enter__()
    own_sshd.kill_sessions()
    assert deploy("2.0.0").changed


def test_a_lost_connection_changes_nothing_and_the_next_upload_resumes(
    deploy, own_sshd, own_session, work, tmp_path
):
    deploy("1.0.0")
    library = os.urandom(3_000_000)
    bundle = small_bundles.make(tmp_path, version="2.0.0", model=os.urandom(2_000_000), library=library)

    def kill(sent: int, _: int) -> None:
        while sent > 2_500_000 and not any(
            part.stat().st_size > 1_500_000 for part in work.rglob(".libtvm_runtime.so.*.part")
        ):
            time.sleep(0.05)
        if sent > 2_500_000:
            own_sshd.kill_sessions()

    with pytest.raises(UnreachableError):
        install(own_session, bundle, work_dir=str(work), progress=kill)
    assert version(work) == "1.0.0"
    from edgepack.remote.session import connect

    with connect("board", own_sshd.device()) as session:
        done = install(session, bundle, work_dir=str(work))
    # What had arrived of the library is not sent again.
    assert 2_000_000 < done.bytes_sent < 3_600_000
    assert version(work) == "2.0.0"
    assert leftovers(work) == []


def test_ctrl_c_during_the_upload_changes_nothing(deploy, work):
    deploy("1.0.0")

    def interrupt(sent: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy("2.0.0", model=model("b"), progress=interrupt)
    assert version(work) == "1.0.0"
    assert deploy("3.0.0", model=model("c")).changed
    assert leftovers(work) == []


def test_a_disk_that_fills_up_during_the_upload(session, small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr("edgepack.remote.preflight.MARGIN", 0)
    work = small_disk / "work"
    install(session, small_bundles.make(tmp_path), work_dir=str(work))
    bundle = small_bundles.make(tmp_path, version="2.0.0", model=os.urandom(2_000_000))

    def fill(sent: int, _: int) -> None:
        if not (small_disk / "log").exists():
            with suppress(OSError):  # what is being received takes some of what was free a moment ago
                (small_disk / "log").write_bytes(bytes(shutil.disk_usage(small_disk).free - 500_000))

    with pytest.raises(DeployError) as raised:
        install(session, bundle, work_dir=str(work), progress=fill)
    assert "disk is full" in (raised.value.why or "")
    assert version(work) == "1.0.0"
    (small_disk / "log").unlink()
    assert install(session, bundle, work_dir=str(work)).changed
    assert version(work) == "2.0.0"


def test_corruption_during_the_transfer_is_detected_on_the_board(session, tmp_path, work):
    data = bytearray((b"a" * 100_000) + os.urandom(100_000))
    bundle = small_bundles.make(tmp_path, model=bytes(data))

    class Corrupting(Counting):
        def stream(self, argv):
            process = super().stream(argv)
            if argv[1:3] == ["store", "receive"]:
                write = process.stdin.write
                process.stdin.write = lambda sent: write(sent.replace(bytes(data[-50:-1]), bytes(49)))
            return process

    with pytest.raises(DeployError, match=r"files on the board differ from what was sent: model/model\.so"):
        install(Corrupting(session), bundle, work_dir=str(work))
    assert not (work / "digits/current").exists()
    assert install(session, bundle, work_dir=str(work)).bytes_sent == 200_000  # the damaged file alone


def test_a_bundle_that_is_not_sound_is_not_sent(session, tmp_path, work):
    bundle = small_bundles.make(tmp_path)
    data = bytearray(bundle.read_bytes())
    data[-200] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(IntegrityError):
        install(session, bundle, work_dir=str(work))
    with pytest.raises(InputError):
        install(session, tmp_path / "none.edgepack", work_dir=str(work))
    assert not work.exists()


def test_names_and_numbers_that_make_no_sense(session, deploy, work):
    for name in ("../digits", "", "a b", "digits/.."):
        with pytest.raises(UsageError):
            rollback(session, name, str(work))
    with pytest.raises(UsageError):
        deploy(keep=0)


def test_a_work_directory_with_blanks_and_quotes(session, tmp_path):
    work = tmp_path / "it's my board"
    done = install(session, small_bundles.make(tmp_path), work_dir=str(work))
    assert done.path.startswith(str(work))
    assert version(work) == "1.0.0"
    assert releases(session, "digits", str(work))[0].current


def test_scratch_shares_what_is_installed_and_goes_away(session, deploy, work, tmp_path):
    deploy()
    bundle = small_bundles.make(tmp_path, candidate="baseline", model=model("b"))
    sent = []
    with scratch(session, bundle, work_dir=str(work), progress=lambda *sizes: sent.append(sizes[1])) as on:
        folder = Path(on.model).parents[1]
        assert read_installed(folder).digest == read_manifest(bundle).digest
        assert (folder / "lib/libtvm_runtime.so").stat().st_nlink == 2
        assert session.run(on.command("run", "--output-dir", str(tmp_path))).returncode == 0
        assert folder.is_relative_to(work / ".scratch")
    assert sent[-1] < 60_000
    assert list((work / ".scratch").iterdir()) == []
    assert version(work) == "1.0.0"


def test_scratch_goes_away_after_a_failure_too(session, work, tmp_path):
    folders = []

    def fail() -> None:
        with scratch(session, small_bundles.make(tmp_path), work_dir=str(work)) as on:
            folders.append(Path(on.model).parents[1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folders[0].exists()
    assert list(work.iterdir()) == [work / ".scratch"]


def test_scratch_looks_before_it_sends(session, work, tmp_path):
    bundle = small_bundles.make(tmp_path, libc="2.999")
    with pytest.raises(PreflightError), scratch(session, bundle, work_dir=str(work)):
        pytest.fail("the block must not run")
    assert not work.exists()


def test_outputs_are_compared_by_shape_type_and_size():

    want = np.array([[1.0, -2.0]], dtype=np.float32)
    assert compare(want + np.float32(0.05), want) is None
    assert "differs" in (compare(want + np.float32(0.2), want) or "")
    assert "NaN" in (compare(want * np.float32(np.nan), want) or "")
    assert "float64" in (compare(want.astype(np.float64), want) or "")
    assert "(2,)" in (compare(want[0], want) or "")
    assert compare(np.zeros((1, 0), np.float32), np.zeros((1, 0), np.float32)) is None


@pytest.mark.parametrize(
    ("got", "want", "right"),
    [
        ([np.nan, 5], [np.nan, 5], True),
        ([1, 5], [np.nan, 5], False),
        ([np.nan, 6], [np.nan, 5], False),
        ([np.inf, 5], [np.inf, 5], True),
        ([-np.inf, 5], [np.inf, 5], False),
        ([1, 5], [np.inf, 5], False),
        ([np.nan, 5], [np.inf, 5], False),
        ([np.nan, 5], [4, 5], False),
        ([0, 1e-30], [0, 0], False),
    ],
)
def test_nan_and_infinities_of_a_sample_must_be_met(got, want, right):

    found = compare(np.array([got], np.float32), np.array([want], np.float32))
    assert (found is None) == right


@pytest.mark.parametrize(("fill", "says"), [(np.nan, "NaN or infinite"), (-np.inf, "NaN or infinite")])
def test_a_sample_that_any_result_would_pass_is_refused(session, work, tmp_path, fill, says):
    forged = small_bundles.make(tmp_path, expected=np.full((1, 4), fill, np.float32))
    with pytest.raises(InputError, match=f"its sample's outputs are {says}") as caught:
        install(session, forged, work_dir=str(work))
    assert "sample/output-0.npy" in caught.value.where
    assert not (work / "digits" / "current").exists()


def huge(header: str) -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (
            huge("{'descr': '<f4', 'fortran_order': False, 'shape': (200000000000,), }"),
            "its header claims 800000000000",
        ),
        (b"not an array", "not a .npy file"),
        (small_bundles.npy(np.zeros((1, 5), np.float32)), "it is float32[1, 5]"),
        (small_bundles.npy(np.zeros((1, 4), np.float64)), "it is float64[1, 4]"),
    ],
)
def test_a_sample_that_is_none_is_refused_before_anything_is_sent(session, tmp_path, work, sample, why):
    for name in ("sample/input-0.npy", "sample/output-0.npy"):
        bundle = small_bundles.make(tmp_path, changes={name: sample})
        with pytest.raises(InputError) as raised:
            install(session, bundle, work_dir=str(work))
        assert f"{name} is not a sample of" in raised.value.message
        assert why in (raised.value.why or "")
        assert raised.value.where == str(bundle)
        assert not work.exists()
