"""The agent's `store`: what is done with releases on a board, on plain files; with sanitizers, and with faults."""

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_program import build_store

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}
OWNER = "carl@host since 2026-01-01 00:00:00 UTC"
A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def store(program, tmp_path):
    """Runs an action in the test's folder; returns its exit code and its lines."""

    def run(*words, stdin=b"", fault=None):
        environment = os.environ | ({"FAULT": fault} if fault else {})
        done = subprocess.run(
            [program, "store", *map(str, words)],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=environment,
            timeout=60,
        )
        assert b"Sanitizer" not in done.stderr, done.stderr.decode()
        assert b"runtime error" not in done.stderr, done.stderr.decode()
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode >= 0:
            assert lines[-1]["ok"] is (done.returncode == 0)
        return done.returncode, lines

    return run


class Holder:
    """A process that holds the lock of a folder."""

    def __init__(self, program, cwd, root, silence=60):
        self.process = subprocess.Popen(
            [program, "store", "lock", root, OWNER, str(silence)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
        )
        self.answer = json.loads(self.process.stdout.readline())
        self.words = (root, str(self.answer.get("process")))

    def beat(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.fixture
def hold(program, tmp_path):
    holders = []

    def take(root, **options):
        holders.append(Holder(program, tmp_path, root, **options))
        return holders[-1]

    yield take
    for holder in holders:
        holder.close()


def listed(lines, name):
    """What the lines say of the contents of a folder: path to kind and mode, and path to sha256."""
    entries = [line for line in lines if line.get("in") == name and line["path"]]
    kinds = {
        line["path"]: f"{line['mode']:o}" if line["kind"] == "file" else line["kind"] for line in entries
    }
    return kinds, {line["path"]: line["sha256"] for line in entries if "sha256" in line}


def release(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        (folder / path).chmod(0o644)


sizes = st.sampled_from([0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 65_535, 65_536, 65_537]) | st.integers(
    0, 200_000
)


@settings(max_examples=12, **QUIET)
@given(
    contents=st.lists(
        st.builds(lambda size, byte: bytes([byte, 255 - byte]) * size, sizes, st.integers(0, 255)), max_size=6
    )
)
def test_the_sha256_of_every_file_is_right(store, hold, tmp_path, contents):
    root = tmp_path / "work"
    holder = hold("work")
    folder = root / "set"
    for path in folder.glob("*"):
        path.unlink()
    release(folder, {f"f{index}": data for index, data in enumerate(contents)} | {"empty": b""})
    code, lines = store("check", *holder.words, "set")
    assert code == 0
    assert listed(lines, "set")[1] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
    }
    assert holder.close() == 0


names = st.text("ab.-*$'\" \n\té\udcff", min_size=1, max_size=4).filter(lambda name: name not in {".", ".."})


@settings(max_examples=12, **QUIET)
@given(files=st.lists(st.lists(names, min_size=1, max_size=6), max_size=5))
def test_names_of_any_bytes_are_told_as_they_are(store, tmp_path, files):
    base = tmp_path / "base"
    subprocess.run(["rm", "-rf", base], check=True)
    (base / A).mkdir(parents=True)
    for parts in files:
        path = base.joinpath(A, *parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.chmod(0o600)
        except OSError:  # a file is in the place of a folder
            continue
    code, lines = store("list", "base", "", "")
    there = {
        os.fsencode(path.relative_to(base / A)).decode(errors="replace"): "folder" if path.is_dir() else "600"
        for path in (base / A).rglob("*")
    }
    assert (code, listed(lines, A)[0]) == (0, there)


def test_only_regular_files_are_opened_and_no_link_is_followed(store, hold, tmp_path):
    holder = hold("work")
    folder = tmp_path / "work/set"
    release(folder, {"model/m.so": b"model", "bin/agent": b"agent"})
    (folder / "bin/agent").chmod(0o4755)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("model/m.so")
    (folder / "away").symlink_to("/etc")
    (folder / "model/none").symlink_to("nowhere")
    code, lines = store("check", *holder.words, "set")
    kinds, sums = listed(lines, "set")
    assert code == 0
    assert kinds == {
        "model": "folder", "bin": "folder", "model/m.so": "644", "bin/agent": "4755",
        "fifo": "other", "link": "link", "away": "link", "model/none": "link",
    }  # fmt: skip
    assert set(sums) == {"model/m.so", "bin/agent"}


def test_folders_of_any_depth_and_long_names_end_the_listing_of_their_own_only(store, tmp_path):
    deep = tmp_path / "base" / A
    deep.mkdir(parents=True)
    os.chdir(deep)
    try:
        for _ in range(40):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
    finally:
        os.chdir("/")
    (tmp_path / "base" / A / "file").touch(0o644)
    code, lines = store("list", "base", "", "")
    kinds, _ = listed(lines, A)
    assert code == 0
    assert kinds["file"] == "644"
    assert set(kinds.values()) == {"644", "folder", "other"}
    assert max(map(len, kinds)) < 4096


def test_a_lock_is_held_by_one_and_told_to_others(store, hold, tmp_path):
    first = hold("work/digits")
    assert first.answer["held"] is True
    second = hold("work/digits")
    assert second.answer == {"ok": True, "held": False, "owner": OWNER}
    assert second.close() == 0
    assert first.close() == 0
    assert (tmp_path / "work/digits/.lock").read_text() == OWNER + "\n"
    assert hold("work/digits").answer["held"] is True


def test_a_lock_is_given_up_in_silence_and_kept_by_signs_of_life(hold):
    holder = hold("work", silence=2)
    for _ in range(40):
        holder.beat()
    assert holder.process.poll() is None
    assert holder.process.wait(20) == 9
    assert json.loads(holder.process.stdout.read())["kind"] == "lock"


def test_the_lock_of_a_process_that_was_killed_is_free(store, hold, tmp_path):
    holder = hold("work")
    release(tmp_path / "work/set", {"x": b""})
    assert store("check", *holder.words, "set")[0] == 0
    holder.process.kill()
    holder.process.wait()
    code, lines = store("check", *holder.words, "set")
    assert (code, lines[-1]["kind"], lines[-1]["error"]) == (9, "lock", "the lock was lost")
    other = hold("work")
    assert other.answer["held"] is True
    assert store("check", *holder.words, "set")[0] == 9  # the lock is another's
    assert store("check", "work", "nobody", "set")[0] == 9


def frame(orders):
    """Orders for ``receive``, uncompressed."""
    return 2 * len(orders).to_bytes(4, "little") + orders


def test_files_are_received_under_the_lock_alone(store, hold, tmp_path):
    holder = hold("work")
    (tmp_path / "work/set").mkdir()
    sum_ = hashlib.sha256(b"abc").hexdigest().encode()
    stream = frame(b"F\x01x\x00\x03" + sum_ + b"\x00B\x03abcEZ")
    code, lines = store("receive", *holder.words, "set", stdin=stream)
    assert (code, lines[-1]) == (0, {"ok": True})
    assert (tmp_path / "work/set/x").read_bytes() == b"abc"
    (tmp_path / "work/set/x").unlink()
    assert store("receive", *holder.words, "none", stdin=stream)[0] == 5
    holder.process.kill()
    holder.process.wait()
    code, lines = store("receive", *holder.words, "set", stdin=stream)
    assert (code, lines[-1]["kind"]) == (9, "lock")
    assert not list((tmp_path / "work/set").iterdir())


def test_a_new_owner_waits_for_the_end_of_a_change_that_was_begun_before(program, hold, tmp_path):
    first = hold("work")
    argv = [program, "store", "remove", *first.words, "work"]
    (tmp_path / "work/x").touch()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as change:
        change.stdin.write(b"file x\n")
        change.stdin.flush()
        wait_for(lambda: shares(change.pid, tmp_path / "work"))
        first.process.kill()
        first.process.wait()
        lock = [program, "store", "lock", "work", OWNER, "60"]
        with subprocess.Popen(lock, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as second:
            wait_for(lambda: shares(second.pid, tmp_path / "work/.lock"))
            change.communicate()
            assert json.loads(second.stdout.readline())["held"] is True
            second.communicate()
    assert not (tmp_path / "work/x").exists()


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.01)


def shares(pid: int, path: Path) -> bool:
    """Whether a process has a flock on this file or folder."""
    inode = path.stat().st_ino
    return any(
        " FLOCK " in line and line.split()[-4:-3] == [str(pid)] and line.split()[-3].endswith(f":{inode}")
        for line in Path("/proc/locks").read_text().splitlines()
        if "->" not in line
    )


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_in_the_place_of_the_lock_is_not_followed_waited_for_or_written(hold, tmp_path, kind):
    (tmp_path / "work").mkdir()
    place, other = tmp_path / "work/.lock", tmp_path / "other"
    other.write_text("mine")
    {"link": lambda: place.symlink_to(other), "fifo": lambda: os.mkfifo(place), "folder": place.mkdir}[kind]()
    holder = hold("work")
    assert holder.answer["error"] == "its .lock is not a regular file"
    assert holder.close() == 3
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("my notes\n", True),
        ("", False),
        (f"{OWNER}\n", False),
        ("x@y since 3 UTC\nmore", False),
        ("x@y UTC", True),
    ],
)
def test_text_of_others_in_the_lock_file_stays(hold, tmp_path, text, stays):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/.lock").write_text(text)
    assert hold("work").answer["held"]
    assert (tmp_path / "work/.lock").read_text() == (text if stays else f"{OWNER}\n")


MANIFEST = b'{"name": "digits"}\n'
DIGEST = hashlib.sha256(MANIFEST).hexdigest()


def test_a_folder_is_made_with_its_manifest_or_not_at_all(store, hold, tmp_path):
    holder = hold("work")
    folder = tmp_path / "work/releases/.incoming-x"
    words = ("open", *holder.words, "releases/.incoming-x", DIGEST)
    for stdin, fault, kind in (
        (MANIFEST[:-1], None, "stream"),
        (b"", None, "stream"),
        (MANIFEST, "full", "output"),
        (MANIFEST, "disk 1", "output"),
    ):
        code, lines = store(*words, stdin=stdin, fault=fault)
        assert (code != 0, lines[-1]["kind"]) == (True, kind)
        assert not folder.exists()
    assert store(*words, stdin=MANIFEST)[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"manifest.json": MANIFEST}
    assert (folder / "manifest.json").stat().st_mode & 0o7777 == 0o644
    assert store(*words, stdin=MANIFEST)[0] == 5  # it is there
    assert store("open", *holder.words, "../x", DIGEST, stdin=MANIFEST)[0] == 2


@pytest.mark.parametrize("fault", [None, "links"])
def test_files_that_the_board_has_are_shared_or_copied(store, hold, tmp_path, fault):
    holder = hold("work")
    old, new = tmp_path / "work/releases" / A, tmp_path / "work/releases/new"
    release(old, {"lib/a.so": b"a" * 200_000, "bin/agent": b"agent", "model/m": b"m"})
    (old / "bin/agent").chmod(0o755)
    (old / "lib/link").symlink_to("a.so")
    release(new, {"manifest.json": MANIFEST, "model/m": b"half"})
    (new / "bin").mkdir()
    orders = [
        "folder lib", "folder bin", "folder model", f"link lib/a.so ../{A}/lib/a.so", f"link bin/agent ../{A}/bin/agent",
        f"link model/m ../{A}/model/m", f"link lib/none ../{A}/lib/none", f"link lib/link ../{A}/lib/link", "end",
    ]  # fmt: skip
    orders.pop()
    code, lines = store("fill", *holder.words, "releases/new", stdin="\n".join(orders).encode(), fault=fault)
    kinds, sums = listed(lines, "releases/new")
    assert code == 0
    assert kinds == {
        "lib": "folder", "bin": "folder", "model": "folder", "manifest.json": "644",
        "lib/a.so": "644", "bin/agent": "755", "model/m": "644",
    }  # fmt: skip
    assert sums["lib/a.so"] == hashlib.sha256(b"a" * 200_000).hexdigest()
    assert (new / "lib/a.so").samefile(old / "lib/a.so") is (fault is None)
    assert (new / "model/m").read_bytes() == b"half"  # what was sent is checked, not replaced
    for bad in (b"link ../x y", b"folder /tmp/x", b"folder", b"link a\x00b"):
        assert store("fill", *holder.words, "releases/new", stdin=bad)[0] in {0, 6}
    assert not (tmp_path / "work/releases/x").exists()


def test_a_disk_with_errors_fails_the_check(store, hold, tmp_path):
    holder = hold("work")
    release(tmp_path / "work/set", {"x": b"x", "y/z": b"z"})
    for number in (1, 2, 3, 4, 5):
        code, lines = store("check", *holder.words, "set", fault=f"disk {number}")
        assert (code, lines[-1]["kind"]) == (5, "output")
        assert "written to the disk: Input/output error" in lines[-1]["error"]
    assert store("check", *holder.words, "set", fault="disk 6")[0] == 0
    assert store("check", *holder.words, "set", fault="old")[0] == 0


@pytest.fixture
def board(tmp_path):
    """A board with the release A, which is current, and B, which is staged."""

    def make(name="work"):
        root = tmp_path / name
        release(root / "releases" / A, {"x": b"a"})
        release(root / "releases/.incoming", {"x": b"b"})
        (root / "releases/old").mkdir()
        (root / "current").symlink_to(f"releases/{A}")
        (root / "previous").symlink_to("releases/old")
        (root / "history").write_text("first\n")
        return root

    return make


def publish(holder, staged=".incoming", line="second"):
    return (
        "publish", *holder.words, staged, B, f"releases/{A}", "releases/old", f"releases/{A}", "01234567", line
    )  # fmt: skip


def links(root: Path) -> tuple[str, str]:
    return (root / "current").readlink().name, (root / "previous").readlink().name


@pytest.mark.parametrize("fault", [None, "old"])
def test_a_release_is_published(store, hold, board, fault):
    root = board()
    (root / "history").write_text("first\ncut")
    assert store(*publish(hold("work")), fault=fault)[0] == 0
    assert links(root) == (B, A)
    assert (root / "history").read_text() == "first\ncut\nsecond\n"
    assert (root / "current/x").read_bytes() == b"b"
    assert {path.name for path in root.iterdir()} == {"current", "previous", "history", "releases", ".lock"}


def test_a_cut_before_any_change_leaves_a_release_and_what_was_before(store, hold, board):
    seen = []
    for number in range(1, 100):
        root = board(f"work{number}")
        code, _ = store(*publish(hold(root.name)), fault=f"cut {number}")
        seen.append(links(root))
        assert (root / "current/x").exists()
        assert (root / "history").read_text() in {"first\n", "first\nsecond\n"}
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert list(dict.fromkeys(seen)) == [(A, "old"), (A, A), (B, A)]
    assert 8 < len(seen) < 20


def test_what_does_not_reach_the_disk_is_taken_back(store, hold, board):
    for number in range(1, 100):
        root = board(f"work{number}")
        code, lines = store(*publish(hold(root.name)), fault=f"disk {number}")
        if code == 0:
            assert links(root) == (B, A)
            break
        assert (code, lines[-1]["kind"]) == (5, "output")
        assert links(root) == (A, "old")
        assert (root / "history").read_text() in {"first\n", "first\nsecond\n"}
        assert not list(root.glob(".link-*"))
    assert number == 6  # the names, all files, the history, the links, all files again


def test_a_full_disk_takes_the_switch_back(store, hold, board):
    root = board()
    code, lines = store(*publish(hold("work")), fault="full")
    assert code == 5
    assert (
        lines[-1]["error"]
        == "the history could not be written: No space left on device; the links were set back"
    )
    assert links(root) == (A, "old")
    assert (root / "history").read_text() == "first\n"


@pytest.mark.parametrize("fault", [None, "old"])
def test_what_others_did_to_the_links_is_not_overwritten(store, hold, board, fault):
    root = board()
    holder = hold("work")
    (root / "releases" / B).mkdir()
    code, lines = store(*publish(holder), fault=fault)
    assert (code, "it is there already" in lines[-1]["error"]) == (5, True)
    (root / "releases" / B).rmdir()
    (root / "current").unlink()
    (root / "current").symlink_to("releases/mine")
    code, lines = store(*publish(holder), fault=fault)
    assert (code, lines[-1]["error"]) == (3, "current was changed by somebody else")
    assert str((root / "current").readlink()) == "releases/mine"
    (root / "current").unlink()
    (root / "current").mkdir()
    assert store(*publish(holder), fault=fault)[0] == 3
    assert (root / "releases/.incoming").exists()


def test_exactly_what_is_named_is_removed(store, hold, tmp_path):
    holder = hold("work")
    root, outside = tmp_path / "work", tmp_path / "outside"
    release(outside, {"keep": b"mine"})
    release(root / "r", {"a": b"", "d/b": b"", "d/mine": b"", "e/c": b""})
    (root / "r/away").symlink_to(outside)
    (root / ".link-0").symlink_to("releases/x")
    os.mkfifo(root / "r/fifo")
    orders = (
        "file r/a", "file r/d/b", "folder r/d", "file r/e/c", "folder r/e", "file r/away/keep", "file r/away",
        "file r/fifo", "file r/none", "folder r/away", "link .link-0", "folder r/e/none", "folder r",
    )  # fmt: skip
    code, lines = store("remove", *holder.words, "work", stdin="\n".join(orders).encode())
    assert (code, lines) == (0, [{"ok": True}])
    assert {str(path.relative_to(root)) for path in root.rglob("*")} == {
        ".lock", "r", "r/d", "r/d/mine", "r/away", "r/fifo",
    }  # fmt: skip
    assert (outside / "keep").exists()
    for bad in ("file ../outside/keep", f"file {outside}/keep", "unlink r/d/mine", "file", "move r ../r"):
        assert store("remove", *holder.words, "work", stdin=bad.encode())[0] == 6
    assert (outside / "keep").exists()


@pytest.mark.parametrize("fault", [None, "old"])
def test_a_release_that_is_in_use_is_not_put_aside(store, hold, board, fault):
    root = board()
    holder = hold("work")
    (root / "releases/taken").mkdir()
    release(root / "releases/unused", {"x": b""})
    orders = [f"move releases/{A} releases/.gone-1", "move releases/old releases/.gone-2",
              "move releases/unused releases/taken", "move releases/.incoming releases/.gone-3"]  # fmt: skip
    code, lines = store("remove", *holder.words, "work", stdin="\n".join(orders).encode(), fault=fault)
    assert (code, lines[0]["path"], lines[0]["error"]) == (0, "releases/unused", "File exists")
    assert {path.name for path in (root / "releases").iterdir()} == {A, "old", "unused", "taken", ".gone-3"}


def test_what_somebody_holds_is_not_removed(store, hold, tmp_path):
    held, free = hold("base/" + "1" * 16), hold("base/" + "2" * 16)
    free.close()
    for name in ("1" * 16, "2" * 16):
        release(tmp_path / "base" / name, {"x": b""})
    _, lines = store("list", "base", "", "")
    assert {line["entry"]: line["lock"] for line in lines if "entry" in line} == {
        "1" * 16: "held",
        "2" * 16: "free",
    }
    orders = [f"{do}" for name in ("1" * 16, "2" * 16)
              for do in (f"claim {name}", f"file {name}/x", f"file {name}/.lock", f"folder {name}")]  # fmt: skip
    assert store("remove", "", "", "base", stdin="\n".join(orders).encode())[0] == 0
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["1" * 16]
    assert held.close() == 0


def test_a_folder_that_is_used_is_as_new(store, tmp_path):
    release(tmp_path / "base/set", {"x": b"x"})
    os.utime(tmp_path / "base/set", (0, 0))
    code, lines = store("use", "base", "set")
    assert (code, listed(lines, "set")[1]) == (0, {"x": hashlib.sha256(b"x").hexdigest()})
    assert (tmp_path / "base/set").stat().st_mtime > 0
    assert store("use", "base", "none")[0] == 3


def test_a_program_is_tried_in_its_folder_beside_a_new_one_for_its_outputs(store, hold, tmp_path, program):
    holder = hold("work")
    script = tmp_path / "work/r/bin/agent"
    release(
        tmp_path / "work/r",
        {"bin/agent": b'#!/bin/sh\necho "{\\"pwd\\": \\"$PWD\\", \\"ok\\": true, \\"words\\": \\"$*\\"}"\n'},
    )
    script.chmod(0o755)
    code, lines = store("try", *holder.words, "r", "../out", "./bin/agent", "run", "--x", "a b")
    assert (code, lines) == (0, [{"pwd": str(tmp_path / "work/r"), "ok": True, "words": "run --x a b"}])
    assert (tmp_path / "work/out").is_dir()
    assert store("try", *holder.words, "r", "../out", "./bin/agent")[0] == 5  # it is there
    assert store("try", *holder.words, "r", "../out2", "./bin/none")[0] == 3


def test_the_survey_of_a_board(store, board, tmp_path):
    root = board()
    (root / "releases" / A / "manifest.json").write_bytes(MANIFEST)
    (root / ".link-01234567c").symlink_to("releases/x")
    (root / ".link-file").touch()
    release(root / "releases/golden", {"x": b""})
    _, lines = store("survey", "work", A)
    by = {
        key: {line[key]: line for line in lines if key in line}
        for key in ("name", "temporary", "entry", "manifest")
    }
    assert {name: line["kind"] for name, line in by["name"].items()} == {
        "root": "folder", "current": "link", "previous": "link", "releases": "folder", "history": "file", ".lock": "none",
    }  # fmt: skip
    assert by["name"]["current"]["target"] == f"releases/{A}"
    assert [line["text"] for line in lines if "history" in line] == ["first\n"]
    assert list(by["temporary"]) == [".link-01234567c"]
    assert set(by["entry"]) == {A, ".incoming", "old", "golden"}
    assert by["manifest"][A]["text"].encode() == MANIFEST
    assert listed(lines, A)[1]["x"] == hashlib.sha256(b"a").hexdigest()
    assert listed(lines, "golden") == ({}, {})  # nothing of edgepack's has this name
    assert listed(store("survey", "work", "")[1], A)[1] == {}
    assert store("survey", "none", "")[1] == [{"name": "root", "kind": "none"}, {"ok": True}]
    (tmp_path / "link").symlink_to(root)
    assert store("survey", "link", "")[1][0] == {"name": "root", "kind": "link"}
    assert [line["entry"] for line in store("names", tmp_path)[1][:-1]] == ["work"]
    assert store("names", tmp_path / "none")[1] == [{"ok": True}]


def test_a_long_history_is_told_from_its_end(store, board):
    root = board()
    (root / "history").write_text("x" * 300_000 + "\nlast\n")
    (line,) = [line for line in store("survey", "work", "")[1] if "history" in line]
    assert len(line["text"]) == 1 << 18
    assert line["text"].endswith("x\nlast\n")


@pytest.mark.parametrize(
    "words",
    [(), ("none",), ("survey",), ("survey", "a", "b", "c"), ("lock", "x", "y", "0"), ("lock", "x", "y", "z")],
)
def test_words_that_make_no_sense(store, words):
    code, lines = store(*words)
    assert (code, lines[-1]["kind"]) == (2, "usage")
