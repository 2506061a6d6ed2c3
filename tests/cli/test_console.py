"""What goes where: one document on stdout, everything else on stderr, and an exit code that tells."""

import io
import json
import os
import subprocess
import sys

import click
import pytest

from edgepack import api
from edgepack.cli import main
from edgepack.cli.console import guard, progress
from edgepack.cli.live import LiveListener, PlainListener
from edgepack.doctor import Finding
from edgepack.engine.events import Advanced, StageEnded, StageStarted
from edgepack.engine.outcome import Outcome
from edgepack.errors import ConfigError, GateError, LockedError, Problem, UnreachableError


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    for kind in ("CONFIG", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    return tmp_path / "state"


@pytest.fixture
def run(capsys):
    """A command in this process: exit code, stdout, stderr."""

    def command(*args):
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        said = capsys.readouterr()
        return caught.value.code, said.out, said.err

    return command


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError([Problem("r.yaml", 1, 2, "unknown key")]), 2),
        (click.UsageError("no such option"), 2),
        (GateError("too slow"), 3),
        (UnreachableError("no route", where="pi", next="plug it in"), 4),
        (LockedError("busy"), 75),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (RuntimeError("surprise"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_error_has_its_code_and_with_json_one_document(error, code, as_json, capsys):
    assert guard(raising(error), as_json=as_json) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert said.err
    if as_json:
        assert json.loads(said.out)["error"]["exit_code"] == code
    else:
        assert said.out == ""


def test_results_are_exit_codes_where_they_are_numbers():
    assert guard(lambda: 7, as_json=False) == 7
    assert guard(lambda: None, as_json=False) == 0
    assert guard(raising(click.exceptions.Exit(5)), as_json=False) == 5


def test_a_defect_is_kept_even_where_nothing_can_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert guard(raising(RuntimeError("surprise")), as_json=False) == 1
    assert "could not be kept" in capsys.readouterr().err


def test_a_mistake_on_the_command_line_is_a_document_too(run):
    for args in (("run", "--json"), ("run", "r.yaml", "--jsn", "--json"), ("targets", "--json", "nonsense")):
        code, out, err = run(*args)
        assert code == 2
        assert json.loads(out)["error"]["type"] == "UsageError"
        assert "Usage" in err


def test_what_user_code_prints_is_not_the_result(capsys):
    with progress() as listener:
        sys.stdout.write("epoch 1\n")
        listener(StageEnded(Outcome(stage="train", status="cached")))
    said = capsys.readouterr()
    assert said.out == ""
    assert "epoch 1" in said.err
    assert "train" in said.err


@pytest.mark.parametrize("as_json", [False, True])
def test_the_doctor_prints_once_and_says_whether_it_will_do(run, monkeypatch, as_json):
    fine = Finding("cache", ok=True, required=True, detail="here")
    optional = Finding("CUDA compiler", ok=False, required=False, detail="none", hint="install")
    broken = Finding("tvm", ok=False, required=True, detail="none", hint="reinstall")
    for findings, expected in (([fine, optional], 0), ([fine, broken], 3)):
        monkeypatch.setattr(api, "doctor", lambda found=findings: found)
        code, out, err = run("doctor", *(["--json"] if as_json else []))
        assert code == expected
        if as_json:
            assert [f["name"] for f in json.loads(out)["findings"]] == [f.name for f in findings]
        else:
            assert ("tvm" in err) == (expected == 3)


@pytest.mark.parametrize(
    "args",
    [
        ("bundle", "inspect", "none.edgepack"),
        ("bundle", "inspect", "none.edgepack", "--json"),
        ("bundle", "verify", "none.edgepack"),
        ("bundle", "extract", "none.edgepack", "out"),
        ("deploy", "none.edgepack", "virtual:host"),
        ("bench", "none.edgepack", "virtual:host"),
        ("report", "none.json"),
        ("report", "n" * 300),
        ("compile", "n" * 300, "--target", "rpi4"),
        ("check", "none.yaml"),
        ("run", "none.yaml", "--json"),
        ("tune", "none.yaml"),
        ("package", "none.yaml"),
        ("compress", "none.yaml"),
        ("compile", "none.onnx", "--target", "rpi4"),
        ("compile", "none.yaml", "--target", "rpi4"),
        ("targets", "show", "none"),
        ("rollback", "tiny", "none"),
        ("devices", "info", "none", "--json"),
        ("devices", "trust", "none"),
        ("devices", "down"),
        ("devices", "down", "none"),
        ("devices", "up", "--virtual", "none"),
        ("devices", "up", "--virtual", "host", "--name", "../x"),
    ],
    ids=lambda args: " ".join(args)[:40],
)
def test_what_is_not_there_is_a_usage_error(run, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*args)
    assert code == 2, err
    assert "error" in err.lower()
    assert "internal" not in err
    if "--json" in args:
        assert json.loads(out)["error"]["exit_code"] == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run, shell):
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_EDGEPACK_COMPLETE" in out


def complete(words, position, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "edgepack"],
        env={
            **os.environ,
            "_EDGEPACK_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr


def test_names_of_targets_and_devices_complete(tmp_path):
    out, _ = complete("edgepack compile m.onnx --target rp", 4)
    assert {line.split(",")[1] for line in out.splitlines()} == {"rpi3", "rpi4", "rpi5"}
    folder = tmp_path / "config/edgepack"
    folder.mkdir(parents=True)
    (folder / "devices.yaml").write_text("edgepack: 1\ndevices:\n  kitchen: {host: pi, target: rpi4}\n")
    assert complete("edgepack devices info ki", 3)[0] == "plain,kitchen\n"
    (folder / "devices.yaml").write_text("nonsense: 1\n")
    assert complete("edgepack devices info ki", 3) == ("\n", "")


def test_brackets_in_what_a_stage_says_are_text(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with LiveListener() as listener:
        listener(StageStarted("tune", "rpi4", "release", "first run"))
        listener(Advanced("connection lost ([/dev/null] is gone)", 0.5))
        listener._progress.refresh()
        rendered = io.StringIO()
        listener._console.file = rendered
        listener._console.print(listener._progress.get_renderable())
    assert "[/dev/null] is gone" in rendered.getvalue().replace("\n", " ").replace("  ", " ")


def test_plain_progress_is_a_line_for_each_stage_that_ended():
    out = io.StringIO()
    listener = PlainListener(out)
    listener(StageStarted("compile", "rpi4", "release", "first run"))
    listener(
        StageEnded(
            Outcome(
                stage="compile", target="rpi4", variant="release", status="failed", seconds=1.25, why="no"
            )
        )
    )
    listener(StageEnded(Outcome(stage="bench", target="rpi4", status="skipped", why="no device")))
    first, second = out.getvalue().splitlines()
    assert first.split() == ["✗", "compile", "rpi4", "release", "1.2", "s", "no"]
    assert second.split() == ["-", "bench", "rpi4", "skipped", "no", "device"]


def test_bytes_sent_are_said_with_their_share():
    assert Advanced.sent(500_000, 2_000_000) == Advanced("500.0 kB of 2.0 MB sent", 0.25)
    assert Advanced.sent(0, 0).share == 1.0
