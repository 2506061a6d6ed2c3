"""A full disk, and folders that cannot be written to: an error that names the folder and the variable that moves it."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from edgepack.base.places import as_disk_error, places

RECIPE = "edgepack: 1\nname: tiny\nmodel: {onnx: tiny.onnx}\ntargets: [{target: x86-64-v3}]\n"


@pytest.fixture
def project(cli, tiny_onnx):
    (cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    cli.write("recipe.yaml", RECIPE)
    return cli


def said(done):
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    return done.err


@pytest.mark.parametrize(
    ("kind", "command"), [("cache", "run"), ("data", "run"), ("cache", "compress"), ("data", "compress")]
)
def test_a_file_in_the_place_of_a_folder(project, kind, command):
    folder = project.home / kind
    if kind == "cache":
        folder.rename(project.home / "moved")
    folder.write_text("a file")
    done = project(command, "recipe.yaml")
    assert done.code == 1, done.err
    err = said(done)
    assert f"XDG_{kind.upper()}_HOME=/another/folder" in err
    assert f"{folder}" in err
    assert folder.read_text() == "a file"


def test_a_state_folder_that_cannot_be_made_stops_nothing_that_does_not_need_it(project):
    (project.home / "state").write_text("a file")
    done = project("compress", "recipe.yaml")
    assert done.code == 0, done.err
    up = project("devices", "up", "--virtual", "host")
    assert up.code == 1
    assert "XDG_STATE_HOME" in said(up)


def test_a_configuration_folder_that_is_a_file_has_no_devices(project):
    (project.home / "config").write_text("a file")
    assert project("check", "recipe.yaml").code == 0


def test_files_that_may_not_grow(project):
    """As on a full disk: writing ends in the middle of a file."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = project("compress", "recipe.yaml", preexec_fn=limit)
    assert done.code == 1, done.err
    assert "file too large" in said(done)
    assert not list(project.home.rglob(".new-*"))
    assert project("compress", "recipe.yaml").code == 0


@pytest.mark.parametrize("args", [("targets",), ("targets", "--json"), ("schema", "recipe"), ("--version",)])
def test_a_result_that_cannot_be_written(project, args):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        options = {**project.options(), "stdout": full}
        done = subprocess.run(project.argv(*args), check=False, **options)
    assert done.returncode == 1
    assert "no space left on device" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_terminal_that_is_gone(project):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        options = {**project.options(), "stderr": full}
        assert subprocess.run(project.argv("check", "none.yaml"), check=False, **options).returncode == 2


def test_streams_that_are_closed(project):
    script = f"exec {sys.executable} -m edgepack targets show none >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], check=False, env=project.env).returncode == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_each_folder_is_named_with_its_variable(number):
    for place in places():
        error = as_disk_error(OSError(number, os.strerror(number), str(place.folder / "a" / "file")))
        assert error.exit_code == 1
        assert place.variable in error.next
        assert str(place.folder) in error.where
    assert as_disk_error(OSError(number, os.strerror(number))) is not None


def test_what_libraries_say_of_a_full_disk_counts():
    for error in (
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
        RuntimeError(
            "[enforce fail at inline_container.cc:815] . PytorchStreamWriter failed: No space left on device"
        ),
    ):
        assert as_disk_error(error).message == "no space left on device"
    caused = RuntimeError("cannot save")
    caused.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert as_disk_error(caused) is not None


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(errno.ECONNREFUSED, "refused"), KeyError("x"), OSError("text only")]
)
def test_other_errors_are_none_of_the_disk(error):
    assert as_disk_error(error) is None
